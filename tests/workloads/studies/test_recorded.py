"""Studies of kernels and of other studies' figures: their runs, their records and their tables."""

import csv
import json
from pathlib import Path

import pytest

from lrpc.workloads.studies import observations, structures
from tests.support.command import HERE, lrpc, record, refused


@pytest.mark.parametrize(
    ("name", "runs"),
    [
        ("structures", ["lrpc", "lrpc-mp", "monolithic-kernel", "src-rpc"]),
        ("observations", ["large", "moderate", "no-cache", "sprite", "taos"]),
    ],
)
def test_a_study_leaves_its_table_and_a_record_of_each_run(name: str, runs: list[str], tmp_path: Path) -> None:
    out = tmp_path / "study"
    few = ("--scale", 0.0005, "--out", out)
    assert lrpc(name, *few, "--dry-run").code == 0
    assert not out.exists()
    first = lrpc(name, *few)
    assert first.code == 0, first
    assert sorted(one.name for one in out.iterdir()) == sorted([*runs, f"{name}.csv"])
    assert record(out / runs[0])["status"] == "complete"
    assert record(out / runs[0])["command"][:2] == ["lrpc", name]
    assert lrpc("verify", out / runs[-1], *HERE).out.startswith("the same: ")
    assert refused(name, *few).endswith("name another folder, or add --force to replace that study")
    again = lrpc(name, *few, "--force", "--actors", 0, "--links", "grpc", "--json")
    assert again.code == 0, again
    shown = json.loads(again.out)
    kept = list(csv.DictReader((out / f"{name}.csv").read_text().splitlines()))
    assert [str(row[next(iter(row))]) for row in shown] == [row[next(iter(row))] for row in kept]


@pytest.mark.parametrize("name", ["structures", "observations"])
def test_a_study_takes_the_options_that_every_run_takes(name: str, tmp_path: Path) -> None:
    few = (name, "--scale", 0.0005, "--out", tmp_path / "study")
    logged = (*few, "--events", tmp_path / "logs", "--timeline", "--timeline-slices", 1000)
    ended = lrpc(*logged)
    assert ended.code == 0, ended
    runs = sorted(one.name for one in (tmp_path / "study").iterdir() if one.is_dir())
    assert sorted(one.name for one in (tmp_path / "logs").iterdir()) == sorted(f"{run}.events" for run in runs)
    for run in runs:
        digest = record(tmp_path / "study" / run)["digest"]
        assert digest in lrpc("events", tmp_path / "logs" / f"{run}.events", "--digest").out
        assert (tmp_path / "study" / run / "timeline.perfetto-trace").is_file()
        assert f"timeline {tmp_path / 'study' / run / 'timeline.perfetto-trace'}: " in ended.out
    assert "the timeline ends at" in ended.err  # where it was cut
    assert "has logs already" in refused(*few[:-1], tmp_path / "other", "--events", tmp_path / "logs")
    assert "is inside the study's folder" in refused(*few, "--force", "--events", tmp_path / "study" / "logs")
    assert "add --timeline" in refused(*few, "--force", "--timeline-slices", 5)
    assert "--limit" in refused(*few, "--force", "--limit", 2)


def test_the_operations_are_the_same_under_every_structure() -> None:
    table = structures.compare(0.01, 0)
    assert [row[0] for row in table.rows] == list(structures.STRUCTURES)
    assert len({tuple(row[1:3]) for row in table.rows}) == 1
    crossing = [row[table.columns.index("crossing_us")] for row in table.rows]
    numbers = [float(one) for one in crossing if one is not None]
    assert numbers[0] < numbers[3] < numbers[2] < numbers[1]  # traps, LRPC/MP, LRPC, SRC RPC


def test_every_observation_has_a_figure_and_a_tolerance() -> None:
    table = observations.compare(0.0005, 0)
    assert [row[0] for row in table.rows] == [one.name for one in observations.OBSERVATIONS]
    assert all(one.tolerance > 0 for one in observations.OBSERVATIONS)
    verdict, ours = table.columns.index("verdict"), table.columns.index("ours")
    for row, one in zip(table.rows, observations.OBSERVATIONS, strict=True):
        found = row[ours]
        assert isinstance(found, float)
        assert (row[verdict] == "within") == (abs(found - one.observed) <= one.tolerance)
    outside = [
        one.name for row, one in zip(table.rows, observations.OBSERVATIONS, strict=True) if row[verdict] != "within"
    ]
    assert any("," in name for name in outside)
    assert observations.answer(table).partition("; outside: ")[2].removesuffix(".").split("; ") == outside
