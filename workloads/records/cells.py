"""Cells of tables: a figure of ours, the paper's beside it, and what kind of figure ours is."""

from dataclasses import dataclass
from typing import Final

from lrpc.kernel.simulated.costs import Kind

KINDS: Final[tuple[Kind, ...]] = ("input", "fitted", "predicted")  # the last claims the most


@dataclass(frozen=True)
class Cell:
    """One cell of a table. `paper` is None where the paper has no such figure; what is no number is text."""

    table: str
    row: str
    column: str
    paper: float | str | None
    ours: float | str
    unit: str
    kind: Kind

    @property
    def deviation(self) -> float | None:
        """Return how far ours is from the paper's, as a fraction of the paper's; None where either is no number."""
        if isinstance(self.ours, str) or isinstance(self.paper, str) or not self.paper:
            return None
        return self.ours / self.paper - 1


def weakest(*kinds: Kind) -> Kind:
    """Return the kind of a figure made of others: as much a prediction as any of them."""
    return max(kinds, key=KINDS.index)
