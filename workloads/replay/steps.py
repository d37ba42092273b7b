"""Turns the spans of a trace into steps that a replay performs: computation, calls and waiting.

A trace records when spans began and ended, and which span caused which. What a span did in between
follows from its children:

- Where a call has two views (`calls.paired`), the client's time beyond the server's was the
  network's, and the replay charges a call instead. A call without a client's span has no such time:
  all that its caller spends outside of the server's span is the caller's own.
- For every other span, the time outside its children was computation (`Compute`), or waiting if it
  is a client's (`Wait`). A child is another span to perform and to wait for (`Do`).
- A client's span whose call has no other view (`calls.outside`) called what is not traced. That
  stands outside of all machines: the call takes as long as recorded, wherever its caller is placed.
- Children that overlap run as threads, each at its recorded offset (`Fork`), and the span waits for
  them where the last of them ended (`Join`).
- A child that ends after its parent was waited for until then, unless it is asynchronous
  (`calls.asynchronous`): that one runs beside its parent. One that began before its parent, or
  after it though it was waited for, by clocks that differ, begins with it, or at its end, and takes
  as long as recorded.
- An asynchronous server, which continued after its client had the reply, does the rest in a thread
  of its own.

A span that lasts as long as a call beside it computes all that time, though it may have waited for
the call: a trace does not tell the two apart.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lrpc.kernel.collector import collector_paused
from lrpc.workloads.replay.tape import Compute, Do, Fork, Join, Steps, StepTape, Wait
from lrpc.workloads.traces.calls import asynchronous, outside, paired
from lrpc.workloads.traces.spans import SpanKind
from lrpc.workloads.traces.trace import Trace


@dataclass(frozen=True)
class Activity:
    """A trace as steps; spans are named by their index in the trace."""

    # The steps of every span, except client sides of calls, which only call the server's span.
    steps: StepTape
    calls: Mapping[int, int]  # from the client's span of each call to the server's span
    outside: Mapping[int, str]  # from the client's span of each call to what is not traced, to its name
    pods: Sequence[str]  # the pod of each span
    # By pod: the first spans of traces, as (begin in ns since the first of all, index), in order.
    roots: Mapping[str, tuple[tuple[int, int], ...]]
    recorded_ns: Mapping[int, int]  # the recorded duration of each first span
    computed_ns: Mapping[str, int]  # how long the spans of each pod compute in all
    waited_ns: int  # how long all spans wait for what is not traced
    # By server's span, what its caller waits before the call, in ns, where `gaps` charges more than
    # the mechanism does.
    extra_ns: Mapping[int, int] = field(default_factory=dict)


@collector_paused(without_cycles=True)
def activity(trace: Trace) -> Activity:
    """Return the steps of a trace's spans, by the rules in this module's docstring."""
    spans = trace.spans
    starts_ns, ends_ns, pods, kinds = spans.starts_ns, spans.ends_ns, spans.pods, spans.kinds
    calls = paired(trace)
    replied = {server: ends_ns[client] for client, server in calls.items() if asynchronous(trace, server)}
    tape = StepTape()
    computed_ns = Counter[str](dict.fromkeys(pods, 0))
    waited_ns = 0
    for index, end_ns in enumerate(ends_ns):
        if index in calls:
            tape.skip()
            continue
        if index not in replied and kinds[index] is not SpanKind.CLIENT and not trace.children[index]:
            ns = end_ns - starts_ns[index]  # as most spans do, it computes all the time
            computed_ns[pods[index]] += ns
            tape.add((Compute(ns),) if ns else ())
            continue
        steps = _Span(trace, index, min(end_ns, replied.get(index, end_ns))).steps()
        computed_ns[pods[index]] += _total(Compute, steps)
        waited_ns += _total(Wait, steps)
        tape.add(steps)
    origin_ns = min(starts_ns[root] for root in trace.roots)
    roots: dict[str, list[tuple[int, int]]] = {}
    for root in trace.roots:
        roots.setdefault(pods[root], []).append((starts_ns[root] - origin_ns, root))
    return Activity(
        tape,
        calls,
        outside(trace),
        pods,
        {pod: tuple(sorted(begins)) for pod, begins in roots.items()},
        {root: ends_ns[root] - starts_ns[root] for root in trace.roots},
        computed_ns,
        waited_ns,
    )


def _total(what: type[Compute | Wait], steps: Steps) -> int:
    """Return how long steps compute, or wait, those of their threads included, in ns."""
    found = 0
    for step in steps:
        if isinstance(step, what):
            found += step.ns
        elif isinstance(step, Fork):
            found += _total(what, step.steps)
    return found


class _Span:
    """One span, split at the time when its caller had the reply."""

    def __init__(self, trace: Trace, index: int, replied_ns: int) -> None:
        self._trace = trace
        self._starts_ns, self._ends_ns = trace.spans.starts_ns, trace.spans.ends_ns
        self._start_ns, self._end_ns = self._starts_ns[index], self._ends_ns[index]
        self._replied_ns = max(replied_ns, self._start_ns)
        late = [child for child in trace.children[index] if self._is_late(child)]
        self._children = [child for child in trace.children[index] if child not in late]
        self._late = late  # what began at or after the span's end
        self._own = Wait if trace.spans.kinds[index] is SpanKind.CLIENT else Compute

    def steps(self) -> Steps:
        """Return the span's steps; what is done after the reply or the end are threads."""
        reply, end = self._replied_ns, self._end_ns
        late = [Fork(self._begin(child) - end, (Do(child),), joined=False) for child in self._late]
        if reply == end:
            return (*self._between(self._start_ns, end, self._children), *late)
        before = [child for child in self._children if self._begin(child) < reply]
        after = [child for child in self._children if self._begin(child) >= reply]
        tail = Fork(0, (*self._tail(before, after), *late), joined=False)
        return (*self._between(self._start_ns, reply, before), tail)

    def _is_late(self, child: int) -> bool:
        return self._begin(child) >= self._end_ns and asynchronous(self._trace, child)

    def _is_joined(self, child: int, end: int) -> bool:
        """Return whether the span waits for a child, in the part of it that ends at `end`."""
        if self._ends_ns[child] <= end:
            return child not in self._trace.spans.follows
        return end == self._end_ns and not asynchronous(self._trace, child)

    def _tail(self, before: list[int], after: list[int]) -> Steps:
        """Return the steps after the reply.

        While a child runs, the span does not compute, although it does not wait for the child.
        """
        end = self._end_ns
        reached = [self._replied_ns, *(self._ends_ns[child] for child in before)]
        covered = min(end, max(reached))
        steps: list[Compute | Do | Fork | Join | Wait] = []
        rest = []
        for child in after:
            if self._begin(child) < covered:
                steps.append(Fork(self._begin(child) - self._replied_ns, (Do(child),), joined=False))
                covered = min(end, max(covered, self._ends_ns[child]))
            else:
                rest.append(child)
        if covered > self._replied_ns:
            steps.append(Wait(covered - self._replied_ns))
        return (*steps, *self._between(covered, end, rest))

    def _between(self, begin: int, end: int, children: list[int]) -> Steps:
        """Return the steps from `begin` to `end`: groups of overlapping children, computation."""
        steps: list[Compute | Do | Fork | Join | Wait] = []
        now = begin
        for group in self._groups(children):
            first = self._begin(group[0])
            if first > now:
                steps.append(self._own(first - now))
            steps += self._group(group, first, end)
            now = max(now, min(end, max(self._ends_ns[child] for child in group)))
        if end > now:
            steps.append(self._own(end - now))
        return tuple(steps)

    def _group(self, group: list[int], first: int, end: int) -> list[Compute | Do | Fork | Join]:
        if len(group) == 1 and self._is_joined(group[0], end):
            return [Do(group[0])]
        forks: list[Compute | Do | Fork | Join] = [
            Fork(self._begin(child) - first, (Do(child),), joined=self._is_joined(child, end)) for child in group
        ]
        return [*forks, Join()]

    def _groups(self, children: list[int]) -> list[list[int]]:
        """Divide the children, which are in order of start, into groups that overlap in time."""
        groups: list[list[int]] = []
        reach = -1
        for child in children:
            if groups and self._begin(child) < reach:
                groups[-1].append(child)
            else:
                groups.append([child])
            reach = max(reach, self._ends_ns[child])
        return groups

    def _begin(self, child: int) -> int:
        """Return when a child begins in the replay: not before this span does.

        One that was waited for begins at the span's end at the latest, whatever its clock says.
        """
        begin = max(self._starts_ns[child], self._start_ns)
        return begin if begin <= self._end_ns or asynchronous(self._trace, child) else self._end_ns
