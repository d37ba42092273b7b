"""Carries out the runs of a study, each with a record of its own, in one folder."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from lrpc.cluster.run import Outcome
from lrpc.workloads.records import folders, tables
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.tables import Table
from lrpc.workloads.runs.execute import Options, execute
from lrpc.workloads.runs.jobs import Prepared
from lrpc.workloads.studies.sweep import simulate

# Carries out a prepared job, one of those that a study names, and returns its outcome. None says
# that nothing ran: a dry run.
Carry = Callable[[str, Prepared], Outcome | None]


def unrecorded(name: str, ready: Prepared) -> Outcome:
    """Run a job in this process, and leave nothing."""
    return simulate(ready.cluster, ready.run.seed)[0]


class RecordedStudy:
    """The folder of a study, with a record for each of its runs, and its table.

    Raises `Refused` where it cannot be put there.
    """

    def __init__(self, name: str, options: Options) -> None:
        self.name = name
        self._options = options
        where = folders.fresh(name) if options.out is None else options.out
        self.folder = folders.check(where, "study", _holds_records, force=options.force)

    def carry_out(self, name: str, ready: Prepared) -> Outcome | None:
        """Run a job as the options say, and leave its record in the study's folder."""
        kept: list[Outcome] = []

        def cells_of(outcome: Outcome) -> list[Cell]:
            kept.append(outcome)
            return ready.cells_of(outcome)

        folder = self.folder / re.sub(r"\W+", "-", name.lower())
        options = replace(self._options, out=folder, force=True)
        execute(ready.run, ready.cluster, options, cells_of, ready.accounts_of)
        return kept[-1] if kept else None

    def write(self, table: Table) -> Path:
        """Write the study's table beside its records, and return its file."""
        path = self.folder / f"{self.name}.csv"
        tables.write_csv(path, table)
        return path


def _holds_records(folder: Path) -> bool:
    return any((one / "record.json").is_file() for one in folder.iterdir())
