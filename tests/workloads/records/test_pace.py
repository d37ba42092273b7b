"""A record gives the cost of keeping machines in step, and predicts the effect of more actors."""

import pytest

from lrpc.cluster.held import SHARES, WindowReport
from lrpc.cluster.run import run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.cluster.synchronisation_state import ACTORS, Sums
from lrpc.workloads.records.pace import predicted_speedup, synchronisation
from tests.support.clusters import bank, cluster

TOLD = [
    *("windows", "rounds", "messages", "bytes", "rounds_per_remote_call", "wall_s", "share_of_wall", "round_us"),
    *("predicted_speedup", "gathered_s", "losses", "events_executed_again", "strangers", "retries"),
    *("duplicates_dropped", "memory_bytes_per_actor"),
]


def window(**work_ns: int) -> Sums:
    """Return the sums of one window in which machines worked for these times, by rank."""
    shares = [work_ns.get(f"m{rank}", 0) for rank in range(SHARES)]
    sums = Sums()
    sums.add_window([WindowReport(work_ns=shares)])
    return sums


def test_work_is_dealt_out_as_machines_are_and_the_busiest_decides() -> None:
    sums = window(m0=10, m1=20, m2=30, m5=5)
    assert (sums.work_ns, sums.ideal_ns) == (65, [65, 40, 30, 30])
    sums.add(window(m1=20))
    assert (sums.windows, sums.ideal_ns) == (2, [85, 60, 50, 50])


def test_every_actor_that_has_work_takes_a_round_and_one_alone_its_share_of_a_handing_over() -> None:
    assert window(m0=1, m1=1, m2=1, m5=1).ideal_rounds == [0, 2, 3, 4]
    assert window(m3=1).ideal_rounds == [0, 1 / 4, 3 / 8, 7 / 16]


def test_a_speedup_is_foretold_from_work_rounds_and_what_stays() -> None:
    progress = Progress(
        rounds=10, work_ns=800, ideal_ns=[800, 400, 200, 100], ideal_rounds=[0.0, 20.0, 40.0, 80.0], wall_ns=1000
    )
    progress.round_ns = 5
    stays = 1000 - 800 - 10 * 5
    expected = [1000 / (stays + 800), 1000 / (stays + 500), 1000 / (stays + 400), 1000 / (stays + 500)]
    assert list(predicted_speedup(progress).values()) == pytest.approx(expected, abs=0.001)


def test_a_run_over_grpc_says_all_of_it_and_one_in_memory_foretells_nothing() -> None:
    described = cluster(bank(teller={"rounds": 1}))
    linked = synchronisation(run_cluster(described, actors=0))
    assert list(linked) == TOLD
    foretold = linked["predicted_speedup"]
    assert isinstance(foretold, dict)
    assert list(foretold) == [str(actors) for actors in ACTORS]
    assert all(isinstance(told, int | float) and told > 0 for told in (linked[name] for name in TOLD[:8]))
    assert synchronisation(run_cluster(described, actors=0, transport="memory"))["predicted_speedup"] is None
