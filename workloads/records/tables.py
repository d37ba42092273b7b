"""Tables of a record: columns and rows, written as CSV files and shown by reports.

Files and reports are made from the same tables, so they cannot disagree. A table holds plain
values; how a value is shown to people is left to the report.
"""

import csv
import importlib.util
import re
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from pathlib import Path
from typing import Final

from pydantic import ConfigDict, TypeAdapter, ValidationError

from lrpc.kernel.documents import first_error
from lrpc.kernel.errors import Refused
from lrpc.kernel.text import visible
from lrpc.workloads.records.call_tables import CROSSINGS, Calls
from lrpc.workloads.records.cells import Cell, Remark

ON_REMARKS: Final = ("rests_on", "shortened")  # of a cell: a record holds them as remarks
TableValue = str | int | float | None
SLOWEST: Final = "slowest"  # the table of a replay's slowest traces, which pictures show
FORMULA: Final = ("=", "+", "-", "@")  # what a formula begins with
BUCKET: Final = re.compile(r"([0-9]{1,18})-([0-9]{1,18})")


@dataclass(frozen=True)
class Table:
    """Rows of values under named columns; the table's CSV file is named after `name`."""

    name: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[TableValue]]
    named: bool = False  # column names come from the record: show them unchanged


@dataclass(frozen=True)
class ProcessorRow:
    """What one processor did, in virtual microseconds; `busy_us` includes the waits."""

    busy_us: float
    bus_us: float
    bus_wait_us: float
    lock_wait_us: float
    idle_us: float
    exchanges: int
    interrupt_us: float = 0.0


@dataclass(frozen=True)
class QueueRow:
    """What packets queued for did for them, in virtual microseconds.

    A controller is held while its packet is on the wire.
    """

    served: int
    bytes: int
    busy_us: float
    wait_us: float
    held_us: float = 0.0


@dataclass(frozen=True)
class MachineRow:
    """The part of a machine's record that tables show."""

    end_us: float
    busy_us: float
    processors: Sequence[ProcessorRow]
    astack_waits: int
    counts: Mapping[str, int]
    busy_processors: Mapping[str, float] = field(default_factory=dict)
    interrupts: QueueRow | None = None
    controller: QueueRow | None = None
    wire: QueueRow | None = None

    @property
    def utilisation(self) -> float:
        """Return the share of its processors' time, from 0 to 1, in which they had threads."""
        whole_us = self.end_us * len(self.processors)
        return self.busy_us / whole_us if whole_us else 0.0

    @property
    def summed(self) -> ProcessorRow:
        """Return the sums over its processors."""
        columns = zip(*(astuple(one) for one in self.processors), strict=True)
        return ProcessorRow(*(sum(column) for column in columns)) if self.processors else ProcessorRow(0, 0, 0, 0, 0, 0)


@dataclass(frozen=True)
class TimePart:
    """One part of the time that a trace's first spans took together, in ns.

    A time is None if it has no such part.
    """

    part: str
    recorded_ns: int | None
    simulated_ns: int | None


MACHINES: Final = TypeAdapter(dict[str, MachineRow], config=ConfigDict(defer_build=True))


def read_machines(found: Mapping[str, Mapping[str, object]], document: str = "record") -> dict[str, MachineRow]:
    """Return the machines of a record, after checking them.

    Raises `Refused`, naming `document`, if they are not what a run writes.
    """
    try:
        return MACHINES.validate_python(dict(found))
    except ValidationError as error:
        raise Refused(f"{first_error(error, document)}; the record is damaged: run it again") from None


def cells(found: Sequence[Cell]) -> Table:
    """Return the table of a run's cells, without what remarks say of them."""
    columns = [column.name for column in fields(Cell) if column.name not in ON_REMARKS]
    return Table("cells", "Cells", columns, [[getattr(cell, column) for column in columns] for cell in found])


def remarks(found: Sequence[Remark]) -> Table:
    """Return the table of what there is to say of a run's cells."""
    columns = [column.name for column in fields(Remark)]
    return Table("remarks", "What cells rest on", columns, [astuple(one) for one in found])


def calls(found: Sequence[Calls]) -> Table:
    """Return the table of who called what."""
    columns = [column.name for column in fields(Calls)]
    return Table("calls", "Who called what", columns, [astuple(row) for row in found])


def latencies(found: Mapping[str, Mapping[str, int]]) -> Table:
    """Return the table of latency histograms, one row per bucket.

    A row counts the calls that took at least `from_us` and less than `to_us`.
    """
    rows = [
        (procedure, low / 1000, high / 1000, count)
        for procedure, counted in found.items()
        for (low, high), count in ends(counted)
    ]
    return Table("latencies", "Latencies", ("procedure", "from_us", "to_us", "calls"), rows)


def times(found: Sequence[TimePart]) -> Table:
    """Return the table of where a trace's time went, recorded and simulated.

    The last row is the whole; the others add up to it.
    """
    rows: list[Sequence[TableValue]] = []
    for one in found:
        us = [None if ns is None else ns / 1000 for ns in (one.recorded_ns, one.simulated_ns)]
        rows.append((one.part, *us))
    return Table("times", "Where the time of all traces together went", ("part", "recorded_us", "simulated_us"), rows)


def machines(found: Mapping[str, Mapping[str, object]]) -> Table:
    """Return the table of what every machine did; processors' times are summed."""
    columns = [field.name for field in fields(ProcessorRow) if field.name != "busy_us"]
    head = ("machine", "processors", "end_us", "busy_us", "utilisation")
    rows = []
    for name, one in read_machines(found).items():
        did = one.summed
        rest = (*(getattr(did, column) for column in columns), one.astack_waits)
        counted = [one.counts.get(count, 0) for count in ("trap", *CROSSINGS)]
        rows.append((name, len(one.processors), one.end_us, one.busy_us, round(one.utilisation, 6), *rest, *counted))
    return Table("machines", "Machines", (*head, *columns, "astack_waits", "trap", *CROSSINGS), rows)


def facilities(found: Mapping[str, Mapping[str, object]]) -> Table:
    """Return the table of what packets queued for.

    These are each machine's I/O processor, by its interrupts, its controller, and the wire at its
    hub.
    """
    rows = []
    for name, one in read_machines(found).items():
        for what, did in (("interrupts", one.interrupts), ("controller", one.controller), ("wire", one.wire)):
            if did is not None:
                share = round(did.busy_us / one.end_us, 6) if one.end_us else 0.0
                wait = round(did.wait_us / did.served, 3) if did.served else 0.0
                times = (did.busy_us, share, did.held_us, did.wait_us, wait)
                rows.append((name, what, did.served, did.bytes, *times))
    times_ = ("busy_us", "utilisation", "held_us", "wait_us", "wait_per_packet_us")
    return Table("facilities", "What packets queued for", ("machine", "facility", "packets", "bytes", *times_), rows)


def busy_processors(found: Mapping[str, Mapping[str, object]]) -> Table:
    """Return the table of how many processors of each machine were busy on average, and with what.

    It has the machines that take part in calls between machines.
    """
    rows = [
        (name, what, processors)
        for name, one in read_machines(found).items()
        for what, processors in one.busy_processors.items()
    ]
    return Table("busy-processors", "Busy processors, on average", ("machine", "with", "processors"), rows)


def ends(counted: Mapping[str, int], document: str = "record") -> list[tuple[tuple[int, int], int]]:
    """Return the buckets of a histogram as ((from, to), count), with bounds in ns.

    Raises `Refused`, naming `document`, if a key of `counted` is not a bucket.
    """
    found = []
    for text, count in counted.items():
        if (match := BUCKET.fullmatch(text)) is None:
            raise Refused(f"{document}: latency_ns: {text!r} is not a bucket; the record is damaged: run it again")
        found.append(((int(match[1]), int(match[2])), count))
    return found


def as_objects(table: Table) -> list[dict[str, TableValue]]:
    """Return a table's rows as JSON has them: objects, whose keys are the columns."""
    return [dict(zip(table.columns, row, strict=True)) for row in table.rows]


def write_csv(path: Path, table: Table) -> None:
    """Write a table to a CSV file. Text is written as `csv_text` makes it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(map(csv_text, table.columns))
        writer.writerows([csv_text(one) if isinstance(one, str) else one for one in row] for row in table.rows)


def check_parquet() -> None:
    """Raise `Refused` where the library that writes Parquet is not installed."""
    if importlib.util.find_spec("pyarrow") is None:
        raise Refused("--parquet: pyarrow is not installed; run pip install 'lrpc[parquet]', or take the CSV files")


def write_parquet(path: Path, table: Table) -> None:
    """Write a table to a Parquet file. A column of text and numbers is written as text."""
    import pyarrow
    from pyarrow import parquet

    columns = {}
    for at, name in enumerate(table.columns):
        values = [row[at] for row in table.rows]
        if len({isinstance(value, str) for value in values if value is not None}) > 1:
            values = [None if value is None else str(value) for value in values]
        elif any(isinstance(value, float) for value in values):
            values = [None if value is None else float(value) for value in values]
        columns[name] = pyarrow.array(values)
    parquet.write_table(pyarrow.table(columns), path)


def csv_text(text: str) -> str:
    """Return `text` as visible, after an apostrophe where a spreadsheet would see a formula."""
    shown = visible(text)
    return f"'{shown}" if len(shown) > 1 and shown.lstrip().startswith(FORMULA) else shown
