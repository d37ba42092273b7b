"""`lrpc reproduce` comes to the paper's figures by adding up charges, and says of each what kind of figure it is."""

from pathlib import Path
from typing import Any

import pytest

from lrpc.kernel.simulated.costs import HERE as COST_MODELS
from tests.command import HERE, lrpc, record

Cells = dict[tuple[str, str, str], dict[str, Any]]

LRPC = {"Null": 157.0, "Add": 164.0, "BigIn": 192.0, "BigInOut": 227.0}
TAOS = {"Null": 464.0, "Add": 480.0, "BigIn": 539.0, "BigInOut": 636.0}
TABLE_V = {
    "procedure call": 7.0,
    "two traps": 36.0,
    "two context switches": 66.0,
    "minimum": 109.0,
    "stubs": 21.0,
    "kernel transfer": 27.0,
    "overhead": 48.0,
    "total": 157.0,
}
IV_LRPC, IV_TAOS = ([("IV", test, column) for test in LRPC] for column in ("LRPC", "Taos"))


def reproduced(folder: Path, name: str, *more: object) -> Cells:
    """Run the command with few calls and return its cells by table, row and column."""
    assert lrpc("reproduce", "--calls", 200, *HERE, "--out", folder / name, *more).code == 0
    cells = record(folder / name)["cells"]
    return {(cell["table"], cell["row"], cell["column"]): cell for cell in cells}


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    return reproduced(tmp_path_factory.mktemp("reproduce"), "run")


def test_the_cells_are_those_of_tables_iv_and_v(cells: Cells) -> None:
    assert list(cells) == [*IV_LRPC, *IV_TAOS, *(("V", row, "LRPC") for row in TABLE_V)]
    assert {cell["unit"] for cell in cells.values()} == {"us"}


def test_the_papers_figures_are_the_papers(cells: Cells) -> None:
    assert {test: cells["IV", test, "LRPC"]["paper"] for test in LRPC} == LRPC
    assert {test: cells["IV", test, "Taos"]["paper"] for test in TAOS} == TAOS
    assert {row: cells["V", row, "LRPC"]["paper"] for row in TABLE_V} == TABLE_V


def test_ours_are_within_the_tolerances(cells: Cells) -> None:
    for test in LRPC:
        assert cells["IV", test, "LRPC"]["ours"] == pytest.approx(LRPC[test], rel=0.005)
        assert cells["IV", test, "Taos"]["ours"] == pytest.approx(TAOS[test], rel=0.02)
    for row, paper in TABLE_V.items():
        assert cells["V", row, "LRPC"]["ours"] == pytest.approx(paper, rel=1e-9)


def test_kinds_say_what_can_be_predicted(cells: Cells) -> None:
    assert [cells[cell]["kind"] for cell in IV_LRPC] == ["input", "fitted", "fitted", "predicted"]
    assert [cells[cell]["kind"] for cell in IV_TAOS] == ["fitted", "predicted", "fitted", "fitted"]
    assert {cells["V", row, "LRPC"]["kind"] for row in TABLE_V} == {"input"}


def in_v(*rows: str) -> list[tuple[str, str, str]]:
    return [("V", row, "LRPC") for row in rows]


# A step, and by how many microseconds each cell moves where the step costs one more.
MOVES: dict[str, dict[tuple[str, str, str], float]] = {
    "trap": dict.fromkeys([*IV_LRPC, *IV_TAOS, *in_v("two traps", "minimum", "total")], 2.0),
    "procedure_call": dict.fromkeys([*IV_LRPC, *IV_TAOS, *in_v("procedure call", "minimum", "total")], 1.0),
    "server_stub": dict.fromkeys([*IV_LRPC, *in_v("stubs", "overhead", "total")], 1.0),
    "copy_value": {("IV", "Add", "LRPC"): 3.0, ("IV", "BigIn", "LRPC"): 1.0, ("IV", "BigInOut", "LRPC"): 2.0},
    "copy_byte": {("IV", "Add", "LRPC"): 12.0, ("IV", "BigIn", "LRPC"): 200.0, ("IV", "BigInOut", "LRPC"): 400.0},
    "message_buffer": dict.fromkeys(IV_TAOS, 1.0),
    "message_transfer": dict.fromkeys(IV_TAOS, 2.0),
    "message_result_byte": {("IV", "Add", "Taos"): 4.0, ("IV", "BigInOut", "Taos"): 200.0},
    "network_send": {},
}


@pytest.mark.parametrize("step", MOVES)
def test_one_cost_changed_moves_the_figures_that_contain_it_and_no_other(
    step: str, cells: Cells, tmp_path: Path
) -> None:
    text = (COST_MODELS / "cvax-firefly.toml").read_text()
    (line,) = (line for line in text.splitlines() if line.startswith(f"{step} = "))
    us = float(line.split("us = ")[1].split(",")[0])
    (tmp_path / "dearer.toml").write_text(text.replace(line, line.replace(f"us = {us}", f"us = {us + 1}", 1)))
    dearer = reproduced(tmp_path, "run", "--cost-model", tmp_path / "dearer.toml")
    moved = {cell: dearer[cell]["ours"] - cells[cell]["ours"] for cell in cells}
    assert moved == pytest.approx({cell: MOVES[step].get(cell, 0.0) for cell in cells}, abs=1e-6)


def test_how_many_calls_are_made_changes_no_mean(cells: Cells, tmp_path: Path) -> None:
    assert lrpc("reproduce", "--calls", 3, *HERE, "--out", tmp_path / "run").code == 0
    few = {(cell["table"], cell["row"], cell["column"]): cell for cell in record(tmp_path / "run")["cells"]}
    assert {cell: found["ours"] for cell, found in few.items()} == pytest.approx(
        {cell: found["ours"] for cell, found in cells.items()}, rel=0.002
    )
    assert record(tmp_path / "run")["counts"]["cross_domain"] == 2 * 4 * 3
