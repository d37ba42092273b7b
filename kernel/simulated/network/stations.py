"""What packets queue for on a machine: its I/O processor and its Ethernet controller.

The I/O processor is processor 0 of the machine. Threads run on it as on all others, and interrupts
take it from them: the one by which a processor hands a packet over, and the one of a packet that
has come. It serves them first come, first served. An interrupt's turn is settled as it comes, since
nothing that is due earlier can come any more.

The controller serves packets of both directions, one at a time and first come, first served. A
packet that it sends holds it until the wire has taken it; when that is, may be known only once the
packet is on the wire. So its queue is one of events.

How long a service takes is drawn around its cost, above a floor (`variation` of the cost model).
With fixed times threads fall into convoys: all are at one machine's I/O processor, then all at the
other's, as packets to be sent wait behind those that have come.
"""

from collections import deque
from collections.abc import Callable

from lrpc.kernel.random import Stream
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.engine import Engine
from lrpc.kernel.simulated.locks import FifoQueue
from lrpc.kernel.simulated.processor import Processor


class ServiceTimes:
    """How long services take: as drawn, and as charged. Times are in ns."""

    def __init__(self, costs: CostModel, stream: Stream) -> None:
        self.charged_ns = 0
        self.drawn_ns = 0
        self._floor_ppm = costs.floor_ppm
        self._varies = costs.floor_ppm < 1_000_000
        self._stream = stream

    def draw(self, ns: int) -> int:
        """Return how long a service takes that costs `ns`."""
        drawn = ns
        if self._varies:
            floor = ns * self._floor_ppm // 1_000_000
            if floor < ns:
                drawn = floor + self._stream.exponential(ns - floor)
        self.charged_ns += ns
        self.drawn_ns += drawn
        return drawn


class IoProcessor:
    """The processor that drives a machine's controller, and its interrupts."""

    def __init__(self, processor: Processor) -> None:
        processor.takes_interrupts = True
        self.processor = processor
        self.interrupts = FifoQueue()

    def interrupt(self, now: int, takes: int, size: int) -> int:
        """Take an interrupt that comes at `now` and takes so long; return when it is done."""
        done = self.interrupts.serve(now, takes, size)
        self.processor.interrupt(done - takes, takes)
        return done


class _Packet:
    """A packet at a controller: since when, how long it takes, and what then happens."""

    __slots__ = ("begin", "since", "size", "takes", "then")

    def __init__(
        self, since: int, takes: int, size: int, begin: Callable[[int], None], then: Callable[[], None] | None
    ) -> None:
        self.since = since
        self.takes = takes
        self.size = size
        self.begin = begin  # as it begins, with the time when it has been sent or received
        self.then = then  # once it has been received; None for one that is sent


class Controller:
    """A machine's Ethernet controller. All times are in ns."""

    def __init__(self, engine: Engine) -> None:
        self.served = 0
        self.bytes = 0
        self.busy_ns = 0  # sending and receiving, without the wire's time
        self.wire_ns = 0  # held by a packet that the wire has not taken yet
        self.wait_ns = 0  # of all packets together, before their turn
        self._engine = engine
        self._busy = False
        self._waiting: deque[_Packet] = deque()

    def send(self, takes: int, size: int, begin: Callable[[int], None]) -> None:
        """Queue a packet that takes so long to send.

        As that begins, `begin` is called with the time when the packet is ready for the wire; it
        has `hold` called once it is known when the wire has taken the packet.
        """
        self._join(_Packet(self._engine.now, takes, size, begin, None))

    def receive(self, takes: int, size: int, begin: Callable[[int], None], then: Callable[[], None]) -> None:
        """Queue a packet that has come off the wire; call `then` once it has been received."""
        self._join(_Packet(self._engine.now, takes, size, begin, then))

    def hold(self, since: int, until: int) -> None:
        """Hold the controller while its packet is on the wire, or waits for it."""
        self.wire_ns += until - since
        self._engine.schedule(until, self._next)

    def _join(self, packet: _Packet) -> None:
        self._waiting.append(packet)
        if not self._busy:
            self._next()

    def _next(self) -> None:
        """Begin with the packet that has waited longest, if any waits."""
        self._busy = bool(self._waiting)
        if not self._busy:
            return
        packet = self._waiting.popleft()
        now = self._engine.now
        self.served += 1
        self.bytes += packet.size
        self.busy_ns += packet.takes
        self.wait_ns += now - packet.since
        packet.begin(now + packet.takes)
        if packet.then is not None:
            then = packet.then
            self._engine.schedule(now + packet.takes, lambda: self._received(then))

    def _received(self, then: Callable[[], None]) -> None:
        then()
        self._next()
