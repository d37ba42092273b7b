"""Traces in JSON: one document or one on each line, each as Jaeger or as OpenTelemetry writes it."""

import io
import json
from collections.abc import Iterator
from typing import Final

from lrpc.workloads.traces import jaeger, otlp
from lrpc.workloads.traces.rows import NOBODY, Gathered, Misshapen, RowPlace, Unfit
from lrpc.workloads.traces.spans import Reason, TraceRefused, shown

MOST_BYTES: Final = 1 << 28  # of one document: what it takes in memory is many times as much
MEND: Final = "export the trace again"


def is_json(data: bytes) -> bool:
    """Return whether a file's content begins as JSON does."""
    return data[:65_536].lstrip().startswith((b"{", b"["))


def read(name: str, data: bytes) -> Gathered:
    """Read the documents of a file; `TraceRefused` where one is of neither format.

    A line that is no JSON, as the last one of a file that is still written may be, is left out like a row.
    """
    if _has_lines(data):
        gathered = Gathered("line", "span")
        documents = _lines(data)
    else:
        gathered = Gathered("span")
        documents = iter([(0, data)])
    for line, text in documents:
        place = (line,) if line else ()
        try:
            _take(_decoded(text, place), place, gathered)
        except Unfit as unfit:
            gathered.leave(place, NOBODY, unfit)
        except Misshapen as wrong:
            where = f"line {line}: {wrong.key}" if line else wrong.key
            raise TraceRefused(name, where, f"{wrong.message}; {MEND}") from None
    return gathered


def _take(document: object, place: RowPlace, gathered: Gathered) -> None:
    if isinstance(document, dict) and "data" in document:
        jaeger.read(document, place, gathered)
    elif isinstance(document, dict) and "resourceSpans" in document:
        otlp.read(document, place, gathered)
    elif not (isinstance(document, dict) and document.keys() & otlp.OTHER_SIGNALS):
        message = "no list 'data', as Jaeger exports, nor 'resourceSpans', as OpenTelemetry does"
        raise Misshapen("top level", message)


def _has_lines(data: bytes) -> bool:
    """Return whether the first of several lines is a document by itself."""
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
    """Return a document; `Unfit` where one line is none, `Misshapen` where the whole file is none."""
    try:
        if len(text) > MOST_BYTES:
            raise ValueError(f"more than {MOST_BYTES} bytes; have a document on each line")
        return json.loads(text)
    except json.JSONDecodeError as error:
        key, why = f"line {error.lineno} column {error.colno}", error.msg
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of 5,000 digits, endless nesting
        key, why = "whole file", shown(str(error), quote=False)
    if place:
        raise Unfit(Reason.UNREADABLE, f"not JSON ({why})")
    raise Misshapen(key, f"not JSON ({why})")
