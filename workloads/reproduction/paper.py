"""The paper's figures, and the cells that set ours beside them.

The constants quote the paper, table by table. They are only ever shown beside a figure of ours,
which comes from what simulated machines measured and charged. A row that names steps, such as a
context switch, is the cost of those steps as they were charged. A row of whole calls is the virtual
time that a loop of calls took. `CostModel.kind` derives the kind of most figures (see
`records.cells`).
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lrpc.kernel.simulated.costs import CostModel, Kind
from lrpc.workloads.programs.four_tests import TESTS
from lrpc.workloads.programs.survey import AXIS, BIN, figures
from lrpc.workloads.records.cells import Cell, crossing_shares, weakest

# Table I: operations that cross machines, in percent. Taos' 344,888 local and 18,366 network calls
# are 5.33 % of local and 5.06 % of all calls. For V and Sun the paper's share is of all operations.
TABLE_I: Final = {
    "V": {"remote/total": 3.0},
    "Taos": {"remote/local": 5.3, "remote/total": 5.06},
    "Sun UNIX+NFS": {"remote/total": 0.6},
}

# Table II, microseconds: the least time that a Null could take, and the time that it takes.
TABLE_II: Final = {
    "Accent": (444.0, 2300.0),
    "Taos": (109.0, 464.0),
    "Mach": (90.0, 754.0),
    "V": (170.0, 730.0),
    "Amoeba": (170.0, 800.0),
    "DASH": (170.0, 1590.0),
}

# Table III: the copies that are made, by the paper's letters.
TABLE_III: Final = {
    "call, mutable parameters": {"LRPC": "A", "message passing": "A B C E", "restricted message passing": "A D E"},
    "call, immutable parameters": {"LRPC": "A E", "message passing": "A B C E", "restricted message passing": "A D E"},
    "return": {"LRPC": "F", "message passing": "B C F", "restricted message passing": "B F"},
}

# Table IV, microseconds.
TABLE_IV: Final = {
    "LRPC/MP": {"Null": 125.0, "Add": 130.0, "BigIn": 173.0, "BigInOut": 219.0},
    "LRPC": {"Null": 157.0, "Add": 164.0, "BigIn": 192.0, "BigInOut": 227.0},
    "Taos": {"Null": 464.0, "Add": 480.0, "BigIn": 539.0, "BigInOut": 636.0},
}

# The steps of the cost model that make up a Null's least time, and those that LRPC and message
# passing add to it.
MINIMUM: Final = ("procedure_call", "trap", "switch", "tlb_miss")
OVERHEAD: Final[dict[str, tuple[str, ...]]] = {
    "stubs": ("client_stub", "server_stub", "astack_queue", "message_client_stub", "message_server_stub"),
    "buffers": ("message_buffer",),
    "validation": ("message_validate",),
    "enqueueing": ("message_enqueue",),
    "transfer": ("kernel_call", "kernel_return", "message_transfer"),
    "scheduling": ("message_schedule",),
    "context switch of threads": ("message_switch",),
    "dispatch": ("message_dispatch",),
}
ALL_OVERHEAD: Final = tuple(step for steps in OVERHEAD.values() for step in steps)

# Table V, microseconds: the figure of each row, and the steps that the row adds up.
TABLE_V: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "procedure call": (7.0, ("procedure_call",)),
    "two traps": (36.0, ("trap",)),
    "two context switches": (66.0, ("switch", "tlb_miss")),
    "minimum": (109.0, MINIMUM),
    "stubs": (21.0, OVERHEAD["stubs"]),
    "kernel transfer": (27.0, OVERHEAD["transfer"]),
    "overhead": (48.0, ALL_OVERHEAD),
}

# The same rows for LRPC and for SRC RPC (Taos), and the paper's figures as far as it has any. The
# minimum of SRC RPC is Table II's.
BREAKDOWN: Final[dict[str, tuple[str, ...]]] = {
    "procedure call": ("procedure_call",),
    "traps": ("trap",),
    "context switches": ("switch", "tlb_miss"),
    "minimum": MINIMUM,
    **OVERHEAD,
    "overhead": ALL_OVERHEAD,
    "total": MINIMUM + ALL_OVERHEAD,
}
BREAKDOWN_PAPER: Final = {
    "LRPC": {
        "procedure call": 7.0,
        "traps": 36.0,
        "context switches": 66.0,
        "minimum": 109.0,
        "stubs": 21.0,
        "transfer": 27.0,
        "overhead": 48.0,
        "total": 157.0,
    },
    "Taos": {"minimum": 109.0, "stubs": 70.0, "overhead": 355.0, "total": 464.0},
}

# Figure 2, calls a second by number of C-VAX processors. The speed-up on five processors is that of
# a Firefly with MicroVAX II processors.
FIGURE_2: Final = {
    "LRPC": {1: 6300.0, 4: 23_000.0},
    "SRC RPC": {2: 4000.0, 3: 4000.0, 4: 4000.0},
    "speed-up": {4: 3.7, 5: 4.3},
}


@dataclass(frozen=True)
class Measured:
    """The loop of calls that one test made.

    It has the number of calls, the virtual time that they took in ns, and how often each step was
    charged.
    """

    calls: int
    elapsed_ns: int
    charges: Mapping[str, int]

    @property
    def us(self) -> float:
        """Return the mean time of a call in virtual microseconds."""
        return self.elapsed_ns / self.calls / 1000

    def per_call(self, steps: Iterable[str]) -> dict[str, int]:
        """Return how often one call is charged each of `steps`.

        Every call of a loop is charged alike.
        """
        return {step: self.charges.get(step, 0) // self.calls for step in steps}


@dataclass(frozen=True)
class Rate:
    """How fast the processors of a machine called, and what their time went to."""

    calls_per_s: float
    charges: Mapping[str, int]  # of one call
    shares: Mapping[str, float]  # percent of the processors' time, by what they did


def table_i(row: str, counts: Mapping[str, int], solved_from: Collection[str] = ()) -> list[Cell]:
    """Return a row of Table I: its shares of calls that cross machines (`crossing_shares`).

    The row is fitted if `solved_from`, the cells that parameters were solved from, has one of its
    cells.
    """
    paper = TABLE_I.get(row, {})
    kind: Kind = "fitted" if any(cell.startswith(f"I/{row}/remote/") for cell in solved_from) else "predicted"
    return [
        Cell("I", row, column, paper.get(column), share, "%", kind) for column, share in crossing_shares(counts).items()
    ]


def measured_in_1989() -> list[Cell]:
    """Return the paper's Table I, to stand beside a system that the paper does not have."""
    return [
        Cell("I", f"{system}, 1989", column, paper, "not run", "%", "input")
        for system, columns in TABLE_I.items()
        for column, paper in columns.items()
    ]


def table_ii(nulls: Mapping[str, tuple[Measured, CostModel]]) -> list[Cell]:
    """Return Table II from each system's Null, and what its overhead is spent on.

    `nulls` has, by system, its loop of Nulls and the cost model that it ran on.
    """
    cells: list[Cell] = []
    parts = []
    for system, (null, costs) in nulls.items():
        least, takes = TABLE_II[system]
        minimum = _part("II", system, "minimum", least, null, costs, MINIMUM)
        actual = _mean("II", system, "actual", takes, null, costs)
        overhead = float(actual.ours) - float(minimum.ours)
        cells += [minimum, actual, Cell("II", system, "overhead", takes - least, overhead, "us", actual.kind)]
        for column, steps in OVERHEAD.items():
            parts.append(_part("II overhead", system, column, None, null, costs, steps, f"II/{system}/actual"))
    return cells + parts


def table_iii(letters: Mapping[str, Mapping[str, str]]) -> list[Cell]:
    """Return Table III from the letters of the copies that were counted, by column and row.

    Only LRPC's copies follow from the mechanism. Those of message passing are its disciplines,
    which are defined by this very table.
    """
    return [
        Cell("III", row, column, paper, letters[column][row], "copies", "predicted" if column == "LRPC" else "input")
        for row, columns in TABLE_III.items()
        for column, paper in columns.items()
    ]


def table_iv(columns: Mapping[str, Mapping[str, Measured]], costs: CostModel) -> list[Cell]:
    """Return Table IV: mean times of a call, and how many times as long Taos took as LRPC."""
    cells: list[Cell] = []
    ratios = []
    for test in TESTS:
        row = {
            column: _mean("IV", test, column, TABLE_IV[column][test], tests[test], costs)
            for column, tests in columns.items()
        }
        cells += row.values()
        taos, lrpc = row["Taos"], row["LRPC"]
        paper = TABLE_IV["Taos"][test] / TABLE_IV["LRPC"][test]
        ratio = float(taos.ours) / float(lrpc.ours)
        ratios.append(Cell("IV ratios", test, "Taos/LRPC", paper, ratio, "x", weakest(taos.kind, lrpc.kind)))
    return cells + ratios


def what_if(table: str, column: str, tests: Mapping[str, Measured], costs: CostModel) -> list[Cell]:
    """Return a column that the paper lacks: mean times of a call on a changed machine."""
    return [_mean(table, test, column, None, measured, costs) for test, measured in tests.items()]


def convention(stack: Mapping[str, Measured], pointer: Mapping[str, Measured], costs: CostModel) -> list[Cell]:
    """Return Table IV for arguments on the execution stack, and what the extra copies cost.

    `stack` are the tests with that convention, `pointer` those with an argument pointer.
    """
    cells = what_if("IV what-if", "arguments on the execution stack", stack, costs)
    more = [
        Cell(
            "IV what-if",
            cell.row,
            "for the extra copies",
            None,
            float(cell.ours) - pointer[cell.row].us,
            "us",
            cell.kind,
        )
        for cell in cells
    ]
    return cells + more


def table_v(null: Measured, costs: CostModel) -> list[Cell]:
    """Return Table V: the steps that Null was charged under LRPC, and the time that it took."""
    cells = [_part("V", row, "LRPC", paper, null, costs, steps) for row, (paper, steps) in TABLE_V.items()]
    return [*cells, _mean("V", "total", "LRPC", TABLE_IV["LRPC"]["Null"], null, costs)]


def breakdown(nulls: Mapping[str, Measured], costs: CostModel) -> list[Cell]:
    """Return what the time of Null is spent on, under LRPC and under SRC RPC."""
    return [
        _part("V SRC RPC", row, column, BREAKDOWN_PAPER[column].get(row), null, costs, steps, f"IV/Null/{column}")
        for row, steps in BREAKDOWN.items()
        for column, null in nulls.items()
    ]


def misses(null: Measured) -> Cell:
    """Return the TLB misses of a call that exchanges processors instead of switching contexts."""
    missed = null.charges.get("tlb_miss", 0) / null.calls
    return Cell("V what-if", "Null", "misses without a switch", None, missed, "misses", "predicted")


def figure_1(found: Mapping[str, int], astack_bytes: Mapping[int, int]) -> list[Cell]:
    """Return the survey's figures, and Figure 1 from the bytes that A-stacks carried.

    `astack_bytes` has the number of calls by their bytes of arguments and results. Everything is
    input: the generator was given the paper's figures, and an assumed distribution where the paper
    gives none.
    """
    sizes = figures(astack_bytes)
    calls, procedures, parameters = (max(1, found[name]) for name in ("calls", "procedures", "parameters"))
    rows: list[tuple[str, float | str | None, float, str]] = [
        ("services", 28.0, found["services"], "number"),
        ("procedures", 366.0, found["procedures"], "number"),
        ("parameters", "over 1,000", found["parameters"], "number"),
        ("parameters of fixed size", 80.0, 100 * found["fixed"] / parameters, "%"),
        ("parameters of four bytes or fewer", 65.0, 100 * found["small"] / parameters, "%"),
        ("procedures with parameters of fixed size only", 200 / 3, 100 * found["fixed_only"] / procedures, "%"),
        ("procedures that transfer 32 bytes or fewer", 60.0, 100 * found["up_to_32"] / procedures, "%"),
        ("calls", 1_487_105.0, found["calls"], "number"),
        ("procedures called", 112.0, found["called"], "number"),
        ("share of calls to 3", 75.0, 100 * found["calls_of_3"] / calls, "%"),
        ("share of calls to 10", 95.0, 100 * found["calls_of_10"] / calls, "%"),
        ("most frequent size, from", 0.0, sizes.mode, "bytes"),
        ("share of calls under 50 bytes", None, 100 * sizes.under_50, "%"),
        ("share of calls under 200 bytes", "a majority", 100 * sizes.under_200, "%"),
        ("share of calls in one packet of 1,448 bytes", None, 100 * sizes.one_packet, "%"),
    ]
    survey = [Cell("Figure 1 survey", row, "survey", paper, ours, unit, "input") for row, paper, ours, unit in rows]
    ends = [*(f"{start}-{start + BIN - 1}" for start in range(0, AXIS - BIN, BIN)), f"{AXIS - BIN}-{AXIS}"]
    bins = zip((*ends, f"over {AXIS}"), (*sizes.bins, sizes.beyond), strict=True)
    return survey + [Cell("Figure 1", row, "calls", None, count, "number", "input") for row, count in bins]


def figure_2(curves: Mapping[str, Mapping[int, Rate]], costs: CostModel) -> list[Cell]:
    """Return Figure 2, calls a second by number of processors, and where their time went.

    `curves` has the rates by curve and number of processors. A point is fitted if what matters to
    it was solved from any point of its curve. On one processor nobody waits for the bus or a lock.
    """
    cells, waits = [], []
    lrpc = curves["LRPC"]
    for processors in lrpc:
        row = str(processors)
        found = {
            curve: (rates[processors].calls_per_s, "calls/s", rates[processors]) for curve, rates in curves.items()
        }
        found["speed-up"] = (lrpc[processors].calls_per_s / lrpc[1].calls_per_s, "x", lrpc[processors])
        for column, (ours, unit, rate) in found.items():
            kinds = {costs.kind(f"Figure 2/{n}/{column}", rate.charges, bus=processors > 1) for n in lrpc}
            kind: Kind = "fitted" if "fitted" in kinds else weakest(*kinds)
            cells.append(Cell("Figure 2", row, column, FIGURE_2[column].get(processors), ours, unit, kind))
        for curve, rates in curves.items():
            for what, share in rates[processors].shares.items():
                rests_on = next(cell.kind for cell in reversed(cells) if (cell.row, cell.column) == (row, curve))
                waits.append(Cell("Figure 2 waits", row, f"{curve} {what}", None, share, "%", rests_on))
    return cells + waits


def _mean(table: str, row: str, column: str, paper: float | None, measured: Measured, costs: CostModel) -> Cell:
    """Return a cell with the mean time of a call."""
    kind = costs.kind(f"{table}/{row}/{column}", measured.per_call(measured.charges))
    return Cell(table, row, column, paper, measured.us, "us", kind)


def _part(
    table: str,
    row: str,
    column: str,
    paper: float | None,
    measured: Measured,
    costs: CostModel,
    steps: tuple[str, ...],
    solved_from: str = "",
) -> Cell:
    """Return a cell with what some steps cost per call.

    `solved_from` is the cell that these steps may have been solved from, if it is not this one.
    """
    us = sum(costs.file.steps[step].us * measured.charges[step] for step in steps if step in measured.charges)
    kind = costs.kind(solved_from or f"{table}/{row}/{column}", measured.per_call(steps))
    return Cell(table, row, column, paper, us / measured.calls, "us", kind)
