"""Conservative synchronisation: every machine runs as far as nothing another does can reach it, window by window."""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from lrpc.cluster.description import Cluster
from lrpc.cluster.group import WindowReport
from lrpc.cluster.reach import Reach
from lrpc.cluster.standing import SMALL, Horizons, Standing, Sums
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER

ALONE: Final = 2  # windows in a row with just one station in them; then that one takes the lead
ROUNDS_TIMED: Final = 15
MOST_LOSSES: Final = 100  # of stations, in one run
PATIENCE_S: Final = 60.0  # for a link that is down, longer than Ray takes to notice that a node is


class TransportDown(RunFailed):
    """A station does not answer, though its process may be there."""


class Lost(RunFailed):
    """The processes that held some stations, by number, have ended."""

    def __init__(self, message: str, stations: Collection[int]) -> None:
        super().__init__(message)
        self.stations = frozenset(stations)


@dataclass(frozen=True)
class Window:
    """What a station is asked to do: how far each machine that has something to do may run, by rank."""

    horizons: Horizons = field(default_factory=dict)
    due: dict[int, int] = field(default_factory=dict)  # by station: the last batch that must have come from it
    everything: bool = False  # the report is to be about all machines


class DrivenStation(Protocol):
    """A group of machines as the coordinator sees it, here or in another process. Each may raise `Lost`."""

    def advance(self, window: Window) -> WindowReport:
        """Run a window."""

    def begin(self, window: Window) -> None:
        """Begin a window, and let others have theirs meanwhile."""

    def end(self) -> WindowReport:
        """Wait for the end of the window that was begun."""

    def lead(self, standing: Standing) -> bool:
        """Run windows by itself while no two stations have anything to do at once; return False where it cannot.

        Hands over to the one that has, and gets it back; afterwards the standing is what came of it all.
        """

    def probe(self) -> None:
        """Do nothing where the station is there."""


# Makes lost stations anew, by number, and has the others send them again what they had sent. Raises `RunFailed` where
# that cannot be, and `Lost` for others that were found to be lost as well.
Replace = Callable[[Sequence[int]], Mapping[int, dict[int, int]]]


def nobody_replaces(lost: Sequence[int]) -> Mapping[int, dict[int, int]]:
    """Refuse: where all machines are in this process, none is lost without it."""
    raise RunFailed("a station was lost, and nothing here can take its place")


@dataclass
class Progress(Sums):
    """How far a run is, and what keeping its machines in step has taken."""

    now_ns: int = 0  # virtual
    calls: int = 0
    wall_ns: int = 0
    losses: int = 0  # of stations
    again: int = 0  # events that were executed again in a lost station's place
    round_ns: int = 0  # what a round takes at least: asking a station whether it is there


class Coordinator:
    """Grants windows until no machine has anything left to do; results never depend on where windows end.

    Where just one station has anything to do it is given the lead. A station that is lost is made anew, and its
    machines run again, fed with what others had sent them: these wait meanwhile, since it might still send to them, and
    drop what comes again.
    """

    def __init__(
        self,
        cluster: Cluster,
        stations: Sequence[DrivenStation],
        first: Sequence[WindowReport],
        on_progress: Callable[[Progress], None],
        replace: Replace = nobody_replaces,
    ) -> None:
        self._names = [machine.name for machine in cluster.machines]
        self._stations = stations
        self._replace = replace
        self._on_progress = on_progress
        home = {rank: number for number, report in enumerate(first) for rank in report.next_ns}
        self._standing = Standing(Reach(cluster), [home[rank] for rank in range(len(home))], len(stations))
        self._missing: dict[int, float] = {}  # since when stations have waited for batches, on the wall's clock
        self._alone = 0  # windows in a row that just one station had
        self.progress = Progress()
        self._standing.take_in(dict(enumerate(first)))

    def run(self) -> Progress:
        """Run to the end. Raises `RunFailed`, which names machines and their time where a station or link is lost."""
        while self._standing.now_ns < FOREVER:
            began = time.perf_counter_ns()
            self.progress.now_ns = max(self.progress.now_ns, self._standing.now_ns)
            try:
                if not self.progress.round_ns:
                    self.progress.round_ns = self._time_round()
                self._step()
            except Lost as error:
                self._make_anew(error)
            took_ns = time.perf_counter_ns() - began
            self.progress.wall_ns += took_ns
            self.progress.calls = sum(self._standing.calls)
            self._on_progress(self.progress)
        return self.progress

    def _step(self) -> None:
        """Run a window of all that have something to do, or have the only one take the lead."""
        standing = self._standing
        granted = standing.grant()
        self._alone = self._alone + 1 if len(granted) == 1 else 0
        if self._alone > ALONE and len(self._names) <= SMALL:
            (number,) = granted
            standing.sums = Sums()
            try:
                leads = self._stations[number].lead(standing)
            except TransportDown as error:
                raise RunFailed(f"{self._place([number])}: {error}") from None
            if leads:
                self.progress.add(standing.sums)
                self.progress.rounds += 1
                return
        began = time.monotonic()
        windows = {number: Window(horizons, standing.take_due(number)) for number, horizons in granted.items()}
        reports = self._run(windows)
        missing = self._take_back(windows, reports)
        standing.take_in(reports)
        self.progress.add_window(list(reports.values()))
        self.progress.rounds += len(windows)
        standing.adapt(time.monotonic() - began)
        self._look_for(missing)

    def _time_round(self) -> int:
        """Return how long it takes to ask a station for nothing: the median of some."""
        took = []
        for _ in range(ROUNDS_TIMED):
            began = time.perf_counter_ns()
            self._stations[0].probe()
            took.append(time.perf_counter_ns() - began)
        return max(1, sorted(took)[ROUNDS_TIMED // 2])

    def _run(self, windows: Mapping[int, Window]) -> dict[int, WindowReport]:
        """Run all windows at once; the last one, often the only one, in this thread."""
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

    def _take_back(self, windows: Mapping[int, Window], reports: dict[int, WindowReport]) -> dict[int, list[int]]:
        """Take windows back for which batches had not come; return whose, by the station that lacks them."""
        missing = {number: reports.pop(number).missing for number in list(reports) if reports[number].missing}
        for number in missing:
            self._standing.require(number, windows[number].due)
        return missing

    def _look_for(self, missing: Mapping[int, Collection[int]]) -> None:
        """See that those whose batches are missing are there; `RunFailed` where that has lasted too long."""
        now = time.monotonic()
        self._missing = {number: self._missing.get(number, now) for number in missing}
        for number, since in self._missing.items():
            for sender in missing[number]:
                self._stations[sender].probe()
            if now - since > PATIENCE_S:
                place = self._place(missing[number])
                raise RunFailed(f"{place}: what was sent there did not arrive within {PATIENCE_S:g} s")

    def _make_anew(self, loss: Lost) -> None:
        """Have lost stations made anew, and learn what all machines have to do."""
        lost: set[int] = set()
        known: set[int] = set()
        while True:
            lost |= loss.stations
            self.progress.losses += len(loss.stations - known)
            self.progress.again += sum(self._standing.events[number] for number in loss.stations - known)
            known |= loss.stations
            if self.progress.losses > MOST_LOSSES:
                raise RunFailed(f"{self._place(lost)}: lost: {loss}; {MOST_LOSSES} stations were lost before")
            try:
                for number, due in self._replace(sorted(lost)).items():
                    self._standing.forget(number)
                    self._standing.due[number] = dict(due)
                self._ask_all()
                return
            except Lost as error:
                loss = error
            except RunFailed as error:
                raise RunFailed(f"{self._place(lost)}: lost: {error}") from None

    def _ask_all(self) -> None:
        """Learn what all machines have to do: first what was sent to whom, and when that has come, the rest."""
        for _ in range(2):
            waiting = list(range(len(self._stations)))
            reports: dict[int, WindowReport] = {}
            began = time.monotonic()
            while waiting:
                number = waiting[0]
                window = Window(due=self._standing.due[number], everything=True)
                reports[number] = self._stations[number].advance(window)
                for sender in reports[number].missing:
                    self._stations[sender].probe()
                if not reports[number].missing:
                    del waiting[0]
                elif time.monotonic() - began > PATIENCE_S:
                    raise RunFailed(f"what others had sent did not arrive within {PATIENCE_S:g} s")
            self._standing.take_in(reports)

    def _place(self, stations: Collection[int]) -> str:
        """Return which machines some stations hold, and how far the run is."""
        names = [name for name, home in zip(self._names, self._standing.home, strict=True) if home in stations]
        some = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
        return f"machine {some}, at {self.progress.now_ns / 1000:.3f} us"
