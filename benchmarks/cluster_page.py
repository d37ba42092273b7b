"""The page of what a simulated cluster costs: speed-ups beside predictions, and costs of calls.

    python -m benchmarks.cluster_page results.json --out FOLDER

makes it from the results that `python -m benchmarks.cluster` prints.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lrpc.workloads.records.tables import Table
from lrpc.workloads.reports import page, plots
from lrpc.workloads.reports.page import Report
from lrpc.workloads.reports.plots import PREDICTED, Form, Plot, Series
from lrpc.workloads.reports.sections import Note, Section, SectionItem, flatten
from lrpc.workloads.reports.words import readable

Results = Mapping[str, Any]  # of a case, as it was printed
Line = tuple[str, Mapping[int, float], Mapping[int, float]]  # its name; measured, predicted, by number
CASES: Final = ("machines", "actors", "clients", "waiting", "hour", "day", "memory")
MEASURED: Final = ", measured"


def report(results: Results) -> Report:
    """Return the report on the results of `benchmarks.cluster`, of whichever cases were run."""
    parts = [*_actors(results.get("actors", {})), *_machines(results.get("machines", {}))]
    parts += _clients(results.get("clients", {}))
    notes = [part for part in parts if isinstance(part, Note)]
    pictures = [part for part in parts if isinstance(part, Plot)]
    sections = [Section(name, [_all(name, results[name])]) for name in CASES if name in results]
    about = {name: value for name, value in results.items() if name not in CASES}
    return Report(
        "What a simulated cluster costs",
        [],
        [*sections, Section("This run", [_all("run", about)])],
        [*notes, *pictures],
    )


def _actors(found: Results) -> Iterator[SectionItem]:
    """Yield how much faster more actors are, and what a call costs on them, beside predictions."""
    clusters = {name: one for name, one in found.items() if isinstance(one, Mapping)}
    if not clusters:
        return
    ups, costs = [], []
    for name, one in clusters.items():
        measured, predicted, us = (_by_number(one[key]) for key in ("speedup", "predicted_speedup", "us_per_call"))
        first, most = min(measured), max(measured)
        predicted = {first: 1.0, **predicted}
        told = f" (predicted: {predicted[most]:.2f} times)" if most in predicted else ""
        yield Note(f"{name}: {most} actors are {measured[most]:.2f} times as fast as {first}{told}.")
        ups.append((name, measured, predicted))
        costs.append((name, us, {actors: us[first] / up for actors, up in predicted.items()}))
    yield _curves("Speed-up over actors", ("actors", "times as fast as one"), ups)
    yield _curves("Wall time of a call over actors", ("actors", "µs of wall time per call"), costs)


def _machines(found: Results) -> Iterator[SectionItem]:
    """Yield what a call costs on few machines and on many, beside what those on few foretell."""
    costs = _by_number(found.get("us_per_call", {}))
    if not costs:
        return
    each = ", ".join(f"{us:,.1f} µs with {machines:,}" for machines, us in costs.items())
    memory = f"a machine takes {found['memory_KiB_per_machine']:,.0f} KiB"
    yield Note(f"Wall time of a call by number of machines: {each}; {memory}.")
    # A call's path has no step that depends on how many machines there are.
    predicted = dict.fromkeys(costs, costs[min(costs)])
    axes = ("machines", "µs of wall time per call")
    yield _curves("Wall time of a call over machines", axes, [("ring", costs, predicted)], logarithmic=True)


def _by_number(found: Mapping[str, float]) -> dict[int, float]:
    """Return values by the numbers that their names are, in order."""
    return {int(name): float(value) for name, value in sorted(found.items(), key=lambda one: int(one[0]))}


def _curves(title: str, axes: tuple[str, str], lines: Sequence[Line], *, logarithmic: bool = False) -> Plot:
    """Return what was measured as points on a line, and what was predicted dashed beside it."""
    series: list[Series] = []
    rows: list[tuple[str, int, float | None, float | None]] = []
    bars: list[tuple[str, float]] = []
    for colour, (name, measured, predicted) in enumerate(lines):
        sides: tuple[tuple[str, Mapping[int, float], Form], ...] = (
            (MEASURED, measured, "line"),
            (PREDICTED, predicted, "dashed"),
        )
        for suffix, values, form in sides:
            series.append(Series(f"{name}{suffix}", list(values), list(values.values()), form, colour))
            bars += [(f"{name}{suffix}, {axes[0]}: {at:,}", value) for at, value in values.items()]
        numbers = sorted({*measured, *predicted})
        rows += [(name, at, measured.get(at), predicted.get(at)) for at in numbers]
    table = Table(title.lower(), title, ("cluster", axes[0], f"{axes[1]}{MEASURED}", f"{axes[1]}{PREDICTED}"), rows)
    return plots.curves(title, series, axes, bars, table, logarithmic=logarithmic)


def _clients(found: Results) -> Iterator[SectionItem]:
    """Yield how many remote calls a hundred clients make."""
    rates = {f"actors: {actors}": float(rate) for actors, rate in found.get("remote_calls_per_s", {}).items()}
    if rates:
        title = "A hundred clients: cross-machine calls a second of wall time"
        yield plots.rows(title, list(rates), list(rates.values()), "calls/s")


def _all(name: str, found: object) -> Table:
    rows = [(readable(what), value) for what, value in flatten(found)]
    return Table(name, f"All of {name}", ("what", "value"), rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the page of results, and print where it is."""
    parser = argparse.ArgumentParser(description="A page of what a simulated cluster costs.")
    parser.add_argument("results", type=Path, help="what python -m benchmarks.cluster printed")
    parser.add_argument("--out", type=Path, required=True, help="folder for the page")
    options = parser.parse_args(arguments)
    page.write(report(json.loads(options.results.read_text())), options.out)
    print(f"report {options.out / page.PAGES[0]}")


if __name__ == "__main__":
    main()
