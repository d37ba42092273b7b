"""Carries out jobs for subcommands of `lrpc`, and prints their records."""

import json
from pathlib import Path

from lrpc.cluster.scenario import MOST_PARTS
from lrpc.kernel.errors import Refused
from lrpc.workloads.options import command_line
from lrpc.workloads.programs.registry import UsersRegistry
from lrpc.workloads.reports.bars import spinner
from lrpc.workloads.reports.output import say_json
from lrpc.workloads.runs.execute import Finished, Options, execute
from lrpc.workloads.runs.fastest import chosen
from lrpc.workloads.runs.jobs import ReplayJob, ReproduceJob, RunJob


def carry_out(
    job: RunJob | ReplayJob | ReproduceJob,
    options: Options,
    own: UsersRegistry | None = None,
    limit: int = MOST_PARTS,
    *,
    as_json: bool = False,
) -> Finished | None:
    """Execute a job and print its record. A dry run has no record and returns None.

    With `as_json` the record is printed as its file has it, with the folder that holds it.
    """
    check_result(as_json=as_json, dry_run=options.dry_run)
    with spinner("reading and checking what to run"):
        ready = job.prepare(command_line(), own, limit)
        options = chosen(options, ready.cluster, ready.run.seed)
    finished = execute(ready.run, ready.cluster, options, ready.cells_of, ready.accounts_of)
    if finished is None:
        return None
    if as_json:
        say_json({"folder": str(finished.folder), **record_of(finished.folder)})
        return finished
    from lrpc.workloads.reports import terminal  # with Rich, which a dry run does without

    terminal.print_record(terminal.make_console(), finished.record, finished.folder)
    return finished


def check_result(*, as_json: bool, dry_run: bool) -> None:
    """Raise `Refused` where a command is to print a result that it will not have."""
    if as_json and dry_run:
        raise Refused("--json and --dry-run exclude each other: a dry run has no result; leave one of the two out")


def record_of(folder: Path) -> dict[str, object]:
    """Return a record that was just written, as its file has it."""
    found: dict[str, object] = json.loads((folder / "record.json").read_bytes())
    return found
