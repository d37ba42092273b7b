"""The page of a found placement: what it saves, which domains move, and what proves it."""

from pathlib import Path
from typing import Final

from lrpc.workloads.placing import place
from lrpc.workloads.placing.place import FOUND, Compared
from lrpc.workloads.records.call_tables import IN_WORDS
from lrpc.workloads.records.tables import Table, as_objects
from lrpc.workloads.reports import comparison, page, placements, plots
from lrpc.workloads.reports.plots import Plot, Series
from lrpc.workloads.reports.sections import Note, Section, SectionItem

MACHINES: Final = "machines"
CROSSING: Final = IN_WORDS["cross_machine"]


def write(compared: Compared, *, parquet: bool = False) -> Path:
    """Write the page into the folder of both replays' records, and return its path.

    With `parquet` its tables are written as Parquet too.
    """
    folder = compared.folder / "report"
    page.write(report(compared), folder, parquet=parquet)
    return folder / page.PAGES[0]


def report(compared: Compared) -> page.Report:
    """Return the report on a found placement beside the one before."""
    records = {compared.label: compared.baseline, FOUND: compared.found}
    beside, moves, *curve = place.tables(compared)
    pictures = [part for part in placements.answer(records) if isinstance(part, Plot)]
    answer: list[SectionItem] = [Note(f"{place.answer(compared)}."), *pictures, beside, moves]
    proof: list[SectionItem] = [Note(line) for line in place.lines(compared)]
    sections = [
        Section("What more machines cost", [part for table in curve for part in (_curve(table), table)]),
        Section("What is proved, and the files", proof),
        *placements.sections(records),
        *comparison.of_records(records)[-3:],
    ]
    title = f"{compared.found.workload} placed on {compared.question.problem.machines} machines"
    return page.Report(title, [], [section for section in sections if section.parts], answer)


def _curve(curve: Table) -> Plot:
    """Return the calls that cross machines against the number of machines."""
    machines, crossing = (list(curve.columns).index(name) for name in (MACHINES, CROSSING))
    points = [(float(row[machines] or 0), float(row[crossing] or 0)) for row in curve.rows]
    series = [Series(CROSSING, [x for x, _ in points], [y for _, y in points])]
    bars = [(f"{x:g} machines", y) for x, y in points]
    values = Table("curve crossing", CROSSING, (MACHINES, CROSSING), points, named=True)
    return plots.curves("Cross-machine calls, by number of machines", series, (MACHINES, "calls"), bars, values)


def as_json(compared: Compared) -> dict[str, object]:
    """Return what was found as JSON has it: the placement, what is proved of it, and the tables."""
    found = compared.solution
    return {
        "answer": place.answer(compared),
        "placement": dict(compared.after),
        "before": {"name": compared.label, "placement": dict(compared.before)},
        "weight": compared.question.weight,
        "unit": compared.question.unit,
        "crosses": found.crossing,
        "crosses_at_least": found.at_least,
        "ended": found.end,
        "file": str(compared.file),
        "records": str(compared.folder),
        **{table.name: as_objects(table) for table in place.tables(compared)},
        "lines": place.lines(compared),
    }
