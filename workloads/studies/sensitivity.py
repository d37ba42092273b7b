"""What a sweep's runs say together: how the share of cross-machine calls varies, and what moves it.

The share is Table I's: calls that cross machines over those that cross only a protection boundary,
in percent. A mean, with its 95 % confidence interval by Student's t since a sweep may have few
runs, stands only for runs that are samples of one thing: draws from ranges, or runs that differ in
their seeds alone. Over values that somebody chose a mean would say only what was chosen.

What moves the share is shown in three ways. For draws, it is the rank correlation with each
parameter: ranks find any effect that only rises or only falls, whether it is linear or not. For
combinations of values, it is a curve against each parameter, the others held. For parameters
changed one at a time, each run is compared with the run that changes none.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

from rich.console import Console

from lrpc.cluster.parameters import ParameterValue
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import page, plots, terminal
from lrpc.workloads.reports.plots import Plot
from lrpc.workloads.reports.sections import Note, Section, SectionItem
from lrpc.workloads.reports.words import number
from lrpc.workloads.studies.sweep import SHARES, Row, Sweep, rows, table, write_table

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
CONFIDENCE: Final = 0.95
MOST_COLUMNS: Final = 16  # a sweep's table with more is not printed
MOST_PLOTS: Final = 12  # plots of single parameters
MOST_BARS: Final = 16  # parameters in a tornado
SEED: Final = "seed"  # moves nothing, though runs differ in it
LEAST_RANKED: Final = 5  # runs that say something about ranks
MOST_CURVES: Final = 6  # against one parameter, each for values of the others
SHARE: Final = SHARES["remote/local"]  # the column of the share, in percent
LOCAL: Final = "traps and cross-domain calls"  # Table I's local operations
OF_LOCAL: Final = f"% of {LOCAL} (remote/local)"
AXIS: Final = "remote/local, in % of local operations"  # short enough for an axis
Alike = tuple[tuple[str, object], ...]  # what runs have in common, by parameter


@dataclass(frozen=True)
class Spread:
    """How a share, in percent, is distributed over runs.

    `low` and `high` bound the mean with 95 % confidence. `quantiles` are by their part of the runs,
    from 0 to 1.
    """

    runs: int
    mean: float
    deviation: float
    low: float
    high: float
    quantiles: Mapping[float, float]
    least: float
    most: float


def spread(shares: Sequence[float]) -> Spread | None:
    """Return how shares, in percent, are distributed; None if there are fewer than two."""
    if len(shares) < 2:
        return None
    import numpy
    from scipy.stats import t  # slow to import, and only this needs it

    mean, deviation = fmean(shares), stdev(shares)
    half = float(t.ppf((1 + CONFIDENCE) / 2, len(shares) - 1)) * deviation / math.sqrt(len(shares))
    found = {one: float(numpy.quantile(list(shares), one)) for one in QUANTILES}
    return Spread(len(shares), mean, deviation, mean - half, mean + half, found, min(shares), max(shares))


def report(console: Console | None, done: Sweep, out: Path, *, parquet: bool = False) -> Table:
    """Write a sweep's table and report into its folder, and return the table.

    What fits a terminal is printed on `console`, if there is one. With `parquet` the report's
    tables are written as Parquet too.
    """
    found = rows(done)
    whole = table(done, found)
    made = report_on(done, found, whole)
    page.write(made, out / "report", parquet=parquet)
    file = write_table(whole, out)
    if console is None:
        return whole
    if len(done.runs) <= page.MOST_ROWS and len(whole.columns) <= MOST_COLUMNS:
        terminal.print_table(console, _without_digests(whole))
    for item in (item for section in made.sections[:-1] for item in section.parts if isinstance(item, Table)):
        terminal.print_table(console, item, 15)
    said = [part.text for part in made.answer if isinstance(part, Note)]
    terminal.print_lines(console, [f"table {file}", f"report {out / 'report' / page.PAGES[0]}", *said])
    return whole


def _without_digests(whole: Table) -> Table:
    """Return a sweep's table as a terminal shows it: its file has the digests too."""
    kept = [at for at, column in enumerate(whole.columns) if column != "digest"]
    rows = [[row[at] for at in kept] for row in whole.rows]
    return replace(whole, columns=[whole.columns[at] for at in kept], rows=rows)


def report_on(sweep: Sweep, rows: Sequence[Row], table: Table) -> page.Report:
    """Return the report on a sweep: what came out, what moves it, and every run.

    `rows` are the results of its runs, `table` the table of them all.
    """
    done = [row for row in rows if row.share is not None]
    paper = next((row.paper for row in done if row.paper is not None), None)
    sections = [
        Section("The share of cross-machine calls", list(_distribution(sweep, done, paper))),
        Section("What moves it", list(_influences(sweep, done, paper))),
        Section("Every run", [table]),
    ]
    failed = len(rows) - len(done)
    notes = [Note(f"INCOMPLETE: {failed} of {len(rows)} runs have no result.", warning=True)] if failed else []
    kept = [section for section in sections if section.parts]
    return page.Report(f"Sweep {sweep.name}", notes, kept, list(_answer(sweep, done, paper)))


def _answer(sweep: Sweep, done: Sequence[Row], paper: float | None) -> Iterator[SectionItem]:
    """Yield what came out: the share and its interval, and what moves it, as pictures."""
    beside = "" if paper is None else f"; the paper's is {number(paper)} %"
    unchanged = next((row.share for row in done if not row.values), None)
    if sweep.base is not None and unchanged is not None:
        yield Note(f"With no parameter changed, cross-machine calls are {number(unchanged)} {OF_LOCAL}{beside}.")
        yield from _tornado(done, unchanged)
        return
    groups = _samples(sweep, done)
    if not groups:
        yield Note(f"No run has a share: none that is complete has {LOCAL.replace(' and ', ' or ')}.")
    if len(groups) > 1:
        shares = [share for found in groups.values() for share in found]
        combined = f"over {len(groups)} combinations of values"
        between = f"{number(min(shares))} to {number(max(shares))} {OF_LOCAL} {combined}"
        yield Note(f"Cross-machine calls are {between}{beside}.")
        yield from (_against(name, groups, paper) for name in _varied(sweep, done)[:MOST_PLOTS])
        return
    found = spread([row.share for row in done if row.share is not None])
    if found is None:
        return
    sure = f"{100 * CONFIDENCE:g} % confidence: {number(max(0.0, found.low))} to {number(found.high)} %"
    runs = f"in {found.runs} runs ({sure}), from {number(found.least)} to {number(found.most)} %"
    yield Note(f"Cross-machine calls are {number(found.mean)} {OF_LOCAL} on average {runs}{beside}.")
    yield from _cumulative(done, paper)
    if ranks := _ranks(sweep, done):
        names = list(ranks)[:MOST_PLOTS]
        title = "What moves remote/local: rank correlation with each parameter"
        yield plots.rows(title, names, [ranks[name] for name in names], "from -1 (always falls) to 1 (always rises)")


def _samples(sweep: Sweep, done: Sequence[Row]) -> dict[Alike, list[float]]:
    """Return the shares of runs that are samples of one thing, by what they have in common."""
    found: dict[Alike, list[float]] = {}
    for row in done:
        alike = () if sweep.drawn else tuple((name, value) for name, value in row.values.items() if name != SEED)
        if row.share is not None:
            found.setdefault(alike, []).append(row.share)
    return found


def _tornado(done: Sequence[Row], unchanged: float) -> Iterator[SectionItem]:
    """Yield how far each parameter moves the share, and which moves it furthest."""
    moved: dict[str, list[tuple[float, float]]] = {}
    for row in done:
        for name in row.values:
            if (value := _number(row, name)) is not None and row.share is not None:
                moved.setdefault(name, []).append((value, row.share))
    ends = {name: (min(found)[1], max(found)[1]) for name, found in moved.items()}
    order = sorted(ends, key=lambda name: -max(abs(share - unchanged) for share in ends[name]))[:MOST_BARS]
    if order:
        least, most = sorted(ends[order[0]])
        yield Note(f"{order[0]} moves that share furthest: from {number(least)} to {number(most)} %.")
        title = "How far each parameter moves remote/local"
        yield plots.tornado(title, order, [ends[name] for name in order], unchanged, AXIS)


def _against(name: str, groups: Mapping[Alike, Sequence[float]], paper: float | None) -> Plot:
    """Return the share by value of a parameter: a curve for each combination of the others' values.

    A point is the mean over runs that differ in their seeds alone, with its interval.
    """
    curves: dict[Alike, list[tuple[float, float, float, float]]] = {}
    for values, shares in groups.items():
        own = dict(values).get(name)
        if isinstance(own, int | float) and not isinstance(own, bool):
            mean, around = fmean(shares), spread(shares)
            low, high = (mean, mean) if around is None else (max(0.0, around.low), around.high)
            curves.setdefault(tuple(one for one in values if one[0] != name), []).append((float(own), mean, low, high))
    series: list[plots.Series] = []
    rows: list[tuple[str, float, float, float, float]] = []
    for others, points in curves.items():
        with_ = ", ".join(f"{_plain(one)} {_short(value)}" for one, value in others) or "remote/local"
        at, means, lows, highs = ([*column] for column in zip(*sorted(points), strict=True))
        rows += [(with_, *point) for point in sorted(points)]
        if len(series) < MOST_CURVES:
            series.append(plots.Series(with_, at, means, low=lows, high=highs))
    if paper is not None:
        ends = [min(row[1] for row in rows), max(row[1] for row in rows)]
        series.append(plots.Series("the paper's", ends, [paper, paper], form="dashed"))
    bars = [(f"{value:.6g}" if len(curves) == 1 else f"{value:.6g}, {with_}", mean) for with_, value, mean, *_ in rows]
    columns = ["with", name, SHARE, "from_percent", "to_percent"]
    table = Table(f"against {name}", f"Against {name}", columns, rows)
    axes = (_plain(name), AXIS)
    return plots.curves(f"remote/local against {_plain(name)}", series, axes, bars, table, from_zero=False)


def _plain(name: str) -> str:
    """Return a parameter's name as scenarios have it, from its place in one."""
    return name.removeprefix("parameters.").removesuffix(".value")


def _short(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _distribution(sweep: Sweep, done: Sequence[Row], paper: float | None) -> Iterator[SectionItem]:
    share = f"The share is Table I's remote/local: cross-machine calls in percent of {LOCAL}"
    yield Note(f"{share}. Within-domain calls do not count.")
    groups = _samples(sweep, done)
    if len(groups) > 1:
        if any(len(shares) > 1 for shares in groups.values()):
            yield _by_values(groups)
        return
    shares = [row.share for row in done if row.share is not None]
    found = spread(shares)
    if found is None:
        return
    rows: list[tuple[str, TableValue]] = [
        ("runs", found.runs),
        ("mean, %", found.mean),
        ("standard deviation, %", found.deviation),
        (f"mean, {CONFIDENCE:.0%} confidence, from, %", found.low),
        (f"mean, {CONFIDENCE:.0%} confidence, to, %", found.high),
        ("least, %", found.least),
        *((f"quantile {one:g}, %", value) for one, value in found.quantiles.items()),
        ("most, %", found.most),
    ]
    if paper is not None:
        rows += [("the paper's, %", paper), ("runs below the paper's", sum(share < paper for share in shares))]
    yield Table("share", "Cross-machine calls beside local operations", ["what", "value"], rows)


def _by_values(groups: Mapping[Alike, Sequence[float]]) -> Table:
    """Return the share over seeds for each combination of values."""
    names = list(dict.fromkeys(name for values in groups for name, _ in values))
    rows: list[Sequence[TableValue]] = []
    for values, shares in groups.items():
        found, own = spread(shares), dict(values)
        about = (None, None, None) if found is None else (found.deviation, found.low, found.high)
        rows.append(
            [*(_short(own[name]) if name in own else None for name in names), len(shares), fmean(shares), *about]
        )
    columns = [*names, "seeds", "mean, %", "standard deviation, %", "from, %", "to, %"]
    title = f"{AXIS}, and the mean's {100 * CONFIDENCE:g} % confidence interval over seeds"
    return Table("share", title, columns, rows, named=True)


def _cumulative(done: Sequence[Row], paper: float | None) -> Iterator[Plot]:
    across = sorted(row.share for row in done if row.share is not None)
    series = [plots.Series("runs", across, [(at + 1) / len(across) for at in range(len(across))])]
    if paper is not None:
        series.append(plots.Series("the paper's", [paper, paper], [0.0, 1.0], form="dashed"))
    values = Table("shares", "Shares in order", [SHARE], [[share] for share in across])
    found = spread(across)
    bars = [] if found is None else [(f"quantile {one:g}", value) for one, value in found.quantiles.items()]
    axes = (AXIS, "part of the runs")
    yield plots.curves("Runs with at most that remote/local", series, axes, bars, values, steps=True)


def _varied(sweep: Sweep, done: Sequence[Row]) -> list[str]:
    """Return the parameters of which runs have several numbers; the seed is none."""
    found = (name for name in sweep.parameters if name != SEED)
    return [name for name in found if len({_number(row, name) for row in done} - {None}) > 1]


def _ranks(sweep: Sweep, done: Sequence[Row]) -> Mapping[str, float]:
    """Return the rank correlation of draws' share with each parameter, the furthest first."""
    varied = _varied(sweep, done)
    if not sweep.drawn or len(done) < LEAST_RANKED or not varied:
        return {}
    from scipy.stats import spearmanr

    shares = [row.share for row in done]
    ranks = {name: float(spearmanr([_number(row, name) for row in done], shares).statistic) for name in varied}
    return dict(sorted(ranks.items(), key=lambda one: -abs(one[1])))


def _influences(sweep: Sweep, done: Sequence[Row], paper: float | None) -> Iterator[SectionItem]:
    if sweep.base is not None:
        yield from _one_at_a_time(sweep, sweep.base, done)
        return
    ranks = _ranks(sweep, done)
    if not ranks:
        return
    meaning = "1 if the share always rises with the parameter, -1 if it always falls, near 0 if it does neither"
    yield Note(f"Rank correlation: {meaning}.")
    columns = ["parameter", "rank_correlation"]
    rounded: list[Sequence[TableValue]] = [[name, round(rank, 3)] for name, rank in ranks.items()]
    yield Table("influences", "What goes with the share", columns, rounded)
    for name in list(ranks)[:MOST_PLOTS]:
        points = sorted((float(_number(row, name) or 0), float(row.share or 0)) for row in done)
        yield _scatter(name, points, paper)


def _scatter(name: str, points: Sequence[tuple[float, float]], paper: float | None) -> Plot:
    """Return a plot of the share against one parameter.

    The bars of text show the mean share of each quarter of the runs, in order of the parameter.
    """
    series = [plots.Series("runs", [x for x, _ in points], [y for _, y in points], form="points")]
    if paper is not None:
        series.append(plots.Series("the paper's", [points[0][0], points[-1][0]], [paper, paper], form="dashed"))
    cut = [points[len(points) * at // 4 : len(points) * (at + 1) // 4] for at in range(4)]
    bars = [(f"{part[0][0]:.4g} to {part[-1][0]:.4g}", fmean(y for _, y in part)) for part in cut if part]
    values = Table(f"by {name}", f"By {name}", [name, SHARE], points, named=True)
    axes = (name, AXIS)
    return plots.curves(f"{name}", series, axes, bars, values, text_title=f"{name}: mean share, %")


def _one_at_a_time(sweep: Sweep, base: Mapping[str, ParameterValue], done: Sequence[Row]) -> Iterator[SectionItem]:
    """Yield what changing each parameter does to the share, and a plot for each.

    The table begins with the change that moves the share furthest.
    """
    yield from map(Note, sweep.left_out)
    share = next((row.share for row in done if not row.values), None)
    if share is None:
        return
    moved = [(name, _number(row, name), row.share) for row in done if row.share is not None for name in row.values]
    moved.sort(key=lambda one: -abs(one[2] - share))
    title = f"One parameter changed at a time; with none changed the share is {number(share)} %"
    columns = ["parameter", "value", SHARE, "difference"]
    yield Table("one-at-a-time", title, columns, [[*one, one[2] / share - 1 if share else None] for one in moved])
    for name in sweep.parameters:
        points = sorted((value, found) for one, value, found in moved if one == name and value is not None)
        unchanged = base[name]
        if points and not isinstance(unchanged, str):
            yield _line(name, sorted([*points, (float(unchanged), share)]))


def _line(name: str, points: Sequence[tuple[float, float]]) -> Plot:
    series = [plots.Series(name, [x for x, _ in points], [y for _, y in points])]
    bars = [(f"{x:.6g}", y) for x, y in points]
    values = Table(f"by {name}", f"By {name}", [name, SHARE], points, named=True)
    return plots.curves(name, series, (name, AXIS), bars, values, text_title=f"{name}: share, %")


def _number(row: Row, name: str) -> float | None:
    value = row.values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
