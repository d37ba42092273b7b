"""Event logs of a run in one file: gathered from the machines, read again, and hashed to the run's digest."""

import struct
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final

from lrpc.cluster.group import events_file
from lrpc.cluster.run import digest_of
from lrpc.kernel.errors import Refused
from lrpc.kernel.simulated.log import EVENT_BYTES, NAMES

MAGIC: Final = b"LRPC events 1\n"
_NAME: Final = struct.Struct("<IQ")  # bytes of the machine's name, bytes of its events
_EVENT: Final = struct.Struct("<qqqq")
_CHUNK: Final = EVENT_BYTES * 32768


def gather(path: Path, folder: Path, machines: Sequence[str]) -> None:
    """Write the event logs that machines, in order of their names, kept in `folder` into one file."""
    with path.open("wb") as out:
        out.write(MAGIC)
        for rank, machine in enumerate(machines):
            log, name = events_file(folder, rank), machine.encode()
            out.write(_NAME.pack(len(name), log.stat().st_size) + name)
            with log.open("rb") as events:
                while chunk := events.read(_CHUNK):
                    out.write(chunk)


def read(path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield each machine's name and its events in chunks, to be used up in order; `Refused` for another file."""
    with path.open("rb") as file:
        if file.read(len(MAGIC)) != MAGIC:
            raise Refused(f"{path}: not an event log; export one with --events")
        while head := file.read(_NAME.size):
            if len(head) < _NAME.size:
                raise Refused(f"{path}: cut short; export it again")
            name_bytes, size = _NAME.unpack(head)
            name = file.read(min(name_bytes, 4096)).decode(errors="replace")

            def chunks(left: int = size) -> Iterator[bytes]:
                while left:
                    chunk = file.read(min(left, _CHUNK))
                    if not chunk:
                        raise Refused(f"{path}: cut short; export it again")
                    left -= len(chunk)
                    yield chunk

            yield name, chunks()


def digest(path: Path) -> str:
    """Return the digest that an exported log hashes to: that of the run it was exported from."""
    machines = []
    for name, chunks in read(path):
        whole = blake2b(digest_size=32)
        for chunk in chunks:
            whole.update(chunk)
        machines.append((name, whole.digest()))
    return digest_of(machines)


def lines(path: Path) -> Iterator[str]:
    """Yield an exported log as CSV lines: machine, virtual time in ns, event, subject, object."""
    yield "machine,time_ns,event,subject,object"
    for name, chunks in read(path):
        for chunk in chunks:
            for time_ns, kind, subject, object_ in _EVENT.iter_unpack(chunk):
                yield f"{name},{time_ns},{NAMES.get(kind, kind)},{subject},{object_}"
