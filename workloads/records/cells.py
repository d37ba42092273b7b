"""Cells of tables: our figure, the paper's beside it, and the kind of ours.

The kind says how much our figure proves. It is derived, never claimed (see `records.kinds`).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from lrpc.workloads.records.kinds import KINDS, Basis, Kind

SHORTENED: Final = "*"  # stands beside each figure of a shortened run
FIGURES: Final[Mapping[Kind, str]] = {"input": "inputs", "fitted": "fitted figures", "predicted": "predictions"}


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    `paper` is None if the paper has no such figure. A figure that is not a number is text.
    `rests_on` lists what a prediction rests on that was assumed, or fitted to other figures.
    `shortened` says of how much of a run the figure is, if it is not of the whole. A record holds
    these two as remarks.
    """

    table: str
    row: str
    column: str
    paper: float | str | None
    ours: float | str
    unit: str
    kind: Kind
    rests_on: str = ""
    shortened: str = ""

    @classmethod
    def of(
        cls,
        table: str,
        row: str,
        column: str,
        paper: float | str | None,
        ours: float | str,
        unit: str,
        basis: Basis,
        shortened: str = "",
    ) -> "Cell":
        """Return a cell whose kind follows from the basis of our figure."""
        return cls(table, row, column, paper, ours, unit, basis.kind, basis.rests_on, shortened)

    @property
    def deviation(self) -> float | None:
        """Return the difference of ours from the paper's, as a fraction of the paper's.

        None if either is not a number.
        """
        if isinstance(self.ours, str) or isinstance(self.paper, str) or not self.paper:
            return None
        return self.ours / self.paper - 1

    @property
    def place(self) -> str:
        """Return where the cell is, as a reader finds it: its table, row and column."""
        table = self.table if self.table.startswith(("Figure", "Firefly")) else f"Table {self.table}"
        return f"{table}, {self.row}, {self.column}{self.shortened and f', {self.shortened}'}"

    @property
    def mark(self) -> str:
        """Return what stands beside our figure: `SHORTENED`, or nothing."""
        return SHORTENED if self.shortened else ""

    @property
    def differs_in_text(self) -> bool:
        """Return whether both figures are texts, such as Table III's letters, and differ."""
        return isinstance(self.ours, str) and isinstance(self.paper, str) and self.ours != self.paper


@dataclass(frozen=True)
class Remark:
    """What a record says of a cell beside its figures: `Cell.rests_on` and `Cell.shortened`."""

    table: str
    row: str
    column: str
    rests_on: str
    shortened: str


def remarks(cells: Iterable[Cell]) -> list[Remark]:
    """Return what there is to say of some of these cells."""
    return [
        Remark(cell.table, cell.row, cell.column, cell.rests_on, cell.shortened)
        for cell in cells
        if cell.rests_on or cell.shortened
    ]


def remarked(cells: Iterable[Cell], found: Iterable[Remark]) -> list[Cell]:
    """Return the cells with what `remarks` said of them."""
    said = {(one.table, one.row, one.column): (one.rests_on, one.shortened) for one in found}
    rows = ((cell, *said.get((cell.table, cell.row, cell.column), ("", ""))) for cell in cells)
    return [replace(cell, rests_on=rests_on, shortened=part) for cell, rests_on, part in rows]


@dataclass(frozen=True)
class Standing:
    """How many figures of one kind stand beside one of the paper, and which is furthest from it."""

    kind: Kind
    figures: int
    beside: int
    furthest: Cell | None  # none where no number stands beside a number

    def __str__(self) -> str:
        """Return it as a clause."""
        return "; ".join(filter(None, (self.counted, self.far)))

    @property
    def counted(self) -> str:
        """Return how many there are, in words."""
        return f"{self.beside} of {self.figures} {FIGURES[self.kind]} stand beside a figure of the paper"

    @property
    def far(self) -> str:
        """Return how far from the paper the furthest is, in words; nothing where there is none."""
        one = self.furthest
        return "" if one is None else f"furthest {100 * (one.deviation or 0.0):+.1f} % ({one.place})"


def standings(cells: Sequence[Cell]) -> list[Standing]:
    """Return how each kind of figure among these stands; what claims the most comes last."""
    kinds = {kind: [cell for cell in cells if cell.kind == kind] for kind in KINDS}
    return [
        Standing(kind, len(found), sum(cell.paper is not None for cell in found), furthest(found))
        for kind, found in kinds.items()
        if found
    ]


def furthest(cells: Iterable[Cell]) -> Cell | None:
    """Return the cell that deviates most from the paper's; None if none can be compared."""
    known = (cell for cell in cells if cell.deviation is not None)
    return max(known, key=lambda cell: abs(cell.deviation or 0.0), default=None)


def shortened(cells: Iterable[Cell]) -> str:
    """Return what the mark beside figures of shortened runs means; nothing if there are none."""
    parts = dict.fromkeys(cell.shortened for cell in cells if cell.shortened)
    return f"{SHORTENED} of a shortened run: {', '.join(parts)}" if parts else ""


def predictions_rest_on(cells: Iterable[Cell]) -> str:
    """Return in a sentence what these cells' predictions rest on; nothing if on quoted figures."""
    found: dict[str, dict[str, None]] = {}
    for part in (part for cell in cells if cell.rests_on for part in cell.rests_on.split("; ")):
        what, _, names = part.partition(": ")
        found.setdefault(what, {}).update(dict.fromkeys(names.split(", ")))
    listed = "; ".join(f"{what}: {', '.join(names)}" for what, names in sorted(found.items()))
    return f"Predictions here rest on what was {listed}." if listed else ""


def crossing_shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Return Table I's two shares in percent, by column: of calls that cross machines.

    remote/local is over what crosses a protection boundary of one machine: traps, and calls between
    its domains. remote/total is over those and what crosses machines. Calls within a domain cross
    nothing and do not count. A share of nothing is left out.
    """
    local, remote = counts["trap"] + counts["cross_domain"], counts["cross_machine"]
    among = {"remote/local": local, "remote/total": local + remote}
    return {column: 100 * remote / whole for column, whole in among.items() if whole}
