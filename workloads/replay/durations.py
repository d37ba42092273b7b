"""Works out how long spans take with a processor for every thread, and what their time goes to.

The time of a span follows from a recursion over its steps, given what each call costs. The critical
path of a trace is what its first span waited for: where threads run at the same time, the one that
ends last.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.replay.tape import Compute, Do, Fork, Steps, Wait

# Takes the calling pod and the server's span; returns what the call takes beside that span, in ns.
Cost = Callable[[str, int], int]

COMPUTING: Final = "computation"
CALLING: Final = "calls"
STAGGERED: Final = "until overlapping calls began"
UNTRACED: Final = "not traced"


class Part(NamedTuple):
    """What time goes to: a service, or two that call each other, and what passes there."""

    where: str
    what: str


class Durations:
    """The durations of spans, computed recursively, each from the span's own beginning.

    Parts of time are named by the service of a pod, which `names` has.
    """

    def __init__(self, activity: Activity, cost: Cost, names: Mapping[str, str]) -> None:
        """Remember an activity, what its calls cost, and the services of pods."""
        self._activity = activity
        self._cost = cost
        self._names = names

    def of(self, span: int) -> int:
        """Return the duration of a span in ns; a client's side takes as long as its call."""
        pod = self._activity.pods[span]
        if span in self._activity.calls:
            return self._call(pod, self._activity.calls[span])
        return self._run(pod, self._activity.steps[span])

    def total(self) -> int:
        """Return the time of all first spans together, in ns."""
        return sum(self.of(root) for roots in self._activity.roots.values() for _, root in roots)

    def follow(self, span: int, parts: Counter[Part]) -> None:
        """Add to `parts` what a span's critical path goes to, in ns: `of(span)` in all."""
        pod, server = self._activity.pods[span], self._activity.calls.get(span)
        if server is not None:
            self._follow_call(pod, server, parts)
        else:
            self._follow(pod, span, self._activity.steps[span], parts)

    def _done(self, pod: str, span: int) -> int:
        if span in self._activity.outside:
            return self._run(pod, self._activity.steps[span])
        return self._call(pod, self._activity.calls.get(span, span))

    def _call(self, caller: str, server: int) -> int:
        return self._cost(caller, server) + self.of(server)

    def _run(self, pod: str, steps: Steps) -> int:
        now = 0
        joined: list[int] = []
        for step in steps:
            if isinstance(step, Compute | Wait):
                now += step.ns
            elif isinstance(step, Do):
                now += self._done(pod, step.span)
            elif isinstance(step, Fork):
                if step.joined:
                    joined.append(now + step.after_ns + self._run(pod, step.steps))
            else:
                now = max([now, *joined])
                joined.clear()
        return now

    def _follow_call(self, caller: str, server: int, parts: Counter[Part]) -> None:
        callee = self._activity.pods[server]
        parts[Part(f"{self._names[caller]} → {self._names[callee]}", CALLING)] += self._cost(caller, server)
        self._follow(callee, server, self._activity.steps[server], parts)

    def _follow(self, pod: str, span: int, steps: Steps, parts: Counter[Part]) -> None:
        """Add to `parts` the time of a span's steps that its end waited for."""
        begun: list[Fork] = []  # since the last `Join`
        for step in steps:
            if isinstance(step, Compute):
                parts[Part(self._names[pod], COMPUTING)] += step.ns
            elif isinstance(step, Wait):
                parts[Part(self._activity.outside.get(span, self._names[pod]), UNTRACED)] += step.ns
            elif isinstance(step, Do):
                self._follow_done(pod, step.span, parts)
            elif isinstance(step, Fork):
                begun += [step] if step.joined else []
            elif begun:
                last = max(begun, key=lambda fork: fork.after_ns + self._run(pod, fork.steps))
                parts[Part(self._names[pod], STAGGERED)] += last.after_ns
                self._follow(pod, span, last.steps, parts)
                begun.clear()

    def _follow_done(self, pod: str, span: int, parts: Counter[Part]) -> None:
        if span in self._activity.outside:
            self._follow(pod, span, self._activity.steps[span], parts)
        else:
            self._follow_call(pod, self._activity.calls.get(span, span), parts)
