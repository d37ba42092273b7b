"""Makes the problem to solve of a trace: what pods weigh, what they may hold, and what they keep.

A vertex is a group of pods that go together. Its load is the computation of its spans. What passes
between two is weighed by the calls between them, by the gaps that were recorded for these, or by
the bytes of their messages.

A machine may hold so many fair shares of all computation (`slack`), and in each interval of the
trace it may be busy for a part of its processors' time (`utilisation`). Where the least of either
is asked for, it is found.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, isfinite
from typing import Final, Literal

from lrpc.kernel.errors import Refused
from lrpc.workloads.placing.constraints import Constraint, Contradiction, Grouped, grouped
from lrpc.workloads.placing.partition import Overfull, SearchLimits, Unmet, fitting
from lrpc.workloads.placing.problem import Limit, Problem
from lrpc.workloads.replay.busy import busy, undominated
from lrpc.workloads.replay.gaps import Charged, network_gaps, told_sizes
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.traces.spans import shown
from lrpc.workloads.traces.trace import Trace

Weight = Literal["calls", "gaps", "bytes"]
DEFAULT_SLACK: Final = 1.2
DEFAULT_UTILISATION: Final = 0.6
SLACK_DIGITS: Final = 4  # decimals of the least slack, and of the least utilisation, that can be met
MOST_INTERVALS: Final = 8  # the busiest of a trace, each a limit
LARGEST_WEIGHT: Final = 10**8  # of all edges together: the solver's precision ends beyond


class Infeasible(Refused):
    """No placement does what is asked for; `what` says so without the trace and without the fix."""

    def __init__(self, origin: str, what: str, fix: str) -> None:
        super().__init__(f"{origin}: {what}; {fix}")
        self.what = what


@dataclass(frozen=True)
class Capacity:
    """What machines may do: keep `processors` busy to a part `utilisation` of an interval."""

    processors: int
    utilisation: Fraction
    interval_ns: int

    @property
    def cap_ns(self) -> int:
        """Return the most computation of a machine in an interval, in ns."""
        return int(self.utilisation * self.processors * self.interval_ns)


@dataclass(frozen=True)
class Question:
    """The placement problem of a trace; the vertices of `problem` are groups of pods."""

    origin: str
    trace: Trace
    activity: Activity
    grouped: Grouped
    constraints: Sequence[Constraint]
    calls: Mapping[tuple[str, str], int]  # calls between each two pods, in order of name
    weighed: Mapping[tuple[str, str], int]  # what these weigh
    weight: Weight
    unit: str  # of weights
    slack: Fraction  # the most that a machine may hold, in fair shares
    capacity: Capacity
    busiest: Sequence[Counter[str]]  # computation of pods in the busiest intervals
    problem: Problem
    raised: bool = False  # whether the slack is the least that can be met, since none was asked for
    strained: bool = False  # likewise the utilisation
    is_least: bool = True  # whether no slack below a raised one can be met, or none was found

    @property
    def pods(self) -> list[str]:
        """Return the names of all pods, sorted."""
        return self.trace.pods

    @property
    def fair(self) -> Fraction:
        """Return the fair share: all computation divided by the machines, in ns."""
        return Fraction(sum(self.problem.loads), self.problem.machines)

    @property
    def needed(self) -> Fraction:
        """Return how far one machine would be busy in the busiest interval if it had all pods."""
        most = max((one.total() for one in self.busiest), default=0)
        return Fraction(most, self.capacity.processors * self.capacity.interval_ns)

    def placement(self, placed: Sequence[int]) -> dict[str, int]:
        """Return the machine of each pod, given that of each group."""
        of = self.grouped.group_of
        return {pod: placed[of[pod]] for pod in self.pods}

    def crossing_calls(self, placement: Mapping[str, int]) -> int:
        """Return how many calls cross machines under a placement of pods."""
        return sum(count for (one, other), count in self.calls.items() if placement[one] != placement[other])

    def crossing_weight(self, placement: Mapping[str, int]) -> int:
        """Return what crosses machines weighs, under a placement of pods."""
        return sum(weight for (one, other), weight in self.weighed.items() if placement[one] != placement[other])

    def fullest(self, placement: Mapping[str, int]) -> float:
        """Return the computation of the fullest machine, in fair shares."""
        return float(_most(self.activity.computed_ns, placement) / self.fair) if self.fair else 0.0

    def busiest_share(self, placement: Mapping[str, int]) -> float:
        """Return how far the busiest machine is busy in its busiest interval, in percent."""
        most = max((_most(one, placement) for one in self.busiest), default=0)
        return 100 * most / (self.capacity.processors * self.capacity.interval_ns)

    def fits(self, placement: Mapping[str, int]) -> bool:
        """Return whether a placement of pods keeps all that is asked for."""
        return not self.broken(placement)

    def broken(self, placement: Mapping[str, int]) -> list[str]:
        """Return what a placement of pods breaks of what is asked for, in a few words each."""
        constraints = [one for one in self.constraints if not one.keeps(placement)]
        found = [f"it does not keep {_named(constraints)}"] if constraints else []
        if _most(self.activity.computed_ns, placement) > self.problem.cap:
            found.append("its fullest machine holds more than the slack allows")
        if any(_most(one, placement) > self.capacity.cap_ns for one in self.busiest):
            found.append("its busiest machine is busy for longer than the utilisation allows")
        return found

    def on(self, machines: int, slack: float) -> "Question":
        """Return the same question for another number of machines and another slack."""
        exact = Fraction(repr(slack))
        cap = int(exact * sum(self.problem.loads) / machines)
        return replace(
            self, slack=exact, problem=replace(self.problem, machines=machines, cap=cap), raised=False, is_least=True
        )


def _most(loads: Mapping[str, int], placement: Mapping[str, int]) -> int:
    """Return the most that a machine has of the loads of pods."""
    held = Counter[int]()
    for pod, load in loads.items():
        held[placement[pod]] += load
    return max(held.values(), default=0)


def question_of(
    origin: str,
    trace: Trace,
    activity: Activity,
    machines: int,
    *,
    constraints: Sequence[Constraint],
    charged: Charged,
    weight: Weight,
    message_bytes: int,
    slack: float,
    capacity: Capacity,
) -> Question:
    """Return the placement problem of a trace, with a cap of `slack` fair shares for each machine.

    Raises `Refused` if the slack is below 1, or constraints contradict each other.
    """
    if not (isfinite(slack) and slack >= 1):
        raise Refused(f"--slack {slack}: the fullest machine holds at least the mean of all; give 1 or more")
    try:
        groups = grouped(trace.pods, constraints)
    except Contradiction:
        conflicts = _conflicts(constraints, lambda some: _can_be_grouped(trace.pods, some))
        together = ", and ".join(f"{_named(some)} cannot hold together" for some in conflicts)
        raise Refused(f"{origin}: {together}; remove or change one") from None
    pairs = _weigh(trace, activity, lambda server: 1)
    if weight == "calls":
        weighed, unit = pairs, "calls"
    elif weight == "gaps":
        gaps = network_gaps(trace, activity)
        found = _weigh(trace, activity, lambda server: gaps.get(server, charged.each.machine_ns))
        weighed, unit = _scaled(found, (("ns", 1), ("µs", 10**3), ("ms", 10**6), ("s", 10**9)), " of recorded gaps")
    else:
        found = _weigh(trace, activity, lambda server: _bytes(trace, server, message_bytes))
        weighed, unit = _scaled(found, (("bytes", 1), ("kB", 10**3), ("MB", 10**6), ("GB", 10**9)), "")
    loads = activity.computed_ns
    group_of = groups.group_of
    weights = Counter[tuple[int, int]]()
    for (one, other), amount in weighed.items():
        first, second = sorted((group_of[one], group_of[other]))
        if first != second and amount:
            weights[first, second] += amount
    exact = Fraction(repr(slack))  # the decimal fraction as written, not its binary approximation
    cap = int(exact * sum(loads.values()) / machines)
    sums = [sum(loads[pod] for pod in group) for group in groups.groups]
    problem = Problem(sums, weights, machines, cap, (), groups.fixed, groups.apart)
    busiest = undominated(busy(trace, activity, capacity.interval_ns), MOST_INTERVALS)
    asked = Question(
        origin, trace, activity, groups, constraints, pairs, weighed, weight, unit, exact, capacity, busiest, problem
    )
    return replace(asked, problem=replace(problem, limits=limits_of(asked)))


def limits_of(asked: Question) -> list[Limit]:
    """Return what machines may do in each of the busiest intervals."""
    return [
        Limit([sum(one[pod] for pod in group) for group in asked.grouped.groups], asked.capacity.cap_ns)
        for one in asked.busiest
    ]


def feasible(asked: Question, search: SearchLimits, *, slack: bool, utilisation: bool) -> Question:
    """Return a question that has an answer, with the least slack or utilisation that can be met.

    Each is raised only if it may be, as nobody asked for one. All searches for that take so many
    seconds together. Raises `Refused` if there is no answer then, and names constraints that
    conflict.
    """
    ends = time.monotonic() + search.seconds
    if utilisation:
        asked = _with_least_utilisation(asked, search)
    try:
        fitting(asked.problem, search.until(ends))
    except Overfull as unmet:
        if not slack:
            raise _overfull(asked, unmet, search) from None
        least = least_slack(asked.problem, unmet.least)
        problem = replace(asked.problem, cap=int(least * asked.fair))
        return replace(asked, slack=least, problem=problem, raised=True, is_least=unmet.proven)
    except Unmet as unmet:
        if not unmet.proven:
            late = "no placement was found that keeps the constraints"
            raise Infeasible(asked.origin, late, "raise --seconds or --nodes, or remove one") from None
        raise _unmet(asked, search) from None
    return asked


def least_slack(problem: Problem, load: int) -> Fraction:
    """Return the slack that allows a machine to hold a load, rounded up."""
    digits = 10**SLACK_DIGITS
    return Fraction(ceil(Fraction(load * problem.machines * digits, max(1, sum(problem.loads)))), digits)


def _with_least_utilisation(asked: Question, search: SearchLimits) -> Question:
    most, ends = asked.capacity.cap_ns, time.monotonic() + search.seconds
    for limit in asked.problem.limits:
        alone = replace(asked.problem, loads=limit.loads, cap=limit.cap, limits=(), weights={})
        try:
            fitting(alone, search.until(ends))
        except Overfull as unmet:
            most = max(most, unmet.least)
        except Unmet:
            return asked
    if most == asked.capacity.cap_ns:
        return asked
    digits, whole = 10**SLACK_DIGITS, asked.capacity.processors * asked.capacity.interval_ns
    capacity = replace(asked.capacity, utilisation=Fraction(ceil(Fraction(most * digits, whole)), digits))
    asked = replace(asked, capacity=capacity, strained=True)
    return replace(asked, problem=replace(asked.problem, limits=limits_of(asked)))


def _weigh(trace: Trace, activity: Activity, amount: Callable[[int], int]) -> Counter[tuple[str, str]]:
    """Return what passes between each two pods, in order of name: the sum over their calls."""
    found = Counter[tuple[str, str]]()
    for server in trace.calls():
        client = trace.parents[server]
        assert client is not None
        one, other = sorted((activity.pods[client], activity.pods[server]))
        found[one, other] += amount(server)
    return found


def _bytes(trace: Trace, server: int, assumed: int) -> int:
    """Return the bytes of a call's messages, as spans tell them; else what is assumed."""
    return sum(assumed if size is None else size for size in told_sizes(trace, server))


def _scaled(
    found: Counter[tuple[str, str]], units: Sequence[tuple[str, int]], what: str
) -> tuple[Counter[tuple[str, str]], str]:
    """Return weights in the least unit in which they are not too large for the solver."""
    unit, size = next(((unit, size) for unit, size in units if found.total() <= LARGEST_WEIGHT * size), units[-1])
    return Counter({pair: round(amount / size) for pair, amount in found.items()}), unit + what


def _can_be_grouped(pods: Sequence[str], constraints: Sequence[Constraint]) -> bool:
    try:
        grouped(pods, constraints)
    except Contradiction:
        return False
    return True


def _can_hold(
    asked: Question, some: Sequence[Constraint], search: SearchLimits, *, machines: int, limited: bool, cap: int | None
) -> bool:
    """Return whether a placement keeps some constraints, or none was proved to be missing.

    `limited` says whether machines may be busy to a part of their time alone; without a `cap`, a
    machine may hold everything.
    """
    try:
        groups = grouped(asked.pods, some)
        loads = asked.activity.computed_ns
        sums = [sum(loads[pod] for pod in group) for group in groups.groups]
        limits = limits_of(replace(asked, grouped=groups)) if limited else []
        most = sum(sums) if cap is None else cap
        fitting(Problem(sums, {}, machines, most, limits, groups.fixed, groups.apart), search)
    except (Overfull, Unmet) as unmet:
        return not unmet.proven
    except Contradiction:
        return False
    return True


def _conflicts(
    constraints: Sequence[Constraint], holds: Callable[[Sequence[Constraint]], bool]
) -> list[list[Constraint]]:
    """Return sets of constraints that conflict: without any of a set, the others of it hold.

    No constraint is in two of them. Without all of these, what is left holds.
    """
    found: list[list[Constraint]] = []
    left = list(constraints)
    while left and not holds(left):
        least = list(left)
        for one in left:
            without = [other for other in least if other is not one]
            if not holds(without):
                least = without
        found.append(least)
        left = [one for one in left if one not in least]
    return found


def _unmet(asked: Question, search: SearchLimits) -> Infeasible:
    """Return the error that says which constraints no placement keeps."""
    machines, ends = asked.problem.machines, time.monotonic() + search.seconds
    percent = f"{float(100 * asked.capacity.utilisation):g} %"

    def holds(some: Sequence[Constraint], *, more: int = 0, limited: bool = True) -> bool:
        return _can_hold(asked, some, search.until(ends), machines=machines + more, limited=limited, cap=None)

    if not holds([]):
        busy_to = f"no placement leaves every machine busy to at most {percent} of its processors"
        what = f"--utilisation on {machines_text(machines)}: {busy_to}"
        return Infeasible(asked.origin, what, "raise it, or add machines")
    said, mends = [], ["remove or change one"]
    for some in _conflicts(asked.constraints, holds):
        together = f"{_named(some)} cannot hold" + (" together" if len(some) > 1 else "")
        if holds(some, limited=False):
            together += f" where machines are busy to at most {percent} of their processors"
            mends.append("raise --utilisation")
        elif holds(some, more=len(asked.pods), limited=False):
            together += f" on {machines_text(machines)}"
            mends.append("add machines")
        said.append(together)
    return Infeasible(asked.origin, ", and ".join(said), ", or ".join(dict.fromkeys(mends)))


def _named(some: Sequence[Constraint]) -> str:
    names = ", ".join(shown(one.name, quote=False) for one in some)
    return f"constraint{'s' if len(some) > 1 else ''} {names}"


def machines_text(count: int) -> str:
    """Return a number of machines as text."""
    return f"{count:,} machine{'' if count == 1 else 's'}"


def _overfull(asked: Question, unmet: Overfull, search: SearchLimits) -> Infeasible:
    """Return the error that says why no placement fits, with any pod that is too large."""
    problem = asked.problem
    total = sum(problem.loads)
    least = float(least_slack(problem, unmet.least))
    most = f"{float(100 * asked.slack / problem.machines):.2f} %"
    largest = max(range(len(problem.loads)), key=problem.loads.__getitem__)
    if problem.loads[largest] > problem.cap:
        share = 100 * problem.loads[largest] / total
        group = asked.grouped.groups[largest]
        name = f"pod {shown(group[0])}" + (f" and {len(group) - 1} that go with it" if len(group) > 1 else "")
        what = f"{name} has {share:.2f} % of all computation, and a machine may hold {most}"
    else:
        what = f"no placement was found that leaves every machine at most {most} of all computation"
    ends = time.monotonic() + search.seconds

    def holds(some: Sequence[Constraint]) -> bool:
        return _can_hold(asked, some, search.until(ends), machines=problem.machines, limited=True, cap=problem.cap)

    if holds([]):
        keeping = ", ".join(_named(some) for some in _conflicts(asked.constraints, holds))
        what = f"{what}, with {keeping}" if keeping else what
    remedy = f"the smallest slack that can be met is {least}" if unmet.proven else f"a slack of {least} can be met"
    what = f"--slack {float(asked.slack):g} on {machines_text(problem.machines)}: {what}"
    return Infeasible(asked.origin, what, remedy)
