"""Defines a trace: its spans by column, which of them caused which, and what was left out.

A trace may have a million spans. As a tuple, a span takes some 300 bytes with the numbers in it. By
column, times take 8 bytes each, texts and sources that recur are there once, and what few spans
have is kept for those: in all some 70 bytes, and 80 for the identifier. What walks over all spans
reads columns; what looks at a few takes them as tuples.
"""

import operator
from array import array
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Final, overload

from lrpc.workloads.traces.attributes import UNTOLD, MessageSizes
from lrpc.workloads.traces.sources import Source, workload_of
from lrpc.workloads.traces.spans import Correction, LeftOut, Reason, Span, SpanKind

# The kinds of a span that can be nothing but a mark; the others are calls or messages.
MARKS: Final = (SpanKind.UNSAID, SpanKind.INTERNAL, SpanKind.SERVER)


class SpanTable(Sequence[Span]):
    """Spans by column: each is a field of spans, by their index; where few have one, of those."""

    def __init__(self, spans: Iterable[Span] = ()) -> None:
        """Begin with these spans."""
        self.traces: list[str] = []
        self.ids: list[str] = []
        self.parent_ids: list[str | None] = []
        self.pods: list[str] = []
        self.operations: list[str] = []
        self.starts_ns = array("q")
        self.ends_ns = array("q")
        self.kinds: list[SpanKind] = []
        self.sources: list[Source] = []
        self.follows: set[int] = set()
        self.peers: dict[int, str] = {}
        self.sizes: dict[int, MessageSizes] = {}
        for span in spans:
            self.append(span)

    def append(self, span: Span) -> None:
        """Add a span at the end."""
        index = len(self.ids)
        trace, own, parent, pod, operation, start_ns, end_ns, kind, follows, source, peer, sizes = span
        self.traces.append(trace)
        self.ids.append(own)
        self.parent_ids.append(parent)
        self.pods.append(pod)
        self.operations.append(operation)
        self.starts_ns.append(start_ns)
        self.ends_ns.append(end_ns)
        self.kinds.append(kind)
        self.sources.append(source)
        if follows:
            self.follows.add(index)
        if peer:
            self.peers[index] = peer
        if sizes is not UNTOLD:
            self.sizes[index] = sizes

    def moved(self, by_ns: Sequence[int]) -> "SpanTable":
        """Return the table of these spans, each moved in time by so many nanoseconds."""
        found = copy(self)
        found.starts_ns, found.ends_ns = (
            array("q", map(operator.add, times, by_ns)) for times in (self.starts_ns, self.ends_ns)
        )
        return found

    def ordered(self, order: Sequence[int]) -> "SpanTable":
        """Return a table of the spans with these indices, in this order."""
        found = SpanTable()
        found.traces = [self.traces[index] for index in order]
        found.ids = [self.ids[index] for index in order]
        found.parent_ids = [self.parent_ids[index] for index in order]
        found.pods = [self.pods[index] for index in order]
        found.operations = [self.operations[index] for index in order]
        found.starts_ns = array("q", [self.starts_ns[index] for index in order])
        found.ends_ns = array("q", [self.ends_ns[index] for index in order])
        found.kinds = [self.kinds[index] for index in order]
        found.sources = [self.sources[index] for index in order]
        if self.follows:
            found.follows = {at for at, index in enumerate(order) if index in self.follows}
        if self.peers:
            found.peers = {at: self.peers[index] for at, index in enumerate(order) if index in self.peers}
        if self.sizes:
            found.sizes = {at: self.sizes[index] for at, index in enumerate(order) if index in self.sizes}
        return found

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Span: ...

    @overload
    def __getitem__(self, index: slice) -> list[Span]: ...

    def __getitem__(self, index: int | slice) -> Span | list[Span]:
        """Return the span with this index, counted from 0, or those of a slice."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return Span(
            self.traces[index],
            self.ids[index],
            self.parent_ids[index],
            self.pods[index],
            self.operations[index],
            self.starts_ns[index],
            self.ends_ns[index],
            self.kinds[index],
            index in self.follows,
            self.sources[index],
            self.peers.get(index, ""),
            self.sizes.get(index, UNTOLD),
        )

    def __iter__(self) -> Iterator[Span]:
        """Yield the spans in order."""
        return (self[index] for index in range(len(self)))

    def __eq__(self, other: object) -> bool:
        """Return whether the spans are equal, in order, to another table's or a list's."""
        if not isinstance(other, SpanTable | list):
            return NotImplemented
        return len(self) == len(other) and all(one == another for one, another in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # a table can change


@dataclass(frozen=True, slots=True)
class Trace:
    """The good spans, ordered by begin (`order`), and the left-out rows, in file order.

    A span is named by its index in `spans`. `parents[i]` is the index of span i's parent, None for
    the first span of a trace. `children[i]` are the indices of its children, in ascending order,
    without those that are nothing but a mark (`working_children`).
    """

    spans: SpanTable
    left_out: list[LeftOut]
    parents: list[int | None]
    children: "Children"
    corrections: Mapping[Correction, int] = field(default_factory=dict)  # how many spans each was made to
    nodes: Mapping[str, str] = field(default_factory=dict)  # by pod: its node or host, where one is told
    services: Mapping[str, Sequence[str]] = field(default_factory=dict)  # by pod: its services, sorted
    forms: frozenset[str] = frozenset()  # the forms in which it was written

    @property
    def roots(self) -> list[int]:
        """Return the indices of the spans without a parent."""
        return [index for index, parent in enumerate(self.parents) if parent is None]

    @property
    def pods(self) -> list[str]:
        """Return the names of the pods that have a good span, sorted."""
        return sorted(set(self.spans.pods))

    @property
    def traces(self) -> list[str]:
        """Return the identifiers of the traces that have a good span, sorted."""
        return sorted(set(self.spans.traces))

    def service_of(self, pod: str) -> str:
        """Return the service of a pod that has just one, else its name without its replica's."""
        services = self.services.get(pod, ())
        return services[0] if len(services) == 1 else workload_of(pod)

    @property
    def reasons(self) -> Counter[Reason]:
        """Return how many rows were left out for each reason."""
        return Counter(row.reason for row in self.left_out)

    def is_call(self, index: int) -> bool:
        """Return whether the span is the server's side of a call: its parent ran in another pod."""
        parent = self.parents[index]
        return parent is not None and self.spans.pods[parent] != self.spans.pods[index]

    def calls(self) -> list[int]:
        """Return the indices of the spans whose parent ran in another pod."""
        return [index for index in range(len(self.spans)) if self.is_call(index)]

    def outliving(self) -> list[int]:
        """Return the indices of the spans that end after their parent."""
        ends_ns = self.spans.ends_ns
        return [index for index, parent in self._with_parents() if ends_ns[index] > ends_ns[parent]]

    def starting_early(self) -> list[int]:
        """Return the indices of the spans that start before their parent, by clocks that differ."""
        starts_ns = self.spans.starts_ns
        return [index for index, parent in self._with_parents() if starts_ns[index] < starts_ns[parent]]

    def marks(self) -> int:
        """Return how many spans are nothing but a mark within their parents."""
        return sum(parent is not None for parent in self.parents) - self.children.total

    def _with_parents(self) -> Iterator[tuple[int, int]]:
        return ((index, parent) for index, parent in enumerate(self.parents) if parent is not None)


def renumbered(parents: Sequence[int | None], order: Sequence[int]) -> list[int | None]:
    """Return the parents of the spans in `order`, by place there; None for one without."""
    new: list[int | None] = [None] * len(parents)
    for at, index in enumerate(order):
        new[index] = at
    return [None if (parent := parents[index]) is None else new[parent] for index in order]


def working_children(spans: SpanTable, parents: Sequence[int | None]) -> "Children":
    """Return the children of spans without those that are marks.

    A mark has no length, called nothing, and ran where its parent did: whether it was recorded
    makes no difference to what a trace did. A client's span is none: it is a call.
    """
    counts = [0] * len(parents)  # of children that are no marks, as far as is known
    for parent in parents:
        if parent is not None:
            counts[parent] += 1
    starts_ns, ends_ns, pods, kinds = spans.starts_ns, spans.ends_ns, spans.pods, spans.kinds
    kept = list(parents)
    marks = [
        index
        for index, parent in enumerate(parents)
        if parent is not None
        and starts_ns[index] == ends_ns[index]
        and pods[index] == pods[parent]
        and kinds[index] in MARKS
    ]
    pending = [index for index in marks if not counts[index]]
    left = set(marks)
    for index in pending:
        kept[index] = None
        above = parents[index]
        assert above is not None
        counts[above] -= 1
        if not counts[above] and above in left:
            pending.append(above)
    return Children(kept)


class Children(Sequence[Sequence[int]]):
    """The indices of each span's children, in ascending order, from those of parents."""

    def __init__(self, parents: Sequence[int | None]) -> None:
        """Count the children of each span, then put each child at its place behind its parent's."""
        counts = array("I", bytes(4 * (len(parents) + 1)))  # of the children of the span before
        for parent in parents:
            if parent is not None:
                counts[parent + 1] += 1
        self._ends = array("I", accumulate(counts))
        self._all = array("I", bytes(4 * self._ends[-1]))
        places = self._ends[:]
        for index, parent in enumerate(parents):
            if parent is not None:
                self._all[places[parent]] = index
                places[parent] += 1

    def __len__(self) -> int:
        """Return the number of spans."""
        return len(self._ends) - 1

    @property
    def total(self) -> int:
        """Return the number of children of all spans."""
        return len(self._all)

    @overload
    def __getitem__(self, index: int) -> Sequence[int]: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Sequence[int]]: ...

    def __getitem__(self, index: int | slice) -> Sequence[int] | Sequence[Sequence[int]]:
        """Return the children of the span with this index, counted from 0, or those of a slice."""
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        return self._all[self._ends[index] : self._ends[index + 1]]

    def __eq__(self, other: object) -> bool:
        """Return whether another's spans have the same children."""
        if not isinstance(other, Children):
            return NotImplemented
        return (self._ends, self._all) == (other._ends, other._all)

    __hash__ = None  # type: ignore[assignment]  # it is as large as its trace
