"""Writes Perfetto's trace format, in protobuf: https://perfetto.dev, or any viewer that reads it.

Only what a timeline needs is here: tracks, slices, instants and flows. Messages are put together
from their fields. The library's own classes take 2 µs for a packet, and are what tests read the
file back with. Field numbers are those of `TracePacket`, `TrackEvent` and `TrackDescriptor` in
perfetto_trace.proto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO, Final

from librt.strings import BytesWriter, write_i64_le

if TYPE_CHECKING:  # a native number, where this is compiled
    from mypy_extensions import i64

SLICE_BEGIN: Final = 1
SLICE_END: Final = 2
INSTANT: Final = 3
FRESH: Final = 1  # flag of a packet: what it rests on begins here
RESTS: Final = 2  # it rests on names that earlier packets gave
SEQUENCE: Final = 1  # all packets are of one sequence
_PENDING: Final = 1 << 16  # bytes, written together
_FLOW_BYTES: Final = 10  # of a field with a flow: its tag, and a fixed number
# Fields of a packet with an event, after its time: its sequence, its flag, and the event's tag.
_BESIDE: Final = bytes((10 << 3, SEQUENCE, 13 << 3, RESTS, 11 << 3 | 2))


def varint(value: int) -> bytes:
    """Return a number of 0 or more as protobuf encodes it."""
    out = BytesWriter()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return out.getvalue()


def number(field: int, value: int) -> bytes:
    """Return a field with a number."""
    return varint(field << 3) + varint(value)


def text(field: int, content: str) -> bytes:
    """Return a field with text."""
    return message(field, content.encode(errors="replace"))


def message(field: int, content: bytes) -> bytes:
    """Return a field with a message."""
    return varint(field << 3 | 2) + varint(len(content)) + content


# The tags of the fixed numbers of flows.
_BEGINS: Final = varint(47 << 3 | 1)
_ENDS: Final = varint(48 << 3 | 1)


class EventTrack:
    """A track, with the fields of events there; those of an end are all that follows its time."""

    def __init__(self, uuid: int) -> None:
        track = number(11, uuid)
        self.begin = number(9, SLICE_BEGIN) + track
        self.instant = number(9, INSTANT) + track
        ends = number(9, SLICE_END) + track
        self.end = _BESIDE + varint(len(ends)) + ends


class PerfettoWriter:
    """Writes packets to a file: tracks first, then what happened on each."""

    def __init__(self, file: BinaryIO) -> None:
        self.bytes = 0
        self._file = file
        self._names: list[bytes] = []  # fields of an event, by number of its name
        self._numbers: dict[tuple[str, str], int] = {}  # by category and name
        self._categories: dict[str, int] = {}
        self._out = BytesWriter()
        self._packet(number(13, FRESH))

    def process(self, uuid: int, pid: int, name: str) -> None:
        """Write the track of a process, whose tracks are ordered as they say."""
        described = message(3, number(1, pid) + text(6, name))
        self._packet(message(60, number(1, uuid) + described + number(11, 3)))

    def thread(self, uuid: int, pid: int, tid: int, name: str) -> None:
        """Write the track of a thread."""
        self._packet(message(60, number(1, uuid) + message(4, number(1, pid) + number(2, tid) + text(5, name))))

    def track(self, uuid: int, parent: int, name: str, order: int) -> None:
        """Write a track of a process that is no thread; those of a lower `order` are above it."""
        self._packet(message(60, number(1, uuid) + text(2, name) + number(5, parent) + number(12, order)))

    def name(self, category: str, name: str) -> int:
        """Return a number for what events are called, which is written once."""
        found = self._numbers.get((category, name))
        if found is not None:
            return found
        given = b""
        if category not in self._categories:
            self._categories[category] = len(self._categories) + 1
            given = message(1, number(1, self._categories[category]) + text(2, category))
        made = self._numbers[category, name] = len(self._names)
        given += message(2, number(1, made + 1) + text(2, name))
        self._packet(message(12, given) + number(13, RESTS))
        self._names.append(number(3, self._categories[category]) + number(10, made + 1))
        return made

    def begin(self, track: EventTrack, time: i64, name: int, flow: i64) -> None:
        """Begin a slice.

        What happens on a track is written in order of time. A flow that begins there has its number
        in `flow`, and one that ends there the negative of it.
        """
        self._event(track.begin, time, name, flow)

    def instant(self, track: EventTrack, time: i64, name: int, flow: i64) -> None:
        """Write an instant, as `begin` does."""
        self._event(track.instant, time, name, flow)

    def end(self, track: EventTrack, time: i64) -> None:
        """End the slice that began last on a track, and has not ended."""
        self._time(time, len(track.end))
        self._out.write(track.end)
        if len(self._out) >= _PENDING:
            self.flush()

    def _event(self, kind: bytes, time: i64, name: int, flow: i64) -> None:
        fields = self._names[name]
        size = len(kind) + len(fields) + (_FLOW_BYTES if flow else 0)
        self._time(time, len(_BESIDE) + 1 + size)
        out = self._out
        out.write(_BESIDE)
        out.append(size)
        out.write(kind)
        out.write(fields)
        if flow:
            out.write(_BEGINS if flow > 0 else _ENDS)
            write_i64_le(out, flow if flow > 0 else -flow)

    def _time(self, time: i64, beside: int) -> None:
        """Begin a packet with its time, which as many bytes follow.

        Neither an event nor its packet has 128 bytes, so that a byte says how many.
        """
        width = 1
        rest = time >> 7
        while rest:
            width += 1
            rest >>= 7
        out = self._out
        out.append(1 << 3 | 2)
        out.append(1 + width + beside)
        out.append(8 << 3)
        byte: int  # what is appended must not be a native number, for which there is no plain code
        while time > 0x7F:
            byte = time & 0x7F | 0x80
            out.append(byte)
            time >>= 7
        byte = time
        out.append(byte)

    def flush(self) -> None:
        """Write what has not been written yet."""
        self.bytes += len(self._out)
        self._file.write(self._out.getvalue())
        self._out.truncate(0)

    def _packet(self, content: bytes) -> None:
        self._out.write(message(1, content + number(10, SEQUENCE)))
