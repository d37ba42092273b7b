"""Clusters run from Python with the same result as from the command line, to plot and to save."""

import inspect
import re
from pathlib import Path
from typing import Any

import numpy
import pytest

import lrpc
from tests.support.command import HERE, office, record
from tests.support.command import lrpc as command

ACTIONS = {"domains.user.threads.0.parameters.actions": 20}


@pytest.fixture(scope="module")
def result() -> lrpc.RunResult:
    return lrpc.run(lrpc.read_cluster("office", changes=ACTIONS), seed=3)


def test_a_run_from_python_is_the_commands(tmp_path: Path) -> None:
    scenario = office(tmp_path)
    command("run", scenario, *HERE, "--seed", 3, "--out", tmp_path / "run")
    assert lrpc.run(lrpc.read_cluster(scenario), seed=3).digest == record(tmp_path / "run")["digest"]


def test_what_it_came_to_can_be_looked_at(result: lrpc.RunResult) -> None:
    assert {cell.column for cell in result.cells} == {"remote/local", "remote/total"}
    assert result.counts["cross_machine"] > 0
    assert set(result.tables) >= {"cells", "calls", "latencies", "machines"}
    calls = result.tables["calls"]
    assert sum(row[list(calls.columns).index("calls")] for row in calls.rows) == sum(  # type: ignore[misc]
        result.counts[name] for name in ("within_domain", "cross_domain", "cross_machine")
    )
    assert result.findings["fileserver"]["files"]["requests"] == result.counts["cross_machine"]
    assert result.progress.calls >= result.counts["cross_machine"]


def test_progress_is_told_and_what_is_planned_is_known() -> None:
    cluster = lrpc.read_cluster("office", changes=ACTIONS)
    told: list[int] = []
    lrpc.run(cluster, on_progress=lambda progress: told.append(progress.calls))
    assert told == sorted(told)
    assert told[-1] > 0
    assert cluster.planned_calls > 0
    assert cluster.machines == ("fileserver", "workstation1", "workstation2", "workstation3")


def test_what_a_failed_run_had_measured_can_be_looked_at_and_saved(tmp_path: Path) -> None:
    def enough(progress: lrpc.Progress) -> None:
        if progress.calls:
            raise lrpc.RunFailed("enough")

    with pytest.raises(lrpc.RunIncomplete, match=r"^enough$") as error:
        lrpc.run(lrpc.read_cluster("office", changes=ACTIONS), on_progress=enough)
    result = error.value.result
    assert sum(result.counts[name] for name in ("cross_domain", "cross_machine")) > 0
    kept = record(result.save(tmp_path / "kept"))
    assert (kept["status"], kept["reason"], kept["cells"]) == ("incomplete", "enough", [])
    assert "enough" in command("verify", tmp_path / "kept", *HERE).line


def test_a_saved_result_is_a_record_that_can_be_verified(result: lrpc.RunResult, tmp_path: Path) -> None:
    folder = result.save(tmp_path / "kept")
    assert record(folder)["seed"] == 3
    assert command("verify", folder, *HERE).out.startswith("the same")
    with pytest.raises(lrpc.Refused, match="exists already"):
        result.save(folder)
    assert result.save(folder, force=True) == folder


def test_an_event_log_hashes_to_the_digest(tmp_path: Path) -> None:
    found = lrpc.run(lrpc.read_cluster("office", changes=ACTIONS), events=tmp_path / "log")
    assert command("events", tmp_path / "log", "--digest").out.strip() == found.digest
    with pytest.raises(lrpc.Refused, match="exists already"):
        lrpc.run(lrpc.read_cluster("office", changes=ACTIONS), events=tmp_path / "log")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"scale": 0}, "read_cluster: run.scale: "),
        ({"scale": "0.1"}, "read_cluster: run.scale: "),
        ({"changes": {"domains.user.threads.0.parameters.actions": None}}, "read_cluster: run.changes"),
        ({"registry": {"a": 1}}, "give an lrpc.Registry"),
        ({"registry": "nothing"}, "write module:NAME or path.py:NAME"),
    ],
)
def test_a_cluster_that_cannot_be_read_so_is_refused_in_one_line(given: dict[str, Any], told: str) -> None:
    with pytest.raises(lrpc.Refused, match=re.escape(told)) as refused:
        lrpc.read_cluster("office", **given)
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"seed": -1}, "lrpc.run: run.seed: "),
        ({"seed": 2**64}, "lrpc.run: run.seed: "),
        ({"seed": 1.5}, "lrpc.run: run.seed: "),
        ({"transport": "pigeons"}, "give grpc or memory"),
        ({"actors": -1}, "give a number from 0"),
    ],
)
def test_a_run_that_cannot_be_is_refused_in_one_line(given: dict[str, Any], told: str) -> None:
    with pytest.raises(lrpc.Refused, match=re.escape(told)) as refused:
        lrpc.run(lrpc.read_cluster("office", changes=ACTIONS), **given)
    assert len(str(refused.value).splitlines()) == 1


def test_numbers_of_numpys_are_taken_as_pythons() -> None:
    changes: dict[str, Any] = {"domains.user.threads.0.parameters.actions": numpy.int64(20)}
    found = lrpc.run(lrpc.read_cluster("office", changes=changes), seed=int(numpy.int64(3)))
    assert found.digest == lrpc.run(lrpc.read_cluster("office", changes=ACTIONS), seed=3).digest


def test_what_a_notebook_shows_of_them_is_short(result: lrpc.RunResult) -> None:
    assert repr(lrpc.read_cluster("office")) == "<ReadyCluster office: 4 machines>"
    assert len(repr(result)) < 120
    assert result.digest[:16] in repr(result)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(lrpc.Refused, match="unknown"):
        lrpc.read_cluster("no such scenario")
    with pytest.raises(lrpc.Refused, match="no such place"):
        lrpc.read_cluster("office", changes={"nothing.here": 1})
    with pytest.raises(lrpc.Refused, match="registry: server file server"):
        lrpc.read_cluster("office", registry=lrpc.Registry({"file server": lrpc.Server}, {}))
    with pytest.raises(lrpc.Refused, match="does not use Ray"):
        lrpc.run(lrpc.read_cluster("office"), actors=0, address="127.0.0.1:1")


@pytest.mark.parametrize("name", lrpc.__all__)
def test_every_public_name_says_what_it_is(name: str) -> None:
    assert name in dir(lrpc)
    value = getattr(lrpc, name)
    if inspect.isclass(value) or callable(value):
        assert value.__doc__
