"""Puts lrpc's channel and server in gRPC's place, for programs whose channels a library makes."""

from collections.abc import Callable
from typing import Any, Final

from lrpc.cluster.channel import own
from lrpc.cluster.channel.aio import channel as aio_channel
from lrpc.cluster.channel.aio import server as aio_server
from lrpc.cluster.channel.channel import insecure_channel, secure_channel
from lrpc.cluster.channel.own import OwnFunction
from lrpc.cluster.channel.server import server

_PLACES: Final[tuple[tuple[OwnFunction, Callable[..., Any]], ...]] = (
    (own.INSECURE, insecure_channel),
    (own.SECURE, secure_channel),
    (own.SERVER, server),
    (own.AIO_INSECURE, aio_channel.insecure_channel),
    (own.AIO_SECURE, aio_channel.secure_channel),
    (own.AIO_SERVER, aio_server.server),
)


def install() -> None:
    """Lend gRPC's `insecure_channel`, `secure_channel` and `server` to lrpc, which makes its own.

    Those of `grpc` and those of `grpc.aio`. What others have wrapped around gRPC's names stays
    around lrpc's, before and after; names that a program took before are reached too. Raises
    `LookupError` where somebody has put something else in gRPC's place.
    """
    for place, ours in _PLACES:
        place.lend(ours)


def uninstall() -> None:
    """Give gRPC its functions back, also inside what has wrapped them since."""
    for place, _ in _PLACES:
        place.give_back()
