"""Says when pods computed, as recorded: how much in each interval of a trace.

What a machine must be able to do at a time is not what its pods do in sum: it is the computation in
the busiest interval. A span computes where no child of its own runs; a client's waits.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.traces.spans import SpanKind, Trace

Interval = int  # its number, counted from the first begin of a trace


def busy(trace: Trace, activity: Activity, interval_ns: int) -> dict[Interval, Counter[str]]:
    """Return by interval the computation of each pod, in ns; intervals without any are absent."""
    origin = min(span.start_ns for span in trace.spans)
    found: dict[Interval, Counter[str]] = defaultdict(Counter)
    for index, span in enumerate(trace.spans):
        if index in activity.calls or span.kind is SpanKind.CLIENT:
            continue
        for begin, end in _own(trace, index):
            at = (begin - origin) // interval_ns
            while begin < end:
                until = min(end, origin + (at + 1) * interval_ns)
                found[at][span.pod] += until - begin
                begin, at = until, at + 1
    return dict(found)


def undominated(busy_in: Mapping[Interval, Counter[str]], most: int) -> list[Counter[str]]:
    """Return up to `most` intervals in which pods are busy, those with most computation first.

    None is below another of them for every pod.
    """
    kept: list[Counter[str]] = []
    for one in sorted(busy_in.values(), key=lambda one: -one.total()):
        if len(kept) == most:
            break
        if not any(one <= other for other in kept):
            kept.append(one)
    return kept


def _own(trace: Trace, index: int) -> Iterator[tuple[int, int]]:
    """Yield when a span runs and none of its children does."""
    span = trace.spans[index]
    now = span.start_ns
    for child in trace.children[index]:
        other = trace.spans[child]
        if other.start_ns > now:
            yield now, min(other.start_ns, span.end_ns)
        now = max(now, other.end_ns)
        if now >= span.end_ns:
            return
    if now < span.end_ns:
        yield now, span.end_ns
