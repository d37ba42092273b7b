"""The event log of one machine, and its digest, by which runs are compared.

An event is four signed 64-bit integers (time in ns, kind, subject, object), written little-endian,
and the digest is the BLAKE2b of all of them in order. A run's digest combines its machines' digests
in the order of machine names. The order of a machine's events does not depend on windows
(engine.py). So the same run has the same digest in memory, over gRPC, in one process and on any
number of actors.
"""

from hashlib import blake2b
from typing import TYPE_CHECKING, Final, Protocol

from librt.strings import BytesWriter, write_i64_le

if TYPE_CHECKING:
    from lrpc.kernel.simulated.charges import Notes

# Kinds of events, each with its subject and object. Machines are given by rank, all else by number.
CALL: Final = 1  # a linkage was pushed; thread, binding << 16 | procedure
RETURN: Final = 2  # a call returned; as for CALL
REFUSED: Final = 3  # the kernel refused a call; thread, the number claimed on the Binding Object
ABORT: Final = 4  # a caller was released; thread, its successor (0 for a call by message)
THREAD: Final = 5  # a thread was made; thread, 0
END: Final = 6  # a thread ended; thread, 0
BIND: Final = 7  # a Binding Object was made; its number, 1 if it is remote
SEND: Final = 8  # a message left; destination, call << 32 | checksum of the content
ARRIVE: Final = 9  # a packet arrived; source, as for SEND
MESSAGE: Final = 10  # message passing on one machine: a call was queued; thread, procedure
REPLY: Final = 11  # message passing on one machine: a server replied; thread, procedure
# A thread trapped; thread, ns that it is to spend in the kernel. The event's time is when it will
# have done so, if nobody has a turn in between and its domain does not end.
SYSTEM_CALL: Final = 12
WITHIN: Final = 13  # a call of a procedure of the caller's own domain; thread, procedure
SEED: Final = 14  # the first event of all; the seed, 0
TERMINATE: Final = 15  # a domain terminated; domain, 0
FAIL: Final = 16  # a call failed because of that; as for CALL
REVOKE: Final = 17  # a Binding Object was revoked; its number, 0
EXCHANGE: Final = 18  # a thread moved to another processor; thread, processor
LOSE: Final = 19  # a packet was lost as it left; as for SEND

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

EVENT_BYTES: Final = 32  # four integers of eight bytes
LARGEST: Final = 2**63 - 1  # the largest such integer, which masks what clients make up
_PENDING: Final = 64 * EVENT_BYTES  # hashed together; more would be most of the memory of many machines


class Sink(Protocol):
    """A place where events are kept as well: any binary file."""

    def write(self, data: bytes, /) -> object:
        """Write all of `data`."""


class EventLog:
    """Hashes events as they are added, and writes them to `sink` too, if there is one.

    `notes` is told of them, where somebody wants to see them with what is charged.
    """

    def __init__(self, sink: Sink | None = None) -> None:
        self.sink = sink
        self.notes: Notes | None = None
        self._hash = blake2b(digest_size=32)
        self._pending = BytesWriter()
        self._hashed = 0  # bytes

    @property
    def events(self) -> int:
        """Return how many events have been added."""
        return (self._hashed + len(self._pending)) // EVENT_BYTES

    def add(self, time: int, kind: int, subject: int, object_: int) -> None:
        """Add an event at virtual `time`, in ns."""
        pending = self._pending
        write_i64_le(pending, time)
        write_i64_le(pending, kind)
        write_i64_le(pending, subject)
        write_i64_le(pending, object_)
        if self.notes is not None:
            self.notes.add_event(time, kind, subject, object_)
        if len(pending) >= _PENDING:
            self.flush()

    def flush(self) -> None:
        """Hash the events added since the last flush, and write them to the sink."""
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
