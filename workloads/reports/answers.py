"""What came out of a run: the sentences and the picture that its report opens with."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lrpc.workloads.records import tables
from lrpc.workloads.records.cells import Cell, crossing_shares
from lrpc.workloads.records.records import COUNTS, Record
from lrpc.workloads.records.tables import TimePart
from lrpc.workloads.reports import plots
from lrpc.workloads.reports.plots import Plot
from lrpc.workloads.reports.sections import Note, SectionItem, figure_2
from lrpc.workloads.reports.terminal import TITLES, verdict

OF_1989: Final = ", 1989"  # ends the rows of Table I that were not run


def of_record(record: Record) -> list[SectionItem]:
    """Return what came out of a complete run; an incomplete one has no result."""
    if record.status != "complete":
        return []
    if record.trace is not None:
        return list(_replay(record))
    if any(cell.table != "I" for cell in record.cells):
        return list(_reproduction(record))
    return list(_run(record))


def time_parts(runs: Mapping[str, tuple[Sequence[TimePart], int]]) -> Plot | None:
    """Return where the time of traces went, as stacked bars; None if no run has times.

    `runs` has the parts and the number of traces of each run, by name. The first run's recorded
    times come first; a part that is below zero is drawn to the left.
    """
    known = {name: (parts, max(1, traces)) for name, (parts, traces) in runs.items() if parts}
    if not known:
        return None
    (parts, traces), *_ = known.values()
    bars = {"recorded": [(one.part, one.recorded_ns, traces) for one in parts]}
    for name, (parts, traces) in known.items():
        bars[name] = [(one.part, one.simulated_ns, traces) for one in parts]
    us = {name: {part: (ns or 0) / many / 1000 for part, ns, many in found} for name, found in bars.items()}
    names = list(us)
    whole = next(iter(known.values()))[0][-1].part
    kinds = dict.fromkeys(part for found in us.values() for part in found if part != whole)
    stacked = {part: [found.get(part, 0.0) for found in us.values()] for part in kinds}
    shown = {part: values for part, values in stacked.items() if any(values)}
    totals = [found.get(whole, 0.0) for found in us.values()]
    return plots.stacked("Where a trace's time went", names, shown, "µs a trace, mean", totals)


def _replay(record: Record) -> Iterator[SectionItem]:
    trace = record.trace
    assert trace is not None
    between = record.counts.get("cross_domain", 0) + record.counts.get("cross_machine", 0)
    crossed = f"{record.counts.get('cross_machine', 0):,} of {between:,} calls between domains crossed machines"
    if trace.times:
        whole = trace.times[-1]
        recorded, simulated = (
            (ns or 0) / max(1, trace.traces) / 1000 for ns in (whole.recorded_ns, whole.simulated_ns)
        )
        change = f" ({100 * (simulated / recorded - 1):+.1f} %)" if recorded else ""
        took = f"A trace took {recorded:,.1f} µs as recorded and {simulated:,.1f} µs as simulated{change}, on average"
        yield Note(f"{took}; {crossed}.")
    else:
        yield Note(f"{crossed}.")
    picture = time_parts({"simulated": (trace.times, trace.traces)})
    if picture is not None:
        yield picture


def _run(record: Record) -> Iterator[SectionItem]:
    if set(COUNTS) <= set(record.counts) and (shares := crossing_shares(record.counts)):
        done = sum(record.counts[name] for name in COUNTS if name != "within_domain")
        share = shares.get("remote/total", 0.0)
        before = _of_1989(record.cells)
        beside = f"; in 1989: {', '.join(f'{name} {value:g} %' for name, value in before.items())}" if before else ""
        crossed = f"{record.counts['cross_machine']:,} of {done:,} operations crossed machines: {share:.2f} %{beside}"
        yield Note(f"{crossed}.")
    machines = tables.read_machines(record.machines)
    whole = sum(one.summed.busy_us + one.summed.idle_us for one in machines.values())
    if whole:
        locks = sum(one.summed.lock_wait_us for one in machines.values())
        bus = sum(one.summed.bus_wait_us for one in machines.values())
        idle = sum(one.summed.idle_us for one in machines.values())
        parts = {"at work": whole - locks - bus - idle, "waiting for locks": locks, "waiting for the bus": bus}
        parts["idle"] = idle
        said = ", ".join(f"{100 * us / whole:.1f} % {part}" for part, us in parts.items() if us)
        yield Note(f"Processors' time: {said}.")
    own = {cell.row: float(cell.ours) for cell in _shares(record.cells) if not isinstance(cell.ours, str)}
    bars = own | {f"{name}, 1989": value for name, value in _of_1989(record.cells).items()}
    if bars:
        title = "Operations that cross machines, of all"
        yield plots.columns(title, list(bars), list(bars.values()), "", "% of operations")


def _shares(cells: Sequence[Cell]) -> list[Cell]:
    return [cell for cell in cells if cell.table == "I" and cell.column == "remote/total"]


def _of_1989(cells: Sequence[Cell]) -> dict[str, float]:
    return {
        cell.row.removesuffix(OF_1989): float(cell.paper)
        for cell in _shares(cells)
        if cell.paper is not None and not isinstance(cell.paper, str)
    }


def _reproduction(record: Record) -> Iterator[SectionItem]:
    for line in verdict(record.cells):
        yield Note(line.strip().removeprefix("verdict: "))
    four = [cell for cell in record.cells if cell.table == "IV"]
    if four:
        yield _beside(TITLES["IV"], four, "µs a call")
    two = [cell for cell in record.cells if cell.table == "Figure 2" and cell.unit == "calls/s"]
    if two:
        yield figure_2(two)


def _beside(title: str, cells: Sequence[Cell], unit: str) -> Plot:
    """Return ours beside the paper's as grouped bars: a group for each row."""
    rows = list(dict.fromkeys(cell.row for cell in cells))
    groups: dict[str, list[float | None]] = {}
    for at, whose in enumerate(("ours", "the paper's")):
        for cell in cells:
            value = (cell.ours, cell.paper)[at]
            if isinstance(value, int | float):
                groups.setdefault(f"{cell.column}, {whose}", [None] * len(rows))[rows.index(cell.row)] = value
    bars = [(f"{cell.row}, {cell.column}", float(cell.ours)) for cell in cells if not isinstance(cell.ours, str)]
    return plots.grouped(title, rows, groups, unit, bars)
