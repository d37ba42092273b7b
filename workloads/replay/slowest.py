"""The slowest traces of a replay, span by span, for a picture of each."""

from collections.abc import Iterator, Mapping, Sequence
from heapq import nlargest
from typing import Final

from lrpc.workloads.records.tables import SLOWEST, Table, TableValue
from lrpc.workloads.traces.trace import Trace

MOST_TRACES: Final = 3
MOST_SPANS: Final = 40  # of a trace: the longest


def slowest_table(trace: Trace, placement: Mapping[str, int], simulated_ns: Mapping[int, int]) -> Table:
    """Return the spans of the traces that took longest in the replay, the slowest trace first.

    `simulated_ns` has the simulated time of each first span. Each row has what the call that made
    the span crosses, and when it began and how long it took as recorded, in microseconds.
    """
    rows: list[Sequence[TableValue]] = []
    for root in nlargest(MOST_TRACES, simulated_ns, key=lambda one: (simulated_ns[one], -one)):
        spans = list(_below(trace, root))
        took_ns = [trace.spans.ends_ns[span] - trace.spans.starts_ns[span] for span, _ in spans]
        kept = set(sorted(range(len(spans)), key=lambda at: -took_ns[at])[:MOST_SPANS])
        began_ns = trace.spans.starts_ns[root]
        for at, (span, depth) in enumerate(spans):
            if at in kept:
                rows.append(
                    (
                        trace.spans.traces[root],
                        simulated_ns[root] / 1000,
                        len(spans),
                        trace.spans.pods[span],
                        trace.spans.operations[span],
                        depth,
                        _crosses(trace, placement, span),
                        (trace.spans.starts_ns[span] - began_ns) / 1000,
                        took_ns[at] / 1000,
                    )
                )
    columns = ("trace", "simulated_us", "spans", "domain", "operation", "depth", "crosses", "begins_us", "takes_us")
    return Table(SLOWEST, "The slowest traces, span by span, as recorded", columns, rows)


def _below(trace: Trace, root: int) -> Iterator[tuple[int, int]]:
    """Yield a span and all below it, each with its depth, parents first, in order of time."""
    left = [(root, 0)]
    while left:
        span, depth = left.pop()
        yield span, depth
        left += [(child, depth + 1) for child in reversed(trace.children[span])]


def _crosses(trace: Trace, placement: Mapping[str, int], span: int) -> str:
    """Return what lies between a span and its parent, as a record counts; nothing for the first."""
    parent = trace.parents[span]
    if parent is None:
        return ""
    here, there = trace.spans.pods[parent], trace.spans.pods[span]
    if here == there:
        return "within_domain"
    return "cross_domain" if placement[here] == placement[there] else "cross_machine"
