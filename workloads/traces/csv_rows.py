"""Reads the rows of a trace in CSV.

Each row is parsed by itself, so that a stray quote spoils one row and not those that follow. Only a
row with quotes goes through the `csv` module; all others are split at commas, which is faster.
"""

import csv
import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, islice
from typing import Final

from lrpc.workloads.traces.rows import UNIDENTIFIED, RowCollector, SpanKey, Unfit, nanoseconds
from lrpc.workloads.traces.sources import Source
from lrpc.workloads.traces.spans import MAX_TIME, Reason, Span, TraceRefused

START, END = "StartTimeUnixNano", "EndTimeUnixNano"
COLUMNS: Final = ("TraceID", "SpanID", "ParentID", "PodName", "OperationName", START, END)
SEPARATORS: Final = (",", ";", "\t")


@dataclass(frozen=True)
class Layout:
    """What the columns of a CSV file are called, in the order of `COLUMNS`, and in what unit.

    The last column holds the end of a span, or its duration. Times are in `start_unit` and
    `last_unit` nanoseconds.
    """

    columns: tuple[str, ...]
    start_unit: int = 1
    last_unit: int = 1
    duration: bool = False
    service: bool = False  # whether the column of the pod names a service instead


# The first is our own; the others are of published sets of traces, and found out by their headers.
LAYOUTS: Final = (
    Layout(COLUMNS),
    Layout(  # RCAEval
        ("traceID", "spanID", "parentSpanID", "serviceName", "operationName", "startTime", "duration"),
        start_unit=1000,
        last_unit=1000,
        duration=True,
        service=True,
    ),
    Layout(  # AIOps Challenge 2022
        ("trace_id", "span_id", "parent_span", "cmdb_id", "operation_name", "timestamp", "duration"),
        start_unit=1_000_000,
        last_unit=1000,
        duration=True,
    ),
)
NO_PARENT: Final = ("", "root", "nan", "null", "none")  # in small letters: as pandas and others write it
MAX_QUOTED_LINES: Final = 32  # the most lines of one row: limits how far a stray quote is followed
MAX_LINE: Final = 131_072  # in bytes; the csv module's own limit for a quoted field


def read(name: str, data: bytes) -> RowCollector:
    """Return the rows of a CSV file; raise `TraceRefused` if its header lacks a column."""
    collector = RowCollector("line")
    separator = _separator(data)
    records = _records(data, separator)
    line, header, trouble = next(records)
    layout, columns = _columns(name, f"line {line}", header, trouble)
    for line, fields, trouble in records:
        try:
            collector.keep((line,), _span(fields, trouble, layout, columns, len(header)))
        except Unfit as unfit:
            collector.leave_out((line,), _identity(fields, columns), unfit)
    return collector


def _separator(data: bytes) -> str:
    """Return what separates the fields of a file: what its first line with text has most of."""
    first = next((line for line in io.BytesIO(data) if not line.isspace()), b"")
    return max(SEPARATORS, key=lambda separator: first.count(separator.encode()))


def _records(data: bytes, separator: str) -> Iterator[tuple[int, list[str], str]]:
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
            fields, taken = _fields(raw, stream, width, separator)
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


def _fields(raw: bytes, stream: io.BytesIO, width: int, separator: str) -> tuple[list[str], int]:
    """Return the fields of a row and its number of lines: a quoted field may contain line ends.

    A row that cannot be parsed, or has another number of fields than `width`, takes one line only:
    reading continues at the next line, so that a stray quote costs no other row.
    """
    if b'"' not in raw:  # the fast path: most lines of most files
        return _text(raw).rstrip("\r\n").split(separator), 1
    second = stream.tell()
    lines = chain([raw], islice(stream, MAX_QUOTED_LINES - 1))
    reader = csv.reader(map(_text, lines), strict=True, delimiter=separator)
    try:
        fields = next(reader)
        if reader.line_num > 1 and len(fields) != width:
            raise csv.Error("a field with line ends makes the row too long or short")
        return fields, reader.line_num
    except (csv.Error, Unfit) as error:
        stream.seek(second)
        detail = error.detail if isinstance(error, Unfit) else f"wrong quotes ({error})"
        raise Unfit(Reason.UNREADABLE, detail) from None


def _columns(name: str, place: str, header: list[str], trouble: str) -> tuple[Layout, list[int]]:
    """Return a file's layout, and the positions of its columns in a row, in their order."""
    if trouble:
        raise TraceRefused(name, place, f"{trouble}; give a CSV or JSON file in UTF-8")
    found = [column.strip().lower() for column in header]
    for layout in LAYOUTS:
        wanted = [column.lower() for column in layout.columns]
        if all(found.count(column) == 1 for column in wanted):
            return layout, [found.index(column) for column in wanted]
    wrong = [column for column in COLUMNS if found.count(column.lower()) != 1]
    message = f"needs column {', '.join(wrong)} once; the header must name {','.join(COLUMNS)}"
    raise TraceRefused(name, place, message)


def _span(fields: list[str], trouble: str, layout: Layout, columns: list[int], width: int) -> Span:
    if trouble:
        raise Unfit(Reason.UNREADABLE, trouble)
    if len(fields) != width:
        reason = Reason.CUT_SHORT if len(fields) < width else Reason.TOO_LONG
        raise Unfit(reason, f"it has {len(fields)} fields, the header {width}")
    trace, span, parent, pod, operation, start, last = texts = [fields[column] for column in columns]
    if not (trace and span and pod and operation):
        named = zip(layout.columns, texts, strict=True)
        empty = next(column for column, text in named if not text and column != layout.columns[2])
        raise Unfit(Reason.EMPTY, f"no {empty} is given")
    first = None if parent.lower() in NO_PARENT else parent
    same = sys.intern  # these texts recur in many rows: one copy of each saves memory
    begin_ns = nanoseconds(layout.columns[5], start) * layout.start_unit
    end_ns = nanoseconds(layout.columns[6], last) * layout.last_unit + (begin_ns if layout.duration else 0)
    if end_ns > MAX_TIME:
        raise Unfit(Reason.BAD_TIME, f"it would end at {end_ns} ns, after {MAX_TIME}")
    return Span(same(trace), span, first, "", same(operation), begin_ns, end_ns, source=_source(pod, layout.service))


@lru_cache(maxsize=4096)
def _source(name: str, service: bool) -> Source:
    return Source(service=name) if service else Source(pod=name)


def _identity(fields: list[str], columns: list[int]) -> SpanKey:
    trace, span = columns[:2]
    return (fields[trace], fields[span]) if max(trace, span) < len(fields) else UNIDENTIFIED
