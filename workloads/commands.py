"""Carries out jobs for subcommands of `lrpc`, and prints their records."""

from lrpc.cluster.scenario import MOST_PARTS
from lrpc.workloads.options import command_line
from lrpc.workloads.programs.registry import UsersRegistry
from lrpc.workloads.reports.bars import spinner
from lrpc.workloads.runs.execute import Finished, Options, execute
from lrpc.workloads.runs.fastest import chosen
from lrpc.workloads.runs.jobs import ReplayJob, ReproduceJob, RunJob


def carry_out(
    job: RunJob | ReplayJob | ReproduceJob,
    options: Options,
    own: UsersRegistry | None = None,
    limit: int = MOST_PARTS,
) -> Finished | None:
    """Execute a job and print its record. A dry run has no record and returns None."""
    with spinner("reading and checking what to run"):
        ready = job.prepare(command_line(), own, limit)
        options = chosen(options, ready.cluster, ready.run.seed)
    finished = execute(ready.run, ready.cluster, options, ready.cells_of, ready.accounts_of)
    if finished is None:
        return None
    from lrpc.workloads.reports import terminal  # with Rich, which a dry run does without

    terminal.print_record(terminal.make_console(), finished.record, finished.folder)
    return finished
