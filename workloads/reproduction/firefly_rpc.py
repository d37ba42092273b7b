"""Firefly RPC between two machines: a remote Null step by step, and a full packet.

Schroeder and Burrows gave an account of where the time of a remote Null goes, on MicroVAX II
processors. The cost model charges that account step by step, so its rows stand beside ours. It adds
up to less than the two times that are known for a whole Null. What is missing is shown as
unaccounted and charged nowhere, since no source says what it is spent on.
"""

from collections.abc import Mapping
from typing import Final

from lrpc.kernel.simulated.costs import CostModel
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.kinds import QUOTED, from_charges
from lrpc.workloads.reproduction.paper import Measured

TABLE: Final = "Firefly RPC"
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
ONE_WAY: Final = sum(us for us, _ in ACCOUNT.values()) + WIRE  # 954
NULL: Final = RUNTIME + PACKETS * ONE_WAY  # 2,514
FULL_ONE_WAY: Final = 4414.0
MEASURED: Final = (2645.0, 2660.0)  # a whole Null, in the study itself and as it is quoted


def cells(null: Measured, full: Measured, costs: CostModel) -> list[Cell]:
    """Return the cells of a remote Null's account and of a full packet's way.

    `null` and `full` are loops of calls with the charges of both machines together. `full` sends a
    full packet each call and gets a small one back.
    """
    found = [_step("runtime and stubs", RUNTIME, null, costs, ("remote_client", "remote_server"))]
    found += [_step(f"{row}, twice", PACKETS * us, null, costs, steps) for row, (us, steps) in ACCOUNT.items()]
    runtime, steps_us = float(found[0].ours), _us(null, costs, null.charges)
    # What a Null took beyond its charges is time on the wire, which no step charges.
    found.append(Cell.of(TABLE, "wire, twice", COLUMN, PACKETS * WIRE, null.us - steps_us, "us", QUOTED))
    whole = from_charges(costs, null.per_call(null.charges), f"{TABLE}/Null")
    found.append(Cell.of(TABLE, "Null", COLUMN, NULL, null.us, "us", whole))
    for measured in MEASURED:
        row = f"unaccounted, of {measured:,.0f} measured"
        found.append(Cell.of(TABLE, row, COLUMN, measured - NULL, NOT_CHARGED, "us", QUOTED))
    # The call's packet is full; the reply's is like those of a Null.
    one_way = full.us - runtime - (null.us - runtime) / PACKETS
    both = from_charges(costs, full.per_call(full.charges), f"{TABLE}/{FULL}") | whole
    return [*found, Cell.of(TABLE, FULL, COLUMN, FULL_ONE_WAY, one_way, "us", both)]


def _step(row: str, paper: float, null: Measured, costs: CostModel, steps: tuple[str, ...]) -> Cell:
    charges = {step: null.charges[step] for step in steps if step in null.charges}
    basis = from_charges(costs, null.per_call(charges), f"{TABLE}/{row}")
    return Cell.of(TABLE, row, COLUMN, paper, _us(null, costs, charges), "us", basis)


def _us(measured: Measured, costs: CostModel, charges: Mapping[str, int]) -> float:
    """Return what some charges of a loop cost, in microseconds per call."""
    return sum(costs.file.steps[step].us * count for step, count in charges.items()) / measured.calls
