"""Ends at random moments: whoever is left learns of it at once, and nothing stays behind."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.host import ROOT


def killed(folder: Path, seed: int, count: int, victim: str) -> dict[str, object]:
    command = [sys.executable, "-m", "tests.support.kills", str(folder), str(seed), str(count), victim]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)
    assert found["left"] == 0
    return found


def check(folder: Path, seed: int, count: int, victim: str) -> None:
    found = killed(folder, seed, count, victim)
    if victim == "client":
        assert found["honest"] is True
        assert found["descriptors_after"] == found["descriptors_before"]
        assert found["doors"] == []
        return
    assert found["ends"] == (["CallAborted"] if victim == "stopped server" else ["CallFailed"])
    slowest = found["slowest_ms"]
    assert isinstance(slowest, float)
    # The deadline of a call to a stopped server is 100 ms. On an idle computer each is within 5 ms;
    # the bound allows for others that use the processors.
    assert slowest < (600 if victim == "stopped server" else 500)


VICTIMS = ["server", "server with a child", "stopped server", "client"]


@pytest.mark.parametrize("victim", VICTIMS)
def test_an_end_at_a_random_moment_is_noticed_by_all_that_are_left(tmp_path: Path, victim: str) -> None:
    check(tmp_path, 1, 8, victim)


@pytest.mark.long
@pytest.mark.parametrize("victim", VICTIMS)
@pytest.mark.parametrize("seed", range(5))
def test_a_thousand_ends_at_random_moments(tmp_path: Path, victim: str, seed: int) -> None:
    check(tmp_path, 100 + seed, 50, victim)
