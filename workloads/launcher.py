"""The command `lrpc`: its subcommands, options and exit codes.

Each subcommand makes a job of its options (`runs.jobs`), has it executed, and prints the record.
Nothing is measured here, and what is printed is in the record as well.

Results go to stdout. Progress, notes and errors go to stderr, so that output can be piped. Every
failure is one line and an exit code: a traceback would help nobody but the developers, and a
record keeps the traceback of a bug.
"""

import json
import os
import sys
from pathlib import Path
from typing import Annotated, Final

import typer
from typer.exceptions import TyperException

from lrpc import __version__
from lrpc.cluster.scenario import MOST_PARTS
from lrpc.domains.host.here import require
from lrpc.kernel.documents import read_toml
from lrpc.kernel.errors import Panic, Refused, RunFailed
from lrpc.kernel.simulated.costs import cost_model_names, load_cost_model
from lrpc.workloads import host_commands, scenarios, trace_commands
from lrpc.workloads.commands import carry_out
from lrpc.workloads.options import (
    ActorsOption,
    Address,
    AsJson,
    DryRun,
    Events,
    Force,
    Limit,
    LinkDelay,
    LinkMbps,
    LinksOption,
    Out,
    Parallel,
    RegistryOption,
    Seed,
    SweepFolder,
    check_arguments,
    show_any_text,
)
from lrpc.workloads.records import events, folders
from lrpc.workloads.reports import page, terminal
from lrpc.workloads.reproduction.reproduce import CALLS, PARTS
from lrpc.workloads.runs import verify
from lrpc.workloads.runs.execute import Options, counting_bar, fail, planned_calls, progress_bar
from lrpc.workloads.runs.jobs import ReproduceJob, RunJob, registry_for
from lrpc.workloads.studies import explain, observations, sensitivity, structures, sweep

EPILOG: Final = """
Exit codes: 0 done, 1 verify found a difference, 2 input refused before work began, 3 a run failed, 130 interrupted.
"""

app = typer.Typer(
    help="Simulate Lightweight RPC: what calls between protection domains and machines cost.",
    epilog=EPILOG,
    add_completion=False,
    # Plain help: with Rich's tables, the help texts would have a third of 80 columns.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def reproduce(
    cost_model: Annotated[
        str, typer.Option(help="Cost model: a name from `lrpc list`, or a .toml file.")
    ] = "cvax-firefly",
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
    finished = carry_out(job, Options(out, force, actors, links, address, event_log, dry_run))
    if finished is not None:
        report = page.make([finished.folder], None, force=True)
        terminal.print_lines(terminal.make_console(), terminal.verdict(finished.record.cells))
        terminal.print_lines(terminal.make_console(), [f"report {report / page.PAGES[0]}"])
        if here:
            host_commands.measure_table_iv(finished.folder / "here")


@app.command("run")
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
    event_log: Events = None,
    limit: Limit = MOST_PARTS,
    dry_run: DryRun = False,
) -> None:
    """Run a scenario on a simulated cluster.

    Prints the scenario's row of the paper's Table I: the share of operations that cross machines.
    """
    job = RunJob(scenario=scenario, scale=scale, seed=seed)
    own = registry_for(job, registry)
    carry_out(job, Options(out, force, actors, links, address, event_log, dry_run), own, limit)


app.command()(trace_commands.replay)
app.command("place")(trace_commands.find_placement)
app.command("traces")(trace_commands.tell)
app.command("serve")(host_commands.serve_class)
app.command("call", context_settings={"ignore_unknown_options": True})(host_commands.call_procedure)
app.command("doors")(host_commands.look)
app.command("bench")(host_commands.bench)


@app.command("verify")
def verify_record(
    record: Annotated[Path, typer.Argument(help="Folder of the record.", show_default=False)],
    registry: RegistryOption = None,
    actors: ActorsOption = None,
    links: LinksOption = "grpc",
    address: Address = None,
    limit: Limit = MOST_PARTS,
) -> None:
    """Repeat a record's run, and compare what every machine did.

    The run may be repeated with other actors and links than before: its result must not change.
    """
    found = verify.check(record)
    with (
        verify.prepared(found, str(record), registry, limit) as ready,
        progress_bar(found.workload, planned_calls(ready.cluster)) as show,
    ):
        outcome = verify.run_again(ready, actors=actors, transport=links, address=address, on_progress=show)
    difference = verify.compare(found, outcome)
    terminal.say(verify.in_words(found, outcome, difference))
    if difference is not None:
        raise typer.Exit(1)


@app.command("sweep")
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
    limit: Limit = MOST_PARTS,
    dry_run: DryRun = False,
) -> None:
    """Run a job many times with varied parameters.

    A sweep varies its job in one way: all combinations of some values, random draws from the ranges
    of parameters, or changes of one parameter at a time. Every run has a record. A table and a
    report cover all runs.
    """
    file = scenarios.find_sweep(name)
    found = sweep.read_sweep(file, out, registry, limit)
    for line in found.left_out:
        terminal.print_note(f"note: {line}")
    if dry_run:
        done = sum(one.done for one in found.runs)
        terminal.say(f"{found.name}: {len(found.runs)} runs, {done} of them done, in {out}")
        return
    with folders.claimed(out):
        sweep.open_folder(file, out, force=force)
        with counting_bar(found.name, sum(not one.done for one in found.runs)) as note:
            failed = sweep.carry_out(found, parallel, address, note)
        sensitivity.report(terminal.make_console(), found, out)
    if failed:
        first = min(failed)
        raise RunFailed(f"{len(failed)} of {len(found.runs)} runs failed; run {first}: {failed[first]}")


@app.command("report")
def make_report(
    record: Annotated[list[Path], typer.Argument(help="Folders of one or more records.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the report.",
            show_default="report/ in the record's folder; for several, a new one under records/",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a report that exists already.")] = False,
) -> None:
    """Write a report on one record, or compare several.

    A report is a web page, Markdown and CSV files. It is made from the records; nothing is run.
    """
    folder = page.make(record, out, force=force)
    terminal.say(f"report {folder / page.PAGES[0]}")


@app.command("structures")
def compare_structures(
    scale: Annotated[
        float, typer.Option(min=1e-6, max=1.0, help="Fraction of Taos' five hours to run; 1 takes a minute or two.")
    ] = 0.1,
    seed: Seed = 0,
) -> None:
    """Compare the costs of a monolithic and of a small kernel.

    Runs the scenario taos on a monolithic kernel, and on a small kernel with SRC RPC, with LRPC,
    and with LRPC/MP: LRPC and domain caching on a second processor.
    """
    terminal.print_table(terminal.make_console(), structures.compare(scale, seed))


@app.command("observations")
def compare_observations(
    scale: Annotated[
        float,
        typer.Option(
            min=1e-6, max=1.0, help="Fraction of Sun's four days to run, and up to ten times that of Taos' five hours."
        ),
    ] = observations.SCALE,
    seed: Seed = 0,
) -> None:
    """Compare two scenarios with figures of other studies.

    Runs the scenarios taos and sun. The tolerances of the figures were stated before the first run.
    """
    terminal.print_table(terminal.make_console(), observations.compare(scale, seed))


@app.command("explain")
def explain_call(
    test: Annotated[str, typer.Argument(help=f"Which call: {', '.join(explain.TESTS)}.")] = "Null",
    cost_model: Annotated[
        str, typer.Option(help="Cost model: a name from `lrpc list`, or a .toml file.")
    ] = "cvax-firefly",
    link_delay_us: LinkDelay = explain.LINK_DELAY_US,
    link_mbps: LinkMbps = explain.LINK_MBPS,
    as_json: AsJson = False,
) -> None:
    """Explain one call step by step, by LRPC and by the other ways to call.

    Makes the call on simulated machines that note what they are charged. Prints each way's steps in
    order, and all ways beside each other.
    """
    chosen = explain.test_of(test)
    costs = load_cost_model(cost_model)
    found = explain.ways(chosen, costs, link_delay_us, link_mbps)
    if as_json:
        terminal.say(json.dumps(explain.as_json(found)))
        return
    console = terminal.make_console()
    for way, explanation in found.items():
        terminal.print_table(console, explain.steps(way, explanation))
    terminal.print_table(console, explain.beside(found, chosen, costs))
    terminal.print_lines(console, [explain.answer(found)])


@app.command("list")
def list_all() -> None:
    """List the scenarios, sweeps and cost models of lrpc."""
    print("scenarios (lrpc run NAME)")
    for name in scenarios.names():
        terminal.say(f"  {name:14} {scenarios.description(name)}")
    print("sweeps (lrpc sweep NAME)")
    for name in scenarios.names(scenarios.SWEEPS):
        terminal.say(f"  {name:14} {read_toml(scenarios.find_sweep(name)).get('name', '')}")
    print("cost models (--cost-model NAME)")
    for name in cost_model_names():
        terminal.say(f"  {name:14} {load_cost_model(name).file.description}")


@app.command("events")
def show_events(
    log: Annotated[Path, typer.Argument(help="File that a run wrote with --events.")],
    digest_only: Annotated[bool, typer.Option("--digest", help="Print only the digest of the log.")] = False,
) -> None:
    """Print the event log of a run as CSV, or its digest.

    The digest of the log is that of the run. The columns are machine, virtual time in ns, event,
    subject and object.
    """
    if digest_only:
        print(events.digest(log))
        return
    for line in events.lines(log):
        print(line)


@app.callback(invoke_without_command=True)
def version(
    context: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version and exit.", is_eager=True)] = False,
) -> None:
    """Simulate Lightweight RPC: what calls between protection domains and machines cost."""
    if show:
        print(f"lrpc {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit(2)


def main() -> None:
    """Run the command line, and end with an exit code; a failure prints one line."""
    show_any_text()
    try:
        check_arguments()
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
    # Nobody reads the output any more, as with `lrpc events LOG | head`. Typer turns a
    # BrokenPipeError into a SystemExit.
    except (BrokenPipeError, SystemExit):
        terminal.drop_output()
        raise SystemExit(0) from None
    except TyperException as error:
        fail(error.format_message(), 2)
    except OSError as error:
        if error.filename is not None:
            raise
        terminal.drop_output()  # the disk is full, say
        fail(f"standard output cannot be written: {os.strerror(error.errno or 0)}", 3)
    else:
        if code == 130:  # Typer turns a KeyboardInterrupt into this code
            fail("interrupted", 130)
        raise SystemExit(code)
