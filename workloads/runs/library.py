"""Runs clusters from Python: reads a scenario, runs it, and returns a result to examine or save.

`lrpc.read_cluster` and `lrpc.run` are these functions. A result is what the command line writes to
disk: the record, with its cells and tables. Nothing is printed, and nothing is written unless
`save` or an event log asks for it. By default everything runs in the calling process, so that a
script or a notebook needs no Ray.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from lrpc.cluster.description import Cluster
from lrpc.cluster.run import Outcome, choose_actors
from lrpc.cluster.synchronisation import Progress
from lrpc.domains.residents import Findings, Registry
from lrpc.workloads.programs.registry import UsersRegistry, load_registry, with_own
from lrpc.workloads.records import records
from lrpc.workloads.records.call_tables import who_called_what
from lrpc.workloads.records.cells import Cell
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table
from lrpc.workloads.runs.execute import Options, check_events, planned_calls, simulate
from lrpc.workloads.runs.jobs import JsonValue, Prepared, RunJob


@dataclass(frozen=True)
class ReadyCluster:
    """A cluster that has been read and checked, for `lrpc.run`."""

    prepared: Prepared

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
        place = records.new_folder(out, self.record.workload, force=force, option="folder")
        records.write(place, self.record)
        return place


def read_cluster(
    scenario: str | Path,
    *,
    registry: Registry | str | None = None,
    scale: float = 1.0,
    changes: Mapping[str, JsonValue] | None = None,
) -> ReadyCluster:
    """Read and check a scenario, given as the path of a TOML file or the name of a shipped one.

    `registry` has your own servers and programs, if the scenario names any. It is a
    `lrpc.Registry`, or says where to import one from: `"module:NAME"` or `"path.py:NAME"`. Only in
    the second form can `lrpc verify` repeat a saved run. `scale` multiplies the parameters that
    scale. `changes` gives values of the file other values, by keys such as
    `"machines.workstation.count"`. Raises `Refused`, in one line, for whatever is wrong.
    """
    own = None
    if isinstance(registry, str):
        own = load_registry(registry)
    elif registry is not None:
        own = UsersRegistry("", with_own(registry, "registry"))
    job = RunJob(scenario=str(scenario), scale=scale, changes=dict(changes or {}))
    return ReadyCluster(job.prepare(["lrpc.run", str(scenario)], own))


def run(
    cluster: ReadyCluster,
    *,
    seed: int = 0,
    actors: int | None = 0,
    transport: Literal["grpc", "memory"] = "memory",
    address: str | None = None,
    events: str | Path | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> RunResult:
    """Run a cluster to its end and return the result, which does not depend on where it runs.

    By default everything runs in this process. `actors=2, transport="grpc"` spreads the machines
    over two Ray actors, and `address`, host:port, names an existing Ray cluster for them. `events`
    names a new file for the event log. `on_progress` is called as windows end. Ctrl-C ends the run
    with KeyboardInterrupt.

    Raises `Refused` before any work begins. Raises `RunFailed` where a thread raised an error or
    waits for ever, and where an actor is lost for good.
    """
    asked = cluster.prepared.run
    asked = replace(asked, seed=seed, job={**asked.job, "seed": seed})
    log = None if events is None else Path(events)
    if log is not None:
        check_events(log, None, force=False)
    options = Options(
        actors=choose_actors(cluster.description, actors, transport, address), transport=transport, address=address
    )
    began = time.monotonic()
    told = on_progress or (lambda progress: None)
    outcome = simulate(cluster.description, seed, replace(options, events=log), on_progress=told)
    wall_s = time.monotonic() - began
    calls = who_called_what(cluster.description, outcome.machines)
    cells = cluster.prepared.cells_of(outcome)
    return RunResult(records.complete(asked, outcome, cells, wall_s, None, calls), outcome)
