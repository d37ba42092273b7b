"""Divides a graph by METIS, from several seeds, for the search of `partition` to begin at.

Moves and swaps alone end at twice the weight on graphs of hundreds of vertices. METIS makes the
graph coarser, divides it, and refines the division as it makes the graph finer again. It knows
neither what is fixed or apart nor a second limit, and takes the cap as a wish. So every division of
its is made to fit, and dropped where that fails.
"""

import time
from collections.abc import Iterator, Sequence
from math import inf
from typing import Final

import pymetis

from lrpc.workloads.placing.exchange import Room, improved
from lrpc.workloads.placing.problem import Problem

WORK: Final = 12_000  # vertices to divide, of all tries together
MOST_TRIES: Final = 40  # for each number of parts
MOST_WEIGHT: Final = 10**9  # of all vertices or edges together: METIS has 32 bits


def divisions(problem: Problem, ends: float = inf) -> Iterator[tuple[int, ...]]:
    """Yield divisions that fit, which no move of a single vertex makes better.

    Begins none after a monotonic time.
    """
    total = sum(problem.loads)
    fewest = max(2, -(-total // max(1, problem.cap)))
    graph = _Graph(problem)
    for parts in sorted({fewest, (fewest + len(problem.labels)) // 2, len(problem.labels)} - {0, 1}):
        if parts <= len(problem.labels):
            for seed in range(max(1, min(MOST_TRIES, WORK // len(problem.loads)))):
                if time.monotonic() > ends:
                    return
                found = _fitted(problem, graph.divided(parts, seed))
                if found is not None:
                    yield improved(problem, found)


class _Graph:
    """A problem's graph as METIS takes it."""

    def __init__(self, problem: Problem) -> None:
        starts, ends = [0], list[int]()
        self._edges: list[int] = []
        by_edge = dict(zip(problem.weights, _scaled(list(problem.weights.values())), strict=True))
        for vertex, near in enumerate(problem.neighbours):
            ends += near
            self._edges += [by_edge[min(vertex, other), max(vertex, other)] for other in near]
            starts.append(len(ends))
        self._adjacency = pymetis.CSRAdjacency(starts, ends)
        self._loads = _scaled(problem.loads)
        self._room = problem.cap / max(1, sum(problem.loads))

    def divided(self, parts: int, seed: int) -> Sequence[int]:
        """Return the part of each vertex, in a division of METIS into so many parts."""
        over = self._room * parts - 1  # what a part may have beyond its share
        options = pymetis.Options(seed=seed, ufactor=max(1, min(100_000, int(900 * over))))
        return list(
            pymetis.part_graph(
                parts,
                self._adjacency,
                vweights=self._loads,
                eweights=self._edges,
                recursive=False,
                options=options,
            ).vertex_part
        )


def _scaled(values: Sequence[int]) -> list[int]:
    """Return whole numbers in about these proportions, from 1, whose sum METIS can hold."""
    divisor = max(1, -(-sum(values) // MOST_WEIGHT))
    return [max(1, value // divisor) for value in values]


def _fitted(problem: Problem, parts: Sequence[int]) -> tuple[int, ...] | None:
    """Return a division close to these parts that fits, or None where it is not found.

    Each part goes to the machine on which most of its vertices are fixed. Then each vertex, the
    largest first, goes to its part's machine if it may, or else to the nearest that has room.
    """
    machines = dict(zip(range(max(parts) + 1), _machines(problem, parts), strict=True))
    room = Room(problem)
    for vertex, machine in problem.fixed.items():
        room.move(vertex, machine)
    for vertex in problem.by_load():
        if vertex in problem.fixed:
            continue
        near = dict.fromkeys(problem.labels, 0)
        for other, weight in problem.neighbours[vertex].items():
            near[machines[parts[other]]] += weight
        order = sorted(problem.labels, key=lambda machine: (-near[machine], room.load(machine)))
        wished = machines[parts[vertex]]
        going = next((machine for machine in (wished, *order) if room.allows(vertex, machine)), None)
        if going is None:
            return None
        room.move(vertex, going)
    placed = tuple(machine for machine in room.placed if machine is not None)
    return placed if problem.fits(placed) else None


def _machines(problem: Problem, parts: Sequence[int]) -> list[int]:
    """Return a machine for each part, another for each."""
    fixed: list[dict[int, int]] = [{} for _ in range(max(parts) + 1)]
    for vertex, machine in problem.fixed.items():
        of_part = fixed[parts[vertex]]
        of_part[machine] = of_part.get(machine, 0) + 1
    free = list(problem.labels)
    found = [-1] * len(fixed)
    for part in sorted(range(len(fixed)), key=lambda part: -max(fixed[part].values(), default=0)):
        wished = max(free, key=lambda machine: (fixed[part].get(machine, 0), -free.index(machine)))
        found[part] = wished
        free.remove(wished)
    return found
