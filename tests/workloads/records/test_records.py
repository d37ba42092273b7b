"""A record holds the results of a run in a fixed form, written whole.

An incomplete record gives the reason.
"""

import csv
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from lrpc.cluster.run import run_cluster
from lrpc.kernel.errors import Panic
from lrpc.workloads.runs import execute
from tests.support.command import HERE, Ended, lrpc, names, office, record, refused


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("records")
    assert lrpc("run", office(folder), *HERE, "--seed", 7, "--out", folder / "run").code == 0
    return folder


@pytest.fixture
def found(folder: Path) -> dict[str, Any]:
    return record(folder / "run")


def failing(folder: Path) -> Path:
    """Write a scenario whose threads raise."""
    path = office(folder)
    path.write_text(path.read_text().replace('{ names = "names@', '{ names = "windows@'))
    return path


def test_a_record_holds_what_was_measured_and_its_tables(folder: Path) -> None:
    assert names(folder) == ["office.toml", "run"]
    assert names(folder / "run") == [
        "busy-processors.csv",
        "calls.csv",
        "cells.csv",
        "facilities.csv",
        "latencies.csv",
        "machines.csv",
        "record.json",
    ]


def test_it_says_what_was_asked_for_and_what_ran(found: dict[str, Any], folder: Path) -> None:
    assert (found["format"], found["status"], found["reason"]) == (2, "complete", None)
    assert (found["workload"], found["seed"]) == ("office", 7)
    asked = ["run", folder / "office.toml", *HERE, "--seed", 7, "--out", folder / "run"]
    assert found["command"] == ["lrpc", *map(str, asked)]
    assert (found["actors"], found["links"]) == (0, "memory")
    assert found["compiled"] in (True, False)
    assert {"lrpc", "python", "greenlet", "grpcio", "numpy", "protobuf", "ray"} <= found["versions"].keys()
    assert found["settings"]["cost_models"] == ["cvax-firefly"]
    assert len(bytes.fromhex(found["digest"])) == 32


def test_counts_go_by_the_agreed_names_and_add_up_over_machines(found: dict[str, Any]) -> None:
    agreed = ["trap", "within_domain", "cross_domain", "cross_machine"]
    assert list(found["counts"])[:4] == agreed
    for name in agreed:
        assert found["counts"][name] == sum(machine["counts"][name] for machine in found["machines"].values())
    counts = found["counts"]
    assert counts["astacks_taken"] == counts["linkages_pushed"] == counts["cross_domain"] > 0
    assert counts["link_requests"] == counts["link_replies"] == counts["cross_machine"] > 0
    assert found["synchronisation"]["messages"] == 2 * counts["cross_machine"]


def test_bytes_copies_charges_and_latencies_are_of_the_calls_that_were_made(found: dict[str, Any]) -> None:
    calls = found["counts"]["cross_domain"] + found["counts"]["cross_machine"]
    assert sum(latency["count"] for latency in found["latency_us"].values()) == calls
    for latency in found["latency_us"].values():
        assert 0 < latency["p50"] <= latency["p90"] <= latency["p99"] <= latency["max"]
        assert 0 < latency["mean"] <= latency["max"]
    assert list(found["copies"]) == list("ABCDEF")
    assert found["copies"]["A"] > 0
    assert found["bytes"]["results"] >= 1024 * found["counts"]["cross_machine"] > 0  # the blocks read
    assert found["charges"]["trap"] == 2 * found["counts"]["cross_domain"]
    assert found["charges"]["remote_client"] == found["charges"]["remote_server"] == found["counts"]["cross_machine"]
    assert found["virtual_us"] == max(machine["end_us"] for machine in found["machines"].values())


def test_it_says_what_each_processor_did(found: dict[str, Any]) -> None:
    for machine in found["machines"].values():
        (processor,) = machine["processors"]
        assert list(processor) == [
            *("busy_us", "bus_us", "bus_wait_us", "lock_wait_us", "idle_us", "interrupt_us", "exchanges")
        ]
        assert processor["busy_us"] == machine["busy_us"] > 0
        whole = processor["busy_us"] + processor["interrupt_us"] + processor["idle_us"]
        assert whole == pytest.approx(machine["end_us"])
        assert processor["interrupt_us"] == pytest.approx(machine["interrupts"]["busy_us"])
        busy = dict(machine["busy_processors"])
        if not machine["interrupts"]["served"]:
            assert busy == {}
            continue
        assert busy.pop("in all") == pytest.approx(sum(busy.values()), abs=1e-5)
        assert busy["interrupts"] == pytest.approx(processor["interrupt_us"] / machine["end_us"], abs=1e-5)
        assert (processor["bus_us"], processor["exchanges"]) == (0, 0)  # no other processor


def test_it_says_how_many_bytes_astacks_carried(found: dict[str, Any]) -> None:
    for machine in found["machines"].values():
        carried = {int(size): calls for size, calls in machine["astack_bytes"].items()}
        assert sum(carried.values()) == machine["counts"]["cross_domain"]
        assert list(carried) == sorted(carried)


def test_cells_have_the_agreed_form_and_the_table_is_the_same(found: dict[str, Any], folder: Path) -> None:
    assert [list(cell) for cell in found["cells"]] == [
        ["table", "row", "column", "paper", "ours", "unit", "kind"]
    ] * len(found["cells"])
    assert [(cell["table"], cell["row"], cell["column"], cell["unit"]) for cell in found["cells"]] == [
        ("I", "office", "remote/local", "%"),
        ("I", "office", "remote/total", "%"),
    ]
    with (folder / "run" / "cells.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{key: text or None for key, text in row.items()} for row in rows] == [
        {key: None if value is None else str(value) for key, value in cell.items()} for cell in found["cells"]
    ]


def test_without_out_every_run_has_a_fresh_folder_under_records(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ended = lrpc("run", office(tmp_path), *HERE)
    (made,) = (tmp_path / "records").iterdir()
    assert made.name.startswith("office-")
    assert f"record records/{made.name}\n" in ended.out
    assert record(made)["status"] == "complete"


def test_a_folder_several_levels_deep_is_made_for_the_record(tmp_path: Path) -> None:
    assert lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "a" / "b" / "c").code == 0
    assert record(tmp_path / "a" / "b" / "c")["status"] == "complete"


def test_an_existing_record_stays_unless_it_is_replaced_with_force(tmp_path: Path) -> None:
    command = ["run", office(tmp_path), *HERE, "--out", tmp_path / "run"]
    lrpc(*command)
    before = (tmp_path / "run" / "record.json").read_bytes()
    assert "exists already" in refused(*command, "--seed", 1)
    assert (tmp_path / "run" / "record.json").read_bytes() == before
    assert lrpc(*command, "--seed", 1, "--force").code == 0
    assert record(tmp_path / "run")["seed"] == 1
    assert names(tmp_path) == ["office.toml", "run"]


def test_force_takes_an_empty_folder_too(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    assert lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run", "--force").code == 0
    assert record(tmp_path / "run")["status"] == "complete"


@pytest.mark.parametrize("links", ["memory", "grpc"])
def test_a_run_that_fails_leaves_an_incomplete_record_that_says_why(links: str, tmp_path: Path) -> None:
    run = tmp_path / "run"
    ended = lrpc("run", failing(tmp_path), "--actors", 0, "--links", links, "--out", run)
    assert ended.code == 3
    place = "machine workstation1, thread user/0 of domain user, at 0.000 µs"
    reason = f"{place}: BindingRefused: import windows@workstation1: it is a Windows, not a Names"
    assert ended.line.startswith(f"lrpc: {reason}")
    assert ended.line.endswith(f"(an incomplete record is in {run})")
    found = record(run)
    assert (found["status"], found["digest"], found["cells"]) == ("incomplete", None, [])
    assert found["counts"]["cross_machine"] == 0  # the measurements until then are kept
    assert found["reason"].startswith(reason)
    assert "; raised at " in found["reason"]
    assert (run / "cells.csv").read_text().split() == ["table,row,column,paper,ours,unit,kind"]
    assert names(tmp_path) == ["office.toml", "run"]


def during(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, trouble: BaseException) -> tuple[Ended, dict[str, Any]]:
    """Run the office, raise `trouble` after its first window, and return its end and record."""

    def troubled(*arguments: Any, **options: Any) -> Any:
        def happen(progress: object) -> None:
            raise trouble

        return run_cluster(*arguments, **(options | {"on_progress": happen}))

    monkeypatch.setattr(execute, "run_cluster", troubled)
    ended = lrpc("run", office(tmp_path), "--actors", 0, "--out", tmp_path / "run")
    assert names(tmp_path) == ["office.toml", "run"]
    return ended, record(tmp_path / "run")


def test_an_interrupted_run_leaves_an_incomplete_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, found = during(tmp_path, monkeypatch, KeyboardInterrupt())
    assert (ended.code, ended.line) == (130, "lrpc: interrupted")
    assert (found["status"], found["reason"], found["cells"]) == ("incomplete", "interrupted", [])


def test_a_broken_invariant_leaves_an_incomplete_record_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, found = during(tmp_path, monkeypatch, Panic("two is odd"))
    assert (ended.code, ended.line) == (3, "lrpc: broken invariant, a bug of lrpc's own: two is odd")
    assert (found["status"], found["reason"]) == ("incomplete", "broken invariant: two is odd")


def test_a_record_that_cannot_be_written_any_more_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(progress: object) -> None:
        shutil.rmtree(tmp_path / "records")
        (tmp_path / "records").write_text("a file where the folder was to be")

    def spoiled(*arguments: Any, **options: Any) -> Any:
        return run_cluster(*arguments, **(options | {"on_progress": spoil}))

    monkeypatch.setattr(execute, "run_cluster", spoiled)
    ended = lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "records" / "run")
    assert ended.code == 3
    assert "the record cannot be written: " in ended.line
    assert names(tmp_path) == ["office.toml", "records"]


TRACE = """\
TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano
t,a,root,front,Home,100,900
t,b,a,front,Get,200,800
t,c,b,back,Get,300,700
"""

COMMANDS: Sequence[Sequence[str]] = [
    ("run", "office"),
    ("run", "office", "--out", "a/b", "--events", "log"),
    ("reproduce", "--calls", "10"),
    ("replay", "trace.csv", "--machines", "2"),
    ("run", "office", "--address", "127.0.0.1:1"),
]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_dry_run_says_what_would_run_and_writes_nothing(
    command: Sequence[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.csv").write_text(TRACE)
    ended = lrpc(*command, "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r" machines (on|in) ", ended.out.splitlines()[0])
    assert "the record would go to " in ended.out.splitlines()[-1]
    assert names(tmp_path) == ["trace.csv"]


def test_a_dry_run_names_every_machine_and_domain(tmp_path: Path) -> None:
    ended = lrpc("run", office(tmp_path), *HERE, "--dry-run", "--out", tmp_path / "run")
    assert ended.out.splitlines()[0] == "office: 3 machines in this process, links memory, seed 0"
    for machine in ("fileserver", "workstation1", "workstation2"):
        assert f"  {machine}: 1 processors, cost model cvax-firefly\n" in ended.out
    assert "    cache: exports files@workstation2; 0 threads\n" in ended.out
    assert not (tmp_path / "run").exists()


def test_a_record_reads_as_json_whatever_the_locale(found: dict[str, Any], folder: Path) -> None:
    data = (folder / "run" / "record.json").read_bytes()
    assert json.loads(data.decode()) == found
    assert data.endswith(b"}" + os.linesep.encode())
