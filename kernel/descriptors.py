"""What binding exchanges: procedure descriptors, Binding Objects, and what the kernel asks of a server's clerk."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, Protocol

SIMULTANEOUS_CALLS: Final = 5  # the paper's default
ETHERNET_PACKET: Final = 1448  # bytes, the default size of what has no fixed size

# Where a language has procedures find their arguments: through a separate argument pointer (Modula2+), so that they may
# stay on the A-stack; or on the execution stack (C), to which they must then be copied.
Convention = Literal["argument pointer", "execution stack"]
# A procedure's entry: the server stub. It reads arguments from the buffer, from the offset on, runs the procedure and
# returns its results, packed.
Entry = Callable[[bytes | bytearray, int], bytes]
# Returns the bytes of some values that lie in a buffer from an offset on.
Measure = Callable[[bytes | bytearray, int], int]


def _none(buffer: bytes | bytearray, offset: int) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class ProcedureDescriptor:
    """A line of an interface's procedure descriptor list: where to enter, and what A-stacks a call needs."""

    name: str
    entry: Entry
    argument_size: int  # bytes of an A-stack, at most; what is larger travels in a segment of its own
    result_size: int  # likewise
    simultaneous: int = SIMULTANEOUS_CALLS
    argument_values: int = 0
    result_values: int = 0
    private_values: int = 0  # arguments that the server stub copies to its E-stack, or makes a reference to there
    private_size: Measure = _none  # of those
    largest_arguments: int = 0  # bytes, at most, whether on an A-stack or out of band

    @property
    def astack_size(self) -> int:
        """Return the bytes an A-stack needs, a multiple of four, at least four so that each has its own address."""
        return max(4, -(-(self.argument_size + self.result_size) // 4) * 4)


class BindingObject:
    """A client's key to an interface. The kernel compares it with its own record on every call.

    A client could make one up, or alter its own: `key` is 64 random bits, and the kernel's record says for whom it is.
    """

    __slots__ = ("key", "name", "number", "remote")

    def __init__(self, number: object, key: object, name: str, remote: bool = False) -> None:
        self.number = number
        self.key = key
        self.name = name  # the export's
        self.remote = remote

    @property
    def claimed_number(self) -> int:
        """Return the number, or 0, which no binding has, where a client put something else in its place."""
        number = self.number
        return number if type(number) is int else 0

    def has_key(self, key: int) -> bool:
        """Return whether its key is that of the kernel's record, whatever a client made of it."""
        own = self.key
        return type(own) is int and own == key


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Who asks a clerk for what."""

    client: str  # the domain's name, as the kernel knows it
    machine: str
    name: str  # the export's name


class Authoriser(Protocol):
    """A server's side of binding."""

    def authorise(self, request: ImportRequest) -> str | None:
        """Return None to enable the binding, or the reason why not."""
