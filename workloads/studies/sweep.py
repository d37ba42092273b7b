"""Sweeps: many runs of one job, which a file describes together with what varies.

A sweep varies its job in one way: every combination of some values, draws from the ranges of a
scenario's parameters, or one parameter changed at a time.

Every run is prepared before the first begins, so that a wrong value is refused at once and not
after hours. Each run has a numbered folder with its record. A sweep that is started again keeps the
runs whose records are complete, and carries out the others. The sweep's folder keeps a copy of its
file, so that runs of two different sweeps are never mixed.

Runs do not depend on each other, so they are carried out in parallel as Ray tasks. Records are
written by the process that started the sweep, and by no task.
"""

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import Field, model_validator

from lrpc.cluster.actors import processors_here
from lrpc.cluster.description import Cluster
from lrpc.cluster.on_ray.package import users_code_by_value
from lrpc.cluster.on_ray.session import ray_session, reason
from lrpc.cluster.parameters import ParameterValue, resolve
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.scenario import MOST_PARTS, check_parts
from lrpc.kernel.documents import LARGEST_DOCUMENT, Document, read_file, read_toml, validate
from lrpc.kernel.errors import Panic, Refused, RunFailed
from lrpc.workloads.records import records
from lrpc.workloads.records.call_tables import who_called_what
from lrpc.workloads.records.cells import crossing_shares
from lrpc.workloads.records.tables import Table, write_csv
from lrpc.workloads.runs.jobs import Prepared, RunJob, job_of, registry_for
from lrpc.workloads.studies import draws

MOST_RUNS: Final = 10_000
PARTS_OF_A_RUN: Final = 200  # preparing a run takes as long as so many parts, besides its own
FILE: Final = "sweep.toml"
TABLE: Final = "sweep"
# The columns of Table I's shares, whose names say what they are percentages of.
SHARES: Final = {
    "remote/local": "cross_machine_percent_of_trap_and_cross_domain",
    "remote/total": "cross_machine_percent_of_all_crossings",
}

# For each run: the values that vary, by their names, and the same as changes of the job.
Runs = list[tuple[Mapping[str, object], Mapping[str, object]]]
# Called as each run ends, with its number and why it failed, or None.
OnDone = Callable[[int, str | None], None]


class DrawsTable(Document):
    """Draws, as a Latin hypercube, from the ranges of a scenario's parameters."""

    count: int = Field(ge=2, le=MOST_RUNS)
    seed: int = Field(default=0, ge=0, le=2**63 - 1)


class EachTable(Document):
    """A scenario's parameters changed one at a time.

    Each of `parameters`, or each number that has a range, is multiplied by each factor.
    """

    factors: list[Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]] = Field(default=[0.5, 2.0], min_length=1)
    parameters: list[str] = Field(default=[])


class SweepFile(Document):
    """The contents of a sweep's file: the job that all runs have, and one way to vary it.

    Every combination of the values in `parameters` is run. `draws` and `each` vary the parameters
    of a scenario.
    """

    name: str = Field(min_length=1)
    job: dict[str, Any]
    parameters: dict[str, list[Any]] = Field(default={})
    draws: DrawsTable | None = None
    each: EachTable | None = None

    @model_validator(mode="after")
    def _varies_in_one_way(self) -> "SweepFile":
        given = [bool(self.parameters), self.draws is not None, self.each is not None]
        if sum(given) != 1:
            raise ValueError("parameters: give exactly one of parameters with values, draws, and each")
        if not self.parameters and self.job.get("kind") != "run":
            raise ValueError("draws and each vary the parameters of a scenario: set the job's kind to run")
        return self


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep."""

    number: int
    values: Mapping[str, object]  # of the parameters that vary
    ready: Prepared
    folder: Path

    @property
    def done(self) -> bool:
        """Return whether this run has a complete record, of the same job and the same files."""
        record, asked = _read(self), self.ready.run
        return (
            record is not None
            and record.status == "complete"
            and record.job == asked.job
            and {one.argument: one.digest for one in record.inputs}
            == {one.argument: one.digest for one in asked.inputs}
        )


@dataclass(frozen=True)
class Sweep:
    """A sweep, with every run prepared."""

    name: str
    parameters: Sequence[str]
    runs: Sequence[SweepRun]
    # Only where runs change one parameter each: the unchanged values of all parameters, and the
    # runs that are impossible, with the reason. A doubled cache may not fit in memory, say.
    base: Mapping[str, ParameterValue] | None = None
    left_out: Sequence[str] = ()
    drawn: bool = False  # whether the values are draws from ranges


@dataclass(frozen=True)
class Row:
    """The result of one run. Shares are of cross-machine calls over local ones, in percent."""

    run: SweepRun
    record: records.Record | None

    @property
    def values(self) -> Mapping[str, object]:
        """Return the values of the parameters that vary."""
        return self.run.values

    @property
    def share(self) -> float | None:
        """Return the share of cross-machine calls; None without one, or if incomplete."""
        return self._cell("remote/local", "ours")

    @property
    def paper(self) -> float | None:
        """Return the paper's share for this system, or None.

        A share that the paper gives of all calls is converted to one of local calls.
        """
        local, total = self._cell("remote/local", "paper"), self._cell("remote/total", "paper")
        return local if local is not None or total is None else 100 * total / (100 - total)

    def _cell(self, column: str, whose: Literal["ours", "paper"]) -> float | None:
        if self.record is None or self.record.status != "complete":
            return None
        for cell in self.record.cells:
            if (cell.table, cell.column) == ("I", column):
                found = getattr(cell, whose)
                return float(found) if isinstance(found, int | float) else None
        return None


def read_sweep(path: Path, out: Path, registry: str | None = None, limit: int = MOST_PARTS) -> Sweep:
    """Return the sweep that a file describes, with every run prepared.

    `registry` names the user's registry that its runs use, as `--registry` does.
    Raises `Refused` if a run cannot be prepared, or if all have more than `limit` parts in sum.
    A run that changes one parameter is left out instead: its factor may lead to a value that is
    impossible.
    """
    file = validate(SweepFile, read_toml(path), str(path))
    own = registry_for(job_of(file.job, f"{path}: job"), registry) if registry else None
    base = None
    if file.parameters:
        names, variants = list(file.parameters), _combinations(file, str(path))
    else:
        names, variants, unchanged = _variations(file, str(path))
        base = unchanged if file.each is not None else None
    runs: list[SweepRun] = []
    left_out = []
    check_parts(PARTS_OF_A_RUN * len(variants), limit, f"{path}: {len(variants)} runs")
    parts = 0
    for values, changes in variants:
        try:
            ready = _job(file, changes, str(path)).prepare(["lrpc", "sweep", str(path)], own, limit)
        except Refused as error:
            if file.each is None or not values:
                raise
            left_out.append(f"{', '.join(f'{name} = {value}' for name, value in values.items())}: not run: {error}")
            continue
        parts += PARTS_OF_A_RUN + ready.cluster.parts
        check_parts(parts, limit, f"{path}: the runs up to run {len(runs) + 1}")
        number = len(runs) + 1
        runs.append(SweepRun(number, values, ready, out / f"{number:05d}"))
    return Sweep(file.name, names, runs, base, left_out, file.draws is not None)


def _combinations(file: SweepFile, origin: str) -> Runs:
    """Return every combination of the parameters' values."""
    for key, values in file.parameters.items():
        if not values:
            raise Refused(f"{origin}: parameters.{key}: no values; give at least one")
    found = list(itertools.islice(itertools.product(*file.parameters.values()), MOST_RUNS + 1))
    if len(found) > MOST_RUNS:
        raise Refused(f"{origin}: parameters: more than {MOST_RUNS} combinations; name fewer values")
    named = [dict(zip(file.parameters, one, strict=True)) for one in found]
    return [(one, one) for one in named]


def _variations(file: SweepFile, origin: str) -> tuple[list[str], Runs, Mapping[str, ParameterValue]]:
    """Return the names of the parameters that vary, the runs, and all unchanged values."""
    scenario = job_of(file.job, f"{origin}: job")
    assert isinstance(scenario, RunJob)  # checked when the file was read
    tables = scenario.tables()
    named = tables.get("parameters", {})
    parameters = resolve(tables, scenario.scenario).parameters
    if not any(one.range is not None for one in parameters.values()):
        raise Refused(f"{origin}: job.scenario: {scenario.scenario}: none of its parameters has a range")
    if file.draws is not None:
        sets = draws.latin_hypercube(parameters, file.draws.count, file.draws.seed)
    else:
        assert file.each is not None
        sets = draws.one_at_a_time(parameters, file.each.parameters, file.each.factors, f"{origin}: each.parameters")
    if len(sets) > MOST_RUNS:
        raise Refused(f"{origin}: each: {len(sets)} runs; at most {MOST_RUNS} are possible; name fewer parameters")
    names = list(dict.fromkeys(name for values in sets for name in values))
    runs: Runs = [(values, draws.as_changes(values, parameters, named)) for values in sets]
    return names, runs, {name: one.value for name, one in parameters.items()}


def open_folder(path: Path, out: Path, *, force: bool) -> None:
    """Make the folder of a sweep, or open it to resume the sweep.

    `path` is the sweep's file, of which the folder keeps a copy. Raises `Refused` if the folder
    holds anything else, or if it holds runs of another file and `force` is not given. With `force`
    those runs are made incomplete by removing their records.
    """
    text = read_file(path, LARGEST_DOCUMENT)
    held = out / FILE
    try:
        if out.exists() and not held.is_file() and any(out.iterdir()):
            raise Refused(f"--out {out}: not a sweep's folder; name another folder")
        if held.is_file() and held.read_bytes() != text and not force:
            raise Refused(f"--out {out}: holds runs of another {path.name}; name another folder, or add --force")
        if held.is_file() and held.read_bytes() != text:
            for old in out.glob("[0-9]" * 5):
                (old / "record.json").unlink(missing_ok=True)
        out.mkdir(parents=True, exist_ok=True)
        held.write_bytes(text)
    except OSError as error:
        raise Refused(f"--out {out}: cannot be written: {os.strerror(error.errno or 0)}; name another folder") from None


def carry_out(sweep: Sweep, parallel: int | None, address: str | None, on_done: OnDone) -> dict[int, str]:
    """Carry out the runs that have no complete record; return why runs failed, by number.

    `parallel` runs are under way at once, one per processor by default. 0 runs them in this
    process, without Ray. `address` is that of an existing Ray cluster. `on_done` is called as each
    run ends.
    """
    todo = [run for run in sweep.runs if not run.done]
    if parallel == 0 or not todo:
        return _run_here(todo, on_done)
    return _run_on_ray(todo, parallel or processors_here(), address, on_done)


def rows(sweep: Sweep) -> list[Row]:
    """Return the results of all runs, as far as they have records."""
    return [Row(run, _read(run)) for run in sweep.runs]


def table(sweep: Sweep, found: Sequence[Row]) -> Table:
    """Return the table of a sweep, one row per run."""
    columns = ["run", *sweep.parameters, "status", *records.COUNTS, *SHARES.values()]
    columns += ["virtual_s", "wall_s", "digest"]
    return Table(TABLE, f"Sweep {sweep.name}", columns, [_cells(sweep, row) for row in found])


def write_table(found: Table, out: Path) -> Path:
    """Write the table of a sweep to its folder as CSV; return the path of the file."""
    path = out / f"{TABLE}.csv"
    write_csv(path, found)
    return path


def _read(run: SweepRun) -> records.Record | None:
    try:
        return records.read(run.folder)
    except Refused:
        return None


def _cells(sweep: Sweep, row: Row) -> list[Any]:
    run, record = row.run, row.record
    values: list[Any] = [run.number, *(_shown(run.values.get(key)) for key in sweep.parameters)]
    if record is None or record.status != "complete":
        return [*values, "missing" if record is None else record.status, *[None] * (len(records.COUNTS) + 5)]
    counts = [record.counts.get(name, 0) for name in records.COUNTS]
    found = crossing_shares(dict(zip(records.COUNTS, counts, strict=True)))
    shares = [round(found[share], 4) if share in found else None for share in SHARES]
    virtual_s = (record.virtual_us or 0) / 1e6
    return [*values, record.status, *counts, *shares, virtual_s, record.wall_s, record.digest]


def _shown(value: object) -> object:
    return value if value is None or isinstance(value, int | float | str) else str(value)


def _job(file: SweepFile, named: Mapping[str, object], origin: str) -> Any:
    """Return the job of one run.

    A varied value replaces the job's argument of that name. Without such an argument it is a change
    of the scenario.
    """
    arguments = dict(file.job)
    changes = dict(arguments.get("changes", {})) if isinstance(arguments.get("changes", {}), dict) else {}
    own = RunJob.model_fields if arguments.get("kind") == "run" else None
    for key, value in named.items():
        if own is None or key in own:
            arguments[key] = value
        else:
            changes[key] = value
    if own is not None and changes:
        arguments["changes"] = changes
    return job_of(arguments, f"{origin}: job")


def simulate(cluster: Cluster, seed: int) -> tuple[Outcome, float]:
    """Run a cluster in this process; return its outcome and the wall seconds it took."""
    began = time.monotonic()
    outcome = run_cluster(cluster, seed=seed, actors=0, transport="memory")
    return outcome, time.monotonic() - began


def keep(run: SweepRun, simulated: Callable[[], tuple[Outcome, float]]) -> str | None:
    """Write the record of a run, and return why the run failed, or None.

    `simulated` returns an outcome and wall seconds. If it fails, the record is incomplete and the
    sweep continues.
    """
    ready = run.ready
    try:
        outcome, wall_s = simulated()
        calls = who_called_what(ready.cluster, outcome.machines)
        cells, accounts = ready.cells_of(outcome), ready.accounts_of(outcome)
        records.write(run.folder, records.complete(ready.run, outcome, cells, wall_s, accounts, calls))
    except (Refused, RunFailed, Panic) as error:
        what = f"broken invariant: {error}" if isinstance(error, Panic) else str(error)
        records.write(run.folder, records.incomplete(ready.run, what))
        return what
    return None


def _run_here(todo: Sequence[SweepRun], on_done: OnDone) -> dict[int, str]:
    failed: dict[int, str] = {}
    for run in todo:
        cluster, seed = run.ready.cluster, run.ready.run.seed
        _note(run, keep(run, partial(simulate, cluster, seed)), failed, on_done)
    return failed


def _run_on_ray(todo: Sequence[SweepRun], parallel: int, address: str | None, on_done: OnDone) -> dict[int, str]:
    """Carry out runs as Ray tasks, each in a process of its own, and write their records here."""
    failed: dict[int, str] = {}
    with ray_session(address, parallel):
        import ray

        task = ray.remote(simulate).options(num_cpus=1)
        waiting = list(todo)
        running: dict[Any, SweepRun] = {}
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    run = waiting.pop(0)
                    with users_code_by_value(run.ready.cluster):
                        running[task.remote(run.ready.cluster, run.ready.run.seed)] = run
                (ended, *_), _ = ray.wait(list(running), num_returns=1)
                run = running.pop(ended)
                _note(run, keep(run, partial(_answer, ended)), failed, on_done)
        finally:  # after an error or Ctrl-C, tasks still run
            for answer in running:
                ray.cancel(answer, force=True)
    return failed


def _answer(answer: Any) -> tuple[Outcome, float]:
    import ray

    try:
        found: tuple[Outcome, float] = ray.get(answer)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Refused | RunFailed | Panic):
            raise error.cause from None
        raise RunFailed(f"a bug of lrpc's own: {reason(error)}") from None
    except ray.exceptions.RayError as error:
        raise RunFailed(f"Ray: {reason(error)}") from None
    return found


def _note(run: SweepRun, problem: str | None, failed: dict[int, str], on_done: OnDone) -> None:
    if problem is not None:
        failed[run.number] = problem
    on_done(run.number, problem)
