"""The command `lrpc`: reproduces the paper, runs scenarios, replays traces, and lists what there is."""

import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final, Literal

import typer
from rich.console import Console
from typer.exceptions import TyperException

from lrpc import __version__
from lrpc.cluster.description import Cluster, read_cluster
from lrpc.cluster.run import Outcome
from lrpc.kernel.errors import Panic, Refused, RunFailed
from lrpc.kernel.simulated.costs import cost_model_names, load_cost_model
from lrpc.workloads import events, page, report, scenarios
from lrpc.workloads.activity import activity
from lrpc.workloads.execute import Options, execute, fail
from lrpc.workloads.paper import Cell, table_i
from lrpc.workloads.placement import place
from lrpc.workloads.records import Run, TraceAccounts, total_counts
from lrpc.workloads.registry import REGISTRY
from lrpc.workloads.replay import DEFAULT_PROCESSORS, accounts, replay_cluster, trace_name
from lrpc.workloads.reproduce import CALLS, PARTS, Plan, cells_of, reproduce_cluster
from lrpc.workloads.traces import read_trace

EPILOG: Final = """
Exit codes: 0 done, 2 input refused before work began, 3 a run failed, 130 interrupted.
"""

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
Actors = Annotated[
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
Events = Annotated[
    Path | None,
    typer.Option("--events", help="Export the event log; it hashes to the run's digest.", show_default=False),
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and say what would run.")]


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
    actors: Actors = None,
    links: LinksOption = "grpc",
    address: Address = None,
    event_log: Events = None,
    dry_run: DryRun = False,
) -> None:
    """Reproduce Tables II to V and Figures 1 and 2, ours beside the paper's, each from machines that are run for it."""
    plan = Plan(cost_model, calls, tuple(only or ()))
    cluster = reproduce_cluster(plan)
    run = Run("reproduce", _command(), seed, asdict(plan))
    options = Options(out, force, actors, links, address, event_log, dry_run)
    _carry_out(run, cluster, options, lambda outcome: cells_of(plan, cluster, outcome))


@app.command("run")
def run_scenario(
    scenario: Annotated[str, typer.Argument(help="Name of a scenario (see `lrpc list`), or a .toml file.")],
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    actors: Actors = None,
    links: LinksOption = "grpc",
    address: Address = None,
    event_log: Events = None,
    dry_run: DryRun = False,
) -> None:
    """Run one scenario on a simulated cluster; it ends with its row of Table I."""
    path = scenarios.find(scenario)
    cluster = read_cluster(path, REGISTRY)
    run = Run(cluster.name, _command(), seed, {"scenario": scenario, "cost_models": _cost_models(cluster)})
    options = Options(out, force, actors, links, address, event_log, dry_run)
    _carry_out(run, cluster, options, lambda outcome: table_i(cluster.name, total_counts(outcome)))


@app.command()
def replay(
    trace: Annotated[Path, typer.Argument(help="A trace: CSV or Jaeger's JSON, plain or gzipped.")],
    machines: Annotated[int, typer.Option(min=1, max=100_000, help="Machines to place the pods on.")],
    placement: Annotated[
        str, typer.Option(help="spread (sorted pods in turn), pack (fill one, then the next), or a .toml file.")
    ] = "spread",
    capacity: Annotated[
        int | None, typer.Option(min=1, help="Pods a machine holds, with pack.", show_default=False)
    ] = None,
    processors: Annotated[int, typer.Option(min=1, max=1024, help="Processors of each machine.")] = DEFAULT_PROCESSORS,
    cost_model: Annotated[
        str, typer.Option(help="Name or .toml file of a cost model; see `lrpc list`.")
    ] = "linux-python",
    link_delay_us: Annotated[
        float, typer.Option(min=0.001, max=1e9, help="Time on the wire between two machines.")
    ] = 50.0,
    link_mbps: Annotated[float, typer.Option(min=0.001, max=1e9, help="Bandwidth between two machines.")] = 10_000.0,
    strict: Annotated[bool, typer.Option("--strict", help="Refuse a trace that has a bad row.")] = False,
    out: Out = None,
    force: Force = False,
    seed: Seed = 0,
    actors: Actors = None,
    links: LinksOption = "grpc",
    address: Address = None,
    event_log: Events = None,
    dry_run: DryRun = False,
) -> None:
    """Replay a real trace, its pods placed on machines: its own row of Table I, and what its calls cost."""
    costs = load_cost_model(cost_model)
    spans = read_trace(trace, strict=strict)
    done = activity(spans, str(trace))
    placed = place(spans.pods, machines, placement, capacity=capacity)
    cluster = replay_cluster(
        trace_name(trace),
        spans,
        done,
        placed,
        machines,
        costs=costs,
        processors=processors,
        link_delay_us=link_delay_us,
        link_mbps=link_mbps,
    )
    settings = {
        "trace": str(trace),
        "machines": machines,
        "placement": placement,
        "placed": placed,
        "processors": processors,
        "cost_model": cost_model,
        "link_delay_us": link_delay_us,
        "link_mbps": link_mbps,
    }
    run = Run(cluster.name, _command(), seed, settings)
    options = Options(out, force, actors, links, address, event_log, dry_run)
    _carry_out(
        run,
        cluster,
        options,
        lambda outcome: table_i(cluster.name, total_counts(outcome)),
        lambda outcome: accounts(spans, outcome),
    )


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


@app.command("list")
def list_all() -> None:
    """List the scenarios and cost models that ship with lrpc."""
    print("scenarios (lrpc run NAME)")
    for name in scenarios.names():
        print(f"  {name:14} {scenarios.description(name)}")
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
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)  # to be ended is to be interrupted
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
    run: Run,
    cluster: Cluster,
    options: Options,
    cells_of: Callable[[Outcome], list[Cell]],
    accounts_of: Callable[[Outcome], TraceAccounts | None] = lambda outcome: None,
) -> None:
    """Execute a run and print what its record says; a dry run has none."""
    finished = execute(run, cluster, options, cells_of, accounts_of)
    if finished is None:
        return
    record = finished.record
    console = Console() if sys.stdout.isatty() else Console(width=110)  # a file has no width of its own
    report.print_cells(console, record.cells)
    report.print_counts(console, "Counts", record.counts)
    if record.trace is not None:
        report.print_counts(console, "The trace", record.trace.summary)
        report.print_lines(console, record.trace.left_out)
    report.print_latencies(console, record.latency_us)
    report.print_lines(console, [f"digest {record.digest}", f"record {finished.folder}"])


def _command() -> list[str]:
    return ["lrpc", *sys.argv[1:]]


def _cost_models(cluster: Cluster) -> list[str]:
    return sorted({machine.costs.name for machine in cluster.machines})
