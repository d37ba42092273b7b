"""Reads a trace (CSV or Jaeger's JSON, plain or gzipped) into spans and leaves out what cannot be trusted."""

import codecs
import csv
import gzip
import io
import json
import operator
import os
import re
import sys
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain, islice
from typing import Any, Final

from lrpc.kernel.errors import Refused

START, END = "StartTimeUnixNano", "EndTimeUnixNano"
COLUMNS: Final = ("TraceID", "SpanID", "ParentID", "PodName", "OperationName", START, END)
POD_TAGS: Final = ("k8s.pod.name", "pod", "hostname")
MAX_TIME: Final = 2**63 - 1  # ns; what a signed 64-bit clock can say
MAX_QUOTED_LINES: Final = 32  # lines one quoted field may run over: bounds what a stray quote can swallow
MAX_LINE: Final = 131_072  # bytes; the csv module's own limit for a quoted field

AnyPath = str | os.PathLike[str]


class Reason(StrEnum):
    """Why a row was left out."""

    UNREADABLE = "unreadable row"
    CUT_SHORT = "row cut short"
    TOO_LONG = "too many fields"
    EMPTY = "empty field"
    BAD_TIME = "impossible time"
    BACKWARDS = "end before start"
    DUPLICATE = "duplicate span"
    OWN_PARENT = "its own parent"
    NO_PARENT = "parent absent"
    CYCLE = "cycle of parents"
    DESCENDANT = "descendant of a left-out span"


class TraceRefused(Refused):
    """A trace that cannot be used. `str()` is one line: the file, the place in it, the mend."""

    def __init__(self, path: str, place: str, message: str) -> None:
        super().__init__(path, place, message)
        self.path, self.place, self.message = path, place, message

    def __str__(self) -> str:
        return f"{self.path}: {self.place}: {self.message}"


@dataclass(frozen=True, slots=True)
class Span:
    """One timed operation in one pod; (trace, span) identifies it. Times are Unix nanoseconds."""

    trace: str
    span: str
    parent: str | None
    pod: str
    operation: str
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that is no part of the trace. `trace` and `span` are empty where the row did not show them.

    `place` is "line 7" of a CSV file, or "span 7" (the seventh span of the file) of a JSON file.
    """

    place: str
    trace: str
    span: str
    reason: Reason
    detail: str

    def __str__(self) -> str:
        who = f", span {shown(self.span)}" if self.span else ""
        return f"{self.place}{who}: {self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True)
class Trace:
    """The good spans in order of (start_ns, trace, span), and the rows left out in order of the file.

    Spans are spoken of by their index in `spans`: `parents[i]` is the index of span i's parent (None for the
    first span of a trace), `children[i]` are the indices of its children in the same order as `spans`.
    """

    spans: list[Span]
    left_out: list[LeftOut]
    parents: list[int | None]
    children: list[list[int]]

    @property
    def roots(self) -> list[int]:
        """Indices of the spans without a parent."""
        return [index for index, parent in enumerate(self.parents) if parent is None]

    @property
    def pods(self) -> list[str]:
        """Names of the pods that ran a good span, sorted."""
        return sorted({span.pod for span in self.spans})

    @property
    def traces(self) -> list[str]:
        """Identifiers of the traces that have a good span, sorted."""
        return sorted({span.trace for span in self.spans})

    @property
    def reasons(self) -> Counter[Reason]:
        """How many rows were left out, by reason."""
        return Counter(row.reason for row in self.left_out)

    def is_call(self, index: int) -> bool:
        """Whether the span's parent ran in another pod, which makes the two a call between domains."""
        parent = self.parents[index]
        return parent is not None and self.spans[parent].pod != self.spans[index].pod

    def calls(self) -> list[int]:
        """Indices of the spans whose parent ran in another pod."""
        return [index for index in range(len(self.spans)) if self.is_call(index)]

    def outliving(self) -> list[int]:
        """Indices of the spans that end after their parent."""
        return [index for index, span, parent in self._with_parents() if span.end_ns > parent.end_ns]

    def starting_early(self) -> list[int]:
        """Indices of the spans that start before their parent, as the clocks of two machines may have it."""
        return [index for index, span, parent in self._with_parents() if span.start_ns < parent.start_ns]

    def _with_parents(self) -> Iterator[tuple[int, Span, Span]]:
        for index, parent in enumerate(self.parents):
            if parent is not None:
                yield index, self.spans[index], self.spans[parent]


def read_trace(path: AnyPath, *, strict: bool = False) -> Trace:
    """Reads a CSV trace or Jaeger's JSON export; the content, not the name, says which, and whether gzipped.

    CSV needs the columns `COLUMNS`, in any order, others beside; a first span's ParentID is `root` or empty.
    In JSON a span's pod is its process's tag `k8s.pod.name`, `pod` or `hostname`, else its serviceName.

    Bad rows are left out with all their descendants, and named in `left_out`; with `strict` the first of them
    refuses the file. Raises `TraceRefused` for a file that cannot be read or has no good span.
    """
    name = shown(os.fspath(path), limit=None, quote=False)
    data = _content(path, name)
    if data[:MAX_LINE].lstrip().startswith((b"{", b"[")):
        gathered = _Gathered("span")
        _read_jaeger(name, data, gathered)
    else:
        gathered = _Gathered("line")
        _read_csv(name, data, gathered)
    trace = gathered.trace()
    _refuse_if_useless(name, trace, strict)
    return trace


def shown(text: str, limit: int | None = 60, quote: bool = True) -> str:
    """`text` fit for one line of an error: cut to `limit` characters, in quotes, unprintable ones escaped."""
    if limit is not None and len(text) > limit:
        text = text[:limit] + "…"
    return repr(text) if quote or not text.isprintable() else text


def _refuse_if_useless(name: str, trace: Trace, strict: bool) -> None:
    if trace.left_out and (strict or not trace.spans):
        first = trace.left_out[0]
        mend = "correct it" if trace.spans else f"none of {len(trace.left_out)} is good; correct the file"
        raise TraceRefused(name, first.place, f"{first.reason}: {first.detail}; {mend}")
    if not trace.spans:
        raise TraceRefused(name, "whole file", "holds no spans; record the trace again")


def _content(path: AnyPath, name: str) -> bytes:
    try:
        with open(path, "rb") as file:
            data = file.read()
    except (OSError, ValueError) as error:  # ValueError: a path that no file can have
        why = error.strerror if isinstance(error, OSError) else error
        raise TraceRefused(name, "whole file", f"cannot be read ({why}); check path and rights") from None
    if data.startswith(b"\x1f\x8b"):
        data = _unzipped(name, data)
    data = data.removeprefix(codecs.BOM_UTF8)
    if not data or data.isspace():
        raise TraceRefused(name, "whole file", "is empty; record the trace again")
    return data


def _unzipped(name: str, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        place, why = f"{len(data)} bytes of gzip", shown(str(error), quote=False)
        raise TraceRefused(name, place, f"cut short or damaged ({why}); copy the file again") from None


class _Unfit(Exception):
    """This row cannot be a span."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


_NOBODY: Final = ("", "")
_UNNAMEABLE: Final = re.compile("[\0\ud800-\udfff]")  # JSON can spell halves of pairs, which no file takes
_Identity = tuple[str, str]  # (trace, span)


class _Gathered:
    """Rows read so far: those that can be spans, and those left out."""

    def __init__(self, place_word: str) -> None:
        self._place_word = place_word
        self._spans: list[Span] = []
        self._rows: list[int] = []  # of the file, one for each of _spans
        self._index: dict[_Identity, int] = {}  # into _spans
        self._unfit: set[_Identity] = set()  # left out while reading
        self._left_out: list[tuple[int, LeftOut]] = []

    def keep(self, row: int, span: Span) -> None:
        if span.end_ns < span.start_ns:
            raise _Unfit(Reason.BACKWARDS, f"it starts at {span.start_ns} ns and ends at {span.end_ns} ns")
        identity = (span.trace, span.span)
        index = self._index.setdefault(identity, len(self._spans))
        if index < len(self._spans):
            raise _Unfit(Reason.DUPLICATE, f"{self._place_word} {self._rows[index]} has it already")
        self._spans.append(span)
        self._rows.append(row)

    def leave(self, row: int, identity: _Identity, unfit: _Unfit) -> None:
        place = f"{self._place_word} {row}"
        self._left_out.append((row, LeftOut(place, *identity, unfit.reason, unfit.detail)))
        self._unfit.add(identity)

    def trace(self) -> Trace:
        parents, faults = self._resolve()
        _spread(parents, faults)
        for index, reason in faults.items():
            span = self._spans[index]
            detail = f"its parent is {shown(span.parent or '')}"
            self.leave(self._rows[index], (span.trace, span.span), _Unfit(reason, detail))
        left_out = [row for _, row in sorted(self._left_out, key=operator.itemgetter(0))]
        order = [index for index in range(len(parents)) if index not in faults]
        order.sort(key=lambda at: (self._spans[at].start_ns, self._spans[at].trace, self._spans[at].span))
        new = {index: at for at, index in enumerate(order)}
        linked = [new.get(parent) if (parent := parents[index]) is not None else None for index in order]
        return Trace([self._spans[index] for index in order], left_out, linked, _children(linked))

    def _resolve(self) -> tuple[list[int | None], dict[int, Reason]]:
        """Each span's parent as an index, and the spans whose own row shows that they can have none."""
        parents: list[int | None] = []
        faults: dict[int, Reason] = {}
        for index, span in enumerate(self._spans):
            parent = None
            if span.parent is not None:
                identity = (span.trace, span.parent)
                parent = self._index.get(identity)
                if parent == index:
                    faults[index] = Reason.OWN_PARENT
                elif parent is None:
                    faults[index] = Reason.DESCENDANT if identity in self._unfit else Reason.NO_PARENT
            parents.append(parent)
        return parents, faults


def _spread(parents: list[int | None], faults: dict[int, Reason]) -> None:
    """Adds to `faults` the spans of cycles and the descendants of every faulty span.

    Walks upwards from each span until something known, so each is passed once, however deep its chain.
    """
    walked = [-1] * len(parents)  # the walk that passed here
    for first in range(len(parents)):
        path: list[int] = []
        here: int | None = first
        while here is not None and here not in faults and walked[here] < 0:
            walked[here] = first
            path.append(here)
            here = parents[here]
        if here is not None and here not in faults and walked[here] == first:
            start = path.index(here)
            faults.update(dict.fromkeys(path[start:], Reason.CYCLE))
            del path[start:]
        if here in faults:
            faults.update(dict.fromkeys(path, Reason.DESCENDANT))


def _children(parents: list[int | None]) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in parents]
    for index, parent in enumerate(parents):
        if parent is not None:
            children[parent].append(index)
    return children


# CSV


def _read_csv(name: str, data: bytes, gathered: _Gathered) -> None:
    records = _records(data)
    line, header, trouble = next(records)
    columns = _columns(name, f"line {line}", header, trouble)
    for line, fields, trouble in records:
        try:
            gathered.keep(line, _csv_span(fields, trouble, columns, len(header)))
        except _Unfit as unfit:
            gathered.leave(line, _csv_identity(fields, columns), unfit)


def _records(data: bytes) -> Iterator[tuple[int, list[str], str]]:
    """(line, fields, trouble) of every line that is not blank; a line with trouble has no fields."""
    stream = io.BytesIO(data)
    line = width = 0
    for raw in stream:
        line += 1
        if raw.isspace():
            continue
        try:
            fields, taken = _fields(raw, stream, width)
            trouble = ""
        except _Unfit as unfit:
            fields, taken, trouble = [], 1, unfit.detail
        width = width or len(fields)
        yield line, fields, trouble
        line += taken - 1


def _text(raw: bytes) -> str:
    if len(raw) > MAX_LINE:
        raise _Unfit(Reason.UNREADABLE, f"longer than {MAX_LINE} bytes")
    if b"\0" in raw or raw.find(b"\r", 0, -2) >= 0:
        raise _Unfit(Reason.UNREADABLE, "NUL byte or carriage return within the line")
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        raise _Unfit(Reason.UNREADABLE, f"not UTF-8 from byte {error.start + 1} of the line") from None


def _fields(raw: bytes, stream: io.BytesIO, width: int) -> tuple[list[str], int]:
    """Fields of a row and how many lines it took: with quotes it may go on over the lines that follow.

    A row that comes out wrong takes one line only, so that a stray quote costs no other row.
    """
    if b'"' not in raw:  # most lines of most files
        return _text(raw).rstrip("\r\n").split(","), 1
    second = stream.tell()
    lines = chain([raw], islice(stream, MAX_QUOTED_LINES - 1))
    reader = csv.reader(map(_text, lines), strict=True)
    try:
        fields = next(reader)
        if reader.line_num > 1 and len(fields) != width:
            raise csv.Error("a field with line ends makes the row too long or short")
        return fields, reader.line_num
    except (csv.Error, _Unfit) as error:
        stream.seek(second)
        detail = error.detail if isinstance(error, _Unfit) else f"wrong quotes ({error})"
        raise _Unfit(Reason.UNREADABLE, detail) from None


def _columns(name: str, place: str, header: list[str], trouble: str) -> list[int]:
    """Where in a row the needed columns stand, in the order of `COLUMNS`."""
    if trouble:
        raise TraceRefused(name, place, f"{trouble}; give a CSV or Jaeger JSON file in UTF-8")
    wrong = [column for column in COLUMNS if header.count(column) != 1]
    if wrong:
        message = f"needs column {', '.join(wrong)} once; the header must name {','.join(COLUMNS)}"
        raise TraceRefused(name, place, message)
    return [header.index(column) for column in COLUMNS]


def _csv_span(fields: list[str], trouble: str, columns: list[int], width: int) -> Span:
    if trouble:
        raise _Unfit(Reason.UNREADABLE, trouble)
    if len(fields) != width:
        reason = Reason.CUT_SHORT if len(fields) < width else Reason.TOO_LONG
        raise _Unfit(reason, f"it has {len(fields)} fields, the header {width}")
    trace, span, parent, pod, operation, start, end = texts = [fields[column] for column in columns]
    if not (trace and span and pod and operation):
        empty = next(c for c, text in zip(COLUMNS, texts, strict=True) if not text and c != "ParentID")
        raise _Unfit(Reason.EMPTY, f"no {empty} is given")
    first = None if parent in ("", "root") else parent
    same = sys.intern  # these stand in many rows; each is kept once
    return Span(same(trace), span, first, same(pod), same(operation), _whole(START, start), _whole(END, end))


def _csv_identity(fields: list[str], columns: list[int]) -> _Identity:
    trace, span = columns[:2]
    return (fields[trace], fields[span]) if max(trace, span) < len(fields) else _NOBODY


def _whole(column: str, text: str) -> int:
    # int() alone would take signs, spaces, underscores and the digits of other scripts.
    if len(text) <= 19 and text.isdigit() and text.isascii() and (value := int(text)) <= MAX_TIME:
        return value
    raise _Unfit(Reason.BAD_TIME, f"{column} is {shown(text)}, not whole nanoseconds from 0 to {MAX_TIME}")


# Jaeger's JSON; `Any` is what json.loads gives


def _read_jaeger(name: str, data: bytes, gathered: _Gathered) -> None:
    number = 0
    for entry in _entries(name, data):
        processes = entry.get("processes")
        pods = {key: _pod(value) for key, value in processes.items()} if isinstance(processes, dict) else {}
        for item in entry["spans"]:
            number += 1
            try:
                gathered.keep(number, _jaeger_span(item, entry, pods))
            except _Unfit as unfit:
                gathered.leave(number, _jaeger_identity(item, entry), unfit)


def _entries(name: str, data: bytes) -> Iterable[dict[str, Any]]:
    try:
        document = json.loads(data)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise TraceRefused(name, place, f"not JSON ({error.msg}); export the trace again") from None
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of 5,000 digits, endless nesting
        why = shown(str(error), quote=False)
        raise TraceRefused(name, "whole file", f"not JSON ({why}); export the trace again") from None
    entries = document.get("data") if isinstance(document, dict) else None
    if not isinstance(entries, list):
        raise TraceRefused(name, "line 1", "no list 'data'; JSON must be as Jaeger exports it")
    for at, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("spans"), list):
            raise TraceRefused(name, f"data[{at}]", "no list 'spans'; JSON must be as Jaeger exports it")
    return entries


def _pod(process: Any) -> str:
    if not isinstance(process, dict):
        return ""
    listed = process.get("tags")
    tags = [tag for tag in listed if isinstance(tag, dict)] if isinstance(listed, list) else []
    named = [tag.get("value") for wanted in POD_TAGS for tag in tags if tag.get("key") == wanted]
    named.append(process.get("serviceName"))
    return next((name for name in named if isinstance(name, str) and name), "")


def _jaeger_span(item: Any, entry: dict[str, Any], pods: dict[str, str]) -> Span:
    if not isinstance(item, dict):
        raise _Unfit(Reason.UNREADABLE, f"{shown(repr(item), quote=False)} is no span")
    trace = _name({"traceID": entry.get("traceID"), **item}, "traceID")
    pod = _name({"pod": pods.get(_name(item, "processID"))}, "pod")
    start, duration = _microseconds(item, "startTime"), _microseconds(item, "duration")
    end = start + duration
    if not 0 <= end * 1000 <= MAX_TIME:
        raise _Unfit(Reason.BAD_TIME, f"it would end at {end} us, outside 0 to {MAX_TIME // 1000}")
    parent = _parent(item, trace)
    operation = _name(item, "operationName")
    return Span(trace, _name(item, "spanID"), parent, pod, operation, start * 1000, end * 1000)


def _jaeger_identity(item: Any, entry: dict[str, Any]) -> _Identity:
    if not isinstance(item, dict):
        return _NOBODY
    trace, span = item.get("traceID", entry.get("traceID")), item.get("spanID")
    return (trace, span) if isinstance(trace, str) and isinstance(span, str) else _NOBODY


def _name(item: dict[str, Any], key: str) -> str:
    value = item.get(key)
    if value is None or value == "":
        raise _Unfit(Reason.EMPTY, f"no {key} is given")
    if not isinstance(value, str) or _UNNAMEABLE.search(value):
        raise _Unfit(Reason.UNREADABLE, f"{key} is {shown(repr(value), quote=False)}, which is no name")
    return value


def _microseconds(item: dict[str, Any], key: str) -> int:
    value = item.get(key)
    lowest = -MAX_TIME if key == "duration" else 0  # a negative duration is named for what it is: backwards
    if type(value) is int and lowest <= value * 1000 <= MAX_TIME:
        return value
    raise _Unfit(Reason.BAD_TIME, f"{key} is {shown(repr(value), quote=False)}, not whole microseconds within 64 bits")


def _parent(item: dict[str, Any], trace: str) -> str | None:
    """The span this one is CHILD_OF, else the one it FOLLOWS_FROM; what is in another trace is no parent."""
    references = item.get("references") or []
    if not isinstance(references, list) or not all(isinstance(one, dict) for one in references):
        raise _Unfit(Reason.UNREADABLE, "its references are no list of references")
    found: dict[str, str] = {}
    for reference in references:
        if reference.get("traceID", trace) == trace:
            found.setdefault(str(reference.get("refType")), _name(reference, "spanID"))
    return found.get("CHILD_OF", found.get("FOLLOWS_FROM"))
