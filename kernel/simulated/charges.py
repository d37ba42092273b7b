"""What one machine is charged: paths of steps, copies, and misses of translation buffers.

A path charges what it performs: the code that performs a step spends its cost (`Processor.spend`).
So a sum such as the 157 µs of a null call is one that the code arrives at. Steps that follow each
other with nothing in between form a `Path`, which is counted once. How often each step was charged
is derived from that (`Charges.counts`). Costs are kept in picoseconds and times in whole
nanoseconds, rounded once for each path or copy.

The tests hold this property: raising one step's cost by d changes a call's time by exactly d times
the counted charges of that step.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

from lrpc.kernel.simulated.costs import (
    ASTACK_QUEUE,
    CHECKSUM_BYTE,
    CLIENT_STUB,
    EXCHANGE,
    KERNEL_CALL,
    KERNEL_RETURN,
    MAP_MEMORY,
    MESSAGE_BUFFER,
    MESSAGE_CLIENT_STUB,
    MESSAGE_DISPATCH,
    MESSAGE_SERVER_STUB,
    NETWORK_BYTE,
    NETWORK_RECEIVE,
    NETWORK_SEND,
    PACKET_IN,
    PACKET_OUT,
    PACKET_SEND,
    PROCEDURE_CALL,
    RECEIVE,
    RECEIVE_BYTE,
    REMOTE_CLIENT,
    REMOTE_SERVER,
    SECONDARY_REGION,
    SERVER_STUB,
    STEPS,
    SWITCH,
    TLB_MISS,
    TRANSMIT,
    TRANSMIT_BYTE,
    TRAP,
    CostModel,
)

if TYPE_CHECKING:
    from lrpc.kernel.simulated.processor import Processor

# The numbers in notes of what serves packets beside processors.
IO_PROCESSOR: Final = -1
CONTROLLER: Final = -2
NO_BYTES: Final = -1  # in place of the step that a service takes for each byte


class Path:
    """Steps that follow each other with nothing in between: their cost and their number of uses.

    With `bus`, a part of their cost is spent on the memory bus, later (`Processor.refill`).
    """

    def __init__(self, costs: CostModel, steps: Sequence[int], number: int = 0, *, bus: bool = False) -> None:
        self.steps = tuple(steps)
        self.number = number  # among the paths of its machine
        self.bus_ns = (sum(costs.bus_ps(step) for step in self.steps) + 500) // 1000 if bus else 0
        whole = (sum(costs.ps[step] for step in self.steps) + 500) // 1000  # rounded once
        self.ns = whole - self.bus_ns  # off the bus
        self.times = 0


class PathsTogether:
    """Paths that are charged together, with misses behind them, and how often they were."""

    def __init__(self, paths: Sequence[Path], misses: int) -> None:
        self.paths = tuple(paths)
        self.misses = misses
        self.times = 0


class Service:
    """A path of steps for a packet or a call, whose time varies around its cost.

    Of each byte of data in it, `byte_step` is taken too.
    """

    def __init__(self, path: Path, byte_step: int = NO_BYTES) -> None:
        self.path = path
        self.byte_step = byte_step


class ChargeNote(NamedTuple):
    """A charge as it was made: where, for which steps, and how often for each.

    `domain` is the one whose context the processor had; it is empty for what serves packets.
    """

    machine: str
    processor: int
    domain: str
    steps: tuple[tuple[int, int], ...]


class Notes:
    """Is told what one machine is charged, as it is charged, and what its event log gets.

    This base class keeps nothing.
    """

    def add_path(self, path: Path, processor: "Processor") -> None:
        """Note a path that a processor has spent."""

    def add_service(
        self, service: Service, size: int, begin: int, ns: int, place: int, processor: "Processor | None"
    ) -> None:
        """Note a service of `size` bytes that takes `ns` from `begin` on.

        `place` is the processor's number, or that of what serves packets where there is none.
        """

    def add_copy(self, value_step: int, byte_step: int, values: int, size: int, ns: int) -> None:
        """Note a copy that is about to be spent where the thread runs, or at the last path's."""

    def add_misses(self, count: int, ns: int, processor: "Processor") -> None:
        """Note misses that a processor is about to spend."""

    def add_release(self, processor: "Processor", since: int) -> None:
        """Note that a processor, which has had its thread `since` that time, releases it."""

    def add_event(self, time: int, kind: int, subject: int, object_: int) -> None:
        """Note what the event log gets."""


class ChargeNotes(Notes):
    """Keeps what one machine is charged, in order.

    Several machines may write into one list. Their order there is that of cause and effect, as long
    as a single thread causes everything.
    """

    def __init__(self, machine: str, kept: list[ChargeNote]) -> None:
        self.machine = machine
        self.kept = kept
        self._processor = 0
        self._domain = ""

    def add_path(self, path: Path, processor: "Processor") -> None:
        """Keep the charge of a path; it and those that follow are made where `processor` is."""
        self._move(processor.number, processor)
        self._add([(step, 1) for step in path.steps])

    def add_service(
        self, service: Service, size: int, begin: int, ns: int, place: int, processor: "Processor | None"
    ) -> None:
        """Keep the charge of a service, with what its bytes cost."""
        self._move(place, processor)
        bytes_ = [] if service.byte_step == NO_BYTES else [(service.byte_step, size)]
        self._add([(step, 1) for step in service.path.steps] + bytes_)

    def add_copy(self, value_step: int, byte_step: int, values: int, size: int, ns: int) -> None:
        """Keep the charge of a copy."""
        self._add([(value_step, values), (byte_step, size)])

    def add_misses(self, count: int, ns: int, processor: "Processor") -> None:
        """Keep the charge of misses."""
        self._add([(TLB_MISS, count)])

    def _move(self, place: int, processor: "Processor | None") -> None:
        self._processor = place
        self._domain = "" if processor is None or processor.context is None else processor.context.name

    def _add(self, steps: Sequence[tuple[int, int]]) -> None:
        """Keep a charge, unless it is for nothing."""
        made = tuple((step, times) for step, times in steps if times)
        if made:
            self.kept.append(ChargeNote(self.machine, self._processor, self._domain, made))


class Charges:
    """The charges of one machine: its paths, the copies it made and the misses it had.

    `notes` is told of them in order, where somebody wants to see them. With `bus`, the machine has
    processors that share one.
    """

    def __init__(self, costs: CostModel, *, bus: bool = False) -> None:
        self.notes: Notes | None = None
        self.paths: list[Path] = []
        self._costs = costs
        self._ps = list(costs.ps)
        self.bus = bus
        self._bus_ps = [costs.bus_ps(step) for step in range(len(STEPS))]
        tlb = costs.file.tlb
        # The misses of a call that enters a context, and of its return: no switch has more.
        self.misses_of_a_call = (tlb.on_call.kernel + tlb.on_call.domain, tlb.on_return.kernel + tlb.on_return.domain)
        most = max(self.misses_of_a_call)
        self._ns_of_misses = [(count * costs.ps[TLB_MISS] + 500) // 1000 for count in range(most + 1)]
        self._copied = [0] * len(STEPS)  # values and bytes, by step number
        self._missed = 0
        self._carries = costs.has("messages")
        self.marshals = costs.has("marshaling")
        self.procedure_call = self._path(PROCEDURE_CALL)
        self.trap = self._path(TRAP)
        self.switch = self._path(SWITCH)
        self.client_stub = self._path(PROCEDURE_CALL, CLIENT_STUB)
        self.astack_queue = self._path(ASTACK_QUEUE)
        self.call = self._path(TRAP, KERNEL_CALL)
        self.secondary_region = self._path(SECONDARY_REGION)
        self.map_memory = self._path(TRAP, MAP_MEMORY, TRAP)
        self.exchange = self._path(EXCHANGE)
        self.server_stub = self._path(SERVER_STUB)
        self.leave = self._path(TRAP, KERNEL_RETURN)
        # All that a call of a leaf charges which meets nobody (at_once.py), copies apart.
        before = self.client_stub, self.astack_queue, self.call, self.switch, self.server_stub
        after = self.leave, self.switch, self.astack_queue
        self.whole_call = PathsTogether([*before, *after], 0 if tlb.tagged else sum(self.misses_of_a_call))
        self.message_client_stub = self._path(PROCEDURE_CALL, MESSAGE_CLIENT_STUB, MESSAGE_BUFFER)
        # The transfer of a message: what comes before the machine's lock, under it, and after.
        passing = costs.file.message_passing
        parts = ((), (), ()) if passing is None else passing.locked.parts
        self.before_lock, self.under_lock, self.after_lock = (
            self._path(*(STEPS.index(step) for step in part)) for part in parts
        )
        self.message_dispatch = self._path(MESSAGE_DISPATCH, MESSAGE_SERVER_STUB)
        self.network_send = self._path(NETWORK_SEND)
        self.network_receive = self._path(NETWORK_RECEIVE)
        self.remote_client = Service(self._path(REMOTE_CLIENT))
        self.remote_server = Service(self._path(REMOTE_SERVER))
        self.packet_send = Service(self._path(*PACKET_SEND), CHECKSUM_BYTE)
        self.packet_out = Service(self._path(*PACKET_OUT))
        self.transmit = Service(self._path(*TRANSMIT), TRANSMIT_BYTE)
        self.receive = Service(self._path(*RECEIVE), RECEIVE_BYTE)
        self.packet_in = Service(self._path(*PACKET_IN), CHECKSUM_BYTE)

    def copy(self, value_step: int, byte_step: int, values: int, size: int) -> int:
        """Count a copy of `values` values, `size` bytes in all; return its cost in ns."""
        copied = self._copied
        copied[value_step] += values
        copied[byte_step] += size
        ns = self.ns_of_copy(value_step, byte_step, values, size)
        if self.notes is not None:
            self.notes.add_copy(value_step, byte_step, values, size, ns)
        return ns

    def ns_of_copy(self, value_step: int, byte_step: int, values: int, size: int) -> int:
        """Return what a copy costs in ns, without counting it."""
        return (values * self._ps[value_step] + size * self._ps[byte_step] + 500) // 1000

    def bus_ns(self, step: int, times: int) -> int:
        """Return for how long a step occupies the memory bus, on average, taken so many times."""
        return times * self._bus_ps[step] // 1000

    def carry(self, size: int) -> int:
        """Count `size` bytes of a message that travels whole; return their cost in ns.

        The cost is 0 under a cost model that sends packets.
        """
        if not self._carries:
            return 0
        return self.copy(NETWORK_BYTE, NETWORK_BYTE, 0, size)

    def serve(self, service: Service, size: int) -> int:
        """Count a service for `size` bytes of data; return its cost in ns."""
        service.path.times += 1
        if service.byte_step == NO_BYTES:
            return service.path.ns
        self._copied[service.byte_step] += size
        return service.path.ns + (size * self._ps[service.byte_step] + 500) // 1000

    def misses(self, count: int, processor: "Processor") -> int:
        """Count the misses after one switch, which a processor will spend; return their ns."""
        self._missed += count
        if self.notes is not None:
            self.notes.add_misses(count, self._ns_of_misses[count], processor)
        return self._ns_of_misses[count]

    def ns_of_misses(self, count: int) -> int:
        """Return the ns of as many misses."""
        return self._ns_of_misses[count]

    def counts(self) -> list[int]:
        """Return how often each step has been charged, by step number."""
        found = list(self._copied)
        found[TLB_MISS] = self._missed
        for path in self.paths:
            for step in path.steps:
                found[step] += path.times
        whole = self.whole_call
        found[TLB_MISS] += whole.times * whole.misses
        for path in whole.paths:
            for step in path.steps:
                found[step] += whole.times
        return found

    def _path(self, *steps: int) -> Path:
        charged = [step for step in steps if STEPS[step] in self._costs.file.steps]
        path = Path(self._costs, charged, len(self.paths), bus=self.bus)
        self.paths.append(path)
        return path
