"""Ends at random moments: whoever is left learns of it at once, and nothing stays behind."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.host import ROOT
from tests.support.kills import CLONE

SOON_MS = 100.0
ALL_MS = 500.0
RUNS = 3  # at most: on a busy computer, others may have the processors for a while


def killed(folder: Path, seed: int, count: int, victim: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "tests.support.kills", str(folder), str(seed), str(count), victim]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def check(folder: Path, seed: int, count: int, victim: str) -> None:
    """Raise `AssertionError` where something stays behind, or each run's ends are noticed late."""
    if "child" in victim and CLONE is None:
        pytest.skip("it is not known how a process forks here")
    late: list[float] = []
    for run in range(RUNS):
        found = killed(folder, seed + run, count, victim)
        assert found["left"] == 0
        assert found["doors"] == []
        assert found["kept"] != []
        assert all(more == [0, 0, 0] for more in found["kept"]), found["kept"]  # descriptors, segments, threads
        if "client" in victim:
            assert found["honest"] is True
        else:
            assert found["ends"] == (["CallAborted"] if victim == "stopped server" else ["CallFailed"])
        late = sorted(found["late_ms"])
        assert len(late) == count
        if late[-1] < ALL_MS and sum(one > SOON_MS for one in late) <= max(1, count // 20):
            return
    pytest.fail(f"noticed late, {RUNS} times over: {late}")


VICTIMS = [
    "server",
    "server with a child",
    "stopped server",
    "client",
    "client with a child",
    "stopped client",
]


@pytest.mark.parametrize("victim", VICTIMS)
def test_an_end_at_a_random_moment_is_noticed_by_all_that_are_left(tmp_path: Path, victim: str) -> None:
    check(tmp_path, 1, 8, victim)


@pytest.mark.long
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_ends_at_random_moments(tmp_path: Path, victim: str, seed: int) -> None:
    check(tmp_path, 100 + seed, 40, victim)
