"""Conservative synchronisation: every machine runs as far as nothing another does can reach it, window by window."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from lrpc.cluster.group import Report
from lrpc.cluster.reach import Reach
from lrpc.kernel.simulated.engine import FOREVER

SLOW_WINDOW_S: Final = 0.2  # windows end after about that much wall time, so that progress shows and Ctrl-C is heard
FIRST_SPAN_NS: Final = 1_000_000


@dataclass(frozen=True)
class Window:
    """What a station is asked to do: how far each machine that has something to do may run, by rank."""

    horizons: dict[int, int] = field(default_factory=dict)
    due: dict[int, int] = field(default_factory=dict)  # by station: the last batch that must have come from it


class Station(Protocol):
    """A group of machines as the coordinator sees it, here or in another process."""

    def advance(self, window: Window) -> Report:
        """Run a window."""

    def begin(self, window: Window) -> None:
        """Begin a window, and let others have theirs meanwhile."""

    def end(self) -> Report:
        """Wait for the end of the window that was begun."""


@dataclass
class Progress:
    """How far a run is: virtual time, windows so far, and work done."""

    now_ns: int = 0
    windows: int = 0
    rounds: int = 0  # windows times the stations that took part in them
    messages: int = 0
    calls: int = 0


def coordinate(
    stations: Sequence[Station], first: Sequence[Report], reach: Reach, on_progress: Callable[[Progress], None]
) -> Progress:
    """Run all stations until no machine has anything left to do; results never depend on where windows end."""
    home = {rank: number for number, report in enumerate(first) for rank in report.next_ns}
    next_ns = [FOREVER] * reach.machines
    waits = [False] * reach.machines
    calls = [0] * len(stations)
    due: list[dict[int, int]] = [{} for _ in stations]
    progress = Progress()
    span = FIRST_SPAN_NS
    _take_in(dict(enumerate(first)), next_ns, waits)
    while (now := min(next_ns)) < FOREVER:
        began = time.monotonic()
        windows: dict[int, Window] = {}
        for rank, horizon in enumerate(reach.horizons(next_ns, waits)):
            if next_ns[rank] < (end := min(horizon, now + span)):
                windows.setdefault(home[rank], Window(due=due[home[rank]])).horizons[rank] = end
        reports = _run(stations, windows)
        for number in windows:
            due[number] = {}
        for number, report in reports.items():
            for receiver, sequence in report.batches.items():
                due[receiver][number] = sequence
        _take_in(reports, next_ns, waits)
        for number, report in reports.items():
            calls[number] = report.calls
        span = _adapted(span, time.monotonic() - began)
        progress.now_ns, progress.calls = now, sum(calls)
        progress.windows += 1
        progress.rounds += len(windows)
        progress.messages += sum(report.messages for report in reports.values())
        on_progress(progress)
    return progress


def _run(stations: Sequence[Station], windows: Mapping[int, Window]) -> dict[int, Report]:
    """Run all windows at once; the last one, often the only one, in this thread."""
    *others, last = windows
    for number in others:
        stations[number].begin(windows[number])
    reports = {last: stations[last].advance(windows[last])}
    for number in others:
        reports[number] = stations[number].end()
    return reports


def _take_in(reports: Mapping[int, Report], next_ns: list[int], waits: list[bool]) -> None:
    """Note what stations said: states first, then what they sent, which its receiver may not have seen yet."""
    for report in reports.values():
        for rank, due in report.next_ns.items():
            next_ns[rank] = due
            waits[rank] = rank in report.waits
    for report in reports.values():
        for rank, due in report.arrivals.items():
            next_ns[rank] = min(next_ns[rank], due)


def _adapted(span: int, took_s: float) -> int:
    if took_s > SLOW_WINDOW_S:
        return max(FIRST_SPAN_NS, span // 2)
    return min(span * 2, FOREVER // 4) if took_s < SLOW_WINDOW_S / 4 else span
