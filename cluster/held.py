"""A machine as its group's loop needs it, and what a group reports of its machines."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from lrpc.cluster.envelope import Envelope, Taker
from lrpc.cluster.machine import Machine
from lrpc.cluster.nearest import Nearest
from lrpc.cluster.reach import Reach
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER

# The work of machines is summed by rank modulo this: the time that it would take on 1, 2, 4 or 8
# actors follows from these sums.
SHARES: Final = 8


@dataclass
class WindowReport:
    """What a group reports after a window: its machines' next events, and the messages it sent."""

    # The time of the next event, by rank, of machines on which something happened.
    next_ns: dict[int, int] = field(default_factory=dict)
    # Those of these machines to which replies may still come.
    waits: set[int] = field(default_factory=set)
    # The earliest arrival of a message sent in this window, by the destination's rank.
    arrivals: dict[int, int] = field(default_factory=dict)
    calls: int = 0  # since the run began, with traps
    messages: int = 0  # sent in this window
    # The last batch sent in this window, by receiving station.
    batches: dict[int, int] = field(default_factory=dict)
    bytes: int = 0  # of these batches
    # Wall time spent running machines, by rank modulo SHARES.
    work_ns: list[int] = field(default_factory=lambda: [0] * SHARES)
    events: int = 0  # logged since the run began
    # Stations whose batches have not arrived. If there are any, the window did not run.
    missing: list[int] = field(default_factory=list)


class HeldMachine:
    """A machine as the group's loop needs it, at hand without a search for attributes."""

    def __init__(self, machine: Machine, rank: int, nearest: tuple[Nearest, Nearest]) -> None:
        self.machine = machine
        self.name = machine.name
        self.rank = rank
        self.touched = True  # something happened on it since the last report of a window
        self.kernel = machine.kernel
        self.engine = machine.kernel.engine
        self.outbox = machine.outbox
        self.nearest, self.nearest_calls = nearest  # what can reach it soonest, and by a call
        self.reached_ns = 0  # when its last turn ended, in virtual time
        self._calls = self._events = 0  # as last told
        self._links = machine.links

    @property
    def waits(self) -> bool:
        """Return whether replies from other machines may come besides those delivered."""
        return self._links is not None and self._links.network.waits

    def tell(self, report: WindowReport) -> tuple[int, int]:
        """Add the machine to a report; return how many calls and events came since the last one."""
        report.next_ns[self.rank] = self.engine.next_time
        if self.waits:
            report.waits.add(self.rank)
        counts, events = self.kernel.counts, self.kernel.log.events
        calls = counts.trap + counts.cross_domain + counts.cross_machine + counts.within_domain
        more = calls - self._calls, events - self._events
        self._calls, self._events = calls, events
        return more

    def send_to(self, taker: Taker) -> None:
        """Let `taker` take the machine's messages as they are sent."""
        if self._links is not None:
            self._links.taker = taker

    def deliver(self, envelope: Envelope) -> None:
        """Schedule the arrival of a message. Raises `RunFailed` where the machine has no links."""
        if self._links is None:
            raise RunFailed(f"machine {self.name}: received a message, though it has no links to other machines")
        self._links.deliver(envelope)


def promised(reach: Reach, lanes: Iterable[HeldMachine], sent: list[Envelope], until: int) -> list[int]:
    """Return how early each machine can be reached by another, by rank, as each now stands.

    That is at most `until`, in ns. `sent` is on its way to machines that are not among `lanes`.
    """
    next_ns, waits = [FOREVER] * reach.machines, [True] * reach.machines
    for lane in lanes:
        next_ns[lane.rank], waits[lane.rank] = lane.engine.next_time, lane.waits
    for envelope in sent:
        next_ns[envelope.destination] = min(next_ns[envelope.destination], envelope.arrives_ns)
    reached, called = reach.horizons(next_ns, waits, until)
    return [reached[rank] if waits[rank] else called[rank] for rank in range(reach.machines)]
