"""Reads a trace in JSON, in Jaeger's format or OTLP.

A file is one document, one on each line, or several one after another as tools print them.
"""

import io
import json
import re
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
_TEXT: Final = re.compile(r"[^ \t\r\n]")


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
    whole = None if by_line else _documents(name, data)
    word = "line" if by_line else "document"
    several = by_line or (whole is not None and len(whole) > 1)
    collector.begin((word, "span") if several else ("span",))
    documents: Iterator[tuple[int, object]] = _lines(data) if whole is None else enumerate(whole, 1)
    for number, document in documents:
        place = (number,) if several else ()
        at = f"{word} {number}" if several else ""
        try:
            _read_document(_decoded(document) if isinstance(document, bytes) else document, place, collector)
        except Unfit as unfit:
            collector.leave_out(place, UNIDENTIFIED, unfit)
        except Unread as known:
            raise TraceRefused(name, at or "whole file", f"is {known}") from None
        except Misshapen as wrong:
            where = f"{at}: {wrong.key}" if at else wrong.key
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


def _documents(name: str, data: bytes) -> list[object]:
    """Decode the documents of a file, in order; raise `TraceRefused` if one is not JSON."""
    try:
        _check_size(data)
        text = data.decode()
        found: list[object] = []
        at, decoder = 0, json.JSONDecoder()
        while begin := _TEXT.search(text, at):
            document, at = decoder.raw_decode(text, begin.start())
            found.append(document)
        return found
    except json.JSONDecodeError as error:
        where, why = f"line {error.lineno} column {error.colno}", error.msg
    except (ValueError, RecursionError) as error:  # not UTF-8, a number too long to convert, deep nesting
        where, why = "whole file", shown(str(error), quote=False)
    raise TraceRefused(name, where, f"not JSON ({why}); {REMEDY}")


def _decoded(line: bytes) -> object:
    """Decode the document on a line; raise `Unfit` if it is not JSON."""
    try:
        _check_size(line)
        return json.loads(line)
    except json.JSONDecodeError as error:
        why = error.msg
    except (ValueError, RecursionError) as error:
        why = shown(str(error), quote=False)
    raise Unfit(Reason.UNREADABLE, f"not JSON ({why})")


def _check_size(text: bytes) -> None:
    if len(text) > MOST_BYTES:
        raise ValueError(f"more than {MOST_BYTES} bytes; have a document on each line")
    if len(text) > MOST_VALUES and sum(map(text.count, (b",", b"{", b"["))) > MOST_VALUES:
        raise ValueError(f"more than {MOST_VALUES:,} values; have a document on each line")
