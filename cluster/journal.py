"""What a station has sent to others, on disk: from it whoever takes a lost one's place is sent everything again."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from lrpc.kernel.errors import RunFailed
from lrpc.protos import transport_pb2

_SIZE_BYTES = 4


class Journal:
    """The batches sent to one station, in order, in a file that outlives the process that writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._end = 0

    def add(self, batch: transport_pb2.Batch) -> None:
        """Keep a batch; it is in the operating system's hands on return. `RunFailed` where it cannot be written."""
        data = batch.SerializeToString()
        try:
            if self._file is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("wb", buffering=0)
            whole = len(data).to_bytes(_SIZE_BYTES, "little") + data
            write_all(self._file, whole)
        except OSError as error:
            reason = os.strerror(error.errno or 0)
            raise RunFailed(f"journal {self._path}: cannot be written: {reason}; make room, or set TMPDIR") from error
        self._end += len(whole)

    def batches(self) -> Iterator[transport_pb2.Batch]:
        """Yield what was kept before this began, in order."""
        end, at = self._end, 0
        if not end:
            return
        with self._path.open("rb") as file:
            while at < end:
                size = int.from_bytes(file.read(_SIZE_BYTES), "little")
                yield transport_pb2.Batch.FromString(file.read(size))
                at += _SIZE_BYTES + size

    def close(self) -> None:
        """Write no more."""
        if self._file is not None:
            self._file.close()
            self._file = None


def write_all(file: BinaryIO, data: bytes) -> None:
    """Write all of it to a file without a buffer: a disk that fills up takes a part first."""
    written = file.write(data)
    while written < len(data):
        written += file.write(data[written:])
