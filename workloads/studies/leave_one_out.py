"""Table I's systems, each predicted by people who were fitted on another.

The three systems have the same people: files, tasks and their amounts, pace, builds. Every system
also has parameters of its own: memory, caches, disks, calls of its windows and daemons. Both are
drawn from their ranges, a few dozen times or more. In one draw all systems get the same people,
and each its own other parameters, which are independent of the other systems'.

So a system's share over all draws says what one could have defended before anything was fitted:
its prior interval. To fit people on one system is to keep those draws in which that system's share
comes near the paper's, whatever else they say. The shares of the others in the draws that are kept
are predictions: nothing about these systems was fitted. What a source gives, such as the hours, is
not drawn; what a scenario says is fitted is drawn like the rest.
"""

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import Final

from lrpc.cluster.parameters import resolve
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.runs.jobs import RunJob
from lrpc.workloads.studies import draws
from lrpc.workloads.studies.sensitivity import spread
from lrpc.workloads.studies.sweep import Row, Sweep, SweepRun

# By scenario, the part of its hours that each draw runs.
SYSTEMS: Final[Mapping[str, float]] = {"taos": 0.1, "v": 0.05, "sun": 0.02}
DRAWS: Final = 300
NEAR: Final = 1.25  # a share is near another if neither is more than this many times the other
LEAST: Final = 2  # fewer draws have no rank correlation
# The parameters that are people's, beside all amounts of their processes.
PEOPLE: Final = (
    "programs",
    "program_kb",
    "shared",
    "shared_kb",
    "own",
    "own_kb",
    "temporary_kb",
    "again",
    "think_s",
    "compile_s",
)
NOT_FITTED: Final = "not fitted"  # whose people all draws have
COLUMNS: Final = ("system", "people", "draws", "from_%", "median_%", "to_%", "paper_%", "the paper's is")


def prepare(count: int, scale: float, seed: int, out: Path, command: Sequence[str]) -> Sweep:
    """Return the runs of `count` draws of all systems, each with a folder in `out` for its record.

    `scale` multiplies the part of its hours that each system runs. `command` is noted in records.
    """
    drawn = {scenario: _drawn(scenario, count, seed) for scenario in SYSTEMS}
    runs: list[SweepRun] = []
    for number in range(count):
        for scenario, part in SYSTEMS.items():
            changes = drawn[scenario][number]
            job = RunJob(scenario=scenario, scale=part * scale, seed=seed + number, changes=dict(changes))
            folder = out / f"{number + 1:05d}-{scenario}"
            runs.append(SweepRun(len(runs) + 1, changes, job.prepare(list(command)), folder))
    return Sweep("systems", [], runs, drawn=True)


def compare(found: Sequence[Row]) -> Table:
    """Return the interval of each system's share: before any fit, and as people of others predict.

    `found` are the results of all runs, in order. An interval is from the 5 % to the 95 % quantile.
    Shares are remote over local calls.
    """
    each = _by_system(found)
    kept: dict[str, list[int]] = {NOT_FITTED: list(range(len(found) // len(SYSTEMS)))}
    for scenario, results in each.items():
        kept[f"fitted on {scenario}"] = [number for number, row in enumerate(results) if _near(row)]
    lines = [
        _line(scenario, people, results, numbers)
        for scenario, results in each.items()
        for people, numbers in kept.items()
        if people != f"fitted on {scenario}"
    ]
    return Table("systems", f"Each system's share, in {len(kept[NOT_FITTED])} draws", COLUMNS, lines)


def answer(found: Table) -> str:
    """Return the sentence that says what came out: which predictions hold the paper's share."""
    system, people, where = (found.columns.index(name) for name in ("system", "people", "the paper's is"))
    predicted = [row for row in found.rows if row[people] != NOT_FITTED]
    known = [row for row in predicted if row[where]]
    outside = [f"{row[system]} by people {row[people]} ({row[where]})" for row in known if row[where] != "inside"]
    said = f"{len(known) - len(outside)} of {len(known)} intervals by people fitted on another system hold the paper's"
    few = len(predicted) - len(known)
    rest = [
        *([f"not those of {', '.join(outside)}"] if outside else []),
        *([f"{few} had too few draws near the paper's share to have an interval"] if few else []),
    ]
    return "; ".join([f"{said} share", *rest]) + "."


def ties(found: Sequence[Row]) -> dict[tuple[str, str], float]:
    """Return how far the same people tie two systems' shares: their rank correlation over draws."""
    from scipy.stats import spearmanr

    each = {scenario: [row.share for row in results] for scenario, results in _by_system(found).items()}
    return {
        (one, other): float(spearmanr(*zip(*both, strict=True)).statistic)
        for one, other in combinations(each, 2)
        if len(both := [pair for pair in zip(each[one], each[other], strict=True) if None not in pair]) > LEAST
    }


def _by_system(found: Sequence[Row]) -> dict[str, Sequence[Row]]:
    return {scenario: found[at :: len(SYSTEMS)] for at, scenario in enumerate(SYSTEMS)}


def _drawn(scenario: str, count: int, seed: int) -> list[draws.Values]:
    """Return `count` sets of changes of a scenario; what is people's is the same for all scenarios.

    A draw depends on the name that it goes by. What is people's goes by a name that all have.
    """
    tables = RunJob(scenario=scenario).tables()
    parameters = {name: one for name, one in resolve(tables, scenario).parameters.items() if one.origin != "source"}
    called = {_called(scenario, name): name for name in parameters}
    sets = draws.latin_hypercube({name: parameters[own] for name, own in called.items()}, count, seed)
    own = [{called[name]: value for name, value in values.items()} for values in sets]
    return [draws.as_changes(values, parameters, tables["parameters"]) for values in own]


def _called(scenario: str, name: str) -> str:
    _, inside, amount = name.partition(".processes.")
    if name in PEOPLE or inside:
        return f"people: {amount or name}"
    return f"{scenario}: {name}"


def _near(row: Row) -> bool:
    if row.share is None or row.paper is None:
        return False
    return row.paper / NEAR <= row.share <= row.paper * NEAR


def _line(scenario: str, people: str, results: Sequence[Row], kept: Sequence[int]) -> list[TableValue]:
    shares = [share for number in kept if (share := results[number].share) is not None]
    paper = next((row.paper for row in results if row.paper is not None), None)
    over = spread(shares)
    if over is None or paper is None:
        return [scenario, people, len(shares), None, None, None, paper and round(paper, 2), ""]
    low, middle, high = (over.quantiles[one] for one in (0.05, 0.5, 0.95))
    where = "inside" if low <= paper <= high else "below" if paper < low else "above"
    return [scenario, people, len(shares), round(low, 2), round(middle, 2), round(high, 2), round(paper, 2), where]
