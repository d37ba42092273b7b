"""`lrpc place`: finds a placement of a trace's pods, and replays it beside today's.

What a placement saves is not claimed from the solver's objective. Both placements are replayed, the
table is made from the two records, and the number of calls that crossed must equal what the problem
says. What a call between machines costs is uncertain: the cost model says one thing, the trace's
own gaps another. So what is saved is given by both.

The placement to compare with is today's where the trace names nodes or hosts, no more than there
are machines, or `spread`; or one that is asked for.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Final

from lrpc.cluster.scenario import MOST_PARTS
from lrpc.kernel.errors import Panic, Refused
from lrpc.workloads.placing import kubernetes
from lrpc.workloads.placing.constraints import read_constraints
from lrpc.workloads.placing.curve import MachineCurve, curve
from lrpc.workloads.placing.kubernetes import Topology
from lrpc.workloads.placing.moves import moves, renamed
from lrpc.workloads.placing.partition import OnProgress, SearchLimits, Solution, fitting, solve
from lrpc.workloads.placing.question import (
    DEFAULT_SLACK,
    DEFAULT_UTILISATION,
    Capacity,
    Question,
    Weight,
    feasible,
    question_of,
)
from lrpc.workloads.placing.times import Times, charges_of, times
from lrpc.workloads.records import events, folders
from lrpc.workloads.records.call_tables import IN_WORDS, LEAVING
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.replay.placement import machine_names, place, write_placement
from lrpc.workloads.replay.steps import activity
from lrpc.workloads.reports.bars import spinner
from lrpc.workloads.reports.words import number
from lrpc.workloads.runs.execute import execute
from lrpc.workloads.runs.fastest import chosen
from lrpc.workloads.runs.jobs import ReplayJob
from lrpc.workloads.runs.planned import Options

SPREAD: Final = "spread"
TODAY: Final = "today"
FOUND: Final = "found"
FILE: Final = "placement.toml"
CURVE_SHARE: Final = 0.25  # of the seconds: at least so many are for other numbers of machines
ENDED: Final = {
    "optimal": "no placement crosses less",
    "nodes": "the search ended at --nodes",
    "seconds": "the search ended at --seconds: another run may find another placement",
    "interrupted": "the search was interrupted: this is the best that it had",
    "size": "too many pods and pairs for the solver: the best that METIS and the relaxed problem give",
}


@dataclass(frozen=True)
class Aims:
    """What a placement should achieve and keep, as the options of the command line say.

    A slack or utilisation of None is the default, or the least that can be met.
    """

    slack: float | None = None
    utilisation: float | None = None
    interval_s: float = 1.0
    weight: Weight = "calls"
    constraints: Path | None = None
    baseline: str | None = None  # today, spread, pack or a file; None: today's, else spread
    kubernetes: Path | None = None
    topology: Topology = "node"
    curve: bool = True


@dataclass(frozen=True)
class Compared:
    """A found placement, its file, and the records of both replays."""

    question: Question
    solution: Solution
    before: Mapping[str, int]
    after: Mapping[str, int]
    label: str  # what the placement before is called
    machines: Sequence[str]  # the names of machines
    times: Sequence[Times]
    curve: MachineCurve | None
    file: Path
    baseline: Record
    found: Record
    folder: Path
    notes: Sequence[str] = ()


def ask(job: ReplayJob, slack: float, aims: Aims = Aims()) -> Question:
    """Return the placement problem of a trace, with a cap of `slack` fair shares for each machine.

    Raises `Refused` if the trace cannot be replayed, if the slack is below 1, or if calls between
    machines cost no more than calls between domains.
    """
    trace = job.read()
    recorded = activity(trace)
    each = charges_of(job, "model", trace, recorded, dict.fromkeys(trace.pods, 0)).each
    if job.machines > 1 and each.machine_ns <= each.domain_ns:
        both = [f"{number(ns / 1000)} µs" for ns in (each.machine_ns, each.domain_ns)]
        took = f"a cross-machine call takes {both[0]}, a cross-domain one {both[1]}"
        raise Refused(f"cost model {job.cost_model}: {took}; there is nothing to save by staying on a machine")
    outside = sorted(set(recorded.outside.values()))
    kept = [] if aims.constraints is None else read_constraints(aims.constraints, trace, job.machines, outside)
    utilisation = DEFAULT_UTILISATION if aims.utilisation is None else aims.utilisation
    capacity = Capacity(job.processors, Fraction(repr(utilisation)), max(1, round(aims.interval_s * 1e9)))
    return question_of(
        job.trace,
        trace,
        recorded,
        job.machines,
        constraints=kept,
        charged=charges_of(job, "model", trace, recorded, dict.fromkeys(trace.pods, 0)),
        weight=aims.weight,
        message_bytes=job.message_bytes,
        slack=slack,
        capacity=capacity,
    )


def begin(asked: Question, search: SearchLimits, *more: Mapping[str, int]) -> list[tuple[int, ...]]:
    """Return divisions that a search can begin at: one that fits, and those of `more` that do.

    Raises `Refused` if there is none.
    """
    asked = feasible(asked, search, slack=False, utilisation=False)
    fits = [one for one in more if asked.fits(one)]
    return [fitting(asked.problem, search), *(tuple(one[group[0]] for group in asked.grouped.groups) for one in fits)]


def compare(
    job: ReplayJob,
    aims: Aims,
    search: SearchLimits,
    options: Options,
    command: list[str],
    *,
    out: Path | None,
    limit: int = MOST_PARTS,
) -> Compared | None:
    """Find a placement, write it to `out`, replay it and the one before, and compare the two.

    The records are in the folder that `options` names, and so is the placement if `out` is None. A
    dry run prints what would be done and returns None. Raises `Refused` for more machines and
    processors than `limit`.
    """
    job.check_parts(limit)
    with spinner(f"reading {job.trace}"):
        asked = ask(job, DEFAULT_SLACK if aims.slack is None else aims.slack, aims)
    ends = time.monotonic() + search.seconds
    asked = feasible(asked, search, slack=aims.slack is None, utilisation=aims.utilisation is None)
    label, before, names, notes = _baseline(asked, job, aims)
    starts = begin(asked, search.until(ends), before)
    folder = folders.fresh("place") if options.out is None else options.out
    parts = {
        name: folders.for_record(folder / name, name, force=options.force, option="--record") for name in (label, FOUND)
    }
    file = folder / FILE if out is None else out
    _check_file(file, out, "--out", force=options.force)
    if aims.kubernetes is not None:
        _check_file(aims.kubernetes, aims.kubernetes, "--kubernetes", force=options.force)
    if options.dry_run:
        _say_plan(asked, file, folder)
        return None
    with _searching(asked) as (say, show):
        share = (1 - CURVE_SHARE if aims.curve and job.machines > 1 else 1) * (ends - time.monotonic())
        solution = solve(asked.problem, starts, search.until(time.monotonic() + share), show)
        slack = DEFAULT_SLACK if aims.slack is None else aims.slack
        compared = curve(asked, job, slack, solution, ends, say) if aims.curve else None
    after = renamed(asked.placement(solution.placed), before, job.machines, set(asked.problem.fixed.values()))
    folder.mkdir(parents=True, exist_ok=True)
    write_placement(file, after)
    old = label
    if label not in (SPREAD, "pack"):
        old = str(folder / f"{label}.toml")
        write_placement(old, before)
    baseline, found = (
        _replay(asked, job.model_copy(update={"placement": placement}), replace(options, out=parts[name]), command)
        for name, placement in ((label, old), (FOUND, str(file)))
    )
    if found.counts["cross_machine"] != asked.crossing_calls(after):
        crossed = found.counts["cross_machine"]
        raise Panic(f"{file}: {crossed} calls crossed machines in its replay, not {asked.crossing_calls(after)}")
    notes += [] if compared is None else compared.notes
    if aims.kubernetes is not None:
        labels = {at: f"m{at}" for at in range(job.machines)}
        notes += kubernetes.write(aims.kubernetes, asked.trace, after, labels, aims.topology)
        notes.append(f"affinity rules {aims.kubernetes}")
    both = times(asked, job, before, after)
    return Compared(asked, solution, before, after, label, names, both, compared, file, baseline, found, folder, notes)


def tables(compared: Compared) -> list[Table]:
    """Return both placements side by side, the moves between them, and the curve of machines."""
    asked, both = compared.question, (compared.before, compared.after)
    found = [_beside(compared), moves(asked, *both, compared.machines)]
    return found if compared.curve is None else [*found, compared.curve.table]


def _beside(compared: Compared) -> Table:
    """Return both placements side by side, from their records, and what the found one saves."""
    asked, both = compared.question, (compared.baseline, compared.found)
    placements = (compared.before, compared.after)
    crossed = [record.counts["cross_machine"] for record in both]
    calls = max(1, sum(asked.calls.values()))
    shares = [100 * count / calls for count in crossed]
    means = [_mean_us(record) for record in both]
    weighed = [asked.crossing_weight(placement) for placement in placements]
    rows: list[Sequence[TableValue]] = [
        (IN_WORDS["cross_machine"], *(f"{count:,}" for count in crossed), _saved(*crossed)),
        (f"% of {LEAVING}", *(f"{share:.2f} %" for share in shares), f"{shares[0] - shares[1]:.2f} points"),
    ]
    if asked.weight != "calls":
        rows.append((f"what they weigh, {asked.unit}", *(f"{weight:,}" for weight in weighed), _saved(*weighed)))
    rows.append(("mean time of a trace, simulated, µs", *map(number, means), _saved(*means)))
    for one in compared.times:
        rows.append(
            (
                f"without waiting, by {one.by}, µs",
                number(one.before),
                number(one.after),
                _saved(one.before, one.after),
            )
        )
    rows += [
        ("the fullest machine, in fair shares", *(f"{asked.fullest(one):.4f}" for one in placements), ""),
        (
            "the busiest machine in its busiest interval",
            *(f"{asked.busiest_share(one):.2f} %" for one in placements),
            "",
        ),
    ]
    title = f"{asked.problem.machines} machines"
    return Table("placements", title, ("", compared.label, FOUND, "saved"), rows, named=True)


def answer(compared: Compared) -> str:
    """Return in one line what the found placement saves."""
    asked = compared.question
    before, after = (asked.crossing_calls(one) for one in (compared.before, compared.after))
    crossing = f"{after:,} of {sum(asked.calls.values()):,} calls cross machines, in place of {before:,}"
    if asked.weight != "calls":
        weights = [asked.crossing_weight(one) for one in (compared.after, compared.before)]
        crossing += f"; {weights[0]:,} {asked.unit} do, in place of {weights[1]:,}"
    took = takes([_part_saved(one.before, one.after) for one in compared.times])
    return f"{crossing}; traces take {took}, by what a crossing costs"


def takes(saved: Sequence[float]) -> str:
    """Return in words how much less or more something takes, given what it saves in percent."""
    least, most = min(saved), max(saved)
    if round(least, 2) < 0 < round(most, 2):
        return f"from {-least:.2f} % more to {most:.2f} % less"
    if round(least, 2) < 0:
        return f"{abs(most):.2f} % to {-least:.2f} % more"
    return f"{abs(least):.2f} % to {most:.2f} % less"


def lines(compared: Compared) -> list[str]:
    """Return the lines after the tables: what is proved, what would do as well, and the files."""
    asked, found = compared.question, compared.solution
    gap = 100 * (found.crossing - found.at_least) / found.crossing if found.crossing else 0.0
    bound = f"at least {found.at_least:,} {asked.unit} cross in any placement (gap {gap:.2f} %, {found.nodes:,} nodes)"
    most = f"placements whose fullest machine holds at most {float(asked.slack):g} fair shares{_kept(asked)}"
    said = [f"{bound}: {ENDED[found.end]}", f"proved of {most}"]
    if asked.raised:
        which = "can be met" if asked.is_least else "was found to be met"
        said.append(f"slack {float(asked.slack):g}: the smallest that {which}, since {DEFAULT_SLACK} cannot")
    if asked.strained:
        utilisation = float(asked.capacity.utilisation)
        said.append(f"utilisation {utilisation:g}: the smallest that can be met, since {DEFAULT_UTILISATION} cannot")
    on_one = dict.fromkeys(asked.pods, next(iter(asked.problem.fixed.values()), 0))
    may_be = all(one.keeps(on_one) for one in asked.constraints)
    if asked.problem.machines > 1 and asked.needed <= asked.capacity.utilisation and may_be:
        interval = f"the busiest {asked.capacity.interval_ns / 1e9:g} s"
        busy = f"busy to {float(100 * asked.needed):.2f} % of its {asked.capacity.processors} processors in {interval}"
        said.append(f"one machine is enough: with all pods it would be {busy}, and no call would cross")
    broken = asked.broken(compared.before)
    if broken:
        said.append(f"{compared.label} does not fit: {', and '.join(broken)}")
    return [*said, *compared.notes, f"placement {compared.file}", f"records {compared.folder}"]


def _kept(asked: Question) -> str:
    percent = float(100 * asked.capacity.utilisation)
    kept = f", and is busy to at most {percent:g} % in any {asked.capacity.interval_ns / 1e9:g} s"
    count = len(asked.constraints)
    return kept + (f", and that keep {count} constraint{'s' if count > 1 else ''}" if count else "")


def _baseline(asked: Question, job: ReplayJob, aims: Aims) -> tuple[str, dict[str, int], list[str], list[str]]:
    """Return the placement before: what it is called, each pod's machine, and machines' names.

    Returns a line too that says why it is not today's, where nobody asked for another.
    """
    nodes = asked.trace.nodes
    names = sorted({nodes[pod] for pod in asked.pods if pod in nodes})
    missing = [pod for pod in asked.pods if pod not in nodes]
    if missing:
        which = "pods are" if len(missing) == len(asked.pods) else f"{missing[0]} is"
        why, fix = f"{job.trace} does not say on which node or host {which}", "--baseline with a file"
    else:
        why, fix = f"{job.trace} names {len(names)} nodes", f"--machines {len(names)}"
    cannot = bool(missing) or len(names) > job.machines
    if aims.baseline == TODAY and cannot:
        raise Refused(f"--baseline today: {why}; give {fix}")
    if aims.baseline == TODAY or (aims.baseline is None and not cannot and (len(names) > 1 or job.machines == 1)):
        unnamed = machine_names(job.machines)[len(names) :]
        return TODAY, {pod: names.index(nodes[pod]) for pod in asked.pods}, names + unnamed, []
    lines = []
    if aims.baseline is None:
        other = "another" if missing else "it"
        if not cannot:
            why, fix = f"{job.trace} has all pods on one, {names[0]}, where nothing crosses", "--baseline today"
        lines = [f"spread stands in for today's placement: {why}; {fix} would compare with {other}"]
    policy = aims.baseline or SPREAD
    label = policy if policy in (SPREAD, "pack") else "before"
    return label, place(asked.pods, job.machines, policy), machine_names(job.machines), lines


def _replay(asked: Question, job: ReplayJob, options: Options, command: list[str]) -> Record:
    ready = job.prepare_for(asked.trace, asked.activity, command)
    options = chosen(options, ready.cluster, ready.run.seed)
    return execute(ready.run, ready.cluster, options, ready.cells_of, ready.accounts_of).record


def _mean_us(record: Record) -> float:
    assert record.trace is not None
    whole_ns = record.trace.times[-1].simulated_ns
    assert whole_ns is not None
    return whole_ns / max(1, record.trace.traces) / 1000


def _part_saved(before: float, after: float) -> float:
    return 100 * (before - after) / before if before else 0.0


def _saved(before: float, after: float) -> str:
    return f"{round(_part_saved(before, after), 2) + 0.0:.2f} %" if before else ""


def _say_plan(asked: Question, file: Path, folder: Path) -> None:
    calls = sum(asked.calls.values())
    most = f"{float(100 * asked.slack / asked.problem.machines):.1f} % of all computation"
    print(f"{len(asked.pods)} pods, {calls:,} calls between them; a machine may hold {most}")
    print(f"the placement would go to {file}, the records of two replays to {folder}")


def _check_file(file: Path, out: Path | None, option: str, *, force: bool) -> None:
    if file.exists() and not (force and file.is_file()):
        raise Refused(f"{option} {file}: exists already; name another file, or add --force")
    if out is not None:
        if not out.parent.is_dir():
            raise Refused(f"{option} {out}: there is no folder {out.parent}; make it first")
        events.check_writable(out, option)


@contextmanager
def _searching(asked: Question) -> Iterator[tuple[Callable[[str], None], OnProgress]]:
    """Show what is done, and the progress of a search, if standard error is a terminal."""
    with spinner(f"placing {len(asked.pods)} pods; Ctrl-C keeps the best so far") as say:

        def show(nodes: int, found: float, at_least: float) -> None:
            say(f"{nodes:,} nodes: {found:,.0f} {asked.unit} cross, at least {at_least:,.0f} must")

        yield say, show
