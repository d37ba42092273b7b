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
from lrpc.workloads.reports.plots import PREDICTED, Plot
from lrpc.workloads.reports.sections import Note, Section, SectionItem, flatten
from lrpc.workloads.reports.words import readable

Results = Mapping[str, Any]  # of a case, as it was printed
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
    """Yield the speed-up of two actors against one, beside what one actor predicted."""
    clusters = {name: one for name, one in found.items() if isinstance(one, Mapping)}
    if not clusters:
        return
    measured = [float(one["measured_speedup"]) for one in clusters.values()]
    predicted = [float(one["predicted_speedup"]) for one in clusters.values()]
    told = (
        f"{up:.2f} times as fast as one on {name} (predicted: {said:.2f})"
        for name, up, said in zip(clusters, measured, predicted, strict=True)
    )
    yield Note(f"Two actors are {', '.join(told)}.")
    groups = {f"speed-up{MEASURED}": measured, f"speed-up{PREDICTED}": predicted}
    yield plots.grouped("Two actors against one", list(clusters), groups, "times as fast")


def _machines(found: Results) -> Iterator[SectionItem]:
    """Yield what a call costs on few machines and on many."""
    costs = {f"{int(machines):,} machines": float(us) for machines, us in found.get("us_per_call", {}).items()}
    if not costs:
        return
    each = ", ".join(f"{us:,.1f} µs with {machines}" for machines, us in costs.items())
    yield Note(f"A call takes {each} of wall time; a machine takes {found['memory_KiB_per_machine']:,.0f} KiB.")
    yield plots.rows("Wall time of a call", list(costs), list(costs.values()), "µs")


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
