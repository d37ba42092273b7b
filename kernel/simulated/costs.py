"""Cost models: what each step costs on a stated machine, and where that figure is from.

A cost model is a TOML file in cost_models/, or a user's own. It gives each step's cost with its
origin: quoted from a source, fitted to the table cells that it names, or assumed. A `total` states
a quoted sum whose split over steps is assumed.

From these origins and totals the kind of a resulting figure is derived: input, fitted or predicted.
So no figure that went into a model is shown as a prediction of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, model_validator

from lrpc.kernel.documents import Document, read_toml, validate
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.disciplines import MessagePassing
from lrpc.kernel.simulated.origins import Sourced

# The steps that paths charge. A step's number is its index here, and in every list of costs and
# charges.
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
    "transmit_byte",
    "controller_receive",
    "receive_byte",
    "io_interrupt",
    "receive_handling",
    "wakeup",
    "marshal_word",
    "marshal_array",
    "marshal_array_byte",
    "marshal_open_array",
    "marshal_open_array_byte",
    "marshal_nil",
    "marshal_text",
    "marshal_text_byte",
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
TRANSMIT_BYTE: Final = 42
CONTROLLER_RECEIVE: Final = 43
RECEIVE_BYTE: Final = 44
IO_INTERRUPT: Final = 45
RECEIVE_HANDLING: Final = 46
WAKEUP: Final = 47
MARSHAL_WORD: Final = 48
MARSHAL_ARRAY: Final = 49
MARSHAL_ARRAY_BYTE: Final = 50
MARSHAL_OPEN_ARRAY: Final = 51
MARSHAL_OPEN_ARRAY_BYTE: Final = 52
MARSHAL_NIL: Final = 53
MARSHAL_TEXT: Final = 54
MARSHAL_TEXT_BYTE: Final = 55

# The steps that can occupy the memory bus: those that move what another processor, or the cache of
# their own, does not have at hand.
BUS_STEPS: Final = (
    "tlb_miss",
    "kernel_call",
    "kernel_return",
    "exchange",
    "copy_byte",
    "exchanged_byte",
    "message_buffer",
    "message_argument_byte",
    "message_result_byte",
)

# The steps of each packet, in order and by who takes them: the calling processor, its machine's I/O
# processor and controller, and those of the machine that receives it.
PACKET_SEND: Final = (UDP_HEADER, UDP_CHECKSUM, NETWORK_TRAP, NETWORK_QUEUE, PROCESSOR_INTERRUPT)
PACKET_OUT: Final = (INTERRUPT_HANDLING, CONTROLLER_START)
TRANSMIT: Final = (CONTROLLER_TRANSMIT,)
RECEIVE: Final = (CONTROLLER_RECEIVE,)
PACKET_IN: Final = (IO_INTERRUPT, RECEIVE_HANDLING, UDP_CHECKSUM, WAKEUP)

# A cost model gives all steps of a part or none. Without a part, that kind of call is refused.
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "machine": STEPS[PROCEDURE_CALL : TLB_MISS + 1],
    "lrpc": STEPS[CLIENT_STUB : EXCHANGED_BYTE + 1],
    "message passing": STEPS[MESSAGE_CLIENT_STUB : MESSAGE_RESULT_BYTE + 1],
    "network": STEPS[REMOTE_CLIENT : REMOTE_SERVER + 1],
    # A message is sent and received whole, by the processors that run threads.
    "messages": STEPS[NETWORK_SEND : NETWORK_BYTE + 1],
    # Each packet is sent and received step by step, by an I/O processor and a controller.
    "packets": STEPS[UDP_HEADER : WAKEUP + 1],
    # What stubs add to a call of another machine, by the types of its values.
    "marshaling": STEPS[MARSHAL_WORD : MARSHAL_TEXT_BYTE + 1],
}
REMOTE_STEPS: Final = (*PARTS["network"], *PARTS["messages"], *PARTS["packets"], *PARTS["marshaling"])

LARGEST_COST_US: Final = 1e9
LONGEST_WAIT_NS: Final = 10**12
LARGEST_COUNT: Final = 1 << 16  # of a step in a total, or of pages


class StepCost(Sourced):
    """The cost of one step, in microseconds (`us`), and its origin."""

    us: float = Field(ge=0, le=LARGEST_COST_US, allow_inf_nan=False)

    @property
    def ps(self) -> int:
        """Return the cost in picoseconds."""
        return round(self.us * 1_000_000)


class Total(Document):
    """A sum that a source states, whose split over steps is assumed.

    `of` says how often the sum contains each step.
    """

    name: str
    us: float = Field(allow_inf_nan=False)
    source: str
    of: dict[str, Annotated[int, Field(gt=0, le=LARGEST_COUNT)]] = Field(min_length=1)


class TlbPages(Document):
    """The numbers of pages that a path touches after a switch: the kernel's and the domain's."""

    kernel: int = Field(ge=0, le=LARGEST_COUNT)
    domain: int = Field(ge=0, le=LARGEST_COUNT)


class Tlb(Document):
    """The translation buffer: whether its entries are tagged, and the pages touched in a call."""

    tagged: bool
    on_call: TlbPages
    on_return: TlbPages
    source: str


class Bus(StepCost):
    """The memory bus that processors share, and which steps occupy it.

    `shares` says for how long, on average, each step does; that is a part of the step's own cost.
    `us` is their sum over a call that takes each step as often as `of` says.
    """

    of: dict[str, Annotated[int, Field(gt=0, le=LARGEST_COUNT)]] = Field(min_length=1)
    shares: dict[str, StepCost] = Field(min_length=1)


class Retransmission(StepCost):
    """When a call over a link that loses packets is sent again.

    The first wait for an answer is `us`; each later one is `backoff` times as long as the one
    before.
    """

    us: float = Field(gt=0, le=LARGEST_COST_US, allow_inf_nan=False)
    backoff: int = Field(ge=1, le=10)
    tries: int = Field(ge=1, le=100)  # unanswered in a row, after which the call fails

    def wait_ns(self, tries: int) -> int:
        """Return how long to wait for an answer to try number `tries`, counted from 1."""
        wait_ns = round(self.us * 1000)
        for _ in range(tries - 1):
            wait_ns = min(wait_ns * self.backoff, LONGEST_WAIT_NS)
        return wait_ns


class Variation(Sourced):
    """How the time that a service takes in a call to another machine varies around its cost.

    It takes `floor` times its cost at least. What it takes beyond that is exponential.
    """

    floor: float = Field(gt=0, le=1, allow_inf_nan=False)


class CostFile(Document):
    """A cost model as its TOML file gives it."""

    name: str = Field(min_length=1)
    description: str
    mixes: str = ""  # figures of different machines that it mixes: reports say so beside results
    tlb: Tlb
    bus: Bus | None = None
    message_passing: MessagePassing | None = None
    retransmission: Retransmission | None = None
    variation: Variation | None = None
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
        return self

    @model_validator(mode="after")
    def _the_bus_is_shared_by_steps_that_use_it(self) -> "CostFile":
        bus = self.bus
        if bus is None:
            return self
        for step, share in bus.shares.items():
            if step not in BUS_STEPS:
                raise ValueError(f"bus.shares.{step}: does not use the bus; {', '.join(BUS_STEPS)} can")
            whole = self.steps[step].us if step in self.steps else share.us
            if share.us > whole:
                raise ValueError(f"bus.shares.{step}.us: occupies the bus for {share.us:g} of its {whole:g}; lower it")
        missing = sorted(set(bus.of) - set(bus.shares))
        if missing:
            raise ValueError(f"bus.shares.{missing[0]}: missing; bus.of counts it")
        found = sum(bus.shares[step].us * times for step, times in bus.of.items())
        if abs(found - bus.us) > 0.001:
            raise ValueError(f"bus.us: its shares add up to {found:g}, not to {bus.us:g}; correct one")
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
                raise ValueError(f"totals: {total.name}: {sums}; correct one, or remove the total")
        return self


@dataclass(frozen=True)
class CostModel:
    """A cost model, with its costs by step number.

    `ns` are whole steps' costs, rounded; `ps` are exact, for values and bytes.
    """

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
        """Raise `Refused` if this model has no costs for `part`."""
        if not self.has(part):
            raise Refused(f"cost model {self.name}: has no costs for {part}; add steps.{PARTS[part][0]} and the rest")

    @property
    def lookahead_ns(self) -> int:
        """Return the least time from the last checkpoint before a message to its leaving."""
        # That a controller begins to transmit a packet is an event of its own.
        if self.has("packets"):
            return self.floor_ns((sum(self.ps[step] for step in TRANSMIT) + 500) // 1000)
        return self.ns[NETWORK_SEND]

    def floor_ns(self, ns: int) -> int:
        """Return the least that a service takes which costs `ns`, where its time varies."""
        return ns * self.floor_ppm // 1_000_000

    @property
    def floor_ppm(self) -> int:
        """Return the least part of its cost that a service takes, in millionths."""
        return 1_000_000 if self.file.variation is None else round(self.file.variation.floor * 1_000_000)

    def without_variation(self) -> "CostModel":
        """Return this model with services that always take what they cost."""
        return CostModel(self.file.model_copy(update={"variation": None}), self.ns, self.ps)

    @property
    def retransmission(self) -> Retransmission:
        """Return when calls are sent again. Raises `Refused` if this model does not say."""
        if self.file.retransmission is None:
            raise Refused(f"cost model {self.name}: does not say when a lost call is sent again; add retransmission")
        return self.file.retransmission

    def bus_ps(self, step: int) -> int:
        """Return for how long a step occupies the memory bus, on average, in picoseconds."""
        share = None if self.file.bus is None else self.file.bus.shares.get(STEPS[step])
        return 0 if share is None else share.ps

    def with_tlb(self, *, tagged: bool) -> "CostModel":
        """Return this model with another translation buffer."""
        tlb = self.file.tlb.model_copy(update={"tagged": tagged})
        return CostModel(self.file.model_copy(update={"tlb": tlb}), self.ns, self.ps)

    def without(self, steps: Sequence[str]) -> "CostModel":
        """Return this model with the costs of some steps at nothing, as far as it has them."""
        free = {step: one.model_copy(update={"us": 0.0}) for step, one in self.file.steps.items() if step in steps}
        file = self.file.model_copy(update={"steps": {**self.file.steps, **free}, "totals": ()})
        if file.bus is not None:
            shares = {step: share for step, share in file.bus.shares.items() if step not in free}
            file = file.model_copy(update={"bus": file.bus.model_copy(update={"shares": shares})})
        numbers = {STEPS.index(step) for step in free}
        ns, ps = (tuple(0 if at in numbers else cost for at, cost in enumerate(all_)) for all_ in (self.ns, self.ps))
        return CostModel(file, ns, ps)


def cost_model(tables: object, document: str) -> CostModel:
    """Return the cost model that a file's tables describe.

    Raises `Refused`, naming `document` and the key, if they describe none.
    """
    file = validate(CostFile, tables, document)
    ps = tuple(file.steps[step].ps if step in file.steps else 0 for step in STEPS)
    return CostModel(file, tuple((cost + 500) // 1000 for cost in ps), ps)


COST_MODELS: Final = Path(__file__).parent / "cost_models"


def cost_model_names() -> list[str]:
    """Return the names of the cost models that ship with lrpc."""
    return sorted(path.stem for path in COST_MODELS.glob("*.toml"))


def load_cost_model(name: str) -> CostModel:
    """Return the cost model of that name, or from the TOML file at that path.

    Raises `Refused` if there is none, or if the file is no cost model.
    """
    path = COST_MODELS / f"{name}.toml" if name in cost_model_names() else Path(name)
    if path.suffix != ".toml":
        raise Refused(f"cost model {name}: unknown; known are {', '.join(cost_model_names())}, or a .toml file's path")
    return cost_model(read_toml(path), str(path))
