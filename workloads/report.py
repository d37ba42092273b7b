"""What a run says when it is over: its tables, as text."""

from collections.abc import Iterable, Mapping, Sequence

from rich.console import Console
from rich.table import Table

from lrpc.workloads.paper import Cell

TITLES = {
    "I": "Table I: operations that cross machines",
    "IV": "Table IV: four tests, microseconds a call",
    "V": "Table V: where a Null LRPC's time goes, microseconds",
}


def print_cells(console: Console, cells: Sequence[Cell]) -> None:
    """Print every table that the cells belong to, ours beside the paper's."""
    for name in dict.fromkeys(cell.table for cell in cells):
        table = Table(title=TITLES.get(name, name), title_justify="left")
        for heading in ("", "column", "paper", "ours", "difference", "kind"):
            table.add_column(heading, justify="left" if heading in ("", "column", "kind") else "right")
        for cell in (one for one in cells if one.table == name):
            table.add_row(cell.row, cell.column, *_figures(cell), cell.kind)
        console.print(table)


def print_counts(console: Console, title: str, counts: Mapping[str, object]) -> None:
    """Print a summary: one name and one value a line."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in counts.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)


def print_latencies(console: Console, latencies: Mapping[str, Mapping[str, float]], most: int = 12) -> None:
    """Print the latencies of the procedures that were called most."""
    table = Table(title="Latency of calls, virtual microseconds", title_justify="left")
    for heading in ("procedure", "calls", "mean", "p50", "p90", "p99", "max"):
        table.add_column(heading, justify="left" if heading == "procedure" else "right")
    busiest = sorted(latencies.items(), key=lambda one: (-one[1]["count"], one[0]))
    for procedure, found in busiest[:most]:
        rest = (f"{found[name]:,.1f}" for name in ("mean", "p50", "p90", "p99", "max"))
        table.add_row(procedure, f"{int(found['count']):,}", *rest)
    console.print(table)
    if len(busiest) > most:
        console.print(f"and {len(busiest) - most} more procedures, in the record")


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines as they are."""
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _figures(cell: Cell) -> tuple[str, str, str]:
    digits = 2 if cell.unit == "%" else 1
    if cell.paper is None:
        return "", f"{cell.ours:.{digits}f} {cell.unit}", ""
    return f"{cell.paper:.{digits}f}", f"{cell.ours:.{digits}f}", f"{100 * (cell.ours / cell.paper - 1):+.1f} %"
