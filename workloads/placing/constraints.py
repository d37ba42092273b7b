"""Reads what a placement must keep: pods on a machine, together, or apart.

    [fixed]
    "frontend" = 0                      # on this machine

    [together]
    web = ["frontend", "adservice"]     # on one machine

    [apart]
    money = ["payment", "cart"]         # no pod of one on a machine of the other's
    store = ["redis"]                   # no two pods of it on one machine

A name is that of a pod, or of a service or deployment, which stands for all its pods alike. Names
that are apart are so from each other: pods of one name may share a machine, unless it stands alone.
The tables may stand in a placement file, beside `[placement]`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from itertools import combinations, product
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from lrpc.kernel.documents import Document, name_list, read_toml, validate
from lrpc.kernel.errors import Refused
from lrpc.workloads.traces.sources import workload_of
from lrpc.workloads.traces.spans import shown
from lrpc.workloads.traces.trace import Trace

MOST_SHOWN: Final = 12  # names in a message


class ConstraintTables(Document):
    """The tables of a file with constraints."""

    placement: dict[str, int] = Field(default={})
    fixed: dict[str, int] = Field(default={})
    together: dict[str, list[str]] = Field(default={})
    apart: dict[str, list[str]] = Field(default={})


@dataclass(frozen=True)
class Constraint:
    """One constraint: its name in the file, and the pods that it is about.

    Pods that are apart are in `parts`: no two of different parts may be on one machine.
    """

    name: str
    kind: Literal["fixed", "together", "apart"]
    pods: tuple[str, ...]
    machine: int = 0  # where they are fixed
    parts: tuple[tuple[str, ...], ...] = ()

    @cached_property
    def rivals(self) -> list[frozenset[str]]:
        """Return sets of pods, no two of a set on one machine, that have each two rivals in one.

        Few large sets bound a search better than all pairs: the first ones take a pod of each part.
        """
        if len(self.parts) < 2:
            return []
        most = max(len(part) for part in self.parts)
        found = [frozenset(part[at % len(part)] for part in self.parts) for at in range(most)]
        covered = {frozenset(pair) for one in found for pair in combinations(one, 2)}
        pairs = (frozenset(two) for one, other in combinations(self.parts, 2) for two in product(one, other))
        return found + [pair for pair in pairs if pair not in covered]

    def keeps(self, placement: Mapping[str, int]) -> bool:
        """Return whether a placement of pods keeps this constraint."""
        if self.kind == "apart":
            return all(len({placement[pod] for pod in rivals}) == len(rivals) for rivals in self.rivals)
        machines = {placement[pod] for pod in self.pods}
        return machines <= {self.machine} if self.kind == "fixed" else len(machines) <= 1


class Contradiction(Exception):
    """Raised where two constraints cannot both hold, whatever machines may hold."""


@dataclass(frozen=True)
class Grouped:
    """Pods in groups that go together, with the machine of those that are fixed, and sets apart.

    Groups are named by their index in `groups`.
    """

    groups: tuple[tuple[str, ...], ...]
    fixed: Mapping[int, int]
    apart: tuple[frozenset[int], ...]

    @property
    def group_of(self) -> dict[str, int]:
        """Return the index of each pod's group."""
        return {pod: at for at, group in enumerate(self.groups) for pod in group}


def read_constraints(path: Path, trace: Trace, machines: int, outside: Sequence[str] = ()) -> list[Constraint]:
    """Return the constraints of a file on the pods of a trace.

    `outside` are the domains that are not traced. Raises `Refused` for a file that is not as this
    module says, a name that the trace does not have, or a machine that there is not.
    """
    tables = validate(ConstraintTables, read_toml(path), str(path))
    names = _pods_by_name(trace)
    found: list[Constraint] = []
    for name, machine in tables.fixed.items():
        if not 0 <= machine < machines:
            raise Refused(
                f"{path}: fixed.{shown(name)}: {machine} is no machine; give a number from 0 to {machines - 1}"
            )
        pods = _pods(path, f"fixed.{shown(name)}", name, names, outside)
        found.append(Constraint(f"fixed.{name}", "fixed", pods, machine))
    for kind, sets in (("together", tables.together), ("apart", tables.apart)):
        for label, members in sets.items():
            place = f"{kind}.{shown(label)}"
            named = [_pods(path, place, name, names, outside) for name in members]
            pods = tuple(sorted({pod for one in named for pod in one}))
            if kind == "together":
                found.append(Constraint(f"{kind}.{label}", "together", pods))
            else:
                found.append(Constraint(f"{kind}.{label}", "apart", pods, parts=_parts(named)))
    return found


def grouped(pods: Sequence[str], constraints: Sequence[Constraint]) -> Grouped:
    """Return pods in groups, as constraints say; raise `Contradiction` if two cannot both hold."""
    leader = {pod: pod for pod in pods}

    def find(pod: str) -> str:
        while leader[pod] != pod:
            leader[pod] = leader[leader[pod]]
            pod = leader[pod]
        return pod

    for one in constraints:
        if one.kind == "together":
            for pod in one.pods[1:]:
                first, other = sorted((find(one.pods[0]), find(pod)))
                leader[other] = first
    members: dict[str, list[str]] = {}
    for pod in pods:
        members.setdefault(find(pod), []).append(pod)
    groups = tuple(tuple(group) for group in members.values())
    number = {pod: at for at, group in enumerate(groups) for pod in group}
    fixed: dict[int, int] = {}
    apart: dict[frozenset[int], None] = {}  # a set, in order
    for one in constraints:
        if one.kind == "fixed":
            for pod in one.pods:
                if fixed.setdefault(number[pod], one.machine) != one.machine:
                    raise Contradiction
        for rivals in one.rivals:
            if len({number[pod] for pod in rivals}) < len(rivals):
                raise Contradiction
            apart[frozenset(number[pod] for pod in rivals)] = None
    return Grouped(groups, fixed, tuple(apart))


def _parts(named: Sequence[tuple[str, ...]]) -> tuple[tuple[str, ...], ...]:
    """Return the parts of pods that are apart, given the pods of each name.

    A pod with several of the names is of the one that names the fewest pods. The pods of a name
    that stands alone are apart from each other.
    """
    distinct = list(dict.fromkeys(named))
    if len(distinct) == 1:
        return tuple((pod,) for pod in distinct[0])
    taken: set[str] = set()
    parts = []
    for pods in sorted(distinct, key=len):
        parts.append(tuple(pod for pod in pods if pod not in taken))
        taken.update(pods)
    return tuple(part for part in parts if part)


def _pods_by_name(trace: Trace) -> dict[str, tuple[str, ...]]:
    """Return the pods that each name stands for: a pod's, its service's, its deployment's."""
    found: dict[str, list[str]] = {}
    for pod in trace.pods:
        services = trace.services.get(pod, ())
        for name in {workload_of(pod), *services}:
            found.setdefault(name, []).append(pod)
    return {**{name: tuple(pods) for name, pods in found.items()}, **{pod: (pod,) for pod in trace.pods}}


def _pods(
    path: Path, place: str, name: str, names: Mapping[str, tuple[str, ...]], outside: Sequence[str]
) -> tuple[str, ...]:
    if name in names:
        return names[name]
    if name in outside:
        raise Refused(f"{path}: {place}: {shown(name)} is not traced, and so outside of all machines; remove it")
    near = get_close_matches(name, names, MOST_SHOWN) or sorted(names)[:MOST_SHOWN]
    raise Refused(f"{path}: {place}: there is no pod or service {shown(name)}; there are {name_list(near)}")
