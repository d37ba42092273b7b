"""Puts the spans of a trace in an order that its identifiers and its files have no part in.

Spans are in order of their beginnings. Where several begin together, as in traces whose clocks tell
milliseconds, a replay's result can depend on which is first: two that call one server, say. So
these are put in order of what they are: callers first, then by end, domain, operation and so on. If
that is the same, the spans below and above them decide. If those are the same too, so is the result
in either order.
"""

from collections.abc import Sequence
from hashlib import blake2b
from itertools import groupby

from lrpc.workloads.traces.trace import SpanTable

Content = tuple[int, str, str, str, bool, str, str]  # what a span is, without its identifiers
Shape = bytes  # a digest of a span with all that is below it


def in_order(spans: SpanTable, parents: Sequence[int | None], indices: Sequence[int]) -> list[int]:
    """Return indices of spans by begin, and where spans begin together by what they are."""
    starts_ns = spans.starts_ns
    found: list[int] = []
    shapes: Shapes | None = None
    for _, group in groupby(sorted(indices, key=starts_ns.__getitem__), key=starts_ns.__getitem__):
        together = list(group)
        if len(together) > 1:
            contents = {index: (len(upwards(parents, index)), content(spans, index)) for index in together}
            together.sort(key=contents.__getitem__)
            if len(set(contents.values())) < len(together):
                shapes = shapes or Shapes(spans, parents)
                together = [
                    index
                    for _, same in groupby(together, key=contents.__getitem__)
                    for index in shapes.in_order(list(same))
                ]
        found += together
    return found


def content(spans: SpanTable, index: int) -> Content:
    """Return what a span is, without its identifiers and its begin."""
    return (
        spans.ends_ns[index],
        spans.pods[index],
        spans.operations[index],
        spans.kinds[index],
        index in spans.follows,
        spans.peers.get(index, ""),
        repr(spans.sizes.get(index)),
    )


def upwards(parents: Sequence[int | None], index: int) -> list[int]:
    """Return a span and its callers, up to the first; each once, if they call in a cycle."""
    found = {index: None}
    parent = parents[index]
    while parent is not None and parent not in found:
        found[parent] = None
        parent = parents[parent]
    return list(found)


class Shapes:
    """The shapes of a trace's spans, worked out where they are asked for.

    Two spans with one shape, whose callers up to the first have one shape each, can change places:
    the trace stays what it is.
    """

    def __init__(self, spans: SpanTable, parents: Sequence[int | None]) -> None:
        """Find the children of each span."""
        self._spans = spans
        self._parents = parents
        self._children: dict[int, list[int]] = {}
        for index, parent in enumerate(parents):
            if parent is not None:
                self._children.setdefault(parent, []).append(index)
        self._known: dict[int, Shape] = {}

    def in_order(self, same: list[int]) -> list[int]:
        """Return spans of one content in order of their shapes, and of those of their callers."""
        if len(same) > 1:
            same.sort(
                key=lambda index: ([self._shape(one) for one in upwards(self._parents, index)], self._spans.ids[index])
            )
        return same

    def _shape(self, top: int) -> Shape:
        """Return the shape of a span: without recursion, since a chain may be deep."""
        below = [top]
        for index in below:
            below += [child for child in self._children.get(index, ()) if child not in self._known]
        for index in reversed(below):
            if index not in self._known:
                digest = blake2b(repr((self._spans.starts_ns[index], content(self._spans, index))).encode())
                for shape in sorted(self._known[child] for child in self._children.get(index, ())):
                    digest.update(shape)
                self._known[index] = digest.digest()
        return self._known[top]
