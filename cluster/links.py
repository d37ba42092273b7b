"""One machine's ends of its links to others, and of the wire that several machines may share.

A point-to-point link delays each message by itself. On an Ethernet (`medium = "ethernet"`) all
machines share one wire, and a packet waits while others are on it. That queue is simulated exactly,
and on one machine: all traffic of the wire comes from its hub, a file server for example, or goes
there, so the hub's machine holds the queue. The hub's own packets join it when its controller is
ready to send them. Those of other machines are sent to the hub without any delay of the wire, and
join the queue as they arrive. So no entity exists that all machines would have to be synchronised
with. A queue serves packets first come, first served: there are no collisions.

The lookahead of both directions stays wide: towards the hub it is what the sender's controller
takes at least, and from the hub it is what a packet takes on the wire. A packet's place in the
queue is settled as it joins, since nothing that is due earlier can still come.
"""

from collections.abc import Callable
from functools import partial

from lrpc.cluster.description import Cluster, Link
from lrpc.cluster.envelope import Envelope, Taker
from lrpc.cluster.reach import Reach
from lrpc.kernel.simulated.engine import FOREVER, Arrival
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.locks import FifoQueue
from lrpc.kernel.simulated.network.packets import Body, Carrier, Fragment, LinkTraits, OffWire, last_packet_size
from lrpc.kernel.simulated.network.remote import Locate, Network


def _nothing() -> None:
    """Receive nothing."""


class _Neighbour(Arrival):
    """Another machine, as seen from this one, and the first message on its way from there."""

    def __init__(self, links: "Links", machine: int, link: Link, wired: bool, back_ns: int) -> None:
        super().__init__(machine, _nothing)  # it is `come` that receives
        self.loss_ppb = link.loss_ppb
        self.wired = wired  # the link is the wire, shared with other machines
        self.back_ns = back_ns  # the least time from an event there to a message here
        self.sent = 0  # messages: their sequence
        self.first: Envelope | None = None  # of the messages on their way from there, in order of arrival
        self.last: Envelope | None = None
        self._links = links
        self._delay_ns = link.delay_ns
        self._ps_per_byte = link.ps_per_byte

    def ns(self, size: int) -> int:
        """Return the time in ns that a message of `size` bytes spends on the link."""
        return self._delay_ns + (size * self._ps_per_byte + 500) // 1000 if size else self._delay_ns

    def wait_for(self, envelope: Envelope) -> None:
        """Make this the arrival of a message: the first of those on their way."""
        self.first = envelope
        self.time = envelope.arrives_ns
        self.sequence = envelope.sequence

    def come(self) -> None:
        """Schedule the arrival of the next message, and receive the first one."""
        envelope = self.first
        assert envelope is not None
        after = envelope.next
        if after is None:
            self.first = self.last = None
        else:
            self.wait_for(after)
            self._links.engine.follow(self)
        envelope.receive()


class Links(Carrier):
    """One machine's ends of its links.

    The machine's kernel calls `send`; the group that runs the machine calls `deliver`. Messages to
    other machines are appended to `outbox`, and the group takes them from there, or sets a `taker`.
    `locate` finds the exports of other machines.
    """

    def __init__(
        self, cluster: Cluster, rank: int, reach: Reach, kernel: Kernel, locate: Locate, outbox: list[Envelope]
    ) -> None:
        self.wire = FifoQueue() if cluster.hub == cluster.machines[rank].name else None
        self._cluster = cluster
        self._rank = rank
        self._reach = reach
        self.engine = kernel.engine
        self._outbox = outbox
        self.taker: Taker | None = None  # takes messages in place of the outbox
        self._lookahead_ns = cluster.machines[rank].costs.lookahead_ns
        self._neighbours: dict[int, _Neighbour] = {}
        self._recent: _Neighbour | None = None  # the one that was asked for last
        self.network = Network(kernel, rank, self, locate)

    def traits_of(self, machine: int) -> LinkTraits:
        """Return what the kernel must know of the link to another machine, by rank."""
        neighbour = self._neighbour(machine)
        return LinkTraits(neighbour.loss_ppb, neighbour.wired)

    def send(self, destination: int, leaves_ns: int, body: Body, size: int, off_wire: OffWire | None) -> int:
        """Send a packet, or a whole message, that leaves the controller at `leaves_ns`.

        `size` is its data in bytes. `off_wire` is told when the wire has taken it, once that is
        known: at once but for the hub's packets. Other machines do not hear how long a packet
        waits for a wire that others use: they are told when it would be off an idle one. Returns
        when the packet is off the link; over the wire, when it begins to wait for the wire. Times
        are virtual.
        """
        neighbour = self._neighbour(destination)
        if not neighbour.wired:
            arrives = leaves_ns + neighbour.ns(size)
            if off_wire is not None:
                off_wire(arrives)
            return self._post(destination, leaves_ns, arrives, body, neighbour)
        if self.wire is None:
            # The hub has the wire's queue, so the packet is there at once, to wait for the wire.
            # All of its lookahead lies before: it is what the controller here takes.
            if off_wire is not None:
                off_wire(leaves_ns + neighbour.ns(size))
            return self._post(destination, leaves_ns - self._lookahead_ns, leaves_ns, body, neighbour)
        self.engine.schedule(leaves_ns, partial(self._put_on_wire, destination, body, size, neighbour, off_wire))
        return leaves_ns

    def deliver(self, envelope: Envelope) -> None:
        """Schedule the arrival of a message from another machine: at its time, or off the wire.

        On the hub, a message that comes over the wire first queues for the wire at its arrival
        time. Of messages that come from one machine in order, the engine gets the first, and each
        other one as the one before it has come: so few events are scheduled at a time.
        """
        network = self.network
        network.expect(envelope.body)
        envelope.network = network
        neighbour = self._neighbour(envelope.source)
        if self.wire is not None and neighbour.wired:
            self._arrives(envelope, partial(self._join_wire, envelope))
            return
        last = neighbour.last
        if last is None:
            self.engine.require_future(envelope.arrives_ns, envelope.source)
            neighbour.wait_for(envelope)
            neighbour.last = envelope
            self.engine.follow(neighbour)
        elif last.arrives_ns <= envelope.arrives_ns:
            neighbour.last = last.next = envelope
        else:
            self._arrives(envelope, envelope)  # it overtakes others

    def _arrives(self, envelope: Envelope, action: Callable[[], None]) -> None:
        self.engine.arrive(envelope.arrives_ns, envelope.source, envelope.sequence, action)

    def _join_wire(self, envelope: Envelope) -> None:
        """Queue a packet that has come to the hub for the wire."""
        assert self.wire is not None
        size = last_packet_size(envelope.body)
        takes = self._neighbour(envelope.source).ns(size)
        self.engine.schedule(self.wire.serve(self.engine.now, takes, size), envelope)

    def _put_on_wire(
        self, destination: int, body: Body, size: int, neighbour: _Neighbour, off_wire: OffWire | None
    ) -> None:
        """Queue one of the hub's own packets for the wire, and post it."""
        assert self.wire is not None
        now = self.engine.now
        arrives = self.wire.serve(now, neighbour.ns(size), size)
        if off_wire is not None:
            off_wire(arrives)
        self._post(destination, now, arrives, body, neighbour)

    def _post(self, destination: int, sent_ns: int, arrives_ns: int, body: Body, neighbour: _Neighbour) -> int:
        """Hand a message to whoever takes it, or append it to the outbox; return when it arrives.

        The machine must then stop before the earliest time at which a consequence of the message
        can come back to it. A fragment has none: its receiver answers nothing, and only takes
        longer over what it does anyway.
        """
        neighbour.sent += 1
        envelope = Envelope(self._rank, destination, neighbour.sent, sent_ns, arrives_ns, body)
        if self.taker is None:
            self._outbox.append(envelope)
        else:
            self.taker.take(envelope)
        if not isinstance(body, Fragment):
            self.engine.stop_before(min(arrives_ns + neighbour.back_ns, FOREVER))
        return arrives_ns

    def _neighbour(self, machine: int) -> _Neighbour:
        recent = self._recent
        if recent is not None and recent.source == machine:
            return recent
        found = self._neighbours.get(machine)
        if found is None:
            here, there = (self._cluster.machines[rank].name for rank in (self._rank, machine))
            back_ns = self._reach.return_ns(self._rank, machine)
            wired = self._cluster.wired(here, there)
            link = self._cluster.between(here, there)
            found = self._neighbours[machine] = _Neighbour(self, machine, link, wired, back_ns)
        self._recent = found
        return found
