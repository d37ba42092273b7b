"""Writes Perfetto's trace format, in protobuf: https://perfetto.dev, or any viewer that reads it.

Only what a timeline needs is here: tracks, slices, instants and flows. Messages are put together
from their fields directly. The library's own classes take 2 µs for a packet, six times as long, and
are what tests read the file back with. Field numbers are those of `TracePacket`, `TrackEvent` and
`TrackDescriptor` in perfetto_trace.proto.
"""

from collections.abc import Sequence
from typing import BinaryIO, Final

import numpy as np

from lrpc.workloads.records.parts import Numbers

SLICE_BEGIN: Final = 1
SLICE_END: Final = 2
INSTANT: Final = 3
FRESH: Final = 1  # flag of a packet: what it rests on begins here
RESTS: Final = 2  # it rests on names that earlier packets gave
WRITTEN_AT: Final = 1 << 16  # packets, written together
SEQUENCE: Final = 1  # all packets are of one sequence


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

    def events(self, kinds: Sequence[int], times: Numbers, fields: Sequence[bytes]) -> None:
        """Write events of one track, in order.

        `fields` are those of each: its track, name and flows.
        """
        if not kinds:
            return
        width = max(1, -(-int(times.max()).bit_length() // 7))
        data = _padded(times, width)
        heads = {kind: number(9, kind) for kind in (SLICE_BEGIN, SLICE_END, INSTANT)}
        tail = number(10, SEQUENCE) + number(13, RESTS)
        time_tag = number(8, 0)[:1]
        made: dict[tuple[int, bytes], tuple[bytes, bytes]] = {}
        packets = self._packets
        for at, (kind, own) in enumerate(zip(kinds, fields, strict=True)):
            parts = made.get((kind, own))
            if parts is None:
                after = tail + message(11, heads[kind] + own)
                parts = made[kind, own] = varint(1 << 3 | 2) + varint(1 + width + len(after)) + time_tag, after
            packets.append(parts[0] + data[at * width : (at + 1) * width] + parts[1])
        if len(packets) >= WRITTEN_AT:
            self.flush()

    def flush(self) -> None:
        """Write what has not been written yet."""
        data = b"".join(self._packets)
        self._packets.clear()
        self.bytes += len(data)
        self._file.write(data)

    def _packet(self, content: bytes) -> None:
        self._packets.append(message(1, content + number(10, SEQUENCE)))


def track_of(uuid: int) -> bytes:
    """Return the field of an event that names its track."""
    return number(11, uuid)


def flow(identity: int, *, ends: bool) -> bytes:
    """Return the field of an event where a flow begins, or ends."""
    return varint((48 if ends else 47) << 3 | 1) + identity.to_bytes(8, "little")


def _padded(times: Numbers, width: int) -> bytes:
    """Return times as varints of `width` bytes each, which protobuf allows."""
    shifts = np.arange(width, dtype=np.int64) * 7
    data = (times[:, None] >> shifts & 0x7F | 0x80).astype(np.uint8)
    data[:, -1] &= 0x7F
    return data.tobytes()
