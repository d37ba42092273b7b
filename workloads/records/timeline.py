"""Joins what machines recorded of a run to one timeline, in Perfetto's format.

A machine is a process. It has a track for each processor, with the threads that had it, one for
interrupts of packets and one for its controller, and one for each thread in each domain where it
ran. Threads that follow each
other in a domain share a track. A call is a slice on its client's track and contains the steps that
it was charged there; the procedure is one on the server's. Arrows lead from where the call leaves
its domain to the procedure, and from its end back to the end of the call.

A timeline ends where the first machine had as many slices as it may, so that nothing is missing in
between. Memory is that of the slices of one machine, and 48 bytes for each call of all.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from lrpc.cluster.group import TimelineFiles, timeline_file
from lrpc.domains.simulated.timeline import CALL_SLICE, PROCEDURE_SLICE
from lrpc.kernel.errors import RunFailed
from lrpc.workloads.records.nesting import layers
from lrpc.workloads.records.parts import (
    CROSSES,
    NEVER,
    TRAP,
    CallEnds,
    Lane,
    MachinePart,
    Naming,
    Numbers,
    SliceColumns,
)
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
        self._naming = Naming()
        self._uuids = machines  # of tracks so far; those of machines come first
        self._slices = self._arrows = 0
        self._calls = dict.fromkeys((TRAP, *CROSSES), 0)
        self._cut = False
        ends: tuple[list[CallEnds], list[CallEnds]] = [], []
        end_ns, last_ns = files.bounds.to_ns, files.bounds.from_ns
        for rank in range(machines):
            part = self._part(rank)
            if 0 <= part.cut_ns < end_ns:
                end_ns, self._cut = part.cut_ns, True
            last_ns = max(last_ns, int(part.rows[:, 2].max(initial=0)))
            for side, kind in zip(ends, (CALL_SLICE, PROCEDURE_SLICE), strict=True):
                side.append(part.ends(kind))
        self._end_ns = end_ns if self._cut else min(end_ns, last_ns)
        self._forth, self._back = self._matched(*map(_all, ends))

    def write(self, rank: int, machine: str) -> None:
        """Write a machine's tracks and what is on them."""
        part = self._part(rank)
        part.end_at(self._end_ns)
        self._writer.process(rank + 1, rank + 1, machine)
        lanes, tracks = part.lanes()
        found = part.columns(tracks, self._naming, self._forth, self._back).until(self._end_ns)
        self._count(found)
        names = [self._writer.name(*one) for one in self._naming.known]
        for events in layers(found):
            there = set(events.tracks.tolist())
            uuids = [self._describe(rank, lane) if at in there else 0 for at, lane in enumerate(lanes)]
            events.write(self._writer, uuids, names)

    def written(self) -> TimelineWritten:
        """Return what was written."""
        times = self._files.bounds.from_ns / 1000, self._end_ns / 1000
        return TimelineWritten(FILE, self._slices, self._arrows, self._calls, *times, self._cut, self._writer.bytes)

    def _part(self, rank: int) -> MachinePart:
        return MachinePart(timeline_file(self._files.folder, rank), rank)

    def _matched(self, calls: CallEnds, procedures: CallEnds) -> tuple[Numbers, Numbers]:
        """Return the keys of calls whose procedures are there too, and of those that came back."""
        common, ours, theirs = np.intersect1d(calls.keys, procedures.keys, return_indices=True)
        there = (common > 0) & (calls.starts[ours] < self._end_ns) & (procedures.starts[theirs] < self._end_ns)
        # A caller that was released may be back before its procedure.
        ended = np.minimum(calls.ends[ours], NEVER - 1)
        back = there & (ended <= self._end_ns) & (procedures.ends[theirs] <= ended)
        return common[there], common[back]

    def _count(self, found: SliceColumns) -> None:
        """Count slices, arrows and calls."""
        self._slices += int((found.instants == 0).sum())
        self._arrows += int((found.flows > 0).sum())
        for name, count in zip(*np.unique(found.names, return_counts=True), strict=True):
            category = self._naming.known[int(name)][0]
            if category in self._calls:
                self._calls[category] += int(count)

    def _describe(self, rank: int, lane: Lane) -> int:
        """Write a track's description, and return the number by which its events name it."""
        self._uuids += 1
        if lane.of_thread:
            self._writer.thread(self._uuids, rank + 1, self._uuids, lane.name)
        else:
            self._writer.track(self._uuids, rank + 1, lane.name, lane.order)
        return self._uuids


def _all(sides: Sequence[CallEnds]) -> CallEnds:
    """Return the ends of all machines together."""
    return CallEnds(*(np.concatenate([getattr(one, name) for one in sides]) for name in ("keys", "starts", "ends")))
