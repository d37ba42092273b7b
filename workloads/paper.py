"""The paper's figures beside ours: what it says, what a run came to, and what kind of figure that makes ours."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lrpc.kernel.simulated.costs import CostModel, Kind
from lrpc.workloads.four_tests import TESTS


@dataclass(frozen=True)
class Cell:
    """One cell of a table. `paper` is None where the paper has no such figure."""

    table: str
    row: str
    column: str
    paper: float | None
    ours: float
    unit: str
    kind: Kind


# Table IV, microseconds.
TABLE_IV: Final = {
    "LRPC": {"Null": 157.0, "Add": 164.0, "BigIn": 192.0, "BigInOut": 227.0},
    "Taos": {"Null": 464.0, "Add": 480.0, "BigIn": 539.0, "BigInOut": 636.0},
}

# Table V, microseconds: each row, and the steps of the cost model that it adds up.
TABLE_V: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "procedure call": (7.0, ("procedure_call",)),
    "two traps": (36.0, ("trap",)),
    "two context switches": (66.0, ("switch", "tlb_miss")),
    "minimum": (109.0, ("procedure_call", "trap", "switch", "tlb_miss")),
    "stubs": (21.0, ("client_stub", "astack_queue", "server_stub")),
    "kernel transfer": (27.0, ("kernel_call", "kernel_return")),
    "overhead": (48.0, ("client_stub", "astack_queue", "server_stub", "kernel_call", "kernel_return")),
}


@dataclass(frozen=True)
class Measured:
    """One test's loop: calls, the virtual time they took in ns, and how often each step was charged."""

    calls: int
    elapsed_ns: int
    charges: Mapping[str, int]

    def per_call(self) -> dict[str, int]:
        """Return the steps that one call is charged; every call of a loop is charged alike."""
        return {step: count // self.calls for step, count in self.charges.items()}


def table_iv(column: str, tests: Mapping[str, Measured], costs: CostModel) -> list[Cell]:
    """Return one column of Table IV: mean times of a call."""
    cells = []
    for test in TESTS:
        measured = tests[test]
        kind = costs.kind(f"IV/{test}/{column}", measured.per_call())
        ours = measured.elapsed_ns / measured.calls / 1000
        cells.append(Cell("IV", test, column, TABLE_IV[column][test], ours, "us", kind))
    return cells


def table_v(null: Measured, costs: CostModel) -> list[Cell]:
    """Return Table V: the steps that Null was charged under LRPC, and the time that its loop took."""
    cells = []
    for row, (paper, steps) in TABLE_V.items():
        charged = {step: count for step, count in null.charges.items() if step in steps}
        ours = sum(costs.file.steps[step].us * count for step, count in charged.items()) / null.calls
        kind = costs.kind(f"V/{row}", {step: count // null.calls for step, count in charged.items()})
        cells.append(Cell("V", row, "LRPC", paper, ours, "us", kind))
    total = null.elapsed_ns / null.calls / 1000
    cells.append(Cell("V", "total", "LRPC", 157.0, total, "us", costs.kind("V/total", null.per_call())))
    return cells


def table_i(row: str, counts: Mapping[str, int]) -> list[Cell]:
    """Return a row of Table I: operations that cross machines, over local ones and over all.

    Local are those that cross a protection boundary of their machine: traps and calls between its domains. Calls
    within a domain cross none and do not count.
    """
    local, remote = counts["trap"] + counts["cross_domain"], counts["cross_machine"]
    cells = []
    if local:
        cells.append(Cell("I", row, "remote/local", None, 100 * remote / local, "%", "predicted"))
    if local + remote:
        cells.append(Cell("I", row, "remote/total", None, 100 * remote / (local + remote), "%", "predicted"))
    return cells
