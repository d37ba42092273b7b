"""Kinds of figures: how much agreement with the paper proves, derived from what a figure rests on.

This is the only place that says a kind. Everybody else states what a figure was computed from, its
`Basis`: the parameters that mattered to it, whose origins cost models and scenarios name, and the
places of the paper that it is compared with. From these follows the kind:

- input: nothing but quoted figures and their sums, so agreement proves nothing new;
- fitted: a parameter that mattered was solved from this very cell, or from another point of its
  curve or row, so agreement is no evidence;
- predicted: all else, so agreement is evidence for the model. What it rests on that was assumed, or
  fitted elsewhere, is listed beside it (`Basis.rests_on`).

A figure made of others, such as a ratio, rests on all that they rest on (`|`). So its kind claims
no more than theirs: whatever one of its parts was fitted to, it was fitted to as well.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from lrpc.cluster.parameters import ParameterTable
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.origins import Origin

Kind = Literal["input", "fitted", "predicted"]
KINDS: Final[tuple[Kind, ...]] = ("input", "fitted", "predicted")  # the last claims the most


@dataclass(frozen=True)
class Parameter:
    """A parameter that mattered to a figure.

    `solved_from` names the cells that its value was solved from, as "table/row/column".
    """

    name: str
    origin: Origin
    solved_from: tuple[str, ...] = ()

    def solved_at(self, place: str) -> bool:
        """Return whether it was solved from a cell that is `place`, or is in that row."""
        return any(cell == place or cell.startswith(f"{place}/") for cell in self.solved_from)


@dataclass(frozen=True)
class Basis:
    """What a figure was computed from.

    `places` are the cells or rows of the paper that it is compared with: "IV/Add" is a row, and a
    point of a curve has all cells of the curve. `simulated` says whether a mechanism had a part in
    it, and not sums alone.
    """

    parameters: frozenset[Parameter] = frozenset()
    places: frozenset[str] = frozenset()
    simulated: bool = False

    def __or__(self, other: "Basis") -> "Basis":
        """Return the basis of a figure made of one with this basis and one with the other."""
        return Basis(self.parameters | other.parameters, self.places | other.places, self.simulated or other.simulated)

    @property
    def kind(self) -> Kind:
        """Return the kind of a figure with this basis."""
        if any(one.solved_at(place) for one in self.parameters for place in self.places):
            return "fitted"
        if self.simulated or any(one.origin != "source" for one in self.parameters):
            return "predicted"
        return "input"

    @property
    def rests_on(self) -> str:
        """Return in words what a prediction rests on beside quoted figures; nothing for others."""
        if self.kind != "predicted":
            return ""
        fitted = sorted({one.name for one in self.parameters if one.solved_from})
        assumed = sorted({one.name for one in self.parameters if one.origin != "source"} - set(fitted))
        parts = (("assumed", assumed), ("fitted elsewhere", fitted))
        return "; ".join(f"{what}: {', '.join(names)}" for what, names in parts if names)


QUOTED: Final = Basis()  # what was quoted or given, and read back
COUNTED: Final = Basis(simulated=True)  # what a mechanism did, whatever it costs


def us_of(costs: CostModel, charges: Mapping[str, int]) -> float:
    """Return what some charges, how many by step name, cost in all, in microseconds."""
    return sum(costs.file.steps[step].us * count for step, count in charges.items())


def from_charges(costs: CostModel, charges: Mapping[str, int], *places: str, bus: bool = False) -> Basis:
    """Return the basis of a figure that steps of a cost model were charged for.

    `charges` counts those, by step name; `bus` says whether processors waited for the memory bus.
    The assumed split of a quoted total counts as quoted where each of its steps is charged as often
    as the total contains it.
    """
    left = {step: count for step, count in charges.items() if count}
    steps = costs.file.steps
    for total in costs.file.totals:
        whole = min(left.get(step, 0) // times for step, times in total.of.items())
        for step, times in total.of.items():
            left[step] = left.get(step, 0) - whole * times
    found = {
        Parameter(step, steps[step].origin if left[step] else "source", steps[step].solved_from)
        for step, count in charges.items()
        if count
    }
    shared = costs.file.bus if bus else None
    if shared is not None:
        found.add(Parameter("bus", shared.origin, shared.solved_from))
        # The assumed shares of its sum count as that sum does, where they are all taken.
        whole = min(charges.get(step, 0) // times for step, times in shared.of.items())
        for step, share in shared.shares.items():
            if charges.get(step, 0) > whole * shared.of.get(step, 0):
                found.add(Parameter(f"{step} on the bus", share.origin, share.solved_from))
    return Basis(frozenset(found), frozenset(places), simulated=shared is not None)


def kinds_of_steps(costs: CostModel, charges: Mapping[str, int]) -> dict[str, Kind]:
    """Return how sure the cost of each step is, in a figure that these steps were charged for.

    A part of a quoted total is input where the whole total is charged, and what was solved from
    cells of the paper is fitted, whichever they are.
    """
    parameters = from_charges(costs, charges).parameters
    places = {one.name: one.solved_from if one.origin != "source" else () for one in parameters}
    return {one.name: Basis(frozenset({one}), frozenset(places[one.name])).kind for one in parameters}


def from_parameters(parameters: Mapping[str, ParameterTable], places: Iterable[str]) -> Basis:
    """Return the basis of a figure that a simulated system came to, with that scenario."""
    found = (Parameter(name, one.origin, one.solved_from) for name, one in parameters.items())
    return Basis(frozenset(found), frozenset(places), simulated=True)
