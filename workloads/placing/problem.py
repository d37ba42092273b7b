"""Defines what is solved: a graph to divide among machines, under limits of what each may hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property


@dataclass(frozen=True)
class Limit:
    """A load of each vertex, of which a machine may hold up to a cap."""

    loads: Sequence[int]
    cap: int


@dataclass(frozen=True)
class Problem:
    """A graph to divide among machines.

    `loads` has the load of each vertex, `weights` the weight of each edge by its two vertices, the
    lesser first. Each of `machines` may hold a load of up to `cap`, and so for each of `limits`.
    `fixed` has the machine of vertices that have one; no two vertices of a set in `apart` may be on
    one machine.
    """

    loads: Sequence[int]
    weights: Mapping[tuple[int, int], int]
    machines: int
    cap: int
    limits: Sequence[Limit] = ()
    fixed: Mapping[int, int] = field(default_factory=dict)
    apart: Sequence[frozenset[int]] = ()

    @cached_property
    def all_limits(self) -> tuple[Limit, ...]:
        """Return all limits: the cap first, then the others."""
        return (Limit(self.loads, self.cap), *self.limits)

    @cached_property
    def labels(self) -> list[int]:
        """Return the machines that can hold a vertex: those with fixed vertices, then others.

        No more than there are vertices can.
        """
        taken = sorted(set(self.fixed.values()))
        most = min(self.machines, len(taken) + len(self.loads) - len(self.fixed))
        others = (machine for machine in range(self.machines) if machine not in self.fixed.values())
        return taken + [machine for machine, _ in zip(others, range(most - len(taken)), strict=False)]

    @cached_property
    def neighbours(self) -> list[dict[int, int]]:
        """Return by vertex the weight of each edge that it has, by its other end."""
        beside: list[dict[int, int]] = [{} for _ in self.loads]
        for (one, other), weight in self.weights.items():
            beside[one][other] = beside[other][one] = weight
        return beside

    @cached_property
    def rivals(self) -> list[set[int]]:
        """Return by vertex those that may not be on its machine."""
        found: list[set[int]] = [set() for _ in self.loads]
        for together in self.apart:
            for vertex in together:
                found[vertex] |= together - {vertex}
        return found

    @property
    def variables(self) -> int:
        """Return at most how many variables its model has."""
        return len(self.labels) * (len(self.loads) + len(self.weights))

    def by_load(self) -> list[int]:
        """Return the vertices in order of load, the largest first."""
        return sorted(range(len(self.loads)), key=lambda vertex: (-self.loads[vertex], vertex))

    def held(self, placed: Sequence[int], limit: Limit | None = None) -> list[int]:
        """Return the load that each machine holds, given the machine of each vertex."""
        found = [0] * self.machines
        for load, machine in zip(self.loads if limit is None else limit.loads, placed, strict=True):
            found[machine] += load
        return found

    def keeps(self, placed: Sequence[int]) -> bool:
        """Return whether fixed vertices are on their machines, and rivals on different ones."""
        return all(placed[vertex] == machine for vertex, machine in self.fixed.items()) and all(
            len({placed[vertex] for vertex in together}) == len(together) for together in self.apart
        )

    def fits(self, placed: Sequence[int]) -> bool:
        """Return whether no machine holds more than a cap, and all else that is asked for holds."""
        return all(max(self.held(placed, limit)) <= limit.cap for limit in self.all_limits) and self.keeps(placed)

    def crossing(self, placed: Sequence[int]) -> int:
        """Return the total weight of edges between vertices on different machines."""
        return sum(weight for (one, other), weight in self.weights.items() if placed[one] != placed[other])

    def renumbered(self, placed: Sequence[int]) -> tuple[int, ...]:
        """Return the same division, with machines alike in the order of their first vertices."""
        taken = set(self.fixed.values())
        free = (machine for machine in range(self.machines) if machine not in taken)
        numbers = {machine: machine for machine in taken}
        return tuple(numbers[at] if at in numbers else numbers.setdefault(at, next(free)) for at in placed)
