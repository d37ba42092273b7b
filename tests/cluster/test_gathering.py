"""Where stations call each other in turn, one takes over all machines, whatever is lost then."""

import random
from collections.abc import Callable, Sequence
from threading import Thread

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster import peer as peers
from lrpc.cluster.description import Cluster, Link
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.group import Group
from lrpc.cluster.reach import Reach
from lrpc.cluster.run import digest_of
from lrpc.cluster.synchronisation import Coordinator, Progress, Window
from lrpc.cluster.synchronisation_state import FIRST_SPAN_NS, SynchronisationState
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from tests.support.clusters import Joined, bank, cluster, digest, joined, pair
from tests.support.drawn import clusters, cut_up
from tests.support.properties import examples

BANK = cluster(bank(teller={"rounds": 3}))
EXPECTED = digest(BANK)
NOTHING = Cluster("nothing", (), Link(1, 0), {})
EARLY = 30  # windows


def gathered(described: Cluster, seed: int, most: int) -> str:
    """Return the digest of a run whose machines gather by window `most`, if there are so many."""
    chance = random.Random(seed)
    left = chance.randint(0, most)

    class Gathering(Coordinator):
        def _takes_long(self) -> bool:
            nonlocal left
            left -= 1
            return left < 0

    return cut_up(described, chance, Gathering)


@examples(100)
@given(clusters(), st.integers(0, 2**32), st.sampled_from([5, 30, 200]))
def test_machines_that_one_station_takes_over_at_any_time_come_to_the_same(
    described: Cluster, seed: int, most: int
) -> None:
    assert gathered(described, seed, most) == digest(described)


@pytest.mark.parametrize("most", [10, 100, 1_000])
def test_what_adopted_machines_send_again_is_dropped_and_what_they_were_sent_comes_again(most: int) -> None:
    described = cluster(bank(teller={"rounds": 2}))
    assert {gathered(described, seed, most) for seed in range(4)} == {digest(described)}


@pytest.fixture
def after(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Return what makes machines gather after a number of windows, and not before."""

    def plan(windows: int) -> None:
        monkeypatch.setattr(Coordinator, "_takes_long", lambda self: self.progress.windows >= windows)

    return plan


def held(run: Joined) -> list[int]:
    """Return how many machines each station holds."""
    return [len(station.so_far()[0]) for station in run.stations]


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("windows", [0, EARLY, 150])
def test_all_machines_end_on_one_station_and_come_to_the_same(
    windows: int, count: int, after: Callable[[int], None]
) -> None:
    after(windows)
    with joined(BANK, count) as run:
        progress = run.run(gather=True)
        assert progress.gathered_ns is not None
        assert progress.again > 0
        assert sorted(held(run)) == [0] * (count - 1) + [len(BANK.machines)]
        assert run.digest() == EXPECTED


def test_windows_after_that_are_few(after: Callable[[int], None]) -> None:
    with joined(BANK, 2) as run:
        apart = run.run()
    after(EARLY)
    with joined(BANK, 2) as run:
        gathered = run.run(gather=True)
    assert gathered.rounds < apart.rounds / 2


@pytest.mark.parametrize("of", ["the one with all machines", "one without any"])
def test_a_station_that_is_lost_afterwards_is_made_anew(
    of: str, after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PULSE_S", 0.5)
    monkeypatch.setattr("lrpc.cluster.station.SLOW_WINDOW_S", 0.001)
    after(EARLY)
    with joined(BANK, 2) as run:
        lost: list[int] = []

        def lose(progress: Progress) -> None:
            if progress.gathered_ns is not None and not lost:
                machines = held(run)
                lost.append(machines.index(max(machines) if of == "the one with all machines" else 0))
                run.lose(lost[0])

        progress = run.run(lose, gather=True)
        assert lost
        assert progress.losses == 1
        assert run.digest() == EXPECTED


def test_a_station_that_is_lost_as_it_takes_machines_over_begins_anew_with_all(
    after: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peers, "PULSE_S", 0.5)
    adopt = Group.adopt
    adopted: list[Group] = []
    after(EARLY)
    with joined(BANK, 2) as run:

        def lose(group: Group, sent: Sequence[Envelope]) -> None:
            if not adopted:
                adopted.append(group)
                number = next(number for number, station in enumerate(run.stations) if station._group is group)
                run.dead.add(number)
                run.stations[number]._server._server.stop(None).wait()
                Thread(target=run.stations[number].stop).start()
            adopt(group, sent)

        monkeypatch.setattr(Group, "adopt", lose)
        progress = run.run(gather=True)
        assert (len(adopted), progress.losses) == (1, 1)
        assert run.digest() == EXPECTED


def test_a_message_that_was_on_its_way_is_dropped_since_its_sender_sends_it_again() -> None:
    described = cluster(pair("teller", "drawer", ledgers="drawer", rounds=2))
    client, server = (Group(described, [rank], 0, None) for rank in range(2))
    calls: list[Envelope] = []
    replies: list[Envelope] = []
    client.advance({0: (FOREVER, FOREVER)}, calls.extend)
    server.adopt([])
    server.arrived.append(calls)  # it comes too late
    while server.next_ns < FOREVER:
        server.advance(dict.fromkeys(range(2), (FOREVER, FOREVER)), replies.extend)
    client.release()
    assert (len(calls), replies, server.duplicates) == (1, [], 1)
    ended = sorted((one.name, one.digest) for one in server.finish())
    assert digest_of(ended) == digest(described)
    assert client.finish() == []


def test_windows_begin_short_again_and_all_machines_run_in_each() -> None:
    machines = len(BANK.machines)
    state = SynchronisationState(Reach(BANK), [rank % 2 for rank in range(machines)], 2, in_order=True)
    state.next_ns[0] = 5
    state.span_ns = FOREVER // 4
    state.gather(1)
    until = 5 + FIRST_SPAN_NS
    assert state.grant() == {1: dict.fromkeys(range(machines), (until, until))}
    state.next_ns[0] = FOREVER
    assert state.grant() == {}


@pytest.mark.parametrize("stations", [[2], [0, 1], [1, 0]])
def test_machines_gather_once_and_on_a_station_that_is_there(stations: Sequence[int]) -> None:
    with joined(BANK, 2) as run:
        *first, last = (Window(everything=True, gathered_on=number) for number in stations)
        for window in first:
            run.peers[0].advance(window)
        with pytest.raises(RunFailed, match=f"station 0 cannot leave all machines to station {last.gathered_on}"):
            run.peers[0].advance(last)


@pytest.mark.parametrize(
    ("walls_ms", "works_ms", "gathers"),
    [
        ([600, 600], [100, 100], True),
        ([600, 600], [400, 100], False),  # only once in a row
        ([600, 600, 600], [400, 100, 100], True),
        ([5_000, 600, 600], [4_900, 100, 100], False),  # not in the run as a whole
        ([100, 100, 100, 100], [1, 1, 1, 1], False),  # too short
    ],
)
def test_machines_gather_where_windows_have_taken_much_longer_than_they_ran(
    walls_ms: Sequence[int], works_ms: Sequence[int], gathers: bool
) -> None:
    coordinator = Coordinator(NOTHING, [], [], lambda progress: None)
    progress, found = coordinator.progress, False
    for wall_ms, work_ms in zip(walls_ms, works_ms, strict=True):
        progress.wall_ns += wall_ms * 1_000_000
        progress.ideal_ns[0] += work_ms * 1_000_000
        found = coordinator._takes_long()
    assert found is gathers
