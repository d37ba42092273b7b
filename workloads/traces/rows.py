"""Rows of a trace, whatever file they are from: what all formats check alike, and which rows make a trace."""

import operator
import re
import reprlib
from collections.abc import Mapping
from typing import Final

from lrpc.workloads.traces.spans import MAX_TIME, LeftOut, Reason, Span, Trace, shown

NOBODY: Final = ("", "")
_UNNAMEABLE: Final = re.compile("[\0\ud800-\udfff]")  # JSON can spell halves of pairs, which no file takes
_REPR: Final = reprlib.Repr()  # whatever a file nests: short, and no deeper than this
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.fillvalue = "…"
SpanKey = tuple[str, str]  # (trace, span)
RowPlace = tuple[int, ...]  # in a file, the larger part first


class Unfit(Exception):
    """This row cannot be a span."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason, self.detail = reason, detail


class Misshapen(Exception):
    """A document that is not of its format: the key that shows it, and what is wrong there."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)
        self.key, self.message = key, message


def quoted(value: object) -> str:
    """Return a value as it stands in a file, fit for one line of an error."""
    return shown(_REPR.repr(value), quote=False)


def name(item: Mapping[str, object], key: str) -> str:
    """Return the text under a key; `Unfit` where there is none, or none that a file could hold."""
    value = item.get(key)
    if value is None or value == "":
        raise Unfit(Reason.EMPTY, f"no {key} is given")
    if not isinstance(value, str) or _UNNAMEABLE.search(value):
        raise Unfit(Reason.UNREADABLE, f"{key} is {quoted(value)}, which is no name")
    return value


def nanoseconds(key: str, value: object) -> int:
    """Return a time in ns, given as a number or its digits; `Unfit` where it is neither or outside 63 bits."""
    # int() alone would take signs, spaces, underscores and the digits of other scripts.
    if isinstance(value, str) and len(value) <= 19 and value.isdigit() and value.isascii():
        value = int(value)
    if type(value) is int and 0 <= value <= MAX_TIME:
        return value
    raise Unfit(Reason.BAD_TIME, f"{key} is {quoted(value)}, not whole nanoseconds from 0 to {MAX_TIME}")


class Gathered:
    """Rows read so far: those that can be spans, and those left out.

    `words` name the parts of a place, such as "line": a row of JSON lines is at "line 3, span 7".
    """

    def __init__(self, *words: str) -> None:
        self._words = words
        self._spans: list[Span] = []
        self._places: list[RowPlace] = []  # in the file, one for each of _spans
        self._index: dict[SpanKey, int] = {}  # into _spans
        self._unfit: set[SpanKey] = set()  # left out while reading
        self._left_out: list[tuple[RowPlace, LeftOut]] = []

    def keep(self, place: RowPlace, span: Span) -> None:
        """Take a row as a span; `Unfit` where its times or its name do not allow that."""
        if span.end_ns < span.start_ns:
            raise Unfit(Reason.BACKWARDS, f"it starts at {span.start_ns} ns and ends at {span.end_ns} ns")
        identity = (span.trace, span.span)
        index = self._index.setdefault(identity, len(self._spans))
        if index < len(self._spans):
            raise Unfit(Reason.DUPLICATE, f"{self._said(self._places[index])} has it already")
        self._spans.append(span)
        self._places.append(place)

    def leave(self, place: RowPlace, identity: SpanKey, unfit: Unfit) -> None:
        """Leave a row out; `identity` is that of its span, or `NOBODY`."""
        self._left_out.append((place, LeftOut(self._said(place), *identity, unfit.reason, unfit.detail)))
        self._unfit.add(identity)

    def trace(self) -> Trace:
        """Return the spans that have all that were before them, linked, and the rows left out."""
        parents, faults = self._resolve()
        _spread(parents, faults)
        for index, reason in faults.items():
            span = self._spans[index]
            detail = f"its parent is {shown(span.parent or '')}"
            self.leave(self._places[index], (span.trace, span.span), Unfit(reason, detail))
        left_out = [row for _, row in sorted(self._left_out, key=operator.itemgetter(0))]
        order = [index for index in range(len(parents)) if index not in faults]
        order.sort(key=lambda at: (self._spans[at].start_ns, self._spans[at].trace, self._spans[at].span))
        new = {index: at for at, index in enumerate(order)}
        linked = [new.get(parent) if (parent := parents[index]) is not None else None for index in order]
        return Trace([self._spans[index] for index in order], left_out, linked, _children(linked))

    def _said(self, place: RowPlace) -> str:
        return ", ".join(f"{word} {number}" for word, number in zip(self._words, place, strict=False))

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
