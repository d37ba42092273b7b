"""Prints a run's tables as text in a terminal.

The form of a table follows from its cells: a grid as the paper prints it, a list with differences
from the paper, or the bars of a histogram. The kind of every figure (input, fitted or predicted) is
printed with it, so that a fitted figure is never taken for evidence.

No figure and no name is ever cut. Heads and phrases wrap at spaces until a table fits. Where that
is not enough, a terminal gets what is text beside or above its row's figures, and a file or a pipe
gets a table that is as wide as it must be.
"""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from lrpc.kernel.text import visible
from lrpc.workloads.records import tables
from lrpc.workloads.records.cells import SHORTENED, Cell, predictions_rest_on, shortened, standings
from lrpc.workloads.records.records import COUNTS, Record
from lrpc.workloads.reports.output import micro
from lrpc.workloads.reports.words import brief, number, readable

TITLES: Final = {
    "I": "Table I: operations that cross machines",
    "I runs": "Table I: how much of each system's hours was run, and what that came to",
    "II": "Table II: a Null by message on six systems, µs",
    "II overhead": "Table II: where the overhead goes, µs",
    "III": "Table III: copies that are made",
    "IV": "Table IV: four tests, µs a call",
    "IV ratios": "Table IV: how many times as long",
    "IV what-if": "Table IV otherwise, µs a call",
    "V": "Table V: where a Null LRPC's time goes, µs",
    "V SRC RPC": "Table V beside SRC RPC, µs",
    "V what-if": "Table V otherwise, µs",
    "Firefly RPC": "Across machines: a remote Null step by step, µs on MicroVAX II processors, not C-VAXes",
    "Firefly RPC stubs": "Across machines: what stubs add for values, µs",
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
PIPED: Final = 110  # columns of a table in a file or a pipe, unless a name or a figure needs more
ANY_WIDTH: Final = 100_000
HEAD: Final = 12  # columns at which the head of a narrow column may wrap
TEXT: Final = 30  # least columns of text beside figures
BETWEEN: Final = " · "  # texts of one row


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
    return PlainConsole() if sys.stdout.isatty() else PlainConsole(width=ANY_WIDTH)


def print_cells(console: Console, cells: Sequence[Cell]) -> None:
    """Print every table that the cells belong to, our figures beside the paper's."""
    for name in dict.fromkeys(cell.table for cell in cells):
        found = [cell for cell in cells if cell.table == name]
        rows, columns = ({getattr(cell, what) for cell in found} for what in ("row", "column"))
        is_grid = len(rows) > 1 and len(columns) > 1 and name not in LISTS
        make = _bars if name in BARS else _grid if is_grid else _list
        made = make(found)
        made.print(console, TITLES.get(name, name))
        for line in filter(None, [shortened(found), predictions_rest_on(found)]):
            console.print(line, highlight=False, width=min(console.width, PIPED))


def print_record(console: Console, record: Record, folder: Path, last: Iterable[str]) -> None:
    """Print a complete record, its digest, the folder that holds it, and the lines `last`."""
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
        took = f"{record.wall_s:,.1f}" if record.wall_s >= 1 else f"{record.wall_s:.2g}"
        print_lines(console, [f"{done:,} operations in {took} s: {done / record.wall_s:,.0f} a second"])
    print_lines(console, [f"digest {record.digest}", f"record {folder}", *last])


def verdict(cells: Sequence[Cell]) -> list[str]:
    """Return lines that sum up a reproduction: how each kind of figure stands beside the paper's.

    The last is on the predictions, which alone are evidence.
    """
    found = standings(cells)
    lines = [f"verdict: {len(cells)} cells: {', '.join(f'{one.figures} {one.kind}' for one in found)}"]
    other = [cell for cell in cells if cell.differs_in_text]
    if other:
        lines.append(f"  {len(other)} texts differ from the paper's, the first in {other[0].place}")
    for one in found:
        told = f"  {one}"
        lines += [told] if len(told) <= PIPED else told.replace("; ", ";\n    ", 1).splitlines()
    return lines


def print_counts(console: Console, title: str, counts: Mapping[str, object]) -> None:
    """Print a list with one name and one value per line, without those that are zero."""
    rows = [
        (readable(name), _in_words(value) if isinstance(value, int | float) else str(value))
        for name, value in counts.items()
        if value
    ]
    Sheet(("", ""), rows, (False, True)).print(console, title)


def print_latencies(console: Console, latencies: Mapping[str, Mapping[str, float]], most: int = 12) -> None:
    """Print the latencies of the `most` procedures called most often, in virtual microseconds."""
    figures = ("mean", "p50", "p90", "p99", "max")
    busiest = sorted(latencies.items(), key=lambda one: (-one[1]["count"], one[0]))
    rows = [
        (procedure, f"{int(found['count']):,}", *(f"{found[name]:,.1f}" for name in figures))
        for procedure, found in busiest[:most]
    ]
    sheet = Sheet(("procedure", "calls", *figures), rows, (False, *[True] * 6))
    sheet.print(console, "Latency of calls, virtual µs")
    if len(busiest) > most:
        console.print(f"and {len(busiest) - most} more procedures, in the record")


def print_times(console: Console, parts: Sequence[tables.TimePart], traces: int) -> None:
    """Print where a trace's time went, recorded and simulated, as means over `traces` traces.

    The parts add up to the last line.
    """
    rows = [
        (one.part, *("" if not ns else f"{ns / traces / 1000:,.1f}" for ns in (one.recorded_ns, one.simulated_ns)))
        for one in parts
        if one.recorded_ns or one.simulated_ns
    ]
    sheet = Sheet(("", "recorded", "simulated"), rows, (False, True, True), summed=True)
    sheet.print(console, "Where a trace's time went, mean, virtual µs")


def print_table(console: Console, table: tables.Table, most: int = 60) -> None:
    """Print the first `most` rows of a table, without the columns that are empty or all zero."""
    shown = [at for at in range(len(table.columns)) if not at or any(row[at] for row in table.rows)]
    heads = [micro(table.columns[at]) if table.named else readable(table.columns[at]) for at in shown]
    figures = [any(row[at] is not None and not isinstance(row[at], str) for row in table.rows) for at in shown]
    rows = [[_in_words(row[at]) for at in shown] for row in table.rows[:most]]
    if not table.columns[0]:  # what each row has, with its unit
        rows = [[micro(first), *rest] for first, *rest in rows]
    Sheet(heads, rows, figures).print(console, micro(table.title))
    if len(table.rows) > most:
        console.print(f"and {len(table.rows) - most} more rows, in the record")


def _in_words(value: tables.TableValue) -> str:
    return value or "" if value is None or isinstance(value, str) else number(value)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines, each as it is however long."""
    for line in lines:
        console.print(line, highlight=False, soft_wrap=True)


@dataclass(frozen=True)
class Sheet:
    """A table as text: its heads, its cells, and which of its columns are figures."""

    heads: Sequence[str]
    rows: Sequence[Sequence[str]]
    figures: Sequence[bool]
    caption: str = ""
    summed: bool = False  # whether the last row is a sum of the others

    def print(self, console: Console, title: str) -> None:
        """Print it in the width that there is."""
        room = console.width if console.is_terminal else PIPED
        widths = self._widths(room)
        if widths is None and console.is_terminal:
            shorter = self._without_hashes()
            widths = shorter._widths(room)
            if widths is None:
                shorter._print_in_parts(console, title, room)
                return
            console.print(shorter._boxed(title, widths))
            return
        console.print(self._boxed(title, widths or self._least()))

    def _without_hashes(self) -> "Sheet":
        """Return it with names of pods that lack what Kubernetes ends them with."""
        shorter = brief(cell for row in self.rows for cell in row)
        rows = [[shorter.get(cell, cell) for cell in row] for row in self.rows]
        return replace(self, rows=rows)

    def _boxed(self, title: str, widths: Sequence[int]) -> Table:
        has_heads = any(self.heads)
        table = Table(title=title, title_justify="left", caption=self.caption or None, show_header=has_heads)
        table.caption_justify = "left"
        for head, is_figure, width in zip(self.heads, self.figures, widths, strict=True):
            breaks = "-\n" if _longest_word(head) > width else "-"
            table.add_column(
                Text(breaks.join(map(visible, head.split("-")))), justify="right" if is_figure else "left", width=width
            )
        for row in self.rows:
            if self.summed and row is self.rows[-1]:
                table.add_section()
            table.add_row(*row)
        return table

    def _least(self) -> list[int]:
        """Return the least width of each column: a figure and a word stand on one line."""
        return [
            max(
                *(_longest_word(text) for text in (head.replace("-", "- "), "", *([] if is_figure else cells))),
                *(cell_len(cell) for cell in (cells if is_figure else [""])),
            )
            for head, is_figure, cells in zip(self.heads, self.figures, self._columns(), strict=True)
        ]

    def _columns(self) -> list[list[str]]:
        return [[row[at] for row in self.rows] for at in range(len(self.heads))]

    def _widths(self, room: int) -> list[int] | None:
        """Return widths with which it fits into `room` columns; None if there are none."""
        room -= 3 * len(self.heads) + 1
        cells = [max(map(cell_len, column), default=0) for column in self._columns()]
        least = self._least()
        whole = [max(width, cell_len(head)) for width, head in zip(cells, self.heads, strict=True)]
        if sum(whole) <= room:
            return whole
        wrapped = [
            max(width, word, min(cell_len(head), HEAD))
            for width, word, head in zip(cells, least, self.heads, strict=True)
        ]
        if sum(wrapped) <= room:
            return wrapped
        left = room - sum(least)
        if left < 0:
            return None
        widths = [*least]
        while left:  # to the narrowest column that has use for it
            at = min((at for at in range(len(widths)) if widths[at] < wrapped[at]), key=widths.__getitem__)
            widths[at] += 1
            left -= 1
        return widths

    def _print_in_parts(self, console: Console, title: str, room: int) -> None:
        """Print each row's figures with its texts beside them, or above them where room lacks."""
        texts = [at for at, is_figure in enumerate(self.figures) if not is_figure]
        numbers = [at for at, is_figure in enumerate(self.figures) if is_figure]
        said = [BETWEEN.join(row[at] for at in texts if row[at]) for row in self.rows]
        about = BETWEEN.join(self.heads[at] for at in texts if self.heads[at])
        rows = [[row[at] for at in numbers] for row in self.rows]
        figures = Sheet([self.heads[at] for at in numbers], rows, [True] * len(numbers))
        beside = room - sum(figures._least()) - 3 * len(numbers) - 4
        if beside >= TEXT:
            pairs = [[*row, text] for row, text in zip(rows, said, strict=True)]
            sheet = Sheet([*figures.heads, about], pairs, [*figures.figures, False], self.caption)
            console.print(sheet._boxed(title, [*figures._least(), beside]))
            return
        print_lines(console, [title])
        for row, text in zip(rows, said, strict=True):
            if text:
                console.print(text, highlight=False)
            pieces = (f"{head} {cell}" for head, cell in zip(figures.heads, row, strict=True) if cell)
            console.print(f"    {', '.join(pieces)}", highlight=False)


def _longest_word(text: str) -> int:
    return max(map(cell_len, text.split()), default=0)


def _grid(cells: Sequence[Cell]) -> Sheet:
    """Return a table of rows by columns, with the paper's figures in brackets."""
    kinds = dict.fromkeys(cell.kind for cell in cells)
    alike = len(kinds) == 1
    caption = f"all {cells[0].kind}" if alike else ", ".join(f"{kind[0]} {kind}" for kind in sorted(kinds))
    bracketed = "" if all(cell.paper is None for cell in cells) else "ours (the paper's); "
    columns = dict.fromkeys(cell.column for cell in cells)
    found = {(cell.row, cell.column): _in_grid(cell) + ("" if alike else f" {cell.kind[0]}") for cell in cells}
    rows = [
        (row, *(found.get((row, column), "") for column in columns))
        for row in dict.fromkeys(cell.row for cell in cells)
    ]
    return Sheet(("", *columns), rows, (False, *[True] * len(columns)), bracketed + caption)


def _list(cells: Sequence[Cell]) -> Sheet:
    """Return a table with one cell per line.

    It says how far a number of ours is from the paper's.
    """
    compared = any(cell.paper is not None for cell in cells)
    parts = len({cell.shortened for cell in cells}) > 1
    figures = ("paper", "ours", "difference") if compared else ("ours",)
    heads = ("", "column", *figures, "kind", *([f"{SHORTENED} of"] if parts else []))
    rows = []
    for cell in cells:
        has_unit = cell.unit in SHOWN and not isinstance(cell.ours, str)
        ours = _number(cell.ours, cell.unit) + (f" {cell.unit}" if has_unit else "") + cell.mark
        between = (_number(cell.paper, cell.unit), ours, _difference(cell)) if compared else (ours,)
        rows.append((cell.row, cell.column, *between, cell.kind, *([cell.shortened] if parts else [])))
    return Sheet(heads, rows, [head in figures for head in heads])


def _bars(cells: Sequence[Cell]) -> Sheet:
    """Return a histogram with one bin per line."""
    most = max(float(cell.ours) for cell in cells) or 1.0
    rows = [
        (cell.row, _number(cell.ours, cell.unit) + cell.mark, "█" * round(BAR * float(cell.ours) / most))
        for cell in cells
    ]
    return Sheet(("bytes", cells[0].column, ""), rows, (True, True, False), f"all {cells[0].kind}")


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
