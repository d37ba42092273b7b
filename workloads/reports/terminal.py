"""Prints a run's tables as text in a terminal.

The form of a table follows from its cells: a grid as the paper prints it, a list with differences
from the paper, or the bars of a histogram. The kind of every figure (input, fitted or predicted) is
printed with it, so that a fitted figure is never taken for evidence.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lrpc.kernel.text import visible
from lrpc.workloads.records import tables
from lrpc.workloads.records.cells import SHORTENED, Cell, furthest, predictions_rest_on, shortened
from lrpc.workloads.records.kinds import KINDS
from lrpc.workloads.records.records import COUNTS, Record

TITLES: Final = {
    "I": "Table I: operations that cross machines",
    "I runs": "Table I: how much of each system's hours was run, and what that came to",
    "II": "Table II: a Null by message on six systems, microseconds",
    "II overhead": "Table II: where the overhead goes, microseconds",
    "III": "Table III: copies that are made",
    "IV": "Table IV: four tests, microseconds a call",
    "IV ratios": "Table IV: how many times as long",
    "IV what-if": "Table IV otherwise, microseconds a call",
    "V": "Table V: where a Null LRPC's time goes, microseconds",
    "V SRC RPC": "Table V beside SRC RPC, microseconds",
    "V what-if": "Table V otherwise, microseconds",
    "Firefly RPC": "Across machines: a remote Null step by step, microseconds on MicroVAX II processors, not C-VAXes",
    "Firefly RPC stubs": "Across machines: what stubs add for values, microseconds",
    "Firefly RPC threads": "Across machines: calls by threads of one Firefly to another",
    "Firefly RPC busy": "Across machines: busy processors of each Firefly's five, on average",
    "Figure 1": "Figure 1: calls by bytes of arguments and results",
    "Figure 1 survey": "The survey that Figure 1 belongs to",
    "Figure 2": "Figure 2: calls a second by number of processors; beyond five, what if",
    "Figure 2 waits": "Figure 2: what the processors' time goes to, percent",
    "Figure 2 what-if": "Figure 2 otherwise, calls a second by number of processors",
}
DIGITS: Final = {"%": 2, "us": 1, "x": 2, "processors": 2}  # of our figures after the decimal point, by unit
SHOWN: Final = ("%", "bytes", "misses")  # units printed with each figure, since no title names them
BARS: Final = ("Figure 1",)  # tables printed as bars
LISTS: Final = ("I",)  # tables never printed as grids: their rows are of different systems
MOST_ROWS: Final = 8  # of each table about a trace
BAR: Final = 50  # characters of the longest bar


class PlainConsole(Console):
    """A console that takes every text for text: no markup, no emoji, and no terminal's commands.

    It is the only kind of console here, since names in tables and titles may come from anybody.
    """

    def render_str(self, text: str, **options: Any) -> Text:
        """Return `text` as it is shown."""
        return super().render_str(visible(text), **options | {"markup": False, "emoji": False})


def make_console(*, stderr: bool = False) -> PlainConsole:
    """Return a console for results, or for progress on stderr.

    Without a terminal its width is fixed, so that output in files and pipes is always the same.
    """
    if stderr:
        return PlainConsole(stderr=True)
    return PlainConsole() if sys.stdout.isatty() else PlainConsole(width=110)


def print_cells(console: Console, cells: Sequence[Cell]) -> None:
    """Print every table that the cells belong to, our figures beside the paper's."""
    for name in dict.fromkeys(cell.table for cell in cells):
        found = [cell for cell in cells if cell.table == name]
        rows, columns = ({getattr(cell, what) for cell in found} for what in ("row", "column"))
        is_grid = len(rows) > 1 and len(columns) > 1 and name not in LISTS
        make = _bars if name in BARS else _grid if is_grid else _list
        table = make(found)
        table.title, table.title_justify = TITLES.get(name, name), "left"
        console.print(table)
        for line in filter(None, [shortened(found), predictions_rest_on(found)]):
            console.print(line, highlight=False)


def print_record(console: Console, record: Record, folder: Path) -> None:
    """Print what a complete record says, its digest, and the folder that holds it."""
    print_cells(console, record.cells)
    print_counts(console, "Counts", record.counts)
    if record.trace is not None:
        print_counts(console, "The trace", record.trace.summary)
        print_times(console, record.trace.times, max(1, record.trace.traces))
        for table in record.trace.more:
            if table.name != tables.SLOWEST:  # a picture, on the page
                print_table(console, table, most=MOST_ROWS)
        print_lines(console, record.trace.left_out_by_reason)
        print_lines(console, record.trace.notes)
    print_latencies(console, record.latency_us)
    done = sum(record.counts[name] for name in COUNTS)
    if record.wall_s:
        print_lines(console, [f"{done:,} operations in {record.wall_s:,.1f} s: {done / record.wall_s:,.0f} a second"])
    print_lines(console, [f"digest {record.digest}", f"record {folder}"])


def verdict(cells: Sequence[Cell]) -> list[str]:
    """Return lines that sum up a reproduction: cells by kind, and each kind's largest deviation."""
    kinds = {kind: [cell for cell in cells if cell.kind == kind] for kind in KINDS}
    compared = sum(cell.paper is not None for cell in cells)
    parts = ", ".join(f"{len(found)} {kind}" for kind, found in kinds.items() if found)
    lines = [f"verdict: {len(cells)} cells: {parts}; {compared} of them beside a figure of the paper"]
    other = [cell for cell in cells if cell.differs_in_text]
    if other:
        lines.append(f"  {len(other)} texts differ from the paper's, the first in {other[0].place}")
    for kind, found in kinds.items():
        worst = furthest(found)
        if worst is not None:
            lines.append(f"  largest deviation, {kind}: {_difference(worst)} ({worst.place})")
    return lines


def print_counts(console: Console, title: str, counts: Mapping[str, object]) -> None:
    """Print a list with one name and one value per line."""
    table = Table(title=title, title_justify="left", show_header=False)
    table.add_column(justify="left")
    table.add_column(justify="right")
    for name, value in counts.items():
        table.add_row(name, f"{value:,}" if isinstance(value, int) else str(value))
    console.print(table)


def print_latencies(console: Console, latencies: Mapping[str, Mapping[str, float]], most: int = 12) -> None:
    """Print the latencies of the `most` procedures called most often, in virtual microseconds."""
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


def print_times(console: Console, parts: Sequence[tables.TimePart], traces: int) -> None:
    """Print where a trace's time went, recorded and simulated, as means over `traces` traces.

    The parts add up to the last line.
    """
    table = Table(title="Where a trace's time went, mean, virtual microseconds", title_justify="left")
    for heading in ("", "recorded", "simulated"):
        table.add_column(heading, justify="right" if heading else "left")
    for one in parts:
        if one is parts[-1]:
            table.add_section()
        times = (one.recorded_ns, one.simulated_ns)
        table.add_row(one.part, *("" if ns is None else f"{ns / traces / 1000:,.1f}" for ns in times))
    console.print(table)


def print_table(console: Console, table: tables.Table, most: int = 60) -> None:
    """Print the first `most` rows of a table."""
    shown = Table(title=table.title, title_justify="left")
    for at, column in enumerate(table.columns):
        is_text = all(one is None or isinstance(one, str) for one in (row[at] for row in table.rows))
        shown.add_column(column if table.named else column.replace("_", " "), justify="left" if is_text else "right")
    for row in table.rows[:most]:
        shown.add_row(*map(_in_words, row))
    console.print(shown)
    if len(table.rows) > most:
        console.print(f"and {len(table.rows) - most} more rows, in the record")


def _in_words(value: tables.TableValue) -> str:
    if isinstance(value, float):
        return f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.6g}"
    return "" if value is None else f"{value:,}" if isinstance(value, int) else value


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines, each as it is however long."""
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


def _grid(cells: Sequence[Cell]) -> Table:
    """Return a table of rows by columns, with the paper's figures in brackets."""
    kinds = dict.fromkeys(cell.kind for cell in cells)
    alike = len(kinds) == 1
    caption = f"all {cells[0].kind}" if alike else ", ".join(f"{kind[0]} {kind}" for kind in sorted(kinds))
    bracketed = "" if all(cell.paper is None for cell in cells) else "ours (the paper's); "
    table = Table(caption=bracketed + caption, caption_justify="left")
    table.add_column("")
    columns = dict.fromkeys(cell.column for cell in cells)
    for column in columns:
        table.add_column(column, justify="right")
    found = {(cell.row, cell.column): _in_grid(cell) + ("" if alike else f" {cell.kind[0]}") for cell in cells}
    for row in dict.fromkeys(cell.row for cell in cells):
        table.add_row(row, *(found.get((row, column), "") for column in columns))
    return table


def _list(cells: Sequence[Cell]) -> Table:
    """Return a table with one cell per line.

    It says how far a number of ours is from the paper's.
    """
    compared = any(cell.paper is not None for cell in cells)
    table = Table()
    parts = len({cell.shortened for cell in cells}) > 1
    for heading in ("", "column", "paper", "ours", "difference", "kind"):
        if compared or heading not in ("paper", "difference"):
            table.add_column(heading, justify="left" if heading in ("", "column", "kind") else "right")
    if parts:
        table.add_column(f"{SHORTENED} of")
    for cell in cells:
        has_unit = cell.unit in SHOWN and not isinstance(cell.ours, str)
        ours = _number(cell.ours, cell.unit) + (f" {cell.unit}" if has_unit else "") + cell.mark
        between = (_number(cell.paper, cell.unit), ours, _difference(cell)) if compared else (ours,)
        table.add_row(cell.row, cell.column, *between, cell.kind, *([cell.shortened] if parts else []))
    return table


def _bars(cells: Sequence[Cell]) -> Table:
    """Return a histogram with one bin per line."""
    table = Table(caption=f"all {cells[0].kind}", caption_justify="left")
    for heading in ("bytes", cells[0].column, ""):
        table.add_column(heading, justify="left" if not heading else "right")
    most = max(float(cell.ours) for cell in cells) or 1.0
    for cell in cells:
        ours = _number(cell.ours, cell.unit) + cell.mark
        table.add_row(cell.row, ours, "█" * round(BAR * float(cell.ours) / most))
    return table


def _in_grid(cell: Cell) -> str:
    ours = _number(cell.ours, cell.unit) + cell.mark
    if cell.paper is None:
        return ours
    paper = _number(cell.paper, cell.unit)
    return f"{ours} ({paper.rstrip('0').rstrip('.') if '.' in paper else paper})"


def _difference(cell: Cell) -> str:
    return "" if cell.deviation is None else f"{100 * cell.deviation:+.1f} %"


def _number(value: float | str | None, unit: str) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else f"{value:,.{DIGITS.get(unit, 0)}f}"
