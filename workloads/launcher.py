"""The command `lrpc`: reproduces the paper, runs scenarios, replays traces, and lists what there is."""

import os
import sys
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console
from typer.exceptions import TyperException

from lrpc import __version__
from lrpc.kernel.documents import read_toml
from lrpc.kernel.errors import Panic, Refused, RunFailed
from lrpc.kernel.simulated.costs import cost_model_names, load_cost_model
from lrpc.workloads import scenarios
from lrpc.workloads.placing import place
from lrpc.workloads.placing.partition import SearchLimits
from lrpc.workloads.programs.registry import UsersRegistry, load_registry
from lrpc.workloads.records import events, records, tables
from lrpc.workloads.replay.replay import DEFAULT_PROCESSORS
from lrpc.workloads.reports import page, terminal
from lrpc.workloads.reproduction.reproduce import CALLS, PARTS
from lrpc.workloads.runs import verify
from lrpc.workloads.runs.execute import Finished, Options, counting_bar, execute, fail, planned_calls, progress_bar
from lrpc.workloads.runs.jobs import ReplayJob, ReproduceJob, RunJob
from lrpc.workloads.studies import observations, sensitivity, structures, sweep

EPILOG: Final = """
Exit codes: 0 done, 1 verify found a difference, 2 input refused before work began, 3 a run failed, 130 interrupted.
"""

MOST_COLUMNS: Final = 16  # of a sweep's table that a terminal shows

app = typer.Typer(
    help="Lightweight RPC, simulated from its mechanism: what calls between protection domains and machines cost.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Out = Annotated[
    Path | None,
    typer.Option(help="Folder for the record.", show_default="a fresh one under records/"),
]
Force = Annotated[bool, typer.Option("--force", help="Replace the record that --out holds.")]
Seed = Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of every random stream.")]
ActorsOption = Annotated[
    int | None,
    typer.Option(
        help="Ray actors to spread the machines over; 0 runs in this process, without Ray.",
        show_default="one per machine, up to 8 and to the processors here",
    ),
]
LinksOption = Annotated[
    Literal["grpc", "memory"], typer.Option(help="How messages between machines travel; memory is for 0 or 1 actor.")
]
Address = Annotated[
    str | None, typer.Option(help="host:port of an existing Ray cluster, of which this is a node.", show_default=False)
]
TraceFile = Annotated[Path, typer.Argument(help="A trace: CSV, Jaeger's or OpenTelemetry's JSON, plain or gzipped.")]
MachinesOption = Annotated[int, typer.Option(min=1, max=100_000, help="Machines to place the pods on.")]
Processors = Annotated[int, typer.Option(min=1, max=1024, help="Processors of each machine.")]
CostModelName = Annotated[str, typer.Option(help="Name or .toml file of a cost model; see `lrpc list`.")]
LinkDelay = Annotated[float, typer.Option(min=0.001, max=1e9, help="Time on the wire between two machines.")]
LinkMbps = Annotated[float, typer.Option(min=0.001, max=1e9, help="Bandwidth between two machines.")]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse a trace that has a bad row.")]
Events = Annotated[
    Path | None,
    typer.Option("--events", help="Export the event log; it hashes to the run's digest.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would run.")]
RegistryOption = Annotated[
    str | None,
    typer.Option(
        "--registry",
        help="Your own servers and programs, as module:NAME or path.py:NAME of a lrpc.Registry; runs that code.",
        show_default=False,
    ),
]


@app.command()
def reproduce(
    cost_model: Annotated[
        str, typer.Option(help="Name or .toml file of a cost model; see `lrpc list`.")
    ] = "cvax-firefly",
    calls: Annotated[
        int,
        typer.Option(
            min=1,
            max=10**9,
            help="Calls of each test. Fewer than by default shorten the survey (Figure 1) and Figure 2's time as well.",
        ),
    ] = CALLS,
    only: Annotated[
        list[str] | None,
        typer.Option(help=f"Only this table or figure, repeatable: {', '.join(PARTS)}."),
    ] = None,
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
    event_log: Events = None,
    dry_run: DryRun = False,
) -> None:
    """Reproduce the paper's tables and figures, each from machines that are run for it; end with a verdict."""
    job = ReproduceJob(cost_model=cost_model, calls=calls, only=tuple(only or ()), seed=seed)
    finished = _carry_out(job, Options(out, force, actors, links, address, event_log, dry_run))
    if finished is not None:
        report = page.make([finished.folder], None, force=True)
        terminal.print_lines(_console(), terminal.verdict(finished.record.cells))
        terminal.print_lines(_console(), [f"report {report / page.PAGES[0]}"])


@app.command("run")
def run_scenario(
    scenario: Annotated[str, typer.Argument(help="Name of a scenario (see `lrpc list`), or a .toml file.")],
    scale: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="How much of it, where its parameters say what that means.")
    ] = 1.0,
    registry: RegistryOption = None,
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
    event_log: Events = None,
    dry_run: DryRun = False,
) -> None:
    """Run one scenario on a simulated cluster; it ends with its row of Table I."""
    own = None if registry is None else load_registry(registry)
    job = RunJob(scenario=scenario, scale=scale, seed=seed)
    _carry_out(job, Options(out, force, actors, links, address, event_log, dry_run), own)


@app.command()
def replay(
    trace: TraceFile,
    machines: MachinesOption,
    placement: Annotated[
        str, typer.Option(help="spread (sorted pods in turn), pack (fill one, then the next), or a .toml file.")
    ] = "spread",
    capacity: Annotated[
        int | None, typer.Option(min=1, help="Pods a machine holds, with pack.", show_default=False)
    ] = None,
    processors: Processors = DEFAULT_PROCESSORS,
    cost_model: CostModelName = "linux-python",
    link_delay_us: LinkDelay = 50.0,
    link_mbps: LinkMbps = 10_000.0,
    strict: Strict = False,
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
    event_log: Events = None,
    dry_run: DryRun = False,
) -> None:
    """Replay a real trace, its pods placed on machines: its own row of Table I, and what its calls cost."""
    job = ReplayJob(
        trace=str(trace),
        machines=machines,
        placement=placement,
        capacity=capacity,
        processors=processors,
        cost_model=cost_model,
        link_delay_us=link_delay_us,
        link_mbps=link_mbps,
        strict=strict,
        seed=seed,
    )
    _carry_out(job, Options(out, force, actors, links, address, event_log, dry_run))


@app.command("place")
def find_placement(
    trace: TraceFile,
    machines: MachinesOption,
    slack: Annotated[
        float, typer.Option(help="How many times its fair share of all computation a machine may hold.")
    ] = 1.2,
    nodes: Annotated[int, typer.Option(min=1, max=2**31 - 1, help="Nodes of the search after which it ends.")] = 20_000,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=1e6, help="And the time: another run may then find something else.")
    ] = 600.0,
    processors: Processors = DEFAULT_PROCESSORS,
    cost_model: CostModelName = "linux-python",
    link_delay_us: LinkDelay = 50.0,
    link_mbps: LinkMbps = 10_000.0,
    strict: Strict = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The placement, a .toml file for `replay`.", show_default="placement.toml by the records"),
    ] = None,
    record: Annotated[
        Path | None, typer.Option(help="Folder for both replays' records.", show_default="a fresh one under records/")
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace what --out and --record name.")] = False,
    seed: Seed = 0,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
    dry_run: DryRun = False,
) -> None:
    """Find the placement of a trace's pods with the fewest calls between machines, and replay it beside `spread`."""
    job = ReplayJob(
        trace=str(trace),
        machines=machines,
        processors=processors,
        cost_model=cost_model,
        link_delay_us=link_delay_us,
        link_mbps=link_mbps,
        strict=strict,
        seed=seed,
    )
    options = Options(record, force, actors, links, address, None, dry_run)
    done = place.compare(job, slack, SearchLimits(nodes, seconds), options, _command(), out=out)
    if done is not None:
        terminal.print_table(_console(), place.table(done))
        terminal.print_lines(_console(), place.lines(done))


@app.command("verify")
def verify_record(
    record: Annotated[Path, typer.Argument(help="Folder of a record.", show_default=False)],
    registry: RegistryOption = None,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
) -> None:
    """Run a record's job again, elsewhere if asked, and say whether every machine did the same."""
    found = verify.check(record)
    own = None if registry is None else load_registry(registry)
    with (
        verify.prepared(found, str(record), own) as ready,
        progress_bar(found.workload, planned_calls(ready.cluster)) as show,
    ):
        outcome = verify.run_again(
            ready,
            actors=actors,
            links=links,
            address=address,
            on_progress=show,
        )
    difference = verify.compare(found, outcome)
    print(verify.in_words(found, outcome, difference))
    if difference is not None:
        raise typer.Exit(1)


@app.command("sweep")
def run_sweep(
    name: Annotated[
        str, typer.Argument(help="Name of a sweep (see `lrpc list`), or a .toml file: a job, and what varies.")
    ],
    out: Annotated[Path, typer.Option(help="Folder for all records and the table; an existing folder is resumed.")],
    parallel: Annotated[
        int | None,
        typer.Option(min=0, max=256, help="Runs at once; 0 in this process.", show_default="the processors here"),
    ] = None,
    address: Address = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the runs of another sweep in that folder.")] = False,
    registry: RegistryOption = None,
    dry_run: DryRun = False,
) -> None:
    """Run combinations of parameters, draws from their ranges, or changes of one: a record of each, and a report."""
    file = scenarios.find_sweep(name)
    found = sweep.read_sweep(file, out, None if registry is None else load_registry(registry))
    for line in found.left_out:
        print(f"note: {line}", file=sys.stderr)
    if dry_run:
        print(f"{found.name}: {len(found.parts)} runs, {sum(part.done for part in found.parts)} of them done, in {out}")
        return
    sweep.open_folder(file, out, force=force)
    with counting_bar(found.name, sum(not part.done for part in found.parts)) as note:
        failed = sweep.carry_out(found, parallel, address, note)
    rows = sweep.rows(found)
    table = sweep.table(found, rows)
    parts = sensitivity.of_sweep(found, rows, table)
    page.write(page.Report(f"Sweep {found.name}", [], parts), out / "report")
    console = _console()
    if len(found.parts) <= page.MOST_ROWS and len(table.columns) <= MOST_COLUMNS:
        terminal.print_table(console, table)
    for part in (part for section in parts[:-1] for part in section.parts if isinstance(part, tables.Table)):
        terminal.print_table(console, part, 15)
    print(f"table {sweep.write_table(table, out)}")
    print(f"report {out / 'report' / page.PAGES[0]}")
    if failed:
        first = min(failed)
        raise RunFailed(f"{len(failed)} of {len(found.parts)} runs failed; run {first}: {failed[first]}")


@app.command("report")
def make_report(
    record: Annotated[list[Path], typer.Argument(help="Folders of records.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the report.", show_default="report/ in the record's, or a fresh one under records/"
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the report that is there.")] = False,
) -> None:
    """Write a page, Markdown and CSV of what a record says, or of several beside each other; nothing is run."""
    folder = page.make(record, out, force=force)
    print(f"report {folder / page.PAGES[0]}")


@app.command("structures")
def compare_structures(
    scale: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="How much of Taos' five hours; at 1 it takes a minute or two.")
    ] = 0.1,
    seed: Seed = 0,
) -> None:
    """Run the scenario taos on a monolithic kernel, and on a small one with RPC of three kinds; compare costs."""
    terminal.print_table(_console(), structures.compare(scale, seed))


@app.command("observations")
def compare_observations(
    scale: Annotated[
        float,
        typer.Option(min=1e-6, max=1.0, help="How much of Sun's four days; ten times as much of Taos' five hours."),
    ] = observations.SCALE,
    seed: Seed = 0,
) -> None:
    """Predict what else was observed of such systems, beside the studies' figures and tolerances stated beforehand."""
    terminal.print_table(_console(), observations.compare(scale, seed))


@app.command("list")
def list_all() -> None:
    """List the scenarios and cost models that ship with lrpc."""
    print("scenarios (lrpc run NAME)")
    for name in scenarios.names():
        print(f"  {name:14} {scenarios.description(name)}")
    print("sweeps (lrpc sweep NAME)")
    for name in scenarios.names(scenarios.SWEEPS):
        print(f"  {name:14} {read_toml(scenarios.find_sweep(name)).get('name', '')}")
    print("cost models (--cost-model NAME)")
    for name in cost_model_names():
        print(f"  {name:14} {load_cost_model(name).file.description}")


@app.command("events")
def show_events(
    log: Annotated[Path, typer.Argument(help="A file that a run wrote with --events.")],
    digest_only: Annotated[
        bool, typer.Option("--digest", help="Print the digest that it hashes to, and no more.")
    ] = False,
) -> None:
    """Print an exported event log as CSV, or the digest that it hashes to."""
    if digest_only:
        print(events.digest(log))
        return
    for line in events.lines(log):
        print(line)


@app.callback(invoke_without_command=True)
def version(
    show: Annotated[bool, typer.Option("--version", help="Print the version and no more.", is_eager=True)] = False,
) -> None:
    """Lightweight RPC, simulated from its mechanism: what calls between protection domains and machines cost."""
    if show:
        print(f"lrpc {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; every failure is one line and an exit code."""
    try:
        code = app(standalone_mode=False)
        sys.stdout.flush()
    except Refused as error:
        fail(str(error), 2)
    except RunFailed as error:
        fail(str(error), 3)
    except Panic as error:
        fail(f"broken invariant, a bug of lrpc's own: {error}", 3)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", 130)
    except (BrokenPipeError, SystemExit):  # whoever read our output has gone; Typer makes a SystemExit of it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python would complain of it at its end
        raise SystemExit(0) from None
    except TyperException as error:
        fail(error.format_message(), 2)
    else:
        if code == 130:  # what Typer makes of a KeyboardInterrupt
            fail("interrupted", 130)
        raise SystemExit(code)


def _carry_out(
    job: RunJob | ReplayJob | ReproduceJob, options: Options, own: UsersRegistry | None = None
) -> Finished | None:
    """Execute a job and print what its record says; return None after a dry run, which has no record."""
    ready = job.prepare(_command(), own)
    finished = execute(ready.run, ready.cluster, options, ready.cells_of, ready.accounts_of)
    if finished is None:
        return None
    record = finished.record
    console = _console()
    terminal.print_cells(console, record.cells)
    terminal.print_counts(console, "Counts", record.counts)
    if record.trace is not None:
        terminal.print_counts(console, "The trace", record.trace.summary)
        terminal.print_times(console, record.trace.times, max(1, record.trace.traces))
        terminal.print_lines(console, record.trace.left_out)
    terminal.print_latencies(console, record.latency_us)
    done = sum(record.counts[name] for name in records.COUNTS)
    if record.wall_s:
        terminal.print_lines(
            console, [f"{done:,} operations in {record.wall_s:,.1f} s: {done / record.wall_s:,.0f} a second"]
        )
    terminal.print_lines(console, [f"digest {record.digest}", f"record {finished.folder}"])
    return finished


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=110)  # a file has no width of its own


def _command() -> list[str]:
    return ["lrpc", *sys.argv[1:]]
