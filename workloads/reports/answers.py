"""What came out of a run: the sentence and the pictures that its report opens with."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.workloads.records import tables
from lrpc.workloads.records.call_tables import LEAVING
from lrpc.workloads.records.cells import Cell, crossing_shares, standings
from lrpc.workloads.records.records import COUNTS, Record, TraceAccounts
from lrpc.workloads.records.tables import Table
from lrpc.workloads.reports import plots, scaling
from lrpc.workloads.reports.grids import MARKS, MEANINGS, title_of
from lrpc.workloads.reports.plots import OURS, PAPERS, Plot
from lrpc.workloads.reports.sections import OPERATIONS, Note, SectionItem, figure_2, is_plain_run, processors
from lrpc.workloads.reports.words import change, percent, span, time_unit
from lrpc.workloads.reproduction.paper import TABLE_I

MOST_PAIRS: Final = 8  # pairs of domains in a picture
NEGLIGIBLE: Final = 1e-4  # of the longest bar: a part that nobody would see


@dataclass(frozen=True)
class Crossed:
    """How many of the calls that leave their domain cross machines."""

    leaving: int
    machines: int

    def __str__(self) -> str:
        """Return it as a clause."""
        share = f" ({percent(self.machines, self.leaving)})" if self.leaving else ""
        return f"{self.machines:,} of {self.leaving:,} {LEAVING} cross machines{share}"


def of_record(record: Record) -> list[SectionItem]:
    """Return what came out of a complete run; an incomplete one has no result."""
    if record.status != "complete":
        return []
    if record.trace is not None:
        return list(_replay(record, record.trace))
    return list(_run(record) if is_plain_run(record) else _reproduction(record.cells))


def told(record: Record) -> list[str]:
    """Return the sentences that say what came out of a run or a replay."""
    is_one = record.trace is not None or is_plain_run(record)
    return [part.text for part in of_record(record) if isinstance(part, Note)] if is_one else []


def crossed(record: Record) -> Crossed:
    """Return how many of a record's calls that leave their domain cross machines."""
    machines = record.counts.get("cross_machine", 0)
    return Crossed(record.counts.get("cross_domain", 0) + machines, machines)


def mean_us(accounts: TraceAccounts) -> tuple[float, float]:
    """Return the mean time of a trace, recorded and simulated, in us; 0 where it is not known."""
    if not accounts.times:
        return 0.0, 0.0
    whole, traces = accounts.times[-1], max(1, accounts.traces)
    return (whole.recorded_ns or 0) / traces / 1000, (whole.simulated_ns or 0) / traces / 1000


def time_parts(runs: Mapping[str, TraceAccounts]) -> Plot | None:
    """Return where the time of traces went, as stacked bars; None if no run has times.

    The first run's recorded times come first; a part that is below zero is drawn to the left.
    """
    known = {name: one for name, one in runs.items() if one.times}
    if not known:
        return None
    first = next(iter(known.values()))
    bars = {"recorded": _us(first, "recorded_ns")}
    bars |= {name: _us(one, "simulated_ns") for name, one in known.items()}
    whole = first.times[-1].part
    totals = [bar.get(whole, 0.0) for bar in bars.values()]
    longest = max(totals, default=0.0)
    scale, unit = time_unit(longest)
    kinds = dict.fromkeys(part for bar in bars.values() for part in bar if part != whole)
    stacked = {part: [bar.get(part, 0.0) / scale for bar in bars.values()] for part in kinds}
    seen = {part: us for part, us in stacked.items() if max(map(abs, us)) * scale > NEGLIGIBLE * longest}
    title = f"Where a trace's time went, {unit} a trace"
    return plots.stacked(title, list(bars), seen, f"{unit} a trace, mean", [us / scale for us in totals])


def _us(accounts: TraceAccounts, which: str) -> dict[str, float]:
    """Return the parts of a trace's mean time, in us."""
    found: dict[str, float] = {}
    for one in accounts.times:
        ns = one.recorded_ns if which == "recorded_ns" else one.simulated_ns
        found[one.part] = (ns or 0) / max(1, accounts.traces) / 1000
    return found


def _replay(record: Record, accounts: TraceAccounts) -> Iterator[SectionItem]:
    recorded, simulated = mean_us(accounts)
    took = ""
    if accounts.times:
        beside = change(recorded, simulated)
        against = f", against {span(recorded)} recorded ({beside})" if beside else ""
        took = f"A trace takes {span(simulated)} on average{against}; "
    yield Note(f"{took}{crossed(record)}.")
    picture = time_parts({"simulated": accounts})
    if picture is not None:
        yield picture
    found = {table.name: table for table in accounts.more}
    if "gaps" in found and (pairs := _costliest(found["gaps"], max(1, accounts.traces))):
        yield pairs
    if OPERATIONS in found:
        yield found[OPERATIONS]


def _costliest(gaps: Table, traces: int) -> Plot | None:
    """Return the pairs of domains whose calls took most beside computation, as recorded."""
    if not {"caller", "callee", "total_us"} <= set(gaps.columns):
        return None
    caller, callee, total = (list(gaps.columns).index(name) for name in ("caller", "callee", "total_us"))
    pairs = [
        (f"{row[caller]} → {row[callee]}", float(us) / traces)
        for row in gaps.rows[:MOST_PAIRS]
        if isinstance(us := row[total], int | float)
    ]
    if not pairs:
        return None
    scale, unit = time_unit(max(us for _, us in pairs))
    title = "The costliest pairs: network gaps of their calls, as recorded"
    return plots.rows(title, [name for name, _ in pairs], [us / scale for _, us in pairs], f"{unit} a trace, mean")


def _run(record: Record) -> Iterator[SectionItem]:
    if set(COUNTS) <= set(record.counts) and (shares := crossing_shares(record.counts)):
        done = sum(record.counts[name] for name in COUNTS if name != "within_domain")
        share = shares["remote/total"]
        papers = {name: columns["remote/total"] for name, columns in TABLE_I.items()}
        own = next((cell.row for cell in record.cells if cell.row in papers), record.workload)
        beside = ", ".join(f"{value:g} % on {name}" for name, value in papers.items())
        machines = record.counts["cross_machine"]
        yield Note(
            f"{share:.2f} % of operations cross machines (remote/total): {machines:,} of {done:,}; in 1989, {beside}."
        )
        yield from _time_of(record)
        yield from scaling.predicted(record)
        bars = {own: share} | {f"{name}, 1989": value for name, value in papers.items()}
        title = "Operations that cross machines, of all (remote/total)"
        yield plots.rows(title, list(bars), list(bars.values()), "% of operations")
    yield from processors(record)


def _time_of(record: Record) -> Iterator[Note]:
    """Yield a sentence on what the processors' time went to."""
    machines = tables.read_machines(record.machines)
    whole = sum(one.summed.busy_us + one.summed.idle_us for one in machines.values())
    if whole:
        locks = sum(one.summed.lock_wait_us for one in machines.values())
        bus = sum(one.summed.bus_wait_us for one in machines.values())
        idle = sum(one.summed.idle_us for one in machines.values())
        parts = {"work": whole - locks - bus - idle, "waiting for locks": locks, "waiting for the bus": bus}
        parts["idling"] = idle
        said = ", ".join(f"{percent(us, whole)} to {part}" for part, us in parts.items() if us / whole >= NEGLIGIBLE)
        yield Note(f"Processors' time went {said}.")


def _reproduction(cells: Sequence[Cell]) -> Iterator[SectionItem]:
    found = standings(cells)[::-1]
    yield from (Note(f"{one}.") for one in found[:1])
    for one in found:
        beside = "" if one is found[0] else f" {one}."
        yield Note(f"{MARKS[one.kind]} {one.figures} {one.kind}: {MEANINGS[one.kind]}.{beside}")
    other = [cell for cell in cells if cell.differs_in_text]
    if other:
        yield Note(f"{len(other)} texts differ from the paper's, the first in {other[0].place}.")
    four = [cell for cell in cells if cell.table == "IV"]
    if four:
        yield _beside(title_of("IV"), four, "µs a call")
    two = [cell for cell in cells if cell.table == "Figure 2" and cell.unit == "calls/s"]
    if two:
        yield figure_2(two)


def _beside(title: str, cells: Sequence[Cell], unit: str) -> Plot:
    """Return ours beside the paper's as grouped bars: a group for each row."""
    rows = list(dict.fromkeys(cell.row for cell in cells))
    groups: dict[str, list[float | None]] = {}
    for column in dict.fromkeys(cell.column for cell in cells):
        for whose, at in ((OURS, 0), (PAPERS, 1)):
            for cell in cells:
                value = (cell.ours, cell.paper)[at]
                if cell.column == column and isinstance(value, int | float):
                    groups.setdefault(f"{column}{whose}", [None] * len(rows))[rows.index(cell.row)] = value
    return plots.grouped(title, rows, groups, unit)
