"""The event log of one machine: every transition in fixed-width little-endian form, and its BLAKE2b digest."""

from hashlib import blake2b
from typing import Final, Protocol

from librt.strings import BytesWriter, write_i64_le

CALL: Final = 1  # a linkage was pushed; subject: thread, object: binding << 16 | procedure
RETURN: Final = 2
REFUSED: Final = 3  # the kernel refused a call; object: the number on the Binding Object
ABORT: Final = 4  # object: the thread that goes on
THREAD: Final = 5  # a thread was made; object: 0
END: Final = 6
BIND: Final = 7  # subject: binding, object: 1 where remote
SEND: Final = 8  # a message left; subject: machine it is for, object: call << 32 | checksum of what it carries
ARRIVE: Final = 9
MESSAGE: Final = 10  # message passing on one machine: a call was queued; object: procedure
REPLY: Final = 11
SYSTEM_CALL: Final = 12
WITHIN: Final = 13  # a procedure of the caller's own domain; object: procedure
SEED: Final = 14  # the first event of all; subject: the seed
TERMINATE: Final = 15  # a domain terminated; subject: the domain, by the order in which it was made
FAIL: Final = 16  # a call was failed by that; object: as for a call
REVOKE: Final = 17  # subject: binding
EXCHANGE: Final = 18  # a thread went on on another processor; subject: thread, object: processor
LOSE: Final = 19  # a packet was lost as it left; subject and object: as for a message that left

NAMES: Final = {
    CALL: "call",
    RETURN: "return",
    REFUSED: "refused",
    ABORT: "abort",
    THREAD: "thread",
    END: "end",
    BIND: "bind",
    SEND: "send",
    ARRIVE: "arrive",
    MESSAGE: "message",
    REPLY: "reply",
    SYSTEM_CALL: "system call",
    WITHIN: "within",
    SEED: "seed",
    TERMINATE: "terminate",
    FAIL: "fail",
    REVOKE: "revoke",
    EXCHANGE: "exchange",
    LOSE: "lose",
}

EVENT_BYTES: Final = 32  # time in ns, kind, subject, object, each a signed 64-bit integer
LARGEST: Final = 2**63 - 1  # that such an integer holds; what clients make up is cut to it
_PENDING: Final = 4096 * EVENT_BYTES


class Sink(Protocol):
    """Where events are kept as well: any binary file."""

    def write(self, data: bytes, /) -> object:
        """Take all of it."""


class EventLog:
    """Hashes events as they come, and keeps them too where it is given a file."""

    def __init__(self, sink: Sink | None = None) -> None:
        self.sink = sink
        self._hash = blake2b(digest_size=32)
        self._pending = BytesWriter()
        self._hashed = 0  # bytes

    @property
    def events(self) -> int:
        """Return how many have been recorded."""
        return (self._hashed + len(self._pending)) // EVENT_BYTES

    def add(self, time: int, kind: int, subject: int, object_: int) -> None:
        """Record one event of this machine at virtual `time` in ns."""
        pending = self._pending
        write_i64_le(pending, time)
        write_i64_le(pending, kind)
        write_i64_le(pending, subject)
        write_i64_le(pending, object_)
        if len(pending) >= _PENDING:
            self.flush()

    def flush(self) -> None:
        """Hash, and write where there is a file, what has come since the last time."""
        data = self._pending.getvalue()
        self._pending.truncate(0)
        self._hash.update(data)
        self._hashed += len(data)
        if self.sink is not None:
            self.sink.write(data)

    def digest(self) -> bytes:
        """Return the BLAKE2b digest, 32 bytes, of all events so far."""
        self.flush()
        return self._hash.digest()
