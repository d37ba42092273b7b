"""Writes reports on records: a page for a browser, Markdown, and the CSV of every table.

Reporting never measures: a report is made from records alone, and nothing is run. The page is
self-contained, with the plotting script inside it, so that it opens offline and can be passed on as
one file. Text from records is escaped, since a record may come from anybody.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count, groupby
from pathlib import Path
from typing import Final

from lrpc.kernel.errors import Refused
from lrpc.kernel.text import one_line
from lrpc.workloads.records import folders, records, tables
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import answers, comparison, grids, sections, web
from lrpc.workloads.reports.grids import Grid
from lrpc.workloads.reports.plots import Plot
from lrpc.workloads.reports.sections import Note, Section, SectionItem
from lrpc.workloads.reports.web import escape
from lrpc.workloads.reports.words import brief, number, readable

PAGES: Final = ("report.html", "report.md")
TABLES: Final = (".csv", ".parquet")  # what a report has its tables as
MOST_ROWS: Final = 60  # rows of a table in Markdown; its CSV file has all of them
# The page has more rows, so that they can be sorted and searched: at most so many cells of a table,
# and bytes of all rows beyond the first 60, of which each longer table has the same part.
MOST_CELLS: Final = 20_000
MOST_MORE: Final = 2_000_000
US: Final = re.compile(r"(?<=, )us(?=,|$)")  # how a name in a record spells its unit
FIGURE: Final = re.compile(r"[-+]?[0-9][0-9,.]*( \S+)?")  # a number as text, with its unit
FEW_ROWS: Final = 12  # a table with more can be searched


@dataclass(frozen=True)
class Report:
    """The contents of a report, before they are written in any format."""

    title: str
    notes: Sequence[Note]  # shown first
    sections: Sequence[Section]  # folded until they are opened
    answer: Sequence[SectionItem] = ()  # what came out: shown before the sections

    @property
    def parts(self) -> list[SectionItem]:
        """Return everything that is shown, in order."""
        return [*self.answer, *(part for section in self.sections for part in section.parts)]

    @property
    def tables(self) -> list[Table]:
        """Return every table, including the data of plots, once."""
        shown = [part.table if isinstance(part, Plot | Grid) else part for part in self.parts]
        return list({id(part): part for part in shown if isinstance(part, Table)}.values())


def make(paths: Sequence[Path], out: Path | None, *, force: bool, parquet: bool = False) -> Path:
    """Write a report on the records in these folders, and return the report's folder.

    By default that is `report` in the folder of a single record, or a new folder under `records/`
    for several. A path may also be that of a `record.json`. Raises `Refused` if a record cannot be
    read or the folder cannot be used, and `RunFailed` if writing the report fails. With `parquet`
    each table has a Parquet file beside its CSV file.
    """
    if parquet:
        tables.check_parquet()
    holders = [path.parent if path.name == "record.json" else path for path in paths]
    for at, holder in enumerate(holders):
        if holder.resolve() in [other.resolve() for other in holders[:at]]:
            raise Refused(f"{holder}: given twice; name every record once")
    found = {str(holder): records.read(holder) for holder in holders}
    for name, record in found.items():
        check(name, record)
    with ExitStack() as stack:
        # A run may be about to replace that folder, if it has the right to write beside it.
        if out is None and len(holders) == 1 and os.access(holders[0].absolute().parent, os.W_OK):
            stack.enter_context(folders.claimed(holders[0], "record"))
        if out is None:
            out = holders[0] / "report" if len(holders) == 1 else folders.fresh("report")
        check_place(out, force=force)
        stack.enter_context(folders.claimed(out))
        write(report(found), out, parquet=parquet)
    return out


def check_place(out: Path, *, force: bool) -> None:
    """Raise `Refused` if no report can be put there, or only by replacing one without `force`."""
    folders.check(out, "report", _is_report, force=force)


def write(made: Report, out: Path, *, parquet: bool = False) -> None:
    """Write a report as a page, as Markdown and as CSV to a folder, whole or not at all.

    Raises `RunFailed` if that fails.
    """
    folders.put(out, "report", lambda folder: fill(made, folder, parquet=parquet))


def fill(made: Report, folder: Path, *, parquet: bool = False) -> None:
    """Write a report's page, Markdown and CSV files into a folder, and Parquet files if asked."""
    for name, pieces in zip(PAGES, (as_html(made), as_markdown(made)), strict=True):
        with (folder / name).open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(pieces)
    files = file_names(made.tables)
    for table in made.tables:
        tables.write_csv(folder / files[id(table)], table)
        if parquet:
            tables.write_parquet((folder / files[id(table)]).with_suffix(".parquet"), table)


def report(found: Mapping[str, Record]) -> Report:
    """Return the report on these records, given by display name."""
    if len(found) > 1:
        title, notes = f"{len(found)} records compared", comparison.warnings(found)
        return Report(title, notes, comparison.of_records(found), comparison.answer(found))
    (record,) = found.values()
    note = sections.warning(record)
    title = f"{record.workload}, seed {record.seed}" + (" (incomplete)" if note else "")
    return Report(title, [note] if note else [], sections.of_record(record), answers.of_record(record))


def as_html(made: Report) -> Iterator[str]:
    """Yield the pieces of a self-contained HTML page."""
    writer = _Page(made)
    yield from web.head(made.title, plots=any(isinstance(part, Plot) for part in made.parts))
    yield from (_note(note, "warning" if note.warning else "") for note in made.notes)
    yield f"<h1>{escape(made.title)}</h1>\n"
    yield from writer.answer(made.answer)
    folded = [(writer.place(section.title), section) for section in made.sections]
    yield "<nav>"
    yield from (f'<a href="#{place}">{escape(section.title)}</a>' for place, section in folded)
    yield '<button type="button">open or close all</button></nav>\n'
    for place, section in folded:
        yield f'<details id="{place}"><summary><h2>{escape(section.title)}</h2></summary>\n'
        for part in section.parts:
            yield from writer.part(part)
        yield "</details>\n"
    yield "</main>\n</body>\n</html>\n"


def as_markdown(made: Report) -> Iterator[str]:
    """Yield the pieces of the report as Markdown, with plots as bars of text."""
    files = file_names(made.tables)
    for note in made.notes:
        yield f"> **{_plain(note.text)}**\n\n"
    yield f"# {_plain(made.title)}\n"
    for part in made.answer:
        yield from _as_markdown(part, files)
    for section in made.sections:
        yield f"\n## {_plain(section.title)}\n"
        for part in section.parts:
            yield from _as_markdown(part, files)


def file_names(found: Sequence[Table]) -> dict[int, str]:
    """Return the name of each table's CSV file, by the table's `id`.

    No two names are the same, even if tables have equal names.
    """
    taken: set[str] = set()
    return {id(table): f"{_unique(_slug(table.name) or 'table', taken)}.csv" for table in found}


def shown(column: str, value: TableValue) -> str:
    """Return a value as text for people.

    The column's name says whether a number is a share, which is shown in percent.
    """
    if value is None or isinstance(value, str):
        text = value or ""
        return readable(text) if column == "crosses" else US.sub("µs", text) if column in ("what", "") else text
    if isinstance(value, float) and (column.endswith(("utilisation", "difference")) or "share_of_" in column):
        return f"{100 * value:+.1f} %" if column == "difference" else f"{100 * value:.2f} %"
    return number(value)


def check(name: str, record: Record) -> None:
    """Refuse a record with damaged parts before any of the report is made."""
    tables.read_machines(record.machines, name)
    for counted in record.latency_ns.values():
        tables.ends(counted, name)
    for table in () if record.trace is None else record.trace.more:
        if any(len(row) != len(table.columns) for row in table.rows):
            where = f"{name}: trace.more: a row of {one_line(table.name)!r}"
            raise Refused(f"{where} lacks a column; the record is damaged: run it again")


def _is_report(folder: Path) -> bool:
    """Return whether a folder holds a report and no other files that would be lost with it."""
    held = {path.name for path in folder.iterdir()}
    return set(PAGES) <= held and all(name in PAGES or name.endswith(TABLES) for name in held)


class _Page:
    """The writer of one page: it knows the files of its tables, its names and its places."""

    def __init__(self, made: Report) -> None:
        self._files = file_names(made.tables)
        self._brief = brief(text for table in made.tables for text in _texts(table))
        self._places = {"plotly"}  # the plotting script's own
        self._room = MOST_MORE // max(1, sum(len(table.rows) > MOST_ROWS for table in made.tables))

    def place(self, title: str) -> str:
        """Return the id of an element with this title; no two are the same."""
        return _unique(_slug(title) or "part", self._places)

    def answer(self, parts: Sequence[SectionItem]) -> Iterator[str]:
        """Yield what came out: sentences, pictures beside each other, and tables."""
        said = False
        for are_plots, some in groupby(parts, lambda part: isinstance(part, Plot)):
            if are_plots:
                yield '<div class="pictures">\n'
                for part in some:
                    yield from ("<section>\n", *self.part(part), "</section>\n")
                yield "</div>\n"
                continue
            for part in some:
                if isinstance(part, Note) and not part.warning:
                    yield _note(part, "beside" if said else "answer")
                    said = True
                else:
                    yield from self.part(part)

    def part(self, part: SectionItem) -> Iterator[str]:
        """Yield one part of the page."""
        if isinstance(part, Note):
            yield _note(part, "warning" if part.warning else "")
            return
        yield web.heading(part.title, self.place(part.title))
        match part:
            case Plot():
                yield web.drawn(part)
                if part.table is not None:
                    yield f'<p class="more">Values: {_link(self._files[id(part.table)])}</p>\n'
            case Grid():
                yield from grids.as_html(part)
                yield f'<p class="more">{escape(part.legend)} · {_link(self._files[id(part.table)])}</p>\n'
            case Table():
                yield from self._rows(part)

    def _rows(self, table: Table) -> Iterator[str]:
        numbers, figures, pairs = _numbers(table), _figures(table), table.columns[1:] == ("value",)
        name = escape(table.title)
        if len(table.rows) > FEW_ROWS:
            yield f'<input class="search" type="search" placeholder="search" aria-label="search: {name}">\n'
        yield f'<div class="table" tabindex="0" role="region" aria-label="{name}"><table>\n<thead><tr>'
        for is_figure, head in zip(figures, _heads(table), strict=True):
            yield web.head_cell(self._brief.get(head, head), whole=head, figures=is_figure)
        yield "</tr></thead>\n<tbody>\n"
        written = room = 0
        for row in table.rows[: max(MOST_ROWS, MOST_CELLS // len(table.columns))]:
            cells = []
            for at, (column, value) in enumerate(zip(table.columns, row, strict=True)):
                text = shown(column, value)
                if figures[at]:
                    cells.append(web.figure(text, value if numbers[at] and isinstance(value, int | float) else None))
                else:
                    cut = not (pairs and at)  # settings and digests are shown whole
                    told = self._brief.get(text, text) if cut else text
                    cells.append(web.cell(told, whole=text, first=not at, cut=cut))
            line = f"<tr>{''.join(cells)}</tr>\n"
            if written >= MOST_ROWS:
                room += len(line.encode(errors="replace"))
                if room > self._room:
                    break
            written += 1
            yield line
        more = _more(table, written)
        yield f'</tbody></table></div>\n<p class="more">{more}{_link(self._files[id(table)])}</p>\n'


def _as_markdown(part: SectionItem, files: Mapping[int, str]) -> Iterator[str]:
    match part:
        case Note():
            yield f"\n{_plain(part.text)}\n"
        case Plot():
            yield f"\n### {_plain(part.text_title or part.title)}\n\n"
            yield "".join(f"    {line}\n" for line in part.text)
            if part.table is not None:
                yield f"\nThe values are in {files[id(part.table)]}.\n"
        case Grid():
            yield f"\n### {_plain(part.title)}\n\n"
            for at, row in enumerate(grids.as_rows(part)):
                yield f"| {' | '.join(map(_plain, row))} |\n"
                if not at:
                    yield f"|---|{'---:|' * len(part.columns)}\n"
            yield f"\n{_plain(part.legend)}\n\n{files[id(part.table)]}\n"
        case Table():
            yield from _rows_as_markdown(part, files[id(part)])


def _note(note: Note, kind: str) -> str:
    named = f' class="{kind}"' if kind else ""
    return f"<p{named}>{web.sentence(note.text)}</p>\n"


def _rows_as_markdown(table: Table, file: str) -> Iterator[str]:
    yield f"\n### {_plain(table.title)}\n\n"
    yield f"| {' | '.join(map(_plain, _heads(table)))} |\n"
    yield f"|{'|'.join('---:' if is_number else '---' for is_number in _numbers(table))}|\n"
    for row in table.rows[:MOST_ROWS]:
        cells = [_plain(shown(column, value)) for column, value in zip(table.columns, row, strict=True)]
        yield f"| {' | '.join(cells)} |\n"
    yield f"\n{_more(table, MOST_ROWS)}{file}\n"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())[:60].strip("-")


def _unique(stem: str, taken: set[str]) -> str:
    """Return `stem`, with a number if it is taken, and take it."""
    found = next(name for at in count(1) if (name := f"{stem}-{at}" if at > 1 else stem) not in taken)
    taken.add(found)
    return found


def _texts(table: Table) -> Iterator[str]:
    yield from table.columns
    yield from (value for row in table.rows for value in row if isinstance(value, str))


def _heads(table: Table) -> Sequence[str]:
    return [US.sub("µs", column) if table.named else readable(column) for column in table.columns]


def _numbers(table: Table) -> list[bool]:
    """Return, for each column, whether it holds numbers."""
    return [
        any(row[at] is not None for row in table.rows) and not any(isinstance(row[at], str) for row in table.rows)
        for at in range(len(table.columns))
    ]


def _figures(table: Table) -> list[bool]:
    """Return, for each column, whether it is shown as figures: numbers, or such as text."""
    return [
        is_number or (at > 0 and any(row[at] for row in table.rows) and all(_is_figure(row[at]) for row in table.rows))
        for at, is_number in enumerate(_numbers(table))
    ]


def _is_figure(value: TableValue) -> bool:
    return not isinstance(value, str) or not value or FIGURE.fullmatch(value) is not None


def _more(table: Table, shown: int) -> str:
    beyond = len(table.rows) - shown
    return f"and {beyond:,} more rows in " if beyond > 0 else ""


def _link(file: str) -> str:
    return f'<a href="{escape(file)}">{escape(file)}</a>'


def _plain(text: str) -> str:
    """Return text on one line, escaped so that Markdown shows it unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$&!])", r"\\\1", one_line(text))
