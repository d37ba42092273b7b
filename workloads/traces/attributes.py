"""Says what attributes of a span tell beyond where it ran: whom it called, and sizes of messages.

Names are those of OpenTelemetry's conventions, older ones included, and of OpenTracing's.
"""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple
from urllib.parse import urlsplit

# NUL, and halves of surrogate pairs: JSON can spell them, but they cannot be written to a file.
UNNAMEABLE: Final = re.compile("[\0\ud800-\udfff]")
MOST_BYTES: Final = 2**40  # of a message: what is larger is no size

# What names a service that a client calls, the best first.
PEERS: Final = (
    "peer.service",
    "service.peer.name",
    "db.system.name",
    "db.system",
    "messaging.system",
    "server.address",
    "net.peer.name",
    "peer.hostname",
    "peer.address",
    "http.host",
    "network.peer.address",
    "net.peer.ip",
    "db.type",
)
URLS: Final = ("url.full", "http.url")
REQUESTS: Final = (
    "rpc.request.size",
    "rpc.client.request.size",
    "rpc.server.request.size",
    "http.request.body.size",
    "http.request.size",
    "http.request_content_length",
    "http.request_content_length_uncompressed",
    "messaging.message.envelope.size",
    "messaging.message.body.size",
    "messaging.message_payload_size_bytes",
    "messaging.message.payload_size_bytes",
)
RESPONSES: Final = (
    "rpc.response.size",
    "rpc.client.response.size",
    "rpc.server.response.size",
    "http.response.body.size",
    "http.response.size",
    "http.response_content_length",
    "http.response_content_length_uncompressed",
)


class MessageSizes(NamedTuple):
    """The sizes of a call's messages in bytes; None where they are not told."""

    request: int | None = None
    response: int | None = None


UNTOLD: Final = MessageSizes()


def peer_of(attributes: Mapping[str, object]) -> str:
    """Return the name of the service that a client's span called; empty if nothing tells it."""
    for key in PEERS:
        text = attributes.get(key)
        if isinstance(text, str) and text and not UNNAMEABLE.search(text):
            return text
    for key in URLS:
        text = attributes.get(key)
        if isinstance(text, str) and (host := _host(text)):
            return host
    return ""


def sizes_of(attributes: Mapping[str, object]) -> MessageSizes:
    """Return the sizes of a span's messages."""
    request, response = (_size(attributes, names) for names in (REQUESTS, RESPONSES))
    return UNTOLD if request is None and response is None else MessageSizes(request, response)


def _host(url: str) -> str:
    try:
        found = urlsplit(url).hostname or ""
    except ValueError:
        return ""
    return "" if UNNAMEABLE.search(found) else found


def _size(attributes: Mapping[str, object], names: tuple[str, ...]) -> int | None:
    for key in names:
        value = attributes.get(key)
        if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= len(str(MOST_BYTES)):
            value = int(value)
        if type(value) is int and 0 <= value <= MOST_BYTES:
            return value
    return None
