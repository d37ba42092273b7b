"""Carries out the runs of a study, each with a record of its own, in one folder."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from lrpc.cluster.run import Outcome
from lrpc.kernel.errors import Refused
from lrpc.workloads.records import events, folders, tables
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.tables import Table
from lrpc.workloads.runs.execute import Finished, execute
from lrpc.workloads.runs.jobs import Prepared, RunJob
from lrpc.workloads.runs.planned import Options, say_plan
from lrpc.workloads.studies.sweep import simulate

LOG: Final = ".events"  # what the event log of a run ends in

# Carries out one of the runs that a study names, and returns it as it was prepared, with its
# outcome. None says that nothing ran: a dry run.
Carry = Callable[[str, RunJob], tuple[Prepared, Outcome] | None]


def unrecorded(name: str, job: RunJob) -> tuple[Prepared, Outcome]:
    """Run a job in this process, and leave nothing."""
    ready = job.prepare([])
    return ready, simulate(ready.cluster, ready.run.seed)[0]


class RecordedStudy:
    """The folder of a study, with a record for each of its runs, and its table.

    The `events` of its options are a folder, for the event log of each run. `command` is noted in
    records, and a run has at most `limit` machines, domains and the like. Raises `Refused` where
    either folder cannot be had.
    """

    def __init__(self, name: str, options: Options, command: Sequence[str], limit: int) -> None:
        self.name = name
        self._command, self._limit = list(command), limit
        self.finished: list[Finished] = []
        self._options = options
        where = folders.fresh(name) if options.out is None else options.out
        self.folder = folders.check(where, "study", _holds_records, force=options.force)
        if options.events is not None:
            _check_logs(options.events, self.folder, force=options.force)

    def carry_out(self, name: str, job: RunJob) -> tuple[Prepared, Outcome] | None:
        """Run a job as the options say, and leave its record in the study's folder."""
        ready = job.prepare(self._command, limit=self._limit)
        kept: list[Outcome] = []

        def cells_of(outcome: Outcome) -> list[Cell]:
            kept.append(outcome)
            return ready.cells_of(outcome)

        run = re.sub(r"\W+", "-", name.lower())
        log = None
        if self._options.events is not None and not self._options.dry_run:
            log = self._options.events / f"{run}{LOG}"
            log.parent.mkdir(exist_ok=True)
        options = replace(self._options, out=self.folder / run, force=True, events=log)
        if options.dry_run:
            say_plan(ready.run, ready.cluster, options)
            return None
        self.finished.append(execute(ready.run, ready.cluster, options, cells_of, ready.accounts_of))
        return ready, kept[-1]

    def write(self, table: Table) -> Path:
        """Write the study's table beside its records, and return its file."""
        path = self.folder / f"{self.name}.csv"
        tables.write_csv(path, table)
        return path


def _check_logs(logs: Path, folder: Path, *, force: bool) -> None:
    """Raise `Refused` where event logs cannot be put into the folder `logs`."""
    if logs.exists() and not logs.is_dir():
        raise Refused(f"--events {logs}: is a file; name a folder, for a log of each run")
    if not logs.absolute().parent.is_dir():
        raise Refused(f"--events {logs}: there is no folder {logs.absolute().parent}; make it first")
    if folder.resolve() in (logs.resolve(), *logs.resolve().parents):
        raise Refused(f"--events {logs}: is inside the study's folder; name a folder outside it")
    if not force and logs.is_dir() and any(logs.glob(f"*{LOG}")):
        raise Refused(f"--events {logs}: has logs already; name another folder, or add --force to replace them")
    events.check_writable((logs if logs.is_dir() else logs.absolute().parent) / f"run{LOG}")


def _holds_records(folder: Path) -> bool:
    return any((one / "record.json").is_file() for one in folder.iterdir())
