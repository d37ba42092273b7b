"""Which copies a call makes of its arguments and results, by the letters of the paper's Table III."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated

from lrpc.domains.codecs import Immutable, Int32
from lrpc.domains.domain import Domain, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Server
from lrpc.domains.simulated.domain import simulated


class Copied(Interface):
    """A procedure for each row of Table III: each has the one value that the row is about."""

    def take(self, value: Int32) -> None:
        """Take a value that may change during the call."""

    def take_immutable(self, value: Annotated[Int32, Immutable]) -> None:
        """Take a value that must not."""

    def give(self) -> Int32:
        """Return a value."""


@dataclass
class CopiedServer(Server, Copied):
    """Does as little as each procedure can."""

    independent = True

    def take(self, value: int) -> None:
        """Return."""

    def take_immutable(self, value: int) -> None:
        """Return."""

    def give(self) -> int:
        """Return a value."""
        return 1


@dataclass
class CopiedClient(Program):
    """Calls each procedure once and looks which copies that made; imports the server as `tests`."""

    transfer: Transfer = "lrpc"

    def __post_init__(self) -> None:
        """Have called nothing."""
        self._letters: dict[str, str] = {}

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return ("tests",)

    def run(self, domain: Domain) -> None:
        """Make the three calls."""
        server = domain.bind(Copied, "tests", self.transfer)
        calls: dict[str, Callable[[], object]] = {
            "call, mutable parameters": lambda: server.take(1),
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
        """Return the three calls."""
        return 3

    def findings(self) -> Findings:
        """Return the letters of the copies made, by row of Table III."""
        return self._letters
