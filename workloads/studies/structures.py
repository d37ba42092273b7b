"""Structures compared: the same operations of Taos on a monolithic kernel and on a small kernel.

Which operations people ask for follows from a random stream alone, so every structure carries out
the same ones. What differs is how an operation crosses a protection boundary. In the monolithic
kernel it is a trap. On a small kernel it is a call of one large domain by SRC RPC, by LRPC, or by
LRPC/MP with a second processor and domain caching.
"""

from collections.abc import Mapping
from typing import Any, Final

from lrpc.cluster.run import Outcome
from lrpc.kernel.simulated.costs import REMOTE_STEPS, CostModel
from lrpc.workloads.records.kinds import us_of
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.runs.jobs import RunJob
from lrpc.workloads.studies.recorded import Carry, unrecorded

SCENARIO: Final = "taos"
WORKSTATION: Final = "workstation"
STRUCTURE: Final = "parameters.structure.value"
# By structure: what it changes in the scenario.
STRUCTURES: Final[Mapping[str, Mapping[str, Any]]] = {
    "monolithic kernel": {STRUCTURE: "traps"},
    "SRC RPC": {STRUCTURE: "message passing"},
    "LRPC": {STRUCTURE: "lrpc"},
    "LRPC/MP": {
        STRUCTURE: "lrpc",
        f"machines.{WORKSTATION}.processors": 2,
        f"machines.{WORKSTATION}.domain_caching": True,
    },
}
COLUMNS: Final = (
    "structure",
    "operations",
    "cross_machine",
    "crossing_s",
    "busy_s",
    "crossing_%",
    "crossing_us",
    "busy_us",
)


def compare(scale: float, seed: int, carry: Carry = unrecorded) -> Table:
    """Run the scenario under each structure in turn, and return what its operations cost.

    `carry` carries out each run; a dry run has no rows.

    All columns are of the workstation's processors. `crossing` is what was charged for stubs,
    traps, the kernel, context switches, misses and copies, without the network. `_s` are virtual
    seconds of the whole run, `_us` microseconds of a mean operation, and `crossing_%` is a share of
    busy time.
    """
    rows = []
    for name, changes in STRUCTURES.items():
        job = RunJob(scenario=SCENARIO, scale=scale, seed=seed, changes=dict(changes))
        carried = carry(name, job)
        if carried is not None:
            ready, outcome = carried
            costs = next(machine.costs for machine in ready.cluster.machines if machine.name == WORKSTATION)
            rows.append(_row(name, outcome, costs))
    return Table("structures", f"Structures compared: {SCENARIO} at scale {scale:g}, seed {seed}", COLUMNS, rows)


def answer(found: Table) -> str:
    """Return the sentence that says what came out."""
    at = found.columns.index("crossing_%")
    said = ", ".join(f"{row[at]} % ({row[0]})" for row in found.rows)
    return f"Of the time that the workstation's processors are busy, crossing boundaries takes {said}."


def _row(name: str, outcome: Outcome, costs: CostModel) -> list[TableValue]:
    machine = next(machine for machine in outcome.machines if machine.name == WORKSTATION)
    operations = machine.counts["trap"] + machine.counts["cross_domain"]
    crossing_us = us_of(costs, {step: n for step, n in machine.charges.items() if step not in REMOTE_STEPS})
    busy_us = machine.busy_ns / 1000
    return [
        name,
        operations,
        machine.counts["cross_machine"],
        round(crossing_us / 1e6, 3),
        round(busy_us / 1e6, 3),
        round(100 * crossing_us / busy_us, 2),
        round(crossing_us / operations, 1),
        round(busy_us / operations, 1),
    ]
