"""A run that does not end by itself can be bounded, and says what it was busy with."""

import re
from pathlib import Path

import pytest

from tests.support.command import HERE, lrpc, office, record, refused


def stopped(tmp_path: Path, *options: object) -> str:
    """Run an office with options that stop it; return the line that says so."""
    ended = lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run", *options)
    assert ended.code == 3
    assert record(tmp_path / "run")["status"] == "incomplete"
    return ended.line


def test_a_run_is_stopped_at_a_number_of_calls_and_says_what_it_called_most(tmp_path: Path) -> None:
    line = stopped(tmp_path, "--max-calls", 2)
    match = re.match(
        r"lrpc: stopped after ([0-9,]+) calls and [0-9.,]+ s of virtual time, as --max-calls 2 says; most calls: "
        r"[0-9,]+ by \S+ of \S+ to \S+ \(an incomplete record is in ",
        line,
    )
    assert match, line
    assert int(match[1].replace(",", "")) >= 2
    assert sum(record(tmp_path / "run")["counts"][name] for name in ("cross_domain", "cross_machine")) >= 2


def test_a_run_is_stopped_at_a_virtual_time(tmp_path: Path) -> None:
    assert "as --until 1 says" in stopped(tmp_path, "--until", 1)


@pytest.mark.parametrize("options", [("--until", 1e15), ("--max-calls", 10**9)])
def test_bounds_that_are_not_reached_change_nothing(tmp_path: Path, options: tuple[object, ...]) -> None:
    for where, more in (("bounded", options), ("free", ())):
        assert lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / where, *more).code == 0
    assert record(tmp_path / "bounded")["digest"] == record(tmp_path / "free")["digest"]


@pytest.mark.parametrize("options", [("--until", "nan"), ("--until", -1), ("--max-calls", 0)])
def test_bounds_that_are_none_are_refused(tmp_path: Path, options: tuple[object, ...]) -> None:
    assert str(options[0]) in refused("run", office(tmp_path), *HERE, "--out", tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()
