"""Corrects the times of spans that were taken by clocks which differ.

A client waits for its server, so the server's span of a call lies within the client's. Where it
does not, one of two clocks is ahead. Each call bounds the difference between two clocks from both
sides; together they leave an interval. If it holds 0 the clocks agree, as far as a trace can tell.
Else the difference is taken from its middle, as if messages took equally long both ways. Calls that
contradict each other, since a clock was set meanwhile, give the median of what each says, if most
of them do not allow 0.

A clock is that of a node or host, or of a domain where neither is named. So spans of one host are
never moved against each other. A server's span that is longer than its client's tells nothing: it
went on after its reply.
"""

import operator
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from statistics import median_low
from typing import Final

from lrpc.workloads.traces.calls import paired
from lrpc.workloads.traces.order import in_order
from lrpc.workloads.traces.sources import Source
from lrpc.workloads.traces.spans import MAX_TIME, Correction
from lrpc.workloads.traces.trace import Trace, renumbered, working_children

Bounds = tuple[int, int]  # the least and most, in ns, that a clock may be behind another
ClockPair = tuple[Source, Source]  # two clocks, the lesser first
AGREE: Final = 2  # one in so many calls must allow two clocks to agree, for them to do so


def corrected(trace: Trace) -> Trace:
    """Return a trace with all times as of one clock, ordered again; itself if clocks agree.

    So it is too if the times of one clock would be further apart than a clock of 64 bits tells.
    """
    spans = trace.spans
    clocks = {source: source.clock for source in set(spans.sources)}
    found = _behind(trace, clocks)
    behind = {source: found.get(clock, 0) for source, clock in clocks.items()}
    if not any(behind.values()):
        return trace
    by = [behind[source] for source in spans.sources]
    lowest, highest = min(map(operator.add, spans.starts_ns, by)), max(map(operator.add, spans.ends_ns, by))
    if highest - lowest > MAX_TIME:
        return trace
    shift = max(0, -lowest) - max(0, highest - MAX_TIME)  # no time may be before 1970, or after the last
    spans = spans.moved([ns + shift for ns in by])
    order = in_order(spans, trace.parents, range(len(spans)))
    parents = renumbered(trace.parents, order)
    spans = spans.ordered(order)
    corrections = {**trace.corrections, Correction.CLOCK: sum(map(bool, by))}
    return replace(
        trace,
        spans=spans,
        parents=parents,
        children=working_children(spans, parents),
        corrections=corrections,
    )


def _behind(trace: Trace, clocks: Mapping[Source, Source]) -> dict[Source, int]:
    """Return how far each clock is behind that of the first callers, in ns.

    `clocks` has the clock of each source.
    """
    neighbours: dict[Source, list[tuple[Source, int]]] = defaultdict(list)
    for (one, other), bounds in _bounds(trace, clocks).items():
        difference = _difference(bounds)
        neighbours[one].append((other, difference))
        neighbours[other].append((one, -difference))
    behind: dict[Source, int] = {}
    callers = dict.fromkeys(clocks[trace.spans.sources[root]] for root in trace.roots)
    for first in (*callers, *neighbours):
        if first in behind:
            continue
        behind[first] = 0
        reached = [first]
        for clock in reached:
            for other, difference in neighbours.get(clock, ()):
                if other not in behind:
                    behind[other] = behind[clock] + difference
                    reached.append(other)
    return behind


def _bounds(trace: Trace, clocks: Mapping[Source, Source]) -> dict[ClockPair, list[Bounds]]:
    """Return by two clocks what each call says of how far the second is behind the first."""
    found: dict[ClockPair, list[Bounds]] = defaultdict(list)
    starts_ns, ends_ns, sources = trace.spans.starts_ns, trace.spans.ends_ns, trace.spans.sources
    for client, server in paired(trace).items():
        least, most = starts_ns[client] - starts_ns[server], ends_ns[client] - ends_ns[server]
        one, other = clocks[sources[client]], clocks[sources[server]]
        if one == other or least > most:
            continue
        if one < other:
            found[one, other].append((least, most))
        else:
            found[other, one].append((-most, -least))
    return found


def _difference(bounds: list[Bounds]) -> int:
    least, most = max(low for low, _ in bounds), min(high for _, high in bounds)
    if least <= most:
        return 0 if least <= 0 <= most else (least + most) // 2
    if AGREE * sum(low <= 0 <= high for low, high in bounds) >= len(bounds):
        return 0
    return median_low((low + high) // 2 for low, high in bounds)
