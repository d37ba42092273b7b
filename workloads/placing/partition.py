"""Divides a graph among machines so that the least weight crosses, with a proven bound (HiGHS).

Vertices have loads, and edges between them have weights. A machine may hold vertices up to a load,
the cap. The division with the least weight between machines is found as a mixed-integer program:

- One binary variable for each vertex and machine says that the vertex is on the machine.
- One variable for each edge and machine says that both ends are on it. The objective maximises the
  weight of these, which is all weight less what crosses. An edge whose ends together exceed the cap
  needs no variables: it always crosses.

Machines are alike, except those with fixed vertices, so every division exists in as many copies as
there are orders of machines. The model breaks this symmetry: the vertex with the n-th largest load
is on one of the first n machines, and no machine is used before the one in front of it. Without
that, the solver would have to refute every copy to prove a bound.

Loads enter the model in units of the cap, and the solver checks rows with a tolerance. The cap is
in whole nanoseconds, so each solution is checked exactly. One that fits only within the tolerance
is forbidden, and the search continues.

The same problem has the same solution: the search starts from a division that fits, the best of
METIS's and of the relaxed problem's from fixed seeds (see `relaxation`), runs on one thread with a
fixed seed, and ends at a number of nodes. A limit in seconds exists too, but what it stops depends
on the computer. Every result has the proven bound, so that its distance from the best possible is
known wherever the search stopped. All that a search does keeps to the seconds, not the solver
alone.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from typing import Final, Literal

import numpy as np
from highspy import Highs, HighsModelStatus, HighsVarType
from highspy.highs import HighsCallbackEvent

from lrpc.kernel.errors import Panic
from lrpc.workloads.placing import bounds, multilevel, relaxation
from lrpc.workloads.placing.exchange import improved, largest_first, swapped
from lrpc.workloads.placing.problem import Limit, Problem

# In a model. On larger ones the solver does not keep to its time (it took 35 s in place of 5 with
# 5,000), and its bound says less for minutes than that of the relaxed problem.
MOST_VARIABLES: Final = 4_000
VARIABLES_PER_S: Final = 2_000  # that the solver prepares for its search, without a look at its limits
MOST_ORDERED: Final = 64  # the number of vertices, largest first, that order the machines
START_SHARE: Final = 0.5  # of the seconds: for a division to begin at
BOUND_SHARE: Final = 0.5  # of the seconds: for the first bound
RELAXED_SHARE: Final = 0.8  # of the seconds that are left: for relaxing, before the solver has its turn
LEAST_SECONDS: Final = 0.1  # that a search has
TOLERANCE: Final = 1e-9  # the solver's, on loads in units of the cap

End = Literal["optimal", "nodes", "seconds", "interrupted", "size"]
OnProgress = Callable[[int, float, float], None]  # takes nodes, the best weight found, the lower bound
Terms = Sequence[tuple[int, float]]  # a linear expression: variables and their factors
ENDS: Final[dict[HighsModelStatus, End]] = {
    HighsModelStatus.kOptimal: "optimal",
    HighsModelStatus.kSolutionLimit: "nodes",
    HighsModelStatus.kTimeLimit: "seconds",
    HighsModelStatus.kInterrupt: "interrupted",
}


def ignore_progress(nodes: int, found: float, at_least: float) -> None:
    """Ignore the progress of a search."""


@dataclass(frozen=True)
class SearchLimits:
    """The limits at which a search stops and returns its best division.

    Only a search that `seconds` stops may give another result when it is repeated.
    """

    nodes: int
    seconds: float

    def until(self, ends: float) -> "SearchLimits":
        """Return these limits, with no more seconds than are left until a monotonic time."""
        return replace(self, seconds=max(LEAST_SECONDS, min(self.seconds, ends - time.monotonic())))


@dataclass(frozen=True)
class Solution:
    """The result of a search.

    `placed` has the machine of each vertex, `crossing` the weight between machines, `at_least` the
    proven lower bound of that weight. `nodes` and `end` say how far the search went and why it
    ended.
    """

    placed: tuple[int, ...]
    crossing: int
    at_least: int
    nodes: int
    end: End


class Overfull(Exception):
    """Raised if no division fits, or none was found.

    `least` is the load of the fullest machine in the most even division found; `proven` says
    whether no division is more even.
    """

    def __init__(self, least: int, *, proven: bool) -> None:
        super().__init__(least, proven)
        self.least, self.proven = least, proven


class Unmet(Exception):
    """Raised if what is asked for beside the cap holds in no division, or in none that was found.

    `proven` says which.
    """

    def __init__(self, *, proven: bool = True) -> None:
        super().__init__(proven)
        self.proven = proven


def fitting(problem: Problem, limits: SearchLimits) -> tuple[int, ...]:
    """Return a division that fits, whatever crosses.

    Raises `Overfull` if none is found, and `Unmet` if none is whatever the cap is.
    """
    placed = largest_first(problem)
    if problem.fits(placed):
        return placed
    placed, proven = _most_even(problem, limits)
    if problem.fits(placed):
        return placed
    raise Overfull(max(problem.held(placed)), proven=proven)


def solve(
    problem: Problem,
    starts: Sequence[Sequence[int]],
    limits: SearchLimits,
    on_progress: OnProgress = ignore_progress,
) -> Solution:
    """Return the division with the least weight between machines.

    The search begins at the best of `starts`, which are divisions that fit. If Ctrl-C or a limit
    stops it, the best division so far is returned. The same problem has the same solution unless
    time stopped the search. Another version of the solver may choose another of several equal
    solutions. A graph that is too large for the solver keeps the best of METIS's divisions and of
    those that relaxing it makes.
    """
    ends = time.monotonic() + limits.seconds
    best, least, stopped = _begun(problem, starts, limits.seconds, ends)
    is_large = problem.variables > MOST_VARIABLES
    is_late = not is_large and ends - time.monotonic() < problem.variables / VARIABLES_PER_S
    if problem.crossing(best) <= least or is_large or is_late or stopped == "interrupted":
        end: End = stopped or ("seconds" if is_late else "size")
        end = "optimal" if problem.crossing(best) <= least else end
        return Solution(problem.renumbered(best), problem.crossing(best), least, 0, end)
    total = sum(problem.weights.values())
    model = _Model(problem, problem.cap, problem.weights)
    while True:
        left = limits.until(ends)
        end = model.run(best, left, lambda nodes, found, low: on_progress(nodes, total + found, total + low))
        found = model.placed()
        if found is not None and not problem.fits(found):
            model.forbid(found)  # it fits only within the solver's tolerance
        elif end == "optimal" and found is not None and total + model.bound <= problem.crossing(found) - 1:
            if not model.distrust_presolve():
                raise Panic(f"the solver calls {problem.crossing(found)} the least, and bounds it by {model.bound}")
        else:
            break
    if end == "nodes" and stopped:
        end = "seconds"  # which decided where the solver began
    if found is not None and problem.crossing(found) < problem.crossing(best):
        best = found
    crossing = problem.crossing(best)
    proven = max(least, ceil(total + model.bound - 1e-6)) if model.bound > -inf else least
    return Solution(problem.renumbered(best), crossing, min(proven, crossing), model.nodes, end)


def _begun(
    problem: Problem, starts: Sequence[Sequence[int]], seconds: float, ends: float
) -> tuple[tuple[int, ...], int, relaxation.Cut]:
    """Return a division and a bound without the solver, and what stopped the search for them."""
    best = min((improved(problem, problem.renumbered(one)) for one in starts), key=problem.crossing)
    least = bounds.bound(problem, seconds * BOUND_SHARE)
    if problem.crossing(best) <= least:
        return best, least, ""
    begin_by = time.monotonic() + (ends - time.monotonic()) * START_SHARE
    starting = min((best, *multilevel.divisions(problem, begin_by)), key=problem.crossing)
    best = swapped(problem, starting, begin_by)
    is_hurried = time.monotonic() > begin_by
    share = 1.0 if problem.variables > MOST_VARIABLES else RELAXED_SHARE
    found = relaxation.relaxed(problem, best, (ends - time.monotonic()) * share)
    return found.placed, max(least, found.at_least), found.stopped or ("seconds" if is_hurried else "")


def _most_even(problem: Problem, limits: SearchLimits) -> tuple[tuple[int, ...], bool]:
    """Return the division whose fullest machine holds the least, and whether that is proven.

    It keeps the problem's other limits, and what is fixed and apart.
    """
    placed = largest_first(problem)
    keeps = replace(problem, cap=sum(problem.loads)).fits(placed)
    most = max(problem.held(placed)) if keeps else max(1, sum(problem.loads))
    if keeps and most <= max(max(problem.loads), -(-sum(problem.loads) // len(problem.labels))):
        return placed, True
    model = _Model(problem, most, weights={})
    fullest = model.add(1, high=1.0 + TOLERANCE, cost=1.0)
    for terms in model.held():
        model.row(-inf, 0.0, [*terms, (fullest, -1.0)])
    end = model.run(placed if keeps else None, limits)
    found = model.placed()
    if found is not None and max(problem.held(found)) <= most and replace(problem, cap=most).fits(found):
        placed, keeps = found, True
    if not keeps:
        raise Unmet(proven=False)
    return problem.renumbered(placed), end == "optimal"


class _Silent(Highs):
    """A solver without output: without this, enabling callbacks would print the solver's name."""

    def enableCallbacks(self) -> None:  # noqa: N802, the solver's own name
        """Switch off output, then enable callbacks."""
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()


class _Model:
    """The mixed-integer program of a problem, as this module's docstring describes it.

    `_on[v] + m` is the column of the variable that says that vertex v is on machine m. The cost of
    a solution is minus the weight that does not cross.
    """

    def __init__(self, problem: Problem, cap: int, weights: Mapping[tuple[int, int], int]) -> None:
        self.nodes = 0
        self._problem = problem
        self._cap = max(1, cap)
        self._presolves = True
        self._highs = _Silent()
        # Weights are whole numbers: a gap below 1 proves a division optimal.
        options = {"threads": 1, "random_seed": 0, "mip_rel_gap": 0.0, "mip_abs_gap": 0.99 if weights else TOLERANCE}
        for name in ("mip_feasibility_tolerance", "primal_feasibility_tolerance"):
            options[name] = TOLERANCE
        for name, value in options.items():
            self._highs.setOptionValue(name, value)
        self._labels = problem.labels
        self._bins = range(len(self._labels))
        self._on = [self.add(len(self._labels), whole=True) for _ in problem.loads]
        for columns in self._on:
            self.row(1.0, 1.0, [(columns + at, 1.0) for at in self._bins])
        self._break_symmetry()
        self._keep()
        if weights:
            for terms in self.held():
                self.row(-inf, 1.0, terms)
        for (one, other), weight in weights.items():
            if problem.loads[one] + problem.loads[other] <= cap:
                together = self.add(len(self._labels), cost=-float(weight))
                for end in (self._on[one], self._on[other]):
                    for at in self._bins:
                        self.row(-inf, 0.0, [(together + at, 1.0), (end + at, -1.0)])

    @property
    def bound(self) -> float:
        """Return the proven lower bound of the cost of any solution."""
        return self._highs.getInfo().mip_dual_bound

    def add(self, count: int, *, high: float = 1.0, cost: float = 0.0, whole: bool = False) -> int:
        """Add `count` variables with bounds 0 and `high`; return the column of the first."""
        first = self._highs.getNumCol()
        self._highs.addVars(count, np.zeros(count), np.full(count, high))
        for column in range(first, first + count):
            self._highs.changeColCost(column, cost)
            if whole:
                self._highs.changeColIntegrality(column, HighsVarType.kInteger)
        return first

    def row(self, low: float, high: float, terms: Terms) -> None:
        """Add the constraint that a linear expression lies from `low` to `high`."""
        columns, factors = zip(*terms, strict=True)
        self._highs.addRow(low, high, len(terms), np.array(columns, np.int32), np.array(factors, np.float64))

    def held(self) -> list[Terms]:
        """Return the load of each machine as an expression, in units of the cap."""
        loads = self._problem.loads
        return [[(on + at, loads[v] / self._cap) for v, on in enumerate(self._on)] for at in self._bins]

    def forbid(self, placed: Sequence[int]) -> None:
        """Forbid, on any machine, each set of vertices that a machine now holds beyond a cap."""
        for limit in (Limit(self._problem.loads, self._cap), *self._problem.limits):
            for machine, load in enumerate(self._problem.held(placed, limit)):
                if load > limit.cap:
                    held = [on for vertex, on in enumerate(self._on) if placed[vertex] == machine]
                    for at in self._bins:
                        self.row(-inf, len(held) - 1.0, [(on + at, 1.0) for on in held])

    def distrust_presolve(self) -> bool:
        """Search without presolving from now on; return whether that is new.

        Presolving has been seen to end with a bound that no solution attains, and to call the
        solution that it began at the best (HiGHS 1.16).
        """
        before = self._presolves
        self._presolves = False
        self._highs.setOptionValue("presolve", "off")
        return before

    def run(self, start: Sequence[int] | None, limits: SearchLimits, on_progress: OnProgress = ignore_progress) -> End:
        """Search for the least cost, from a solution that fits if there is one; return its end.

        The first Ctrl-C stops the search, a second one raises KeyboardInterrupt. Raises `Unmet` if
        there is no solution.
        """
        highs = self._highs
        highs.setOptionValue("mip_max_nodes", limits.nodes)
        highs.setOptionValue("time_limit", limits.seconds)
        if start is not None:
            self._begin_at(start)
        highs.HandleUserInterrupt = True
        before = self.nodes

        def report(event: HighsCallbackEvent) -> None:
            now = event.data_out
            on_progress(before + now.mip_node_count, now.mip_primal_bound, now.mip_dual_bound)

        highs.cbMipInterrupt.subscribe(report)
        highs.startSolve()
        stopped = False
        while True:
            try:
                if highs.wait(0.1)[0]:
                    break
            except KeyboardInterrupt:
                if stopped:
                    raise
                stopped = True
                highs.cancelSolve()
        highs.cbMipInterrupt.unsubscribe(report)
        self.nodes += max(0, highs.getInfo().mip_node_count)
        status = highs.getModelStatus()
        if start is None and status == HighsModelStatus.kInfeasible:
            raise Unmet
        if status not in ENDS:
            raise Panic(f"the solver ended with {highs.modelStatusToString(status)}, although it began at a solution")
        return ENDS[status]

    def placed(self) -> tuple[int, ...] | None:
        """Return the best solution found, or None."""
        found = self._highs.getSolution()
        if not found.value_valid:
            return None
        values = found.col_value
        return tuple(self._labels[max(self._bins, key=lambda at: values[on + at])] for on in self._on)

    def _break_symmetry(self) -> None:
        """Allow one order of the machines that are alike: by the largest vertex that each holds.

        Those with fixed vertices come first, and any vertex may be there. Of the others, the vertex
        of rank n is on one of the first n + 1. It is on machine `at` only if an earlier vertex is
        on machine `at` - 1.
        """
        first = len(set(self._problem.fixed.values()))
        order = [vertex for vertex in self._problem.by_load() if vertex not in self._problem.fixed]
        for rank, vertex in enumerate(order):
            for at in self._bins[first + rank + 1 :]:
                self._highs.changeColBounds(self._on[vertex] + at, 0.0, 0.0)
            for at in self._bins[first + 1 : first + rank + 1] if rank < MOST_ORDERED else ():
                before = [(self._on[other] + at - 1, -1.0) for other in order[:rank]]
                self.row(-inf, 0.0, [(self._on[vertex] + at, 1.0), *before])

    def _keep(self) -> None:
        """Add what is asked for beside the cap: other limits, fixed vertices, and those apart."""
        for limit in self._problem.limits:
            for at in self._bins:
                terms = [(on + at, load / max(1, limit.cap)) for load, on in zip(limit.loads, self._on, strict=True)]
                self.row(-inf, 1.0, [term for term in terms if term[1]] or terms[:1])
        for vertex, machine in self._problem.fixed.items():
            self._highs.changeColBounds(self._on[vertex] + self._labels.index(machine), 1.0, 1.0)
        for together in self._problem.apart:
            for at in self._bins:
                self.row(-inf, 1.0, [(self._on[vertex] + at, 1.0) for vertex in sorted(together)])

    def _begin_at(self, placed: Sequence[int]) -> None:
        """Give the solver a solution to begin at, with machines renamed to the model's order."""
        renamed = {machine: at for at, machine in enumerate(sorted(set(self._problem.fixed.values())))}
        for vertex in self._problem.by_load():
            renamed.setdefault(placed[vertex], len(renamed))
        columns = [on + at for on in self._on for at in self._bins]
        values = [float(renamed[machine] == at) for machine in placed for at in self._bins]
        self._highs.setSolution(len(columns), np.array(columns, np.int32), np.array(values, np.float64))
