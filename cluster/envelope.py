"""A message between machines with its virtual times."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from lrpc.kernel.simulated.network.packets import Body

if TYPE_CHECKING:
    from lrpc.kernel.simulated.network.remote import Network

LOOPBACK: Final = "127.0.0.1"  # where stations of one computer are reached
Transport = Literal["grpc", "memory"]  # how envelopes travel


@dataclass(init=False)
class Envelope:
    """A message between machines that is on its way: a call, a reply, or a packet of one.

    Machines are named by rank. `sequence` counts the messages from this source to this destination,
    from 1. It is itself what happens as it comes off the wire, once `network` is the destination's.
    """

    source: int
    destination: int
    sequence: int
    sent_ns: int
    arrives_ns: int
    body: Body

    def __init__(
        self, source: int, destination: int, sequence: int, sent_ns: int, arrives_ns: int, body: Body
    ) -> None:  # of its own: compiled, it takes a tenth of what a dataclass's takes
        self.source = source
        self.destination = destination
        self.sequence = sequence
        self.sent_ns = sent_ns
        self.arrives_ns = arrives_ns
        self.body = body
        self.network: Network | None = None
        self.next: Envelope | None = None  # of those that wait for this one; see `Links.deliver`

    def __call__(self) -> None:
        """Receive the message: an action of the destination's engine."""
        self.receive()

    def receive(self) -> None:
        """Receive the message at the destination."""
        assert self.network is not None
        self.network.arrive(self.source, self.body)


class Taker:
    """What takes the messages that a machine sends."""

    def take(self, envelope: Envelope) -> None:
        """Take a message."""
        raise NotImplementedError
