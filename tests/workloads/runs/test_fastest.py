"""A replay runs where it is predicted to be fastest, unless options say where."""

from pathlib import Path

import pytest

from lrpc.cluster.synchronisation import Progress
from lrpc.cluster.synchronisation_state import ACTORS
from lrpc.workloads.runs import fastest
from tests.support.command import lrpc, record
from tests.support.places import SAMPLE

MS = 1_000_000


def trial(wall_ms: int, work_ms: tuple[int, ...], rounds: tuple[float, ...]) -> Progress:
    return Progress(wall_ns=wall_ms * MS, ideal_ns=[one * MS for one in work_ms], ideal_rounds=list(rounds))


def test_machines_that_work_apart_get_an_actor_for_each_processor() -> None:
    apart = trial(1000, (1000, 500, 250, 125), (0, 10, 10, 10))
    assert [fastest.best_of(apart, most) for most in (1, 2, 3, 4, 8)] == [0, 2, 2, 4, 8]


def test_machines_that_wait_for_each_other_stay_in_one_process() -> None:
    talking = trial(1000, (1000, 500, 250, 125), (0, 20_000, 20_000, 20_000))
    assert fastest.best_of(talking, 8) == 0
    uneven = trial(1000, (1000, 900, 900, 900), (0, 1, 1, 1))
    assert fastest.best_of(uneven, 8) == 0


def test_a_replay_that_is_soon_over_needs_no_actors(tmp_path: Path) -> None:
    assert lrpc("replay", SAMPLE, "--machines", 2, "--out", tmp_path / "run").code == 0
    kept = record(tmp_path / "run")
    assert (kept["actors"], kept["links"]) == (0, "memory")
    assert "as is predicted to be faster" in lrpc("replay", SAMPLE, "--machines", 2, "--dry-run").out


def test_a_trial_that_takes_long_is_ended_and_decides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []

    def decide(progress: Progress, most: int) -> int:
        assert len(progress.ideal_ns) == len(ACTORS)
        seen.append(progress.windows)
        return 0

    monkeypatch.setattr(fastest, "TRIAL_NS", 0)
    monkeypatch.setattr(fastest, "best_of", decide)
    assert lrpc("replay", SAMPLE, "--machines", 2, "--out", tmp_path / "run").code == 0
    assert seen == [1]


@pytest.mark.parametrize(
    ("options", "where"),
    [(("--actors", 0), (0, "memory")), (("--actors", 0, "--links", "grpc"), (0, "grpc"))],
)
def test_options_say_where_a_replay_runs(tmp_path: Path, options: tuple[object, ...], where: tuple[int, str]) -> None:
    assert lrpc("replay", SAMPLE, "--machines", 2, *options, "--out", tmp_path / "run").code == 0
    kept = record(tmp_path / "run")
    assert (kept["actors"], kept["links"]) == where
