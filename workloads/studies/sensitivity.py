"""What a sweep's runs say together: how the share of remote calls varies, and what moves it.

The share is Table I's: calls that cross machines over those that cross only a protection boundary,
in percent. The mean has a 95 % confidence interval by Student's t, since a sweep may have few runs.

What moves the share is shown in two ways. For draws, it is the rank correlation with each
parameter: ranks find any effect that only rises or only falls, whether it is linear or not. For
parameters changed one at a time, each run is compared with the run that changes none.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Final

from rich.console import Console

from lrpc.cluster.parameters import ParameterValue
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.reports import page, plots, terminal
from lrpc.workloads.reports.plots import Plot
from lrpc.workloads.reports.sections import Note, Section, SectionItem
from lrpc.workloads.studies.sweep import Row, Sweep, rows, table, write_table

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)
CONFIDENCE: Final = 0.95
MOST_COLUMNS: Final = 16  # a sweep's table with more is not printed
MOST_PLOTS: Final = 12  # plots of single parameters
MOST_BARS: Final = 16  # parameters in a tornado
SEED: Final = "seed"  # moves nothing, though runs differ in it
LEAST_RANKED: Final = 5  # runs that say something about ranks


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


def report(console: Console, done: Sweep, out: Path) -> None:
    """Write a sweep's table and report into its folder; print what fits a terminal."""
    found = rows(done)
    whole = table(done, found)
    made = report_on(done, found, whole)
    page.write(made, out / "report")
    if len(done.runs) <= page.MOST_ROWS and len(whole.columns) <= MOST_COLUMNS:
        terminal.print_table(console, whole)
    for item in (item for section in made.sections[:-1] for item in section.parts if isinstance(item, Table)):
        terminal.print_table(console, item, 15)
    terminal.print_lines(console, [f"table {write_table(whole, out)}", f"report {out / 'report' / page.PAGES[0]}"])


def report_on(sweep: Sweep, rows: Sequence[Row], table: Table) -> page.Report:
    """Return the report on a sweep: what came out, what moves it, and every run.

    `rows` are the results of its runs, `table` the table of them all.
    """
    done = [row for row in rows if row.share is not None]
    paper = next((row.paper for row in done if row.paper is not None), None)
    sections = [
        Section("The share of remote calls", list(_distribution(done, paper))),
        Section("What moves it", list(_influences(sweep, done, paper))),
        Section("Every run", [table]),
    ]
    failed = len(rows) - len(done)
    notes = [Note(f"INCOMPLETE: {failed} of {len(rows)} runs have no result.", warning=True)] if failed else []
    kept = [section for section in sections if section.parts]
    return page.Report(f"Sweep {sweep.name}", notes, kept, list(_answer(sweep, done, paper)))


def _answer(sweep: Sweep, done: Sequence[Row], paper: float | None) -> Iterator[SectionItem]:
    """Yield what came out: the share and its interval, and what moves it, as pictures."""
    beside = "" if paper is None else f"; the paper's is {paper:.3g} %"
    unchanged = next((row.share for row in done if not row.values), None)
    found = spread([row.share for row in done if row.share is not None])
    if sweep.base is not None and unchanged is not None:
        yield Note(f"With no parameter changed, remote calls are {unchanged:.3g} % of local calls{beside}.")
        yield from _tornado(done, unchanged)
        return
    if found is None:
        return
    sure = f"{100 * CONFIDENCE:g} % confidence: {max(0.0, found.low):.3g} to {found.high:.3g} %"
    runs = f"in {found.runs} runs ({sure}), from {found.least:.3g} to {found.most:.3g} %"
    yield Note(f"Remote calls are {found.mean:.3g} % of local calls on average {runs}{beside}.")
    varied = _varied(sweep, done)
    given = [] if sweep.drawn else [name for name in varied if name != SEED]
    yield from (_against(name, done, paper) for name in given[:MOST_PLOTS])
    if not given:
        yield from _cumulative(done, paper)
        ranks = _ranks(varied if sweep.drawn else [], done)
        if ranks:
            names = list(ranks)[:MOST_PLOTS]
            title = "What moves the share: rank correlation with each parameter"
            yield plots.rows(
                title, names, [ranks[name] for name in names], "from -1 (always falls) to 1 (always rises)"
            )


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
        yield Note(f"{order[0]} moves the share furthest: from {least:.3g} to {most:.3g} %.")
        title = "How far each parameter moves the share"
        yield plots.tornado(title, order, [ends[name] for name in order], unchanged, "remote over local calls, %")


def _against(name: str, done: Sequence[Row], paper: float | None) -> Plot:
    """Return the mean share by value of a parameter, with its interval over runs."""
    by_value: dict[float, list[float]] = {}
    for row in done:
        if (value := _number(row, name)) is not None and row.share is not None:
            by_value.setdefault(value, []).append(row.share)
    values = sorted(by_value)
    means = [fmean(by_value[value]) for value in values]
    around = [spread(by_value[value]) for value in values]
    low = [mean if one is None else max(0.0, one.low) for one, mean in zip(around, means, strict=True)]
    high = [mean if one is None else one.high for one, mean in zip(around, means, strict=True)]
    series = [plots.Series(f"mean, with its {100 * CONFIDENCE:g} % interval", values, means, low=low, high=high)]
    if paper is not None:
        series.append(plots.Series("the paper's", [values[0], values[-1]], [paper, paper], form="dashed"))
    bars = [(f"{value:.6g}", mean) for value, mean in zip(values, means, strict=True)]
    columns = [name, "share_percent", "from_percent", "to_percent"]
    table = Table(f"against {name}", f"Against {name}", columns, list(zip(values, means, low, high, strict=True)))
    axes = (name, "remote over local calls, %")
    return plots.curves(f"The share against {name}", series, axes, bars, table, from_zero=False)


def _distribution(done: Sequence[Row], paper: float | None) -> Iterator[SectionItem]:
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
    yield Table("share", "Remote over local calls", ["what", "value"], rows)


def _cumulative(done: Sequence[Row], paper: float | None) -> Iterator[Plot]:
    across = sorted(row.share for row in done if row.share is not None)
    series = [plots.Series("runs", across, [(at + 1) / len(across) for at in range(len(across))])]
    if paper is not None:
        series.append(plots.Series("the paper's", [paper, paper], [0.0, 1.0], form="dashed"))
    values = Table("shares", "Shares in order", ["share_percent"], [[share] for share in across])
    found = spread(across)
    bars = [] if found is None else [(f"quantile {one:g}", value) for one, value in found.quantiles.items()]
    axes = ("remote over local calls, %", "part of the runs")
    yield plots.curves("Runs with at most that share", series, axes, bars, values, steps=True)


def _varied(sweep: Sweep, done: Sequence[Row]) -> list[str]:
    """Return the parameters of which runs have several numbers."""
    return [name for name in sweep.parameters if len({_number(row, name) for row in done} - {None}) > 1]


def _ranks(varied: Sequence[str], done: Sequence[Row]) -> Mapping[str, float]:
    """Return the rank correlation of the share with each parameter, the furthest from 0 first."""
    if len(done) < LEAST_RANKED or not varied:
        return {}
    from scipy.stats import spearmanr

    shares = [row.share for row in done]
    ranks = {name: float(spearmanr([_number(row, name) for row in done], shares).statistic) for name in varied}
    return dict(sorted(ranks.items(), key=lambda one: -abs(one[1])))


def _influences(sweep: Sweep, done: Sequence[Row], paper: float | None) -> Iterator[SectionItem]:
    if sweep.base is not None:
        yield from _one_at_a_time(sweep, sweep.base, done)
        return
    ranks = _ranks(_varied(sweep, done), done)
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
    values = Table(f"by {name}", f"By {name}", [name, "share_percent"], points, named=True)
    axes = (name, "remote over local calls, %")
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
    title = f"One parameter changed at a time; with none changed the share is {share:.4g} %"
    columns = ["parameter", "value", "share_percent", "difference"]
    yield Table("one-at-a-time", title, columns, [[*one, one[2] / share - 1 if share else None] for one in moved])
    for name in sweep.parameters:
        points = sorted((value, found) for one, value, found in moved if one == name and value is not None)
        unchanged = base[name]
        if points and not isinstance(unchanged, str):
            yield _line(name, sorted([*points, (float(unchanged), share)]))


def _line(name: str, points: Sequence[tuple[float, float]]) -> Plot:
    series = [plots.Series(name, [x for x, _ in points], [y for _, y in points])]
    bars = [(f"{x:.6g}", y) for x, y in points]
    values = Table(f"by {name}", f"By {name}", [name, "share_percent"], points, named=True)
    return plots.curves(
        name, series, (name, "remote over local calls, %"), bars, values, text_title=f"{name}: share, %"
    )


def _number(row: Row, name: str) -> float | None:
    value = row.values.get(name)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
