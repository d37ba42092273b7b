"""Conservative synchronisation: machines run in windows, each up to its horizon.

Each machine has an event heap and a virtual time of its own. A machine may run past another one in
virtual time as long as no later message from the other can be due in its past. So the coordinator
asks for every machine how early it can be reached (a promise, see `reach`), and lets it run
strictly below that time: its horizon. All machines that have something to do before their horizons
run at once; that is a window. Their reports say when their next events are and what messages they
sent, and from these the next horizons follow. A machine that receives a message in its past is a
broken invariant and ends the run (`Engine.arrive`).

Where a window ends never shows in a result: events are ordered by keys that do not depend on it. So
windows may be cut anywhere, and run on any number of stations, with the same digest.

A promise reaches far where little can happen before it: with no call on its way, a workstation runs
on to its next remote call and a server to its next possible request. Windows then come about one
for each message, rather than one for each interval of the least lookahead. A machine that waits for
replies is given two horizons: one for while it waits, and one for when all replies have been
delivered. The machine knows when that is, and the coordinator does not.

Machines that share a thread need no windows among themselves: they run in one order of events
(`group`). The event that is the earliest of all is always safe to run, and its machine runs on
until one of those `nearest` to it could reach it, which then run until it can go on. So horizons
bound what other stations can do, and a cluster in one thread has none (`InOrder`). Only a lone
station that sends every message over gRPC runs its machines in windows, as if each had a station.

Where one station at a time has anything to do, it takes over the coordinator's work (`relay`).
Where even so a run takes much longer than its machines would in one process, one station takes over
the machines of all others. It needs no other's help for that: these machines do again what they
did, with the messages that its own had sent them, and then all run in one order of events
(`Group.adopt`). What is done again is less than half of what the run has taken so far.

A station that is lost is replaced: the new one runs its machines again from the beginning, which
has the same results, from the messages that other stations had sent the lost one (`journal`). The
others wait meanwhile, since the new station might send to them, and drop the messages that come
again.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Final, Protocol

from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Transport
from lrpc.cluster.group import Group
from lrpc.cluster.held import WindowReport
from lrpc.cluster.reach import Reach
from lrpc.cluster.synchronisation_state import (
    FIRST_SPAN_NS,
    SLOW_WINDOW_S,
    SMALL,
    Horizons,
    Sums,
    SynchronisationState,
    adapted,
    runs_in_order,
)
from lrpc.kernel.collector import passed_over
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER

LEAD_AFTER: Final = 2  # windows in a row in which only one station had work; it then leads
ROUNDS_TIMED: Final = 15
MANY: Final = 1000  # machines in one process: to walk over these takes the collector of cycles long
STRETCH_NS: Final = round(SLOW_WINDOW_S * 1e9 / 5)  # of wall time, after which progress is told
MOST_LOSSES: Final = 100  # of stations, in one run
# All machines are gathered on one station where in so many periods in a row of so much wall time,
# and in the run as a whole, windows took so many times as long as the machines ran.
SLOW_PERIODS: Final = 2
PERIOD_NS: Final = 500_000_000
SLOW: Final = 2
# Before that, the messages of the run so far, and their bytes: many come again at once.
MOST_DONE_AGAIN: Final = 1_000_000
MOST_BYTES_AGAIN: Final = 1 << 28
# How long a transport may be down; longer than Ray takes to notice that a node is.
PATIENCE_S: Final = 60.0


class TransportDown(RunFailed):
    """A station does not answer, though its process may still run."""


class Lost(RunFailed):
    """The processes of some stations have ended; `stations` has the stations' numbers."""

    def __init__(self, message: str, stations: Collection[int]) -> None:
        super().__init__(message)
        self.stations = frozenset(stations)


@dataclass(frozen=True)
class Window:
    """What a station is asked to do: run each machine that has something to do to its horizon."""

    horizons: Horizons = field(default_factory=dict)
    # By sending station: the sequence of the last batch that must have arrived before the window.
    due: dict[int, int] = field(default_factory=dict)
    everything: bool = False  # the report must cover all machines, not only those that ran
    gathered_on: int | None = None  # the station that holds all machines from now on


class DrivenStation(Protocol):
    """A group of machines as the coordinator sees it, in this process or another one.

    Each method may raise `Lost`.
    """

    def advance(self, window: Window) -> WindowReport:
        """Run a window and return its report."""

    def begin(self, window: Window) -> None:
        """Begin a window without waiting for its end."""

    def end(self) -> WindowReport:
        """Wait for the end of the window that `begin` began, and return its report."""

    def lead(self, state: SynchronisationState) -> bool:
        """Run windows without the coordinator, as long as only one station at a time has work.

        The station hands over to the one that has, and gets the token back. Afterwards `state` has
        been updated. Returns False, and does nothing, where the station cannot lead.
        """

    def probe(self) -> None:
        """Return if the station is there."""


# Replaces lost stations, by number, given the station of each machine. Makes the others send them
# all their earlier batches again. Returns the sequence of each sender's last batch, by replaced
# station and sender. Raises `RunFailed` where no replacement is possible, and `Lost` where other
# stations are lost as well.
Replace = Callable[[Sequence[int], Sequence[int]], Mapping[int, dict[int, int]]]


def nobody_replaces(lost: Sequence[int], home: Sequence[int]) -> Mapping[int, dict[int, int]]:
    """Raise `RunFailed`: where all machines are in this process, no station can be replaced."""
    raise RunFailed("a station was lost, and nothing here can take its place")


@dataclass
class Progress(Sums):
    """How far a run is, and what synchronising its machines has taken so far."""

    now_ns: int = 0  # virtual time
    calls: int = 0
    wall_ns: int = 0
    losses: int = 0  # of stations
    again: int = 0  # events executed again: by replacements of stations, and by who took machines over
    gathered_ns: int | None = None  # the wall time after which one station took over all machines
    round_ns: int = 0  # wall time of an empty request to a station: the least that a round takes


class InOrder:
    """Runs a group that holds all machines, in one order of events, until nothing is left to do.

    It is divided in stretches, after each of which `on_progress` is called. They are the windows
    that are counted. A stretch ends after `STRETCH_NS`, as soon as the turn of a machine has ended.
    A turn may be long where nobody can reach the machine, so virtual time is divided too: in spans
    of what a machine that runs alone next may cover, in the time that the last stretch took: as
    much as all machines together have covered in it. Such a span is so long that hardly a turn is
    cut in two where many machines take turns, and some can go far ahead of the others.
    """

    def __init__(self, group: Group, on_progress: Callable[[Progress], None]) -> None:
        self.progress = Progress()
        self._group = group
        self._on_progress = on_progress

    def run(self) -> Progress:
        """Run all machines to their end; return the final progress.

        Raises `RunFailed` where a thread or a machine failed.
        """
        with passed_over() if self._group.reach.machines >= MANY else nullcontext():
            self._run()
        return self.progress

    def _run(self) -> None:
        span_ns, until = FIRST_SPAN_NS, 0
        next_ns = self._group.next_ns
        while (now_ns := next_ns) < FOREVER:
            if now_ns >= until:
                until = min(now_ns + span_ns, FOREVER)
            covered_ns = self._group.covered_ns
            began = time.perf_counter_ns()
            report = self._group.advance_in_order(until, began + STRETCH_NS)
            took_ns = time.perf_counter_ns() - began
            next_ns = self._group.next_ns
            alone_ns = 2 * (self._group.covered_ns - covered_ns)  # 2: a span may grow
            span_ns = max(FIRST_SPAN_NS, min(adapted(span_ns, took_ns / 1e9), alone_ns))
            self.progress.now_ns, self.progress.calls = now_ns, report.calls
            self.progress.windows += 1
            self.progress.messages += report.messages
            self.progress.work_ns += took_ns
            self.progress.wall_ns += took_ns
            self._on_progress(self.progress)


class Coordinator:
    """Grants windows until no machine has anything left to do.

    `first` has each station's report on all its machines before the run, in order of the stations.
    `on_progress` is called after every window. `replace` replaces lost stations. `transport` is how
    messages between the stations travel. Without `gather`, all machines stay where they are.
    """

    def __init__(
        self,
        cluster: Cluster,
        stations: Sequence[DrivenStation],
        first: Sequence[WindowReport],
        on_progress: Callable[[Progress], None],
        replace: Replace = nobody_replaces,
        *,
        transport: Transport = "grpc",
        gather: bool = True,
    ) -> None:
        self._names = [machine.name for machine in cluster.machines]
        self._stations = stations
        self._replace = replace
        self._on_progress = on_progress
        home = {rank: number for number, report in enumerate(first) for rank in report.next_ns}
        self._state = SynchronisationState(
            Reach(cluster),
            [home[rank] for rank in range(len(home))],
            len(stations),
            in_order=runs_in_order(transport, len(stations)),
        )
        # Since when stations have waited for batches, in seconds of `time.monotonic`.
        self._missing: dict[int, float] = {}
        self._alone = 0  # windows in a row in which only one station had work
        self._may_gather = gather and len(stations) > 1 and len(self._names) <= SMALL
        self._slow = 0  # periods in a row in which windows took long
        self._period = 0, 0  # the wall time, and the work of all machines, as the current one began
        self.progress = Progress()
        self._state.apply(dict(enumerate(first)))

    def run(self) -> Progress:
        """Run all machines to their end; return the final progress.

        Raises `RunFailed` where a thread or a machine failed, or where a station or the transport
        to it is lost for good; its message then names machines and how far the run was.
        """
        while True:
            while self._state.now_ns < FOREVER:
                self._go_on()
            if self._all_there():
                return self.progress

    def _go_on(self) -> None:
        """Run the next window, or what must be done before it."""
        began = time.perf_counter_ns()
        self.progress.now_ns = max(self.progress.now_ns, self._state.now_ns)
        try:
            if not self.progress.round_ns:
                self.progress.round_ns = self._time_round()
            if self._may_gather and self._takes_long():
                self._gather()
            else:
                self._step()
        except Lost as error:
            self._replace_lost(error)
        took_ns = time.perf_counter_ns() - began
        self.progress.wall_ns += took_ns
        self.progress.calls = max(self.progress.calls, sum(self._state.calls))  # some may be made again
        self._on_progress(self.progress)

    def _all_there(self) -> bool:
        """Return whether every station is there to say what it did; replace those that are not."""
        try:
            for station in self._stations:
                station.probe()
        except Lost as error:
            self._replace_lost(error)
            return False
        return True

    def _takes_long(self) -> bool:
        """Return whether windows take so long that machines had better share a station."""
        progress = self.progress
        wall_ns, work_ns = progress.wall_ns, progress.ideal_ns[0]
        began_ns, worked_ns = self._period
        if wall_ns - began_ns < PERIOD_NS:
            return False
        self._period = wall_ns, work_ns
        self._slow = self._slow + 1 if wall_ns - began_ns > SLOW * (work_ns - worked_ns) else 0
        slow = self._slow >= SLOW_PERIODS and wall_ns > SLOW * work_ns
        return slow and progress.messages <= MOST_DONE_AGAIN and progress.bytes <= MOST_BYTES_AGAIN

    def _gather(self) -> None:
        """Let the station that has done the most take over the machines of all others.

        If it is lost meanwhile, its replacement begins with all machines.
        """
        self._may_gather = False
        state, progress = self._state, self.progress
        station = max(range(len(self._stations)), key=lambda number: state.events[number])
        progress.gathered_ns = progress.wall_ns
        progress.again += sum(state.events) - state.events[station]
        state.gather(station)
        self._collect_reports()

    def _step(self) -> None:
        """Run one window, or let the only station that has something to do lead."""
        state = self._state
        granted = state.grant()
        self._alone = self._alone + 1 if len(granted) == 1 else 0
        if self._alone > LEAD_AFTER and len(self._names) <= SMALL:
            (number,) = granted
            state.sums = Sums()
            try:
                leads = self._stations[number].lead(state)
            except TransportDown as error:
                raise RunFailed(f"{self._place([number])}: {error}") from None
            if leads:
                self.progress.add(state.sums)
                self.progress.rounds += 1
                return
        began = time.monotonic()
        windows = {number: Window(horizons, state.pop_due(number)) for number, horizons in granted.items()}
        reports = self._run(windows)
        missing = self._withdraw(windows, reports)
        state.apply(reports)
        self.progress.add_window(list(reports.values()))
        self.progress.rounds += len(windows)
        state.adapt(time.monotonic() - began)
        self._check_senders(missing)

    def _time_round(self) -> int:
        """Return how long an empty request to a station takes, in ns: the median of several."""
        took = []
        for _ in range(ROUNDS_TIMED):
            began = time.perf_counter_ns()
            self._stations[0].probe()
            took.append(time.perf_counter_ns() - began)
        return max(1, sorted(took)[ROUNDS_TIMED // 2])

    def _run(self, windows: Mapping[int, Window]) -> dict[int, WindowReport]:
        """Run the windows of several stations at once; return when all of them have ended.

        The last one, often the only one, runs in this thread. A failure other than a loss is raised
        first, because replacing a station would not help.
        """
        *others, last = windows
        for number in others:
            self._stations[number].begin(windows[number])
        reports: dict[int, WindowReport] = {}
        failures: list[RunFailed] = []
        for number in (last, *others):
            station = self._stations[number]
            try:
                reports[number] = station.advance(windows[number]) if number == last else station.end()
            except Lost as error:
                failures.append(error)
            except TransportDown as error:
                failures.append(RunFailed(f"{self._place([number])}: {error}"))
            except RunFailed as error:
                failures.append(error)
        if failures:
            raise next((one for one in failures if not isinstance(one, Lost)), failures[0])
        return reports

    def _withdraw(self, windows: Mapping[int, Window], reports: dict[int, WindowReport]) -> dict[int, list[int]]:
        """Remove the reports of windows that could not begin since batches had not arrived.

        The windows will be granted again. Returns the senders of the missing batches, by the
        receiving station.
        """
        missing = {number: reports.pop(number).missing for number in list(reports) if reports[number].missing}
        for number in missing:
            self._state.require(number, windows[number].due)
        return missing

    def _check_senders(self, missing: Mapping[int, Collection[int]]) -> None:
        """Check that the senders of missing batches are there.

        Raises `Lost` where one is not, and `RunFailed` where a batch has been missing for
        `PATIENCE_S`.
        """
        now = time.monotonic()
        self._missing = {number: self._missing.get(number, now) for number in missing}
        for number, since in self._missing.items():
            for sender in missing[number]:
                self._stations[sender].probe()
            if now - since > PATIENCE_S:
                place = self._place(missing[number])
                raise RunFailed(f"{place}: batches sent from there did not arrive within {PATIENCE_S:g} s")

    def _replace_lost(self, loss: Lost) -> None:
        """Replace lost stations, also those lost meanwhile, and collect new reports."""
        lost: set[int] = set()
        known: set[int] = set()
        while True:
            lost |= loss.stations
            self.progress.losses += len(loss.stations - known)
            self.progress.again += sum(self._state.events[number] for number in loss.stations - known)
            known |= loss.stations
            if self.progress.losses > MOST_LOSSES:
                raise RunFailed(f"{self._place(lost)}: lost: {loss}; {MOST_LOSSES} stations were lost before")
            try:
                for number, due in self._replace(sorted(lost), self._state.home).items():
                    self._state.forget_station(number)
                    self._state.due[number] = dict(due)
                self._collect_reports()
                return
            except Lost as error:
                loss = error
            except RunFailed as error:
                raise RunFailed(f"{self._place(lost)}: lost: {error}") from None

    def _collect_reports(self) -> None:
        """Ask every station for the state of all its machines, twice.

        The first reports say which batches are on their way to whom. The second ones are given when
        these have arrived, so that no message is left out of a machine's next event. A station that
        holds all machines is asked last, so that no two report on one.
        """
        gathered_on = self._state.gathered_on
        for _ in range(2):
            waiting = sorted(range(len(self._stations)), key=lambda number: number == gathered_on)
            reports: dict[int, WindowReport] = {}
            began = time.monotonic()
            while waiting:
                number = waiting[0]
                window = Window(due=self._state.due[number], everything=True, gathered_on=gathered_on)
                reports[number] = self._stations[number].advance(window)
                for sender in reports[number].missing:
                    self._stations[sender].probe()
                if not reports[number].missing:
                    del waiting[0]
                elif time.monotonic() - began > PATIENCE_S:
                    raise RunFailed(f"batches of other stations did not arrive within {PATIENCE_S:g} s")
            self._state.apply(reports)

    def _place(self, stations: Collection[int]) -> str:
        """Return, for an error, the machines that some stations hold and how far the run is."""
        names = [name for name, home in zip(self._names, self._state.home, strict=True) if home in stations]
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        where = f"machine {some}" if names else "an actor without machines"
        return f"{where}, at {self.progress.now_ns / 1000:.3f} µs"
