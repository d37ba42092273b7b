"""What a station has sent to the others, on disk, for the replacement of a lost station.

The replacement runs the lost station's machines again from the beginning. With the same seed and
the same messages they do the same, so all it needs is every batch that the others ever sent there.
Each of these keeps its batches in a file, one for each receiver, and writes a batch before it sends
it. What the lost station had sent, its replacement sends again, and the receivers drop messages by
their sequence numbers. A station that takes over all machines (`Group.adopt`) makes do with its own
journals.

The files that a run keeps of each machine are named and written here too (`RunFile`).
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

from lrpc.domains.simulated.timeline import TimelineBounds
from lrpc.kernel.errors import RunFailed

if TYPE_CHECKING:
    from lrpc.protos import transport_pb2

_SIZE_BYTES = 4


class Journal:
    """The batches sent to one station, in order, in a file.

    The file is on the sender's disk, and outlives the process of the receiver.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._end = 0

    def add(self, batch: "transport_pb2.Batch") -> None:
        """Append a batch; on return the operating system has it.

        Raises `RunFailed` where it cannot be written.
        """
        data = batch.SerializeToString()
        try:
            if self._file is None:
                private_folder(self._path.parent)
                self._file = self._path.open("wb", buffering=0)
            whole = len(data).to_bytes(_SIZE_BYTES, "little") + data
            write_all(self._file, whole)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise RunFailed(f"journal {self._path}: cannot be written: {reason}; make room, or set TMPDIR") from error
        self._end += len(whole)

    def batches(self) -> "Iterator[transport_pb2.Batch]":
        """Yield the batches that were added before iteration began, in order."""
        from lrpc.protos import transport_pb2

        end, at = self._end, 0
        if not end:
            return
        with self._path.open("rb") as file:
            while at < end:
                size = int.from_bytes(file.read(_SIZE_BYTES), "little")
                yield transport_pb2.Batch.FromString(file.read(size))
                at += _SIZE_BYTES + size

    def close(self) -> None:
        """Close the file; no batch may be added afterwards."""
        if self._file is not None:
            self._file.close()
            self._file = None


def private_folder(path: Path) -> None:
    """Make a folder, and those above it that there are not, that only their owner may enter."""
    if not path.exists():
        private_folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of `data` to an unbuffered file, which may take only a part of it at a time.

    Raises `OSError`, for example where the disk is full.
    """
    written = file.write(data)
    while written < len(data):
        written += file.write(data[written:])


class TimelineFiles(NamedTuple):
    """A folder for machines' parts of a timeline, and what all of these together may hold."""

    folder: Path
    bounds: TimelineBounds


def events_file(folder: Path, rank: int) -> Path:
    """Return the path of a machine's event log, by rank, during a run."""
    return folder / f"{rank:06d}.events"


def timeline_file(folder: Path, rank: int) -> Path:
    """Return the path of a machine's part of a timeline, by rank, during a run."""
    return folder / f"{rank:06d}.timeline"


class RunFile:
    """The file of a machine's event log, or of its part of a timeline.

    Errors are kept in `failure`, for the group to raise: where the disk is full, the run must end,
    rather than an exception appear in the server's procedure that logged the event.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.failure: RunFailed | None = None

    def write(self, data: bytes) -> None:
        """Write, unless writing has failed before."""
        if self.failure is None:
            try:
                write_all(self._file, data)
            except OSError as error:
                self.failure = RunFailed(
                    f"event log or timeline: cannot be written: {os.strerror(error.errno or 0)}; make room"
                )
