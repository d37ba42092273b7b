"""Reproduces the paper's tables: the four tests on two machines, one under LRPC and one under SRC RPC."""

from collections.abc import Mapping
from typing import Any, Final

from lrpc.cluster.description import Cluster, ClusterTable, describe
from lrpc.cluster.run import Outcome
from lrpc.kernel.documents import read_toml, validate
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads import scenarios
from lrpc.workloads.paper import Cell, Measured, table_iv, table_v
from lrpc.workloads.registry import REGISTRY

SCENARIO: Final = "table-iv"
CALLS: Final = 100_000
COLUMNS: Final = {"lrpc": "LRPC", "src-rpc": "Taos"}  # what each machine of the scenario measures


def reproduce_cluster(cost_model: str, calls: int) -> Cluster:
    """Return the scenario's cluster with another cost model, or another number of calls for each test."""
    path = scenarios.find(SCENARIO)
    tables: dict[str, Any] = read_toml(path)
    for machine in tables["machines"].values():
        machine["cost_model"] = cost_model
    for domain in tables["domains"].values():
        for thread in domain.get("threads", ()):
            thread["parameters"]["calls"] = calls
    load_cost_model(cost_model).require("message passing")
    return describe(validate(ClusterTable, tables, str(path)), REGISTRY, str(path))


def cells_of(cluster: Cluster, outcome: Outcome) -> list[Cell]:
    """Return the cells of Tables IV and V that a run came to."""
    costs = cluster.machines[0].costs
    tests = {machine.name: measured(next(iter(machine.findings.values()))) for machine in outcome.machines}
    columns = [cell for machine, found in tests.items() for cell in table_iv(COLUMNS[machine], found, costs)]
    return columns + table_v(tests["lrpc"]["Null"], costs)


def measured(findings: Mapping[str, Any]) -> dict[str, Measured]:
    """Return the loops that one client measured, by test."""
    return {test: Measured(**found) for test, found in findings.items()}
