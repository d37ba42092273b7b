"""What each span of a trace did itself, and which others it caused when: a trace made ready to be done again."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lrpc.kernel.errors import Refused
from lrpc.workloads.traces.spans import Trace

MOST_NESTED: Final = 64  # spans inside each other; a simulated thread has a stack of its own for each domain


@dataclass(frozen=True, slots=True)
class Compute:
    """Occupy a processor for `ns` nanoseconds."""

    ns: int


@dataclass(frozen=True, slots=True)
class Wait:
    """Let `ns` nanoseconds pass without a processor."""

    ns: int


@dataclass(frozen=True, slots=True)
class Do:
    """Do another span, and wait for it."""

    span: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a thread that does other steps, `after_ns` from now; a `Join` waits for it if it is `joined`."""

    after_ns: int
    steps: "Steps"
    joined: bool


@dataclass(frozen=True, slots=True)
class Join:
    """Wait for the joined threads that were forked since the last time."""


Steps = tuple[Compute | Wait | Do | Fork | Join, ...]


@dataclass(frozen=True)
class Activity:
    """A trace as steps. Spans are named by their index in the trace."""

    steps: Mapping[int, Steps]  # for every span but a call's client side, whose only step is its server's span
    calls: Mapping[int, int]  # a call's client span, and its server's
    pods: tuple[str, ...]  # the pod of each span
    roots: Mapping[str, tuple[tuple[int, int], ...]]  # by pod: when its first spans begin, in ns, and their indices
    recorded_ns: tuple[int, ...]  # how long each span was recorded to take


def activity(trace: Trace, origin: str) -> Activity:
    """Return what a trace's spans did; `Refused` where spans nest too deep to be done again.

    A span whose only child ran in another pod is the client's side of one call, unless it is itself a server's:
    what it spent beyond its child was the network's. Of any other, the time outside its children was computation.
    Children that overlap run as threads, each at its recorded offset; one that outlives its parent is not waited for;
    one that began before its parent begins with it. A server that went on after its client had the reply goes on in a
    thread.
    """
    _check_depth(trace, origin)
    spans = trace.spans
    calls = {client: children[0] for client, children in enumerate(trace.children) if _is_client(trace, client)}
    replied = {server: spans[client].end_ns for client, server in calls.items()}
    steps = {
        index: _Span(trace, index, min(span.end_ns, replied.get(index, span.end_ns))).steps()
        for index, span in enumerate(spans)
        if index not in calls
    }
    origin_ns = min(spans[root].start_ns for root in trace.roots)
    roots: dict[str, list[tuple[int, int]]] = {}
    for root in trace.roots:
        roots.setdefault(spans[root].pod, []).append((spans[root].start_ns - origin_ns, root))
    return Activity(
        steps,
        calls,
        tuple(span.pod for span in spans),
        {pod: tuple(sorted(begins)) for pod, begins in roots.items()},
        tuple(span.end_ns - span.start_ns for span in spans),
    )


def computation(done: Activity) -> Counter[str]:
    """Return how long the spans of each pod occupied a processor, in ns."""
    found = Counter[str](dict.fromkeys(done.pods, 0))
    pending = [(done.pods[span], steps) for span, steps in done.steps.items()]
    for pod, steps in pending:
        for step in steps:
            if isinstance(step, Compute):
                found[pod] += step.ns
            elif isinstance(step, Fork):
                pending.append((pod, step.steps))
    return found


class _Span:
    """One span, cut at the time when its caller had the reply."""

    def __init__(self, trace: Trace, index: int, replied_ns: int) -> None:
        self._trace = trace
        self._span = trace.spans[index]
        self._replied_ns = max(replied_ns, self._span.start_ns)
        self._children = trace.children[index]

    def steps(self) -> Steps:
        """Return what the span does, and as the last step what it does after the reply."""
        before = [child for child in self._children if self._begin(child) < self._replied_ns]
        after = [child for child in self._children if self._begin(child) >= self._replied_ns]
        if self._replied_ns == self._span.end_ns:
            return self._between(self._span.start_ns, self._span.end_ns, self._children)
        tail = Fork(0, self._tail(before, after), joined=False)
        return (*self._between(self._span.start_ns, self._replied_ns, before), tail)

    def _tail(self, before: list[int], after: list[int]) -> Steps:
        """Return the steps after the reply: no computation while a child runs, though it is not waited for."""
        end = self._span.end_ns
        reached = [self._replied_ns, *(self._trace.spans[child].end_ns for child in before)]
        covered = min(end, max(reached))
        steps: list[Compute | Do | Fork | Join | Wait] = []
        rest = []
        for child in after:
            if self._begin(child) < covered:
                steps.append(Fork(self._begin(child) - self._replied_ns, (Do(child),), joined=False))
                covered = min(end, max(covered, self._trace.spans[child].end_ns))
            else:
                rest.append(child)
        if covered > self._replied_ns:
            steps.append(Wait(covered - self._replied_ns))
        return (*steps, *self._between(covered, end, rest))

    def _between(self, begin: int, end: int, children: list[int]) -> Steps:
        """Return the steps from `begin` to `end`: children in groups that overlap, computation between them."""
        steps: list[Compute | Do | Fork | Join] = []
        now = begin
        for group in self._groups(children):
            first = self._begin(group[0])
            if first > now:
                steps.append(Compute(first - now))
            steps += self._group(group, first, end)
            now = max(now, min(end, max(self._trace.spans[child].end_ns for child in group)))
        if end > now:
            steps.append(Compute(end - now))
        return tuple(steps)

    def _group(self, group: list[int], first: int, end: int) -> list[Compute | Do | Fork | Join]:
        spans = self._trace.spans
        if len(group) == 1 and spans[group[0]].end_ns <= end:
            return [Do(group[0])]
        forks: list[Compute | Do | Fork | Join] = [
            Fork(self._begin(child) - first, (Do(child),), joined=spans[child].end_ns <= end) for child in group
        ]
        return [*forks, Join()]

    def _groups(self, children: list[int]) -> list[list[int]]:
        groups: list[list[int]] = []
        reach = -1
        for child in children:
            if groups and self._begin(child) < reach:
                groups[-1].append(child)
            else:
                groups.append([child])
            reach = max(reach, self._trace.spans[child].end_ns)
        return groups

    def _begin(self, child: int) -> int:
        return max(self._trace.spans[child].start_ns, self._span.start_ns)


def _is_client(trace: Trace, index: int) -> bool:
    children = trace.children[index]
    return len(children) == 1 and trace.is_call(children[0]) and not trace.is_call(index)


def _check_depth(trace: Trace, origin: str) -> None:
    depth = [1] * len(trace.spans)
    reached = list(trace.roots)
    for index in reached:
        for child in trace.children[index]:
            depth[child] = depth[index] + 1
            if depth[child] > MOST_NESTED:
                span = trace.spans[child]
                raise Refused(
                    f"{origin}: trace {span.trace}: span {span.span} has {MOST_NESTED} others around it; "
                    "leave that trace out"
                )
            reached.append(child)
