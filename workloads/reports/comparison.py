"""The report on several records: how they compare, and how runs scale.

Scaling is shown as calls per wall second over the number of machines or of actors, whichever
differs between the records. A line joins only runs of the same workload with the same value of the
other number, since otherwise it would mix two effects.

Incomplete records are listed with their status, but their figures are not compared: what had been
measured when a run stopped is not a result.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from lrpc.workloads.records.call_tables import CROSSINGS
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import plots
from lrpc.workloads.reports.plots import Series
from lrpc.workloads.reports.sections import Note, Section, SectionItem, calls_made, merged, warning

MOST_PROCEDURES: Final = 200


def of_records(records: Mapping[str, Record]) -> list[Section]:
    """Return the sections of a report on several records, given by display name."""
    whole = {name: record for name, record in records.items() if record.status == "complete"}
    sections = [
        Section("The records", [_records(records), *_digests(whole)]),
        Section("Calls and latency", [_calls(whole), _latencies(whole)] if whole else []),
        Section("Scaling", list(_scaling(whole))),
    ]
    return [section for section in sections if section.parts]


def warnings(records: Mapping[str, Record]) -> list[Note]:
    """Return a warning for each incomplete record, to be shown first."""
    found = [(name, note) for name, record in records.items() if (note := warning(record)) is not None]
    return [Note(f"{name}: {note.text}", warning=True) for name, note in found]


def calls_per_s(record: Record) -> float:
    """Return the calls simulated per second of wall time; 0 if that time is unknown."""
    return calls_made(record) / record.wall_s if record.wall_s else 0.0


def quantile_us(counted: Mapping[tuple[int, int], int], share: float) -> float | None:
    """Return a quantile of a histogram, in microseconds; None if the histogram is empty.

    `counted` maps the bounds of buckets, in ns, to counts; `share` is from 0 to 1. The result is
    the middle of the bucket that the quantile falls in.
    """
    total, seen = sum(counted.values()), 0
    for (low, high), count in sorted(counted.items()):
        seen += count
        if seen >= share * total:
            return (low + (high - low) // 2) / 1000
    return None


def _records(records: Mapping[str, Record]) -> Table:
    groups = _groups(records)
    columns = (
        *("record", "status", "workload", "seed", "machines", "actors", "links", "compiled"),
        *("virtual_us", "wall_s", "calls", "calls per wall second", "digest"),
    )
    rows: list[Sequence[TableValue]] = []
    for name, record in records.items():
        done = record.status == "complete"
        head = (name, record.status, record.workload, record.seed, len(record.machines) or None, record.actors)
        timed = (record.links, "yes" if record.compiled else "no", record.virtual_us, record.wall_s)
        counted = (calls_made(record), calls_per_s(record)) if done else (None, None)
        rows.append((*head, *timed, *counted, groups.get(record.digest or "", "")))
    return Table("comparison", "The records", columns, rows)


def _groups(records: Mapping[str, Record]) -> dict[str, str]:
    """Return a short name for each digest; records with equal digests share it."""
    digests = dict.fromkeys(record.digest for record in records.values() if record.digest)
    return {digest: f"D{number}" for number, digest in enumerate(digests, 1)}


def _digests(records: Mapping[str, Record]) -> Iterator[SectionItem]:
    groups = _groups(records)
    if len(records) > 1 and len(groups) == 1:
        yield Note("All digests are equal: these runs did the same, event by event.")
    elif len(groups) > 1:
        yield Note(f"There are {len(groups)} different digests: not all of these runs did the same.")
    rows = [
        (short, digest, ", ".join(name for name, record in records.items() if record.digest == digest))
        for digest, short in groups.items()
    ]
    if rows:
        yield Table("digests", "Digests", ("digest", "in full", "records"), rows)


def _calls(records: Mapping[str, Record]) -> Table:
    shares = [f"{crosses}_share" for crosses in CROSSINGS]
    columns = ("record", "calls", *CROSSINGS, *shares, "mean_us", "p50_us", "p90_us", "p99_us")
    rows: list[Sequence[TableValue]] = []
    for name, record in records.items():
        made = calls_made(record)
        counts = [record.counts.get(crosses, 0) for crosses in CROSSINGS]
        timed = merged(record)
        latencies = [quantile_us(timed, share) for share in (0.5, 0.9, 0.99)]
        rows.append(
            (name, made, *counts, *(count / made if made else 0.0 for count in counts), _mean(record), *latencies)
        )
    return Table("comparison calls", "Calls, and their latency in virtual time", columns, rows)


def _mean(record: Record) -> float | None:
    found = list(record.latency_us.values())
    calls = sum(one.get("count", 0) for one in found)
    return sum(one.get("count", 0) * one.get("mean", 0) for one in found) / calls if calls else None


def _latencies(records: Mapping[str, Record]) -> Table:
    """Return the mean latency of the procedures called most, one column per record."""
    busy: dict[str, float] = {}
    for record in records.values():
        for procedure, found in record.latency_us.items():
            busy[procedure] = busy.get(procedure, 0) + found.get("count", 0)
    chosen = sorted(busy, key=lambda procedure: (-busy[procedure], procedure))[:MOST_PROCEDURES]
    rows = [
        (procedure, *(record.latency_us.get(procedure, {}).get("mean") for record in records.values()))
        for procedure in chosen
    ]
    title = "Mean latency by procedure, virtual µs: the busiest"
    return Table("comparison procedures", title, ("procedure", *records), rows, named=True)


def _scaling(records: Mapping[str, Record]) -> Iterator[SectionItem]:
    timed = [record for record in records.values() if record.wall_s]

    def machines(record: Record) -> int:
        return len(record.machines)

    def actors(record: Record) -> int:
        return record.actors or 0

    for name, across, beside in (("machines", machines, actors), ("actors", actors, machines)):
        if len({across(record) for record in timed}) > 1:
            yield _plot(name, "actors" if name == "machines" else "machines", timed, across, beside)


def _plot(
    name: str,
    other: str,
    records: Sequence[Record],
    across: Callable[[Record], int],
    beside: Callable[[Record], int],
) -> SectionItem:
    """Return a plot of calls per wall second over one number.

    There is one line for each workload and each value of the other number.
    """
    points: dict[str, list[tuple[float, float]]] = {}
    for record in records:
        line = f"{record.workload}, {beside(record) or 'no'} {other}"
        points.setdefault(line, []).append((across(record), calls_per_s(record)))
    rows = [(line, x, y) for line, found in points.items() for x, y in sorted(found)]
    series = [Series(line, *map(list, zip(*sorted(found), strict=True))) for line, found in points.items()]
    table = Table(f"scaling {name}", f"Scaling over {name}", ("line", name, "calls per wall second"), rows)
    bars = [(f"{x:g} {name}, {line}", y) for line, x, y in rows]
    return plots.curves(f"Calls per wall second over {name}", series, (name, "calls per wall second"), bars, table)
