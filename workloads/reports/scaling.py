"""How runs of one workload scale: how much faster more actors are, what a call costs more machines.

A line joins only runs of the same workload with the same value of the other number, since
otherwise it would mix two effects. Beside each speed-up stands what the run on the fewest actors
predicted (see `pace`).
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import plots
from lrpc.workloads.reports.plots import PREDICTED, Series
from lrpc.workloads.reports.sections import Note, SectionItem, calls_made

US: Final = 1e6  # microseconds of a second


def answer(records: Sequence[Record]) -> Iterator[SectionItem]:
    """Yield a sentence and a picture for each of actors and machines that differs between runs."""
    timed = [record for record in records if record.wall_s and calls_made(record)]
    actors, machines = list(_lines(timed, over_actors=True)), list(_lines(timed, over_actors=False))
    yield from (Note(_faster(line, runs)) for line, runs in actors)
    yield from (Note(_dearer(line, runs)) for line, runs in machines)
    if actors:
        yield _speed_ups(actors)
    if machines:
        yield _costs(machines)


def predicted(record: Record) -> Iterator[Note]:
    """Yield a sentence on how much faster more actors would be, or that one was."""
    gathered_s = record.synchronisation.get("gathered_s")
    if gathered_s is not None:
        yield Note(
            f"One actor took over all machines after {gathered_s} s, since keeping {record.actors} in step took much "
            "longer than their machines ran; --actors 0 --links memory has them in one place from the start."
        )
    found = list(_predicted(record).items())[1:]
    if found:
        told = ", ".join(f"{up:.2f} times on {actors}" for actors, up in found)
        yield Note(f"As fast as this run is predicted to be on more actors: {told}.")


Line = tuple[str, list[Record]]


def _lines(records: Sequence[Record], *, over_actors: bool) -> Iterator[Line]:
    """Yield runs that differ in one number alone, in its order, under the name of their line."""
    found: dict[str, list[Record]] = {}
    for record in records:
        beside = f"{len(record.machines)} machines" if over_actors else f"{record.actors or 'no'} actors"
        found.setdefault(f"{record.workload}, {beside}", []).append(record)
    for line, runs in found.items():
        if len({_number(run, over_actors=over_actors) for run in runs}) > 1:
            yield line, sorted(runs, key=lambda run: _number(run, over_actors=over_actors))


def _number(record: Record, *, over_actors: bool) -> int:
    return record.actors or 0 if over_actors else len(record.machines)


def _rate(record: Record) -> float:
    """Return the calls simulated per second of wall time."""
    return calls_made(record) / (record.wall_s or 1.0)


def _predicted(record: Record) -> Mapping[int, float]:
    """Return the speed-ups that a run predicted, by number of actors, beginning with its own."""
    found = record.synchronisation.get("predicted_speedup")
    if not isinstance(found, Mapping):
        return {}
    own = record.actors or 0
    known = {
        int(actors): float(up) for actors, up in found.items() if actors.isdecimal() and isinstance(up, int | float)
    }
    return {own: 1.0, **{actors: up for actors, up in sorted(known.items()) if actors > own}}


def _faster(line: str, runs: Sequence[Record]) -> str:
    base, last = runs[0], runs[-1]
    predicted = _predicted(base).get(last.actors or 0)
    beside = "" if predicted is None else f"; predicted: {predicted:.2f} times"
    on = f"{last.actors or 'no'} actors" if last.actors != 1 else "1 actor"
    against = f"{base.actors or 'none'}"
    return f"{line}: {on} are {_rate(last) / _rate(base):.2f} times as fast as {against}{beside}."


def _dearer(line: str, runs: Sequence[Record]) -> str:
    costs = [
        f"{US / _rate(run):,.1f} µs of wall time with {len(run.machines):,} machines" for run in (runs[0], runs[-1])
    ]
    return f"{line}: a call takes {' and '.join(costs)}."


def _speed_ups(lines: Sequence[Line]) -> plots.Plot:
    rows: list[Sequence[TableValue]] = []
    series: list[Series] = []
    for colour, (line, runs) in enumerate(lines):
        predicted = _predicted(runs[0])
        actors, ups = [run.actors or 0 for run in runs], [_rate(run) / _rate(runs[0]) for run in runs]
        rows += [(line, at, _rate(run), up, predicted.get(at)) for run, at, up in zip(runs, actors, ups, strict=True)]
        series.append(Series(line, actors, ups, colour=colour))
        if len(predicted) > 1:
            told = Series(f"{line}{PREDICTED}", list(predicted), list(predicted.values()), form="dashed", colour=colour)
            series.append(told)
    columns = ("line", "actors", "calls per wall second", "speed-up", "predicted speed-up")
    table = Table("scaling actors", "Speed-up over actors", columns, rows)
    bars = [(f"{row[1]} actors, {row[0]}", float(row[3] or 0)) for row in rows]
    return plots.curves("Speed-up over actors", series, ("actors", "times as fast as the fewest"), bars, table)


def _costs(lines: Sequence[Line]) -> plots.Plot:
    rows: list[Sequence[TableValue]] = []
    series: list[Series] = []
    for line, runs in lines:
        costs = [US / _rate(run) for run in runs]
        rows += [(line, len(run.machines), _rate(run), us) for run, us in zip(runs, costs, strict=True)]
        series.append(Series(line, [len(run.machines) for run in runs], costs))
    columns = ("line", "machines", "calls per wall second", "µs of wall time per call")
    table = Table("scaling machines", "Wall time of a call over machines", columns, rows)
    bars = [(f"{row[1]} machines, {row[0]}", float(row[3] or 0)) for row in rows]
    axes = ("machines", "µs of wall time per call")
    return plots.curves("Wall time of a call over machines", series, axes, bars, table)
