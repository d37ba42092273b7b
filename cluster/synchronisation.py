"""Conservative synchronisation: every machine runs as far as nothing another does can reach it, window by window."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from lrpc.cluster.group import Report
from lrpc.kernel.simulated.engine import FOREVER

SLOW_WINDOW_S: Final = 0.2  # a window without a horizon of its own ends after about that much wall time
FIRST_WINDOW_NS: Final = 1_000_000


class Station(Protocol):
    """A group of machines as the coordinator sees it, here or in another process."""

    def begin(self, horizon: int) -> None:
        """Begin a window."""

    def end(self) -> Report:
        """Wait for the window's end."""


@dataclass
class Progress:
    """How far a run is: virtual time, windows so far, and work done."""

    now_ns: int = 0
    windows: int = 0
    rounds: int = 0  # windows times the stations that took part in them
    messages: int = 0
    calls: int = 0


def coordinate(
    stations: Sequence[Station],
    first: Sequence[Report],
    lookahead_ns: int | None,
    on_progress: Callable[[Progress], None],
) -> Progress:
    """Run all stations until no machine has anything left to do.

    In every window the earliest event of all is at T, so no message can arrive before T + lookahead: all run
    strictly below that. Stations that have nothing to do before it are left alone. Without messages between
    machines (`lookahead_ns` is None) windows only serve to show progress, and are as long as the clock on the wall
    allows; results never depend on where windows end.
    """
    progress = Progress()
    pending = [min(report.next_ns.values(), default=FOREVER) for report in first]
    home = {rank: number for number, report in enumerate(first) for rank in report.next_ns}
    calls = [0] * len(stations)
    reach = FIRST_WINDOW_NS if lookahead_ns is None else lookahead_ns
    while (now := min(pending)) < FOREVER:
        horizon = min(now + reach, FOREVER)
        began = time.monotonic()
        active = [number for number, due in enumerate(pending) if due < horizon]
        for number in active:
            stations[number].begin(horizon)
        reports = {number: stations[number].end() for number in active}
        for number, report in reports.items():
            pending[number] = min(report.next_ns.values())
            calls[number] = report.calls
            progress.messages += report.messages
        for report in reports.values():
            for rank, arrives_ns in report.arrivals.items():
                pending[home[rank]] = min(pending[home[rank]], arrives_ns)
        if lookahead_ns is None:
            reach = _adapted(reach, time.monotonic() - began)
        progress.now_ns, progress.calls = now, sum(calls)
        progress.windows += 1
        progress.rounds += len(active)
        on_progress(progress)
    return progress


def _adapted(reach: int, took_s: float) -> int:
    if took_s > SLOW_WINDOW_S:
        return max(FIRST_WINDOW_NS, reach // 2)
    return reach * 2 if took_s < SLOW_WINDOW_S / 4 else reach
