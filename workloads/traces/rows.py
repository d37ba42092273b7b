"""Checks the rows of a trace, whatever their format, and links those that pass into a trace.

A reader turns each row into a `Span` and hands it to a `RowCollector`. A row is trusted if it names
its trace, span, pod and operation, and if its times are in range and in order. Its identifier must
be one that no earlier row has. Once all rows are read, more spans are left out: those whose parent
is absent, those on a cycle of parents, and all descendants of a left-out span. Without its
ancestors, a span has no place in time and no caller. Everything left out keeps its place in the
file and its reason.
"""

import operator
import re
import reprlib
from collections.abc import Mapping
from typing import Final

from lrpc.workloads.traces.spans import MAX_TIME, LeftOut, Reason, Span, Trace, shown

UNIDENTIFIED: Final = ("", "")  # the key of a row that does not show its span's identifier
# NUL, and halves of surrogate pairs: JSON can spell them, but they cannot be written to a file.
_UNNAMEABLE: Final = re.compile("[\0\ud800-\udfff]")
# Keeps quoted values short and shallow, however long or deeply nested they are in the file.
_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.fillvalue = "…"
SpanKey = tuple[str, str]  # a span's identifier: (trace, span)
RowPlace = tuple[int, ...]  # a row's place in its file, the larger part first: (line, span)


class Unfit(Exception):
    """Raised for a row that cannot be a span."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Misshapen(Exception):
    """Raised for a document that is not in its format, with the key and what is wrong there."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key, self.message = key, message


def quoted(value: object) -> str:
    """Return the representation of a value from a file, short enough for one line of an error."""
    return shown(_REPR.repr(value), quote=False)


def name(item: Mapping[str, object], key: str) -> str:
    """Return the text under a key; raise `Unfit` if it is absent, empty or no valid text."""
    value = item.get(key)
    if value is None or value == "":
        raise Unfit(Reason.EMPTY, f"no {key} is given")
    if not isinstance(value, str) or _UNNAMEABLE.search(value):
        raise Unfit(Reason.UNREADABLE, f"{key} is {quoted(value)}, which is no name")
    return value


def nanoseconds(key: str, value: object) -> int:
    """Return a time in ns, given as a number or as digits; raise `Unfit` outside 63 bits."""
    # int() alone would accept signs, spaces, underscores and the digits of other scripts.
    if isinstance(value, str) and len(value) <= 19 and value.isdigit() and value.isascii():
        value = int(value)
    if type(value) is int and 0 <= value <= MAX_TIME:
        return value
    raise Unfit(Reason.BAD_TIME, f"{key} is {quoted(value)}, not whole nanoseconds from 0 to {MAX_TIME}")


class RowCollector:
    """The rows read so far: those that can be spans, and those left out.

    `words` name the parts of a place. With "line" and "span", a place reads "line 3, span 7".
    """

    def __init__(self, *words: str) -> None:
        self._words = words
        self._spans: list[Span] = []
        self._places: list[RowPlace] = []  # the place of each of _spans
        self._index: dict[SpanKey, int] = {}  # the index of each span in _spans
        self._unfit: set[SpanKey] = set()  # spans that were left out
        self._left_out: list[tuple[RowPlace, LeftOut]] = []

    def keep(self, place: RowPlace, span: Span) -> None:
        """Add a span; raise `Unfit` if it ends before it starts, or its identifier is taken."""
        if span.end_ns < span.start_ns:
            raise Unfit(Reason.BACKWARDS, f"it starts at {span.start_ns} ns and ends at {span.end_ns} ns")
        identity = (span.trace, span.span)
        index = self._index.setdefault(identity, len(self._spans))
        if index < len(self._spans):
            raise Unfit(Reason.DUPLICATE, f"{self._described(self._places[index])} has it already")
        self._spans.append(span)
        self._places.append(place)

    def leave_out(self, place: RowPlace, identity: SpanKey, unfit: Unfit) -> None:
        """Record that a row is left out; `identity` is that of its span, or `UNIDENTIFIED`."""
        self._left_out.append((place, LeftOut(self._described(place), *identity, unfit.reason, unfit.detail)))
        self._unfit.add(identity)

    def trace(self) -> Trace:
        """Return the trace of all spans whose ancestors are all good, and the rows left out."""
        parents, faults = self._resolve()
        _add_descendants_and_cycles(parents, faults)
        for index, reason in faults.items():
            span = self._spans[index]
            detail = f"its parent is {shown(span.parent or '')}"
            self.leave_out(self._places[index], (span.trace, span.span), Unfit(reason, detail))
        left_out = [row for _, row in sorted(self._left_out, key=operator.itemgetter(0))]
        order = [index for index in range(len(parents)) if index not in faults]
        order.sort(key=lambda at: (self._spans[at].start_ns, self._spans[at].trace, self._spans[at].span))
        new = {index: at for at, index in enumerate(order)}
        linked = [new.get(parent) if (parent := parents[index]) is not None else None for index in order]
        return Trace([self._spans[index] for index in order], left_out, linked, _children(linked))

    def _described(self, place: RowPlace) -> str:
        return ", ".join(f"{word} {number}" for word, number in zip(self._words, place, strict=False))

    def _resolve(self) -> tuple[list[int | None], dict[int, Reason]]:
        """Return the index of each span's parent, and the spans that are faulty by their own row.

        Those are the spans that are their own parent, or whose parent is absent or left out.
        """
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


def _add_descendants_and_cycles(parents: list[int | None], faults: dict[int, Reason]) -> None:
    """Add to `faults` the spans on cycles and the descendants of every faulty span.

    Each walk goes up from a span until it meets a root, a faulty span or a span walked before. So
    each span is passed once, and no recursion is needed, however deep a chain is.
    """
    walked = [-1] * len(parents)  # the first span of the walk that passed each span
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
