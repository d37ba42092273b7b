"""The paper's tables in the paper's shape: ours, the paper's beside it, and a mark for its kind."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.workloads.records.cells import Cell, shortened
from lrpc.workloads.records.kinds import KINDS
from lrpc.workloads.records.tables import Table
from lrpc.workloads.reports import web
from lrpc.workloads.reports.terminal import DIGITS, TITLES

MARKS: Final = {"input": "○", "fitted": "◐", "predicted": "●"}
MEANINGS: Final = {
    "input": "given, so agreement proves nothing new",
    "fitted": "solved from this figure or its curve, so agreement is no evidence",
    "predicted": "neither given nor fitted, so agreement is evidence",
}
TITLED: Final = ("us", "calls/s")  # units that the tables' titles name
SYMBOLS: Final = {"x": "\N{MULTIPLICATION SIGN}"}  # other units are written as they are
PLAIN: Final = ("number", "copies")  # units that are not written


@dataclass(frozen=True)
class Grid:
    """Cells of one table of the paper, and the table of all that is known of them."""

    title: str
    cells: Sequence[Cell]
    table: Table

    @property
    def rows(self) -> list[str]:
        """Return the names of rows, in order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        """Return the names of columns, in order."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def at(self, row: str, column: str) -> Cell | None:
        """Return a cell, or None where there is none."""
        return next((cell for cell in self.cells if (cell.row, cell.column) == (row, column)), None)

    @property
    def legend(self) -> str:
        """Return what the signs in the grid mean, as far as they occur."""
        kinds = [kind for kind in KINDS if any(cell.kind == kind for cell in self.cells)]
        papers = ["ours (the paper's)"] if any(cell.paper is not None for cell in self.cells) else []
        signs = [*papers, *(f"{MARKS[kind]} {kind}" for kind in reversed(kinds)), shortened(self.cells)]
        return " · ".join(filter(None, signs))


def meanings(cells: Sequence[Cell]) -> str:
    """Return what the kinds of these cells mean, in a sentence."""
    kinds = [kind for kind in reversed(KINDS) if any(cell.kind == kind for cell in cells)]
    return f"{'; '.join(f'{MARKS[kind]} {kind}: {MEANINGS[kind]}' for kind in kinds)}."


def title_of(table: str) -> str:
    """Return the title of a table of the paper."""
    return TITLES.get(table, table)


def as_html(grid: Grid) -> Iterator[str]:
    """Yield a grid as HTML."""
    yield f'<div class="table" tabindex="0" role="region" aria-label="{web.escape(grid.title)}"><table>\n<thead><tr>'
    heads = "".join(web.head_cell(column, figures=True) for column in ("", *grid.columns))
    yield f"{heads}</tr></thead>\n<tbody>\n"
    for row in grid.rows:
        yield f"<tr>{web.cell(row, first=True)}"
        yield "".join(_as_html(grid.at(row, column)) for column in grid.columns)
        yield "</tr>\n"
    yield "</tbody></table></div>\n"


def as_rows(grid: Grid) -> Iterator[Sequence[str]]:
    """Yield a grid as rows of text, the heads first."""
    yield ("", *grid.columns)
    for row in grid.rows:
        yield (row, *(in_words(cell) if (cell := grid.at(row, column)) else "" for column in grid.columns))


def in_words(cell: Cell) -> str:
    """Return a cell as text: ours, the paper's in brackets, and the mark of its kind."""
    papers = "" if cell.paper is None else f" ({figure(cell.paper, cell.unit, exact=True)})"
    return f"{figure(cell.ours, cell.unit)}{cell.mark}{papers} {MARKS[cell.kind]}"


def figure(value: float | str, unit: str, *, exact: bool = False) -> str:
    """Return a figure with its unit, unless the table's title names that.

    An `exact` one, as the paper printed it, ends at its last digit that is not 0.
    """
    if isinstance(value, str):
        return value
    text = f"{value:,.{DIGITS.get(unit, 0)}f}"
    if exact and "." in text:
        text = text.rstrip("0").rstrip(".")
    return text if unit in (*TITLED, *PLAIN) else f"{text} {SYMBOLS.get(unit, unit)}"


def _as_html(cell: Cell | None) -> str:
    if cell is None:
        return "<td></td>"
    papers = hover = ""
    if cell.paper is not None:
        papers = f' <span class="papers">({web.escape(figure(cell.paper, cell.unit, exact=True))})</span>'
    if cell.deviation is not None:
        hover = f' title="{100 * cell.deviation:+.1f} % beside the paper\'s"'
    mark = f'<span class="kind" role="img" aria-label="{cell.kind}" title="{cell.kind}">{MARKS[cell.kind]}</span>'
    value = "" if isinstance(cell.ours, str) else web.sorted_by(cell.ours)
    ours = web.escape(figure(cell.ours, cell.unit))
    if cell.shortened:
        part = web.escape(f"of {cell.shortened}")
        ours += f'<span class="kind" role="img" aria-label="{part}" title="{part}">{cell.mark}</span>'
    return f'<td class="number"{value}{hover}>{ours}{papers} {mark}</td>'
