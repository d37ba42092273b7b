"""Measures what strangers at the doors of a run's stations cost it, beside the run left alone.

    python -m benchmarks.strangers [--pairs N] [--only KIND]

The office runs on two actors, in turn alone and beside an attacker who has 5 % of a processor, for
each kind in `tests.support.strangers`. Times are from the first window to the last. What else the
computer does meanwhile adds to either: so each is the least of its runs.
"""

import argparse
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from lrpc.cluster import peer
from lrpc.cluster.description import Cluster
from lrpc.cluster.on_ray import actors
from lrpc.cluster.on_ray.session import ray_session
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.workloads.runs.jobs import RunJob
from tests.support.strangers import KINDS, strangers


def office(actions: int) -> Cluster:
    """Return the office, whose user does so many things: a thousand take some two seconds."""
    changes: dict[str, Any] = {"domains.user.threads.0.parameters.actions": actions}
    return RunJob(scenario="office", changes=changes).prepare(["lrpc", "run", "office"]).cluster


@contextmanager
def recorded(module: ModuleType) -> Iterator[list[str]]:
    """Yield a list that gets the addresses of a run's stations, as `module` connects to them."""
    found: list[str] = []

    class Known(peer.Peer):
        def __init__(self, endpoint: peer.Endpoint, *arguments: Any, **more: Any) -> None:
            found.append(endpoint.address)
            super().__init__(endpoint, *arguments, **more)

    with patch.object(module, "Peer", Known):
        yield found


def _processor_s(process: int) -> float:
    """Return the processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@dataclass
class Watched:
    """The times of a run from its first window to its last, and where its stations are."""

    kind: str | None  # of strangers, who come with the first window
    doors: list[str]
    stack: ExitStack
    at: list[tuple[float, float]] = field(default_factory=list)

    def on_window(self, _: Progress, processes: Sequence[int]) -> None:
        """Note the wall time and the processor time of the run's processes."""
        if self.kind is not None and not self.at:
            self.stack.enter_context(strangers(self.kind, self.doors))
        now = (time.monotonic(), sum(map(_processor_s, processes)) + time.process_time())
        self.at[1:] = [now] if self.at else []
        self.at = self.at or [now]

    @property
    def took(self) -> tuple[float, float]:
        """Return the wall time and the processor time, in seconds."""
        (began, before), (ended, after) = self.at
        return ended - began, after - before


def beside(kind: str | None, described: Cluster) -> tuple[Outcome, tuple[float, float]]:
    """Run on two actors, with strangers of a kind or none; return the outcome and what it took."""
    with recorded(actors) as doors, ExitStack() as stack:
        watched = Watched(kind, doors, stack)
        outcome = run_cluster(described, actors=2, on_window=watched.on_window)
    return outcome, watched.took


def main() -> None:
    """Print, of each kind, the times alone and beside it, and how many requests were refused."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=5, help="of runs, for each kind")
    parser.add_argument("--only", choices=KINDS, help="one kind")
    chosen = parser.parse_args()
    described = office(3000)
    with ray_session(None, 2):
        for kind in [chosen.only] if chosen.only else KINDS:
            alone, knocked, refused = [], [], 0
            for _ in range(chosen.pairs):
                alone.append(beside(None, described)[1])
                outcome, took = beside(kind, described)
                knocked.append(took)
                refused = max(refused, sum(station.strangers for station in outcome.stations))
            for at, what in enumerate(("wall", "processor")):
                least, other = (min(times[at] for times in side) for side in (knocked, alone))
                print(f"{kind}: {what} {least:.2f} beside {other:.2f} s: {least / other:.2f} times", flush=True)
            print(f"{kind}: at most {refused} refused", flush=True)


if __name__ == "__main__":
    main()
