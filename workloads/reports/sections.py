"""The report on one record: notes, tables and plots, in no particular output format.

Sections answer a reader's questions in order: how it compares with the paper, which calls were made
and how long they took, what the processors did, what synchronisation cost, and what was run.
`page` writes the same sections as HTML and as Markdown.

A record may have thousands of machines and domains. Plots and matrices show the busiest `MOST`; a
matrix adds up the others, so that no call is missing from it.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final

from lrpc.workloads.records import tables
from lrpc.workloads.records.call_tables import CROSSINGS, Calls
from lrpc.workloads.records.cells import Cell, predictions_rest_on
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import SLOWEST, MachineRow, Table, TableValue
from lrpc.workloads.reports import plots
from lrpc.workloads.reports.grids import Grid, meanings, title_of
from lrpc.workloads.reports.plots import OURS, PAPERS, Plot, Series
from lrpc.workloads.reports.waterfalls import waterfalls
from lrpc.workloads.reports.words import readable

MOST: Final = 40  # machines or domains shown in a plot or a matrix
FEW_PAIRS: Final = 12  # pairs that are bars; more are a matrix
MOST_CURVES: Final = 8
OPERATIONS: Final = "operations"  # the table of a replay that its answer has
OTHERS: Final = "(others)"
SHARE: Final = "share_of_all_calls"  # within-domain, cross-domain and cross-machine calls
PAPERS_PROCESSORS: Final = 5  # of Figure 2, and of the speed-up that its text gives
# Fields of a record that have a place of their own; others are listed as "Also recorded".
SHOWN: Final = frozenset(
    {
        *("status", "reason", "workload", "command", "seed", "digest", "actors", "links", "wall_s", "virtual_us"),
        *("compiled", "format", "versions", "settings", "counts", "bytes", "copies", "charges", "latency_us"),
        *("latency_ns", "calls", "notes", "synchronisation", "machines", "trace", "cells", "job", "inputs"),
    }
)


@dataclass(frozen=True)
class Note:
    """A sentence; a warning is one that must not be overlooked."""

    text: str
    warning: bool = False


SectionItem = Note | Table | Plot | Grid


@dataclass(frozen=True)
class Section:
    """One part of a report, under a heading."""

    title: str
    parts: Sequence[SectionItem]


def of_record(record: Record) -> list[Section]:
    """Return the sections of a report on one record, without those that would be empty."""
    done = [part for name in ("counts", "bytes", "copies", "charges") for part in _sums(name, record)]
    sections = [
        Section("Beside the paper", list(_cells(record.cells))),
        Section("The trace", list(_trace(record))),
        Section("The slowest traces", list(waterfalls(record))),
        Section("Calls", list(_calls(record))),
        Section("Procedures", list(_procedures(record))),
        Section("Processors", list(_processors(record))),
        Section("Synchronisation", list(_pairs("synchronisation", "How machines were kept in step", record))),
        Section("What was done", done),
        Section("What was run, and how to run it again", list(_run(record))),
    ]
    return [section for section in sections if section.parts]


def warning(record: Record) -> Note | None:
    """Return the warning to show first if a record is incomplete, otherwise None."""
    if record.status == "complete":
        return None
    why = f": {record.reason}" if record.reason else ""
    until = "The figures below had been measured until then, and are not a result."
    return Note(f"INCOMPLETE: this run did not complete{why}. {until}", warning=True)


def flatten(value: object, name: str = "") -> list[tuple[str, TableValue]]:
    """Return nested values as one list of names and values.

    Names of nested values are joined by colons.
    """
    found: Iterable[tuple[object, object]]
    match value:
        case Mapping():
            found = value.items()
        case list() | tuple() if any(isinstance(one, Mapping | list | tuple) for one in value):
            found = enumerate(value, 1)
        case list() | tuple():
            return [(name, " ".join(map(str, value)))]
        case bool():
            return [(name, "yes" if value else "no")]
        case None | str() | int() | float():
            return [(name, value)]
        case _:
            return [(name, str(value))]
    return [row for key, inner in found for row in flatten(inner, f"{name}: {key}" if name else str(key))]


def calls_made(record: Record) -> int:
    """Return the within-domain, cross-domain and cross-machine calls of a run."""
    return sum(record.counts.get(crosses, 0) for crosses in CROSSINGS)


def merged(record: Record) -> dict[tuple[int, int], int]:
    """Return the latency histogram of all calls, by the bounds of its buckets in ns."""
    total = Counter[tuple[int, int]]()
    for counted in record.latency_ns.values():
        total.update(dict(tables.ends(counted)))
    return dict(sorted(total.items()))


def grouped(rows: Sequence[Calls], ends: Sequence[tuple[str, str]]) -> tuple[list[str], list[list[int]]]:
    """Return names and the matrix of calls between them, callers as rows.

    `ends` has the caller and the called of each of `rows`. Only the `MOST` busiest names have a row
    and a column of their own; the others share one.
    """
    busy = Counter[str]()
    for row, between in zip(rows, ends, strict=True):
        for name in set(between):
            busy[name] += row.calls
    kept = sorted(busy, key=lambda name: (-busy[name], name))[:MOST]
    names = sorted(kept)
    if len(busy) > len(kept):
        names.append(OTHERS)
    at = {name: place for place, name in enumerate(sorted(kept))}
    matrix = [[0] * len(names) for _ in names]
    for row, (caller, called) in zip(rows, ends, strict=True):
        matrix[at.get(caller, len(names) - 1)][at.get(called, len(names) - 1)] += row.calls
    return names, matrix


def _run(record: Record) -> Iterator[SectionItem]:
    told = record.trace.notes if record.trace is not None else ()
    yield from (Note(text) for text in (*record.notes, *told))
    rows: list[tuple[str, TableValue]] = [
        ("status", record.status),
        ("workload", record.workload),
        ("command", " ".join(record.command)),
        ("to repeat and compare", "lrpc verify and this record's folder"),
        ("seed", record.seed),
        ("actors", "none, in one process" if record.actors == 0 else record.actors),
        ("links", record.links),
        ("machines", len(record.machines) or None),
        ("wall time, s", record.wall_s),
        ("virtual time, µs", record.virtual_us),
        ("calls", calls_made(record) if record.counts else None),
        ("calls per wall second", calls_made(record) / record.wall_s if record.wall_s and record.counts else None),
        ("compiled", "yes" if record.compiled else "no"),
        ("digest", record.digest),
        ("reason", record.reason),
        ("format of the record", record.format),
    ]
    yield Table("run", "The run", ("what", "value"), [row for row in rows if row[1] is not None])
    others = {field.name: getattr(record, field.name) for field in fields(record) if field.name not in SHOWN}
    given = [(readable(name), value) for name, value in flatten(others) if value is not None]
    for name, title, found in (
        ("settings", "Settings", flatten(record.settings)),
        ("job", "The job, as it can be run again", flatten(record.job)),
        ("other", "Also recorded", given),
        ("versions", "Versions", flatten(record.versions)),
    ):
        if found:
            yield Table(name, title, ("what", "value"), found)
    if record.inputs:
        read = [(one.argument, one.path, one.digest) for one in record.inputs]
        yield Table("inputs", "Files that it read", ("argument", "path", "digest"), read)


def _cells(cells: Sequence[Cell]) -> Iterator[SectionItem]:
    if cells:
        yield Note(meanings(cells))
    for name in dict.fromkeys(cell.table for cell in cells):
        found = [cell for cell in cells if cell.table == name]
        values = [cell.ours for cell in found if not isinstance(cell.ours, str)]
        title = title_of(name)
        if name == "Figure 1" and len(values) == len(found):
            yield plots.columns(title, [cell.row for cell in found], values, "bytes", "calls")
        columns = ("row", "column", "paper", "ours", "deviation", "unit", "kind", "rests_on", "shortened")
        rows = [[getattr(cell, column) for column in columns] for cell in found]
        heads = [column.replace("deviation", "difference") for column in columns]
        yield Grid(title, found, Table(f"cells {name}", title, heads, rows))
        if rests := predictions_rest_on(found):
            yield Note(rests)


def figure_2(cells: Sequence[Cell]) -> Plot:
    """Return Figure 2: our curves, dashed beyond the paper's processors, and the paper's points."""
    systems = list(dict.fromkeys(cell.column for cell in cells))
    points: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        for value, whose in ((cell.ours, OURS), (cell.paper, PAPERS)):
            if isinstance(value, int | float) and cell.row.isdecimal():
                points.setdefault(f"{cell.column}{whose}", []).append((int(cell.row), value))
    series = []
    for name, found in points.items():
        colour = systems.index(name.removesuffix(OURS).removesuffix(PAPERS))
        if name.endswith(PAPERS):
            series.append(Series(name, *_axes(found), form="points", colour=colour))
            continue
        within, beyond = ([one for one in found if test(one[0])] for test in (_in_the_paper, _beyond_it))
        series.append(Series(name, *_axes(within), colour=colour))
        if beyond:
            series.append(Series(f"{name}, what if", *_axes([*within[-1:], *beyond]), form="dashed", colour=colour))
    bars = [(f"{name}, {x:.0f}", y) for name, found in points.items() for x, y in found]
    rows = [(name, x, y) for name, found in points.items() for x, y in found]
    table = Table("figure 2 curves", "Figure 2", ("curve", "processors", "calls per second"), rows)
    return plots.curves(title_of("Figure 2"), series, ("processors", "calls/s"), bars, table)


def _in_the_paper(processors: float) -> bool:
    return processors <= PAPERS_PROCESSORS


def _beyond_it(processors: float) -> bool:
    return processors > PAPERS_PROCESSORS


def _axes(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in points], [y for _, y in points]


def _calls(record: Record) -> Iterator[SectionItem]:
    made = calls_made(record)
    if not record.counts:
        return
    rows = [(readable(name), record.counts.get(name, 0)) for name in CROSSINGS]
    shares = [(name, count, count / made if made else 0.0) for name, count in rows]
    yield Table("crossings", "Calls by what they cross", ("crosses", "calls", SHARE), shares)
    if not record.calls:
        if made:
            yield Note("This record does not say who called what.")
        return
    known = [row for row in record.calls if row.client_domain]
    if unreturned := sum(row.calls for row in record.calls) - sum(row.calls for row in known):
        yield Note(f"{unreturned:,} calls did not return, and are not in the matrices below.")
    machines = [(row.client_machine, row.server_machine) for row in known]
    domains = [
        (f"{row.client_machine}/{row.client_domain}", f"{row.server_machine}/{row.server_domain}") for row in known
    ]
    yield from _matrix("machines calls", "Who calls whom, by machine", known, machines)
    yield from _matrix("domains calls", "Who calls whom, by domain", known, domains)
    busiest = sorted(record.calls, key=lambda row: -row.calls)
    yield tables.calls(busiest)


def _matrix(name: str, title: str, rows: Sequence[Calls], ends: Sequence[tuple[str, str]]) -> Iterator[SectionItem]:
    if not rows:
        return
    names, matrix = grouped(rows, ends)
    pairs = Counter[str]()
    for row, (caller, called) in zip(rows, ends, strict=True):
        pairs[f"{caller} → {called}"] += row.calls
    lines = sorted(pairs.items(), key=lambda one: (-one[1], one[0]))[:FEW_PAIRS]
    found: list[Sequence[TableValue]] = [(caller, *counts) for caller, counts in zip(names, matrix, strict=True)]
    table = Table(name, title, ("caller", *names), found, named=True)
    if len(pairs) <= FEW_PAIRS:
        yield plots.rows(title, [pair for pair, _ in lines], [count for _, count in lines], "calls", table)
        return
    callers = [at for at, counts in enumerate(matrix) if any(counts)]
    called_ = [at for at in range(len(names)) if any(counts[at] for counts in matrix)]
    busy = [[matrix[at][to] for to in called_] for at in callers]
    yield plots.matrix(title, ([names[at] for at in callers], [names[at] for at in called_]), busy, lines, table)


def _procedures(record: Record) -> Iterator[SectionItem]:
    busiest = sorted(record.latency_us.items(), key=lambda one: (-one[1].get("count", 0), one[0]))
    if not busiest:
        return
    columns = ("mean", "p50", "p90", "p99", "max")
    rows = [(name, _whole(found.get("count", 0)), *(found.get(one) for one in columns)) for name, found in busiest]
    heads = ("procedure", "calls", *(f"{name}_us" for name in columns))
    if record.latency_ns:
        yield _latency_curves(record, [name for name, _ in busiest if name in record.latency_ns])
    yield Table("procedures", "Latency of calls by procedure, virtual time", heads, rows)


def _latency_curves(record: Record, busiest: Sequence[str]) -> Plot:
    """Return how many calls of the busiest procedures took no longer than a time."""
    series = [_share(name, record.latency_ns[name]) for name in busiest[:MOST_CURVES]]
    title = "Share of calls that took no longer: the busiest procedures"
    axes = ("latency, virtual µs", "share of calls")
    table = tables.latencies(record.latency_ns)
    bars = _decades(merged(record))
    below = "Calls by their latency in virtual time, all procedures"
    return plots.curves(title, series, axes, bars, table, logarithmic=True, steps=True, text_title=below)


def _whole(value: float) -> TableValue:
    return int(value) if float(value).is_integer() else value


def _share(name: str, counted: Mapping[str, int]) -> Series:
    """Return the share of calls that had ended after a time.

    It is 0 before the first bucket and 1 at the end of the last.
    """
    found = sorted(tables.ends(counted))
    total = sum(count for _, count in found) or 1
    x, y, seen = [], [], 0
    if found:
        x.append(max(found[0][0][0], 1) / 1000)
        y.append(0.0)
    for (_, high), count in found:
        seen += count
        x.append(high / 1000)
        y.append(seen / total)
    return Series(name, x, y)


def _decades(counted: Mapping[tuple[int, int], int]) -> list[tuple[str, float]]:
    """Return the calls of all procedures in bins of 1, 2, 5, 10, 20 ... µs.

    A call counts at the middle of its bucket.
    """
    edges = [base * 10**power for power in range(-3, 13) for base in (1, 2, 5)]
    bins = Counter[int]()
    for (low, high), count in counted.items():
        us = (low + high) / 2000
        bins[next((at for at, edge in enumerate(edges) if us < edge), len(edges) - 1)] += count
    if not bins:
        return []
    places = range(min(bins), max(bins) + 1)
    return [(f"{edges[at - 1] if at else 0:g} to {edges[at]:g} µs", bins[at]) for at in places]


def is_plain_run(record: Record) -> bool:
    """Return whether a record is of a scenario: neither of a trace nor of the paper's tables."""
    return record.trace is None and all(cell.table == "I" for cell in record.cells)


def processors(record: Record) -> Iterator[Plot]:
    """Yield the picture of what the processors' time went to, without what they idled."""
    machines = tables.read_machines(record.machines)
    names = _busiest(machines)
    parts: dict[str, list[float]] = {"work": [], "waiting for locks": [], "waiting for the bus": []}
    for name in names[:MOST]:
        did = machines[name].summed
        whole = (did.busy_us + did.idle_us) / 100 or 1.0
        work = did.busy_us - did.lock_wait_us - did.bus_wait_us
        for part, us in zip(parts, (work, did.lock_wait_us, did.bus_wait_us), strict=True):
            parts[part].append(us / whole)
    if names:
        of = f", the {MOST} busiest of {len(names)}" if len(names) > MOST else ""
        title = f"What processors' time went to, apart from idling{of}"
        seen = {part: shares for part, shares in parts.items() if any(shares)}
        busy = [100 * machines[name].utilisation for name in names[:MOST]]
        yield plots.stacked(title, names[:MOST], seen, "% of time", busy)


def _busiest(machines: Mapping[str, MachineRow]) -> list[str]:
    return sorted(machines, key=lambda name: (-machines[name].utilisation, name))


def _processors(record: Record) -> Iterator[SectionItem]:
    names = _busiest(tables.read_machines(record.machines))
    if names:
        if record.status != "complete" or not is_plain_run(record):
            yield from processors(record)  # otherwise the answer has it
        yield tables.machines({name: record.machines[name] for name in names})
        queued = tables.facilities({name: record.machines[name] for name in names})
        yield from (one for one in (queued, tables.busy_processors(record.machines)) if one.rows)


def _trace(record: Record) -> Iterator[SectionItem]:
    if record.trace is None:
        return
    yield Table("trace", "Where its rows went", ("what", "value"), list(record.trace.summary.items()))
    if record.trace.times:
        yield tables.times(record.trace.times)
    # What the answer opens with is not shown again.
    elsewhere = (SLOWEST, OPERATIONS) if record.status == "complete" else (SLOWEST,)
    yield from (table for table in record.trace.more if table.name not in elsewhere)
    if record.trace.left_out:
        yield from (Note(line) for line in record.trace.left_out_by_reason)
        yield Table("left out", "Rows left out", ("row",), [(line,) for line in record.trace.left_out])


def _pairs(name: str, title: str, record: Record) -> Iterator[SectionItem]:
    found: Mapping[str, object] = getattr(record, name)
    if found:
        yield Table(name, title, ("what", "value"), [(readable(what), value) for what, value in flatten(found)])


def _sums(name: str, record: Record) -> Iterator[SectionItem]:
    titles = {
        "counts": "Counts",
        "bytes": "Bytes that calls moved",
        "copies": "Values copied, by letter of Table III",
        "charges": "Steps of the cost model that were charged",
    }
    yield from _pairs(name, titles[name], record)
