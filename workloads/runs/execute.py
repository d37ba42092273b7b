"""Carries out a run for the command line, with its record, event log and progress display.

The paths for the record and the event log are checked before any work begins. So a long run does
not fail at its end because of a mistyped path.

As work begins, an incomplete record is written, which stays if the process is killed. The complete
record replaces it at the end. If the run fails or is interrupted, an incomplete record says why,
with what had been measured. A run that is refused leaves nothing.
"""

import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lrpc.cluster.description import Cluster
from lrpc.cluster.interruption import undisturbed
from lrpc.cluster.journal import TimelineFiles
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.kernel.errors import Panic, RaisedAt, Refused, RunFailed
from lrpc.kernel.peak import peak_bytes
from lrpc.workloads.records import events, folders, records
from lrpc.workloads.records.asked import Run
from lrpc.workloads.records.call_tables import Calls, who_called_what
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.reports.bars import progress_bar
from lrpc.workloads.reports.output import print_note
from lrpc.workloads.runs.planned import Options, check_plan, planned_calls

if TYPE_CHECKING:
    from lrpc.workloads.records.timeline import TimelineWritten

LOOKS_S: Final = 0.1  # between two looks at the memory that a run takes
GROWN: Final = 1 << 30  # bytes of memory, until a run tells that it takes more


class Stopped(RunFailed):
    """Raised where a run has reached what its options allow."""


@dataclass(frozen=True)
class Finished:
    """The record of a run that completed, and its folder."""

    record: records.Record
    folder: Path
    timeline: "TimelineWritten | None" = None


def execute(
    run: Run,
    cluster: Cluster,
    options: Options,
    cells_of: Callable[[Outcome], list[Cell]],
    accounts: Callable[[Outcome], records.TraceAccounts | None] = lambda outcome: None,
) -> Finished:
    """Run a cluster and write its record.

    `cells_of` makes cells of the run's outcome, and `accounts` a trace's accounts if it replays
    one. Raises `Refused` before any work begins, also while another run works in the same folder.
    If `RunFailed` or KeyboardInterrupt is raised, an incomplete record has been written.
    """
    _, folder = check_plan(run, cluster, options)
    with folders.claimed(folder):
        folders.for_record(folder, run.workload, force=options.force)  # another run may just have ended there
        return _record(run, cluster, options, folder, cells_of, accounts)


def _record(
    run: Run,
    cluster: Cluster,
    options: Options,
    folder: Path,
    cells_of: Callable[[Outcome], list[Cell]],
    accounts: Callable[[Outcome], records.TraceAccounts | None],
) -> Finished:
    """Run a cluster and write its record to `folder`; also where it fails, an incomplete one."""
    began = time.monotonic()
    measured: list[Outcome] = []
    files: TimelineFiles | None = None

    def keep(reason: str) -> records.Record:
        record = incomplete(run, cluster, reason, measured[-1] if measured else None, time.monotonic() - began)
        with undisturbed():
            beside = [] if files is None else _timeline_until(files, cluster, folder)
            records.write(folder, record, beside)
        return record

    with ExitStack() as stack:
        if options.timeline is not None:
            files = TimelineFiles(stack.enter_context(folders.scratch("lrpc-timeline-")), options.timeline)
        stack.enter_context(_keeping(keep, folder, lambda: measured[-1].machines if measured else ()))
        with progress_bar(run.workload, planned_calls(cluster)) as show:
            outcome = simulate(
                cluster,
                run.seed,
                options,
                on_progress=_stopping(
                    options, _growing(_beginning(lambda: records.write(folder, records.begun(run)), show))
                ),
                on_partial=measured.append,
                timeline=files,
            )
        wall_s = time.monotonic() - began
        calls = who_called_what(cluster, outcome.machines)
        record = records.complete(run, outcome, cells_of(outcome), wall_s, accounts(outcome), calls)
        if files is None:
            records.write(folder, record)
            return Finished(record, folder)
        from lrpc.workloads.records import timeline  # here, since few runs need it

        made = files.folder / timeline.FILE
        written = timeline.write(made, files, [machine.name for machine in outcome.machines])
        records.write(folder, record, [made])
        return Finished(record, folder, written)


def _timeline_until(files: TimelineFiles, cluster: Cluster, folder: Path) -> list[Path]:
    """Return the timeline of a run that failed, if its parts are here; say what is kept."""
    from lrpc.workloads.records import timeline

    made = files.folder / timeline.FILE
    try:
        written = timeline.write(made, files, [machine.name for machine in cluster.machines])
    except (RunFailed, ValueError):
        print_note("note: no timeline is kept: the run ended before its machines' parts were here")
        return []
    print_note(f"note: the timeline until then is {folder / timeline.FILE}: {written}")
    return [made]


def simulate(
    cluster: Cluster,
    seed: int,
    options: Options,
    *,
    on_progress: Callable[[Progress], None] = lambda position: None,
    on_partial: Callable[[Outcome], None] = lambda outcome: None,
    timeline: TimelineFiles | None = None,
) -> Outcome:
    """Run a cluster as `options` say, and write its event log if they name a file for it.

    With `timeline` its machines leave their parts of one there. Prints nothing, and writes no
    record. Raises the same errors as `run_cluster`.
    """
    with ExitStack() as stack:
        logs = None
        if options.events is not None:
            logs = stack.enter_context(folders.scratch("lrpc-events-"))
        outcome = run_cluster(
            cluster,
            seed=seed,
            actors=options.actors,
            transport=options.transport,
            gather=not options.stay,
            address=options.address,
            events=logs,
            timeline=timeline,
            on_progress=on_progress,
            on_partial=on_partial,
        )
        if options.events is not None and logs is not None:
            events.gather(options.events, logs, [machine.name for machine in outcome.machines])
    return outcome


def incomplete(run: Run, cluster: Cluster, reason: str, partial: Outcome | None, wall_s: float) -> records.Record:
    """Return the record of a run that failed, with what had been measured, if anything was."""
    calls = () if partial is None else who_called_what(cluster, partial.machines)
    return records.incomplete(run, reason, partial, wall_s, calls)


@contextmanager
def _keeping(
    keep: Callable[[str], records.Record], folder: Path, machines: Callable[[], Sequence[MachineOutcome]]
) -> Iterator[None]:
    """Run the block, and call `keep` with the reason if it fails after work has begun.

    `keep` returns the record that it wrote, and `machines` what they had done. Errors of the run,
    and bugs, are raised again as `RunFailed` that names `folder`.
    """
    try:
        yield
    except Refused:
        raise
    except Stopped as error:
        record = keep(str(error))
        raise RunFailed(f"{error}{_most(record.calls)} (an incomplete record is in {folder})") from None
    except RunFailed as error:
        told = _with_servers(error.raised_at, machines())
        keep(f"{error}; {told.places}" if told.places else str(error))
        raise RunFailed(f"{error} (an incomplete record is in {folder})", told) from error
    except Panic as panic:
        keep(f"broken invariant: {panic}")
        raise
    except Exception as bug:  # anything else is a bug; the record keeps its traceback
        keep(traceback.format_exc())
        what = f"a bug of lrpc's own: {type(bug).__name__}: {bug}"
        raise RunFailed(f"{what} (its traceback is in the incomplete record in {folder})") from bug
    except KeyboardInterrupt:
        keep("interrupted")
        raise


def _with_servers(found: RaisedAt, machines: Sequence[MachineOutcome]) -> RaisedAt:
    """Return where a program raised what failed a run, with the servers that raised before.

    A server on another machine is known by its machine alone, which remembers its last exceptions.
    """
    if not found.places or "raised in the server" in found.places:
        return found
    servers = [f"{machine.name}: {one}" for machine in machines for one in machine.raised]
    return RaisedAt("; ".join([found.places, *servers]), "\n".join([found.trace.rstrip("\n"), *servers]))


def _most(calls: Sequence[Calls]) -> str:
    """Return which calls there were most of, as a part of a message."""
    if not calls:
        return ""
    most = max(calls, key=lambda one: one.calls)
    who = f"{most.client_domain or 'domains'} of {most.client_machine}"
    what = f"to {most.export}.{most.procedure}" if most.export else "that did not return"
    return f"; most calls: {most.calls:,} by {who} {what}"


def _stopping(options: Options, show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return a function that calls `show`, and raises `Stopped` where `options` say so."""

    def on_progress(position: Progress) -> None:
        show(position)
        limit = ""
        if options.max_calls is not None and position.calls >= options.max_calls:
            limit = f"--max-calls {options.max_calls}"
        elif options.until_us is not None and position.now_ns >= options.until_us * 1000:
            limit = f"--until {options.until_us:g}"
        if limit:
            reached = f"{position.calls:,} calls and {position.now_ns / 1e9:,.3f} s of virtual time"
            raise Stopped(f"stopped after {reached}, as {limit} says")

    return on_progress


def _growing(show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return a function that calls `show`, and tells where this process's memory grows much."""
    told, looks_at = peak_bytes(), 0.0

    def on_progress(position: Progress) -> None:
        nonlocal told, looks_at
        show(position)
        if time.monotonic() < looks_at:
            return
        looks_at = time.monotonic() + LOOKS_S
        takes = peak_bytes()
        if takes - told > GROWN:
            told = 2 * takes
            reached = f"{position.calls:,} calls and {position.now_ns / 1e9:,.3f} s of virtual time"
            stops = "if it does not end, lrpc run --max-calls or --until stops it and says what is called most"
            print_note(f"note: this run takes {takes / (1 << 30):.1f} GiB of memory after {reached}; {stops}")

    return on_progress


def _beginning(begin: Callable[[], None], show: Callable[[Progress], None]) -> Callable[[Progress], None]:
    """Return a function that calls `show`, and before its first call `begin`."""
    first = [begin]

    def on_progress(position: Progress) -> None:
        if first:
            first.pop()()
        show(position)

    return on_progress
