"""Residents for Firefly RPC: a server whose calls take one packet each way, and its client."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from lrpc.domains.codecs import FixedBytes
from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Count, Findings, Program, Server
from lrpc.kernel.simulated.network.packets import PAYLOAD


class PacketCalls(Interface):
    """Two procedures whose calls take one packet in each direction."""

    def null(self) -> None:
        """Take nothing, return nothing."""

    def full(self, data: Annotated[bytes, FixedBytes(PAYLOAD)]) -> None:
        """Take as many bytes as one packet carries, and return nothing."""


@dataclass
class PacketServer(Server, PacketCalls):
    """A server whose procedures do no work of their own."""

    def null(self) -> None:
        """Return at once."""

    def full(self, data: bytes) -> None:
        """Return at once."""


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
        data = bytes(PAYLOAD)
        began = domain.now_ns
        for _ in range(self.calls):
            if self.full:
                server.full(data)
            else:
                server.null()
        self._elapsed_ns = domain.now_ns - began

    def findings(self) -> Findings:
        """Return the number of calls and their virtual time in ns."""
        return {"calls": self.calls, "elapsed_ns": self._elapsed_ns}
