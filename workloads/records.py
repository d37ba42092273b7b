"""Run records: what a run measured, in a folder of its own, written whole or not at all."""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, Final, Literal

from lrpc import __version__
from lrpc.cluster.machine import MachineOutcome, ProcessorOutcome
from lrpc.cluster.run import Outcome
from lrpc.kernel import compiled
from lrpc.workloads import call_tables, folders, pace, tables
from lrpc.workloads.call_tables import Calls
from lrpc.workloads.paper import Cell

FORMAT: Final = 1
LIBRARIES: Final = ("greenlet", "grpcio", "numpy", "protobuf", "pydantic", "ray")
COUNTS: Final = ("trap", "within_domain", "cross_domain", "cross_machine")


@dataclass(frozen=True)
class Run:
    """What was asked for: the workload's name, the command line and everything that decides the result."""

    workload: str
    command: Sequence[str]
    seed: int
    settings: Mapping[str, object]  # cost models, processors, placement: by the workload's own names


@dataclass(frozen=True)
class TraceAccounts:
    """Where every row of a replayed trace went: counts by name, and the rows left out, each on a line."""

    summary: Mapping[str, int | float]
    left_out: Sequence[str]


@dataclass(frozen=True)
class Record:
    """One run. Times are virtual and in microseconds, but for `wall_s`; sizes are bytes."""

    status: Literal["complete", "incomplete"]
    workload: str
    command: Sequence[str]
    seed: int
    settings: Mapping[str, object]
    versions: Mapping[str, str | None]
    compiled: bool
    format: int = FORMAT
    reason: str | None = None  # why it is incomplete
    digest: str | None = None
    actors: int | None = None
    links: str | None = None
    wall_s: float | None = None
    virtual_us: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    copies: Mapping[str, int] = field(default_factory=dict)  # values copied, by letter of Table III
    charges: Mapping[str, int] = field(default_factory=dict)  # by step of the cost model
    latency_us: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    latency_ns: Mapping[str, Mapping[str, int]] = field(default_factory=dict)  # calls, by the ends of their bucket
    calls: Sequence[Calls] = ()  # by caller and procedure
    synchronisation: Mapping[str, object] = field(default_factory=dict)
    machines: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    trace: TraceAccounts | None = None
    cells: Sequence[Cell] = ()


def new_folder(out: Path | None, workload: str, *, force: bool) -> Path:
    """Return the folder that a record will be written to; `Refused` where that could not be.

    Without `out` it is a fresh one under `records/`. An existing one needs `force`, and must hold a record.
    """
    folder = folders.fresh(workload) if out is None else out
    return folders.check(folder, "record", lambda held: (held / "record.json").is_file(), force=force)


def write(out: Path, record: Record) -> None:
    """Write a record, and its tables as CSV, into a folder beside `out`, then put that in its place.

    `RunFailed` where that cannot be done any more.
    """

    def fill(folder: Path) -> None:
        (folder / "record.json").write_text(json.dumps(asdict(record), indent=2, ensure_ascii=False) + "\n")
        for table in (
            tables.cells(record.cells),
            tables.calls(record.calls),
            tables.latencies(record.latency_ns),
            tables.machines(record.machines),
        ):
            tables.write_csv(folder / f"{table.name}.csv", table)

    folders.put(out, "record", fill)


def complete(
    run: Run,
    outcome: Outcome,
    cells: Sequence[Cell],
    wall_s: float,
    trace: TraceAccounts | None = None,
    calls: Sequence[Calls] = (),
) -> Record:
    """Return the record of a run that came to its end."""
    latencies = call_tables.latencies(outcome.machines)
    counts = total_counts(outcome)
    copies, charges = Counter[str](), Counter[str]()
    for machine in outcome.machines:
        copies.update(machine.copies)
        charges.update(machine.charges)
    moved = {"arguments": counts.pop("argument_bytes"), "results": counts.pop("result_bytes")}
    return Record(
        **_head(run),
        status="complete",
        digest=outcome.digest,
        actors=outcome.actors,
        links=outcome.links,
        wall_s=round(wall_s, 3),
        virtual_us=max((machine.end_ns for machine in outcome.machines), default=0) / 1000,
        counts=counts,
        bytes=moved,
        copies=dict(copies),
        charges=dict(charges),
        latency_us={procedure: call_tables.latency(one) for procedure, one in latencies.items()},
        latency_ns={procedure: call_tables.buckets(one) for procedure, one in latencies.items()},
        calls=tuple(calls),
        synchronisation=pace.synchronisation(outcome),
        machines={machine.name: _machine(machine) for machine in outcome.machines},
        trace=trace,
        cells=tuple(cells),
    )


def incomplete(run: Run, reason: str) -> Record:
    """Return the record of a run that did not come to its end: it has no results, and says why."""
    return Record(**_head(run), status="incomplete", reason=reason)


def total_counts(outcome: Outcome) -> dict[str, int]:
    """Return the counts of all machines together, those of Table I first."""
    counts = Counter[str]()
    for machine in outcome.machines:
        counts.update(machine.counts)
    return {name: counts[name] for name in (*COUNTS, *sorted(set(counts) - set(COUNTS)))}


def _machine(machine: MachineOutcome) -> dict[str, object]:
    return {
        "digest": machine.digest.hex(),
        "end_us": machine.end_ns / 1000,
        "busy_us": machine.busy_ns / 1000,
        "processors": [_processor(one) for one in machine.processors],
        "astack_waits": machine.astack_waits,
        "astack_bytes": {str(size): calls for size, calls in machine.astack_bytes.items()},
        "counts": {name: machine.counts[name] for name in COUNTS},
        "findings": dict(machine.findings),
    }


def _processor(one: ProcessorOutcome) -> dict[str, float]:
    times = asdict(one)
    exchanges = times.pop("exchanges")
    return {name.replace("_ns", "_us"): ns / 1000 for name, ns in times.items()} | {"exchanges": exchanges}


def _head(run: Run) -> dict[str, Any]:
    return {
        "workload": run.workload,
        "command": tuple(run.command),
        "seed": run.seed,
        "settings": run.settings,
        "versions": {"lrpc": __version__, "python": platform.python_version(), **_library_versions()},
        "compiled": compiled.runs_compiled(),
    }


def _library_versions() -> dict[str, str | None]:
    def version(library: str) -> str | None:
        try:
            return metadata.version(library)
        except metadata.PackageNotFoundError:  # Ray is not needed to run in one process
            return None

    return {library: version(library) for library in LIBRARIES}
