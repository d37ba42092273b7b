"""The subcommands of `lrpc` that run clusters: the paper's, a scenario, a record's again."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lrpc.cluster.scenario import MOST_PARTS
from lrpc.domains.host.here import require
from lrpc.kernel.errors import RunFailed
from lrpc.workloads.commands import carry_out, record_of, timeline_of
from lrpc.workloads.options import (
    ActorsOption,
    Address,
    AsJson,
    CostModelName,
    DryRun,
    Events,
    Force,
    LimitOption,
    LinksOption,
    MaxCalls,
    Out,
    RegistryOption,
    Seed,
    Stay,
    Timeline,
    TimelineFrom,
    TimelineSlices,
    TimelineTo,
    Tracebacks,
    Until,
)
from lrpc.workloads.reports.bars import progress_bar
from lrpc.workloads.reports.output import note_lines, say, say_json
from lrpc.workloads.reproduction import CALLS, PARTS
from lrpc.workloads.runs.jobs import ReproduceJob, RunJob, registry_for
from lrpc.workloads.runs.planned import Options, planned_calls


def reproduce(
    cost_model: CostModelName = "cvax-firefly",
    calls: Annotated[
        int,
        typer.Option(
            min=1,
            max=10**9,
            help="Calls in each test. Fewer than the default shorten Figures 1 and 2 in proportion.",
        ),
    ] = CALLS,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Reproduce only this part; may be repeated. The parts: {', '.join(PARTS)}."),
    ] = None,
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
    event_log: Events = None,
    as_json: AsJson = False,
    dry_run: DryRun = False,
    here: Annotated[bool, typer.Option("--here", help="Measure Table IV on this computer too.")] = False,
) -> None:
    """Reproduce the paper's tables and figures.

    Each figure is measured on simulated machines, and printed beside the paper's. A verdict at the
    end gives the largest deviations.
    """
    if here:
        require()
    job = ReproduceJob(cost_model=cost_model, calls=calls, only=tuple(only or ()), seed=seed)
    options = Options(out, force, actors, links, address, event_log, dry_run)
    finished = carry_out(job, options, as_json=as_json, printed=not (here and as_json))
    if finished is not None:
        from lrpc.workloads.reports import page, terminal

        report = page.make([finished.folder], None, force=True)
        if as_json:
            if here:
                _measure_here(finished.folder / "here", as_json=True)
                told = {"folder": str(finished.folder), **record_of(finished.folder)}
                say_json(told | {"here": record_of(finished.folder / "here")})
            return
        console = terminal.make_console()
        terminal.print_lines(console, [f"report {report / page.PAGES[0]}", *terminal.verdict(finished.record.cells)])
        if here:
            _measure_here(finished.folder / "here")


def _measure_here(out: Path, *, as_json: bool = False) -> None:
    """Measure Table IV on this computer; what that needs is imported only where it is asked for."""
    from lrpc.workloads import host_commands

    host_commands.measure_table_iv(out, as_json=as_json)


def run_scenario(
    scenario: Annotated[str, typer.Argument(help="A name from `lrpc list`, or a .toml file.")],
    scale: Annotated[
        float,
        typer.Option(
            min=1e-6, max=1.0, help="Fraction of the scenario to run: multiplies the parameters marked as scaling."
        ),
    ] = 1.0,
    registry: RegistryOption = None,
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
    stay: Stay = False,
    event_log: Events = None,
    limit: LimitOption = MOST_PARTS,
    until: Until = None,
    max_calls: MaxCalls = None,
    timeline: Timeline = False,
    timeline_from: TimelineFrom = None,
    timeline_to: TimelineTo = None,
    timeline_slices: TimelineSlices = None,
    tracebacks: Tracebacks = False,
    as_json: AsJson = False,
    dry_run: DryRun = False,
) -> None:
    """Run a scenario on a simulated cluster.

    Prints the scenario's row of the paper's Table I: the share of operations that cross machines. A
    run that reaches --until or --max-calls is stopped there, and leaves an incomplete record.
    """
    job = RunJob(scenario=scenario, scale=scale, seed=seed)
    own = registry_for(job, registry)
    options = Options(
        out,
        force,
        actors,
        links,
        address,
        event_log,
        dry_run,
        stay=stay,
        until_us=until,
        max_calls=max_calls,
        timeline=timeline_of(timeline, timeline_from, timeline_to, timeline_slices),
    )
    try:
        carry_out(job, options, own, limit, as_json=as_json)
    except RunFailed as error:
        if tracebacks:
            note_lines(error.raised_at.trace)
        raise


def verify_record(
    record: Annotated[Path, typer.Argument(help="Folder of the record.", show_default=False)],
    registry: RegistryOption = None,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
    limit: LimitOption = MOST_PARTS,
    as_json: AsJson = False,
) -> None:
    """Repeat a record's run, and compare what every machine did.

    The run may be repeated with other actors and links than before: its result must not change.
    """
    from lrpc.workloads.runs import verify

    found = verify.check(record)
    with (
        verify.prepared(found, str(record), registry, limit) as ready,
        progress_bar(found.workload, planned_calls(ready.cluster)) as show,
    ):
        outcome = verify.run_again(ready, actors=actors, transport=links, address=address, on_progress=show)
    difference = verify.compare(found, outcome)
    if as_json:
        first = None if difference is None else asdict(difference)
        say_json({"same": difference is None, "digest": outcome.digest, "record": found.digest, "difference": first})
    else:
        say(verify.in_words(found, outcome, difference))
    if difference is not None:
        raise typer.Exit(1)
