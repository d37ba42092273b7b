"""A report's tables as Parquet, where that is asked for: the same rows as the CSV files have."""

import importlib.util
from pathlib import Path

import pyarrow.parquet
import pytest

from lrpc.workloads.records.tables import Table, TableValue, write_parquet
from tests.support.command import HERE, lrpc, office, refused


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
    assert "pip install 'lrpc[parquet]'" in refused("report", tmp_path / "run", "--parquet")
