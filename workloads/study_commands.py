"""The subcommands of `lrpc` that make many runs: sweeps, and studies of kernels and systems."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from lrpc.cluster.scenario import MOST_PARTS
from lrpc.kernel.errors import Refused, RunFailed
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads import scenarios
from lrpc.workloads.commands import check_result, tell_of_timeline, timeline_of
from lrpc.workloads.options import (
    ACTORS,
    Address,
    AsJson,
    CostModelName,
    DryRun,
    Force,
    LimitOption,
    LinkDelay,
    LinkMbps,
    Parallel,
    Parquet,
    RegistryOption,
    ReplayLinks,
    Seed,
    SweepFolder,
    Timeline,
    TimelineFrom,
    TimelineSlices,
    TimelineTo,
    command_line,
)
from lrpc.workloads.records import folders
from lrpc.workloads.records.tables import Table, as_objects, check_parquet, write_csv
from lrpc.workloads.reports import page, terminal
from lrpc.workloads.reports.bars import counting_bar
from lrpc.workloads.reports.output import print_note, say, say_json
from lrpc.workloads.runs.planned import Options
from lrpc.workloads.studies import explain, leave_one_out, observations, sensitivity, structures, sweep
from lrpc.workloads.studies.recorded import RecordedStudy

StudyFolder = Annotated[
    Path | None,
    typer.Option("--out", help="Folder for the records and the table.", show_default="a new one under records/"),
]
StudyEvents = Annotated[
    Path | None,
    typer.Option(
        "--events",
        help="Folder for a log of all events of each run, for `lrpc events`. Its digest is the run's.",
        show_default=False,
    ),
]
StudyActors = Annotated[int, typer.Option(help=ACTORS)]
PageFolder = Annotated[
    Path | None, typer.Option("--out", help="Folder to write a page to, with its tables as CSV.", show_default="none")
]


def run_sweep(
    name: Annotated[
        str,
        typer.Argument(help="A name from `lrpc list`, or a .toml file that says what to run and what varies."),
    ],
    out: SweepFolder,
    parallel: Parallel = None,
    address: Address = None,
    force: Annotated[
        bool, typer.Option("--force", help="Replace the runs of another sweep in the folder at --out.")
    ] = False,
    registry: RegistryOption = None,
    limit: LimitOption = MOST_PARTS,
    parquet: Parquet = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Run a job many times with varied parameters.

    A sweep varies its job in one way: all combinations of some values, random draws from the ranges
    of parameters, or changes of one parameter at a time. Every run has a record. A table and a
    report cover all runs.
    """
    check_result(as_json=as_json, dry_run=dry_run)
    if parquet:
        check_parquet()
    file = scenarios.find_sweep(name)
    found = sweep.read_sweep(file, out, registry, limit)
    for line in found.left_out:
        print_note(f"note: {line}")
    if dry_run:
        _say_planned(found, out)
        return
    with folders.claimed(out):
        sweep.open_folder(file, out, force=force)
        failed = _carry_out(found, parallel, address)
        table = sensitivity.report(None if as_json else terminal.make_console(), found, out, parquet=parquet)
    if as_json:
        say_json({"folder": str(out), "runs": as_objects(table), "report": str(out / "report" / page.PAGES[0])})
    _refuse_failed(found, failed)


def compare_structures(
    scale: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="Fraction of Taos' five hours to run; 1 takes a minute or two.")
    ] = 0.1,
    out: StudyFolder = None,
    force: Force = False,
    seed: Seed = 0,
    actors: StudyActors = 0,
    links: ReplayLinks = None,
    address: Address = None,
    event_log: StudyEvents = None,
    limit: LimitOption = MOST_PARTS,
    timeline: Timeline = False,
    timeline_from: TimelineFrom = None,
    timeline_to: TimelineTo = None,
    timeline_slices: TimelineSlices = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Compare the costs of a monolithic and of a small kernel.

    Runs the scenario taos on a monolithic kernel, and on a small kernel with SRC RPC, with LRPC,
    and with LRPC/MP: LRPC and domain caching on a second processor.
    """
    check_result(as_json=as_json, dry_run=dry_run)
    bounds = timeline_of(timeline, timeline_from, timeline_to, timeline_slices)
    options = replace(_options(out, force, actors, links, address, dry_run), events=event_log, timeline=bounds)
    study = RecordedStudy("structures", options, command_line(), limit)
    table = structures.compare(scale, seed, study.carry_out)
    _show(study, table, structures.answer, as_json)


def compare_observations(
    scale: Annotated[
        float,
        typer.Option(
            min=1e-6, max=1.0, help="Fraction of Sun's four days to run, and up to ten times that of Taos' five hours."
        ),
    ] = observations.SCALE,
    out: StudyFolder = None,
    force: Force = False,
    seed: Seed = 0,
    actors: StudyActors = 0,
    links: ReplayLinks = None,
    address: Address = None,
    event_log: StudyEvents = None,
    limit: LimitOption = MOST_PARTS,
    timeline: Timeline = False,
    timeline_from: TimelineFrom = None,
    timeline_to: TimelineTo = None,
    timeline_slices: TimelineSlices = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Compare two scenarios with figures of other studies.

    Runs the scenarios taos and sun. The tolerances of the figures were stated before the first run.
    """
    check_result(as_json=as_json, dry_run=dry_run)
    bounds = timeline_of(timeline, timeline_from, timeline_to, timeline_slices)
    options = replace(_options(out, force, actors, links, address, dry_run), events=event_log, timeline=bounds)
    study = RecordedStudy("observations", options, command_line(), limit)
    table = observations.compare(scale, seed, study.carry_out)
    _show(study, table, observations.answer, as_json)


def compare_systems(
    out: SweepFolder,
    count: Annotated[int, typer.Option("--draws", min=2, max=10_000, help="How many draws of all parameters.")] = (
        leave_one_out.DRAWS
    ),
    scale: Annotated[
        float, typer.Option(min=1e-6, max=10.0, help="How many times as long as by default each system runs.")
    ] = 1.0,
    seed: Seed = 0,
    parallel: Parallel = None,
    address: Address = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Predict each of Table I's systems by people fitted on another.

    Draws people and systems from their ranges, the same people for all three systems. Prints the
    interval of each system's share over all draws, and over those in which another system's share
    came near the paper's.
    """
    check_result(as_json=as_json, dry_run=dry_run)
    found = leave_one_out.prepare(count, scale, seed, out, command_line())
    if dry_run:
        _say_planned(found, out)
        return
    with folders.claimed(out):
        failed = _carry_out(found, parallel, address)
        results = sweep.rows(found)
        table = leave_one_out.compare(results)
        path = out / f"{table.name}.csv"
        write_csv(path, table)
    if as_json:
        say_json(as_objects(table))
    else:
        terminal.print_table(terminal.make_console(), table)
        for (one, other), rank in leave_one_out.ties(results).items():
            say(f"rank correlation of the shares of {one} and {other}, which have the same people: {rank:.2f}")
        say(f"records {out}, table {path}")
        say(leave_one_out.answer(table))
    _refuse_failed(found, failed)


def _say_planned(found: sweep.Sweep, out: Path) -> None:
    """Print what would run."""
    done = sum(one.done for one in found.runs)
    say(f"{found.name}: {len(found.runs)} runs, {done} of them done, in {out}")


def _carry_out(found: sweep.Sweep, parallel: int | None, address: str | None) -> dict[int, str]:
    """Carry out the runs that are not done, beside a bar; return those that failed, by number."""
    with counting_bar(found.name, sum(not one.done for one in found.runs)) as note:
        return sweep.carry_out(found, parallel, address, note)


def _refuse_failed(found: sweep.Sweep, failed: Mapping[int, str]) -> None:
    """Raise `RunFailed` where a run failed."""
    if failed:
        first = min(failed)
        raise RunFailed(f"{len(failed)} of {len(found.runs)} runs failed; run {first}: {failed[first]}")


def _options(
    out: Path | None, force: bool, actors: int, links: Literal["grpc", "memory"] | None, address: str | None, dry: bool
) -> Options:
    """Return how to carry out the runs of a study: in this process, unless options say."""
    return Options(out, force, actors, links or ("grpc" if actors else "memory"), address, dry_run=dry)


def _show(study: RecordedStudy, table: Table, answer: Callable[[Table], str], as_json: bool) -> None:
    """Write and print a study's table, and its answer; a dry run has no rows."""
    if not table.rows:
        return
    path = study.write(table)
    if as_json:
        say_json(as_objects(table))
    else:
        terminal.print_table(terminal.make_console(), table)
        for finished in study.finished:
            if finished.timeline is not None:
                say(f"timeline {finished.folder / finished.timeline.file}: {finished.timeline}")
        say(f"records {study.folder}, table {path}")
        say(answer(table))
    for finished in study.finished:
        tell_of_timeline(finished)


def explain_call(
    test: Annotated[str, typer.Argument(help=f"Which call: {', '.join(explain.TESTS)}.")] = "Null",
    cost_model: CostModelName = "cvax-firefly",
    link_delay_us: LinkDelay = explain.LINK_DELAY_US,
    link_mbps: LinkMbps = explain.LINK_MBPS,
    as_json: AsJson = False,
    out: PageFolder = None,
    parquet: Parquet = False,
    force: Annotated[bool, typer.Option("--force", help="Replace the page at --out.")] = False,
) -> None:
    """Explain one call step by step, by LRPC and by the other ways to call.

    Makes the call on simulated machines that note what they are charged. Prints each way's steps in
    order, and all ways beside each other; with --out it writes a page of them, with pictures.
    """
    chosen = explain.test_of(test)
    costs = load_cost_model(cost_model)
    if parquet:
        if out is None:
            raise Refused("--parquet: there is no page, whose tables it writes; add --out")
        check_parquet()
    if out is not None:
        page.check_place(out, force=force)
    found = explain.ways(chosen, costs, link_delay_us, link_mbps)
    if out is not None:
        page.write(explain.report(found, chosen, costs), out, parquet=parquet)
    if as_json:
        say_json(explain.as_json(found, costs))
        return
    console = terminal.make_console()
    for way, explanation in found.items():
        terminal.print_table(console, explain.steps(way, explanation, costs))
    terminal.print_table(console, explain.beside(found, chosen, costs))
    if out is not None:
        say(f"report {out / page.PAGES[0]}")
    terminal.print_lines(console, [explain.answer(found)])
