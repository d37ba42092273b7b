"""Puts lrpc's channel and server in gRPC's place, for programs whose channels a library makes."""

from typing import Any, Final

import grpc

from lrpc.cluster.channel.channel import insecure_channel, secure_channel
from lrpc.cluster.channel.server import server

_OURS: Final = {"insecure_channel": insecure_channel, "secure_channel": secure_channel, "server": server}
_before: Final[dict[str, Any]] = {}


def install() -> None:
    """Put lrpc's in the place of `grpc.insecure_channel`, `secure_channel` and `server`.

    Programs that took these names before, by `from grpc import server`, are not reached. What
    others have wrapped around gRPC's names stays around lrpc's, where they wrap them afterwards; to
    keep a wrapper that is there already, install before it.
    """
    for name, ours in _OURS.items():
        if name not in _before:
            _before[name] = getattr(grpc, name)
            setattr(grpc, name, ours)


def uninstall() -> None:
    """Give gRPC its names back, as they were before `install`.

    Where somebody has wrapped them since, the wrapper stays, and goes on calling lrpc's.
    """
    for name, ours in _OURS.items():
        if name in _before:
            if getattr(grpc, name) is ours:
                setattr(grpc, name, _before[name])
            del _before[name]
