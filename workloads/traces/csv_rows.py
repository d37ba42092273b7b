"""Reads the rows of a trace in CSV.

Each row is parsed by itself, so that a stray quote spoils one row and not those that follow. Only a
row with quotes goes through the `csv` module; all others are split at commas, which is faster.
"""

import csv
import io
import sys
from collections.abc import Iterator
from functools import lru_cache
from itertools import chain, islice
from typing import Final

from lrpc.workloads.traces.rows import UNIDENTIFIED, RowCollector, SpanKey, Unfit, nanoseconds
from lrpc.workloads.traces.sources import Source
from lrpc.workloads.traces.spans import Reason, Span, TraceRefused

START, END = "StartTimeUnixNano", "EndTimeUnixNano"
COLUMNS: Final = ("TraceID", "SpanID", "ParentID", "PodName", "OperationName", START, END)
MAX_QUOTED_LINES: Final = 32  # the most lines of one row: limits how far a stray quote is followed
MAX_LINE: Final = 131_072  # in bytes; the csv module's own limit for a quoted field


def read(name: str, data: bytes) -> RowCollector:
    """Return the rows of a CSV file; raise `TraceRefused` if its header lacks a column."""
    collector = RowCollector("line")
    records = _records(data)
    line, header, trouble = next(records)
    columns = _columns(name, f"line {line}", header, trouble)
    for line, fields, trouble in records:
        try:
            collector.keep((line,), _span(fields, trouble, columns, len(header)))
        except Unfit as unfit:
            collector.leave_out((line,), _identity(fields, columns), unfit)
    return collector


def _records(data: bytes) -> Iterator[tuple[int, list[str], str]]:
    """Yield (line number, fields, trouble) for every row that is not blank.

    `trouble` is empty, or says why the row cannot be parsed; such a row has no fields.
    """
    stream = io.BytesIO(data)
    line = width = 0
    for raw in stream:
        line += 1
        if raw.isspace():
            continue
        try:
            fields, taken = _fields(raw, stream, width)
            trouble = ""
        except Unfit as unfit:
            fields, taken, trouble = [], 1, unfit.detail
        width = width or len(fields)
        yield line, fields, trouble
        line += taken - 1


def _text(raw: bytes) -> str:
    if len(raw) > MAX_LINE:
        raise Unfit(Reason.UNREADABLE, f"longer than {MAX_LINE} bytes")
    if b"\0" in raw or raw.find(b"\r", 0, -2) >= 0:
        raise Unfit(Reason.UNREADABLE, "NUL byte or carriage return within the line")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise Unfit(Reason.UNREADABLE, f"not UTF-8 from byte {error.start + 1} of the line") from None


def _fields(raw: bytes, stream: io.BytesIO, width: int) -> tuple[list[str], int]:
    """Return the fields of a row and its number of lines: a quoted field may contain line ends.

    A row that cannot be parsed, or has another number of fields than `width`, takes one line only:
    reading continues at the next line, so that a stray quote costs no other row.
    """
    if b'"' not in raw:  # the fast path: most lines of most files
        return _text(raw).rstrip("\r\n").split(","), 1
    second = stream.tell()
    lines = chain([raw], islice(stream, MAX_QUOTED_LINES - 1))
    reader = csv.reader(map(_text, lines), strict=True)
    try:
        fields = next(reader)
        if reader.line_num > 1 and len(fields) != width:
            raise csv.Error("a field with line ends makes the row too long or short")
        return fields, reader.line_num
    except (csv.Error, Unfit) as error:
        stream.seek(second)
        detail = error.detail if isinstance(error, Unfit) else f"wrong quotes ({error})"
        raise Unfit(Reason.UNREADABLE, detail) from None


def _columns(name: str, place: str, header: list[str], trouble: str) -> list[int]:
    """Return the positions of the needed columns in a row, in the order of `COLUMNS`."""
    if trouble:
        raise TraceRefused(name, place, f"{trouble}; give a CSV or JSON file in UTF-8")
    wrong = [column for column in COLUMNS if header.count(column) != 1]
    if wrong:
        message = f"needs column {', '.join(wrong)} once; the header must name {','.join(COLUMNS)}"
        raise TraceRefused(name, place, message)
    return [header.index(column) for column in COLUMNS]


def _span(fields: list[str], trouble: str, columns: list[int], width: int) -> Span:
    if trouble:
        raise Unfit(Reason.UNREADABLE, trouble)
    if len(fields) != width:
        reason = Reason.CUT_SHORT if len(fields) < width else Reason.TOO_LONG
        raise Unfit(reason, f"it has {len(fields)} fields, the header {width}")
    trace, span, parent, pod, operation, start, end = texts = [fields[column] for column in columns]
    if not (trace and span and pod and operation):
        empty = next(c for c, text in zip(COLUMNS, texts, strict=True) if not text and c != "ParentID")
        raise Unfit(Reason.EMPTY, f"no {empty} is given")
    first = None if parent in ("", "root") else parent
    same = sys.intern  # these texts recur in many rows: one copy of each saves memory
    begin_ns, end_ns = nanoseconds(START, start), nanoseconds(END, end)
    return Span(same(trace), span, first, "", same(operation), begin_ns, end_ns, source=_source(pod))


@lru_cache(maxsize=4096)
def _source(pod: str) -> Source:
    return Source(pod=sys.intern(pod))


def _identity(fields: list[str], columns: list[int]) -> SpanKey:
    trace, span = columns[:2]
    return (fields[trace], fields[span]) if max(trace, span) < len(fields) else UNIDENTIFIED
