"""A report on what is no record, or a damaged or foreign one, is refused in one line."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.command import change, names, refused

SHORT = {"summary": {}, "left_out": [], "more": [{"name": "gaps", "title": "", "columns": ["a", "b"], "rows": [["x"]]}]}
DAMAGED: Mapping[str, Callable[[dict[str, Any]], object]] = {
    "another format": lambda found: found.update(format=99),
    "no format": lambda found: found.pop("format"),
    "no status": lambda found: found.pop("status"),
    "text for counts": lambda found: found.update(counts="many"),
    "a machine of text": lambda found: found["machines"].update(fileserver={"end_us": "soon"}),
    "a bucket without ends": lambda found: found["latency_ns"].update({"files.read": {"12": 1}}),
    "calls of text": lambda found: found.update(calls=["one"]),
    "a table without a column": lambda found: found.update(trace=SHORT),
    "an unknown crossing": lambda found: found["calls"][0].update(crosses="nothing"),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_a_damaged_record_is_refused_in_one_line(name: str, one: Path) -> None:
    assert str(one) in refused("report", change(one, DAMAGED[name]))
    assert not (one / "report").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"format": 1}, "of an older lrpc; run it again"),
        ({"format": 99}, "of a newer lrpc; this one reads 2: install the newer one"),
        ({"format": "2"}, "not a record; name a folder that lrpc run"),
        ({"format": 1, "kind": "bench"}, "a record of lrpc bench; its report is report.html"),
    ],
)
def test_a_record_of_another_lrpc_is_refused_with_what_to_do(changed: dict[str, Any], said: str, one: Path) -> None:
    line = refused("report", change(one, lambda found: found.update(changed)))
    assert said in line
    assert "record.json" in line


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '"\ud800"', "{}"])
def test_what_is_no_record_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "record.json").write_text(text, errors="replace")
    assert "record.json" in refused("report", tmp_path)


@pytest.mark.parametrize("command", ["report", "verify"])
def test_a_folder_of_several_records_is_refused_with_the_first_of_them(
    command: str, made: Path, tmp_path: Path
) -> None:
    first, *_ = sorted(path.parent for path in made.glob("*/record.json"))
    assert refused(command, made).endswith(f"{made}: has 5 records inside; name one of them, such as {first}")
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / "runs").symlink_to(made)
    assert str(tmp_path / "study" / "runs" / first.name) in refused(command, tmp_path / "study")


def test_what_is_not_there_is_refused(one: Path, tmp_path: Path) -> None:
    assert "No such file" in refused("report", tmp_path / "nothing")
    assert "record.json" in refused("report", one / "cells.csv")
    assert "nothing" in refused("report", one, tmp_path / "nothing", "--out", tmp_path / "out")
    assert "given twice" in refused("report", one, one / "record.json")
    assert refused("report")
    assert names(tmp_path) == ["one"]
