"""What binding exchanges: procedure descriptors, Binding Objects and requests to a server's clerk.

A server's clerk exports an interface as a list of procedure descriptors, one for each procedure. A
client that imports the interface receives a Binding Object, which it presents on every call
(section 3.1). Every kernel shares these definitions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

SIMULTANEOUS_CALLS: Final = 5  # of a procedure that states no number: the paper's default
ETHERNET_PACKET: Final = 1448  # bytes: the default room for a value of variable size

# Where the procedures of a server's language find their arguments. Through a separate argument
# pointer (Modula2+) they are used on the A-stack; a language that has them on the execution stack
# (C) needs them copied there.
Convention = Literal["argument pointer", "execution stack"]
# A server stub: called with a buffer and the offset of the packed arguments in it, it runs the
# procedure and returns the packed results.
Entry = Callable[[bytes | bytearray, int], bytes]
# See `DirectEntry` for one that compiled code calls at less cost.
# The same where some arguments were copied onto the server's stack: called with those, packed as
# all are, and with the buffer and the offset where the others lie.
SplitEntry = Callable[[bytes, bytes | bytearray, int], bytes]
# Called with a buffer and the offset of the packed arguments in it, returns the bytes of some of
# them.
Measure = Callable[[bytes | bytearray, int], int]
# Takes the same, and gives where values lie: (offset, bytes) each, as far as the buffer goes.
Spans = Callable[[bytes | bytearray, int], list[tuple[int, int]]]


# What a value is to a stub that marshals it for another machine, and the bytes that it has packed;
# arrays and texts of variable size say theirs themselves, behind a length of 4 bytes.
WORDS: Final = 0
ARRAY: Final = 1
OPEN_ARRAY: Final = 2  # of variable length
TEXT: Final = 3
ValueShape = tuple[int, int]


class DirectEntry:
    """A server stub that compiled code may enter directly, without a call of Python's."""

    def __call__(self, buffer: bytes | bytearray, offset: int) -> bytes:
        """Enter it."""
        return self.enter(buffer, offset)

    def enter(self, buffer: bytes | bytearray, offset: int) -> bytes:
        """Run the procedure with the packed arguments at `offset`; return its packed results."""
        raise NotImplementedError


def _none(buffer: bytes | bytearray, offset: int) -> int:
    return 0


def _nowhere(buffer: bytes | bytearray, at: int) -> list[tuple[int, int]]:
    return []


@dataclass(frozen=True, slots=True)
class ProcedureDescriptor:
    """A procedure's entry in the list of its interface: the server stub, and the A-stacks it needs.

    Sizes are in bytes. Results follow the arguments on the A-stack.
    """

    name: str
    entry: Entry
    argument_size: int  # room on the A-stack; larger arguments travel out of band, in a segment
    result_size: int  # room on the A-stack; larger results travel out of band
    simultaneous: int = SIMULTANEOUS_CALLS  # A-stacks made at binding
    argument_values: int = 0  # how many arguments are packed
    result_values: int = 0
    # Arguments that the server stub copies to its E-stack, or makes a reference to there.
    private_values: int = 0
    private_size: Measure = _none  # measures those
    private_spans: Spans = _nowhere  # where those lie that are copied
    largest_arguments: int = 0  # the most bytes of arguments, on an A-stack or out of band
    reads_in_place: bool = False  # the procedure reads arguments where they lie, as it runs
    split_entry: SplitEntry | None = None  # where the kernel copies private values; else None
    leaf: bool = False  # the procedure never enters the kernel
    argument_shapes: tuple[ValueShape, ...] = ()
    result_shapes: tuple[ValueShape, ...] = ()

    @property
    def astack_size(self) -> int:
        """Return the size of an A-stack in bytes: a multiple of 4.

        It is at least 4, so that no two A-stacks share an address.
        """
        return max(4, -(-(self.argument_size + self.result_size) // 4) * 4)


class BindingObject:
    """A client's right to call one export, which it presents on every call.

    The client holds this object, and could alter it or make one up. That gains nothing: the kernel
    compares `key`, which is 64 random bits, with its own record of whom it gave the object to.
    """

    __slots__ = ("key", "name", "number", "remote")

    def __init__(self, number: object, key: object, name: str, remote: bool = False) -> None:
        self.number = number  # of the kernel's record, or whatever a client put in its place
        self.key = key  # the record's 64 random bits, or whatever a client put in their place
        self.name = name  # the export's
        self.remote = remote  # the bit that a client stub tests first: another machine exports it

    @property
    def claimed_number(self) -> int:
        """Return `number`, or 0 where the client has replaced it by something that is no `int`.

        No binding has the number 0.
        """
        number = self.number
        return number if type(number) is int else 0

    def has_key(self, key: int) -> bool:
        """Return whether this object's key is `key`, the one in the kernel's record.

        A key that the client has replaced by something that is no `int` never is.
        """
        own = self.key
        return type(own) is int and own == key


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """A client's request to import an export, as the kernel passes it to the server's clerk."""

    client: str  # the client domain's name, which the kernel gives, not the client
    machine: str  # the client's
    name: str  # the export's name
    user: int | None = None  # the client's, as the system verified it; None on a simulated machine
    process: int | None = None  # likewise; for messages only, since its number is used again


class Authoriser(Protocol):
    """The server's side of binding, which accepts or refuses imports: a clerk."""

    def authorise(self, request: ImportRequest) -> str | None:
        """Return None to accept the import, or the reason for refusing it."""
