"""The synchronisation state of a cluster: what is known of all machines, to grant windows by.

The coordinator holds it, or the one station that has anything to do (`relay`). Whichever holds it
grants windows by it, and no other process does at the time. That is why it is plain data, which
travels as a protobuf message, and why it carries the sums of a run's progress along.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import add
from typing import Final

from lrpc.cluster.envelope import Transport
from lrpc.cluster.held import SHARES, WindowReport
from lrpc.cluster.reach import Reach
from lrpc.kernel.simulated.engine import FOREVER

# The most machines of a cluster whose state may travel: it grows with them.
SMALL: Final = 256
# Up to how many machines of a station get horizons, even those with nothing to do: so many, and so
# many more for each that has something.
FEW: Final = 64
MOST_IDLE: Final = 4
# About the wall time of a window, so that progress is shown and Ctrl-C is noticed.
SLOW_WINDOW_S: Final = 0.2
FIRST_SPAN_NS: Final = 1_000_000
# The numbers of actors for which a run's speed is predicted, each twice the one before, up to
# SHARES. Machines fall to them as to those.
ACTORS: Final = (1, 2, 4, 8)
# By rank: a machine's horizon while it waits for replies, and once all of them have been delivered.
Horizons = dict[int, tuple[int, int]]


@dataclass
class Sums:
    """What synchronising machines has taken: counts, bytes, and wall times in ns."""

    windows: int = 0
    rounds: int = 0  # round trips of the coordinator to a station, or of one station to another
    messages: int = 0
    bytes: int = 0  # of the batches that carried them
    work_ns: int = 0  # running machines, on the busiest station of each window
    # `work_ns` and `rounds` as they would be with each number of actors in ACTORS.
    ideal_ns: list[int] = field(default_factory=lambda: [0] * len(ACTORS))
    ideal_rounds: list[float] = field(default_factory=lambda: [0.0] * len(ACTORS))

    def add(self, other: "Sums") -> None:
        """Add the sums of another."""
        self.windows += other.windows
        self.rounds += other.rounds
        self.messages += other.messages
        self.bytes += other.bytes
        self.work_ns += other.work_ns
        for number in range(len(ACTORS)):
            self.ideal_ns[number] += other.ideal_ns[number]
            self.ideal_rounds[number] += other.ideal_rounds[number]

    def add_window(self, reports: Sequence[WindowReport]) -> None:
        """Add one window of some stations, by their reports."""
        self.windows += 1
        shares = [0] * SHARES
        longest = 0
        for report in reports:
            self.messages += report.messages
            self.bytes += report.bytes
            longest = max(longest, sum(report.work_ns))
            for share, work_ns in enumerate(report.work_ns):
                shares[share] += work_ns
        self.work_ns += longest
        loads = shares
        for number in reversed(range(len(ACTORS))):
            actors = len(loads)
            busy = actors - loads.count(0)
            self.ideal_ns[number] += max(loads)
            # If only one actor works, the turn came from another actor with probability
            # (actors - 1) / actors. A round trip carries two turns, hence the 2.
            self.ideal_rounds[number] += busy if busy > 1 else (actors - 1) / (2 * actors)
            half = actors // 2  # as many actors, each with the load of two
            loads = list(map(add, loads[:half], loads[half:]))


def adapted(span_ns: int, took_s: float) -> int:
    """Return the most virtual time of the next window, given that and the wall time of the last."""
    if took_s > SLOW_WINDOW_S:
        return max(FIRST_SPAN_NS, span_ns // 2)
    return min(span_ns * 2, FOREVER // 4) if took_s < SLOW_WINDOW_S / 4 else span_ns


def runs_in_order(transport: Transport, stations: int) -> bool:
    """Return whether a station's machines run in one order of events, with no socket between."""
    return transport == "memory" or stations > 1


class SynchronisationState:
    """The time of each machine's next event, and what else decides about the next window.

    That is whether replies to a machine may come, and which batches each station must have received
    before it runs again.
    """

    def __init__(self, reach: Reach, home: Sequence[int], stations: int, *, in_order: bool) -> None:
        self.reach = reach
        self.home = home  # the station of each machine, by rank
        self.in_order = in_order  # a station's machines run in one order of events
        self.gathered_on: int | None = None  # the only station with machines, once others gave theirs up
        self._members: list[list[int]] = [[] for _ in range(stations)]
        for rank, station in enumerate(home):
            self._members[station].append(rank)
        self.next_ns = [FOREVER] * len(home)
        self.waits = [False] * len(home)
        # Sequences of batches, by receiver and sender.
        self.due: list[dict[int, int]] = [{} for _ in range(stations)]
        self.calls = [0] * stations  # since the run began, by station
        self.events = [0] * stations
        self.sums = Sums()
        self.span_ns = FIRST_SPAN_NS  # the most virtual time of a window

    @property
    def now_ns(self) -> int:
        """Return the time of the earliest event of all; `FOREVER` at the end of the run."""
        return min(self.next_ns)

    def grant(self) -> dict[int, Horizons]:
        """Return the horizons of the next window's machines, by the stations that hold them.

        Stations without a machine that has an event before its horizon are left out. So are
        machines without one, unless others of their station, which run in one order of events with
        them, could send them something within the window.
        """
        granted: dict[int, Horizons] = {}
        next_ns = self.next_ns
        now_ns = self.now_ns
        until = min(now_ns + self.span_ns, FOREVER)
        if self.gathered_on is not None:  # no other station can reach it
            return {self.gathered_on: dict.fromkeys(range(len(next_ns)), (until, until))} if now_ns < until else {}
        home = self.home if self.in_order else None
        horizons = list(zip(*self.reach.horizons(next_ns, self.waits, until, home), strict=True))
        for rank, ends in enumerate(horizons):
            if next_ns[rank] < ends[0]:
                granted.setdefault(self.home[rank], {})[rank] = ends
        if self.in_order:
            for station, some in granted.items():
                members = self._members[station]
                if len(members) <= FEW + MOST_IDLE * len(some):
                    granted[station] = {rank: horizons[rank] for rank in members}
        return granted

    def gather(self, station: int) -> None:
        """Take into account that one station holds all machines, though none has reported since."""
        self.gathered_on = station
        self.home = [station] * len(self.home)
        self.due = [{} for _ in self.due]
        self.calls = [calls if number == station else 0 for number, calls in enumerate(self.calls)]
        self.events = [events if number == station else 0 for number, events in enumerate(self.events)]
        self.span_ns = FIRST_SPAN_NS  # windows that waited for others had any length

    def adapt(self, took_s: float) -> None:
        """Adjust the virtual time of windows to the wall time that the last one took."""
        self.span_ns = adapted(self.span_ns, took_s)

    def pop_due(self, station: int) -> dict[int, int]:
        """Return the batches, by sender, that a station must have received, and clear them."""
        due = self.due[station]
        self.due[station] = {}
        return due

    def require(self, station: int, due: Mapping[int, int]) -> None:
        """Require batches, by sender, before a station runs again."""
        self.due[station] = {**due, **self.due[station]}

    def forget_station(self, station: int) -> None:
        """Require no batch of a lost station: its replacement will send them again."""
        for due in self.due:
            due.pop(station, None)

    def apply(self, reports: Mapping[int, WindowReport]) -> None:
        """Take the reports of stations into account.

        States come first, then arrivals: a message that one station sent may not be part of its
        receiver's report yet.
        """
        for number, report in reports.items():
            for rank, due in report.next_ns.items():
                self.next_ns[rank] = due
                self.waits[rank] = rank in report.waits
            for receiver, sequence in report.batches.items():
                self.due[receiver][number] = sequence
            self.calls[number], self.events[number] = report.calls, report.events
        for report in reports.values():
            for rank, due in report.arrivals.items():
                self.next_ns[rank] = min(self.next_ns[rank], due)
