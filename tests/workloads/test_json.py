"""With --json, a command prints its result as one document of JSON, and nothing else on stdout."""

import json
from pathlib import Path
from typing import Any

import pytest

from lrpc.workloads.launcher import SUBCOMMANDS
from tests.conftest import HAS_HOST
from tests.support.command import HERE, lrpc, office, refused
from tests.support.places import SAMPLE


def told(*arguments: object) -> Any:
    """Return the document that a command prints."""
    ended = lrpc(*arguments, "--json")
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_every_command_takes_the_option() -> None:
    for name in SUBCOMMANDS:
        assert "--json" in lrpc(name, "--help").out, name


def test_a_run_prints_its_record_and_verify_and_report_what_they_found(tmp_path: Path) -> None:
    out = tmp_path / "run"
    found = told("run", office(tmp_path), *HERE, "--out", out)
    record = json.loads((out / "record.json").read_text())
    assert found == {"folder": str(out), **record}
    same = told("verify", out, *HERE)
    assert (same["same"], same["digest"], same["difference"]) == (True, record["digest"], None)
    assert Path(told("report", out)["report"]).is_file()


def test_reproduce_prints_its_cells(tmp_path: Path) -> None:
    found = told("reproduce", "--calls", 10, "--only", "V", *HERE, "--out", tmp_path / "run")
    assert ("V", "total") in {(cell["table"], cell["row"]) for cell in found["cells"]}


@pytest.mark.skipif(not HAS_HOST, reason="needs the host kernel")
def test_reproduce_prints_what_it_measured_here_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from lrpc.workloads.bench import measure
    from tests.workloads.bench.test_bench import TINY

    monkeypatch.setattr(measure, "QUICK", TINY)
    found = told("reproduce", "--here", "--calls", 10, "--only", "V", *HERE, "--out", tmp_path / "run")
    assert found["here"]["kind"] == "bench"
    assert {cell["test"] for cell in found["here"]["cells"]} == {"Null", "Add", "BigIn", "BigInOut"}


def test_a_log_of_events_is_a_list(tmp_path: Path) -> None:
    done = lrpc("run", office(tmp_path, actions=3), *HERE, "--out", tmp_path / "run", "--events", tmp_path / "log")
    assert done.code == 0, done.err
    events = told("events", tmp_path / "log")
    lines = lrpc("events", tmp_path / "log").out.splitlines()[1:]
    assert len(events) == len(lines) > 10
    parts = ("machine", "time_ns", "event", "subject", "object")
    assert [",".join(str(one[part]) for part in parts) for one in events] == lines
    assert events[0]["words"] == "the run begins, with seed 0"
    assert told("events", tmp_path / "log", "--digest")["digest"] in done.out
    assert "exclude each other" in refused("events", tmp_path / "log", "--words", "--json")


def test_what_is_read_of_a_trace_and_done_with_it(tmp_path: Path) -> None:
    contents = told("traces", SAMPLE)
    assert contents["counts"]["spans"] > 0
    replayed = told("replay", SAMPLE, "--machines", 2, *HERE, "--out", tmp_path / "replay")
    assert replayed["counts"]["cross_machine"] > 0
    placed = told("place", SAMPLE, "--machines", 2, "--record", tmp_path / "place")
    assert set(placed["placement"].values()) <= {0, 1}
    assert placed["crosses_at_least"] <= placed["crosses"]
    assert Path(placed["file"]).is_file()
    assert Path(placed["report"]).is_file()


def test_studies_print_their_tables(tmp_path: Path) -> None:
    sweep = tmp_path / "sweep.toml"
    job = f'job = {{ kind = "run", scenario = "{office(tmp_path, actions=5)}" }}'
    sweep.write_text(f'name = "seeds"\n{job}\n[parameters]\nseed = [1, 2]\n')
    found = told("sweep", sweep, "--out", tmp_path / "out", "--parallel", 0)
    assert [(row["run"], row["seed"], row["status"]) for row in found["runs"]] == [
        (1, 1, "complete"),
        (2, 2, "complete"),
    ]
    first, *_ = told("structures", "--scale", 0.0001, "--out", tmp_path / "structures")
    assert first["structure"] == "monolithic kernel"
    few = ("--draws", 2, "--scale", 0.005, "--parallel", 0)
    assert len(told("systems", "--out", tmp_path / "systems", *few)) == 9
    assert told("explain", "Add")["LRPC"]["took_us"] == pytest.approx(164, abs=1)


def test_what_there_is_is_listed() -> None:
    found = told("list")
    assert "office" in found["scenarios"]
    assert "cvax-firefly" in found["cost models"]


def test_a_dry_run_has_no_result(tmp_path: Path) -> None:
    sweep, placing = ("sweep", "sun-each", "--out", tmp_path / "out"), ("place", SAMPLE, "--machines", 2)
    for command in (("run", "office"), sweep, placing, ("replay", SAMPLE, "--machines", 2)):
        assert "--json and --dry-run exclude each other" in refused(*command, "--json", "--dry-run")
