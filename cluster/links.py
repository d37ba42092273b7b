"""What one machine's messages travel over: links of its own to others, and a wire that several share through a hub."""

from collections.abc import Callable
from dataclasses import dataclass

from lrpc.cluster.description import Cluster, Link
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.reach import Reach
from lrpc.kernel.simulated.engine import FOREVER, Engine
from lrpc.kernel.simulated.locks import FifoQueue
from lrpc.kernel.simulated.packets import Body, LinkTraits, last_packet


@dataclass(frozen=True)
class _Other:
    """Another machine: the link to it, whether that is the wire, and how soon it can reach this one."""

    link: Link
    wired: bool
    back_ns: int


class Links:
    """One machine's ends of its links.

    All that travels over the wire comes from its hub or goes there, so the hub's machine has the wire's queue: its own
    packets join it when its controller lets them go, and those of others, which take no time until then, as they come.
    Whoever finds the wire taken waits for those before it: there are no collisions.
    """

    def __init__(self, cluster: Cluster, rank: int, reach: Reach, engine: Engine, outbox: list[Envelope]) -> None:
        self.wire = FifoQueue() if cluster.hub == cluster.machines[rank].name else None
        self._cluster = cluster
        self._rank = rank
        self._reach = reach
        self._engine = engine
        self._outbox = outbox
        self._lookahead_ns = cluster.machines[rank].costs.lookahead_ns
        self._others: dict[int, _Other] = {}
        self._sent: dict[int, int] = {}  # messages so far, by the destination's rank

    def line_to(self, machine: int) -> LinkTraits:
        """Return what the kernel must know of the link to another machine, by rank."""
        other = self._other(machine)
        return LinkTraits(other.link.loss_ppb, other.wired)

    def send(self, destination: int, leaves_ns: int, body: Body, size: int) -> int:
        """Send what the controller lets go at that time; return when it is off the wire, or waits for it."""
        other = self._others.get(destination) or self._other(destination)
        if not other.wired:
            return self._post(destination, leaves_ns, leaves_ns + other.link.ns(size), body, other)
        if self.wire is None:
            return self._post(destination, leaves_ns - self._lookahead_ns, leaves_ns, body, other)
        self._engine.schedule(leaves_ns, lambda: self._put_on_wire(destination, body, size, other))
        return leaves_ns

    def deliver(self, envelope: Envelope, arrive: Callable[[], None]) -> None:
        """Have a message from another machine arrive when it is due there, or is off the wire."""

        def join() -> None:
            assert self.wire is not None
            size = last_packet(envelope.body)
            self._engine.schedule(self.wire.serve(self._engine.now, other.link.ns(size), size), arrive)

        other = self._others.get(envelope.source) or self._other(envelope.source)
        action = join if other.wired and self.wire is not None else arrive
        self._engine.arrive(envelope.arrives_ns, envelope.source, envelope.sequence, action)

    def _put_on_wire(self, destination: int, body: Body, size: int, other: _Other) -> None:
        assert self.wire is not None
        now = self._engine.now
        self._post(destination, now, self.wire.serve(now, other.link.ns(size), size), body, other)

    def _post(self, destination: int, sent_ns: int, arrives_ns: int, body: Body, other: _Other) -> int:
        sequence = self._sent[destination] = self._sent.get(destination, 0) + 1
        self._outbox.append(Envelope(self._rank, destination, sequence, sent_ns, arrives_ns, body))
        self._engine.stop_before(min(arrives_ns + other.back_ns, FOREVER))
        return arrives_ns

    def _other(self, machine: int) -> _Other:
        if machine not in self._others:
            here, there = (self._cluster.machines[rank].name for rank in (self._rank, machine))
            back_ns = self._reach.return_ns(self._rank, machine)
            wired = self._cluster.wired(here, there)
            self._others[machine] = _Other(self._cluster.between(here, there), wired, back_ns)
        return self._others[machine]
