"""The benchmarks run, and report the right amount of work; their times are not checked."""

import json
import os
import socket
import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks import cluster as clusters
from benchmarks import cluster_page, performance, placing, remote, simulation
from benchmarks.peers import __main__ as peers
from benchmarks.peers.built import Built, NotBuilt
from benchmarks.peers.peer import Finished
from lrpc.cluster.description import Cluster
from lrpc.cluster.run import run_cluster
from lrpc.workloads.reports.plots import Plot
from tests.support.pages import SPEED

CALLS = 40


def last_line(capsys: pytest.CaptureFixture[str]) -> dict[str, dict[str, dict[str, object]]]:
    found: dict[str, dict[str, dict[str, object]]] = json.loads(capsys.readouterr().out.splitlines()[-1])
    return found


def test_remote_calls_end_when_those_of_the_model_do() -> None:
    found = remote.measure(12, 1)  # asserts that both end at the same virtual time
    assert (found["calls"], found["end_ns"]) == (120, 31_375_000)


def test_simulation_counts_what_it_did(capsys: pytest.CaptureFixture[str]) -> None:
    assert simulation.main(["--calls", str(CALLS), "--repeats", "2"]) == 0
    found = last_line(capsys)
    assert set(found) == {"benchmark", "ratios", "counts", "medians", "interpreted", "python"}
    assert set(found["ratios"]) == {
        f"{case.name}{kind}" for case in simulation.CASES for kind in ("", "-coarse", "-fewest")
    }
    assert found["counts"]["null"] == {
        "calls": CALLS,
        "linkages_pushed": CALLS,
        "virtual_ns": dict.fromkeys(simulation.CONTENDERS, CALLS * 157_000),
        "yields_per_call": {"simpy": 13, "simpy-coarse": 6, "simpy-fewest": 1},
    }
    contended = found["counts"]["contended"]
    assert contended["calls"] == CALLS
    assert contended["linkages_pushed"] == 0
    assert contended["yields_per_call"] == {"simpy": 21, "simpy-coarse": 7, "simpy-fewest": 2}
    assert set(found["medians"]) == {"null", "repeated", "contended", "contended, repeated", "shared"}


@pytest.mark.parametrize(
    ("described", "local", "remote"),
    [
        (clusters.ring(3, 2, 4, 1), 3 * 2 * 4, 3 * 2),
        (clusters.workstations(4, 2, 3, 5, every_us=100), 4 * 3 * 5, 4 * 3),
        (clusters.clients(4, 6, 5, 100.0), 0, 6 * 5),
    ],
    ids=["ring", "workstations", "clients"],
)
def test_the_clusters_of_the_benchmark_make_the_calls_it_counts(described: Cluster, local: int, remote: int) -> None:
    outcome = run_cluster(described, actors=0, transport="memory")
    assert (clusters.counted(outcome, "cross_domain"), clusters.counted(outcome, "cross_machine")) == (local, remote)


def test_what_is_left_behind_is_what_was_not_there_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = clusters.traces()
    with socket.socket() as left:
        name = os.readlink(f"/proc/self/fd/{left.fileno()}")
        assert name in clusters.left_behind(before)["sockets"]
    assert name not in clusters.left_behind(before)["sockets"]
    (tmp_path / "lrpc-run-1").mkdir()
    assert clusters.left_behind(before)["folders"] == [str(tmp_path / "lrpc-run-1")]


def test_simulation_at_scale_counts_every_call(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(simulation, "SIZES", (10, 100))
    assert simulation.main(["--scale"]) == 0
    for calls, size in zip((10, 100), json.loads(capsys.readouterr().out.splitlines()[-1])["sizes"], strict=True):
        assert (size["calls"], size["linkages_pushed"], size["virtual_ns"]) == (calls, calls, calls * 157_000)
        assert size["peak_mb"] > 0


def test_simulation_says_how_to_get_simpy(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "simpy", None)
    assert simulation.main([]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install" in said


def test_results_of_a_cluster_have_a_page_that_says_what_actors_gain(tmp_path: Path) -> None:
    machines = {"us_per_call": {"10": 20.5, "1000": 24.5}, "memory_KiB_per_machine": 228.6}
    results = {"python": "3.11.7", "actors": {"workstations": SPEED, "load": [1.0, 2.0]}, "machines": machines}
    (tmp_path / "results.json").write_text(json.dumps(results))
    cluster_page.main([str(tmp_path / "results.json"), "--out", str(tmp_path / "page")])
    text = (tmp_path / "page" / "report.md").read_text()
    assert "workstations: 2 actors are 1.50 times as fast as 1 (predicted: 1.70 times)" in text
    assert (
        "Wall time of a call by number of machines: 20.5 µs with 10, 24.5 µs with 1,000; a machine takes 229 KiB"
        in text
    )
    assert (tmp_path / "page" / "actors.csv").exists()


def test_what_was_measured_of_a_cluster_is_drawn_beside_what_was_predicted() -> None:
    machines = {"us_per_call": {"10": 20.5, "1000": 24.5}, "memory_KiB_per_machine": 228.6}
    made = cluster_page.report({"actors": {"workstations": SPEED}, "machines": machines})
    speed_up, by_actors, by_machines = (item for item in made.answer if isinstance(item, Plot))
    assert dict(speed_up.bars) == {
        "workstations, measured, actors: 1": 1.0,
        "workstations, measured, actors: 2": 1.5,
        "workstations, predicted, actors: 1": 1.0,
        "workstations, predicted, actors: 2": 1.7,
        "workstations, predicted, actors: 4": 2.9,
    }
    assert dict(by_actors.bars)["workstations, predicted, actors: 2"] == pytest.approx(6.0 / 1.7)
    assert by_machines.bars[-1] == ("ring, predicted, machines: 1,000", 20.5)
    assert [key.form for key in speed_up.legend] == ["line", "dashed"]


def test_peers_end_when_the_kernel_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert peers.main(["--calls", str(CALLS), "--repeats", "1"]) == 0  # asserts that all end at the same virtual time
    found = last_line(capsys)
    cases = {case.name for case in simulation.CASES}
    assert set(found["ratios"]) == {*cases, "across machines", "ring", "trace"}
    assert all({"simpy"} <= set(ratios) for ratios in found["ratios"].values())


def test_a_peer_that_ends_at_another_time_is_found() -> None:
    runners = {"lrpc": lambda: Finished(1000, 1.0), "other": lambda: Finished(1002, 1.0)}
    with pytest.raises(AssertionError, match="case: other ends at 1002, not at 1000 ns"):
        peers.measure("case", runners, 1, 1, 1e-3)
    assert peers.measure("case", runners, 10, 3, 3e-3).us == {"lrpc": [1e5] * 3, "other": [1e5] * 3}


def test_a_peer_that_is_not_installed_is_told_with_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "c++").write_text("#!/bin/sh\necho 'x.cpp:1: fatal error: simgrid/s4u.hpp: No such file' >&2\nexit 1\n")
    (tmp_path / "c++").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with pytest.raises(NotBuilt, match=r"simgrid: install libsimgrid-dev \(.*simgrid/s4u.hpp: No such file"):
        Built("simgrid", "libsimgrid-dev", tmp_path)


def test_the_page_of_performance_has_a_place_for_each_table_that_is_measured() -> None:
    sizes = {"calls": performance.grown("calls", [10]), "machines": performance.grown("machines", [2])}
    tables = sizes | {"spans": performance.grown("spans", [210]), "peers": "| peers |"}
    page = performance.PAGE.read_text()
    found = performance.replaced(page, tables)
    assert all(found.count(table) == 1 for table in tables.values())
    assert performance.replaced(found, tables) == found
    assert [line for line in found.splitlines() if line[:1] != "|"] == [
        line for line in performance.replaced(page, dict.fromkeys(tables, "|")).splitlines() if line[:1] != "|"
    ]
    with pytest.raises(KeyError, match=r"performance.md has no place for the table moons"):
        performance.replaced(page, {"moons": ""})


def test_placements_of_drawn_graphs_have_bounds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(placing, "MACHINES", {20: (2,)})
    monkeypatch.setattr(placing, "SEEDS", {20: (0,)})
    monkeypatch.setattr("sys.argv", ["placing", "--seconds", "5"])
    placing.main()
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in capsys.readouterr().out.splitlines()[2:]]
    assert [row[:3] for row in rows] == [["even", "20", "2"], ["skewed", "20", "2"]]
    assert all(0 < int(row[4]) <= int(row[3]) for row in rows)
