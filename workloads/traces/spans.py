"""What a trace is: its spans and who caused whom, the rows that were left out of it and why."""

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from lrpc.kernel.errors import Refused

MAX_TIME: Final = 2**63 - 1  # ns; what a signed 64-bit clock can say

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

    `place` is "line 7" of a CSV file, "span 7" (the seventh) of a JSON document, "line 3, span 7" of JSON lines.
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


def shown(text: str, limit: int | None = 60, quote: bool = True) -> str:
    """`text` fit for one line of an error: cut to `limit` characters, in quotes, unprintable ones escaped."""
    if limit is not None and len(text) > limit:
        text = text[:limit] + "…"
    return repr(text) if quote or not text.isprintable() else text
