"""Reads what a placement must keep: pods on a machine, together, or apart.

    [fixed]
    "frontend" = 0                      # on this machine

    [together]
    web = ["frontend", "adservice"]     # on one machine

    [apart]
    store = ["redis-0", "redis-1"]      # no two on one machine

A name is that of a pod, or of a service or deployment, which stands for all its pods. The tables
may stand in a placement file, beside `[placement]`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
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
    """One constraint: its name in the file, and the pods that it is about."""

    name: str
    kind: Literal["fixed", "together", "apart"]
    pods: tuple[str, ...]
    machine: int = 0  # where they are fixed


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
            pods = tuple(sorted({pod for name in members for pod in _pods(path, place, name, names, outside)}))
            found.append(Constraint(f"{kind}.{label}", "together" if kind == "together" else "apart", pods))
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
    apart = []
    for one in constraints:
        if one.kind == "fixed":
            for pod in one.pods:
                if fixed.setdefault(number[pod], one.machine) != one.machine:
                    raise Contradiction
        elif one.kind == "apart":
            if len({number[pod] for pod in one.pods}) < len(one.pods):
                raise Contradiction
            apart.append(frozenset(number[pod] for pod in one.pods))
    return Grouped(groups, fixed, tuple(apart))


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
