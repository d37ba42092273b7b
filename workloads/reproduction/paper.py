"""The paper's figures, and the cells that set ours beside them.

The constants quote the paper, table by table. They are only ever shown beside a figure of ours,
which comes from what simulated machines measured and charged. A row that names steps, such as a
context switch, is the cost of those steps as they were charged. A row of whole calls is the virtual
time that a loop of calls took. The kind of each follows from what it was computed from (see
`records.kinds`).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from lrpc.cluster.parameters import ParameterTable
from lrpc.kernel.simulated.costs import STEPS, CostModel
from lrpc.workloads.programs.four_tests import TESTS
from lrpc.workloads.records.cells import Cell, crossing_shares
from lrpc.workloads.records.kinds import COUNTED, QUOTED, Basis, from_charges, from_parameters, us_of

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


def hours(run: float) -> str:
    """Return how a cell says that a part of a system's hours was run; nothing if all were."""
    return _part_of(run, "its hours")


def table_i(
    row: str, counts: Mapping[str, int], parameters: Mapping[str, ParameterTable] = MappingProxyType({}), run: float = 1
) -> list[Cell]:
    """Return a row of Table I: its shares of calls that cross machines (`crossing_shares`).

    `parameters` are those of the system's scenario, and `run` is the part of its hours that was
    run.
    """
    paper = TABLE_I.get(row, {})
    basis = from_parameters(parameters, [f"I/{row}/remote"])
    return [
        Cell.of("I", row, column, paper.get(column), share, "%", basis, hours(run))
        for column, share in crossing_shares(counts).items()
    ]


def measured_in_1989() -> list[Cell]:
    """Return the paper's Table I, to stand beside a system that the paper does not have."""
    return [
        Cell.of("I", f"{system}, 1989", column, paper, "not run", "%", QUOTED)
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
        both = _basis("II", system, null, costs, MINIMUM) | _basis("II", system, null, costs)
        cells += [minimum, actual, Cell.of("II", system, "overhead", takes - least, overhead, "us", both)]
        for column, steps in OVERHEAD.items():
            parts.append(_part("II overhead", system, column, None, null, costs, steps, f"II/{system}"))
    return cells + parts


def table_iii(letters: Mapping[str, Mapping[str, str]]) -> list[Cell]:
    """Return Table III from the letters of the copies that were counted, by column and row.

    Only LRPC's copies follow from the mechanism. Those of message passing are its disciplines,
    which are defined by this very table.
    """
    return [
        Cell.of("III", row, column, paper, letters[column][row], "copies", COUNTED if column == "LRPC" else QUOTED)
        for row, columns in TABLE_III.items()
        for column, paper in columns.items()
    ]


def table_iv(columns: Mapping[str, Mapping[str, Measured]], costs: CostModel) -> list[Cell]:
    """Return Table IV: mean times of a call, and how many times as long Taos took as LRPC."""
    cells: list[Cell] = []
    ratios = []
    for test in TESTS:
        cells += [
            _mean("IV", test, column, TABLE_IV[column][test], tests[test], costs) for column, tests in columns.items()
        ]
        taos, lrpc = (columns[column][test] for column in ("Taos", "LRPC"))
        paper = TABLE_IV["Taos"][test] / TABLE_IV["LRPC"][test]
        both = _basis("IV", test, taos, costs) | _basis("IV", test, lrpc, costs)
        ratios.append(Cell.of("IV ratios", test, "Taos/LRPC", paper, taos.us / lrpc.us, "x", both))
    return cells + ratios


def what_if(table: str, column: str, tests: Mapping[str, Measured], costs: CostModel) -> list[Cell]:
    """Return a column that the paper lacks: mean times of a call on a changed machine."""
    return [_mean(table, test, column, None, measured, costs) for test, measured in tests.items()]


def convention(stack: Mapping[str, Measured], pointer: Mapping[str, Measured], costs: CostModel) -> list[Cell]:
    """Return Table IV for arguments on the execution stack, and what the extra copies cost.

    `stack` are the tests with that convention, `pointer` those with an argument pointer.
    """
    column = "arguments on the execution stack"
    more = [
        Cell.of(
            "IV what-if",
            test,
            "for the extra copies",
            None,
            measured.us - pointer[test].us,
            "us",
            _basis("IV what-if", test, measured, costs) | _basis("IV what-if", test, pointer[test], costs),
        )
        for test, measured in stack.items()
    ]
    return what_if("IV what-if", column, stack, costs) + more


def table_v(null: Measured, costs: CostModel) -> list[Cell]:
    """Return Table V: the steps that Null was charged under LRPC, and the time that it took."""
    cells = [_part("V", row, "LRPC", paper, null, costs, steps) for row, (paper, steps) in TABLE_V.items()]
    return [*cells, _mean("V", "total", "LRPC", TABLE_IV["LRPC"]["Null"], null, costs)]


def breakdown(nulls: Mapping[str, Measured], costs: CostModel) -> list[Cell]:
    """Return what the time of Null is spent on, under LRPC and under SRC RPC."""
    return [
        _part("V SRC RPC", row, column, BREAKDOWN_PAPER[column].get(row), null, costs, steps, "IV/Null")
        for row, steps in BREAKDOWN.items()
        for column, null in nulls.items()
    ]


def misses(null: Measured) -> Cell:
    """Return the TLB misses of a call that exchanges processors instead of switching contexts."""
    missed = null.charges.get("tlb_miss", 0) / null.calls
    return Cell.of("V what-if", "Null", "misses without a switch", None, missed, "misses", COUNTED)


def figure_1(found: Mapping[str, int], astack_bytes: Mapping[int, int], run: float = 1) -> list[Cell]:
    """Return the survey's figures, and Figure 1 from the bytes that A-stacks carried.

    `astack_bytes` has the number of calls by their bytes of arguments and results; `run` is the
    part of the survey's calls that was made. Everything was given: the generator has the paper's
    figures, and an assumed distribution where the paper gives none.
    """
    from lrpc.workloads.programs.survey import AXIS, BIN, figures  # brings protobuf along, which few runs need

    sizes = figures(astack_bytes)
    calls, procedures, parameters = (max(1, found[name]) for name in ("calls", "procedures", "parameters"))
    services: list[tuple[str, float | str | None, float, str]] = [
        ("services", 28.0, found["services"], "number"),
        ("procedures", 366.0, found["procedures"], "number"),
        ("parameters", "over 1,000", found["parameters"], "number"),
        ("parameters of fixed size", 80.0, 100 * found["fixed"] / parameters, "%"),
        ("parameters of four bytes or fewer", 65.0, 100 * found["small"] / parameters, "%"),
        ("procedures with parameters of fixed size only", 200 / 3, 100 * found["fixed_only"] / procedures, "%"),
        ("procedures that transfer 32 bytes or fewer", 60.0, 100 * found["up_to_32"] / procedures, "%"),
    ]
    called: list[tuple[str, float | str | None, float, str]] = [
        ("calls", 1_487_105.0, found["calls"], "number"),
        ("procedures called", 112.0, found["called"], "number"),
        ("share of calls to 3", 75.0, 100 * found["calls_of_3"] / calls, "%"),
        ("share of calls to 10", 95.0, 100 * found["calls_of_10"] / calls, "%"),
        ("most frequent size, from", 0.0, sizes.mode, "bytes"),
        ("share of calls under 50 bytes", None, 100 * sizes.under_50, "%"),
        ("share of calls under 200 bytes", "a majority", 100 * sizes.under_200, "%"),
        ("share of calls in one packet of 1,448 bytes", None, 100 * sizes.one_packet, "%"),
    ]
    part = _part_of(run, "the calls")
    survey = [
        Cell.of("Figure 1 survey", row, "survey", paper, ours, unit, QUOTED, shortened)
        for rows, shortened in ((services, ""), (called, part))
        for row, paper, ours, unit in rows
    ]
    ends = [*(f"{start}-{start + BIN - 1}" for start in range(0, AXIS - BIN, BIN)), f"{AXIS - BIN}-{AXIS}"]
    bins = zip((*ends, f"over {AXIS}"), (*sizes.bins, sizes.beyond), strict=True)
    return survey + [Cell.of("Figure 1", row, "calls", None, count, "number", QUOTED, part) for row, count in bins]


def figure_2(curves: Mapping[str, Mapping[int, Rate]], costs: CostModel, run: float = 1) -> list[Cell]:
    """Return Figure 2, calls a second by number of processors, and where their time went.

    `curves` has the rates by curve and number of processors, and `run` is the part of the second
    that was run. What was solved from any point of a curve was solved from all of them. On one
    processor nobody waits for the bus or a lock.
    """
    cells, waits = [], []
    lrpc, part = curves["LRPC"], _part_of(run, "the second")
    for processors in lrpc:
        row = str(processors)
        rests = {curve: _on_curve(curve, rates, processors, costs) for curve, rates in curves.items()}
        for curve, rates in curves.items():
            rate, paper = rates[processors], FIGURE_2[curve].get(processors)
            cells.append(Cell.of("Figure 2", row, curve, paper, rate.calls_per_s, "calls/s", rests[curve], part))
            waits += [
                Cell.of("Figure 2 waits", row, f"{curve} {what}", None, share, "%", rests[curve], part)
                for what, share in rate.shares.items()
            ]
        both = rests["LRPC"] | _on_curve("LRPC", lrpc, 1, costs)
        faster = lrpc[processors].calls_per_s / lrpc[1].calls_per_s
        paper = FIGURE_2["speed-up"].get(processors)
        cells.append(Cell.of("Figure 2", row, "speed-up", paper, faster, "x", both, part))
    return cells + waits


def figure_2_what_if(curves: Mapping[str, Mapping[int, Rate]], costs: CostModel, run: float = 1) -> list[Cell]:
    """Return how fast processors call that switch no contexts, or miss nothing where they do.

    `curves` is as for `figure_2`. Beside each rate stands its ceiling: what the bus could carry.
    """
    cells, part = [], _part_of(run, "the second")
    for processors in next(iter(curves.values())):
        row = str(processors)
        for curve, rates in curves.items():
            rate = rates[processors]
            rests = from_charges(costs, rate.charges, bus=True)
            on_bus = sum(costs.bus_ps(STEPS.index(step)) * count for step, count in rate.charges.items()) / 1e6
            cells.append(Cell.of("Figure 2 what-if", row, curve, None, rate.calls_per_s, "calls/s", rests, part))
            ceiling = Cell.of("Figure 2 what-if", row, f"{curve}: the bus's most", None, 1e6 / on_bus, "calls/s", rests)
            cells.append(ceiling)
    return cells


def _on_curve(curve: str, rates: Mapping[int, Rate], processors: int, costs: CostModel) -> Basis:
    points = [f"Figure 2/{point}/{curve}" for point in rates]
    return from_charges(costs, rates[processors].charges, *points, bus=processors > 1)


def _part_of(run: float, what: str) -> str:
    return "" if run == 1 else f"{100 * run:.3g} % of {what}"


def _basis(table: str, row: str, measured: Measured, costs: CostModel, steps: Iterable[str] | None = None) -> Basis:
    """Return what some steps of a loop's call rest on, or all, in a row of a table."""
    return from_charges(costs, measured.per_call(measured.charges if steps is None else steps), f"{table}/{row}")


def _mean(table: str, row: str, column: str, paper: float | None, measured: Measured, costs: CostModel) -> Cell:
    """Return a cell with the mean time of a call."""
    return Cell.of(table, row, column, paper, measured.us, "us", _basis(table, row, measured, costs))


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

    `solved_from` is the row that these steps may have been solved from, if it is not this one.
    """
    us = us_of(costs, {step: measured.charges[step] for step in steps if step in measured.charges})
    basis = from_charges(costs, measured.per_call(steps), solved_from or f"{table}/{row}")
    return Cell.of(table, row, column, paper, us / measured.calls, "us", basis)
