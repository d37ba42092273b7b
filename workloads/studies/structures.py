"""Structures compared: one day of Taos on a kernel that does all, and on a small one with RPC of three kinds."""

from collections.abc import Mapping
from typing import Any, Final

from lrpc.cluster.run import Outcome
from lrpc.kernel.simulated.costs import PARTS, CostModel
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.runs.jobs import RunJob
from lrpc.workloads.studies.sweep import simulate

SCENARIO: Final = "taos"
WORKSTATION: Final = "workstation"
STRUCTURE: Final = "parameters.structure.value"
# What each changes of the scenario.
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
    "remote",
    "crossing_s",
    "busy_s",
    "crossing_%",
    "crossing_us",
    "busy_us",
)


def compare(scale: float, seed: int) -> Table:
    """Return what the same operations cost the workstation's processors under each structure; runs one after another.

    Seconds are the whole run's, microseconds a mean operation's, and the share is of busy time. Crossing is what was
    charged for stubs, traps, kernel, switches, misses and copies, without the network.
    """
    rows = [_row(name, *run(changes, scale, seed)) for name, changes in STRUCTURES.items()]
    return Table("structures", f"Structures compared: {SCENARIO} at scale {scale:g}, seed {seed}", COLUMNS, rows)


def run(changes: Mapping[str, Any], scale: float, seed: int) -> tuple[Outcome, CostModel]:
    """Run the scenario with some changes, in this process; return what it did, and the workstation's cost model."""
    ready = RunJob(scenario=SCENARIO, scale=scale, seed=seed, changes=dict(changes)).prepare(["lrpc", "structures"])
    costs = next(machine.costs for machine in ready.cluster.machines if machine.name == WORKSTATION)
    return simulate(ready.cluster, seed)[0], costs


def _row(name: str, outcome: Outcome, costs: CostModel) -> list[TableValue]:
    machine = next(machine for machine in outcome.machines if machine.name == WORKSTATION)
    operations = machine.counts["trap"] + machine.counts["cross_domain"]
    between = {step for part in ("network", "messages", "packets") for step in PARTS[part]}
    steps = {step: count for step, count in machine.charges.items() if step not in between}
    crossing_us = sum(costs.file.steps[step].us * count for step, count in steps.items())
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
