"""Reads a trace in JSON, as one document or one on each line, in Jaeger's format or OTLP."""

import io
import json
from collections.abc import Iterator
from typing import Final

from lrpc.workloads.traces.formats import jaeger, otlp
from lrpc.workloads.traces.formats.wrappings import Unread, unwrapped
from lrpc.workloads.traces.rows import UNIDENTIFIED, Misshapen, RowCollector, RowPlace, Unfit
from lrpc.workloads.traces.spans import Reason, TraceRefused, shown

MOST_BYTES: Final = 1 << 28  # the largest document: once decoded it takes many times its size in memory
# The most values in one, each of which takes some 60 bytes in memory; spans have about 40.
MOST_VALUES: Final = 32_000_000
REMEDY: Final = "export the trace again"


def is_json(data: bytes) -> bool:
    """Return whether a file's content begins like JSON."""
    return data[:65_536].lstrip().startswith((b"{", b"["))


def read(name: str, data: bytes, collector: RowCollector) -> None:
    """Add the spans of a file's documents to `collector`.

    Raises `TraceRefused` if one is in no format that is read.

    A line that is not JSON is left out like a bad row: the last line of a file that is still being
    written may be cut short.
    """
    by_line = _has_lines(data)
    collector.begin(*(("line", "span") if by_line else ("span",)))
    documents = _lines(data) if by_line else iter([(0, data)])
    for line, text in documents:
        place = (line,) if line else ()
        try:
            _read_document(_decoded(text, place), place, collector)
        except Unfit as unfit:
            collector.leave_out(place, UNIDENTIFIED, unfit)
        except Unread as known:
            raise TraceRefused(name, f"line {line}" if line else "whole file", f"is {known}") from None
        except Misshapen as wrong:
            where = f"line {line}: {wrong.key}" if line else wrong.key
            raise TraceRefused(name, where, f"{wrong.message}; {REMEDY}") from None


def _read_document(document: object, place: RowPlace, collector: RowCollector) -> None:
    """Add a document's spans to `collector`; ignore documents of OTLP's other signals."""
    document = unwrapped(document)
    if isinstance(document, dict) and "data" in document:
        jaeger.read(document, place, collector)
    elif isinstance(document, dict) and "resourceSpans" in document:
        otlp.read(document, place, collector)
    elif not (isinstance(document, dict) and document.keys() & otlp.OTHER_SIGNALS):
        message = "holds no spans of Jaeger's, OpenTelemetry's or Zipkin's (no list 'data', no 'resourceSpans')"
        raise Misshapen("top level", message)


def _has_lines(data: bytes) -> bool:
    """Return whether the file has several lines, the first of which is a document by itself."""
    lines = _lines(data)
    _, first = next(lines)
    if next(lines, None) is None:
        return False
    try:
        json.loads(first)
    except (ValueError, RecursionError):
        return False
    return True


def _lines(data: bytes) -> Iterator[tuple[int, bytes]]:
    return ((number, line) for number, line in enumerate(io.BytesIO(data), 1) if not line.isspace())


def _decoded(text: bytes, place: RowPlace) -> object:
    """Decode a document; if it is not JSON, raise `Unfit` for a line, `Misshapen` for a file."""
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes; have a document on each line")
        if len(text) > MOST_VALUES and sum(map(text.count, (b",", b"{", b"["))) > MOST_VALUES:
            raise ValueError(f"more than {MOST_VALUES:,} values; have a document on each line")
        return json.loads(text)
    except json.JSONDecodeError as error:
        key, why = f"line {error.lineno} column {error.colno}", error.msg
    except (ValueError, RecursionError) as error:  # not UTF-8, a number too long to convert, deep nesting
        key, why = "whole file", shown(str(error), quote=False)
    if place:
        raise Unfit(Reason.UNREADABLE, f"not JSON ({why})")
    raise Misshapen(key, f"not JSON ({why})")
