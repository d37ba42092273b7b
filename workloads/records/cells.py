"""Cells of tables: a figure of ours, the paper's beside it, and what kind of figure ours is."""

from dataclasses import dataclass

from lrpc.kernel.simulated.costs import Kind


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


def weakest(*kinds: Kind) -> Kind:
    """Return the kind of a figure made of others: as much a prediction as any of them."""
    order: tuple[Kind, ...] = ("input", "fitted", "predicted")
    return max(kinds, key=order.index)
