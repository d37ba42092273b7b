"""Checks the rows of a trace, whatever their format, and links those that pass into a trace.

A reader turns each row into a `Span` and hands it to a `RowCollector`. A row is trusted if it names
its trace, span, operation and where it ran, and if its times are in range and in order. Its
identifier must be one that no earlier row has, unless one is the client's span of a call and the
other the server's. Identifiers that differ in leading zeros are the same.

Once all rows are read, spans are linked. One whose parent is not in the file, or is itself, begins
what is known of its trace. Left out are those on a cycle of parents, and all descendants of a
left-out span: with a hole between them and their caller, they have no place in time. Everything
left out keeps its place in the file and its reason.
"""

import operator
import re
import reprlib
from array import array
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from lrpc.workloads.traces.attributes import UNNAMEABLE
from lrpc.workloads.traces.order import in_order
from lrpc.workloads.traces.sources import ATTRIBUTES, NOWHERE, Source, named_in_groups
from lrpc.workloads.traces.spans import MAX_TIME, Correction, LeftOut, Reason, Span, SpanKind, shown
from lrpc.workloads.traces.trace import SpanTable, Trace, renumbered, working_children

SHORT_DIGITS: Final = 16  # hexadecimal digits of 64 bits, half of a trace's identifier
UNIDENTIFIED: Final = ("", "")  # the key of a row that does not show its span's identifier
MOST_DIGITS: Final = 19  # of a time in ns
# int() alone would accept signs, spaces, underscores and the digits of other scripts.
_WHOLE: Final = re.compile(rf"[0-9]{{1,{MOST_DIGITS}}}(\.0+)?")
# Keeps quoted values short and shallow, however long or deeply nested they are in the file.
_REPR: Final = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 60
_REPR.fillvalue = "…"
# The most rows of which it is kept why they were left out, and the most before the first good one:
# a file of which more are no spans is no trace.
MOST_LEFT_OUT: Final = 1_000_000
MOST_BEFORE_THE_FIRST: Final = 100_000
SpanKey = tuple[str, str]  # a span's identifier: (trace, span)
# A row's place, the larger part first: (line, span) or one of them, after the file's number.
RowPlace = tuple[int, ...]
PLACE: Final = 3  # numbers of a place, at most


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
    if not isinstance(value, str) or UNNAMEABLE.search(value):
        raise Unfit(Reason.UNREADABLE, f"{key} is {quoted(value)}, which is no name")
    return value


def source_of(attributes: Mapping[str, object]) -> Source:
    """Return where a span ran, from its attributes by name; raise `Unfit` if none says it."""
    texts = {key: str(value) for key, value in attributes.items() if isinstance(value, str) or type(value) is int}
    found = Source.of(texts)
    if found.domain == NOWHERE:
        known = ", ".join(ATTRIBUTES["pod"] + ATTRIBUTES["instance"] + ATTRIBUTES["service"])
        raise Unfit(Reason.EMPTY, f"nothing says where it ran: it has no attribute {known}")
    for text in (found.service, found.instance, found.pod, found.host, found.node):
        if UNNAMEABLE.search(text):
            raise Unfit(Reason.UNREADABLE, f"{quoted(text)} is no name of where it ran")
    return found


def nanoseconds(key: str, value: object) -> int:
    """Return a time in ns, given as a number, as digits or in halves; raise `Unfit` if it is none.

    Whole numbers may have been through floating point, which leaves `.0` behind them.
    """
    found: object = value
    if isinstance(value, str) and value.isdecimal() and value.isascii() and len(value) <= MOST_DIGITS:
        found = int(value)  # as nearly all are
    elif isinstance(value, str) and _WHOLE.fullmatch(value):
        found = int(value.partition(".")[0])
    elif isinstance(value, float) and value.is_integer():
        found = int(value)
    elif isinstance(value, dict):  # as JavaScript without integers of 64 bits has it
        low, high = value.get("low"), value.get("high")
        if type(low) is int and type(high) is int:
            found = (high << 32) + (low & 0xFFFFFFFF)
    if type(found) is int and 0 <= found <= MAX_TIME:
        return found
    raise Unfit(Reason.BAD_TIME, f"{key} is {quoted(value)}, not whole nanoseconds from 0 to {MAX_TIME}")


def key_of(trace: str, span: str) -> SpanKey:
    """Return what tells a span from others: its identifiers without zeros ahead."""
    return trace.lstrip("0"), span.lstrip("0")


def hexadecimal(text: str) -> str:
    """Return an identifier with its hexadecimal digits in lower case; others as they are."""
    return text.lower() if text.isalnum() and not text.lower().strip("0123456789abcdef") else text


def same_trace(one: object, other: str) -> bool:
    """Return whether two identifiers are of one trace.

    They may differ in zeros ahead, in 64 bits, and in whether letters are small.
    """
    if not isinstance(one, str):
        return False
    short, long = sorted((hexadecimal(one).lstrip("0"), hexadecimal(other).lstrip("0")), key=len)
    return short == long or (len(short) <= SHORT_DIGITS < len(long) and short == long[-SHORT_DIGITS:].lstrip("0"))


class RowCollector:
    """The rows read so far: those that can be spans, and those left out.

    `files` are the names of the files that they come from, shown with a place where there are
    several.
    """

    def __init__(self, files: Sequence[str] = ("",)) -> None:
        self._files = files
        self.forms: set[str] = set()  # that the files are written in
        self._words: list[tuple[str, ...]] = []  # by file that was begun
        self._spans = SpanTable()
        self._texts: dict[str, str] = {}  # those that recur, each as it was first given
        self._sources: dict[Source, tuple[Source, Source]] = {}  # each as it was first given, and its domain
        self._places = array("Q")  # the places of _spans, PLACE numbers for each; 0 where it has fewer
        self._index: dict[str, dict[str, int]] = {}  # the index in _spans, by trace, by span
        self._halves: dict[SpanKey, int] = {}  # the later of two spans that share an identifier
        self._unfit: set[SpanKey] = set()  # spans that were left out
        self._left_out: list[tuple[RowPlace, LeftOut]] = []

    def begin(self, words: tuple[str, ...]) -> None:
        """Begin the next file; `words` name the parts of its places, as in "line 3, span 7"."""
        self._words.append(words)

    def keep(self, place: RowPlace, span: Span) -> None:
        """Add a span; raise `Unfit` if it ends before it starts, or its identifier is taken.

        A span that ends at 0 has not ended.
        """
        if 0 != span.end_ns < span.start_ns:
            raise Unfit(Reason.BACKWARDS, f"it starts at {span.start_ns} ns and ends at {span.end_ns} ns")
        trace, own = identity = key_of(span.trace, span.span)
        spans = self._index.get(trace)
        if spans is None:
            spans = self._index[trace] = {}
        index = spans.setdefault(own, len(self._spans))
        if index < len(self._spans):
            if {span.kind, self._spans.kinds[index]} != {SpanKind.CLIENT, SpanKind.SERVER} or identity in self._halves:
                raise Unfit(Reason.DUPLICATE, f"{self._described(self._place(index))} has it already")
            self._halves[identity] = len(self._spans)
        self._append(span, spans)
        self._places.extend((len(self._words), *place, 0)[:PLACE])

    def _append(self, span: Span, traced: Mapping[str, int]) -> None:
        """Append a span with the texts and the source of earlier spans, where they are the same.

        So each is in memory once. `traced` has the spans of its trace.
        """
        table, texts, parent = self._spans, self._texts, span.parent
        source, _ = self._sources.get(span.source) or self._sources.setdefault(
            span.source, (span.source, span.source.domain)
        )
        table.append(span)
        table.traces[-1] = texts.setdefault(span.trace, span.trace)
        table.operations[-1] = texts.setdefault(span.operation, span.operation)
        table.sources[-1] = source
        if parent is not None and (above := traced.get(parent)) is not None and table.ids[above] == parent:
            table.parent_ids[-1] = table.ids[above]

    def leave_out(self, place: RowPlace, identity: SpanKey, unfit: Unfit) -> None:
        """Record that a row is left out; `identity` is that of its span, or `UNIDENTIFIED`.

        Raises `Misshapen` where so many are that this is no trace.
        """
        self._leave_out((len(self._words), *place), identity, unfit)

    def trace(self, group: str = "") -> Trace:
        """Return the trace of all spans whose ancestors are all good, and the rows left out.

        Domains that are alike are joined as `group` says (`sources.named_in_groups`). Raises
        `Misshapen` if that is not possible. The collector is empty afterwards.
        """
        try:
            pods = named_in_groups(self._sources, group)
        except ValueError as error:
            raise Misshapen("--group", str(error)) from None
        corrections = Counter[Correction]()
        whole = self._whole_traces()
        parents, faults = self._resolve(whole, corrections)
        _add_descendants_and_cycles(parents, faults)
        for index, reason in faults.items():
            span = self._spans[index]
            detail = f"its parent is {shown(span.parent or '')}"
            self._leave_out(self._place(index), (span.trace, span.span), Unfit(reason, detail))
        self._index.clear()  # of a large trace, this is much memory
        spans = self._linked(whole, parents, pods, corrections)
        self._texts.clear()
        del self._places[:]
        order = in_order(spans, parents, [index for index in range(len(spans)) if index not in faults])
        linked = renumbered(parents, order)
        good = spans.ordered(order)
        self._spans = SpanTable()
        return Trace(
            good,
            [row for _, row in sorted(self._left_out, key=operator.itemgetter(0))],
            linked,
            working_children(good, linked),
            dict(corrections),
            *_whereabouts(good),
            frozenset(self.forms),
        )

    def _linked(
        self,
        whole: Mapping[str, str],
        parents: list[int | None],
        pods: Mapping[Source, str],
        corrections: Counter[Correction],
    ) -> SpanTable:
        """Give each span its trace's identifier, its domain and its end; return all of them.

        An identifier that recurs is one text afterwards, to save memory.
        """
        spans = self._spans
        spans.ends_ns = _ends(spans, parents, corrections)
        spans.pods = [pods[source] for source in spans.sources]
        texts: dict[str, str] = {}  # each trace's identifier as it was first given whole
        for trace in dict.fromkeys(spans.traces):
            texts.setdefault(trace.lstrip("0"), trace)
        names = {trace: texts[whole.get(key := trace.lstrip("0"), key)] for trace in set(spans.traces)}
        spans.traces = [names[trace] for trace in spans.traces]
        ids, given = spans.ids, spans.parent_ids
        for index, above in enumerate(parents):
            if above is not None and ids[above] == given[index]:
                given[index] = ids[above]
        return spans

    def _place(self, index: int) -> RowPlace:
        """Return the place of a span, without its zeros."""
        return tuple(filter(None, self._places[PLACE * index : PLACE * (index + 1)]))

    def _described(self, place: RowPlace) -> str:
        file, *numbers = place
        described = ", ".join(f"{word} {number}" for word, number in zip(self._words[file - 1], numbers, strict=False))
        return described if len(self._files) == 1 else f"{self._files[file - 1]}, {described}"

    def _leave_out(self, place: RowPlace, identity: SpanKey, unfit: Unfit) -> None:
        described = self._described(place)
        if len(self._left_out) >= (MOST_LEFT_OUT if self._spans else MOST_BEFORE_THE_FIRST):
            many = f"{len(self._left_out):,} rows before it are left out as well"
            raise Misshapen(described, f"{unfit.reason}: {unfit.detail}; {many}")
        self._left_out.append((place, LeftOut(described, *identity, unfit.reason, unfit.detail)))
        self._unfit.add(key_of(*identity))

    def _resolve(
        self, whole: Mapping[str, str], corrections: Counter[Correction]
    ) -> tuple[list[int | None], dict[int, Reason]]:
        """Return the index of each span's parent, and the spans whose parent is left out.

        What was corrected on the way is counted in `corrections`.
        """
        parents: list[int | None] = []
        faults: dict[int, Reason] = {}
        halves = {long: short for short, long in whole.items()}
        spans = self._spans
        for index, (in_trace, span, above) in enumerate(zip(spans.traces, spans.ids, spans.parent_ids, strict=True)):
            trace, own = key_of(in_trace, span)
            client = self._client_half((trace, own), index)
            if client is not None:
                corrections[Correction.SHARED_ID] += 1
                parents.append(client)
                continue
            parent = None
            if above is not None:
                identity = (trace, above.lstrip("0"))
                parent = self._called_by(identity, index)
                other = whole.get(trace) or halves.get(trace)
                if parent is None and other is not None and identity not in self._unfit:
                    parent = self._called_by((other, identity[1]), index)
                    corrections[Correction.SHORT_ID] += parent is not None
                if parent == index:
                    parent = None
                    corrections[Correction.OWN_PARENT] += 1
                elif parent is None and identity in self._unfit:
                    faults[index] = Reason.DESCENDANT
                elif parent is None:
                    corrections[Correction.NO_PARENT] += 1
            parents.append(parent)
        return parents, faults

    def _client_half(self, identity: SpanKey, index: int) -> int | None:
        """Return the client's span of the call, if this is its server's of the same id."""
        if identity not in self._halves or self._spans.kinds[index] is not SpanKind.SERVER:
            return None
        first, second = self._index[identity[0]][identity[1]], self._halves[identity]
        return first if second == index else second

    def _called_by(self, identity: SpanKey, child: int) -> int | None:
        """Return the span of an identifier: of two that share it, the one where the child ran."""
        trace, own = identity
        first, second = self._index.get(trace, {}).get(own), self._halves.get(identity)
        if first is None or second is None:
            return first
        domains, sources, kinds = self._sources, self._spans.sources, self._spans.kinds
        here = [half for half in (first, second) if domains[sources[half]][1] == domains[sources[child]][1]]
        servers = [half for half in (first, second) if kinds[half] is SpanKind.SERVER]
        return here[0] if len(here) == 1 else servers[0]

    def _whole_traces(self) -> dict[str, str]:
        """Return the trace of 128 bits that each of 64 bits is, where just one can be meant."""
        traces = self._index
        longer: dict[str, list[str]] = {}
        for trace in traces:
            if len(trace) > SHORT_DIGITS:
                longer.setdefault(trace[-SHORT_DIGITS:].lstrip("0"), []).append(trace)
        return {short: found[0] for short, found in longer.items() if short in traces and len(found) == 1}


def _whereabouts(spans: SpanTable) -> tuple[dict[str, str], dict[str, list[str]]]:
    """Return the node of each pod, or its host, that most of its spans name, and its services."""
    told = Counter(zip(spans.pods, spans.sources, strict=True))
    nodes: dict[str, Counter[str]] = {}
    services: dict[str, set[str]] = {}
    for (pod, source), count in told.items():
        if source.node or source.host:
            nodes.setdefault(pod, Counter())[source.node or source.host] += count
        if source.service:
            services.setdefault(pod, set()).add(source.service)
    best = {pod: min(found, key=lambda node: (-found[node], node)) for pod, found in nodes.items()}
    return best, {pod: sorted(found) for pod, found in services.items()}


def _ends(spans: SpanTable, parents: list[int | None], corrections: Counter[Correction]) -> "array[int]":
    """Return when each span ends; one that has not ended does so with the last of its children."""
    ends, starts = spans.ends_ns, spans.starts_ns
    pending = [index for index, (end, start) in enumerate(zip(ends, starts, strict=True)) if end < start]
    corrections.update({Correction.NOT_ENDED: len(pending)} if pending else {})
    if not pending:
        return ends
    latest = array("q", map(max, ends, starts))
    waiting = Counter(parent for parent in parents if parent is not None)  # children that are not settled yet
    settled = [index for index in range(len(starts)) if index not in waiting]
    for index in settled:  # from the leaves on: a span is settled once its children are
        parent = parents[index]
        if parent is None:
            continue
        if ends[parent] < starts[parent]:
            latest[parent] = max(latest[parent], latest[index])
        waiting[parent] -= 1
        if not waiting[parent]:
            settled.append(parent)
    return latest


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
