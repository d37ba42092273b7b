"""Firefly RPC's residents: a server whose calls are a packet each way, and a client that calls it in a loop."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

from lrpc.domains.codecs import FixedBytes
from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Count, Findings, Program, Server
from lrpc.kernel.simulated.packets import PAYLOAD


class PacketCalls(Interface):
    """Two procedures whose calls are a packet each way."""

    def null(self) -> None:
        """Take nothing, return nothing."""

    def full(self, data: Annotated[bytes, FixedBytes(PAYLOAD)]) -> None:
        """Take what fills a packet."""


@dataclass
class PacketServer(Server, PacketCalls):
    """Does as little as each procedure can."""

    def null(self) -> None:
        """Return."""

    def full(self, data: bytes) -> None:
        """Return."""


@dataclass
class PacketClient(Program):
    """Calls Null so many times, or with a full packet; imports the server as `packets`."""

    calls: Count = 100
    full: bool = False

    def __post_init__(self) -> None:
        """Have measured nothing."""
        self._elapsed_ns = 0

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return ("packets",)

    @property
    def planned_calls(self) -> int:
        """Return its calls."""
        return self.calls

    def run(self, domain: Domain) -> None:
        """Run the loop."""
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
        """Return its calls, and their time in ns."""
        return {"calls": self.calls, "elapsed_ns": self._elapsed_ns}
