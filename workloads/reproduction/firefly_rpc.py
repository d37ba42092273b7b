"""Firefly RPC between two machines: a remote Null step by step, stubs, and calls by many threads.

Schroeder and Burrows gave an account of where the time of a remote Null goes, on MicroVAX II
processors. The cost model charges that account step by step, so its rows stand beside ours. It adds
up to less than the two times that are known for a whole Null. What is missing is shown as
unaccounted and charged nowhere, since no source says what it is spent on.

Two Fireflies of five processors then call each other by up to eight threads. What one thread's call
takes is the account; what more threads get follows from what they queue for.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.kernel.simulated.costs import PARTS, CostModel
from lrpc.workloads.programs.packets import STUB_CALLS
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.kinds import COUNTED, QUOTED, Basis, Parameter, from_charges, us_of
from lrpc.workloads.reproduction.paper import Measured

TABLE: Final = "Firefly RPC"
STUBS: Final = "Firefly RPC stubs"
THREADS: Final = "Firefly RPC threads"
BUSY: Final = "Firefly RPC busy"
COLUMN: Final = "MicroVAX II"
FULL: Final = "1,514-byte packet, one way"
NOT_CHARGED: Final = "not charged"

# From Schroeder and Burrows, in microseconds: RUNTIME is spent by runtime and stubs in each Null.
# ACCOUNT is spent on each of its PACKETS of 74 bytes, by the named steps of the cost model.
RUNTIME: Final = 606.0
PACKETS: Final = 2
ACCOUNT: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "UDP header": (59.0, ("udp_header",)),
    "checksums of sender and receiver": (90.0, ("udp_checksum",)),
    "trap": (37.0, ("network_trap",)),
    "queueing the packet": (39.0, ("network_queue",)),
    "interprocessor interrupt": (10.0, ("processor_interrupt",)),
    "handling that interrupt": (76.0, ("interrupt_handling",)),
    "starting the controller": (22.0, ("controller_start",)),
    "controller, transmitting": (70.0, ("controller_transmit",)),
    "controller, receiving": (80.0, ("controller_receive",)),
    "I/O interrupt": (14.0, ("io_interrupt",)),
    "handling the packet received": (177.0, ("receive_handling",)),
    "waking the thread": (220.0, ("wakeup",)),
}
WIRE: Final = 60.0
# What a 1,514-byte packet takes in the steps that its bytes lengthen.
FULL_ACCOUNT: Final[dict[str, tuple[float, tuple[str, ...]]]] = {
    "checksums of sender and receiver": (880.0, ("udp_checksum", "checksum_byte")),
    "controller, transmitting": (815.0, ("controller_transmit", "transmit_byte")),
    "controller, receiving": (835.0, ("controller_receive", "receive_byte")),
}
FULL_WIRE: Final = 1230.0
MBPS: Final = 8 * 1440 / (FULL_WIRE - WIRE)  # for the bytes that a full packet has more
ONE_WAY: Final = sum(us for us, _ in ACCOUNT.values()) + WIRE  # 954
NULL: Final = RUNTIME + PACKETS * ONE_WAY  # 2,514
FULL_ONE_WAY: Final = 4414.0
MEASURED: Final = (2645.0, 2660.0)  # a whole Null, in the study itself and as it is quoted

# What stubs add for values, in microseconds, by the names of `STUB_CALLS`.
MARSHALING: Final = dict(zip(STUB_CALLS, (8.0, 16.0, 32.0, 20.0, 140.0, 115.0, 550.0, 89.0, 378.0, 659.0), strict=True))
SHOWN: Final = (1, 2, 4, 8)  # threads whose processors are shown with what they do


@dataclass(frozen=True)
class RemoteLoop:
    """The loops of some threads that call another machine, with the charges of both machines.

    `wire_ns` is how long controllers were held by packets on the wire. `busy` has, for either side,
    how many processors were busy on average, by what with.
    """

    measured: Measured
    calls_per_s: float
    wire_ns: int
    busy: Mapping[str, Mapping[str, float]]

    def of(self, costs: CostModel, steps: Sequence[str]) -> tuple[float, dict[str, int]]:
        """Return what some steps cost per call, in us, and how often a call is charged each."""
        charges = {step: self.measured.charges[step] for step in steps if step in self.measured.charges}
        return us_of(costs, charges) / self.measured.calls, self.measured.per_call(charges)

    @property
    def wire_us(self) -> float:
        """Return how long a call's packets were on the wire."""
        return self.wire_ns / self.measured.calls / 1000


def cells(loops: Mapping[str, Mapping[int, RemoteLoop]], costs: CostModel) -> list[Cell]:
    """Return a remote Null's account, a full packet's way, and what several threads get.

    `loops` has the calls of Null and of those that return a full packet, by number of threads.
    """
    null, full = (loops[what][1] for what in ("Null", "full packet"))
    found = [_row("runtime and stubs", RUNTIME, null.of(costs, PARTS["network"]), costs)]
    for row, (us, steps) in ACCOUNT.items():
        found.append(_row(f"{row}, twice", PACKETS * us, null.of(costs, steps), costs))
    found.append(Cell.of(TABLE, "wire, twice", COLUMN, PACKETS * WIRE, null.wire_us, "us", QUOTED))
    found.append(Cell.of(TABLE, "Null", COLUMN, NULL, null.measured.us, "us", _basis(null, costs)))
    for measured in MEASURED:
        row = f"unaccounted, of {measured:,.0f} measured"
        found.append(Cell.of(TABLE, row, COLUMN, measured - NULL, NOT_CHARGED, "us", QUOTED))
    for row, (us, steps) in FULL_ACCOUNT.items():
        found.append(_row(f"{row}, 1,514 bytes", us, _full(null, full, costs, steps), costs))
    wire_us = full.wire_us - null.wire_us / PACKETS
    found.append(Cell.of(TABLE, "wire, 1,514 bytes", COLUMN, FULL_WIRE, wire_us, "us", QUOTED))
    one_way, charges = _full(null, full, costs, PARTS["packets"])
    found.append(_row(FULL, FULL_ONE_WAY, (one_way + wire_us, charges), costs))
    return found + _threads(loops, costs) + _busy(loops, costs)


def stubs(sides: Sequence[Sequence[Mapping[str, int]]], costs: CostModel) -> list[Cell]:
    """Return what stubs add for values of each kind; `sides` has the charges of either machine."""
    found = []
    for row, *charges in zip(STUB_CALLS, *sides, strict=True):
        summed = Counter[str]()
        for side in charges:
            summed.update(side)
        basis = from_charges(costs, summed, f"{STUBS}/{row}")
        found.append(Cell.of(STUBS, row, COLUMN, MARSHALING[row], us_of(costs, summed), "us", basis))
    return found


def _full(null: RemoteLoop, full: RemoteLoop, costs: CostModel, steps: Sequence[str]) -> tuple[float, dict[str, int]]:
    """Return what some steps cost of a full packet: a call's other packet is like one of Null's."""
    (us, charges), (less, _) = full.of(costs, steps), null.of(costs, steps)
    return us - less / PACKETS, charges


def _row(row: str, paper: float, found: tuple[float, Mapping[str, int]], costs: CostModel) -> Cell:
    us, charges = found
    return Cell.of(TABLE, row, COLUMN, paper, us, "us", from_charges(costs, charges, f"{TABLE}/{row}"))


def _basis(loop: RemoteLoop, costs: CostModel) -> Basis:
    return from_charges(costs, loop.measured.per_call(loop.measured.charges), f"{TABLE}/Null")


def _threads(loops: Mapping[str, Mapping[int, RemoteLoop]], costs: CostModel) -> list[Cell]:
    """Return latency and throughput by number of threads."""
    found = []
    for what, by_threads in loops.items():
        for threads, loop in by_threads.items():
            rests, row = _of_threads(threads, loop, costs), str(threads)
            found.append(Cell.of(THREADS, row, f"{what}, us", None, loop.measured.us, "us", rests))
            found.append(Cell.of(THREADS, row, f"{what}, calls/s", None, loop.calls_per_s, "calls/s", rests))
    return sorted(found, key=lambda cell: int(cell.row))


def _busy(loops: Mapping[str, Mapping[int, RemoteLoop]], costs: CostModel) -> list[Cell]:
    """Return what processors were busy with."""
    found = []
    for what, by_threads in loops.items():
        for threads in SHOWN:
            loop = by_threads[threads]
            rests, column = _of_threads(threads, loop, costs), f"{threads} thread" + "s" * (threads > 1)
            for side, busy in loop.busy.items():
                for with_, processors in busy.items():
                    row = f"{what}, {side}: {with_}"
                    found.append(Cell.of(BUSY, row, column, None, processors, "processors", rests))
    return found


def _of_threads(threads: int, loop: RemoteLoop, costs: CostModel) -> Basis:
    """Return what a figure of several threads rests on; of one thread it is the account's sum."""
    basis = _basis(loop, costs)
    if threads == 1:
        return basis
    variation = costs.file.variation
    if variation is None:
        return basis | COUNTED
    drawn = Parameter("variation", variation.origin, variation.solved_from)
    return basis | COUNTED | Basis(frozenset({drawn}))
