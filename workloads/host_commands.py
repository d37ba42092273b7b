"""The subcommands of `lrpc` for this computer: serve a class, call a procedure, look at doors."""

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from lrpc.domains.host.here import Waits, require
from lrpc.kernel.errors import Refused
from lrpc.workloads.bench import measure, pairs, record, targets
from lrpc.workloads.bench.peers import BESIDE, COMPUTING, PEERS, SHARED, SHIPPED_CHANNEL, BenchPeer
from lrpc.workloads.bench.servers import ARGUMENTS
from lrpc.workloads.commands import record_of
from lrpc.workloads.here import call, doors, serve
from lrpc.workloads.options import AsJson, Force, Out, command_line
from lrpc.workloads.records import folders
from lrpc.workloads.reports import terminal
from lrpc.workloads.reports.bars import spinner
from lrpc.workloads.reports.output import say, say_json

Folder = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the doors, or abstract:UID,UID for containers of one pod.",
        show_default="$LRPC_DOORS, or a folder of the user's",
    ),
]


def serve_class(
    server: Annotated[str, typer.Argument(help="Class that implements an Interface: module:NAME or path.py:NAME.")],
    name: Annotated[str, typer.Option(help="Name to export it under.")],
    folder: Folder = None,
    waits: Annotated[Waits, typer.Option(help="How workers wait: spin where that pays, sleep, or spin.")] = "adapt",
    workers: Annotated[int, typer.Option(min=1, max=10_000, help="Most procedures that run at a time.")] = 64,
    timeline: Annotated[
        Path | None, typer.Option(help="File for a timeline of what it did, in Perfetto's format, written at the end.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what is served as JSON, once it is.")] = False,
) -> None:
    """Serve a class of yours to other processes of this computer, until Ctrl-C."""
    serve.serve(server, name, folder, waits, workers, timeline, as_json=as_json)


def call_procedure(
    target: Annotated[str, typer.Argument(help="NAME.PROCEDURE, for example adder.add.")],
    arguments: Annotated[list[str] | None, typer.Argument(help="Its arguments.")] = None,
    folder: Folder = None,
    timeout: Annotated[float | None, typer.Option(min=0.0, help="Seconds to wait.", show_default="for ever")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON; bytes in base 64.")] = False,
) -> None:
    """Call a procedure that a process of this computer exports, and print what it returns."""
    returned = call.call(target, arguments or [], folder, timeout)
    if as_json:
        say_json(call.as_json(returned))
        return
    for one in returned if isinstance(returned, tuple) else (returned,):
        if isinstance(one, bytes):
            sys.stdout.flush()
            sys.stdout.buffer.write(one)
        elif one is not None:
            say(str(one))


def look(
    folder: Folder = None,
    as_json: AsJson = False,
    watch: Annotated[
        float | None, typer.Option(min=0.1, max=3600, help="Look again each so many seconds, until Ctrl-C.")
    ] = None,
) -> None:
    """List what processes of this computer export, who is bound, and how their calls wait."""
    console = terminal.make_console()
    while True:
        found = doors.statuses(folder)
        if as_json:
            say_json({name: one if isinstance(one, str) else asdict(one) for name, one in found.items()})
        elif not found:
            print("no doors: nothing is exported here; see `lrpc serve`")
        else:
            for table in doors.tables(found):
                if table.rows:
                    terminal.print_table(console, table)
        if watch is None:
            return
        sys.stdout.flush()
        time.sleep(watch)


def measure_table_iv(out: Path, *, as_json: bool = False) -> None:
    """Measure Table IV between processes of this computer, and leave a record.

    It is printed too, except with `as_json`.
    """
    wanted = {peer for _, peer, _ in record.TABLE_IV}
    with spinner("measuring Table IV on this computer") as tell:
        found = measure.measure([one for one in PEERS if one.name in wanted], record.FOUR_TESTS, measure.QUICK, tell)
    made = record.BenchRecord(command_line(), measure.QUICK, found.cells(), [], [], [], found.repeated, found.disturbed)
    record.write(out, made)
    if as_json:
        return
    terminal.print_table(terminal.make_console(), record.today(made))
    say(f"record and page: {out}")
    say(made.answer)


def _shared(
    peers: Sequence[BenchPeer], effort: measure.Effort, tell: Callable[[str], None], *, quick: bool
) -> list[measure.Shared]:
    """Measure what several clients of one server get, processes and threads."""
    found: list[measure.Shared] = []
    for peer in peers:
        if peer.name in SHARED:
            tell(f"several clients: {peer.name}")
            found += measure.share(peer, (1, 4) if quick else (1, 2, 4, 8), effort.clients_s)
            found += measure.share_threads(peer, (4,) if quick else (1, 2, 4, 8), effort.clients_s)
    return found


def bench(
    quick: Annotated[bool, typer.Option("--quick", help="Measure less, in under 40 seconds.")] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(
            help=f"Measure only this peer, beside gRPC; may be repeated. {', '.join(one.name for one in PEERS)}."
        ),
    ] = None,
    out: Out = None,
    force: Force = False,
    as_json: AsJson = False,
) -> None:
    """Measure calls between processes of this computer: lrpc beside gRPC and others, in one run."""
    require()
    known = [one.name for one in PEERS]
    for name in only or ():
        if name not in known:
            raise Refused(f"--only {name}: no such peer; the peers: {', '.join(known)}")
    folder = out or folders.fresh("bench")
    folders.check(folder, "record", lambda one: (one / "record.json").is_file(), force=force)
    effort = measure.QUICK if quick else measure.FULL
    chosen = [one for one in PEERS if not only or one.name in only or one.name == BESIDE]
    peers = [one for one in chosen if one.installed and (only or not quick or not one.slow)]
    with folders.claimed(folder), spinner("measuring") as tell:
        found = measure.measure(peers, list(ARGUMENTS), effort, tell)
        shared = _shared(peers, effort, tell, quick=quick)
        for peer in peers:
            if peer.name in COMPUTING:
                tell(f"while the server computes: {peer.name}")
                measure.computing(found, peer, effort.computing_calls)
        compared = []
        if any(one.name == SHIPPED_CHANNEL for one in peers):
            compared = pairs.compare(effort.pairs, tell)
        missing = [one.name for one in chosen if not one.installed]
        left_out = [one.name for one in chosen if one.installed and one not in peers]
        made = record.BenchRecord(
            command_line(), effort, found.cells(), shared, compared, missing, found.repeated, found.disturbed
        )
        record.write(folder, made)
    if as_json:
        say_json({"folder": str(folder), **record_of(folder)})
        return
    console = terminal.make_console()
    terminal.print_table(console, record.peers_table(made))
    if shared:
        terminal.print_table(console, record.clients_table(made))
    if compared:
        terminal.print_table(console, record.pairs_table(made))
    terminal.print_table(console, record.today(made))
    terminal.print_table(console, targets.table(made.targets))
    if missing:
        say(f"not installed, so not measured: {', '.join(missing)} (pip install 'lrpc[bench]')")
    if left_out:
        say(f"left out by --quick, since they start slowly: {', '.join(left_out)}")
    if made.disturbed:
        say("the computer was disturbed while this was measured: repeat it")
    say(f"record and page: {folder}")
    say(targets.summary(made.targets))
    say(made.answer)
