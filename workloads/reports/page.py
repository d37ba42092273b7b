"""Writes reports on records: a page for a browser, Markdown, and the CSV of every table.

Reporting never measures: a report is made from records alone, and nothing is run. The page is
self-contained, with the plotting script inside it, so that it opens offline and can be passed on as
one file. Text from records is escaped, since a record may come from anybody.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lrpc.kernel.errors import Refused
from lrpc.kernel.text import one_line
from lrpc.workloads.records import folders, records, tables
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import answers, comparison, sections, web
from lrpc.workloads.reports.plots import Plot, number, shortened
from lrpc.workloads.reports.sections import Note, Section, SectionItem, readable
from lrpc.workloads.reports.web import escape

PAGES: Final = ("report.html", "report.md")
MOST_ROWS: Final = 60  # rows of a table shown on the page; its CSV file has all of them
FEW_ROWS: Final = 12  # a table with more can be searched


@dataclass(frozen=True)
class Report:
    """The contents of a report, before they are written in any format."""

    title: str
    notes: Sequence[Note]  # shown first
    sections: Sequence[Section]  # folded until they are opened
    answer: Sequence[SectionItem] = ()  # what came out: shown before the sections

    @property
    def tables(self) -> list[Table]:
        """Return every table, including the data of plots."""
        parts = [*self.answer, *(part for section in self.sections for part in section.parts)]
        shown = [part.table if isinstance(part, Plot) else part for part in parts]
        return [part for part in shown if isinstance(part, Table)]


def make(paths: Sequence[Path], out: Path | None, *, force: bool) -> Path:
    """Write a report on the records in these folders, and return the report's folder.

    By default that is `report` in the folder of a single record, or a new folder under `records/`
    for several. A path may also be that of a `record.json`. Raises `Refused` if a record cannot be
    read or the folder cannot be used, and `RunFailed` if writing the report fails.
    """
    holders = [path.parent if path.name == "record.json" else path for path in paths]
    for at, holder in enumerate(holders):
        if holder.resolve() in [other.resolve() for other in holders[:at]]:
            raise Refused(f"{holder}: given twice; name every record once")
    found = {str(holder): records.read(holder) for holder in holders}
    for name, record in found.items():
        check(name, record)
    if out is None:
        out = holders[0] / "report" if len(holders) == 1 else folders.fresh("report")
    folders.check(out, "report", _is_report, force=force)
    with folders.claimed(out):
        write(report(found), out)
    return out


def write(made: Report, out: Path) -> None:
    """Write a report as a page, as Markdown and as CSV to a folder, whole or not at all.

    Raises `RunFailed` if that fails.
    """
    folders.put(out, "report", lambda folder: fill(made, folder))


def fill(made: Report, folder: Path) -> None:
    """Write a report's page, Markdown and CSV files into a folder."""
    for name, pieces in zip(PAGES, (as_html(made), as_markdown(made)), strict=True):
        with (folder / name).open("w", encoding="utf-8", errors="replace", newline="\n") as file:
            file.writelines(pieces)
    files = file_names(made.tables)
    for table in made.tables:
        tables.write_csv(folder / files[id(table)], table)


def report(found: Mapping[str, Record]) -> Report:
    """Return the report on these records, given by display name."""
    if len(found) > 1:
        return Report(f"{len(found)} records compared", comparison.warnings(found), comparison.of_records(found))
    (record,) = found.values()
    note = sections.warning(record)
    title = f"{record.workload}, seed {record.seed}" + (" (incomplete)" if note else "")
    return Report(title, [note] if note else [], sections.of_record(record), answers.of_record(record))


def as_html(made: Report) -> Iterator[str]:
    """Yield the pieces of a self-contained HTML page."""
    files = file_names(made.tables)
    parts = [*made.answer, *(part for section in made.sections for part in section.parts)]
    yield from web.head(made.title, plots=any(isinstance(part, Plot) for part in parts))
    yield from (_note(note) for note in made.notes)
    yield f"<h1>{escape(made.title)}</h1>\n"
    for place, part in enumerate(made.answer):
        if isinstance(part, Note) and not part.warning:
            yield f'<p class="answer">{escape(part.text)}</p>\n'
        else:
            yield from _part(part, f"answer-{place}", files)
    yield "<nav>"
    yield from (f'<a href="#part-{at}">{escape(one.title)}</a>' for at, one in enumerate(made.sections))
    yield "</nav>\n"
    for at, section in enumerate(made.sections):
        yield f'<details id="part-{at}"><summary><h2>{escape(section.title)}</h2></summary>\n'
        for place, part in enumerate(section.parts):
            yield from _part(part, f"plot-{at}-{place}", files)
        yield "</details>\n"
    yield "</body>\n</html>\n"


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
    names: dict[int, str] = {}
    for table in found:
        stem = re.sub(r"[^a-z0-9]+", "-", table.name.lower()).strip("-")[:60] or "table"
        at, name = 1, stem
        while f"{name}.csv" in names.values():
            at += 1
            name = f"{stem}-{at}"
        names[id(table)] = f"{name}.csv"
    return names


def shown(column: str, value: TableValue, *, named: bool = False) -> str:
    """Return a value as text for people.

    The column's name says whether a number is a share, which is shown in percent. In a table with
    `named` columns, zeros are left blank.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if named and not value:
        return ""  # blanks make the few counts of a sparse matrix stand out
    if isinstance(value, float) and column.endswith(("share", "utilisation", "difference")):
        return f"{100 * value:+.1f} %" if column == "difference" else f"{100 * value:.2f} %"
    return number(value)


def check(name: str, record: Record) -> None:
    """Refuse a record with damaged parts before any of the report is made."""
    tables.read_machines(record.machines, name)
    for counted in record.latency_ns.values():
        tables.ends(counted, name)


def _is_report(folder: Path) -> bool:
    """Return whether a folder holds a report and no other files that would be lost with it."""
    held = {path.name for path in folder.iterdir()}
    return set(PAGES) <= held and all(name in PAGES or name.endswith(".csv") for name in held)


def _part(part: SectionItem, place: str, files: Mapping[int, str]) -> Iterator[str]:
    match part:
        case Note():
            yield _note(part)
        case Plot():
            yield f"<h3>{escape(part.title)}</h3>\n{web.drawn(part, place)}\n"
            if part.table is not None:
                yield f'<p class="more">Values: {_link(files[id(part.table)])}</p>\n'
        case Table():
            yield from _rows_as_html(part, files[id(part)])


def _as_markdown(part: SectionItem, files: Mapping[int, str]) -> Iterator[str]:
    match part:
        case Note():
            yield f"\n{_plain(part.text)}\n"
        case Plot():
            yield f"\n### {_plain(part.text_title or part.title)}\n\n"
            yield "".join(f"    {line}\n" for line in part.text)
            if part.table is not None:
                yield f"\nThe values are in {files[id(part.table)]}.\n"
        case Table():
            yield from _rows_as_markdown(part, files[id(part)])


def _note(note: Note) -> str:
    kind = ' class="warning"' if note.warning else ""
    return f"<p{kind}>{escape(note.text)}</p>\n"


def _rows_as_html(table: Table, file: str) -> Iterator[str]:
    numbers, whole = _numbers(table), table.columns == ("what", "value")
    yield f"<h3>{escape(table.title)}</h3>\n"
    if len(table.rows) > FEW_ROWS:
        yield f'<input class="search" type="search" placeholder="search" aria-label="search: {escape(table.title)}">\n'
    yield '<div class="table" tabindex="0"><table>\n<thead><tr>'
    for is_number, head in zip(numbers, _heads(table), strict=True):
        kind = ' class="number"' if is_number else ""
        title = f' title="{escape(head)}"' if len(head) > web.LONGEST_NAME else ""
        named = escape(shortened(head, web.LONGEST_NAME))
        yield f'<th{kind}{title} scope="col"><button type="button">{named}</button></th>'
    yield "</tr></thead>\n<tbody>\n"
    for row in table.rows[:MOST_ROWS]:
        yield "<tr>"
        for is_number, column, value in zip(numbers, table.columns, row, strict=True):
            text = shown(column, value, named=table.named)
            number_ = value if is_number and isinstance(value, int | float) else None
            yield web.cell(text, number_, whole=whole)
        yield "</tr>\n"
    yield f'</tbody></table></div>\n<p class="more">{_more(table)}{_link(file)}</p>\n'


def _rows_as_markdown(table: Table, file: str) -> Iterator[str]:
    yield f"\n### {_plain(table.title)}\n\n"
    yield f"| {' | '.join(map(_plain, _heads(table)))} |\n"
    yield f"|{'|'.join('---:' if is_number else '---' for is_number in _numbers(table))}|\n"
    for row in table.rows[:MOST_ROWS]:
        cells = [_plain(shown(column, value)) for column, value in zip(table.columns, row, strict=True)]
        yield f"| {' | '.join(cells)} |\n"
    yield f"\n{_more(table)}{file}\n"


def _heads(table: Table) -> Sequence[str]:
    return table.columns if table.named else [readable(column) for column in table.columns]


def _numbers(table: Table) -> list[bool]:
    """Return, for each column, whether it holds numbers."""
    return [
        any(row[at] is not None for row in table.rows) and not any(isinstance(row[at], str) for row in table.rows)
        for at in range(len(table.columns))
    ]


def _more(table: Table) -> str:
    beyond = len(table.rows) - MOST_ROWS
    return f"and {beyond:,} more rows in " if beyond > 0 else ""


def _link(file: str) -> str:
    return f'<a href="{escape(file)}">{escape(file)}</a>'


def _plain(text: str) -> str:
    """Return text on one line, escaped so that Markdown shows it unchanged."""
    return re.sub(r"([\\`*_{}\[\]<>|#~$&!])", r"\\\1", one_line(text))
