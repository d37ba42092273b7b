"""The record of a benchmark, and the page that is made of it.

A folder with `record.json`, its cells as CSV, and a page that opens on its answer. The times are of
one computer on one day; the ratios are what carries over to others.
"""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, fields
from pathlib import Path
from typing import Final

from lrpc.workloads.bench import targets
from lrpc.workloads.bench.measure import FLOOR, BenchCell, Effort, Shared
from lrpc.workloads.bench.pairs import SideBySide
from lrpc.workloads.bench.peers import BESIDE
from lrpc.workloads.bench.targets import Target
from lrpc.workloads.records import folders
from lrpc.workloads.records.tables import Table
from lrpc.workloads.records.versions import versions
from lrpc.workloads.reports import page, plots
from lrpc.workloads.reports.page import Report
from lrpc.workloads.reports.plots import Plot
from lrpc.workloads.reports.sections import Note, Section

FORMAT: Final = 1
# Table IV today: the columns, and the peers and modes that stand for them.
TABLE_IV: Final = (
    ("LRPC/MP", "lrpc/mp", "spin"),
    ("LRPC", "lrpc", "sleep"),
    ("message passing", "socket", "sleep"),
    ("gRPC", BESIDE, "sleep"),
)
FOUR_TESTS: Final = ("Null", "Add", "BigIn", "BigInOut")


@dataclass(frozen=True)
class BenchRecord:
    """Everything that a benchmark has measured."""

    command: Sequence[str]
    effort: Effort
    cells: Sequence[BenchCell]
    shared: Sequence[Shared]
    compared: Sequence[SideBySide]
    missing: Sequence[str]  # peers that are not installed
    repeated: int
    disturbed: bool

    def as_document(self) -> Mapping[str, object]:
        """Return what `record.json` holds."""
        return {
            "format": FORMAT,
            "kind": "bench",
            "status": "complete",
            "command": list(self.command),
            "versions": versions(),
            "computer": computer(),
            "effort": asdict(self.effort),
            "rounds_repeated": self.repeated,
            "disturbed": self.disturbed,
            "peers_not_installed": list(self.missing),
            "cells": [asdict(one) for one in self.cells],
            "clients": [asdict(one) for one in self.shared],
            "pairs": [asdict(one) for one in self.compared],
            "targets": [{**asdict(one), "verdict": one.verdict} for one in self.targets],
        }

    @property
    def targets(self) -> list[Target]:
        """Return what it must show, and whether it does."""
        return targets.targets(self.cells, self.shared, self.compared)

    def cell(self, peer: str, test: str, mode: str) -> BenchCell | None:
        """Return a cell, or None where it was not measured."""
        return next((one for one in self.cells if (one.peer, one.test, one.mode) == (peer, test, mode)), None)

    @property
    def answer(self) -> str:
        """Return in a sentence what came out."""
        parts = []
        for name, peer, mode in TABLE_IV[:3]:
            cell = self.cell(peer, "Add", mode)
            if cell is not None and cell.ratio is not None:
                parts.append(f"{name} {cell.median_us:.1f} µs ({cell.ratio:,.0f} times as fast)")
        beside = self.cell(BESIDE, "Add", "sleep")
        if beside is None or not parts:
            return "Add was not measured beside gRPC over a UNIX socket."
        return f"Add takes gRPC {beside.median_us:,.0f} µs over a UNIX socket; here it takes {', '.join(parts)}."


def computer() -> Mapping[str, object]:
    """Return what kind of computer this is."""
    return {
        "system": platform.system(),
        "release": platform.release(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "processors": len(os.sched_getaffinity(0)),
    }


def cells_table(record: BenchRecord) -> Table:
    """Return all cells as a table."""
    rows = [astuple(one) for one in record.cells]
    return Table("cells", "All cells", [one.name for one in fields(BenchCell)], rows)


def today(record: BenchRecord) -> Table:
    """Return Table IV as measured on this computer: medians in microseconds."""
    rows = []
    for test in dict.fromkeys(one.test for one in record.cells):
        found = [record.cell(peer, test, mode) for _, peer, mode in TABLE_IV]
        rows.append((test, *(None if one is None else round(one.median_us, 1) for one in found)))
    heads = ("test", *(f"{name}, µs" for name, _, _ in TABLE_IV))
    return Table("table_iv_today", "Table IV, today, on this computer (medians)", heads, rows, named=True)


def peers_table(record: BenchRecord, test: str = "Add") -> Table:
    """Return what one test takes each peer, in every mode."""
    rows = [
        (
            one.peer,
            one.mode,
            *(None if us is None else round(us, 1) for us in (one.median_us, one.p99_us, one.cpu_us, one.ratio)),
        )
        for one in sorted(record.cells, key=lambda one: one.median_us)
        if one.test == test or one.peer == FLOOR
    ]
    heads = ("peer", "mode", "median, µs", "p99, µs", "processor, µs", "times gRPC")
    return Table(f"peers_{test.lower()}", f"{test}, by peer", heads, rows, named=True)


def clients_table(record: BenchRecord) -> Table:
    """Return what several clients got of one server."""
    rows = [
        (one.peer, one.clients, one.are, round(one.calls_per_s), round(one.least_of_mean, 2)) for one in record.shared
    ]
    heads = ("peer", "clients", "which are", "calls/s", "least/mean")
    return Table("clients", "Clients of one server", heads, rows, named=True)


def pairs_table(record: BenchRecord) -> Table:
    """Return what the channel leaves to gRPC, beside gRPC's own channel."""
    rows: list[tuple[str | float, ...]] = [
        (
            one.what,
            round(one.ours_us),
            round(one.theirs_us),
            *(round(ratio, 3) for ratio in (one.ratio, one.least, one.most)),
        )
        for one in record.compared
    ]
    heads = ("calls that take gRPC", "lrpc channel, µs", "gRPC, µs", "median of ratios", "at least", "at most")
    return Table("pairs", "What the channel leaves to gRPC, in pairs", heads, rows, named=True)


def write(out: Path, record: BenchRecord) -> None:
    """Write the record and its page, whole or not at all. Raises `RunFailed` if that fails."""
    made = report(record)

    def fill(folder: Path) -> None:
        text = json.dumps(record.as_document(), indent=1, ensure_ascii=False)
        (folder / "record.json").write_text(text + "\n", encoding="utf-8")
        page.fill(made, folder)

    folders.put(out, "record", fill)


def report(record: BenchRecord) -> Report:
    """Return the report: the sentence and the picture first."""
    notes = [Note("The computer was disturbed while this was measured: repeat it.", True)] if record.disturbed else []
    parts = [Section("All tests", [cells_table(record)])]
    if record.shared:
        parts.append(Section("Several clients", [clients_table(record)]))
    if record.compared:
        parts.append(Section("In pairs", [pairs_table(record)]))
    return Report(
        "Calls between processes of this computer",
        notes,
        [
            Section("What it must show", [targets.table(record.targets)]),
            Section("Peers", [peers_table(record)]),
            *parts,
        ],
        [Note(record.answer), _picture(record), today(record)],
    )


def _picture(record: BenchRecord) -> Plot:
    cells = [one for one in record.cells if one.test == "Add" and one.mode in ("spin", "sleep")]
    cells.sort(key=lambda one: one.median_us)
    return plots.rows(
        "Add by how the call travels, and how its server waits",
        [f"{one.peer} ({one.mode})" for one in cells],
        [one.median_us for one in cells],
        "median, µs, on a scale of powers of ten",
        logarithmic=True,
    )
