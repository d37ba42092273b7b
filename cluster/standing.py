"""What is known of all machines of a cluster at one moment, and what follows from it: who may run how far."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from lrpc.cluster.group import SHARES, WindowReport
from lrpc.cluster.reach import Reach
from lrpc.kernel.simulated.engine import FOREVER

SMALL: Final = 256  # machines, of a cluster whose standing may travel
SLOW_WINDOW_S: Final = 0.2  # windows end after about that much wall time, so that progress shows and Ctrl-C is heard
FIRST_SPAN_NS: Final = 1_000_000
ACTORS: Final = (1, 2, 4, 8)  # that a run is foretold for: machines fall to them as to SHARES
# By rank: how far a machine may run, and how far if all replies that it waits for have been delivered to it.
Horizons = dict[int, tuple[int, int]]


@dataclass
class Sums:
    """What keeping machines in step has taken. Wall times are in ns."""

    windows: int = 0
    rounds: int = 0  # of a coordinator with a station, or of one station with another
    messages: int = 0
    bytes: int = 0  # of the batches that carried them
    work_ns: int = 0  # in machines, where it took longest in each window
    ideal_ns: list[int] = field(default_factory=lambda: [0] * len(ACTORS))  # what work_ns would be on so many
    ideal_rounds: list[float] = field(default_factory=lambda: [0.0] * len(ACTORS))  # and what rounds would be

    def add(self, other: "Sums") -> None:
        """Add another's."""
        self.windows += other.windows
        self.rounds += other.rounds
        self.messages += other.messages
        self.bytes += other.bytes
        self.work_ns += other.work_ns
        for number in range(len(ACTORS)):
            self.ideal_ns[number] += other.ideal_ns[number]
            self.ideal_rounds[number] += other.ideal_rounds[number]

    def add_window(self, reports: Sequence[WindowReport]) -> None:
        """Add one window of some stations."""
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
        for number, actors in enumerate(ACTORS):
            loads = [sum(shares[first::actors]) for first in range(actors)]
            busy = sum(load > 0 for load in loads)
            self.ideal_ns[number] += max(loads)
            # One that is alone takes its turn from another, and a round there and back is two turns.
            self.ideal_rounds[number] += busy if busy > 1 else (actors - 1) / (2 * actors)


class Standing:
    """When each machine's next event is due, to whom replies may come, and which batches stations must have had.

    Whoever holds it, the coordinator or the one station that has anything to do, grants windows by it.
    """

    def __init__(self, reach: Reach, home: Sequence[int], stations: int) -> None:
        self.reach = reach
        self.home = home  # the station of each machine, by rank
        self.next_ns = [FOREVER] * len(home)
        self.waits = [False] * len(home)
        self.due: list[dict[int, int]] = [{} for _ in range(stations)]  # by receiver and sender
        self.calls = [0] * stations  # so far
        self.events = [0] * stations
        self.sums = Sums()
        self.span_ns = FIRST_SPAN_NS  # of virtual time, that a window may take

    def become(self, other: "Standing") -> None:
        """Know what another knows, and no more."""
        self.next_ns, self.waits, self.due = other.next_ns, other.waits, other.due
        self.calls, self.events = other.calls, other.events
        self.sums, self.span_ns = other.sums, other.span_ns

    @property
    def now_ns(self) -> int:
        """Return when the next event of all is due; `FOREVER` at the end."""
        return min(self.next_ns)

    def grant(self) -> dict[int, Horizons]:
        """Return, for each station that has something to do, how far its machines may run."""
        granted: dict[int, Horizons] = {}
        next_ns = self.next_ns
        until = min(self.now_ns + self.span_ns, FOREVER)
        for rank, ends in enumerate(zip(*self.reach.horizons(next_ns, self.waits, until), strict=True)):
            if next_ns[rank] < ends[0]:
                granted.setdefault(self.home[rank], {})[rank] = ends
        return granted

    def adapt(self, took_s: float) -> None:
        """Have windows take more virtual time, or less, after one that took so much wall time."""
        if took_s > SLOW_WINDOW_S:
            self.span_ns = max(FIRST_SPAN_NS, self.span_ns // 2)
        elif took_s < SLOW_WINDOW_S / 4:
            self.span_ns = min(self.span_ns * 2, FOREVER // 4)

    def take_due(self, station: int) -> dict[int, int]:
        """Return which batches a station must have had, and require them no more."""
        due = self.due[station]
        self.due[station] = {}
        return due

    def require(self, station: int, due: Mapping[int, int]) -> None:
        """Require batches, by sender, before a station runs again."""
        self.due[station] = {**due, **self.due[station]}

    def forget(self, station: int) -> None:
        """Require nothing of a lost station's: what it had sent, another will send again."""
        for due in self.due:
            due.pop(station, None)

    def take_in(self, reports: Mapping[int, WindowReport]) -> None:
        """Note what stations said: states first, then what they sent, which its receiver may not have seen yet."""
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
