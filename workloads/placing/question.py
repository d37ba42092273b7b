"""Makes the problem to solve of a trace: what pods weigh, what they may hold, and what they keep.

A vertex is a group of pods that go together. Its load is the computation of its spans. What passes
between two is weighed by the calls between them, by the gaps that were recorded for these, or by
the bytes of their messages.

A machine may hold so many fair shares of all computation (`slack`), and in each interval of the
trace it may be busy for a part of its processors' time (`utilisation`). Where the least of either
is asked for, it is found.
"""

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
    weight: Weight
    unit: str  # of weights
    slack: Fraction  # the most that a machine may hold, in fair shares
    capacity: Capacity
    busiest: Sequence[Counter[str]]  # computation of pods in the busiest intervals
    problem: Problem
    raised: bool = False  # whether the slack is the least that can be met, since none was asked for
    strained: bool = False  # likewise the utilisation

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

    def fullest(self, placement: Mapping[str, int]) -> float:
        """Return the computation of the fullest machine, in fair shares."""
        held = Counter[int]()
        for pod, load in self.activity.computed_ns.items():
            held[placement[pod]] += load
        return float(max(held.values()) / self.fair) if self.fair else 0.0

    def busiest_share(self, placement: Mapping[str, int]) -> float:
        """Return how far the busiest machine is busy in its busiest interval, in percent."""
        most = 0
        for one in self.busiest:
            held = Counter[int]()
            for pod, load in one.items():
                held[placement[pod]] += load
            most = max(most, *held.values())
        return 100 * most / (self.capacity.processors * self.capacity.interval_ns)

    def fits(self, placement: Mapping[str, int]) -> bool:
        """Return whether a placement of pods keeps all that is asked for."""
        first = [placement[group[0]] for group in self.grouped.groups]
        together = all(len({placement[pod] for pod in group}) == 1 for group in self.grouped.groups)
        return together and self.problem.fits(first)

    def on(self, machines: int, slack: float) -> "Question":
        """Return the same question for another number of machines and another slack."""
        exact = Fraction(repr(slack))
        cap = int(exact * sum(self.problem.loads) / machines)
        return replace(self, slack=exact, problem=replace(self.problem, machines=machines, cap=cap), raised=False)


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
        raise Refused(_conflict(origin, constraints, lambda some: _groups(trace.pods, some))) from None
    pairs = _weigh(trace, activity, lambda server: 1)
    if weight == "calls":
        weighed, unit = pairs, "calls"
    elif weight == "gaps":
        gaps = network_gaps(trace, activity)
        found = _weigh(trace, activity, lambda server: gaps.get(server, charged.each.machine_ns))
        weighed, unit = _scaled(found, (("ns", 1), ("us", 10**3), ("ms", 10**6), ("s", 10**9)), " of recorded gaps")
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
        origin, trace, activity, groups, constraints, pairs, weight, unit, exact, capacity, busiest, problem
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

    Each is raised only if it may be, as nobody asked for one. Raises `Refused` if there is no
    answer then, and names constraints that conflict.
    """
    if utilisation:
        asked = _with_least_utilisation(asked, search)
    try:
        fitting(asked.problem, search)
    except Overfull as unmet:
        if not slack:
            raise Refused(_overfull(asked, unmet)) from None
        least = least_slack(asked.problem, unmet.least)
        problem = replace(asked.problem, cap=int(least * asked.fair))
        return replace(asked, slack=least, problem=problem, raised=True)
    except Unmet:
        raise Refused(_unmet(asked, search)) from None
    return asked


def least_slack(problem: Problem, load: int) -> Fraction:
    """Return the slack that allows a machine to hold a load, rounded up."""
    digits = 10**SLACK_DIGITS
    return Fraction(ceil(Fraction(load * problem.machines * digits, max(1, sum(problem.loads)))), digits)


def _with_least_utilisation(asked: Question, search: SearchLimits) -> Question:
    most = asked.capacity.cap_ns
    for limit in asked.problem.limits:
        alone = replace(asked.problem, loads=limit.loads, cap=limit.cap, limits=(), weights={})
        try:
            fitting(alone, search)
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


def _groups(pods: Sequence[str], constraints: Sequence[Constraint]) -> bool:
    try:
        grouped(pods, constraints)
    except Contradiction:
        return False
    return True


def _conflict(origin: str, constraints: Sequence[Constraint], holds: Callable[[Sequence[Constraint]], bool]) -> str:
    """Return in one line which constraints conflict: without any of them, the others hold."""
    left = list(constraints)
    for one in constraints:
        without = [other for other in left if other is not one]
        if not holds(without):
            left = without
    names = ", ".join(shown(one.name, quote=False) for one in left)
    return f"{origin}: constraints {names} cannot hold together; remove or change one"


def _unmet(asked: Question, search: SearchLimits) -> str:
    """Return in one line which constraints no placement keeps."""

    def holds(some: Sequence[Constraint]) -> bool:
        try:
            groups = grouped(asked.pods, some)
            again = replace(asked, grouped=groups)
            loads = asked.activity.computed_ns
            sums = [sum(loads[pod] for pod in group) for group in groups.groups]
            limits = limits_of(again)
            fitting(Problem(sums, {}, asked.problem.machines, sum(sums), limits, groups.fixed, groups.apart), search)
        except (Contradiction, Overfull, Unmet):
            return False
        return True

    if not holds([]):
        percent = f"{float(100 * asked.capacity.utilisation):g} %"
        busy_to = f"no placement leaves every machine busy to at most {percent} of its processors"
        return (
            f"{asked.origin}: --utilisation on {asked.problem.machines} machines: {busy_to}; raise it, or add machines"
        )
    return _conflict(asked.origin, asked.constraints, holds)


def _overfull(asked: Question, unmet: Overfull) -> str:
    """Return in one line why no placement fits, with any pod too large by itself, and the fix."""
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
    remedy = f"the smallest slack that can be met is {least}" if unmet.proven else f"a slack of {least} can be met"
    return f"{asked.origin}: --slack {float(asked.slack):g} on {problem.machines} machines: {what}; {remedy}"
