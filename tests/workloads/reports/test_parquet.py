"""A report's tables as Parquet, where that is asked for: the same rows as the CSV files have."""

import csv
import importlib.util
from pathlib import Path

import pyarrow.parquet
import pytest

from lrpc.workloads.records.tables import Table, TableValue, write_parquet
from tests.support.command import HERE, lrpc, office, refused
from tests.support.places import SAMPLE


def test_each_table_of_a_report_is_there_in_both_forms(tmp_path: Path) -> None:
    assert lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run").code == 0
    assert lrpc("report", tmp_path / "run", "--parquet").code == 0
    found = list((tmp_path / "run" / "report").glob("*.csv"))
    assert len(found) > 5
    for file in found:
        table = pyarrow.parquet.read_table(file.with_suffix(".parquet"))
        heads, *rows = file.read_text().splitlines()
        assert len(table.column_names) == len(heads.split(","))
        assert table.num_rows == len(rows)


def test_a_report_with_both_forms_is_replaced_with_force(tmp_path: Path) -> None:
    assert lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run").code == 0
    assert lrpc("report", tmp_path / "run", "--parquet").code == 0
    assert lrpc("report", tmp_path / "run", "--parquet", "--force").code == 0
    assert lrpc("report", tmp_path / "run", "--force").code == 0
    assert list((tmp_path / "run" / "report").glob("*.parquet")) == []


def pairs(folder: Path) -> None:
    """Check that each table of a page is there in both forms, and as long."""
    found = list(folder.glob("*.csv"))
    assert len(found) > 1
    for file in found:
        with file.open(newline="") as lines:
            rows = len(list(csv.reader(lines))) - 1
        assert pyarrow.parquet.read_table(file.with_suffix(".parquet")).num_rows == rows


def test_pages_of_placements_sweeps_and_calls_have_both_forms_too(tmp_path: Path) -> None:
    placed = ("--record", tmp_path / "place", "--out", tmp_path / "placement.toml")
    assert lrpc("place", SAMPLE, "--machines", 2, "--slack", 1.7, *HERE, *placed, "--parquet").code == 0
    pairs(tmp_path / "place" / "report")
    job = f'job = {{ kind = "run", scenario = "{office(tmp_path, actions=5)}" }}'
    (tmp_path / "sweep.toml").write_text(f'name = "seeds"\n{job}\n[parameters]\nseed = [1, 2]\n')
    swept = ("sweep", tmp_path / "sweep.toml", "--out", tmp_path / "sweep", "--parallel", 0, "--parquet")
    assert [lrpc(*swept).code, lrpc(*swept).code] == [0, 0]
    pairs(tmp_path / "sweep" / "report")
    explained = ("explain", "Add", "--out", tmp_path / "add", "--parquet")
    assert [lrpc(*explained).code, lrpc(*explained, "--force").code] == [0, 0]
    pairs(tmp_path / "add")
    assert "add --out" in refused("explain", "Add", "--parquet")


def test_numbers_stay_numbers_and_what_is_mixed_is_text(tmp_path: Path) -> None:
    rows: list[tuple[TableValue, ...]] = [("a", 1, 2, 1.5, None), (None, 2, "many", 3, None)]
    write_parquet(tmp_path / "one.parquet", Table("one", "One", ("name", "whole", "mixed", "part", "none"), rows))
    found = pyarrow.parquet.read_table(tmp_path / "one.parquet")
    assert found.to_pylist() == [
        {"name": "a", "whole": 1, "mixed": "2", "part": 1.5, "none": None},
        {"name": None, "whole": 2, "mixed": "many", "part": 3.0, "none": None},
    ]


def test_without_the_library_it_is_refused_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lrpc("run", office(tmp_path, actions=2), *HERE, "--out", tmp_path / "run").code == 0
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    sweep = ("sweep", "sun-each", "--out", tmp_path / "out")
    place = ("place", SAMPLE, "--machines", 2, "--record", tmp_path / "place")
    explain = ("explain", "Add", "--out", tmp_path / "add")
    for command in (("report", tmp_path / "run"), sweep, place, explain):
        assert "pip install 'lrpc[parquet]'" in refused(*command, "--parquet")
