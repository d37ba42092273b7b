"""What a unary call carries on an A-stack: its head, metadata and message, there and back.

Either side treats what it reads as hostile until it has been checked: lengths are checked against
what is there before anything is cut out by them.
"""

import re
import struct
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

REQUEST: Final = struct.Struct("<HIq")  # bytes of the method's name and of metadata; deadline in ns, or -1
REPLY: Final = struct.Struct("<BIII")  # code; bytes of details, of initial and of trailing metadata
NEVER: Final = -1  # the deadline of a call without one
OK: Final = REPLY.pack(0, 0, 0, 0)
# Codes beyond gRPC's own: no handler has seen the call, and gRPC is to be taken. The method
# streams; or the server is stopping, and another may be at its address.
TAKE_GRPC, STOPPING = 17, 18
SIGNATURE: Final = "gRPC's unary calls, form 2"
WITHOUT_TLS: Final = f"{SIGNATURE}, in place of TLS"  # beside a port that has it
_HEAD: Final = REQUEST.size
_unpack_head: Final = REQUEST.unpack_from
_PAIR: Final = struct.Struct("<HI")
_KEY: Final = re.compile(r"[0-9a-z_.\-]+")
# Keys that gRPC's core keeps for itself: it acts on some, and passes on few.
AGENT_KEY: Final = "user-agent"  # the first of the metadata, of a channel that has one of its own
_OF_CORE: Final = re.compile(r"grpc-.*|lb-.*|te|content-.*|user-agent|endpoint-load-metrics-bin")
MOST_METHOD: Final = 4096  # bytes of a method's name
MOST_TIMEOUT_S: Final = 9e7  # gRPC cuts longer ones short, or takes them for none at all
_VALUE: Final = re.compile(r"[\x20-\x7e]*")
LONG_DETAILS: Final = 1000  # characters: fewer are never too many
MOST_METADATA: Final = 8192  # bytes, of keys and values and 32 for each pair: gRPC's default
MOST_RECEIVED: Final = 16384  # likewise, beyond which gRPC always refuses what it receives
# What gRPC sends with a reply's initial metadata (:status, content-type, grpc-accept-encoding), and
# with its trailing ones (grpc-status, grpc-message).
_INITIAL_HEAD, _TRAILING_HEAD = 177, 88


class Metadatum(NamedTuple):
    """A key and its value: bytes where the key ends in -bin, else text."""

    key: str
    value: str | bytes


Metadata = tuple[Metadatum, ...]


class Ended(NamedTuple):
    """How a call has ended."""

    code: int
    details: str
    initial: Metadata
    trailing: Metadata


class Malformed(ValueError):
    """What was read is no request or reply."""


def checked(metadata: Iterable[tuple[str, str | bytes]]) -> tuple[Metadatum, ...]:
    """Return metadata as it will arrive.

    Raises `ValueError` or `TypeError` where it is invalid.
    """
    found = []
    for key, value in metadata:
        if not _KEY.fullmatch(key):
            raise ValueError(f"metadata was invalid: {metadata!r}")
        if key.endswith("-bin"):
            right = isinstance(value, bytes)
        else:
            value = value.decode("latin-1") if isinstance(value, bytes) else value
            right = _VALUE.fullmatch(value) is not None
        if not right:
            raise ValueError(f"metadata was invalid: {metadata!r}")
        found.append(Metadatum(key, value))
    return tuple(found)


def kept(metadata: Any) -> Any:
    """Return metadata as they were given, but those that can be read only once as a tuple.

    What cannot be read is returned as it is: gRPC says what is wrong with it.
    """
    if metadata is None or isinstance(metadata, Sequence | Mapping):
        return metadata
    return tuple(metadata) if isinstance(metadata, Iterable) else metadata


def is_for_core(metadata: Metadata) -> bool:
    """Return whether metadata have a key that gRPC's core keeps for itself."""
    return any(_OF_CORE.fullmatch(key) is not None for key, _ in metadata)


def is_plain_time(timeout: object) -> bool:
    """Return whether a time-out is one that an A-stack keeps to as gRPC does."""
    return timeout is None or (isinstance(timeout, (int, float)) and timeout < MOST_TIMEOUT_S)


def deadline_after(now_ns: int, timeout: float) -> int:
    """Return the deadline of a call; one that is over where the time-out is below 0."""
    return now_ns + int(max(0.0, timeout) * 1e9)


def has_passed(deadline_ns: int) -> bool:
    """Return whether a deadline has passed, by this process's monotonic clock."""
    return 0 <= deadline_ns <= time.monotonic_ns()


def is_plain_name(name: bytes) -> bool:
    """Return whether a method's name is one that an A-stack carries as gRPC does."""
    return 0 < len(name) <= MOST_METHOD


def size_of(metadata: Metadata) -> int:
    """Return the bytes of metadata as gRPC counts them."""
    return sum(len(key) + len(value) + 32 for key, value in metadata)


def received(ended: Ended, most: int, exhausted: int) -> Ended:
    """Return how a call ends whose metadata may be of `most` bytes, as gRPC counts them.

    Beyond, gRPC ends it as `exhausted`, with the metadata as far as it has read them.
    """
    initial = _too_long(ended.initial, _INITIAL_HEAD, most)
    text = f"received metadata size exceeds hard limit ({most})"
    if initial is not None:
        return Ended(exhausted, text, initial, ())
    trailing = _too_long(ended.trailing, _TRAILING_HEAD + _as_percent(ended.details), most)
    return ended if trailing is None else Ended(exhausted, text, ended.initial, trailing)


def _too_long(metadata: Metadata, size: int, most: int) -> Metadata | None:
    """Return metadata up to the pair with which they are too long; None where they are not."""
    if size > most:
        return ()
    for at, pair in enumerate(metadata):
        size += size_of((pair,))
        if size > most:
            return metadata[: at + 1]
    return None


def _as_percent(text: str) -> int:
    """Return the bytes of details as gRPC sends them: what is not printable ASCII takes three."""
    return sum(1 if 0x20 <= one <= 0x7E and one != 0x25 else 3 for one in text.encode(errors="replace"))


def pack_metadata(metadata: Metadata) -> bytes:
    """Return metadata as bytes."""
    parts = []
    for key, value in metadata:
        name = key.encode()
        data = value if isinstance(value, bytes) else value.encode()
        parts += [_PAIR.pack(len(name), len(data)), name, data]
    return b"".join(parts)


def unpack_metadata(data: bytes) -> tuple[Metadatum, ...]:
    """Return the metadata that `pack_metadata` made. Raises `Malformed`."""
    found = []
    at = 0
    while at < len(data):
        if at + _PAIR.size > len(data):
            raise Malformed("metadata that ends early")
        name_size, size = _PAIR.unpack_from(data, at)
        at += _PAIR.size
        if at + name_size + size > len(data):
            raise Malformed("metadata that ends early")
        try:
            key = data[at : at + name_size].decode("ascii")
            raw = data[at + name_size : at + name_size + size]
            value = raw if key.endswith("-bin") else raw.decode()
        except UnicodeDecodeError:
            raise Malformed("metadata that is not text") from None
        found.append(Metadatum(key, value))
        at += name_size + size
    return tuple(found)


def pack_request(method: bytes, metadata: Metadata, deadline_ns: int, message: bytes) -> bytes:
    """Return a request as it lies on an A-stack."""
    packed = pack_metadata(metadata) if metadata else b""
    return REQUEST.pack(len(method), len(packed), deadline_ns) + method + packed + message


def unpack_request(data: bytes) -> tuple[bytes, bytes, int, bytes]:
    """Return the method, the packed metadata, the deadline and the message. Raises `Malformed`."""
    if len(data) < _HEAD:
        raise Malformed("a request that ends early")
    method_size, metadata_size, deadline_ns = _unpack_head(data)
    metadata_at = _HEAD + method_size
    at = metadata_at + metadata_size
    if at > len(data):
        raise Malformed("a request that ends early")
    return data[_HEAD:metadata_at], data[metadata_at:at], deadline_ns, data[at:]


def pack_reply(code: int, details: str, initial: Metadata, trailing: Metadata, message: bytes) -> bytes:
    """Return a reply as it lies on an A-stack."""
    if not (code or details or initial or trailing):
        return OK + message
    parts = details.encode(errors="replace"), pack_metadata(initial), pack_metadata(trailing)
    return b"".join([REPLY.pack(code, *map(len, parts)), *parts, message])


def unpack_reply(data: bytes) -> tuple[int, str, tuple[Metadatum, ...], tuple[Metadatum, ...], bytes]:
    """Return the code, details, initial and trailing metadata, and message. Raises `Malformed`."""
    if len(data) < REPLY.size:
        raise Malformed("a reply that ends early")
    code, *sizes = REPLY.unpack_from(data)
    at = REPLY.size
    parts = []
    for size in sizes:
        if at + size > len(data):
            raise Malformed("a reply that ends early")
        parts.append(data[at : at + size])
        at += size
    if code > STOPPING:
        raise Malformed(f"status code {code}")
    return code, parts[0].decode(errors="replace"), unpack_metadata(parts[1]), unpack_metadata(parts[2]), data[at:]
