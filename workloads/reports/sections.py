"""The report on one record: notes, tables and plots, in no particular output format.

Sections answer a reader's questions in order: what was run, how it compares with the paper, which
calls were made and how long they took, what the processors did, and what synchronisation cost.
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
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import plots
from lrpc.workloads.reports.plots import Plot, Series
from lrpc.workloads.reports.terminal import TITLES

MOST: Final = 40  # machines or domains shown in a plot or a matrix
MOST_CURVES: Final = 8
OTHERS: Final = "(others)"
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


SectionItem = Note | Table | Plot


@dataclass(frozen=True)
class Section:
    """One part of a report, under a heading."""

    title: str
    parts: Sequence[SectionItem]


def of_record(record: Record) -> list[Section]:
    """Return the sections of a report on one record, without those that would be empty."""
    sections = [
        Section("What was run", list(_run(record))),
        Section("Beside the paper", list(_cells(record.cells))),
        Section("Calls", list(_calls(record))),
        Section("Procedures", list(_procedures(record))),
        Section("Processors", list(_processors(record))),
        Section("Synchronisation", list(_pairs("synchronisation", "How machines were kept in step", record))),
        Section("The trace", list(_trace(record))),
        Section(
            "What was done", [part for name in ("counts", "bytes", "copies", "charges") for part in _sums(name, record)]
        ),
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


def readable(name: str) -> str:
    """Return the name of a field as words, with its unit after a comma."""
    for ending, unit in {"_us": "µs", "_ns": "ns", "_s": "s", "_mbps": "Mbit/s"}.items():
        if name.endswith(ending):
            name = f"{name.removesuffix(ending)}, {unit}"
    return name.replace("_", " ")


def calls_made(record: Record) -> int:
    """Return the calls of a run within domains, between domains and between machines."""
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
    for name in dict.fromkeys(cell.table for cell in cells):
        found = [cell for cell in cells if cell.table == name]
        rows = [
            (cell.row, cell.column, cell.paper, cell.ours, _difference(cell), cell.unit, cell.kind) for cell in found
        ]
        columns = ("row", "column", "paper", "ours", "difference", "unit", "kind")
        yield Table(f"cells {name}", TITLES.get(name, name), columns, rows)
        if name == "Figure 1":
            values = [cell.ours for cell in found if not isinstance(cell.ours, str)]
            if len(values) == len(found):
                yield plots.columns(TITLES[name], [cell.row for cell in found], values, "bytes", "calls")
        elif name == "Figure 2":
            yield figure_2([cell for cell in found if cell.unit == "calls/s"])


def figure_2(cells: Sequence[Cell]) -> Plot:
    """Return Figure 2: our curves, and the paper's points beside them."""
    points: dict[str, list[tuple[float, float]]] = {}
    for cell in cells:
        for value, whose in ((cell.ours, "ours"), (cell.paper, "the paper's")):
            if isinstance(value, int | float) and cell.row.isdecimal():
                points.setdefault(f"{cell.column}, {whose}", []).append((int(cell.row), value))
    series = [Series(name, *map(list, zip(*found, strict=True))) for name, found in points.items()]
    bars = [(f"{name}, {x:.0f}", y) for name, found in points.items() if name.endswith("ours") for x, y in found]
    rows = [(name, x, y) for name, found in points.items() for x, y in found]
    table = Table("figure 2 curves", "Figure 2", ("curve", "processors", "calls per second"), rows)
    return plots.curves(TITLES["Figure 2"], series, ("processors", "calls a second"), bars, table)


def _difference(cell: Cell) -> float | None:
    if isinstance(cell.ours, str) or isinstance(cell.paper, str) or not cell.paper:
        return None
    return cell.ours / cell.paper - 1


def _calls(record: Record) -> Iterator[SectionItem]:
    made = calls_made(record)
    if not record.counts:
        return
    rows = [(readable(name), record.counts.get(name, 0)) for name in CROSSINGS]
    shares = [(name, count, count / made if made else 0.0) for name, count in rows]
    yield Table("crossings", "Calls by what they cross", ("crosses", "calls", "share"), shares)
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
    yield from _matrix("machines calls", "Calls between machines", known, machines)
    yield from _matrix("domains calls", "Calls between domains", known, domains)
    busiest = sorted(record.calls, key=lambda row: -row.calls)
    yield tables.calls(busiest)


def _matrix(name: str, title: str, rows: Sequence[Calls], ends: Sequence[tuple[str, str]]) -> Iterator[SectionItem]:
    if not rows:
        return
    names, matrix = grouped(rows, ends)
    pairs = Counter[str]()
    for row, (caller, called) in zip(rows, ends, strict=True):
        pairs[f"{caller} → {called}"] += row.calls
    lines = sorted(pairs.items(), key=lambda one: (-one[1], one[0]))[:12]
    yield plots.matrix(title, names, matrix, lines)
    found: list[Sequence[TableValue]] = [(caller, *counts) for caller, counts in zip(names, matrix, strict=True)]
    yield Table(name, f"{title}: from each row to each column", ("caller", *names), found, named=True)


def _procedures(record: Record) -> Iterator[SectionItem]:
    busiest = sorted(record.latency_us.items(), key=lambda one: (-one[1].get("count", 0), one[0]))
    if not busiest:
        return
    columns = ("mean", "p50", "p90", "p99", "max")
    rows = [(name, _whole(found.get("count", 0)), *(found.get(one) for one in columns)) for name, found in busiest]
    heads = ("procedure", "calls", *(f"{name}_us" for name in columns))
    yield Table("procedures", "Latency of calls by procedure, virtual time", heads, rows)
    if not record.latency_ns:
        return
    series = [_share(name, record.latency_ns[name]) for name, _ in busiest[:MOST_CURVES] if name in record.latency_ns]
    title = "Share of calls that took no longer: the busiest procedures"
    axes = ("latency, virtual µs", "share of calls")
    table = tables.latencies(record.latency_ns)
    bars = _decades(merged(record))
    below = "Calls by their latency in virtual time, all procedures"
    yield plots.curves(title, series, axes, bars, table, logarithmic=True, steps=True, text_title=below)


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


def _processors(record: Record) -> Iterator[SectionItem]:
    machines = tables.read_machines(record.machines)
    if not machines:
        return
    names = sorted(machines, key=lambda name: (-machines[name].utilisation, name))
    shown = names[:MOST]
    parts: dict[str, list[float]] = {"at work": [], "waiting for locks": [], "waiting for the bus": [], "idle": []}
    for name in shown:
        did = machines[name].summed
        whole = (did.busy_us + did.idle_us) / 100 or 1.0
        work = did.busy_us - did.lock_wait_us - did.bus_wait_us
        for part, us in zip(parts, (work, did.lock_wait_us, did.bus_wait_us, did.idle_us), strict=True):
            parts[part].append(us / whole)
    of = f", the {MOST} busiest of {len(names)}" if len(names) > MOST else ""
    title = f"What processors' time went to{of}"
    yield plots.stacked(title, shown, parts, "% of time", [100 * machines[name].utilisation for name in shown])
    yield tables.machines({name: record.machines[name] for name in names})
    queued = tables.facilities({name: record.machines[name] for name in names})
    if queued.rows:
        yield queued


def _trace(record: Record) -> Iterator[SectionItem]:
    if record.trace is None:
        return
    yield Table("trace", "Where its rows went", ("what", "value"), list(record.trace.summary.items()))
    if record.trace.times:
        yield tables.times(record.trace.times)
    yield from record.trace.more
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
