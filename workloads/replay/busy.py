"""Says when pods computed, as recorded: how much in each interval of a trace.

What a machine must be able to do at a time is not what its pods do in sum: it is the computation in
the busiest interval. A span computes where no child of its own runs; a client's waits.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping

from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.traces.spans import SpanKind
from lrpc.workloads.traces.trace import Trace

Interval = int  # its number, counted from the first begin of a trace


def busy(trace: Trace, activity: Activity, interval_ns: int) -> dict[Interval, Counter[str]]:
    """Return by interval the computation of each pod, in ns; intervals without any are absent."""
    pods, kinds = trace.spans.pods, trace.spans.kinds
    origin = min(trace.spans.starts_ns)
    found: dict[Interval, Counter[str]] = defaultdict(Counter)
    for index, pod in enumerate(pods):
        if index in activity.calls or kinds[index] is SpanKind.CLIENT:
            continue
        for begin, end in _own(trace, index):
            at = (begin - origin) // interval_ns
            while begin < end:
                until = min(end, origin + (at + 1) * interval_ns)
                found[at][pod] += until - begin
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
    starts_ns, ends_ns = trace.spans.starts_ns, trace.spans.ends_ns
    now, end = starts_ns[index], ends_ns[index]
    for child in trace.children[index]:
        if starts_ns[child] > now:
            yield now, min(starts_ns[child], end)
        now = max(now, ends_ns[child])
        if now >= end:
            return
    if now < end:
        yield now, end
