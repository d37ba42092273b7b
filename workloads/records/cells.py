"""Cells of tables: our figure, the paper's beside it, and the kind of ours.

The kind says how much our figure proves. It is derived, never claimed: every parameter of a cost
model or scenario names its origin and, if it was fitted, the cells that it was solved from. From
these, and from the steps charged for a cell, `CostModel.kind` derives the cell's kind:

- input: our figure was given, or is a sum of quoted figures, so agreement proves nothing new;
- fitted: a parameter was solved from this very cell, or from another point of its curve, so
  agreement is no evidence;
- predicted: neither, so agreement is evidence for the model.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from lrpc.kernel.simulated.costs import Kind

KINDS: Final[tuple[Kind, ...]] = ("input", "fitted", "predicted")  # the last claims the most


@dataclass(frozen=True)
class Cell:
    """One cell of a table.

    `paper` is None if the paper has no such figure. A figure that is not a number is text.
    """

    table: str
    row: str
    column: str
    paper: float | str | None
    ours: float | str
    unit: str
    kind: Kind

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
        return f"{table}, {self.row}, {self.column}"

    @property
    def differs_in_text(self) -> bool:
        """Return whether both figures are texts, such as Table III's letters, and differ."""
        return isinstance(self.ours, str) and isinstance(self.paper, str) and self.ours != self.paper


def furthest(cells: Iterable[Cell]) -> Cell | None:
    """Return the cell that deviates most from the paper's; None if none can be compared."""
    known = (cell for cell in cells if cell.deviation is not None)
    return max(known, key=lambda cell: abs(cell.deviation or 0.0), default=None)


def weakest(*kinds: Kind) -> Kind:
    """Return the kind of a figure that is computed from figures of these kinds.

    It is predicted if any of them is, otherwise fitted if any of them is.
    """
    return max(kinds, key=KINDS.index)


def crossing_shares(counts: Mapping[str, int]) -> dict[str, float]:
    """Return Table I's two shares in percent, by column: of calls that cross machines.

    remote/local is over what crosses a protection boundary of one machine: traps, and calls between
    its domains. remote/total is over those and what crosses machines. Calls within a domain cross
    nothing and do not count. A share of nothing is left out.
    """
    local, remote = counts["trap"] + counts["cross_domain"], counts["cross_machine"]
    among = {"remote/local": local, "remote/total": local + remote}
    return {column: 100 * remote / whole for column, whole in among.items() if whole}
