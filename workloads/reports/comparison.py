"""The report on several records: how they compare.

Replays of one trace are compared as placements (`placements`), runs on different numbers of actors
or machines by how they scale (`scaling`), and others by what crossed machines.

Incomplete records are listed with their status, but their figures are not compared: what had been
measured when a run stopped is not a result.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

from lrpc.workloads.records.call_tables import CROSSINGS
from lrpc.workloads.records.cells import crossing_shares
from lrpc.workloads.records.records import COUNTS, Record
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import placements, plots, scaling
from lrpc.workloads.reports.sections import SHARE, Note, Section, SectionItem, calls_made, merged, warning

MOST_PROCEDURES: Final = 200


def of_records(records: Mapping[str, Record]) -> list[Section]:
    """Return the sections of a report on several records, given by display name."""
    whole = _whole(records)
    sections = [
        *(placements.sections(_briefly(whole)) if placements.are_of_one_trace(whole) else []),
        Section("The records", [_records(records), *_digests(whole)]),
        Section("Calls and latency", [_calls(whole), _latencies(whole)] if whole else []),
        Section("How to run them again", [_commands(records)]),
    ]
    return [section for section in sections if section.parts]


def answer(records: Mapping[str, Record]) -> list[SectionItem]:
    """Return what came out of the complete records: how they differ, in a sentence and pictures."""
    whole = _briefly(_whole(records))
    if len(whole) < 2:
        return []
    if placements.are_of_one_trace(whole):
        return placements.answer(whole)
    return list(scaling.answer(list(whole.values()))) or list(_shares(whole))


def _whole(records: Mapping[str, Record]) -> dict[str, Record]:
    return {name: record for name, record in records.items() if record.status == "complete"}


def _briefly(records: Mapping[str, Record]) -> dict[str, Record]:
    """Return records by the last parts of their paths, as many as keep the names apart."""
    most = max((len(Path(name).parts) for name in records), default=0)
    for parts in range(1, most):
        found = {"/".join(Path(name).parts[-parts:]): record for name, record in records.items()}
        if len(found) == len(records):
            return found
    return dict(records)


def _shares(records: Mapping[str, Record]) -> Iterator[SectionItem]:
    """Yield what crosses machines in each run, and whether the runs differ at all."""
    if len({record.digest for record in records.values()}) == 1:
        yield Note(f"These {len(records)} runs did the same, event by event: their digests are equal.")
    found = {
        name: crossing_shares(record.counts).get("remote/total")
        for name, record in records.items()
        if set(COUNTS) <= set(record.counts)
    }
    shares = {name: share for name, share in found.items() if share is not None}
    if shares:
        least, most = (choose(shares, key=lambda name: shares[name]) for choose in (min, max))
        told = f"From {shares[least]:.2f} % ({least}) to {shares[most]:.2f} % ({most})"
        which = told if least != most else f"{shares[least]:.2f} %"
        yield Note(f"{which} of operations cross machines (remote/total).")
        title = "Operations that cross machines, of all (remote/total)"
        yield plots.rows(title, list(shares), list(shares.values()), "% of operations")


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
    shares = [f"{crosses}_{SHARE}" for crosses in CROSSINGS]
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


def _commands(records: Mapping[str, Record]) -> Table:
    rows = [(name, " ".join(record.command), f"lrpc verify {name}") for name, record in records.items()]
    return Table("commands", "Commands", ("record", "command", "to repeat and compare"), rows)
