"""Run records: everything that a run measured, as one folder.

Measuring never prints, and reporting never measures. A run ends as a folder with `record.json` and
its tables as CSV. Reports are made from such folders alone, so they can be repeated and compared
without running anything.

A record is written whole or not at all (see `folders`). One that says that the run has begun is
written first, so that a killed process leaves a record too. A run that fails leaves an incomplete
record: it says why and holds what had been measured, but it has neither digest nor cells and cannot
be taken for a result.

A record contains the job from which its run can be repeated. Verifying a record means running that
job again and comparing the digests.
"""

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError

from lrpc.cluster.machine import MachineOutcome, ProcessorOutcome, QueueOutcome
from lrpc.cluster.run import Outcome
from lrpc.kernel import compiled
from lrpc.kernel.documents import check_values, first_error, read_file
from lrpc.kernel.errors import Refused
from lrpc.workloads.records import call_tables, folders, pace, tables
from lrpc.workloads.records.asked import Input, Run
from lrpc.workloads.records.call_tables import Calls
from lrpc.workloads.records.cells import Cell, Remark, remarked, remarks
from lrpc.workloads.records.versions import versions

FORMAT: Final = 2
LARGEST_RECORD: Final = 2**28  # bytes: that of 100,000 machines has a third of it
COUNTS: Final = ("trap", "within_domain", "cross_domain", "cross_machine")


@dataclass(frozen=True)
class TraceAccounts:
    """What became of every row of a replayed trace.

    `summary` has counts and times by name, `left_out` one line for each row that was left out,
    `left_out_by_reason` lines that sum them up. The last of `times` is the whole; the others add up
    to it.
    """

    summary: Mapping[str, int | float]
    left_out: Sequence[str]
    traces: int = 0  # traces that the replay began
    times: Sequence[tables.TimePart] = ()
    left_out_by_reason: Sequence[str] = ()
    notes: Sequence[str] = ()  # caveats to show beside its figures
    more: Sequence[tables.Table] = ()  # times by operation, critical paths, gaps


@dataclass(frozen=True)
class Record:
    """The record of one run.

    Times are virtual, in the unit of their name, except `wall_s` and those in `synchronisation`.
    Sizes are in bytes.
    """

    status: Literal["complete", "incomplete"]
    workload: str
    command: Sequence[str]
    seed: int
    settings: Mapping[str, object]
    job: Mapping[str, object]
    inputs: Sequence[Input]
    versions: Mapping[str, str | None]
    compiled: bool
    format: int = FORMAT
    reason: str | None = None  # why the record is incomplete
    digest: str | None = None
    actors: int | None = None
    links: str | None = None
    wall_s: float | None = None
    virtual_us: float | None = None
    counts: Mapping[str, int] = field(default_factory=dict)
    bytes: Mapping[str, int] = field(default_factory=dict)
    copies: Mapping[str, int] = field(default_factory=dict)  # values copied, by letter of Table III
    charges: Mapping[str, int] = field(default_factory=dict)  # by step of the cost model
    # By procedure: count, mean and quantiles; then calls by the bounds of their bucket.
    latency_us: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    latency_ns: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    calls: Sequence[Calls] = ()  # by caller and procedure
    synchronisation: Mapping[str, object] = field(default_factory=dict)
    notes: Sequence[str] = ()  # caveats to show beside its figures
    machines: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    trace: TraceAccounts | None = None
    cells: Sequence[Cell] = ()
    remarks: Sequence[Remark] = ()  # of cells, in the file: those of a record have them themselves


def write(out: Path, record: Record, beside: Sequence[Path] = ()) -> None:
    """Write a record, and its tables as CSV, to the folder `out`, whole or not at all.

    The files `beside` are moved there too. Raises `RunFailed` if that fails.
    """

    def fill(folder: Path) -> None:
        told = asdict(replace(record, remarks=remarks(record.cells)))
        told["cells"] = [{key: cell[key] for key in cell if key not in tables.ON_REMARKS} for cell in told["cells"]]
        text = json.dumps(told, indent=2, ensure_ascii=False) + "\n"
        # Half a surrogate becomes its escape in JSON.
        (folder / "record.json").write_bytes(text.encode(errors="backslashreplace"))
        for table in tables_of(record):
            tables.write_csv(folder / f"{table.name}.csv", table)
        for file in beside:
            shutil.move(file, folder / file.name)

    folders.put(out, "record", fill)


def tables_of(record: Record) -> list[tables.Table]:
    """Return the tables of a record, as they are written beside it."""
    found = [
        tables.cells(record.cells),
        tables.calls(record.calls),
        tables.latencies(record.latency_ns),
        tables.machines(record.machines),
        tables.facilities(record.machines),
        tables.busy_processors(record.machines),
    ]
    if said := remarks(record.cells):
        found.append(tables.remarks(said))
    if record.trace is not None:
        found += [tables.times(record.trace.times), *record.trace.more]
        if record.trace.left_out:
            found.append(tables.Table("left-out", "Rows left out", ("row",), [(row,) for row in record.trace.left_out]))
    return found


def complete(
    run: Run,
    outcome: Outcome,
    cells: Sequence[Cell],
    wall_s: float,
    trace: TraceAccounts | None = None,
    calls: Sequence[Calls] = (),
) -> Record:
    """Return the record of a run that completed."""
    return Record(
        **_head(run),
        **_measured(outcome, wall_s),
        status="complete",
        digest=outcome.digest,
        calls=tuple(calls),
        trace=trace,
        cells=tuple(cells),
    )


def incomplete(
    run: Run, reason: str, outcome: Outcome | None = None, wall_s: float = 0.0, calls: Sequence[Calls] = ()
) -> Record:
    """Return the record of a run that did not complete.

    It gives the reason and what had been measured until then, but neither digest nor cells.
    """
    measured = {} if outcome is None or not outcome.machines else _measured(outcome, wall_s)
    return Record(**_head(run), **measured, status="incomplete", reason=reason, calls=tuple(calls))


def begun(run: Run) -> Record:
    """Return the record of a run that has just begun.

    It is what remains if the run's process is killed.
    """
    now = datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return incomplete(run, f"it began at {now} and has not ended: it is still running, or its process was killed")


def read(folder: Path) -> Record:
    """Return the record that a folder holds.

    Raises `Refused` if there is none, or if it is damaged or of another format. Of a folder that
    has several, such as a sweep's, it names the first.
    """
    path = folder / "record.json"
    if not path.exists() and (inside := _records_inside(folder)):
        raise Refused(f"{folder}: has {len(inside)} records inside; name one of them, such as {inside[0]}")
    try:
        found = json.loads(read_file(path, LARGEST_RECORD))
        _check_format(found, path)
        check_values(found, str(path))
        read = TypeAdapter(Record).validate_python(found)
        return replace(read, cells=remarked(read.cells, read.remarks), remarks=())
    except (ValueError, RecursionError) as error:
        what = first_error(error, str(path)) if isinstance(error, ValidationError) else f"{path}: not JSON"
        raise Refused(f"{what}; the record is damaged: run it again") from None


def _records_inside(folder: Path) -> list[Path]:
    """Return the folders of records in a folder that is none itself, in order."""
    found = [*folder.glob("*/record.json")] or [*folder.glob("*/*/record.json")]
    return sorted(path.parent for path in found)


def _check_format(found: object, path: Path) -> None:
    """Refuse what is no record of this format, saying what it is and what to do."""
    held = found.get("format") if isinstance(found, dict) else None
    if not isinstance(found, dict) or type(held) is not int:
        raise Refused(f"{path}: not a record; name a folder that lrpc run, replay or reproduce wrote")
    if found.get("kind") == "bench":
        raise Refused(f"{path}: a record of lrpc bench; its report is report.html in the same folder")
    if held < FORMAT:
        raise Refused(f"{path}: format {held}, of an older lrpc; run it again with this one, which writes {FORMAT}")
    if held > FORMAT:
        raise Refused(f"{path}: format {held}, of a newer lrpc; this one reads {FORMAT}: install the newer one")


def _measured(outcome: Outcome, wall_s: float) -> dict[str, Any]:
    latencies = call_tables.latencies(outcome.machines)
    counts = total_counts(outcome)
    copies, charges = Counter[str](), Counter[str]()
    for machine in outcome.machines:
        copies.update(machine.copies)
        charges.update(machine.charges)
    moved = {"arguments": counts.pop("argument_bytes"), "results": counts.pop("result_bytes")}
    return {
        "actors": outcome.actors,
        "links": outcome.transport,
        "wall_s": round(wall_s, 3),
        "virtual_us": max((machine.end_ns for machine in outcome.machines), default=0) / 1000,
        "counts": counts,
        "bytes": moved,
        "copies": dict(copies),
        "charges": dict(charges),
        "latency_us": {procedure: call_tables.latency(one) for procedure, one in latencies.items()},
        "latency_ns": {procedure: call_tables.buckets(one) for procedure, one in latencies.items()},
        "notes": tuple(sorted({f"Mind that {machine.mixes}." for machine in outcome.machines if machine.mixes})),
        "synchronisation": pace.synchronisation(outcome),
        "machines": {machine.name: _machine(machine) for machine in outcome.machines},
    }


def total_counts(outcome: Outcome) -> dict[str, int]:
    """Return the counts summed over all machines, those that Table I needs first."""
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
        "busy_processors": busy_processors(machine),
        "interrupts": _facility(machine.interrupts),
        "controller": _facility(machine.controller),
        "wire": _facility(machine.wire),
        "astack_waits": machine.astack_waits,
        "astack_bytes": {str(size): calls for size, calls in machine.astack_bytes.items()},
        "counts": {name: machine.counts[name] for name in COUNTS},
        "findings": {who: _told(found) for who, found in machine.findings.items()},
    }


def _told(found: object) -> object:
    """Return findings without those for a job's own accounts, whose names begin with `_`."""
    if not isinstance(found, Mapping):
        return found
    return {name: value for name, value in found.items() if not str(name).startswith("_")}


def _processor(one: ProcessorOutcome) -> dict[str, float]:
    times = asdict(one)
    exchanges = times.pop("exchanges")
    return {name.replace("_ns", "_us"): ns / 1000 for name, ns in times.items()} | {"exchanges": exchanges}


def _facility(one: QueueOutcome | None) -> dict[str, float] | None:
    if one is None:
        return None
    times = {"busy_us": one.busy_ns, "wait_us": one.wait_ns, "held_us": one.held_ns}
    return {"served": one.served, "bytes": one.bytes, **{name: ns / 1000 for name, ns in times.items()}}


def busy_processors(machine: MachineOutcome) -> dict[str, float]:
    """Return how many processors were busy on average, by what with; nothing without links."""
    if not machine.remote_ns or not machine.end_ns:
        return {}
    whole = machine.busy_ns + sum(one.interrupt_ns for one in machine.processors)
    spent = {**machine.remote_ns, "all else": whole - sum(machine.remote_ns.values())}
    return {what: round(ns / machine.end_ns, 6) for what, ns in {"in all": whole, **spent}.items()}


def _head(run: Run) -> dict[str, Any]:
    return {
        "workload": run.workload,
        "command": tuple(run.command),
        "seed": run.seed,
        "settings": run.settings,
        "job": run.job,
        "inputs": tuple(run.inputs),
        "versions": versions(),
        "compiled": compiled.runs_compiled(),
    }
