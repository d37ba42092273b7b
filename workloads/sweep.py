"""Many runs from one file: every combination of the parameters it names, in parallel, and one table at the end."""

import itertools
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

from pydantic import Field

from lrpc.cluster.description import Cluster
from lrpc.cluster.run import Outcome, processors_here, run_cluster
from lrpc.cluster.session import ray_session, reason
from lrpc.kernel.documents import Document, read_toml, validate
from lrpc.kernel.errors import Panic, Refused, RunFailed
from lrpc.workloads import records
from lrpc.workloads.call_tables import who_called_what
from lrpc.workloads.jobs import Prepared, RunJob, job_of
from lrpc.workloads.tables import Table, write_csv

MOST_RUNS: Final = 10_000
FILE: Final = "sweep.toml"
TABLE: Final = "sweep"
COUNTS: Final = ("trap", "within_domain", "cross_domain", "cross_machine")

OnDone = Callable[[int, str | None], None]  # is told of each run as it ends: its number, and why it failed


class SweepFile(Document):
    """A sweep as its file gives it: the job that all runs are, and the values that each parameter takes."""

    name: str = Field(min_length=1)
    job: dict[str, Any]
    parameters: dict[str, list[Any]] = Field(min_length=1)


@dataclass(frozen=True)
class Part:
    """One run of a sweep."""

    number: int
    values: Mapping[str, object]  # of the parameters
    ready: Prepared
    folder: Path

    @property
    def done(self) -> bool:
        """Return whether its record is there, whole."""
        try:
            return records.read(self.folder).status == "complete"
        except Refused:
            return False


@dataclass(frozen=True)
class Sweep:
    """All runs of a sweep, looked through."""

    name: str
    parameters: Sequence[str]
    parts: Sequence[Part]


def read_sweep(path: Path, out: Path) -> Sweep:
    """Return the sweep that a file describes, every run prepared; `Refused` where any of them cannot be."""
    file = validate(SweepFile, read_toml(path), str(path))
    for key, values in file.parameters.items():
        if not values:
            raise Refused(f"{path}: parameters.{key}: no values; give at least one")
    combinations = list(itertools.islice(itertools.product(*file.parameters.values()), MOST_RUNS + 1))
    if len(combinations) > MOST_RUNS:
        raise Refused(f"{path}: parameters: more than {MOST_RUNS} combinations; name fewer values")
    parts = []
    for number, combination in enumerate(combinations, 1):
        named = dict(zip(file.parameters, combination, strict=True))
        ready = _job(file, named, str(path)).prepare(["lrpc", "sweep", str(path)])
        parts.append(Part(number, named, ready, out / f"{number:05d}"))
    return Sweep(file.name, list(file.parameters), parts)


def open_folder(path: Path, out: Path, *, force: bool) -> None:
    """Have a sweep's folder, which holds a copy of its file; `Refused` where that is another sweep's."""
    text = path.read_bytes()
    held = out / FILE
    try:
        if out.exists() and not held.is_file() and any(out.iterdir()):
            raise Refused(f"--out {out}: is no sweep's folder; name another")
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
    """Run what is not done yet, `parallel` at a time, 0 in this process; return why runs failed, by number."""
    todo = [part for part in sweep.parts if not part.done]
    if parallel == 0 or not todo:
        return _run_here(todo, on_done)
    return _run_on_ray(todo, parallel or processors_here(), address, on_done)


def table(sweep: Sweep) -> Table:
    """Return what all runs came to: a row for each."""
    columns = ["run", *sweep.parameters, "status", *COUNTS, "remote_local_percent", "remote_total_percent"]
    columns += ["virtual_s", "wall_s", "digest"]
    return Table(TABLE, f"Sweep {sweep.name}", columns, [_row(sweep, part) for part in sweep.parts])


def write_table(sweep: Sweep, out: Path) -> Path:
    """Write the table of a sweep into its folder, as CSV."""
    path = out / f"{TABLE}.csv"
    write_csv(path, table(sweep))
    return path


def _row(sweep: Sweep, part: Part) -> list[Any]:
    values: list[Any] = [part.number, *(_shown(part.values[key]) for key in sweep.parameters)]
    try:
        record = records.read(part.folder)
    except Refused:
        return [*values, "missing", *[None] * (len(COUNTS) + 5)]
    if record.status != "complete":
        return [*values, record.status, *[None] * (len(COUNTS) + 5)]
    counts = [record.counts.get(name, 0) for name in COUNTS]
    remote, local = counts[-1], sum(counts[:-1])
    shares = [round(100 * remote / local, 4) if local else None]
    shares.append(round(100 * remote / (local + remote), 4) if local + remote else None)
    virtual_s = (record.virtual_us or 0) / 1e6
    return [*values, record.status, *counts, *shares, virtual_s, record.wall_s, record.digest]


def _shown(value: object) -> object:
    return value if isinstance(value, int | float | str) else str(value)


def _job(file: SweepFile, named: Mapping[str, object], origin: str) -> Any:
    """Return the job of one combination: what its own arguments are not, a scenario's keys are."""
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
    """Run a cluster in this process; return what it did, and in how many seconds."""
    began = time.monotonic()
    outcome = run_cluster(cluster, seed=seed, actors=0, links="memory")
    return outcome, time.monotonic() - began


def keep(part: Part, simulated: Callable[[], tuple[Outcome, float]]) -> str | None:
    """Write the record of a run, of which `simulated` returns the outcome; return why it failed, if it did."""
    ready = part.ready
    try:
        outcome, wall_s = simulated()
        calls = who_called_what(ready.cluster, outcome.machines)
        cells, accounts = ready.cells_of(outcome), ready.accounts_of(outcome)
        records.write(part.folder, records.complete(ready.run, outcome, cells, wall_s, accounts, calls))
    except (Refused, RunFailed, Panic) as error:
        what = f"broken invariant: {error}" if isinstance(error, Panic) else str(error)
        records.write(part.folder, records.incomplete(ready.run, what))
        return what
    return None


def _run_here(todo: Sequence[Part], on_done: OnDone) -> dict[int, str]:
    failed: dict[int, str] = {}
    for part in todo:
        cluster, seed = part.ready.cluster, part.ready.run.seed
        _note(part, keep(part, partial(simulate, cluster, seed)), failed, on_done)
    return failed


def _run_on_ray(todo: Sequence[Part], parallel: int, address: str | None, on_done: OnDone) -> dict[int, str]:
    """Carry runs out as tasks of Ray, each in a process of its own; records are written here."""
    failed: dict[int, str] = {}
    with ray_session(address, parallel):
        import ray

        task = ray.remote(simulate).options(num_cpus=1)
        waiting = list(todo)
        running: dict[Any, Part] = {}
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    part = waiting.pop(0)
                    running[task.remote(part.ready.cluster, part.ready.run.seed)] = part
                (ended, *_), _ = ray.wait(list(running), num_returns=1)
                part = running.pop(ended)
                _note(part, keep(part, partial(_answer, ended)), failed, on_done)
        finally:
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


def _note(part: Part, problem: str | None, failed: dict[int, str], on_done: OnDone) -> None:
    if problem is not None:
        failed[part.number] = problem
    on_done(part.number, problem)
