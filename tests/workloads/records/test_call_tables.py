"""Call tables: the rows of a record add up to its counts, and name each caller and server."""

import csv
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.kernel.simulated.histogram import Histogram, bounds
from lrpc.workloads import scenarios
from lrpc.workloads.records.call_tables import CROSSINGS, Calls, buckets, who_called_what
from lrpc.workloads.runs import execute
from tests.support.clusters import bank, cluster, pair
from tests.support.command import HERE, lrpc, office, record
from tests.support.places import SAMPLE


def four_tests(folder: Path) -> Path:
    """Write the scenario of Table IV with fewer calls, and return its file."""
    path = folder / "table-iv.toml"
    path.write_text(scenarios.find("table-iv").read_text().replace("100000", "50"))
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    commands = {
        "office": ("run", office(folder)),
        "four tests": ("run", four_tests(folder)),
        "one machine": ("replay", SAMPLE, "--machines", 1),
        "three machines": ("replay", SAMPLE, "--machines", 3),
    }
    for name, command in commands.items():
        assert lrpc(*command, *HERE, "--out", folder / name).code == 0
    return {name: folder / name for name in commands}


RUNS = ("office", "four tests", "one machine", "three machines")


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("name", RUNS)
def test_calls_add_up_to_the_counts_of_the_run_and_of_every_machine(name: str, runs: Mapping[str, Path]) -> None:
    found, table = record(runs[name]), rows(runs[name] / "calls.csv")
    for crosses in CROSSINGS:
        of_these = [row for row in table if row["crosses"] == crosses]
        assert sum(int(row["calls"]) for row in of_these) == found["counts"][crosses]
        for machine, one in found["machines"].items():
            calls = [int(row["calls"]) for row in of_these if row["client_machine"] == machine]
            assert sum(calls) == one["counts"][crosses]
    assert all(row["client_domain"] and row["server_machine"] for row in table)  # every call returned


@pytest.mark.parametrize("name", RUNS)
def test_latencies_are_those_of_the_record_by_bucket(name: str, runs: Mapping[str, Path]) -> None:
    found, table = record(runs[name]), rows(runs[name] / "latencies.csv")
    for procedure, latency in found["latency_us"].items():
        counted = [row for row in table if row["procedure"] == procedure]
        ends = [(float(row["from_us"]), float(row["to_us"])) for row in counted]
        assert sum(int(row["calls"]) for row in counted) == latency["count"]
        assert ends == sorted(ends)
        assert ends[-1][0] <= latency["max"] < ends[-1][1]
        assert any(low <= latency["p50"] < high for low, high in ends)
    assert {row["procedure"] for row in table} == found["latency_us"].keys()


@pytest.mark.parametrize("name", RUNS)
def test_machines_are_those_of_the_record(name: str, runs: Mapping[str, Path]) -> None:
    found, table = record(runs[name]), rows(runs[name] / "machines.csv")
    assert [row["machine"] for row in table] == list(found["machines"])
    for row in table:
        machine = found["machines"][row["machine"]]
        assert int(row["processors"]) == len(machine["processors"])
        assert float(row["utilisation"]) == pytest.approx(
            machine["busy_us"] / (machine["end_us"] * len(machine["processors"])), abs=1e-6
        )
        waited = sum(one["lock_wait_us"] for one in machine["processors"])
        assert float(row["lock_wait_us"]) == pytest.approx(waited)
        assert {name: int(row[name]) for name in CROSSINGS} == {name: machine["counts"][name] for name in CROSSINGS}


def test_the_table_says_who_called_whom_and_what_that_crossed(runs: Mapping[str, Path]) -> None:
    table = rows(runs["office"] / "calls.csv")
    assert list(table[0]) == [field.name for field in fields(Calls)]
    places = {
        tuple(row[name] for name in ("client_machine", "client_domain", "server_machine", "server_domain", "crosses"))
        for row in table
    }
    assert ("workstation1", "user", "workstation1", "windows", "cross_domain") in places
    assert ("workstation1", "cache", "fileserver", "files", "cross_machine") in places
    for row in table:
        assert (row["client_machine"] == row["server_machine"]) == (row["crosses"] != "cross_machine")
        assert 0 < float(row["p50_us"]) <= float(row["p99_us"]) <= float(row["max_us"])


def test_clients_of_one_procedure_are_told_apart(runs: Mapping[str, Path]) -> None:
    of_files = [row for row in rows(runs["office"] / "calls.csv") if row["export"] == "files"]
    callers = {(row["client_machine"], row["client_domain"]) for row in of_files}
    assert callers == {("workstation1", "cache"), ("workstation2", "cache")}


def test_the_record_holds_the_same_rows_as_its_table(runs: Mapping[str, Path]) -> None:
    found = [[str(value) for value in row.values()] for row in record(runs["office"])["calls"]]
    assert found == [list(row.values()) for row in rows(runs["office"] / "calls.csv")]


def test_a_run_that_fails_before_any_call_has_tables_without_calls(tmp_path: Path) -> None:
    path = office(tmp_path)
    path.write_text(path.read_text().replace('{ names = "names@', '{ names = "windows@'))
    assert lrpc("run", path, *HERE, "--out", tmp_path / "run").code == 3
    for name in ("calls", "latencies", "cells"):
        assert rows(tmp_path / "run" / f"{name}.csv") == []


def test_an_interrupted_run_says_who_had_called_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*arguments: Any, **options: Any) -> Outcome:
        def stop(progress: Progress) -> None:
            options["on_progress"](progress)
            if progress.calls > 20:
                raise KeyboardInterrupt

        return run_cluster(*arguments, **options | {"on_progress": stop})

    monkeypatch.setattr(execute, "run_cluster", run)
    assert lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run").code == 130
    found, table = record(tmp_path / "run"), rows(tmp_path / "run" / "calls.csv")
    for crosses in CROSSINGS:
        counted = found["counts"].get(crosses, 0)
        assert sum(int(row["calls"]) for row in table if row["crosses"] == crosses) == counted
    assert sum(int(row["calls"]) for row in table) > 20


@pytest.mark.parametrize(
    ("program", "alias", "lost", "made"), [("provoker", "ledger", 1, 1), ("impatient", "slow", 1, 2)]
)
def test_calls_that_did_not_return_are_a_row_of_their_own(program: str, alias: str, lost: int, made: int) -> None:
    described = cluster(pair(program, alias))
    found = who_called_what(described, run_cluster(described, actors=0, transport="memory").machines)
    assert sum(row.calls for row in found) == made
    (row,) = [row for row in found if not row.client_domain]
    assert (row.client_machine, row.crosses, row.calls, row.mean_us) == ("client", "cross_machine", lost, None)


def test_a_cluster_that_calls_in_every_direction_adds_up(bank_calls: list[Calls]) -> None:
    assert {row.client_domain for row in bank_calls} == {"auditor", "drawer", "relay", "tellers"}
    drawers = {(row.client_machine, row.client_domain) for row in bank_calls if row.export == "drawer@desk1"}
    assert drawers == {("bank", "auditor"), ("desk1", "tellers")}


@pytest.fixture(scope="module")
def bank_calls() -> list[Calls]:
    described = cluster(bank())
    outcome = run_cluster(described, actors=0, transport="memory")
    found = who_called_what(described, outcome.machines)
    for machine in outcome.machines:
        for crosses in CROSSINGS:
            of_these = [row for row in found if (row.client_machine, row.crosses) == (machine.name, crosses)]
            assert sum(row.calls for row in of_these) == machine.counts[crosses]
    return found


def test_a_bucket_lies_between_its_bounds() -> None:
    for value in (0, 1, 127, 128, 255, 256, 257, 1000, 123_456, 10**12):
        one = Histogram()
        one.add(value)
        (bucket,) = one.buckets
        low, high = bounds(bucket)
        assert low <= value < high
        assert buckets(one) == {f"{low}-{high}": 1}
        assert high - low == 1 or (high - low) * 128 <= low
