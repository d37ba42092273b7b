"""Puts lrpc's channel and server in gRPC's place, for programs whose channels a library makes."""

from typing import Any, Final

import grpc

from lrpc.cluster.channel.aio import channel as aio_channel
from lrpc.cluster.channel.aio import server as aio_server
from lrpc.cluster.channel.channel import insecure_channel, secure_channel
from lrpc.cluster.channel.server import server

# Of `grpc`, and of `grpc.aio`.
_OURS: Final[tuple[tuple[Any, dict[str, Any]], ...]] = (
    (grpc, {"insecure_channel": insecure_channel, "secure_channel": secure_channel, "server": server}),
    (
        grpc.aio,
        {
            "insecure_channel": aio_channel.insecure_channel,
            "secure_channel": aio_channel.secure_channel,
            "server": aio_server.server,
        },
    ),
)
_before: Final[dict[tuple[str, str], Any]] = {}  # by module and name


def install() -> None:
    """Put lrpc's in the place of `insecure_channel`, `secure_channel` and `server`.

    Those of `grpc` and those of `grpc.aio`. Programs that took these names before, by `from grpc
    import server`, are not reached. What others have wrapped around gRPC's names stays around
    lrpc's, where they wrap them afterwards; to keep a wrapper that is there already, install before
    it.
    """
    for module, names in _OURS:
        for name, ours in names.items():
            if (module.__name__, name) not in _before:
                _before[module.__name__, name] = getattr(module, name)
                setattr(module, name, ours)


def uninstall() -> None:
    """Give gRPC its names back, as they were before `install`.

    Where somebody has wrapped them since, the wrapper stays, and goes on calling lrpc's.
    """
    for module, names in _OURS:
        for name, ours in names.items():
            if (module.__name__, name) in _before:
                before = _before.pop((module.__name__, name))
                if getattr(module, name) is ours:
                    setattr(module, name, before)
