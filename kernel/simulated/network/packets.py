"""How messages leave and enter a machine, packet by packet, and how packets are lost.

A packet's steps have their places. The calling processor makes it ready (header, checksum, trap,
queue, interrupt). Then the machine's I/O processor starts the controller, which sends it. On the
receiving machine, another controller receives it, and another I/O processor checks it and hands it
to a thread. stations.py says how packets queue for these, and how their times vary.

A cost model may instead give `network_send` and `network_receive`, for a message whole. Then there
is neither, and a message counts as one packet, unless its link is shared or loses packets.

The sender draws which packets are lost, so both ends agree in any number of processes. A message of
which a packet is lost is of no use, but its other packets take their time all the same. A lost
packet is lost as it leaves its controller, never on the wire.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

from lrpc.kernel.simulated.charges import CONTROLLER, IO_PROCESSOR, Path, Service
from lrpc.kernel.simulated.log import LOSE, SEND
from lrpc.kernel.simulated.network.stations import Controller, IoProcessor, ServiceTimes

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor

PAYLOAD: Final = 1440  # most bytes of data in a packet: one of 1,514, the largest on an Ethernet
BILLION: Final = 10**9
_NO_FAULT: Final = crc32(repr(None).encode())


# Messages have constructors of their own: compiled, these take a tenth of what a dataclass's take.


@dataclass(init=False)
class CallMessage:
    """A call of an export of another machine.

    `number` is the calling machine's number for the call, to match the reply. `caller` is 0 where
    no packet can be lost. Elsewhere the call may be sent again, and `caller` says for which of its
    machine's callers; the numbers of one caller's calls rise.
    """

    number: int
    export: str
    procedure: int
    arguments: bytes
    caller: int

    def __init__(self, number: int, export: str, procedure: int, arguments: bytes, caller: int = 0) -> None:
        self.number = number
        self.export = export
        self.procedure = procedure
        self.arguments = arguments
        self.caller = caller
        self.logged = -1  # what the event log has of it, once that is known; see `logged_content`


@dataclass(init=False)
class ReplyMessage:
    """The reply to a call: its results, or the kind and text of its fault.

    The kind is the class name of what the procedure raised, or one of the kernel's own
    (`remote.FAILED`, `remote.REFUSED`).
    """

    number: int
    results: bytes
    fault: tuple[str, str] | None

    def __init__(self, number: int, results: bytes, fault: tuple[str, str] | None) -> None:
        self.number = number
        self.results = results
        self.fault = fault
        self.logged = -1  # as of a call


@dataclass(init=False)
class Acknowledgement:
    """Tells a caller that the call it sent again is being executed."""

    number: int

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass(init=False)
class Fragment:
    """A packet that does not complete its message: others follow it, or one is lost.

    Where none is lost, the last packet carries the message's content and those before it carry
    sizes only.
    """

    number: int
    size: int

    def __init__(self, number: int, size: int) -> None:
        self.number = number
        self.size = size


Body = CallMessage | ReplyMessage | Acknowledgement | Fragment
# Is told when the wire has taken a packet, once that is known.
OffWire = Callable[[int], None]


@dataclass(frozen=True)
class LinkTraits:
    """What a kernel must know of the link to one other machine."""

    loss_ppb: int = 0  # packets lost of each billion
    # It is a wire that other machines use too: messages travel in packets under every cost model.
    shared: bool = False

    @property
    def plain(self) -> bool:
        """Return whether a message that travels whole counts as one packet on it."""
        return not self.shared and not self.loss_ppb


class Carrier:
    """What takes a machine's packets to others. This base class knows no other machine."""

    def traits_of(self, machine: int) -> LinkTraits:
        """Return what the kernel must know of the link to another machine, by rank."""
        raise NotImplementedError

    def send(self, destination: int, leaves_ns: int, body: Body, size: int, off_wire: OffWire | None) -> int:
        """Send a packet, or a whole message, that leaves the controller at `leaves_ns`.

        `size` is the bytes of data in this packet. `off_wire` is told when the wire has taken it.
        Returns when the next may be sent to the same machine.
        """
        raise NotImplementedError


class Packets:
    """The packets that one machine sends and receives, and what serves them there."""

    def __init__(self, kernel: "Kernel", carrier: Carrier) -> None:
        self.io: IoProcessor | None = None  # None where messages are sent whole
        self.controller = Controller(kernel.engine)
        self.sending = ServiceTimes(kernel.costs, kernel.random("packets handed over"))
        self.interrupts = ServiceTimes(kernel.costs, kernel.random("interrupts of packets"))
        self.transfers = ServiceTimes(kernel.costs, kernel.random("packets in the controller"))
        self.whole_ns = 0  # spent on messages that travel whole
        if kernel.costs.has("packets"):
            self.io = IoProcessor(kernel.processors[0])
        self._kernel = kernel
        self._charges = kernel.charges
        self._carrier = carrier
        self._links: dict[int, LinkTraits] = {}  # a cache, and the last one that was asked for
        self._recent, self._recent_link = -1, LinkTraits()
        self._chance = kernel.random("lost packets")

    def link(self, machine: int) -> LinkTraits:
        """Return the link to a machine, by rank."""
        if machine == self._recent:
            return self._recent_link
        found = self._links.get(machine)
        if found is None:
            found = self._links[machine] = self._carrier.traits_of(machine)
        self._recent, self._recent_link = machine, found
        return found

    def send(self, processor: "Processor", machine: int, body: Body, size: int) -> None:
        """Send a message from the thread that `processor` runs.

        The caller passes a checkpoint and sends. Where messages travel whole, nothing may intervene
        between these: lookahead rests on that.
        """
        if self.io is None:
            self._spend_whole(processor, processor.charges.network_send, size)
            link = self.link(machine)
            # Whole, as the cost model has it, and counted as one packet.
            if link.plain:
                self._kernel.counts.packets_sent += 1
                self._kernel.log.add(processor.clock, SEND, machine, logged_content(body))
                self._carrier.send(machine, processor.clock, body, size, None)
                return
        self._send_packets(processor, machine, body, packet_sizes(size))

    def receive(self, body: Body, then: Callable[[], None]) -> None:
        """Receive a packet, which comes off the wire now; call `then` once it has been handled."""
        io, charges = self.io, self._charges
        assert io is not None  # else messages travel whole
        size = last_packet_size(body)

        def received() -> None:
            now = self._kernel.engine.now
            takes = self.interrupts.draw(charges.serve(charges.packet_in, size))
            done = io.interrupt(now, takes, size)
            self._note(charges.packet_in, size, done - takes, takes, IO_PROCESSOR)
            self._kernel.engine.schedule(done, then)

        takes = self.transfers.draw(charges.serve(charges.receive, size))
        self.controller.receive(
            takes, size, lambda ends: self._note(charges.receive, size, ends - takes, takes, CONTROLLER), received
        )

    def take_in(self, processor: "Processor", size: int) -> None:
        """Spend what receiving a message costs the thread, beyond what packets cost."""
        if self.io is None:
            self._spend_whole(processor, processor.charges.network_receive, size)

    def _spend_whole(self, processor: "Processor", path: Path, size: int) -> None:
        began = processor.clock
        processor.spend(path)
        if size:
            processor.clock += processor.charges.carry(size)
        self.whole_ns += processor.clock - began

    def _send_packets(self, processor: "Processor", machine: int, body: Body, sizes: list[int]) -> None:
        """Send a message's packets one behind the other. Those that are lost are not sent."""
        counts, log = self._kernel.counts, self._kernel.log
        loss_ppb = self.link(machine).loss_ppb
        lost = [loss_ppb > 0 and self._chance.chance(loss_ppb, BILLION) for _ in sizes]
        off_wire = 0
        for at, size in enumerate(sizes):
            if self.io is not None:
                self.spend(processor, self._charges.packet_send, size, self.sending)
                processor.checkpoint()  # interrupts that come earlier must have come
            counts.packets_sent += 1
            whole = at == len(sizes) - 1 and True not in lost
            if lost[at]:
                counts.packets_lost += 1
                log.add(processor.clock, LOSE, machine, logged_content(body))
            elif whole:
                log.add(processor.clock, SEND, machine, logged_content(body))
            packet = body if whole else Fragment(body.number, size)
            if self.io is not None:
                self._hand_over(processor, self.io, machine, packet, size, lost[at])
            elif not lost[at]:
                off_wire = self._carrier.send(machine, max(processor.clock, off_wire), packet, size, None)

    def spend(self, processor: "Processor", service: Service, size: int, times: ServiceTimes) -> None:
        """Spend a service on the processor of a thread that calls, or serves a call."""
        begin = processor.clock
        takes = times.draw(processor.charges.serve(service, size))
        processor.clock += takes
        if self._charges.notes is not None:
            self._charges.notes.add_service(service, size, begin, takes, processor.number, processor)

    def _hand_over(
        self, processor: "Processor", io: IoProcessor, machine: int, packet: Body, size: int, lost: bool
    ) -> None:
        """Hand a packet over to the I/O processor, which starts the controller."""
        charges = self._charges
        takes = self.interrupts.draw(charges.serve(charges.packet_out, size))
        done = io.interrupt(processor.clock, takes, size)
        self._note(charges.packet_out, size, done - takes, takes, IO_PROCESSOR)
        self._kernel.engine.schedule(done, lambda: self._start(machine, packet, size, lost))

    def _start(self, machine: int, packet: Body, size: int, lost: bool) -> None:
        """Start to send a packet from the controller: an action of the engine's."""
        charges = self._charges
        takes = self.transfers.draw(charges.serve(charges.transmit, size))

        def begin(leaves: int) -> None:
            self._note(charges.transmit, size, leaves - takes, takes, CONTROLLER)
            if lost:
                self.controller.hold(leaves, leaves)
            else:
                self._carrier.send(machine, leaves, packet, size, lambda off: self.controller.hold(leaves, off))

        self.controller.send(takes, size, begin)

    def _note(self, service: Service, size: int, begin: int, ns: int, place: int) -> None:
        if self._charges.notes is not None:
            self._charges.notes.add_service(service, size, begin, ns, place, None)


def packet_sizes(size: int) -> list[int]:
    """Return the bytes of data in each packet of a message of `size` bytes."""
    if size <= PAYLOAD:
        return [size]
    return [PAYLOAD] * ((size - 1) // PAYLOAD) + [(size - 1) % PAYLOAD + 1]


def data_size(body: Body) -> int:
    """Return the bytes of data in a message, or in one packet of it if that is a `Fragment`."""
    if isinstance(body, CallMessage):
        return len(body.arguments)
    if isinstance(body, ReplyMessage):
        return len(body.results)
    return body.size if isinstance(body, Fragment) else 0


def last_packet_size(body: Body) -> int:
    """Return the bytes of data in the packet that `body` comes in: the last one of a message."""
    size = data_size(body)
    return size if size <= PAYLOAD else (size - 1) % PAYLOAD + 1


def logged_content(body: Body) -> int:
    """Return the event log's entry for a message: the call's number and a checksum of the rest.

    The sender works it out, and whoever receives the same object in the same process reads it.
    """
    if isinstance(body, CallMessage):
        if body.logged < 0:
            log_call(body, checksum_of(body.export, body.procedure))
        return body.logged
    if isinstance(body, ReplyMessage):
        if body.logged < 0:
            begun = _NO_FAULT if body.fault is None else crc32(repr(body.fault).encode())
            body.logged = _entry(body.number, crc32(body.results, begun) if body.results else begun)
        return body.logged
    return _entry(body.number, data_size(body))


def checksum_of(export: str, procedure: int) -> int:
    """Return the checksum of what a call calls; see `log_call`."""
    return crc32(export.encode(), procedure)


def log_call(message: CallMessage, what: int) -> None:
    """Work out the event log's entry for a call; `what` is the checksum of what it calls."""
    message.logged = _entry(message.number, crc32(message.arguments, what) if message.arguments else what)


def _entry(number: int, carried: int) -> int:
    return (number & 0x7FFF_FFFF) << 32 | carried
