"""Table I's systems within a reproduction, each shortened so that the whole stays short.

The systems are scenarios, made into machines of the one cluster on which everything is reproduced.
Every name of theirs gets the system's prefix, since two systems may use the same name.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.parameters import ParameterTable, resolve
from lrpc.cluster.scenario import ClusterTable, DomainTable, ExportTable, MachineTable
from lrpc.kernel.documents import read_toml, validate
from lrpc.workloads import scenarios
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.kinds import QUOTED, from_parameters
from lrpc.workloads.reproduction import paper

# By scenario, the part of its hours that is run. All of Sun's hours would be 100 million calls.
SYSTEMS: Final[Mapping[str, float]] = {"v": 0.1, "taos": 0.4, "sun": 0.02}
LEAST: Final = 0.0001  # the smallest scale of a scenario


def machines(scale: float) -> dict[str, tuple[MachineTable, dict[str, DomainTable]]]:
    """Return the systems' machines with their domains, under prefixed names.

    `scale`, at most 1, multiplies the part of its hours that each system runs.
    """
    found = {}
    for system in SYSTEMS:
        table, _ = _system(system, scale)
        for name, machine in table.machines.items():
            domains = {
                _own(system, key): _renamed(system, domain)
                for key, domain in table.domains.items()
                if domain.machine == name
            }
            found[_own(system, name)] = (machine, domains)
    return found


def owns(machine: str) -> bool:
    """Return whether a machine of that name belongs to one of these systems."""
    return machine.startswith(tuple(_own(system, "") for system in SYSTEMS))


def cells(outcomes: Mapping[str, MachineOutcome], scale: float) -> list[Cell]:
    """Return Table I from what the systems' machines counted, and how much of each was run."""
    shares, runs = [], []
    for system in SYSTEMS:
        table, parameters = _system(system, scale)
        counts = Counter[str]()
        for name, outcome in outcomes.items():
            if name.startswith(_own(system, "")):
                counts.update(outcome.counts)
        run = max(LEAST, SYSTEMS[system] * scale)
        shares += paper.table_i(table.row, counts, parameters, run)
        runs.append(Cell.of("I runs", table.row, "of its hours", None, 100 * run, "%", QUOTED))
        basis = from_parameters(parameters, [f"I/{table.row}"])
        for column, count in (
            ("local calls", counts["trap"] + counts["cross_domain"]),
            ("remote calls", counts["cross_machine"]),
        ):
            runs.append(Cell.of("I runs", table.row, column, None, count, "number", basis, paper.hours(run)))
    return shares + runs


def _system(system: str, scale: float) -> tuple[ClusterTable, Mapping[str, ParameterTable]]:
    """Return a system's tables, and its parameters."""
    path = scenarios.find(system)
    resolved = resolve(read_toml(path), str(path), max(LEAST, SYSTEMS[system] * scale))
    return validate(ClusterTable, resolved.tables, str(path)), resolved.parameters


def _own(system: str, name: str) -> str:
    return f"table-i-{system}-{name}"


def _renamed(system: str, domain: DomainTable) -> DomainTable:
    """Return a domain with prefixed names of its machine, exports and imports.

    A server's parameter `users` names a domain, so it gets the prefix as well.
    """

    def export(one: ExportTable) -> ExportTable:
        users = one.parameters.get("users")
        own = {} if users is None else {"users": _own(system, str(users))}
        return one.model_copy(update={"parameters": {**one.parameters, **own}})

    changes: dict[str, Any] = {
        "machine": _own(system, domain.machine),
        "exports": {_own(system, name): export(one) for name, one in domain.exports.items()},
        "imports": {alias: _own(system, name) for alias, name in domain.imports.items()},
    }
    return domain.model_copy(update=changes)
