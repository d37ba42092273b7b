"""`lrpc place`: finds a placement of a trace's pods, and replays it beside the default placement.

Pods are the vertices of a graph to divide (`partition`). A pod's load is the computation of its
spans, and the weight between two pods is the number of calls between them. Every call counts alike:
traces do not say how large messages were, and a replay's are all alike. So what a call between
machines costs more than one between domains is one factor. It must be above 0, or there is nothing
to save.

What a placement saves is not claimed from the solver's objective. Both placements are replayed, the
table is made from the two records, and the number of calls that crossed must equal the objective.
"""

import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, isfinite
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from lrpc.kernel.errors import Panic, Refused
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads.placing.partition import (
    OnProgress,
    Overfull,
    SearchLimits,
    Solution,
    fitting,
    ignore_progress,
    solve,
)
from lrpc.workloads.placing.problem import Problem
from lrpc.workloads.records import events, folders, records
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table
from lrpc.workloads.replay.crossings import crossings
from lrpc.workloads.replay.placement import place, write_placement
from lrpc.workloads.replay.steps import activity, computation
from lrpc.workloads.runs.execute import Options, execute
from lrpc.workloads.runs.jobs import ReplayJob
from lrpc.workloads.traces.spans import shown

BASELINE: Final = "spread"  # the placement that the found one is compared with
FOUND: Final = "found"
FILE: Final = "placement.toml"
DEFAULT_SLACK: Final = 1.2
SLACK_DIGITS: Final = 4  # decimals of the smallest slack that can be met
ENDED: Final = {
    "optimal": "no placement crosses less",
    "nodes": "the search ended at --nodes",
    "seconds": "the search ended at --seconds: another run may find another placement",
    "interrupted": "the search was interrupted: this is the best that it had",
}


@dataclass(frozen=True)
class Question:
    """The placement problem of a trace; the vertices of `problem` are `pods`, in order."""

    origin: str
    pods: Sequence[str]
    slack: Fraction  # the most that a machine may hold, in fair shares
    extra_ns: int  # the time that a call between machines takes beyond one between domains
    problem: Problem
    raised: bool = False  # whether the slack is the smallest that can be met, since none was asked for

    @property
    def fair(self) -> Fraction:
        """Return the fair share: all computation divided by the machines, in ns."""
        return Fraction(sum(self.problem.loads), self.problem.machines)

    @property
    def baseline(self) -> tuple[int, ...]:
        """Return each pod's machine under the placement that the found one is compared with."""
        return tuple(place(self.pods, self.problem.machines, BASELINE).values())

    def fullest(self, placed: Sequence[int]) -> float:
        """Return the computation of the fullest machine, in fair shares."""
        return float(max(self.problem.held(placed)) / self.fair) if self.fair else 0.0


@dataclass(frozen=True)
class Compared:
    """A found placement, its file, and the records of both replays."""

    question: Question
    solution: Solution
    file: Path
    baseline: Record
    found: Record
    folder: Path


def ask(job: ReplayJob, slack: float) -> Question:
    """Return the placement problem of a trace, with a cap of `slack` fair shares for each machine.

    Raises `Refused` if the trace cannot be replayed or is too large, or if the slack is below 1. It
    does so as well if calls between machines cost no more than calls between domains.
    """
    if not (isfinite(slack) and slack >= 1):
        raise Refused(f"--slack {slack}: the fullest machine holds at least the mean of all; give 1 or more")
    trace = job.read()
    recorded = activity(trace)
    costs = load_cost_model(job.cost_model)
    each = crossings(costs, job.machines, link_delay_us=job.link_delay_us, link_mbps=job.link_mbps)
    extra_ns = each.machine_ns - each.domain_ns
    if job.machines > 1 and extra_ns <= 0:
        took = f"a call between machines takes {each.machine_ns / 1000} us, one between domains {each.domain_ns / 1000}"
        raise Refused(f"cost model {costs.name}: {took}; there is nothing to save by staying on a machine")
    loads = computation(recorded)
    number = {pod: at for at, pod in enumerate(trace.pods)}
    weights = Counter[tuple[int, int]]()
    for server in trace.calls():
        client = trace.parents[server]
        assert client is not None
        one, other = sorted((number[recorded.pods[client]], number[recorded.pods[server]]))
        weights[one, other] += 1
    exact = Fraction(repr(slack))  # the decimal fraction as written, not its binary approximation
    cap = int(exact * sum(loads.values()) / job.machines)
    problem = Problem([loads[pod] for pod in trace.pods], weights, job.machines, cap)
    if problem.variables > MOST_VARIABLES:
        size = f"{len(trace.pods)} pods and {len(weights)} pairs that call each other on {problem.bins} machines"
        raise Refused(f"{job.trace}: {size}: more than can be solved; give fewer machines")
    return Question(job.trace, trace.pods, exact, extra_ns, problem)


def begin(question: Question, limits: SearchLimits) -> list[tuple[int, ...]]:
    """Return placements that a search can begin at; raise `Refused` if the slack cannot be met."""
    problem = question.problem
    try:
        fits = fitting(problem, limits)
    except Overfull as unmet:
        raise Refused(_unmet(question, unmet)) from None
    return [fits, question.baseline] if problem.fits(question.baseline) else [fits]


def feasible(question: Question, limits: SearchLimits) -> Question:
    """Return a question that has an answer: itself, or with the smallest slack that can be met."""
    try:
        fitting(question.problem, limits)
    except Overfull as unmet:
        slack = _least_slack(question.problem, unmet)
        problem = replace(question.problem, cap=int(slack * question.fair))
        return replace(question, slack=slack, problem=problem, raised=True)
    return question


def compare(
    job: ReplayJob,
    slack: float | None,
    limits: SearchLimits,
    options: Options,
    command: list[str],
    *,
    out: Path | None,
) -> Compared | None:
    """Find a placement, write it to `out`, replay it and `spread`, and return the comparison.

    The records are `spread` and `found` in the folder that `options` names. The placement is
    written there too if `out` is None. A dry run prints what would be done and returns None. If
    `slack` is None, it is `DEFAULT_SLACK`, or the smallest that can be met.
    """
    question = ask(job, DEFAULT_SLACK) if slack is None else ask(job, slack)
    if slack is None:
        question = feasible(question, limits)
    starts = begin(question, limits)
    folder = folders.fresh("place") if options.out is None else options.out
    parts = {
        name: records.new_folder(folder / name, name, force=options.force, option="--record")
        for name in (BASELINE, FOUND)
    }
    file = folder / FILE if out is None else out
    _check_file(file, out, force=options.force)
    if options.dry_run:
        calls = sum(question.problem.weights.values())
        most = f"{float(100 * question.slack / question.problem.machines):.1f} % of all computation"
        print(f"{len(question.pods)} pods, {calls:,} calls between them; a machine may hold {most}")
        print(f"the placement would go to {file}, the records of two replays to {folder}")
        return None
    with _searching(question) as show:
        solution = solve(question.problem, starts, limits, show)
    folder.mkdir(parents=True, exist_ok=True)
    write_placement(file, dict(zip(question.pods, solution.placed, strict=True)))
    baseline, found = (
        _replay(job.model_copy(update={"placement": placement}), replace(options, out=parts[name]), command)
        for name, placement in ((BASELINE, BASELINE), (FOUND, str(file)))
    )
    if found.counts["cross_machine"] != solution.crossing:
        raise Panic(
            f"{file}: {found.counts['cross_machine']} calls crossed machines in its replay, not {solution.crossing}"
        )
    return Compared(question, solution, file, baseline, found, folder)


def table(compared: Compared) -> Table:
    """Return both placements side by side, from their records, and what the found one saves."""
    question, both = compared.question, (compared.baseline, compared.found)
    crossed = [record.counts["cross_machine"] for record in both]
    calls = [record.counts["cross_domain"] + count for record, count in zip(both, crossed, strict=True)]
    shares = [100 * count / max(1, all_) for count, all_ in zip(crossed, calls, strict=True)]
    costs = [count * question.extra_ns / 1000 for count in crossed]
    means = [_mean_us(record) for record in both]
    rows = [
        ("calls between machines", *(f"{count:,}" for count in crossed), _saved(*crossed)),
        ("share of calls between pods", *(f"{share:.2f} %" for share in shares), f"{shares[0] - shares[1]:.2f} points"),
        ("what they cost beyond calls between domains, us", *(f"{us:,.1f}" for us in costs), _saved(*costs)),
        ("mean time of a trace, simulated, us", *(f"{us:,.1f}" for us in means), _saved(*means)),
        (
            "the fullest machine, in fair shares",
            *(f"{question.fullest(one):.4f}" for one in (question.baseline, compared.solution.placed)),
            "",
        ),
    ]
    return Table("placements", f"{question.problem.machines} machines", ("", BASELINE, FOUND, "saved"), rows)


def lines(compared: Compared) -> list[str]:
    """Return the lines after the table: the proven bound, why the search ended, and the files."""
    found = compared.solution
    gap = 100 * (found.crossing - found.at_least) / found.crossing if found.crossing else 0.0
    bound = f"at least {found.at_least:,} calls cross in any placement (gap {gap:.2f} %, {found.nodes:,} nodes)"
    said = [f"{bound}: {ENDED[found.end]}"]
    if compared.question.raised:
        slack = float(compared.question.slack)
        said.append(f"slack {slack:g}: the smallest that can be met, since {DEFAULT_SLACK} cannot")
    if not compared.question.problem.fits(compared.question.baseline):
        said.append(f"{BASELINE} does not fit: its fullest machine holds more than the slack allows")
    return [*said, f"placement {compared.file}", f"records {compared.folder}"]


def _replay(job: ReplayJob, options: Options, command: list[str]) -> Record:
    ready = job.prepare(command)
    finished = execute(ready.run, ready.cluster, options, ready.cells_of, ready.accounts_of)
    assert finished is not None
    return finished.record


def _mean_us(record: Record) -> float:
    assert record.trace is not None
    whole_ns = record.trace.times[-1].simulated_ns
    assert whole_ns is not None
    return whole_ns / max(1, record.trace.traces) / 1000


def _saved(before: float, after: float) -> str:
    return f"{100 * (before - after) / before:.2f} %" if before else ""


def _least_slack(problem: Problem, unmet: Overfull) -> Fraction:
    """Return the slack of the most even division found, rounded up."""
    digits = 10**SLACK_DIGITS
    return Fraction(ceil(Fraction(unmet.least * problem.machines * digits, sum(problem.loads))), digits)


def _unmet(question: Question, unmet: Overfull) -> str:
    """Return in one line why no placement fits, with any pod too large by itself, and the fix."""
    problem = question.problem
    total = sum(problem.loads)
    least = float(_least_slack(problem, unmet))
    most = f"{float(100 * question.slack / problem.machines):.2f} %"
    largest = max(range(len(problem.loads)), key=problem.loads.__getitem__)
    if problem.loads[largest] > problem.cap:
        share = 100 * problem.loads[largest] / total
        what = (
            f"pod {shown(question.pods[largest])} has {share:.2f} % of all computation, and a machine may hold {most}"
        )
    else:
        what = f"no placement was found that leaves every machine at most {most} of all computation"
    remedy = f"the smallest slack that can be met is {least}" if unmet.proven else f"a slack of {least} can be met"
    return f"{question.origin}: --slack {float(question.slack):g} on {problem.machines} machines: {what}; {remedy}"


def _check_file(file: Path, out: Path | None, *, force: bool) -> None:
    if file.exists() and not (force and file.is_file()):
        raise Refused(f"--out {file}: exists already; name another file, or add --force")
    if out is not None:
        if not out.parent.is_dir():
            raise Refused(f"--out {out}: there is no folder {out.parent}; make it first")
        events.check_writable(out, "--out")


@contextmanager
def _searching(question: Question) -> Iterator[OnProgress]:
    """Show the progress of a search if standard error is a terminal."""
    if not sys.stderr.isatty():
        yield ignore_progress
        return
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(f"placing {len(question.pods)} pods; Ctrl-C keeps the best so far")

        def show(nodes: int, found: float, at_least: float) -> None:
            bar.update(task, description=f"{nodes:,} nodes: {found:,.0f} calls cross, at least {at_least:,.0f} must")

        yield show
