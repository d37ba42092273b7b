"""Compares numbers of machines, from 1 to those asked for: what crosses, and what a trace takes.

Each number has a search of its own, and all share a time. Where that is over before all had one,
the table says which it leaves out, and why.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.workloads.placing.partition import LEAST_SECONDS, SearchLimits, Solution, fitting, solve
from lrpc.workloads.placing.question import Infeasible, Question, feasible, machines_text
from lrpc.workloads.placing.times import mean_times
from lrpc.workloads.records.call_tables import IN_WORDS, LEAVING
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.runs.jobs import ReplayJob
from lrpc.workloads.traces.spans import shown

MOST_NODES: Final = 200  # of the search for each number of machines
MOST_SECONDS: Final = 5.0
ALWAYS: Final = 50  # numbers that are tried although there are fewer pods
LATE: Final = "the time that --seconds gives was over"
INTERRUPTED: Final = "the search was interrupted"


@dataclass(frozen=True)
class MachineCurve:
    """The table of numbers of machines, and lines that say what it leaves out or does not prove."""

    table: Table
    notes: Sequence[str]


def curve(
    asked: Question,
    job: ReplayJob,
    slack: float,
    solution: Solution,
    ends: float,
    say: Callable[[str], None] = lambda text: None,
) -> MachineCurve:
    """Return what numbers of machines, up to the job's, would cross and take.

    The last one has the solution that is known. A slack that cannot be met on a number of machines
    is the least that can be. All searches end by a monotonic time.
    """
    last, pods, began = job.machines, len(asked.pods), time.monotonic()
    rows = {last: _row(asked, asked, job, solution)}
    row_s = time.monotonic() - began  # without a search
    out: dict[str, list[int]] = {}
    unproven = [last] if solution.end != "optimal" else []
    was_interrupted = solution.end == "interrupted"
    most = min(last - 1, max(pods, ALWAYS))
    numbers = order(most)
    for done, number in enumerate(numbers):
        left = ends - time.monotonic()
        if was_interrupted or left < row_s + LEAST_SECONDS:
            out.setdefault(INTERRUPTED if was_interrupted else LATE, []).append(number)
            continue
        say(f"comparing numbers of machines: {done} of {len(numbers)} are done")
        share = left / (len(numbers) - done) - row_s
        found = _solved(asked, number, slack, max(LEAST_SECONDS, min(MOST_SECONDS, share)))
        if isinstance(found, str):
            out.setdefault(found, []).append(number)
            continue
        rows[number] = _row(asked, found[0], job, found[1])
        was_interrupted = found[1].end == "interrupted"
        if found[1].end != "optimal":
            unproven.append(number)
    if last - 1 > most:
        out[f"there are only {pods} pods"] = list(range(most + 1, last))
    notes = [f"the last table has no row for {_machines(some)}: {why}" for why, some in out.items()]
    if unproven and len(rows) > 1:
        notes.append(f"less may cross than the last table says, on {_machines(unproven)}: a limit ended the search")
    return MachineCurve(_table(asked, [rows[number] for number in sorted(rows)]), notes)


def order(most: int) -> list[int]:
    """Return the numbers from 1 to `most` in the order in which they are tried.

    Powers of two and the halves between them come first: they show the whole of a curve.
    """
    coarse = {number for power in range(most.bit_length()) for number in (2**power, 3 * 2**power)}
    return sorted(range(1, most + 1), key=lambda number: (number not in coarse, number))


def _machines(numbers: Sequence[int]) -> str:
    """Return numbers of machines as text, with ranges of them, from the least on."""
    found: list[list[int]] = []
    for number in sorted(numbers):
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    text = ", ".join(f"{low:,}" if low == high else f"{low:,} to {high:,}" for low, high in found)
    return f"{text} machine{'' if text == '1' else 's'}"


def _solved(asked: Question, machines: int, slack: float, seconds: float) -> tuple[Question, Solution] | str:
    """Return the question on a number of machines with its solution, or why it has none."""
    limits, ends = SearchLimits(MOST_NODES, seconds), time.monotonic() + seconds
    beyond = [one for one in asked.constraints if one.kind == "fixed" and one.machine >= machines]
    if beyond:
        return ", ".join(f"{shown(one.name, quote=False)} is on machine {one.machine}" for one in beyond)
    try:
        one = feasible(asked.on(machines, slack), limits, slack=True, utilisation=True)
    except Infeasible as why:
        return why.what.replace(f" on {machines_text(machines)}", "")
    start = fitting(one.problem, limits.until(ends))
    return one, solve(one.problem, [start], limits.until(ends))


def _row(asked: Question, one: Question, job: ReplayJob, solution: Solution) -> Sequence[TableValue]:
    """Return the row of a number of machines: that of the question `one`."""
    placement, machines = one.placement(solution.placed), one.problem.machines
    crossing = one.crossing_calls(placement)
    share = 100 * crossing / max(1, sum(one.calls.values()))
    weight = () if one.weight == "calls" else (one.crossing_weight(placement),)
    means = mean_times(asked, job.model_copy(update={"machines": machines}), placement)
    busiest, fullest = one.busiest_share(placement), one.fullest(placement)
    return (machines, crossing, round(share, 2), *weight, *means, round(fullest, 4), round(busiest, 2))


def _table(asked: Question, rows: Sequence[Sequence[TableValue]]) -> Table:
    columns = (
        "machines",
        IN_WORDS["cross_machine"],
        f"% of {LEAVING}",
        *(() if asked.weight == "calls" else (f"cross-machine {asked.unit}",)),
        "mean time of a trace, µs, by the cost model",
        "by recorded gaps",
        "fullest machine, fair shares",
        "busiest machine, %",
    )
    return Table("curve", "What more machines cost", columns, rows, named=True)
