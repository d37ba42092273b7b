"""Divides what computes and calls among machines so that least crosses, and proves how little could (HiGHS)."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, inf
from typing import Final, Literal

import numpy as np
from highspy import Highs, HighsModelStatus, HighsVarType
from highspy.highs import HighsCallbackEvent

from lrpc.kernel.errors import Panic

MOST_VARIABLES: Final = 200_000  # of a model: a larger one would not be solved in any time that one waits
MOST_ORDERED: Final = 64  # vertices by which machines that are alike are told apart
TOLERANCE: Final = 1e-9  # of the solver's, on loads in units of the cap

End = Literal["optimal", "nodes", "seconds", "interrupted"]
OnProgress = Callable[[int, float, float], None]  # nodes, the best that was found, and what nothing is below
Terms = Sequence[tuple[int, float]]  # variables and their factors
ENDS: Final[dict[HighsModelStatus, End]] = {
    HighsModelStatus.kOptimal: "optimal",
    HighsModelStatus.kSolutionLimit: "nodes",
    HighsModelStatus.kTimeLimit: "seconds",
    HighsModelStatus.kInterrupt: "interrupted",
}


def nobody(nodes: int, found: float, at_least: float) -> None:
    """Tell nobody how far a search is."""


@dataclass(frozen=True)
class Problem:
    """Vertices with loads, weights between two of them (the lesser first), and machines that hold up to `cap`."""

    loads: Sequence[int]
    weights: Mapping[tuple[int, int], int]
    machines: int
    cap: int

    @property
    def bins(self) -> int:
        """Return how many machines can have a vertex."""
        return min(self.machines, len(self.loads))

    @property
    def variables(self) -> int:
        """Return how many variables a model of it has."""
        return self.bins * (len(self.loads) + len(self.weights))

    def held(self, placed: Sequence[int]) -> list[int]:
        """Return what each machine holds."""
        found = [0] * self.machines
        for load, machine in zip(self.loads, placed, strict=True):
            found[machine] += load
        return found

    def fits(self, placed: Sequence[int]) -> bool:
        """Return whether no machine holds more than the cap."""
        return max(self.held(placed)) <= self.cap

    def crossing(self, placed: Sequence[int]) -> int:
        """Return the weight between vertices on different machines."""
        return sum(weight for (one, other), weight in self.weights.items() if placed[one] != placed[other])


@dataclass(frozen=True)
class SearchLimits:
    """When a search stops with the best it has. Stopped by `seconds`, it may find something else another time."""

    nodes: int
    seconds: float


@dataclass(frozen=True)
class Solution:
    """Each vertex's machine, the weight that crosses, the least that any solution could have, and why it ended."""

    placed: tuple[int, ...]
    crossing: int
    at_least: int
    nodes: int
    end: End


class Overfull(Exception):
    """No division fits, or none was found: `least` is what the fullest machine of the best one holds."""

    def __init__(self, least: int, *, proven: bool) -> None:
        super().__init__(least, proven)
        self.least, self.proven = least, proven


def fitting(problem: Problem, limits: SearchLimits) -> tuple[int, ...]:
    """Return a division that fits, whatever crosses; `Overfull` where none was found."""
    placed = _largest_first(problem)
    if problem.fits(placed):
        return placed
    placed, proven = _evened(problem, limits)
    if problem.fits(placed):
        return placed
    raise Overfull(max(problem.held(placed)), proven=proven)


def solve(
    problem: Problem,
    starts: Sequence[Sequence[int]],
    limits: SearchLimits,
    on_progress: OnProgress = nobody,
) -> Solution:
    """Return the division with the least weight across machines, begun from the best of some that fit.

    Interrupted, by Ctrl-C or a limit, it returns the best it has. The same problem has the same solution, but where
    time stopped it. Vertices of equal standing may be placed otherwise by another version of the solver.
    """
    best = min((_climb(problem, _numbered(one)) for one in starts), key=problem.crossing)
    if not problem.crossing(best):
        return Solution(_numbered(best), 0, 0, 0, "optimal")
    total = sum(problem.weights.values())
    model = _Model(problem, problem.cap, problem.weights)
    while True:
        end = model.run(best, limits, lambda nodes, found, least: on_progress(nodes, total + found, total + least))
        found = model.placed()
        if found is None or problem.fits(found):
            break
        model.forbid(found)  # it only fits as far as the solver's tolerance goes
    if found is not None and problem.crossing(found) < problem.crossing(best):
        best = found
    crossing = problem.crossing(best)
    proven = max(0, ceil(total + model.bound - 1e-6)) if model.bound > -inf else 0
    return Solution(_numbered(best), crossing, min(proven, crossing), model.nodes, end)


def _evened(problem: Problem, limits: SearchLimits) -> tuple[tuple[int, ...], bool]:
    """Return a division whose fullest machine holds as little as it can, and whether that is proven."""
    placed = _largest_first(problem)
    most = max(problem.held(placed))
    if most <= max(max(problem.loads), -(-sum(problem.loads) // problem.bins)):
        return placed, True
    model = _Model(problem, most, weights={})
    fullest = model.add(1, high=1.0 + TOLERANCE, cost=1.0)
    for terms in model.held():
        model.row(-inf, 0.0, [*terms, (fullest, -1.0)])
    end = model.run(placed, limits)
    found = model.placed()
    if found is not None and max(problem.held(found)) <= most:
        placed = found
    return _numbered(placed), end == "optimal"


class _Silent(Highs):
    """A solver that says nothing from the beginning: what sets its callbacks up would print its name."""

    def enableCallbacks(self) -> None:  # noqa: N802, the solver's own name
        """Set callbacks up."""
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()


class _Model:
    """Which machine each vertex is on, and which two are on the same, as a mixed-integer program.

    Machines are alike, so they are used in the order of loads: the vertex with the n-th largest is on one of the first
    n, and on a new one only where the one in front has a larger. What crosses is all weight less what does not.
    """

    def __init__(self, problem: Problem, cap: int, weights: Mapping[tuple[int, int], int]) -> None:
        self.nodes = 0
        self._problem = problem
        self._cap = max(1, cap)
        self._highs = _Silent()
        options = {"threads": 1, "random_seed": 0, "mip_rel_gap": 0.0, "mip_abs_gap": 0.99 if weights else TOLERANCE}
        for name in ("mip_feasibility_tolerance", "primal_feasibility_tolerance"):
            options[name] = TOLERANCE
        for name, value in options.items():
            self._highs.setOptionValue(name, value)
        self._bins = range(problem.bins)
        self._on = [self.add(problem.bins, whole=True) for _ in problem.loads]
        for columns in self._on:
            self.row(1.0, 1.0, [(columns + at, 1.0) for at in self._bins])
        self._break_symmetry()
        if weights:
            for terms in self.held():
                self.row(-inf, 1.0, terms)
        for (one, other), weight in weights.items():
            if problem.loads[one] + problem.loads[other] <= cap:
                together = self.add(problem.bins, cost=-float(weight))
                for end in (self._on[one], self._on[other]):
                    for at in self._bins:
                        self.row(-inf, 0.0, [(together + at, 1.0), (end + at, -1.0)])

    @property
    def bound(self) -> float:
        """Return what no solution's cost is below, as far as is proven."""
        return self._highs.getInfo().mip_dual_bound

    def add(self, count: int, *, high: float = 1.0, cost: float = 0.0, whole: bool = False) -> int:
        """Add variables from 0 to `high`; return the first."""
        first = self._highs.getNumCol()
        self._highs.addVars(count, np.zeros(count), np.full(count, high))
        for column in range(first, first + count):
            self._highs.changeColCost(column, cost)
            if whole:
                self._highs.changeColIntegrality(column, HighsVarType.kInteger)
        return first

    def row(self, low: float, high: float, terms: Terms) -> None:
        """Have a sum stay within bounds."""
        columns, factors = zip(*terms, strict=True)
        self._highs.addRow(low, high, len(terms), np.array(columns, np.int32), np.array(factors, np.float64))

    def held(self) -> list[Terms]:
        """Return what each machine holds, in units of the cap."""
        loads = self._problem.loads
        return [[(on + at, loads[v] / self._cap) for v, on in enumerate(self._on)] for at in self._bins]

    def forbid(self, placed: Sequence[int]) -> None:
        """Have no machine hold all that one of them holds now, where that is more than the cap."""
        for machine, load in enumerate(self._problem.held(placed)):
            if load > self._cap:
                held = [on for vertex, on in enumerate(self._on) if placed[vertex] == machine]
                for at in self._bins:
                    self.row(-inf, len(held) - 1.0, [(on + at, 1.0) for on in held])

    def run(self, start: Sequence[int], limits: SearchLimits, on_progress: OnProgress = nobody) -> End:
        """Look for the least cost, from a solution that fits; Ctrl-C ends that, and the second one raises."""
        highs = self._highs
        highs.setOptionValue("mip_max_nodes", limits.nodes)
        highs.setOptionValue("time_limit", limits.seconds)
        self._begin_at(start)
        highs.HandleUserInterrupt = True
        before = self.nodes

        def tell(event: HighsCallbackEvent) -> None:
            now = event.data_out
            on_progress(before + now.mip_node_count, now.mip_primal_bound, now.mip_dual_bound)

        highs.cbMipInterrupt.subscribe(tell)
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
        highs.cbMipInterrupt.unsubscribe(tell)
        self.nodes += max(0, highs.getInfo().mip_node_count)
        status = highs.getModelStatus()
        if status not in ENDS:
            raise Panic(f"the solver came to {highs.modelStatusToString(status)}, with a solution to begin with")
        return ENDS[status]

    def placed(self) -> tuple[int, ...] | None:
        """Return the best solution found, if any was."""
        found = self._highs.getSolution()
        if not found.value_valid:
            return None
        values = found.col_value
        return tuple(max(self._bins, key=lambda at: values[on + at]) for on in self._on)

    def _break_symmetry(self) -> None:
        order = _by_load(self._problem)
        for rank, vertex in enumerate(order):
            for at in self._bins[rank + 1 :]:
                self._highs.changeColBounds(self._on[vertex] + at, 0.0, 0.0)
            for at in self._bins[1 : rank + 1] if rank < MOST_ORDERED else ():
                before = [(self._on[other] + at - 1, -1.0) for other in order[:rank]]
                self.row(-inf, 0.0, [(self._on[vertex] + at, 1.0), *before])

    def _begin_at(self, placed: Sequence[int]) -> None:
        """Give the solver a solution, its machines in the order that the model has them in."""
        renamed: dict[int, int] = {}
        for vertex in _by_load(self._problem):
            renamed.setdefault(placed[vertex], len(renamed))
        columns = [on + at for on in self._on for at in self._bins]
        values = [float(renamed[machine] == at) for machine in placed for at in self._bins]
        self._highs.setSolution(len(columns), np.array(columns, np.int32), np.array(values, np.float64))


def _by_load(problem: Problem) -> list[int]:
    """Return the vertices, the largest loads first."""
    return sorted(range(len(problem.loads)), key=lambda vertex: (-problem.loads[vertex], vertex))


def _largest_first(problem: Problem) -> tuple[int, ...]:
    """Return each vertex on the machine that held least when its turn came, the largest loads first."""
    held = [0] * problem.bins
    placed = [0] * len(problem.loads)
    for vertex in _by_load(problem):
        placed[vertex] = min(range(problem.bins), key=held.__getitem__)
        held[placed[vertex]] += problem.loads[vertex]
    return tuple(placed)


def _climb(problem: Problem, start: Sequence[int]) -> tuple[int, ...]:
    """Return a division in which no single vertex could move, within the cap, and less would cross."""
    placed, held = list(start), problem.held(start)
    beside: dict[int, dict[int, int]] = defaultdict(dict)
    for (one, other), weight in problem.weights.items():
        beside[one][other] = beside[other][one] = weight
    moved = True
    while moved:
        moved = False
        for vertex, load in enumerate(problem.loads):
            near = dict.fromkeys(range(problem.bins), 0)
            for other, weight in beside[vertex].items():
                near[placed[other]] += weight
            here = placed[vertex]
            best = max(near, key=lambda at: (near[at] if at == here or held[at] + load <= problem.cap else -1, -at))
            if near[best] > near[here]:
                held[here] -= load
                held[best] += load
                placed[vertex] = best
                moved = True
    return tuple(placed)


def _numbered(placed: Sequence[int]) -> tuple[int, ...]:
    """Return the same division, machines numbered by the first vertex that they have."""
    numbers: dict[int, int] = {}
    return tuple(numbers.setdefault(machine, len(numbers)) for machine in placed)
