"""Residents that show which copies a call makes of its arguments and results (Table III).

The client makes one call for each row of the table and looks which of the kernel's copy counters
rose. The letters are therefore those of copies that were performed, not of copies that are claimed.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated

from lrpc.domains.codecs import Immutable, Int32, Mutable
from lrpc.domains.domain import Domain, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Server
from lrpc.domains.simulated.domain import simulated


class Copied(Interface):
    """One procedure for each row of Table III, with a single argument or result."""

    def take(self, value: Mutable[Int32]) -> None:
        """Take an argument that the client may change during the call."""

    def take_immutable(self, value: Annotated[Int32, Immutable]) -> None:
        """Take an argument that must not change during the call."""

    def give(self) -> Int32:
        """Return a value."""


@dataclass
class CopiedServer(Server, Copied):
    """A server whose procedures do no work of their own."""

    independent = True

    def take(self, value: Mutable[int]) -> None:
        """Return at once."""

    def take_immutable(self, value: int) -> None:
        """Return at once."""

    def give(self) -> int:
        """Return a value."""
        return 1


@dataclass
class CopiedClient(Program):
    """A client that calls each procedure once and records which copies the call made.

    It imports the server as `tests`.
    """

    transfer: Transfer = "lrpc"

    def __post_init__(self) -> None:
        """Start without findings."""
        self._letters: dict[str, str] = {}

    @property
    def imports(self) -> Collection[str]:
        """Return the name of its import."""
        return ("tests",)

    def run(self, domain: Domain) -> None:
        """Make the three calls."""
        server = domain.bind(Copied, "tests", self.transfer)
        calls: dict[str, Callable[[], object]] = {
            "call, mutable parameters": lambda: server.take(Mutable(1)),
            "call, immutable parameters": lambda: server.take_immutable(1),
            "return": server.give,
        }
        copies = simulated(domain).kernel.counts.copies
        for row, call in calls.items():
            before = dict(copies)
            call()
            self._letters[row] = " ".join(letter for letter in copies if copies[letter] > before[letter])

    @property
    def planned_calls(self) -> int:
        """Return 3, one call for each row."""
        return 3

    def findings(self) -> Findings:
        """Return the letters of the copies that each call made, by row of Table III."""
        return self._letters
