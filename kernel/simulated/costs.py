"""Cost models: what each step costs on a stated machine, where that is from, and what kind of figure it makes."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, model_validator

from lrpc.kernel.documents import Document, read_toml, validate
from lrpc.kernel.errors import Refused

# The steps that a path charges; a step's number is its place in every list of costs and charges.
STEPS: Final = (
    "procedure_call",
    "trap",
    "switch",
    "tlb_miss",
    "client_stub",
    "server_stub",
    "astack_queue",
    "kernel_call",
    "kernel_return",
    "secondary_region",
    "map_memory",
    "copy_value",
    "copy_byte",
    "exchange",
    "exchanged_value",
    "exchanged_byte",
    "message_client_stub",
    "message_server_stub",
    "message_buffer",
    "message_validate",
    "message_enqueue",
    "message_transfer",
    "message_schedule",
    "message_switch",
    "message_dispatch",
    "message_value",
    "message_argument_byte",
    "message_result_byte",
    "remote_client",
    "remote_server",
    "network_send",
    "network_receive",
    "network_byte",
    "udp_header",
    "udp_checksum",
    "checksum_byte",
    "network_trap",
    "network_queue",
    "processor_interrupt",
    "interrupt_handling",
    "controller_start",
    "controller_transmit",
    "controller_receive",
    "controller_byte",
    "io_interrupt",
    "receive_handling",
    "wakeup",
)

PROCEDURE_CALL: Final = 0
TRAP: Final = 1
SWITCH: Final = 2
TLB_MISS: Final = 3
CLIENT_STUB: Final = 4
SERVER_STUB: Final = 5
ASTACK_QUEUE: Final = 6
KERNEL_CALL: Final = 7
KERNEL_RETURN: Final = 8
SECONDARY_REGION: Final = 9
MAP_MEMORY: Final = 10
COPY_VALUE: Final = 11
COPY_BYTE: Final = 12
EXCHANGE: Final = 13
EXCHANGED_VALUE: Final = 14
EXCHANGED_BYTE: Final = 15
MESSAGE_CLIENT_STUB: Final = 16
MESSAGE_SERVER_STUB: Final = 17
MESSAGE_BUFFER: Final = 18
MESSAGE_VALIDATE: Final = 19
MESSAGE_ENQUEUE: Final = 20
MESSAGE_TRANSFER: Final = 21
MESSAGE_SCHEDULE: Final = 22
MESSAGE_SWITCH: Final = 23
MESSAGE_DISPATCH: Final = 24
MESSAGE_VALUE: Final = 25
MESSAGE_ARGUMENT_BYTE: Final = 26
MESSAGE_RESULT_BYTE: Final = 27
REMOTE_CLIENT: Final = 28
REMOTE_SERVER: Final = 29
NETWORK_SEND: Final = 30
NETWORK_RECEIVE: Final = 31
NETWORK_BYTE: Final = 32
UDP_HEADER: Final = 33
UDP_CHECKSUM: Final = 34
CHECKSUM_BYTE: Final = 35
NETWORK_TRAP: Final = 36
NETWORK_QUEUE: Final = 37
PROCESSOR_INTERRUPT: Final = 38
INTERRUPT_HANDLING: Final = 39
CONTROLLER_START: Final = 40
CONTROLLER_TRANSMIT: Final = 41
CONTROLLER_RECEIVE: Final = 42
CONTROLLER_BYTE: Final = 43
IO_INTERRUPT: Final = 44
RECEIVE_HANDLING: Final = 45
WAKEUP: Final = 46

# Of packets: what the calling processor does for each, and the network processor on the way out and on the way in.
PACKET_SEND: Final = (UDP_HEADER, UDP_CHECKSUM, NETWORK_TRAP, NETWORK_QUEUE, PROCESSOR_INTERRUPT)
PACKET_OUT: Final = (INTERRUPT_HANDLING, CONTROLLER_START, CONTROLLER_TRANSMIT)
PACKET_IN: Final = (CONTROLLER_RECEIVE, IO_INTERRUPT, RECEIVE_HANDLING, UDP_CHECKSUM, WAKEUP)

# A cost model gives the steps of a part wholly or not at all; without a part, that kind of call is refused.
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "machine": STEPS[PROCEDURE_CALL : TLB_MISS + 1],
    "lrpc": STEPS[CLIENT_STUB : EXCHANGED_BYTE + 1],
    "message passing": STEPS[MESSAGE_CLIENT_STUB : MESSAGE_RESULT_BYTE + 1],
    "network": STEPS[REMOTE_CLIENT : REMOTE_SERVER + 1],
    "messages": STEPS[NETWORK_SEND : NETWORK_BYTE + 1],  # sent and received whole, by the processors that threads have
    "packets": STEPS[UDP_HEADER : WAKEUP + 1],  # each sent and received step by step, past the network processor
}

# Which copies, by the letters of Table III, a message-passing system makes of each mutable argument, each immutable
# one and each result. Shared buffers are Taos': mapped into every domain, so that they need no copies between domains.
Discipline = Literal["shared buffers", "message passing", "restricted message passing"]
COPIES: Final[dict[str, tuple[str, str, str]]] = {
    "shared buffers": ("A", "AE", "F"),
    "message passing": ("ABCE", "ABCE", "BCF"),
    "restricted message passing": ("ADE", "ADE", "BF"),
}

Origin = Literal["source", "fitted", "assumed"]
Kind = Literal["input", "fitted", "predicted"]
LARGEST_COST_US: Final = 1e9
LONGEST_WAIT_NS: Final = 10**12
LARGEST_COUNT: Final = 1 << 16  # of one step in a path or a total


class StepCost(Document):
    """One cost, in microseconds (`us`), with its origin: quoted, solved from the cells it names, or assumed."""

    us: float = Field(ge=0, le=LARGEST_COST_US, allow_inf_nan=False)
    origin: Origin
    source: str = Field(min_length=1)
    solved_from: tuple[str, ...] = Field(default=(), strict=False)

    @property
    def ps(self) -> int:
        """Return the cost in picoseconds."""
        return round(self.us * 1_000_000)


class Total(Document):
    """A sum that a source states, whose split over steps is assumed: `of` says how often each step is in it."""

    name: str
    us: float = Field(allow_inf_nan=False)
    source: str
    of: dict[str, Annotated[int, Field(gt=0, le=LARGEST_COUNT)]] = Field(min_length=1)


class TlbPages(Document):
    """How many pages a path touches after a switch: the kernel's own, and those of the domain it switched to."""

    kernel: int = Field(ge=0, le=LARGEST_COUNT)
    domain: int = Field(ge=0, le=LARGEST_COUNT)


class Tlb(Document):
    """The translation buffer: whether its entries are tagged, and the pages touched after each switch of a call."""

    tagged: bool
    on_call: TlbPages
    on_return: TlbPages
    source: str


class Bus(StepCost):
    """The memory bus that processors share: how long, of what a miss costs, it is occupied, on average."""


class Retransmission(StepCost):
    """When a call over a link that loses packets is sent again: after `us`, and each time `backoff` times as long."""

    us: float = Field(gt=0, le=LARGEST_COST_US, allow_inf_nan=False)
    backoff: int = Field(ge=1, le=10)
    tries: int = Field(ge=1, le=100)  # in a row that nobody answered; then the call has failed

    def wait_ns(self, tries: int) -> int:
        """Return how long to wait for an answer to the last of so many tries."""
        wait_ns = round(self.us * 1000)
        for _ in range(tries - 1):
            wait_ns = min(wait_ns * self.backoff, LONGEST_WAIT_NS)
        return wait_ns


class MessagePassing(Document):
    """How messages travel between domains, by the columns of Table III."""

    discipline: Discipline
    source: str


class CostFile(Document):
    """A cost model as its TOML file gives it."""

    name: str = Field(min_length=1)
    description: str
    mixes: str = ""  # which figures of different machines, to be said beside what comes of them
    tlb: Tlb
    bus: Bus | None = None
    message_passing: MessagePassing | None = None
    retransmission: Retransmission | None = None
    steps: dict[str, StepCost]
    totals: tuple[Total, ...] = Field(default=(), strict=False)

    @model_validator(mode="after")
    def _steps_are_known_and_complete(self) -> "CostFile":
        unknown = sorted(set(self.steps) - set(STEPS))
        if unknown:
            raise ValueError(f"steps.{unknown[0]}: unknown step; known are {', '.join(STEPS)}")
        for part, names in PARTS.items():
            missing = [name for name in names if name not in self.steps]
            if missing and (part == "machine" or len(missing) < len(names)):
                raise ValueError(f"steps.{missing[0]}: missing; {part} needs it")
        if "remote_client" in self.steps and not {"network_send", "udp_header"} & set(self.steps):
            raise ValueError("steps.network_send: missing; network needs it and the rest of messages, or of packets")
        if "message_validate" in self.steps and self.message_passing is None:
            raise ValueError("message_passing: missing; message passing needs to know its discipline")
        if self.bus is not None and self.bus.us > self.steps["tlb_miss"].us:
            raise ValueError(
                f"bus.us: a miss occupies the bus for {self.bus.us:g} of its {self.steps['tlb_miss'].us:g}"
            )
        return self

    @model_validator(mode="after")
    def _totals_are_what_their_parts_add_up_to(self) -> "CostFile":
        for total in self.totals:
            unknown = sorted(set(total.of) - set(self.steps))
            if unknown:
                raise ValueError(f"totals: {total.name}: {unknown[0]} is no step of this file")
            found = sum(self.steps[step].us * times for step, times in total.of.items())
            if abs(found - total.us) > 0.001:
                sums = f"its steps add up to {found:g}, not to {total.us:g}"
                raise ValueError(f"totals: {total.name}: {sums}; mend one, or leave the total out")
        return self


@dataclass(frozen=True)
class CostModel:
    """What every step costs, by step number: `ns` rounded for whole steps, `ps` exact for values and bytes."""

    file: CostFile
    ns: tuple[int, ...]
    ps: tuple[int, ...]

    @property
    def name(self) -> str:
        """Return the model's name, as scenarios give it."""
        return self.file.name

    def has(self, part: str) -> bool:
        """Return whether this model has costs for `part`, a key of `PARTS`."""
        return PARTS[part][0] in self.file.steps

    def require(self, part: str) -> None:
        """Raise `Refused` where this model has no costs for `part`."""
        if not self.has(part):
            raise Refused(f"cost model {self.name}: has no costs for {part}; add steps.{PARTS[part][0]} and the rest")

    @property
    def lookahead_ns(self) -> int:
        """Return the least time between the checkpoint after which a machine sends a message and its leaving."""
        if self.in_packets:  # it looks again before each joins the network processor's queue
            return (sum(self.ps[step] for step in PACKET_OUT) + 500) // 1000
        return self.ns[NETWORK_SEND]

    @property
    def retransmission(self) -> Retransmission:
        """Return when calls are sent again; `Refused` where this model does not say."""
        if self.file.retransmission is None:
            raise Refused(f"cost model {self.name}: does not say when a lost call is sent again; add retransmission")
        return self.file.retransmission

    @property
    def in_packets(self) -> bool:
        """Return whether messages are sent packet by packet, past a network processor."""
        return self.has("packets")

    def with_tlb(self, *, tagged: bool) -> "CostModel":
        """Return this model with another translation buffer."""
        tlb = self.file.tlb.model_copy(update={"tagged": tagged})
        return CostModel(self.file.model_copy(update={"tlb": tlb}), self.ns, self.ps)

    def kind(self, cell: str, charges: Mapping[str, int], *, bus: bool = False) -> Kind:
        """Return what kind of figure `cell` is, given the steps charged for it, by name, and whether `bus` mattered.

        Fitted: a step that it charges was solved from this very cell. Input: all it charges is quoted, where
        assumed splits of a quoted total count as quoted when every part is charged as often as the total has
        it. Predicted: neither.
        """
        left = {step: count for step, count in charges.items() if count}
        if any(cell in self.file.steps[step].solved_from for step in left):
            return "fitted"
        if bus and self.file.bus is not None:
            return "fitted" if cell in self.file.bus.solved_from else "predicted"
        for total in self.file.totals:
            whole = min(left.get(step, 0) // times for step, times in total.of.items())
            for step, times in total.of.items():
                left[step] = left.get(step, 0) - whole * times
        quoted = all(self.file.steps[step].origin == "source" for step, count in left.items() if count)
        return "input" if quoted else "predicted"


def cost_model(tables: object, origin: str) -> CostModel:
    """Return the cost model that a file's tables describe; `Refused` names `origin` and the key."""
    file = validate(CostFile, tables, origin)
    ps = tuple(file.steps[step].ps if step in file.steps else 0 for step in STEPS)
    return CostModel(file, tuple((cost + 500) // 1000 for cost in ps), ps)


HERE: Final = Path(__file__).parent / "cost_models"


def cost_model_names() -> list[str]:
    """Return the names of the cost models that ship with the project."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def load_cost_model(name: str) -> CostModel:
    """Return the cost model of that name, or of the TOML file at that path; `Refused` where there is none."""
    path = HERE / f"{name}.toml" if name in cost_model_names() else Path(name)
    if path.suffix != ".toml":
        raise Refused(f"cost model {name}: unknown; known are {', '.join(cost_model_names())}, or a .toml file's path")
    return cost_model(read_toml(path), str(path))
