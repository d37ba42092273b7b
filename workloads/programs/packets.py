"""Residents for Firefly RPC: a server whose calls take one packet each way, and its clients."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from lrpc.domains.codecs import FixedBytes, Int32, UpTo
from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Count, Findings, Program, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.simulated.costs import PARTS, STEPS
from lrpc.kernel.simulated.network.packets import PAYLOAD


class PacketCalls(Interface):
    """Two procedures whose calls take one packet in each direction."""

    def null(self) -> None:
        """Take nothing, return nothing."""

    def full(self) -> Annotated[bytes, FixedBytes(PAYLOAD)]:
        """Return as many bytes as one packet carries, as an array of fixed length."""


@dataclass
class PacketServer(Server, PacketCalls):
    """A server whose procedures do no work of their own."""

    independent = True

    def null(self) -> None:
        """Return at once."""

    def full(self) -> bytes:
        """Return zeros."""
        return bytes(PAYLOAD)


@dataclass
class PacketClient(Program):
    """A client that makes `calls` calls, of Null or, with `full`, with a packet of data.

    It imports the server as `packets`.
    """

    calls: Count = 100
    full: bool = False

    def __post_init__(self) -> None:
        """Start with no time measured."""
        self._elapsed_ns = 0

    @property
    def imports(self) -> Collection[str]:
        """Return the name of its import."""
        return ("packets",)

    @property
    def planned_calls(self) -> int:
        """Return the number of calls."""
        return self.calls

    def run(self, domain: Domain) -> None:
        """Make the calls, and measure their virtual time."""
        server = domain.bind(PacketCalls, "packets")
        call: Callable[[], object] = server.full if self.full else server.null
        began = domain.now_ns
        for _ in range(self.calls):
            call()
        self._elapsed_ns = domain.now_ns - began

    def findings(self) -> Findings:
        """Return the number of calls and their virtual time in ns."""
        return {"calls": self.calls, "elapsed_ns": self._elapsed_ns}


class StubCalls(Interface):
    """A procedure for each kind of values that Schroeder and Burrows measured stubs with."""

    def one(self, a: Int32) -> None:
        """Take a word."""

    def two(self, a: Int32, b: Int32) -> None:
        """Take two words."""

    def four(self, a: Int32, b: Int32, c: Int32, d: Int32) -> None:
        """Take four words."""

    def array_4(self) -> Annotated[bytes, FixedBytes(4)]:
        """Return an array of fixed length."""

    def array_400(self) -> Annotated[bytes, FixedBytes(400)]:
        """Return an array of fixed length."""

    def open_1(self) -> Annotated[bytes, UpTo(PAYLOAD)]:
        """Return an array of variable length, of one byte."""

    def open_1440(self) -> Annotated[bytes, UpTo(PAYLOAD)]:
        """Return an array of variable length, of as many bytes as a packet holds."""

    def text(self, text: Annotated[str, UpTo(128)]) -> None:
        """Take a text."""


class Noted:
    """What a machine's stubs are charged for values, from one call to the next."""

    def __init__(self) -> None:
        self.made: list[dict[str, int]] = []
        self._before = [0] * len(STEPS)

    def add(self, domain: Domain) -> None:
        """Note what has been charged since the last time."""
        after = simulated(domain).kernel.charges.counts()
        steps = zip(STEPS, self._before, after, strict=True)
        self.made.append({step: new - old for step, old, new in steps if new > old and step in PARTS["marshaling"]})
        self._before = after


@dataclass
class StubServer(Server, StubCalls):
    """A server that takes and returns what its interface says."""

    def __post_init__(self) -> None:
        """Start with nothing noted."""
        self._noted = Noted()

    def one(self, a: int) -> None:
        """Return at once."""
        self._noted.add(self.domain)

    def two(self, a: int, b: int) -> None:
        """Return at once."""
        self._noted.add(self.domain)

    def four(self, a: int, b: int, c: int, d: int) -> None:
        """Return at once."""
        self._noted.add(self.domain)

    def array_4(self) -> bytes:
        """Return zeros."""
        self._noted.add(self.domain)
        return bytes(4)

    def array_400(self) -> bytes:
        """Return zeros."""
        self._noted.add(self.domain)
        return bytes(400)

    def open_1(self) -> bytes:
        """Return a zero."""
        self._noted.add(self.domain)
        return bytes(1)

    def open_1440(self) -> bytes:
        """Return zeros."""
        self._noted.add(self.domain)
        return bytes(PAYLOAD)

    def text(self, text: str) -> None:
        """Return at once."""
        self._noted.add(self.domain)

    def findings(self) -> Findings:
        """Return what was charged here for each call, in order."""
        return {"charges": self._noted.made}


# What is called, by the names that the figures have.
STUB_CALLS: Final[Mapping[str, Callable[[StubCalls], object]]] = {
    "integer by value": lambda stubs: stubs.one(1),
    "2 integers by value": lambda stubs: stubs.two(1, 2),
    "4 integers by value": lambda stubs: stubs.four(1, 2, 3, 4),
    "array of fixed length, 4 bytes": lambda stubs: stubs.array_4(),
    "array of fixed length, 400 bytes": lambda stubs: stubs.array_400(),
    "array of variable length, 1 byte": lambda stubs: stubs.open_1(),
    "array of variable length, 1,440 bytes": lambda stubs: stubs.open_1440(),
    "text, nil": lambda stubs: stubs.text(""),
    "text, 1 byte": lambda stubs: stubs.text("a"),
    "text, 128 bytes": lambda stubs: stubs.text("a" * 128),
}


@dataclass
class StubClient(Program):
    """A client that makes each of `STUB_CALLS` once. It imports the server as `stubs`."""

    def __post_init__(self) -> None:
        """Start with nothing noted."""
        self._noted = Noted()

    @property
    def imports(self) -> Collection[str]:
        """Return the name of its import."""
        return ("stubs",)

    @property
    def planned_calls(self) -> int:
        """Return the number of calls."""
        return len(STUB_CALLS)

    def run(self, domain: Domain) -> None:
        """Make the calls, and note what this side's stubs are charged for their values."""
        stubs = domain.bind(StubCalls, "stubs")
        for call in STUB_CALLS.values():
            call(stubs)
            self._noted.add(domain)

    def findings(self) -> Findings:
        """Return what was charged here for each call, in order."""
        return {"charges": self._noted.made}
