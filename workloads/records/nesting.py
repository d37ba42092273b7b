"""Puts what is on a track in order, so that each slice ends before those around it.

At one time, instants come first, so that they are in what ends then. Then come ends, the inner ones
first, and beginnings, the outer ones first.
"""

from typing import Final

from librt.strings import BytesWriter, read_i64_le, write_i64_le

from lrpc.workloads.records.perfetto import INSTANT, SLICE_BEGIN, SLICE_END, PerfettoWriter, track_field

_ROW: Final = 4 * 8  # bytes of a slice: when it begins and ends, its name, and its flow
_EVENT: Final = 4 * 8  # of an event: its kind, time, name, and flow


class Slices:
    """The slices and instants of a track. Names are numbers of `PerfettoWriter.name`.

    A flow that begins where something does is its number, one that ends there the negative of it,
    and 0 is none. Slices are best added in the order of their ends, the inner ones first.
    """

    def __init__(self) -> None:
        self._rows = BytesWriter()
        self._instants: list[tuple[int, int, int]] = []  # time, name, flow
        self._sorted = True
        self._begin = self._end = 0  # of the last slice

    def __len__(self) -> int:
        """Return how many slices there are."""
        return len(self._rows) // _ROW

    def add(self, begin: int, end: int, name: int, flow: int = 0) -> None:
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

    def add_all(self, later: "Slices") -> None:
        """Add what is on another track, and begins when all that is here has ended."""
        self._rows.write(later._rows.getvalue())
        self._instants += later._instants
        self._sorted = self._sorted and later._sorted
        self._begin = later._begin
        self._end = later._end

    def write(self, writer: PerfettoWriter, uuid: int) -> "Slices":
        """Write to a track what nests, if it is taken from the last end on; return the rest.

        The rest crosses the ends of others, and has a track beside.
        """
        rows = self._in_order()
        events = _Events(self._instants)
        opened: list[int] = []  # where the slices around are
        crossing: list[int] = []
        at = len(rows)
        while at:
            at -= _ROW
            begin = read_i64_le(rows, at)
            end = read_i64_le(rows, at + 8)
            while opened and read_i64_le(rows, opened[-1]) >= end:
                events.add_begin(rows, opened.pop())
            if opened and begin < read_i64_le(rows, opened[-1]):
                crossing.append(at)
                continue
            events.add(SLICE_END, end, 0, 0)
            opened.append(at)
        while opened:
            events.add_begin(rows, opened.pop())
        events.write(writer, uuid)
        left = Slices()
        for at in reversed(crossing):
            left.add(*(read_i64_le(rows, at + field * 8) for field in range(4)))
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

    def __init__(self, instants: list[tuple[int, int, int]]) -> None:
        self._instants = sorted(instants)
        self._events = BytesWriter()

    def add_begin(self, rows: bytes, at: int) -> None:
        """Add the beginning of a slice."""
        self.add(SLICE_BEGIN, read_i64_le(rows, at), read_i64_le(rows, at + 16), read_i64_le(rows, at + 24))

    def add(self, kind: int, time: int, name: int, flow: int) -> None:
        """Add an event, and the instants after it."""
        instants = self._instants
        while instants and instants[-1][0] > time:
            self._add(INSTANT, *instants.pop())
        self._add(kind, time, name, flow)

    def write(self, writer: PerfettoWriter, uuid: int) -> None:
        """Write all events from the first one on."""
        for time, name, flow in reversed(self._instants):
            self._add(INSTANT, time, name, flow)
        track = track_field(uuid)
        events = self._events.getvalue()
        at = len(events)
        while at:
            at -= _EVENT
            kind, time = read_i64_le(events, at), read_i64_le(events, at + 8)
            writer.event(kind, track, time, read_i64_le(events, at + 16), read_i64_le(events, at + 24))

    def _add(self, kind: int, time: int, name: int, flow: int) -> None:
        events = self._events
        write_i64_le(events, kind)
        write_i64_le(events, time)
        write_i64_le(events, name)
        write_i64_le(events, flow)
