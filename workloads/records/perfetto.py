"""Writes Perfetto's trace format, in protobuf: https://perfetto.dev, or any viewer that reads it.

Only what a timeline needs is here: tracks, slices, instants and flows. Messages are put together
from their fields. Events that differ in nothing but their times and flows are rows of one array, of
which the rest is copied. The library's own classes take 2 µs for a packet, and are what tests read
the file back with. Field numbers are those of `TracePacket`, `TrackEvent` and
`TrackDescriptor` in perfetto_trace.proto.
"""

from collections.abc import Sequence
from typing import BinaryIO, Final

import numpy as np
from numpy.typing import NDArray

from lrpc.workloads.records.parts import Numbers

SLICE_BEGIN: Final = 1
SLICE_END: Final = 2
INSTANT: Final = 3
FRESH: Final = 1  # flag of a packet: what it rests on begins here
RESTS: Final = 2  # it rests on names that earlier packets gave
WRITTEN_AT: Final = 1 << 16  # packets, written together
SEQUENCE: Final = 1  # all packets are of one sequence
TIME_AT: Final = 3  # in a packet of less than 128 bytes: after its tag, its length and the time's tag
FLOW_BYTES: Final = 8


def varint(value: int) -> bytes:
    """Return a number of 0 or more as protobuf encodes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def number(field: int, value: int) -> bytes:
    """Return a field with a number."""
    return varint(field << 3) + varint(value)


def message(field: int, content: bytes | str) -> bytes:
    """Return a field with a message, or with text."""
    data = content.encode(errors="replace") if isinstance(content, str) else content
    return varint(field << 3 | 2) + varint(len(data)) + data


class PerfettoWriter:
    """Writes packets to a file: tracks first, then what happened on each."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._names: dict[tuple[str, str], bytes] = {}  # fields of an event, by category and name
        self._categories: dict[str, int] = {}
        self._packets: list[bytes] = []
        self.bytes = 0
        self._packet(number(13, FRESH))

    def process(self, uuid: int, pid: int, name: str) -> None:
        """Write the track of a process, whose tracks are ordered as they say."""
        described = message(3, number(1, pid) + message(6, name))
        self._packet(message(60, number(1, uuid) + described + number(11, 3)))

    def thread(self, uuid: int, pid: int, tid: int, name: str) -> None:
        """Write the track of a thread."""
        self._packet(message(60, number(1, uuid) + message(4, number(1, pid) + number(2, tid) + message(5, name))))

    def track(self, uuid: int, parent: int, name: str, order: int) -> None:
        """Write a track of a process that is no thread; those of a lower `order` are above it."""
        self._packet(message(60, number(1, uuid) + message(2, name) + number(5, parent) + number(12, order)))

    def name(self, category: str, name: str) -> bytes:
        """Return the fields of an event with this category and name, which are written once."""
        found = self._names.get((category, name))
        if found is None:
            given = b""
            if category not in self._categories:
                self._categories[category] = len(self._categories) + 1
                given = message(1, number(1, self._categories[category]) + message(2, category))
            iid = len(self._names) + 1
            given += message(2, number(1, iid) + message(2, name))
            self._packet(message(12, given) + number(13, RESTS))
            found = self._names[category, name] = number(3, self._categories[category]) + number(10, iid)
        return found

    def events(self, times: Numbers, forms: Sequence[bytes], which: Numbers, flows: Numbers) -> None:
        """Write events, those of each track in order.

        `forms` are fields of events, and `which` has for each event the index of its own. A flow
        that begins there has its number in `flows`, one that ends there the negative of it.
        """
        self.flush()
        if not len(times):
            return
        width = max(1, -(-int(times.max()).bit_length() // 7))
        used, rows = np.unique(which * 3 + np.sign(flows) + 1, return_inverse=True)
        packets = [_packet_of(forms[one // 3], one % 3 - 1, width) for one in used.tolist()]
        lengths = np.array([len(packet) for packet in packets])
        columns = np.arange(lengths.max())
        table = np.array([list(packet.ljust(len(columns), b"\0")) for packet in packets], dtype=np.uint8)
        for first in range(0, len(times), WRITTEN_AT):
            own = rows[first : first + WRITTEN_AT]
            data = table[own]
            data[:, TIME_AT : TIME_AT + width] = _padded(times[first : first + WRITTEN_AT], width)
            arrows = flows[first : first + WRITTEN_AT]
            having = np.flatnonzero(arrows)
            places = lengths[own[having]][:, None] - FLOW_BYTES + np.arange(FLOW_BYTES)
            data[having[:, None], places] = np.abs(arrows[having]).astype("<u8").view(np.uint8).reshape(-1, FLOW_BYTES)
            self._put(data[columns < lengths[own][:, None]].tobytes())

    def flush(self) -> None:
        """Write what has not been written yet."""
        self._put(b"".join(self._packets))
        self._packets.clear()

    def _put(self, data: bytes) -> None:
        self.bytes += len(data)
        self._file.write(data)

    def _packet(self, content: bytes) -> None:
        self._packets.append(message(1, content + number(10, SEQUENCE)))


def event_of(kind: int, track: int, name: bytes) -> bytes:
    """Return the fields of an event of a kind, on the track with this number."""
    return number(9, kind) + number(11, track) + name


def _packet_of(event: bytes, flow: int, width: int) -> bytes:
    """Return a packet with an event, with room for its time and for the flow that it may have.

    The time is at `TIME_AT`, and the flow in the last `FLOW_BYTES`.
    """
    arrow = b""
    if flow:
        arrow = varint((47 if flow > 0 else 48) << 3 | 1) + bytes(FLOW_BYTES)
    time = varint(8 << 3) + bytes(width)
    return message(1, time + number(10, SEQUENCE) + number(13, RESTS) + message(11, event + arrow))


def _padded(times: Numbers, width: int) -> NDArray[np.uint8]:
    """Return times as varints of `width` bytes each, which protobuf allows."""
    shifts = np.arange(width, dtype=np.int64) * 7
    data = (times[:, None] >> shifts & 0x7F | 0x80).astype(np.uint8)
    data[:, -1] &= 0x7F
    return data
