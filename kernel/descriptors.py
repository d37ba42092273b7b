"""What binding exchanges: procedure descriptors, Binding Objects, and what the kernel asks of a server's clerk."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

SIMULTANEOUS_CALLS: Final = 5  # the paper's default
ETHERNET_PACKET: Final = 1448  # bytes, the default size of what has no fixed size

# A procedure's entry: the server stub. It reads arguments from the buffer, runs the procedure and writes results;
# both lie from the offset on. It returns how many bytes of results it wrote, from the end of the arguments' room on.
Entry = Callable[[bytearray, int], int]


def _none(buffer: bytearray, offset: int) -> int:
    return 0


@dataclass(frozen=True, slots=True)
class ProcedureDescriptor:
    """A line of an interface's procedure descriptor list: where to enter, and what A-stacks a call needs."""

    name: str
    entry: Entry
    argument_size: int  # bytes, at most
    result_size: int  # bytes, at most
    simultaneous: int = SIMULTANEOUS_CALLS
    argument_values: int = 0
    immutable_values: int = 0  # arguments that must not change under the server's feet
    immutable_size: Callable[[bytearray, int], int] = _none  # the bytes of those that lie in a buffer from an offset on

    @property
    def astack_size(self) -> int:
        """Return the bytes an A-stack needs, a multiple of four, at least four so that each has its own address."""
        return max(4, -(-(self.argument_size + self.result_size) // 4) * 4)


@dataclass(slots=True)
class BindingObject:
    """A client's key to an interface. The kernel compares it with its own record on every call.

    A client could make one up, or alter its own: `key` is 64 random bits, and the kernel's record says for whom it is.
    """

    number: int
    key: int
    name: str  # the export's name
    remote: bool = False

    @property
    def claimed(self) -> int:
        """Return the number, or 0, which no binding has, where a client put something else in its place."""
        return self.number if type(self.number) is int else 0

    def is_copy_of(self, other: "BindingObject") -> bool:
        """Return whether number and key are those of `other`, whatever a client made of them."""
        return self.claimed == other.number and type(self.key) is int and self.key == other.key


@dataclass(frozen=True, slots=True)
class ImportRequest:
    """Who asks a clerk for what."""

    client: str  # the domain's name, as the kernel knows it
    machine: str
    name: str  # the export's name


class Clerk(Protocol):
    """A server's side of binding."""

    def authorise(self, request: ImportRequest) -> str | None:
        """Return None to enable the binding, or the reason why not."""
