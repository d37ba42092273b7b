"""Divides a graph by simple means: the largest vertex first, then moves and swaps while they help.

The search of `partition` begins at such a division. A graph too large for it ends with one.
"""

import time
from collections.abc import Sequence
from math import inf
from typing import Final

from lrpc.workloads.placing.problem import Problem

MOST_SWAPPED: Final = 2_000  # vertices, of which each two are tried in each other's place


class Room:
    """What machines hold while vertices are moved, and where a vertex may go."""

    def __init__(self, problem: Problem) -> None:
        self._problem = problem
        self._limits = problem.all_limits
        self._held = [[0] * problem.machines for _ in self._limits]
        self.placed: list[int | None] = [None] * len(problem.loads)

    def move(self, vertex: int, machine: int) -> None:
        """Put a vertex on a machine."""
        before = self.placed[vertex]
        for limit, held in zip(self._limits, self._held, strict=True):
            held[machine] += limit.loads[vertex]
            if before is not None:
                held[before] -= limit.loads[vertex]
        self.placed[vertex] = machine

    def load(self, machine: int) -> int:
        """Return the load that a machine holds."""
        return self._held[0][machine]

    def take(self, vertex: int) -> int:
        """Take a vertex off its machine, and return that."""
        machine = self.placed[vertex]
        assert machine is not None
        for limit, held in zip(self._limits, self._held, strict=True):
            held[machine] -= limit.loads[vertex]
        self.placed[vertex] = None
        return machine

    def allows(self, vertex: int, machine: int, *, capped: bool = True) -> bool:
        """Return whether a vertex may go to a machine: within all caps, or all but the first."""
        if self._problem.fixed.get(vertex, machine) != machine:
            return False
        if any(self.placed[rival] == machine for rival in self._problem.rivals[vertex]):
            return False
        over = zip(self._limits[0 if capped else 1 :], self._held[0 if capped else 1 :], strict=True)
        return all(held[machine] + limit.loads[vertex] <= limit.cap for limit, held in over)


def largest_first(problem: Problem) -> tuple[int, ...]:
    """Return a greedy division: each vertex, the largest first, goes where the load is least.

    Of those that it may be on, if there are any.
    """
    room = Room(problem)
    for vertex, machine in problem.fixed.items():
        room.move(vertex, machine)
    for vertex in problem.by_load():
        if vertex not in problem.fixed:
            may = [machine for machine in problem.labels if room.allows(vertex, machine, capped=False)]
            room.move(vertex, min(may or problem.labels, key=room.load))
    return tuple(machine for machine in room.placed if machine is not None)


def improved(problem: Problem, start: Sequence[int]) -> tuple[int, ...]:
    """Move single vertices, as far as they may be moved, until no move makes less weight cross."""
    room = Room(problem)
    placed = list(start)
    for vertex, machine in enumerate(start):
        room.move(vertex, machine)
    moved = True
    while moved:
        moved = False
        for vertex in range(len(placed)):
            near = dict.fromkeys(problem.labels, 0)
            near.setdefault(placed[vertex], 0)
            for other, weight in problem.neighbours[vertex].items():
                near[placed[other]] = near.get(placed[other], 0) + weight
            here = placed[vertex]
            better = [at for at, weight in near.items() if weight > near[here] and room.allows(vertex, at)]
            if better:
                placed[vertex] = max(better, key=lambda at: (near[at], -at))
                room.move(vertex, placed[vertex])
                moved = True
    return tuple(placed)


def swapped(problem: Problem, start: Sequence[int], ends: float = inf) -> tuple[int, ...]:
    """Let two vertices change places, as far as they may, and move others, while that helps.

    Stops at a monotonic time.
    """
    placed = list(improved(problem, start))
    if len(placed) > MOST_SWAPPED:
        return tuple(placed)
    helped = True
    while helped:
        helped = False
        room = Room(problem)
        for vertex, machine in enumerate(placed):
            room.move(vertex, machine)
        near = [_near(problem, vertex, placed) for vertex in range(len(placed))]
        for one in range(len(placed)):
            if time.monotonic() > ends:
                return tuple(placed)
            for other in range(one):
                here, there = placed[one], placed[other]
                if here == there:
                    continue
                gain = near[one].get(there, 0) - near[one].get(here, 0)
                gain += near[other].get(here, 0) - near[other].get(there, 0)
                gain -= 2 * problem.neighbours[one].get(other, 0)
                if gain > 0 and _swap(room, one, other):
                    placed[one], placed[other] = there, here
                    helped = True
                    for moved in (one, other):
                        for beside in problem.neighbours[moved]:
                            near[beside] = _near(problem, beside, placed)
        placed = list(improved(problem, placed))
    return tuple(placed)


def _swap(room: Room, one: int, other: int) -> bool:
    """Let two vertices change places if they may; return whether they did."""
    here, there = room.take(one), room.take(other)
    if room.allows(one, there):
        room.move(one, there)
        if room.allows(other, here):
            room.move(other, here)
            return True
        room.take(one)
    room.move(one, here)
    room.move(other, there)
    return False


def _near(problem: Problem, vertex: int, placed: Sequence[int]) -> dict[int, int]:
    """Return the weight between a vertex and each machine."""
    found: dict[int, int] = {}
    for other, weight in problem.neighbours[vertex].items():
        found[placed[other]] = found.get(placed[other], 0) + weight
    return found
