"""Puts what is on a track in order, so that each slice ends before those around it.

At one time, instants come first, so that they are in what ends then. Then come ends, the inner ones
first, and beginnings, the outer ones first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from librt.strings import BytesWriter, read_i64_le, write_i64_le

from lrpc.workloads.records.perfetto import INSTANT, SLICE_BEGIN, SLICE_END, EventTrack, PerfettoWriter

if TYPE_CHECKING:  # a native number, where this is compiled
    from mypy_extensions import i64

_ROW: Final = 4 * 8  # bytes of a slice: when it begins and ends, its name, and its flow
_KIND_BITS: Final = 2  # of an event, above which is the place of its slice


class Slices:
    """The slices and instants of a track. Names are numbers of `PerfettoWriter.name`.

    A flow that begins where something does is its number, one that ends there the negative of it,
    and 0 is none. Slices are best added in the order of their ends, the inner ones first.
    """

    def __init__(self) -> None:
        self._rows = BytesWriter()
        self._instants: list[tuple[int, int, int]] = []  # time, name, flow
        self._sorted = True
        # When the last slice begins and ends.
        self._begin: i64 = 0
        self._end: i64 = 0

    def __len__(self) -> int:
        """Return how many slices there are."""
        return len(self._rows) // _ROW

    def add(self, begin: i64, end: i64, name: i64, flow: i64 = 0) -> None:
        """Add a slice."""
        if end < self._end or (end == self._end and self._begin < begin < end):
            self._sorted = False
        self._begin = begin
        self._end = end
        rows = self._rows
        write_i64_le(rows, begin)
        write_i64_le(rows, end)
        write_i64_le(rows, name)
        write_i64_le(rows, flow)

    def add_instant(self, time: int, name: int, flow: int) -> None:
        """Add an instant."""
        self._instants.append((time, name, flow))

    def add_all(self, later: Slices) -> None:
        """Add what is on another track, and begins when all that is here has ended."""
        self._rows.write(later._rows.getvalue())
        self._instants += later._instants
        self._sorted = self._sorted and later._sorted
        self._begin = later._begin
        self._end = later._end

    def write(self, writer: PerfettoWriter, uuid: int) -> Slices:
        """Write to a track what nests, if it is taken from the last end on; return the rest.

        The rest crosses the ends of others, and has a track beside.
        """
        rows = self._in_order()
        events = _Events(rows, self._instants)
        crossing: list[int] = []
        around: list[int] = []  # slices that have others within, from their ends on
        around_begin: i64 = -1  # when the innermost of those begins
        last: i64 = -1  # the last slice, which may have others within
        last_begin: i64 = -1
        at: i64 = len(rows)
        while at:
            at -= _ROW
            begin = read_i64_le(rows, at)
            end = read_i64_le(rows, at + 8)
            if last_begin >= end:
                events.add(SLICE_BEGIN, last, last_begin)
                last = last_begin = -1
                while around_begin >= end:
                    events.add(SLICE_BEGIN, around.pop(), around_begin)
                    around_begin = read_i64_le(rows, around[-1]) if around else -1
            if begin < (around_begin if last < 0 else last_begin):
                crossing.append(at)
                continue
            events.add(SLICE_END, at, end)
            if last >= 0:
                around.append(last)
                around_begin = last_begin
            last = at
            last_begin = begin
        if last >= 0:
            events.add(SLICE_BEGIN, last, last_begin)
        for one in reversed(around):
            events.add(SLICE_BEGIN, one, read_i64_le(rows, one))
        events.write(writer, EventTrack(uuid))
        left = Slices()
        for one in reversed(crossing):
            left.add(*(read_i64_le(rows, one + field * 8) for field in range(4)))
        return left

    def _in_order(self) -> bytes:
        """Return the slices in the order of their ends, the inner ones first."""
        rows = self._rows.getvalue()
        if self._sorted:
            return rows
        places = list(range(0, len(rows), _ROW))
        places.sort(key=lambda at: (read_i64_le(rows, at + 8), -read_i64_le(rows, at)))
        return b"".join([rows[at : at + _ROW] for at in places])


class _Events:
    """The events of a track, from the last one on, among which the instants have their places."""

    def __init__(self, rows: bytes, instants: list[tuple[int, int, int]]) -> None:
        self._rows = rows
        self._instants = sorted(instants)
        self._left: i64 = len(instants)  # those that have no place yet
        self._instant: i64 = self._instants[-1][0] if instants else -1  # when the last of those is
        self._events = BytesWriter()

    def add(self, kind: i64, slice_: i64, time: i64) -> None:
        """Add the beginning or the end of a slice, and the instants after it."""
        while self._instant > time:
            self._add_instant()
        write_i64_le(self._events, slice_ << _KIND_BITS | kind)

    def write(self, writer: PerfettoWriter, track: EventTrack) -> None:
        """Write all events from the first one on."""
        while self._left:
            self._add_instant()
        rows = self._rows
        events = self._events.getvalue()
        at: i64 = len(events)
        while at:
            at -= 8
            event = read_i64_le(events, at)
            kind, place = event & (1 << _KIND_BITS) - 1, event >> _KIND_BITS
            if kind == SLICE_END:
                writer.end(track, read_i64_le(rows, place + 8))
            elif kind == SLICE_BEGIN:
                name, flow = read_i64_le(rows, place + 16), read_i64_le(rows, place + 24)
                writer.begin(track, read_i64_le(rows, place), name, flow)
            else:
                writer.instant(track, *self._instants[place])

    def _add_instant(self) -> None:
        self._left -= 1
        write_i64_le(self._events, self._left << _KIND_BITS | INSTANT)
        self._instant = self._instants[self._left - 1][0] if self._left else -1
