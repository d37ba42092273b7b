"""How messages leave and enter a machine: packet by packet past its network processor, some of them lost on the way."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from zlib import crc32

from lrpc.kernel.simulated.locks import FifoQueue
from lrpc.kernel.simulated.log import LOSE, SEND

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor

PAYLOAD: Final = 1440  # bytes of data in a packet of 1,514, the largest on an Ethernet
BILLION: Final = 10**9


@dataclass(frozen=True, slots=True)
class CallMessage:
    """A call for an export of another machine; `number` is the caller's, to match the reply.

    `caller` is not 0 where the call may be sent again: then it says which of its machine's callers, and numbers of one
    caller's calls rise.
    """

    number: int
    export: str
    procedure: int
    arguments: bytes
    caller: int = 0


@dataclass(frozen=True, slots=True)
class ReplyMessage:
    """Results, or what the procedure raised: its kind and text."""

    number: int
    results: bytes
    fault: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Says that a call which came again is being executed."""

    number: int


@dataclass(frozen=True, slots=True)
class Fragment:
    """A packet of a message of which others follow, or are lost; the last packet carries for all where none is."""

    number: int
    size: int


Body = CallMessage | ReplyMessage | Acknowledgement | Fragment
# Sends a packet, or a message that travels whole, to a machine by rank: when its controller lets it go, what it is and
# how many bytes of data it has. Returns when it is off the wire, so that what follows it may be on it.
Send = Callable[[int, int, Body, int], int]


@dataclass(frozen=True)
class LinkTraits:
    """The link to one other machine, as a kernel needs to know it."""

    loss_ppb: int = 0  # of a billion packets, how many are lost
    shared: bool = False  # with other machines, so that messages travel in packets whatever the cost model says


class Packets:
    """One machine's packets. Its network processor is none of those that threads have, and serves both directions."""

    def __init__(self, kernel: "Kernel", send: Send, line_to: Callable[[int], LinkTraits]) -> None:
        self.processor = FifoQueue() if kernel.costs.in_packets else None
        self._kernel = kernel
        self._send = send
        self._line_to = line_to
        self._lines: dict[int, LinkTraits] = {}
        self._chance = kernel.random("lost packets")

    def line(self, machine: int) -> LinkTraits:
        """Return the link to a machine, by rank."""
        if machine not in self._lines:
            self._lines[machine] = self._line_to(machine)
        return self._lines[machine]

    def send(self, processor: "Processor", machine: int, body: Body, size: int) -> None:
        """Send a message from the thread that has `processor`, which then is past its last checkpoint before."""
        processor.spend(processor.charges.network_send)
        processor.clock += processor.charges.carry(size)
        line = self.line(machine)
        if self.processor is None and not line.shared and not line.loss_ppb:  # as the one packet that its costs know
            self._kernel.counts.packets_sent += 1
            self._kernel.log.add(processor.clock, SEND, machine, content(body))
            self._send(machine, processor.clock, body, size)
            return
        self._send_packets(processor, machine, body, cut(size))

    def receive(self, size: int, then: Callable[[], None]) -> None:
        """Take in a message whose last packet comes off the wire now; do `then` when that has been handled."""
        if self.processor is None:
            then()
        else:
            self._kernel.engine.schedule(self.receive_part(size), then)

    def receive_part(self, size: int) -> int:
        """Have the network processor handle a packet that comes off the wire now; return when it has done so."""
        now = self._kernel.engine.now
        if self.processor is None:
            return now
        return self.processor.serve(now, self._kernel.charges.packet_in(size), size)

    def _send_packets(self, processor: "Processor", machine: int, body: Body, sizes: list[int]) -> None:
        """Send the packets of a message behind each other; where one is lost, the others come for nothing."""
        counts, log = self._kernel.counts, self._kernel.log
        loss_ppb = self.line(machine).loss_ppb
        lost = [loss_ppb > 0 and self._chance.chance(loss_ppb, BILLION) for _ in sizes]
        off_wire = 0
        for at, size in enumerate(sizes):
            leaves = self._hand_over(processor, size)
            counts.packets_sent += 1
            if lost[at]:
                counts.packets_lost += 1
                log.add(leaves, LOSE, machine, content(body))
                continue
            whole = at == len(sizes) - 1 and True not in lost
            if whole:
                log.add(leaves, SEND, machine, content(body))
            off_wire = self._send(machine, max(leaves, off_wire), body if whole else Fragment(body.number, size), size)

    def _hand_over(self, processor: "Processor", size: int) -> int:
        """Make a packet ready, and hand it to the network processor; return when that has let it go."""
        if self.processor is None:
            return processor.clock
        charges = processor.charges
        processor.spend(charges.packet_send)
        processor.clock += charges.checksum(size)
        processor.checkpoint()  # who joins the queue before it must have done so
        return self.processor.serve(processor.clock, charges.packet_out(size), size)


def cut(size: int) -> list[int]:
    """Return the bytes of data in each packet of a message."""
    if size <= PAYLOAD:
        return [size]
    return [PAYLOAD] * ((size - 1) // PAYLOAD) + [(size - 1) % PAYLOAD + 1]


def data_of(body: Body) -> int:
    """Return how many bytes of data a message carries in all, or this packet of one that is not whole."""
    if isinstance(body, CallMessage):
        return len(body.arguments)
    if isinstance(body, ReplyMessage):
        return len(body.results)
    return body.size if isinstance(body, Fragment) else 0


def last_packet(body: Body) -> int:
    """Return how many bytes of data the packet has that a message, or a part of one, comes in."""
    size = data_of(body)
    return size if size <= PAYLOAD else (size - 1) % PAYLOAD + 1


def content(body: Body) -> int:
    """Return what the event log says of a message: the call's number, and a checksum of what it is and carries."""
    if isinstance(body, CallMessage):
        carried = crc32(body.arguments, crc32(body.export.encode(), body.procedure))
    elif isinstance(body, ReplyMessage):
        carried = crc32(body.results, crc32(repr(body.fault).encode()))
    else:
        carried = data_of(body)
    return (body.number & 0x7FFF_FFFF) << 32 | carried
