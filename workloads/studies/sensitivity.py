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
    sections = of_sweep(done, found, whole)
    page.write(page.Report(f"Sweep {done.name}", [], sections), out / "report")
    if len(done.runs) <= page.MOST_ROWS and len(whole.columns) <= MOST_COLUMNS:
        terminal.print_table(console, whole)
    for item in (item for section in sections[:-1] for item in section.parts if isinstance(item, Table)):
        terminal.print_table(console, item, 15)
    terminal.print_lines(console, [f"table {write_table(whole, out)}", f"report {out / 'report' / page.PAGES[0]}"])


def of_sweep(sweep: Sweep, rows: Sequence[Row], table: Table) -> list[Section]:
    """Return the sections of a report on a sweep.

    `rows` are the results of its runs, `table` the table of them all.
    """
    done = [row for row in rows if row.share is not None]
    paper = next((row.paper for row in done if row.paper is not None), None)
    sections = [
        Section("The share of remote calls", list(_distribution(done, paper))),
        Section("What moves it", list(_influences(sweep, done, paper))),
        Section("Every run", [table]),
    ]
    return [section for section in sections if section.parts]


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
    across = sorted(shares)
    series = [plots.Series("runs", across, [(at + 1) / len(across) for at in range(len(across))])]
    if paper is not None:
        series.append(plots.Series("the paper's", [paper, paper], [0.0, 1.0]))
    values = Table("shares", "Shares in order", ["share_percent"], [[share] for share in across])
    bars = [(f"quantile {one:g}", value) for one, value in found.quantiles.items()]
    yield plots.curves(
        "Runs with at most that share", series, ("remote over local calls, %", "runs"), bars, values, steps=True
    )


def _influences(sweep: Sweep, done: Sequence[Row], paper: float | None) -> Iterator[SectionItem]:
    if sweep.base is not None:
        yield from _one_at_a_time(sweep, sweep.base, done)
        return
    varied = [name for name in sweep.parameters if len({_number(row, name) for row in done} - {None}) > 1]
    if len(done) < 5 or not varied:
        return
    from scipy.stats import spearmanr

    shares = [row.share for row in done]
    ranks = {name: float(spearmanr([_number(row, name) for row in done], shares).statistic) for name in varied}
    order = sorted(varied, key=lambda name: -abs(ranks[name]))
    meaning = "1 if the share always rises with the parameter, -1 if it always falls, near 0 if it does neither"
    yield Note(f"Rank correlation: {meaning}.")
    columns = ["parameter", "rank_correlation"]
    yield Table("influences", "What goes with the share", columns, [[name, round(ranks[name], 3)] for name in order])
    for name in order[:MOST_PLOTS]:
        points = sorted((float(_number(row, name) or 0), float(row.share or 0)) for row in done)
        yield _scatter(name, points, paper)


def _scatter(name: str, points: Sequence[tuple[float, float]], paper: float | None) -> Plot:
    """Return a plot of the share against one parameter.

    The bars of text show the mean share of each quarter of the runs, in order of the parameter.
    """
    series = [plots.Series("runs", [x for x, _ in points], [y for _, y in points])]
    if paper is not None:
        series.append(plots.Series("the paper's", [points[0][0], points[-1][0]], [paper, paper]))
    cut = [points[len(points) * at // 4 : len(points) * (at + 1) // 4] for at in range(4)]
    bars = [(f"{part[0][0]:.4g} to {part[-1][0]:.4g}", fmean(y for _, y in part)) for part in cut if part]
    values = Table(f"by {name}", f"By {name}", [name, "share_percent"], points, named=True)
    axes = (name, "remote over local calls, %")
    return plots.curves(f"{name}", series, axes, bars, values, dots=True, text_title=f"{name}: mean share, %")


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
