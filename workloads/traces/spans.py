"""Defines the spans of a trace, and the rows that were left out and why.

Traces of real systems have faults: rows cut short, clocks that run backwards, parents that were
never recorded. A row that cannot be read is left out, and so are the spans below it, each with its
place and a reason, so that every row of a file is accounted for. What is merely not recorded is no
fault: a span whose parent is not in the file begins what is known of its trace, and one that has
not ended ends with the last of its children. Such corrections are counted. Two faults are kept,
because the clocks of two machines or asynchronous work explain them: a span that starts before its
parent, and one that ends after it.
"""

import os
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple

from lrpc.kernel.errors import Refused
from lrpc.workloads.traces.attributes import UNTOLD, MessageSizes
from lrpc.workloads.traces.sources import NOWHERE, Source

MAX_TIME: Final = 2**63 - 1  # in ns; the largest value of a signed 64-bit clock

AnyPath = str | os.PathLike[str]


class Reason(StrEnum):
    """A reason for leaving a row out."""

    UNREADABLE = "unreadable row"
    CUT_SHORT = "row cut short"
    TOO_LONG = "too many fields"
    EMPTY = "empty field"
    BAD_TIME = "impossible time"
    BACKWARDS = "end before start"
    DUPLICATE = "duplicate span"
    CYCLE = "cycle of parents"
    DESCENDANT = "descendant of a left-out span"
    TOO_DEEP = "nested too deep"


class Correction(StrEnum):
    """What was made of a span that a trace tells of only in part, or wrongly."""

    NO_PARENT = "parent not in the file: begins what is known of its trace"
    OWN_PARENT = "its own parent: begins its trace"
    NOT_ENDED = "not ended: ends with the last of its children"
    SHARED_ID = "one identifier for a client's span and its server's: two spans"
    CLOCK = "timed by a clock that differs from its caller's: moved to its caller's time"
    SHORT_ID = "identified by 64 of its trace's 128 bits: the same trace"


class TraceRefused(Refused):
    """Raised for a trace that cannot be used; `str()` gives the file, the place and the fix."""

    def __init__(self, path: str, place: str, message: str) -> None:
        super().__init__(path, place, message)
        self.path, self.place, self.message = path, place, message

    def __str__(self) -> str:
        return f"{self.path}: {self.place}: {self.message}"


class SpanKind(StrEnum):
    """What a span is of a call or a message, as the trace says."""

    UNSAID = "unspecified"
    INTERNAL = "internal"
    SERVER = "server"
    CLIENT = "client"
    PRODUCER = "producer"
    CONSUMER = "consumer"


# Kinds in the order of OTLP's numbers, from 0.
NUMBERED: Final = (
    SpanKind.UNSAID,
    SpanKind.INTERNAL,
    SpanKind.SERVER,
    SpanKind.CLIENT,
    SpanKind.PRODUCER,
    SpanKind.CONSUMER,
)
NAMED: Final = {kind.value: kind for kind in SpanKind}


def kind_of(value: object) -> SpanKind:
    """Return a span's kind, given by name or by OTLP's number; what is unknown counts as unsaid."""
    text = str(value).lower().removeprefix("span_kind_").removeprefix("spankind.").removesuffix(".0")
    if text.isascii() and text.isdigit() and int(text[:3]) < len(NUMBERED):
        return NUMBERED[int(text[:3])]
    return NAMED.get(text, SpanKind.UNSAID)


class Span(NamedTuple):
    """One timed operation in one pod, identified by (trace, span); times are Unix nanoseconds.

    `follows` says that its parent did not wait for it (FOLLOWS_FROM). A reader gives `source`, from
    which `pod` is named once all spans are read. `peer` is what a client's span tells of whom it
    called, `sizes` what it tells of its messages.
    """

    trace: str
    span: str
    parent: str | None
    pod: str
    operation: str
    start_ns: int
    end_ns: int
    kind: SpanKind = SpanKind.UNSAID
    follows: bool = False
    source: Source = NOWHERE
    peer: str = ""
    sizes: MessageSizes = UNTOLD


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A row that was left out; `trace` and `span` are empty if the row did not show them.

    `place` reads "line 7" for a CSV file, and "span 7" (the seventh) for a JSON document. For a
    file with a document on each line it reads "line 3, span 7".
    """

    place: str
    trace: str
    span: str
    reason: Reason
    detail: str

    def __str__(self) -> str:
        who = f", span {shown(self.span)}" if self.span else ""
        return f"{self.place}{who}: {self.reason}: {self.detail}"


def shown(text: str, limit: int | None = 60, quote: bool = True) -> str:
    """Return `text` for one line of an error, cut to `limit` characters.

    It is quoted if `quote` is set or it has unprintable characters, which are then escaped.
    """
    if limit is not None and len(text) > limit:
        text = text[:limit] + "…"
    return repr(text) if quote or not text.isprintable() else text
