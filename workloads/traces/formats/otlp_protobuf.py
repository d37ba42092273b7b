"""Reads OTLP in protobuf: one message, or many with their lengths ahead, as a collector writes."""

from collections.abc import Iterator
from typing import Any, Final  # `Any` is the type of what a message is as JSON

from lrpc.workloads.traces.formats import otlp
from lrpc.workloads.traces.rows import RowCollector
from lrpc.workloads.traces.spans import TraceRefused

FIRST_FIELD: Final = 0x0A  # how a message with spans begins: a list of resources
LENGTH: Final = 4  # bytes of a message's length, the highest first
FEWEST: Final = 2  # bytes of a message that holds anything


def is_protobuf(data: bytes) -> bool:
    """Return whether a file begins like OTLP in protobuf: no text has such a first line."""
    if len(data) > LENGTH and data[0] == 0:
        length = int.from_bytes(data[:LENGTH], "big")
        return FEWEST <= length <= len(data) - LENGTH and data[LENGTH] == FIRST_FIELD
    return data[0] == FIRST_FIELD and any(byte < FIRST_FIELD - 1 for byte in data[1:64])


def read(name: str, data: bytes, collector: RowCollector) -> None:
    """Add the spans of a file's messages to `collector`.

    Raises `TraceRefused` for what is no such message.
    """
    collector.begin(("message", "span"))
    for number, message in enumerate(_messages(name, data), 1):
        otlp.read(message, (number,), collector)


def _messages(name: str, data: bytes) -> Iterator[dict[str, Any]]:
    whole = memoryview(data)
    if data[0] == FIRST_FIELD:
        yield _decoded(name, whole, 1)
        return
    at, number = 0, 1
    while at < len(whole):
        length = int.from_bytes(whole[at : at + LENGTH], "big")
        at += LENGTH
        if length > len(whole) - at:
            raise TraceRefused(name, f"message {number}", "is cut short; copy the file again")
        yield _decoded(name, whole[at : at + length], number)
        at, number = at + length, number + 1


def _decoded(name: str, data: memoryview, number: int) -> dict[str, Any]:
    from google.protobuf.json_format import MessageToDict
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.trace.v1.trace_pb2 import TracesData

    try:
        found: dict[str, Any] = MessageToDict(TracesData.FromString(bytes(data)))
    except (DecodeError, ValueError, RecursionError):
        raise TraceRefused(name, f"message {number}", "is no OTLP in protobuf; export the trace again") from None
    return {**found, otlp.FORM: otlp.FORMS[1]}
