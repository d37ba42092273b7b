"""The paper's four tests (Table IV), Null, Add, BigIn and BigInOut, and a throughput loop of Null.

A test's calls are measured after a short warm-up: before it, idle processors do not yet spin in the
domains where later calls find them.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from lrpc.domains.codecs import Bytes200, Int32
from lrpc.domains.domain import Domain, Transfer
from lrpc.domains.interface import Interface, leaf
from lrpc.domains.residents import Count, Findings, Program, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.domains.simulated.stubs import repeat
from lrpc.kernel.simulated.costs import STEPS

Test = Literal["Null", "Add", "BigIn", "BigInOut"]
BoundCall = tuple[Callable[..., object], tuple[object, ...]]  # a bound procedure, and the arguments
TESTS: Final[tuple[Test, ...]] = ("Null", "Add", "BigIn", "BigInOut")
WARM_UP: Final = 10  # calls of each test before those that are measured


class FourTests(Interface):
    """The procedures of the four tests."""

    def null(self) -> None:
        """Take nothing, return nothing."""

    def add(self, a: Int32, b: Int32) -> Int32:
        """Return the sum of two 4-byte arguments."""

    def big_in(self, data: Bytes200) -> None:
        """Take 200 bytes."""

    def big_in_out(self, data: Bytes200) -> Bytes200:
        """Take 200 bytes and return 200."""


@dataclass
class FourTestsServer(Server, FourTests):
    """A server whose procedures do no more than their definition demands."""

    independent = True

    @leaf
    def null(self) -> None:
        """Return at once."""

    @leaf
    def add(self, a: int, b: int) -> int:
        """Return the sum of the arguments."""
        return a + b

    @leaf
    def big_in(self, data: bytes) -> None:
        """Return at once."""

    @leaf
    def big_in_out(self, data: bytes) -> bytes:
        """Return the argument."""
        return data


def calls_of(server: FourTests) -> dict[Test, BoundCall]:
    """Return each test's call of a server."""
    data = bytes(200)
    return {
        "Null": (server.null, ()),
        "Add": (server.add, (1, 2)),
        "BigIn": (server.big_in, (data,)),
        "BigInOut": (server.big_in_out, (data,)),
    }


@dataclass
class FourTestsClient(Program):
    """A client that runs one loop of `calls` calls for each of `tests`.

    It imports the server as `tests`.
    """

    calls: Count = 100_000
    transfer: Transfer = "lrpc"
    tests: Annotated[tuple[Test, ...], Field(min_length=1, strict=False)] = TESTS

    def __post_init__(self) -> None:
        """Start without findings."""
        self._measured: dict[str, dict[str, object]] = {}

    @property
    def imports(self) -> Collection[str]:
        """Return the name of its import."""
        return ("tests",)

    def run(self, domain: Domain) -> None:
        """Run the loops of all tests, one after another."""
        server = domain.bind(FourTests, "tests", self.transfer)
        calls = calls_of(server)
        for test in self.tests:
            self._measure(domain, test, calls[test])

    @property
    def planned_calls(self) -> int:
        """Return the number of calls in all loops, warm-ups included."""
        return (WARM_UP + self.calls) * len(self.tests)

    def findings(self) -> Findings:
        """Return each test's calls, their virtual time in ns, and the charges by step."""
        return self._measured

    def _measure(self, domain: Domain, test: str, call: BoundCall) -> None:
        kernel = simulated(domain).kernel
        repeat(*call, WARM_UP)
        since, before = kernel.now_ns, kernel.charges.counts()
        repeat(*call, self.calls)
        steps = zip(STEPS, before, kernel.charges.counts(), strict=True)
        charges = {step: after - start for step, start, after in steps if after > start}
        self._measured[test] = {"calls": self.calls, "elapsed_ns": kernel.now_ns - since, "charges": charges}


@dataclass
class Throughput(Program):
    """A client that calls Null in a loop until the virtual time `until_us`, in microseconds.

    It imports the server as `tests`.
    """

    until_us: Annotated[float, Field(gt=0, le=1e9)] = 1_000_000.0
    transfer: Transfer = "lrpc"

    def __post_init__(self) -> None:
        """Start with no calls counted."""
        self._calls = 0

    @property
    def imports(self) -> Collection[str]:
        """Return the name of its import."""
        return ("tests",)

    def run(self, domain: Domain) -> None:
        """Call Null once to warm up, then in a loop until `until_us`, counting the calls."""
        null = domain.bind(FourTests, "tests", self.transfer).null
        null()
        while domain.now_us < self.until_us:
            self._calls += 1
            null()

    @property
    def planned_calls(self) -> int:
        """Return about how many calls fit into the time.

        It is an average over runs whose processors share a memory bus or a lock, up to 16 of them.
        """
        return max(1, round(self.until_us / (250 if self.transfer == "lrpc" else 2000)))

    def findings(self) -> Findings:
        """Return the number of calls that began before `until_us`, without the warm-up call."""
        return {"calls": self._calls}
