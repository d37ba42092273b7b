"""What placements of one trace come to, beside each other: from the records of their replays."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from lrpc.workloads.records import tables
from lrpc.workloads.records.call_tables import IN_WORDS, LEAVING
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import plots
from lrpc.workloads.reports.answers import MOST_PAIRS, crossed, mean_us, time_parts
from lrpc.workloads.reports.sections import OPERATIONS, Note, Section, SectionItem
from lrpc.workloads.reports.words import PAIR, change, readable, span

PERCENTILES: Final = ("p50_us", "p95_us", "p99_us")
Ends = tuple[str, str]  # domains that call and are called


def are_of_one_trace(records: Mapping[str, Record]) -> bool:
    """Return whether several records are all replays of the same files."""
    read = {tuple(one.digest for one in record.inputs if one.argument == "trace") for record in records.values()}
    return (
        len(records) > 1
        and len(read) == 1
        and read != {()}
        and all(record.trace is not None for record in records.values())
    )


def answer(records: Mapping[str, Record]) -> list[SectionItem]:
    """Return what the placements come to: a sentence, pictures, and the figures beside each other.

    `records` are complete replays of one trace, by display name.
    """
    (first, before), *_, (last, after) = records.items()
    took, takes = (mean_us(record.trace)[1] if record.trace is not None else 0.0 for record in (before, after))
    count = crossed(before).machines
    beside_it = f"as with {first}" if count == crossed(after).machines else f"in place of {count:,} with {first}"
    said = f"With {last}, {crossed(after)}, {beside_it}"
    if took:
        of_time = f"in place of {span(took)} ({change(took, takes)})" if takes != took else f"as with {first}"
        said = f"{said}; a trace takes {span(takes)} {of_time}"
    found: list[SectionItem] = [Note(f"{said}.")]
    if len({record.digest for record in records.values()}) == 1:
        found.append(Note(f"These {len(records)} replays did the same, event by event: their digests are equal."))
    parts = time_parts({name: record.trace for name, record in records.items() if record.trace is not None})
    pairs = _pairs_plot(records)
    found += [plot for plot in (parts, pairs) if plot is not None]
    which = moved(records)
    return [*found, beside(records), which if which.rows else Note("No domain moved.")]


def sections(records: Mapping[str, Record]) -> list[Section]:
    """Return the details: crossings by pair, and times by first operation."""
    return [
        Section("Crossings by pair of domains", [_pairs_table(records)]),
        Section("Times by first operation", [_operations(records)]),
    ]


def beside(records: Mapping[str, Record]) -> Table:
    """Return the placements' figures beside each other, and how the last differs from the first."""
    found = list(records.values())
    calls = [crossed(record) for record in found]
    times = [(0.0, 0.0) if record.trace is None else mean_us(record.trace) for record in found]
    busiest = [
        max((machine.utilisation for machine in tables.read_machines(record.machines).values()), default=0.0)
        for record in found
    ]
    machines: list[float] = [len(set(_machines_of(record).values())) for record in found]
    figures: dict[str, list[float]] = {
        IN_WORDS["cross_machine"]: [one.machines for one in calls],
        f"{IN_WORDS['cross_machine']}, % of {LEAVING}": [
            100 * one.machines / one.leaving if one.leaving else 0.0 for one in calls
        ],
        "mean time of a trace, simulated, µs": [us for _, us in times],
        "mean time of a trace, recorded, µs": [us for us, _ in times],
        "the busiest machine's processors, %": [100 * share for share in busiest],
        "machines with domains": machines,
    }
    rows = [(name, *values, _difference(name, values[0], values[-1])) for name, values in figures.items()]
    return Table("placements", "The placements", ("what", *records, "difference"), rows, named=True)


def _difference(figure: str, before: float, after: float) -> TableValue:
    """Return how a figure differs: as a part of what it was, or in points if it is a percentage."""
    if before == after:
        return None
    if "%" in figure:
        return f"{after - before:+.2f} points"
    return after / before - 1 if before else None


def moved(records: Mapping[str, Record]) -> Table:
    """Return the domains that are not on the same machine everywhere, and their calls that cross.

    Those whose calls cross more seldom come first.
    """
    places = {name: _machines_of(record) for name, record in records.items()}
    crossing = {name: _crossing_of(record) for name, record in records.items()}
    domains = dict.fromkeys(domain for placed in places.values() for domain in placed)
    rows: list[Sequence[TableValue]] = []
    for domain in domains:
        where = [placed.get(domain, "") for placed in places.values()]
        if len(set(where)) > 1:
            rows.append((domain, *where, *(counted[domain] for counted in crossing.values())))
    rows.sort(key=lambda row: int(row[-1] or 0) - int(row[-len(records)] or 0))
    heads = [f"machine, {name}" for name in records] + [f"{IN_WORDS['cross_machine']}, {name}" for name in records]
    return Table("moved", f"Domains that moved: {len(rows)} of {len(domains)}", ("domain", *heads), rows, named=True)


def _machines_of(record: Record) -> dict[str, str]:
    """Return the machine of each domain that called or was called."""
    found: dict[str, str] = {}
    for row in record.calls:
        found |= {row.client_domain: row.client_machine, row.server_domain: row.server_machine}
    found.pop("", None)  # of calls that did not return
    return dict(sorted(found.items()))


def _crossing_of(record: Record) -> Counter[str]:
    """Return how many calls of and to each domain cross machines."""
    found = Counter[str]()
    for row in record.calls:
        if row.crosses == "cross_machine":
            found.update({row.client_domain: row.calls, row.server_domain: row.calls})
    return found


def _by_pair(record: Record, *, crossing: bool) -> Counter[Ends]:
    """Return the calls of each pair of domains: those that cross machines, or all."""
    found = Counter[Ends]()
    for row in record.calls:
        if row.client_domain != row.server_domain and (not crossing or row.crosses == "cross_machine"):
            found[row.client_domain, row.server_domain] += row.calls
    return found


def _pairs_table(records: Mapping[str, Record]) -> Table:
    """Return how many calls of each pair cross machines, those that change most first."""
    counted = [_by_pair(record, crossing=True) for record in records.values()]
    all_calls = _by_pair(next(iter(records.values())), crossing=False)
    pairs = sorted(all_calls, key=lambda pair: (-abs(counted[-1][pair] - counted[0][pair]), -all_calls[pair], pair))
    rows: list[Sequence[TableValue]] = []
    rows += [(*pair, all_calls[pair], *(crossing[pair] for crossing in counted)) for pair in pairs]
    heads = ("caller", "called", "calls", *(f"crossing, {name}" for name in records))
    return Table("pairs", "Calls that cross machines, by pair", heads, rows, named=True)


def _pairs_plot(records: Mapping[str, Record]) -> plots.Plot | None:
    """Return the calls that cross machines, of the pairs with most, before and after."""
    counted = {name: _by_pair(record, crossing=True) for name, record in records.items()}
    most = Counter[Ends]()
    for crossing in counted.values():
        most |= crossing
    pairs = [pair for pair, _ in most.most_common(MOST_PAIRS)]
    if not pairs:
        return None
    names = [PAIR.join(pair) for pair in pairs]
    parts = {name: [float(crossing[pair]) for pair in pairs] for name, crossing in counted.items()}
    return plots.stacked("Calls that cross machines, by pair", names, parts, "calls", None)


def _operations(records: Mapping[str, Record]) -> Table:
    """Return percentiles of traces' times by first operation: recorded, and of each placement."""
    ranks = [readable(name) for name in PERCENTILES]
    heads = [f"recorded {rank}" for rank in ranks]
    heads += [f"{name} {rank}" for rank in ranks for name in records]
    found: dict[tuple[TableValue, TableValue], list[dict[str, TableValue]]] = {}
    for record in records.values():
        for row in _rows(record):
            found.setdefault((row.get("service"), row.get("operation")), []).append(row)
    rows: list[Sequence[TableValue]] = []
    for key, each in found.items():
        if len(each) == len(records):
            recorded = (each[0].get(f"recorded_{name}") for name in PERCENTILES)
            simulated = (one.get(f"simulated_{name}") for name in PERCENTILES for one in each)
            rows.append((*key, each[0].get("traces"), *recorded, *simulated))
    title = "Times of traces by first operation"
    return Table("operations", title, ("service", "operation", "traces", *heads), rows, named=True)


def _rows(record: Record) -> list[dict[str, TableValue]]:
    more = () if record.trace is None else record.trace.more
    return [
        dict(zip(table.columns, row, strict=False)) for table in more if table.name == OPERATIONS for row in table.rows
    ]
