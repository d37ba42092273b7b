"""Joins what machines recorded of a run to one timeline, in Perfetto's format.

A machine is a process. It has a track for each processor, with the threads that had it, one for
interrupts of packets and one for its controller, and one for each thread in each domain where it
ran. Threads that follow each other in a domain share a track. A call is a slice on its client's
track and contains the steps that it was charged there; the procedure is one on the server's. Arrows
lead from where the call leaves its domain to the procedure, and from its end back to the end of the
call.

A timeline ends where the first machine had as many slices as it may, so that nothing is missing in
between. Memory is that of the slices of one machine, and some 200 bytes for each call of all.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from lrpc.cluster.journal import TimelineFiles, timeline_file
from lrpc.kernel.errors import RunFailed
from lrpc.workloads.records.parts import CROSSES, TRAP, CallEnds, Lane, MachineLanes, MachinePart
from lrpc.workloads.records.perfetto import PerfettoWriter

FILE: Final = "timeline.perfetto-trace"  # in the folder of a record


@dataclass(frozen=True)
class TimelineWritten:
    """What a timeline holds, and its virtual time in microseconds.

    `cut` says that it ends where a machine had as many slices as it may.
    """

    file: str  # in the record's folder
    slices: int
    arrows: int
    calls: Mapping[str, int]  # by what they cross, and system calls
    from_us: float
    to_us: float
    cut: bool
    bytes: int

    def __str__(self) -> str:
        """Return this in one line."""
        span = f"{self.from_us:,.3f} to {self.to_us:,.3f} µs of virtual time"
        return f"{self.slices:,} slices and {self.arrows:,} arrows, {span}"


def write(path: Path, files: TimelineFiles, machines: Sequence[str]) -> TimelineWritten:
    """Write the timeline of a run to `path`, from the parts of its machines, in order of names.

    Raises `RunFailed` if it cannot be written.
    """
    try:
        with path.open("wb") as file:
            writer = PerfettoWriter(file)
            joined = _Joined(files, len(machines), writer)
            for rank, machine in enumerate(machines):
                joined.write(rank, machine)
            writer.flush()
    except OSError as error:
        raise RunFailed(f"timeline: {path}: cannot be written: {os.strerror(error.errno or 0)}; make room") from error
    return joined.written()


class _Joined:
    """The timeline of a run as it is written, machine by machine."""

    def __init__(self, files: TimelineFiles, machines: int, writer: PerfettoWriter) -> None:
        self._files = files
        self._writer = writer
        self._uuids = machines  # of tracks so far; those of machines come first
        self._slices = self._arrows = 0
        self._calls = dict.fromkeys((TRAP, *CROSSES), 0)
        self._cut = False
        ends = CallEnds()
        end_ns, last_ns = files.bounds.to_ns, files.bounds.from_ns
        for rank in range(machines):
            part = self._part(rank)
            if 0 <= part.cut_ns < end_ns:
                end_ns, self._cut = part.cut_ns, True
            last_ns = max(last_ns, part.last_ns)
            part.add_ends(ends)
        self._end_ns = end_ns if self._cut else min(end_ns, last_ns)
        self._comes_back = ends.arrows(self._end_ns)

    def write(self, rank: int, machine: str) -> None:
        """Write a machine's tracks and what is on them."""
        self._writer.process(rank + 1, rank + 1, machine)
        found = MachineLanes(self._part(rank), self._writer, self._end_ns, self._comes_back)
        for lane in found.lanes():
            left = lane.slices
            while len(left):
                left = left.write(self._writer, self._describe(rank, lane))
        self._slices += found.slices
        self._arrows += found.arrows
        for category, count in found.calls.items():
            self._calls[category] += count

    def written(self) -> TimelineWritten:
        """Return what was written."""
        times = self._files.bounds.from_ns / 1000, self._end_ns / 1000
        return TimelineWritten(FILE, self._slices, self._arrows, self._calls, *times, self._cut, self._writer.bytes)

    def _part(self, rank: int) -> MachinePart:
        return MachinePart(timeline_file(self._files.folder, rank), rank)

    def _describe(self, rank: int, lane: Lane) -> int:
        """Write a track's description, and return the number by which its events name it."""
        self._uuids += 1
        if lane.of_thread:
            self._writer.thread(self._uuids, rank + 1, self._uuids, lane.name)
        else:
            self._writer.track(self._uuids, rank + 1, lane.name, lane.order)
        return self._uuids
