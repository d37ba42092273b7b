"""Writes what a domain has recorded in Perfetto's format: a track for each of its threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lrpc.kernel.errors import Refused, RunFailed
from lrpc.kernel.text import visible
from lrpc.workloads.records.nesting import Slices
from lrpc.workloads.records.perfetto import PerfettoWriter

if TYPE_CHECKING:  # it needs the native part, which may not have been built
    from lrpc.domains.host.timeline import LiveSlice, LiveTimeline

MOST_SLICES: Final = 1_000_000  # some 150 bytes of memory each
_PROCESS: Final = 1  # the track of the process, and its number in the file


def check(path: Path) -> None:
    """Raise `Refused` where a file is there already, or none can be written."""
    try:
        path.open("xb").close()
    except FileExistsError:
        raise Refused(f"--timeline {path}: it is there already; name another file") from None
    except OSError as error:
        raise Refused(f"--timeline {path}: {os.strerror(error.errno or 0)}; name another file") from None


def write(path: Path, domain: str, recorded: LiveTimeline) -> str:
    """Write the timeline of a domain to a file; return what it holds, in a line.

    Raises `RunFailed` where it cannot be written.
    """
    slices = list(recorded.slices)  # which may grow meanwhile
    try:
        with path.open("wb") as file:
            writer = PerfettoWriter(file)
            writer.process(_PROCESS, _PROCESS, visible(domain))
            if slices:
                _write(writer, slices)
            writer.flush()
    except OSError as error:
        raise RunFailed(f"timeline: {path}: cannot be written: {os.strerror(error.errno or 0)}; make room") from error
    left_out = f", and {recorded.left_out:,} later ones left out" if recorded.left_out else ""
    return f"timeline {path}: {len(slices):,} slices{left_out}"


def _write(writer: PerfettoWriter, recorded: Sequence[LiveSlice]) -> None:
    first = min(one.begin_ns for one in recorded)
    tracks = {thread: Slices() for thread in sorted({one.thread for one in recorded})}
    for one in recorded:
        name = writer.name(visible(one.category), visible(one.name))
        tracks[one.thread].add(one.begin_ns - first, one.end_ns - first, name)
    last = _PROCESS
    for thread, left in tracks.items():
        while len(left):
            last += 1
            writer.thread(last, _PROCESS, last, visible(thread))
            left = left.write(writer, last)
