"""Runs clusters from Python: reads a scenario, runs it, and returns a result to examine or save.

`lrpc.read_cluster` and `lrpc.run` are these functions. A result is what the command line writes to
disk: the record, with its cells and tables. Nothing is printed, and nothing is written unless
`save` or an event log asks for it. By default everything runs in the calling process, so that a
script or a notebook needs no Ray.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Literal

import numpy

from lrpc.cluster.actors import choose_actors
from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Transport
from lrpc.cluster.run import Outcome
from lrpc.cluster.scenario import MOST_PARTS
from lrpc.cluster.synchronisation import Progress
from lrpc.domains.residents import Findings, Registry
from lrpc.kernel.errors import Refused, RunFailed
from lrpc.workloads.programs.registry import UsersRegistry, with_own
from lrpc.workloads.records import folders, records
from lrpc.workloads.records.call_tables import who_called_what
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table
from lrpc.workloads.runs.execute import incomplete, simulate
from lrpc.workloads.runs.jobs import JsonValue, Prepared, job_of, registry_for
from lrpc.workloads.runs.planned import Options, check_events, planned_calls

FROM_PYTHON: Final = "a registry that was given in Python"  # as a record names it


@dataclass(frozen=True)
class ReadyCluster:
    """A cluster that has been read and checked, for `lrpc.run`."""

    prepared: Prepared = field(repr=False)

    def __repr__(self) -> str:
        """Return the name and the number of machines."""
        return f"<ReadyCluster {self.name}: {len(self.machines)} machines>"

    @property
    def name(self) -> str:
        """Return the cluster's name, from its description."""
        return self.description.name

    @property
    def machines(self) -> tuple[str, ...]:
        """Return the names of the machines, in order."""
        return tuple(machine.name for machine in self.description.machines)

    @property
    def description(self) -> Cluster:
        """Return the specifications of machines, domains and links."""
        return self.prepared.cluster

    @property
    def planned_calls(self) -> int:
        """Return about how many calls and traps a run makes; 0 if any program does not know."""
        return planned_calls(self.description)


@dataclass(frozen=True)
class RunResult:
    """The result of a run. All times are virtual, except `record.wall_s`."""

    record: Record  # what `save` writes
    outcome: Outcome  # of each machine, with times in nanoseconds

    def __repr__(self) -> str:
        """Return the workload, what was counted, and the beginning of the digest."""
        counted = ", ".join(f"{self.counts[name]:,} {name}" for name in records.COUNTS if self.counts[name])
        return f"<RunResult {self.record.workload}: {counted}; digest {self.digest[:16]}>"

    @property
    def digest(self) -> str:
        """Return the run's digest, which does not depend on where it ran."""
        return self.outcome.digest

    @property
    def progress(self) -> Progress:
        """Return the run's totals: calls, virtual time in ns, windows."""
        return self.outcome.progress

    @property
    def counts(self) -> Mapping[str, int]:
        """Return the counts of all machines by name.

        These are `trap`, `within_domain`, `cross_domain`, `cross_machine` and others.
        """
        return self.record.counts

    @property
    def cells(self) -> Sequence[Cell]:
        """Return the run's row of the paper's Table I, in percent."""
        return self.record.cells

    @property
    def tables(self) -> Mapping[str, Table]:
        """Return the record's tables by name.

        These are `cells`, `calls`, `latencies`, `machines` and others.
        `pandas.DataFrame(table.rows, columns=table.columns)` makes a data frame of one.
        """
        return {table.name: table for table in records.tables_of(self.record)}

    @property
    def findings(self) -> Mapping[str, Mapping[str, Findings]]:
        """Return the findings of servers and programs, by machine, then by export or thread."""
        return {machine.name: machine.findings for machine in self.outcome.machines}

    def save(self, folder: str | Path | None = None, *, force: bool = False) -> Path:
        """Write the record to a folder, by default a new one under `records/`; return the folder.

        Raises `Refused` if the folder exists. With `force`, a record in it is replaced.
        """
        out = None if folder is None else Path(folder)
        place = folders.for_record(out, self.record.workload, force=force, option="folder", force_option="force=True")
        with folders.claimed(place, "folder"):
            records.write(place, self.record)
        return place


class RunIncomplete(RunFailed):
    """A run from Python that failed; `result` has what was measured until then, to examine or save.

    Its record is incomplete, says why, and has neither cells nor a digest.
    """

    def __init__(self, reason: str, result: RunResult) -> None:
        super().__init__(reason)
        self.result = result


def read_cluster(
    scenario: str | Path,
    *,
    registry: Registry | str | None = None,
    scale: float = 1.0,
    changes: Mapping[str, JsonValue] | None = None,
    limit: int = MOST_PARTS,
) -> ReadyCluster:
    """Read and check a scenario, given as the path of a TOML file or the name of a shipped one.

    `registry` has your own servers and programs, if the scenario names any: an `lrpc.Registry`, or
    where to import one from, `"module:NAME"` or `"path.py:NAME"`. In the second form a saved record
    names that file and its digest, for `lrpc verify`. `scale`, above 0 and at most 1, multiplies
    the parameters that scale. `changes` gives values of the file other values, by keys such as
    `"machines.workstation.count"`. `limit` is the most machines, processors, domains, exports,
    imports and threads in sum. Raises `Refused`, in one line, for whatever is wrong.
    """
    given = {"kind": "run", "scenario": str(scenario), "scale": scale, "changes": _plain(changes or {})}
    job = job_of(given, "read_cluster")
    if isinstance(registry, str):
        own = registry_for(job, registry)
    elif isinstance(registry, Registry):
        own = UsersRegistry(FROM_PYTHON, with_own(registry, "registry"))
    elif registry is None:
        own = None
    else:
        raise Refused(f"registry: {registry!r:.40}: give an lrpc.Registry, or module:NAME or path.py:NAME of one")
    return ReadyCluster(job.prepare(["lrpc.run", str(scenario)], own, limit))


def run(
    cluster: ReadyCluster,
    *,
    seed: int = 0,
    actors: int | None = 0,
    transport: Literal["grpc", "memory"] | None = None,
    address: str | None = None,
    events: str | Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Run a cluster to its end and return the result, which does not depend on where it runs.

    By default everything runs in this process. `actors=2` spreads the machines over two Ray actors,
    and `address`, host:port, names an existing Ray cluster for them. Between actors messages travel
    over gRPC; `transport` says how they travel otherwise. `events` names a new file for the event
    log. `on_progress` is called as windows end. Ctrl-C ends the run with KeyboardInterrupt.

    Raises `Refused` before any work begins. Raises `RunIncomplete`, a `RunFailed` with what was
    measured until then, where a thread raised an error or waits for ever, and where an actor is
    lost for good.
    """
    asked = cluster.prepared.run
    seed = job_of({**asked.job, "seed": _plain(seed)}, "lrpc.run").seed
    asked = replace(asked, seed=seed, job={**asked.job, "seed": seed})
    if transport not in ("grpc", "memory", None):
        raise Refused(f"lrpc.run: transport: {transport!r:.40}: give grpc or memory")
    way: Transport = transport or ("memory" if actors == 0 else "grpc")
    log = None if events is None else Path(events)
    if log is not None:
        check_events(log, None, force=False, option="events", force_option="")
    count = choose_actors(cluster.description, actors, way, address)
    options = Options(actors=count, transport=way, address=address)
    began = time.monotonic()
    told = on_progress or (lambda progress: None)
    partial: list[Outcome] = []
    try:
        options = replace(options, events=log)
        outcome = simulate(cluster.description, seed, options, on_progress=told, on_partial=partial.append)
    except RunFailed as error:
        if not partial:
            raise
        wall_s = time.monotonic() - began
        record = incomplete(asked, cluster.description, str(error), partial[-1], wall_s)
        raise RunIncomplete(str(error), RunResult(record, partial[-1])) from error
    wall_s = time.monotonic() - began
    calls = who_called_what(cluster.description, outcome.machines)
    cells = cluster.prepared.cells_of(outcome)
    return RunResult(records.complete(asked, outcome, cells, wall_s, None, calls), outcome)


def _plain(value: object) -> object:
    """Return a value with numbers of numpy's, wherever they are in it, as Python's own."""
    if isinstance(value, Mapping):
        return {key: _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value.item() if isinstance(value, numpy.generic) else value
