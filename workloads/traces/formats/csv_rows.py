"""Reads the rows of a trace in CSV.

Each row is parsed by itself, so that a stray quote spoils one row and not those that follow. Only a
row with quotes goes through the `csv` module; all others are split at commas, which is faster.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from functools import lru_cache
from itertools import chain, islice
from typing import Final

from lrpc.workloads.traces.attributes import UNTOLD, MessageSizes
from lrpc.workloads.traces.formats.columns import OWN, PUBLISHED, UNITS, ColumnLayout
from lrpc.workloads.traces.rows import MOST_DIGITS, UNIDENTIFIED, RowCollector, SpanKey, Unfit, nanoseconds, quoted
from lrpc.workloads.traces.sources import MOST_SHOWN, Source
from lrpc.workloads.traces.spans import MAX_TIME, Reason, Span, SpanKind, TraceRefused, kind_of

COLUMNS: Final = tuple(OWN.columns.values())
SEPARATORS: Final = (",", ";", "\t", "|")
NOT_ENDED: Final = ("", "nan", "null", "none")
NO_PARENT: Final = ("", "root", "nan", "null", "none")  # in small letters: as pandas and others write it
MAX_QUOTED_LINES: Final = 32  # the most lines of one row: limits how far a stray quote is followed
MAX_LINE: Final = 131_072  # in bytes; the csv module's own limit for a quoted field
# What Alibaba's call graphs call a call, by the kind of span that it is; others are servers' spans.
CALLS: Final = {"mc": SpanKind.CLIENT, "db": SpanKind.CLIENT, "mq": SpanKind.CONSUMER}
_DECIMAL: Final = re.compile(r"[0-9]{1,19}\.[0-9]{1,18}")


def read(name: str, data: bytes, collector: RowCollector, layout: ColumnLayout | None = None) -> None:
    """Add the rows of a CSV file to `collector`; raise `TraceRefused` if its header lacks a column.

    Without a layout, it is found out by the header.
    """
    collector.begin(("line",))
    separator = _separator(data)
    records = _records(data, separator)
    line, header, trouble = next(records)
    if trouble:
        raise TraceRefused(name, f"line {line}", f"{trouble}; give a CSV or JSON file in UTF-8")
    layout, columns = _columns(name, f"line {line}", header, layout)
    published = next((form for form, one in PUBLISHED.items() if one == layout), "")
    collector.forms.add(f"CSV of {published}" if published else "CSV")
    rows = _Rows(layout, columns, len(header))
    for line, fields, trouble in records:
        try:
            collector.keep((line,), rows.span(fields, trouble))
        except Unfit as unfit:
            collector.leave_out((line,), rows.identity(fields), unfit)


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


def _columns(
    name: str, place: str, header: list[str], given: ColumnLayout | None
) -> tuple[ColumnLayout, Mapping[str, int]]:
    """Return a file's layout, and the position of each role's column in a row."""
    for layout in (OWN, *PUBLISHED.values()) if given is None else (given,):
        positions = layout.positions(header)
        if positions is not None:
            return layout, positions
    wrong = ", ".join((given or OWN).missing(header))
    if given is None:
        remedy = f"the header must name {','.join(COLUMNS)}, or --columns say what others hold"
    else:
        remedy = f"correct --columns: there are {', '.join(quoted(column) for column in header[:MOST_SHOWN])}"
    raise TraceRefused(name, place, f"needs column {wrong} once; {remedy}")


class _Rows:
    """What the rows of a file hold, by its layout; the header has `width` columns."""

    def __init__(self, layout: ColumnLayout, columns: Mapping[str, int], width: int) -> None:
        self._layout = layout
        self._columns = columns
        self._width = width
        roles = ("pod", "service", "instance", "host", "node")
        self._source = [columns.get(role) for role in roles]
        self._needed = [(columns[role], role) for role in ("trace", "span", "path", "operation") if role in columns]
        self._trace, self._operation = columns["trace"], columns["operation"]
        self._parent, self._kind, self._peer = (columns.get(role) for role in ("parent", "kind", "peer"))
        self._sized = "request" in columns or "response" in columns
        self._last = "end" if "end" in columns else "duration"
        # The columns of times, with their units.
        self._begin_at, self._last_at = columns["start"], columns[self._last]
        self._begin_unit, self._last_unit = layout.units["start"], layout.units[self._last]

    def span(self, fields: list[str], trouble: str) -> Span:
        """Return the span of a row; raise `Unfit` if it has none."""
        if trouble:
            raise Unfit(Reason.UNREADABLE, trouble)
        if len(fields) != self._width:
            reason = Reason.CUT_SHORT if len(fields) < self._width else Reason.TOO_LONG
            raise Unfit(reason, f"it has {len(fields)} fields, the header {self._width}")
        for at, role in self._needed:
            if not fields[at]:
                raise Unfit(Reason.EMPTY, f"no {self._layout.columns[role]} is given")
        trace, operation = fields[self._trace], fields[self._operation]
        begin_ns, end_ns = self._times(fields)
        if self._layout.is_call_graph:
            return self._call(fields, trace, operation, begin_ns, end_ns)
        parent = "" if self._parent is None else fields[self._parent]
        first = None if parent in NO_PARENT or parent.lower() in NO_PARENT else parent
        source = _source(*["" if at is None else fields[at] for at in self._source])
        if not (source.pod or source.instance or source.service):
            roles = [role for role in ("pod", "service", "instance") if role in self._columns]
            raise Unfit(Reason.EMPTY, f"no {self._layout.columns[roles[0]]} is given")
        kind = SpanKind.UNSAID if self._kind is None else kind_of(fields[self._kind])
        span = fields[self._columns["span"]]
        peer = "" if self._peer is None else fields[self._peer]
        told = peer, self._sizes(fields) if self._sized else UNTOLD
        return Span(trace, span, first, "", operation, begin_ns, end_ns, kind, False, source, *told)

    def identity(self, fields: list[str]) -> SpanKey:
        """Return the identifiers of a row's span, as far as it shows them."""
        trace, span = self._columns["trace"], self._columns.get("span", self._columns.get("path", 0))
        return (fields[trace], fields[span]) if max(trace, span) < len(fields) else UNIDENTIFIED

    def _field(self, fields: list[str], role: str) -> str:
        at = self._columns.get(role)
        return "" if at is None else fields[at]

    def _times(self, fields: list[str]) -> tuple[int, int]:
        begin_ns = _usual(fields[self._begin_at], self._begin_unit)
        if begin_ns is None:
            begin_ns = self._time(fields, "start")
        last = fields[self._last_at]
        last_ns = _usual(last, self._last_unit)
        if last_ns is None and last.lower() in NOT_ENDED:
            end_ns = 0
        else:
            last_ns = self._time(fields, self._last) if last_ns is None else last_ns
            end_ns = last_ns if self._last == "end" else begin_ns + last_ns
        if max(begin_ns, end_ns) > MAX_TIME:
            what = "end" if end_ns > MAX_TIME else "start"
            raise Unfit(Reason.BAD_TIME, f"it would {what} at {max(begin_ns, end_ns)} ns, after {MAX_TIME}")
        return begin_ns, end_ns

    def _time(self, fields: list[str], role: str) -> int:
        text, unit, column = fields[self._columns[role]], self._layout.units[role], self._layout.columns[role]
        if self._layout.is_call_graph and role == "duration":
            text = text.removeprefix("-")  # negative where the callee recorded it
        if unit > 1 and _DECIMAL.fullmatch(text):
            return round(Decimal(text) * unit)
        try:
            return nanoseconds(column, text) * unit
        except Unfit:
            name = next(name for name, ns in UNITS.items() if ns == unit)
            if unit == 1:
                raise
            raise Unfit(Reason.BAD_TIME, f"{column} is {quoted(text)}, not a time in {name}") from None

    def _sizes(self, fields: list[str]) -> MessageSizes:
        texts = [self._field(fields, role) for role in ("request", "response")]
        if not any(texts):
            return UNTOLD
        return MessageSizes(
            *(int(text) if text.isascii() and text.isdigit() and len(text) < 13 else None for text in texts)
        )

    def _call(self, fields: list[str], trace: str, operation: str, begin_ns: int, end_ns: int) -> Span:
        """Return the span of a call: the callee's, or its caller's if the callee is not traced."""
        path, caller = fields[self._columns["path"]], fields[self._columns["caller"]]
        callee = fields[self._columns["service"]]
        kind = CALLS.get(fields[self._columns["kind"]], SpanKind.SERVER)
        service, peer = (caller, callee) if kind is SpanKind.CLIENT else (callee, "")
        if not service:
            raise Unfit(Reason.EMPTY, "it does not say who was called")
        parent = path.rpartition(".")[0] or None
        source = _source("", service, "", "", "")
        return Span(trace, path, parent, "", operation, begin_ns, end_ns, kind, False, source, peer)


def _usual(text: str, unit: int) -> int | None:
    """Return a time in ns, given in digits as nearly all are; None for any other."""
    return int(text) * unit if len(text) <= MOST_DIGITS and text.isdecimal() and text.isascii() else None


@lru_cache(maxsize=4096)
def _source(pod: str, service: str, instance: str, host: str, node: str) -> Source:
    return Source(service, instance, pod, host, node)
