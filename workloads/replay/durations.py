"""Works out how long spans take with a processor for every thread, and what their time goes to.

The time of a span follows from a recursion over its steps, given what each call costs. The critical
path of a trace is what its first span waited for: where threads run at the same time, the one that
ends last.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.replay.tape import COMPUTE, DO, END, FORK_JOINED, JOIN, WAIT

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
        self._tape = activity.steps
        self._cost = cost
        self._names = names
        self._computing = {pod: Part(name, COMPUTING) for pod, name in names.items()}
        self._pairs: dict[tuple[str, str], Part] = {}  # by calling and called pod

    def of(self, span: int) -> int:
        """Return the duration of a span in ns; a client's side takes as long as its call."""
        pod = self._activity.pods[span]
        server = self._activity.calls.get(span)
        if server is not None:
            return self._call(pod, server)
        return self._run(pod, self._tape.place(span))

    def total(self) -> int:
        """Return the time of all first spans together, in ns."""
        return sum([self.of(root) for roots in self._activity.roots.values() for _, root in roots])

    def follow(self, span: int, parts: Counter[Part]) -> None:
        """Add to `parts` what a span's critical path goes to, in ns: `of(span)` in all."""
        pod, server = self._activity.pods[span], self._activity.calls.get(span)
        if server is not None:
            self._follow_call(pod, server, parts)
        else:
            self._follow(pod, span, self._tape.place(span), parts)

    def _done(self, pod: str, span: int) -> int:
        if span in self._activity.outside:
            return self._run(pod, self._tape.place(span))
        return self._call(pod, self._activity.calls.get(span, span))

    def _call(self, caller: str, server: int) -> int:
        return self._cost(caller, server) + self.of(server)

    def _run(self, pod: str, at: int) -> int:
        """Return how long the steps from a place on the tape take, in ns."""
        codes, numbers = self._tape.codes, self._tape.numbers
        now = latest = 0  # latest: the end of what was forked since the last `Join`, and is joined
        while (code := codes[at]) != END:
            number = numbers[at]
            at += 1
            if code in (COMPUTE, WAIT):
                now += number
            elif code == DO:
                now += self._done(pod, number)
            elif code == JOIN:
                now, latest = max(now, latest), 0
            else:
                if code == FORK_JOINED:
                    latest = max(latest, now + number + self._run(pod, at))
                at = self._tape.behind(at)
        return now

    def _follow_call(self, caller: str, server: int, parts: Counter[Part]) -> None:
        callee = self._activity.pods[server]
        pair = (caller, callee)
        part = self._pairs.get(pair)
        if part is None:
            part = self._pairs[pair] = Part(f"{self._names[caller]} → {self._names[callee]}", CALLING)
        parts[part] += self._cost(caller, server)
        self._follow(callee, server, self._tape.place(server), parts)

    def _follow(self, pod: str, span: int, at: int, parts: Counter[Part]) -> None:
        """Add to `parts` the time of a span's steps, from a place on, that its end waited for."""
        codes, numbers = self._tape.codes, self._tape.numbers
        begun: list[tuple[int, int]] = []  # forks to join: when, and where their steps are
        while (code := codes[at]) != END:
            number = numbers[at]
            at += 1
            if code == COMPUTE:
                parts[self._computing[pod]] += number
            elif code == WAIT:
                parts[Part(self._activity.outside.get(span, self._names[pod]), UNTRACED)] += number
            elif code == DO:
                self._follow_done(pod, number, parts)
            elif code != JOIN:
                begun += [(number, at)] if code == FORK_JOINED else []
                at = self._tape.behind(at)
            elif begun:
                after_ns, steps = max(begun, key=lambda fork: fork[0] + self._run(pod, fork[1]))
                parts[Part(self._names[pod], STAGGERED)] += after_ns
                self._follow(pod, span, steps, parts)
                begun.clear()

    def _follow_done(self, pod: str, span: int, parts: Counter[Part]) -> None:
        if span in self._activity.outside:
            self._follow(pod, span, self._tape.place(span), parts)
        else:
            self._follow_call(pod, self._activity.calls.get(span, span), parts)
