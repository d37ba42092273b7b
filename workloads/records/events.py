"""The exported event log of a run: one file with the events of all machines.

During a run, each machine writes its events to a file of its own. `gather` joins these files,
`lines` prints the result, and `digest` hashes it to the digest of its run. An exported log can
therefore be checked against a record without running anything.

The file starts with a magic line and the number of machines. Then follow, for each machine in order
of name, its name and its events: four little-endian 64-bit integers each. It is read in chunks, so
a log may be larger than memory. It is written beside its place and then renamed, so a failure
leaves no partial log.
"""

import os
import shutil
import struct
from collections import deque
from collections.abc import Iterator, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import BinaryIO, Final

from lrpc.cluster.journal import events_file
from lrpc.cluster.run import digest_of
from lrpc.kernel.errors import Refused, RunFailed
from lrpc.kernel.simulated import log
from lrpc.kernel.simulated.log import EVENT_BYTES, NAMES
from lrpc.kernel.text import one_line
from lrpc.workloads.records.tables import csv_text

MAGIC: Final = b"LRPC events 1\n"
_COUNT: Final = struct.Struct("<I")  # number of machines
_NAME: Final = struct.Struct("<IQ")  # length of the machine's name, length of its events
_EVENT: Final = struct.Struct("<qqqq")  # time in ns, kind, subject, object
_CHUNK: Final = EVENT_BYTES * 32768
# By kind of event: what it says, and what it says instead where its object is not 0.
WORDS: Final = {
    log.CALL: "thread {subject} calls procedure {procedure} through {binding}",
    log.RETURN: "thread {subject} returns from procedure {procedure} of {binding}",
    log.REFUSED: "thread {subject} is refused: it claims Binding Object {object}",
    log.ABORT: "the caller of thread {subject} is released from its call by message",
    log.THREAD: "thread {subject} is made",
    log.END: "thread {subject} ends",
    log.BIND: "Binding Object {subject} is made",
    log.SEND: "a packet of call {call} leaves for {machine}",
    log.ARRIVE: "a packet of call {call} arrives from {machine}",
    log.LOSE: "a packet of call {call} to {machine} is lost",
    log.MESSAGE: "thread {subject} sends a message to procedure {object}",
    log.REPLY: "thread {subject} replies for procedure {object}",
    log.SYSTEM_CALL: "thread {subject} traps, and spends {object:,} ns in the kernel",
    log.WITHIN: "thread {subject} calls procedure {object} of its own domain",
    log.SEED: "the run begins, with seed {subject}",
    log.TERMINATE: "domain {subject} terminates",
    log.FAIL: "the call of thread {subject} to procedure {procedure} through {binding} fails",
    log.REVOKE: "Binding Object {subject} is revoked",
    log.EXCHANGE: "thread {subject} moves to processor {object}",
}
WITH_OBJECT: Final = {
    log.ABORT: "the caller of thread {subject} is released, and continues as thread {object}",
    log.BIND: "Binding Object {subject} is made, for an export of another machine",
}


def gather(path: Path, folder: Path, machines: Sequence[str]) -> None:
    """Write the event logs that machines kept in `folder` into one file at `path`.

    `machines` are all names in order, since each machine's log is named after its rank. Raise
    `RunFailed` if the file cannot be written.
    """
    fresh = _beside(path)
    try:
        with fresh.open("wb") as out:
            out.write(MAGIC + _COUNT.pack(len(machines)))
            for rank, machine in enumerate(machines):
                log, name = events_file(folder, rank), machine.encode()
                out.write(_NAME.pack(len(name), log.stat().st_size) + name)
                with log.open("rb") as events:
                    shutil.copyfileobj(events, out)
        fresh.replace(path)
    except OSError as error:
        raise RunFailed(f"--events {path}: cannot be written: {os.strerror(error.errno or 0)}") from error
    finally:
        fresh.unlink(missing_ok=True)


def check_writable(path: Path, option: str = "--events") -> None:
    """Raise `Refused` if no file can be written at `path`.

    `option` is the command-line option that named the path.
    """
    try:
        _beside(path).touch()
        _beside(path).unlink()
    except OSError as error:
        raise Refused(
            f"{option} {path}: cannot be written: {os.strerror(error.errno or 0)}; name another file"
        ) from None


def read(path: Path) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield each machine's name and an iterator over its events, in chunks.

    All iterators read the same file, so each must be exhausted before the next is taken. Raise
    `Refused` if the file is not an event log, or is damaged.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise Refused(f"{path}: cannot be read: {reason}; export an event log with --events") from None
    with file:
        if file.read(len(MAGIC)) != MAGIC:
            raise Refused(f"{path}: not an event log; export one with --events")
        (machines,) = _COUNT.unpack(_exactly(file, _COUNT.size, path))
        for _ in range(machines):
            name_bytes, size = _NAME.unpack(_exactly(file, _NAME.size, path))
            if size % EVENT_BYTES:
                raise Refused(f"{path}: damaged: {size} bytes are not a whole number of events; export it again")
            name = _exactly(file, name_bytes, path).decode(errors="replace")
            yield name, _chunks(file, size, path)
        if file.read(1):
            raise Refused(f"{path}: has data after its last machine; export it again")


def _chunks(file: BinaryIO, size: int, path: Path) -> Iterator[bytes]:
    for at in range(0, size, _CHUNK):
        yield _exactly(file, min(size - at, _CHUNK), path)


def _exactly(file: BinaryIO, size: int, path: Path) -> bytes:
    # A damaged header may claim any length, so no more than a chunk is ever read at once.
    data = file.read(min(size, _CHUNK))
    if len(data) < size:
        raise Refused(f"{path}: cut short; export it again")
    return data


def digest(path: Path) -> str:
    """Return the digest of an exported log, which equals that of its run."""
    machines = []
    for name, chunks in read(path):
        whole = blake2b(digest_size=32)
        for chunk in chunks:
            whole.update(chunk)
        machines.append((name, whole.digest()))
    return digest_of(machines)


def lines(path: Path) -> Iterator[str]:
    """Yield an exported log as CSV lines: machine, virtual time in ns, event, subject, object."""
    head = "machine,time_ns,event,subject,object"
    for number, (machine, chunks) in enumerate(read(path)):
        if not number:  # after the beginning of the file has been checked
            yield head
        name = csv_text(machine)
        if not set(name).isdisjoint(',"'):
            name = '"' + name.replace('"', '""') + '"'
        for chunk in chunks:
            for time_ns, kind, subject, object_ in _EVENT.iter_unpack(chunk):
                yield f"{name},{time_ns},{NAMES.get(kind, kind)},{subject},{object_}"


def objects(path: Path) -> Iterator[dict[str, object]]:
    """Yield an exported log as JSON has it, an object for each event, also in words."""
    machines = _machines(path)
    for machine, chunks in read(path):
        for chunk in chunks:
            for time_ns, kind, subject, object_ in _EVENT.iter_unpack(chunk):
                yield {
                    "machine": machine,
                    "time_ns": time_ns,
                    "event": NAMES.get(kind, str(kind)),
                    "subject": subject,
                    "object": object_,
                    "words": _in_words(kind, subject, object_, machines),
                }


def words(path: Path) -> Iterator[str]:
    """Yield an exported log in words, a line each: virtual time in µs, machine, what happened."""
    machines = [one_line(name) for name in _machines(path)]
    width = max(map(len, machines), default=0)
    for machine, chunks in read(path):
        for chunk in chunks:
            for time_ns, kind, subject, object_ in _EVENT.iter_unpack(chunk):
                happened = _in_words(kind, subject, object_, machines)
                yield f"{time_ns / 1000:16,.3f} µs  {machine:{width}}  {happened}"


def _in_words(kind: int, subject: int, object_: int, machines: Sequence[str]) -> str:
    """Return what an event says; what a damaged log may hold is shown as it is."""
    template = WITH_OBJECT.get(kind) if object_ else None
    return (template or WORDS.get(kind, f"event {kind} of {{subject}} and {{object}}")).format(
        subject=subject,
        object=object_,
        binding=f"Binding Object {object_ >> 16}",
        procedure=object_ & 0xFFFF,
        call=object_ >> 32,
        machine=machines[subject] if 0 <= subject < len(machines) else f"machine {subject}",
    )


def _machines(path: Path) -> list[str]:
    """Return the names of all machines; events name machines by their place among these."""
    names = []
    for name, chunks in read(path):
        names.append(name)
        deque(chunks, maxlen=0)  # exhausts them, as `read` demands
    return names


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}")
