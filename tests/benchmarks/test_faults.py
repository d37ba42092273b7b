"""Faults in the middle of a run end in the same digest, or in one line that names the loss."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks import faults
from lrpc.cluster import peer as peers
from lrpc.cluster import synchronisation
from lrpc.cluster.held import WindowReport
from lrpc.cluster.peer import Endpoint
from lrpc.cluster.synchronisation import Progress
from lrpc.cluster.synchronisation_state import Horizons
from lrpc.kernel.errors import RunFailed
from tests.support.clusters import Joined, bank, cluster, digest, joined
from tests.support.proxies import Proxy

BANK = cluster(bank(teller={"rounds": 3}))


def after(windows: int, fault: Callable[[], None]) -> Callable[[Progress], None]:
    """Return a callback that injects a fault once, after this many windows of a run."""
    left = [fault]

    def inject(progress: Progress) -> None:
        if left and progress.windows >= windows:
            left.pop()()

    return inject


@pytest.fixture(scope="module")
def windows() -> int:
    """Return the number of windows of a run without faults."""
    with joined(BANK, 3) as run:
        return run.run().windows


@pytest.mark.parametrize("seed", [0, 1, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(2, 8))])
def test_a_station_lost_at_any_time_is_made_anew_and_the_digest_is_the_same(seed: int, windows: int) -> None:
    chance = random.Random(seed)
    with joined(BANK, 3) as run:
        number = chance.randrange(3)
        progress = run.run(after(chance.randrange(1, windows), lambda: run.lose(number)))
        assert progress.losses == 1
        assert run.digest() == digest(BANK)
        survivors = [run.stations[other] for other in range(3) if other != number]
        assert progress.again > 0
        # What the lost station had sent comes again from its successor, and is dropped.
        assert sum(station.finish()[1].duplicates for station in survivors) > 0


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 4))])
def test_stations_lost_together_or_one_after_the_other_are_made_anew(seed: int, windows: int) -> None:
    chance = random.Random(100 + seed)
    times = sorted(chance.randrange(1, windows) for _ in range(3))
    with joined(BANK, 3) as run:

        def inject(progress: Progress) -> None:
            while times and progress.windows >= times[0]:
                times.pop(0)
                for number in chance.sample(range(3), chance.choice([1, 2, 3])):
                    if number not in run.dead:
                        run.lose(number)

        progress = run.run(inject)
        assert progress.losses >= 3
        assert run.digest() == digest(BANK)


@contextmanager
def through_proxies(count: int) -> Iterator[tuple[Joined, dict[int, Proxy]]]:
    """Yield stations that are reached through proxies, which can be cut."""
    proxies: dict[int, Proxy] = {}

    def via(number: int, endpoint: Endpoint) -> Endpoint:
        proxies[number] = Proxy(endpoint)
        return proxies[number].endpoint

    with joined(BANK, count, via=via) as run:
        try:
            yield run, proxies
        finally:
            for proxy in proxies.values():
                proxy.close()


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 4))])
def test_a_transport_that_is_cut_for_a_moment_changes_nothing(
    seed: int, windows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PULSE_S", 0.5)
    chance = random.Random(200 + seed)
    with through_proxies(3) as (run, proxies):
        proxy = proxies[chance.randrange(3)]

        def cut() -> None:
            proxy.cut()
            threading.Timer(chance.uniform(0.05, 0.5), proxy.restore).start()

        progress = run.run(after(chance.randrange(1, windows), cut))
        assert progress.losses == 0
        assert run.digest() == digest(BANK)


def test_a_transport_that_stays_cut_ends_the_run_and_is_named(windows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PATIENCE_S", 0.5)
    monkeypatch.setattr(synchronisation, "PATIENCE_S", 0.5)
    with (
        through_proxies(3) as (run, proxies),
        pytest.raises(RunFailed, match=r"^machine .*desk1.*, at \d+\.\d{3} µs: transport to .*: no answer for 0.5 s"),
    ):
        run.run(after(windows // 2, proxies[1].cut))


def test_a_slow_station_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a station that still reports progress when asked, however slow its window is."""
    monkeypatch.setattr(peers, "PULSE_S", 0.05)
    monkeypatch.setattr(peers, "PATIENCE_S", 0.5)
    with joined(BANK, 2) as run:
        advance = run.stations[1].advance
        slow = threading.Event()

        def wait_first(horizons: Horizons, *, everything: bool, gathered_on: int | None) -> WindowReport:
            slow.wait(1.5)
            slow.set()
            return advance(horizons, everything=everything, gathered_on=gathered_on)

        monkeypatch.setattr(run.stations[1], "advance", wait_first)
        progress = run.run()
        assert slow.is_set()
        assert progress.losses == 0
        assert run.digest() == digest(BANK)


def test_a_station_that_gets_nowhere_ends_the_run_and_its_machine_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peers, "PULSE_S", 0.05)
    monkeypatch.setattr(peers, "STALL_S", 0.2)
    with joined(BANK, 2) as run:
        ended = threading.Event()
        advance = run.stations[1].advance

        def stand_still(horizons: Horizons, *, everything: bool, gathered_on: int | None) -> WindowReport:
            ended.wait(10)
            return advance(horizons, everything=everything, gathered_on=gathered_on)

        monkeypatch.setattr(run.stations[1], "advance", stand_still)
        try:
            with pytest.raises(RunFailed, match=r"no progress: not one event in 0\.2 s"):
                run.run()
        finally:
            ended.set()


@pytest.mark.long
@pytest.mark.usefixtures("on_ray")
class TestOnRay:
    def test_faults_in_real_runs_end_as_they_must(self, tmp_path: Path) -> None:
        """Inject one fault of each kind that has no other test on Ray.

        `python -m benchmarks.faults` injects more.
        """
        kinds = ("slow", "cut", "severed", "disk")
        found = faults.carry_out(kinds, 1, 7, tmp_path)
        assert {kind: sum(endings.values()) for kind, endings in found.items()} == dict.fromkeys(kinds, 1)
        assert {ending for endings in found.values() for ending in endings} <= {"same", "named"}
