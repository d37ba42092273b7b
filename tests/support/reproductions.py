"""Runs `lrpc reproduce` with few calls, and finds cells in what it writes."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.support.command import HERE, lrpc, record

Cells = dict[tuple[str, str, str], dict[str, Any]]


def by_place(folder: Path) -> Cells:
    """Return a record's cells by table, row and column, and check that each occurs once."""
    cells = record(folder)["cells"]
    found = {(cell["table"], cell["row"], cell["column"]): cell for cell in cells}
    assert len(found) == len(cells)
    return found


def reproduced(folder: Path, *more: object, calls: int = 200) -> Cells:
    """Run the command with few calls and return its cells."""
    assert lrpc("reproduce", "--calls", calls, *HERE, "--out", folder, *more).code == 0
    return by_place(folder)


def column(cells: Cells, table: str, name: str, what: str = "ours") -> dict[str, Any]:
    """Return one column of a table, by row."""
    return {row: cell[what] for (its, row, its_column), cell in cells.items() if (its, its_column) == (table, name)}


def tables(cells: Iterable[tuple[str, str, str]]) -> list[str]:
    return list(dict.fromkeys(table for table, _, _ in cells))
