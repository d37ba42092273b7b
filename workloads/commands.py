"""Carries out jobs for subcommands of `lrpc`, and prints their records."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from lrpc.cluster.scenario import MOST_PARTS
from lrpc.domains.simulated.timeline import TimelineBounds
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.workloads.options import MOST_SLICES, TIMELINE_SLICES, command_line
from lrpc.workloads.programs.registry import UsersRegistry
from lrpc.workloads.reports.bars import spinner
from lrpc.workloads.reports.output import print_note, say_json
from lrpc.workloads.runs.jobs import ReplayJob, ReproduceJob, RunJob
from lrpc.workloads.runs.planned import Options, say_plan

if TYPE_CHECKING:
    from lrpc.workloads.runs.execute import Finished


def carry_out(
    job: RunJob | ReplayJob | ReproduceJob,
    options: Options,
    own: UsersRegistry | None = None,
    limit: int = MOST_PARTS,
    *,
    as_json: bool = False,
    printed: bool = True,
) -> "Finished | None":
    """Execute a job and print its record. A dry run has no record and returns None.

    With `as_json` the record is printed as its file has it, with the folder that holds it; without
    `printed` nothing is.
    """
    check_result(as_json=as_json, dry_run=options.dry_run)
    with spinner("reading and checking what to run"):
        ready = job.prepare(command_line(), own, limit)
    if options.dry_run:
        say_plan(ready.run, ready.cluster, options)
        return None
    # Here, with what runs clusters and records them, which a dry run does without.
    from lrpc.workloads.runs.execute import execute
    from lrpc.workloads.runs.fastest import chosen

    with spinner("choosing where to run"):
        options = chosen(options, ready.cluster, ready.run.seed)
    finished = execute(ready.run, ready.cluster, options, ready.cells_of, ready.accounts_of)
    if not printed:
        return finished
    if as_json:
        told = {} if finished.timeline is None else {"timeline": asdict(finished.timeline)}
        say_json({"folder": str(finished.folder), **record_of(finished.folder), **told})
        tell_of_timeline(finished)
        return finished
    from lrpc.workloads.reports import answers, terminal

    kept = finished.timeline
    beside = [] if kept is None else [f"timeline {finished.folder / kept.file}: {kept}"]
    last = [*beside, *answers.told(finished.record)]
    terminal.print_record(terminal.make_console(), finished.record, finished.folder, last)
    tell_of_timeline(finished)
    return finished


def timeline_of(
    timeline: bool, from_us: float | None, to_us: float | None, slices: int | None
) -> TimelineBounds | None:
    """Return what a timeline may hold; None without one. Raises `Refused` for what cannot be."""
    given = {"--timeline-from": from_us, "--timeline-to": to_us, "--timeline-slices": slices}
    if not timeline:
        for option, value in given.items():
            if value is not None:
                raise Refused(f"{option} {value:g}: it bounds a timeline; add --timeline")
        return None
    end_us = FOREVER / 1000
    for option, value in given.items():
        if option != "--timeline-slices" and value is not None and not 0 <= value < end_us:  # also what is no number
            raise Refused(f"{option} {value:g}: give 0 or more microseconds, and less than {end_us:.0e}")
    from_ns = round((from_us or 0) * 1000)
    to_ns = FOREVER if to_us is None else round(to_us * 1000)
    if to_ns <= from_ns:
        raise Refused(f"--timeline-to {to_us:g}: the timeline begins at {from_us or 0:g}; give a later time")
    if slices is not None and not 1 <= slices <= MOST_SLICES:
        raise Refused(f"--timeline-slices {slices}: give 1 to {MOST_SLICES:,}")
    return TimelineBounds(from_ns, to_ns, TIMELINE_SLICES if slices is None else slices)


def tell_of_timeline(finished: "Finished") -> None:
    """Say where a run's timeline was cut, and what to do."""
    written = finished.timeline
    if written is not None and written.cut:
        where = f"{written.to_us:,.3f} µs, where a machine had its share of slices"
        more = "--timeline-from and --timeline-to choose another time, --timeline-slices allows more"
        print_note(f"note: the timeline ends at {where}; {more}")


def check_result(*, as_json: bool, dry_run: bool) -> None:
    """Raise `Refused` where a command is to print a result that it will not have."""
    if as_json and dry_run:
        raise Refused("--json and --dry-run exclude each other: a dry run has no result; leave one of the two out")


def record_of(folder: Path) -> dict[str, object]:
    """Return a record that was just written, as its file has it."""
    found: dict[str, object] = json.loads((folder / "record.json").read_bytes())
    return found
