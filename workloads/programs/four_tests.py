"""The paper's four tests (Table IV): Null, Add, BigIn and BigInOut, called in a loop, and Null against the clock."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from lrpc.domains.codecs import Bytes200, Int32
from lrpc.domains.domain import Domain, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Count, Findings, Program, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.simulated.costs import STEPS

Test = Literal["Null", "Add", "BigIn", "BigInOut"]
TESTS: Final[tuple[Test, ...]] = ("Null", "Add", "BigIn", "BigInOut")
WARM_UP: Final = 10  # calls before those measured, until idle processors spin where they are needed


class FourTests(Interface):
    """The four procedures."""

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
    """Does as little as each procedure can."""

    independent = True

    def null(self) -> None:
        """Return."""

    def add(self, a: int, b: int) -> int:
        """Return the sum."""
        return a + b

    def big_in(self, data: bytes) -> None:
        """Return."""

    def big_in_out(self, data: bytes) -> bytes:
        """Return the argument."""
        return data


@dataclass
class FourTestsClient(Program):
    """Calls the procedures of `tests`, each `calls` times in a loop; imports the server as `tests`."""

    calls: Count = 100_000
    transfer: Transfer = "lrpc"
    tests: Annotated[tuple[Test, ...], Field(min_length=1, strict=False)] = TESTS

    def __post_init__(self) -> None:
        """Have measured nothing."""
        self._measured: dict[str, dict[str, object]] = {}

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return ("tests",)

    def run(self, domain: Domain) -> None:
        """Run the loops, one after the other."""
        server = domain.bind(FourTests, "tests", self.transfer)
        data = bytes(200)
        calls: dict[Test, Callable[[], object]] = {
            "Null": server.null,
            "Add": lambda: server.add(1, 2),
            "BigIn": lambda: server.big_in(data),
            "BigInOut": lambda: server.big_in_out(data),
        }
        for test in self.tests:
            self._measure(domain, test, calls[test])

    @property
    def planned_calls(self) -> int:
        """Return the calls of all loops."""
        return (WARM_UP + self.calls) * len(self.tests)

    def findings(self) -> Findings:
        """Return, for each test, its calls, their time in ns and what they were charged by step."""
        return self._measured

    def _measure(self, domain: Domain, test: str, call: Callable[[], object]) -> None:
        kernel = simulated(domain).kernel
        for _ in range(WARM_UP):
            call()
        since, before = kernel.now_ns, kernel.charges.counts()
        for _ in range(self.calls):
            call()
        steps = zip(STEPS, before, kernel.charges.counts(), strict=True)
        charges = {step: after - start for step, start, after in steps if after > start}
        self._measured[test] = {"calls": self.calls, "elapsed_ns": kernel.now_ns - since, "charges": charges}


@dataclass
class Throughput(Program):
    """Calls Null again and again until a virtual time; imports the server as `tests`."""

    until_us: Annotated[float, Field(gt=0, le=1e9)] = 1_000_000.0
    transfer: Transfer = "lrpc"

    def __post_init__(self) -> None:
        """Have called nothing."""
        self._calls = 0

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return ("tests",)

    def run(self, domain: Domain) -> None:
        """Call until the time is over."""
        null = domain.bind(FourTests, "tests", self.transfer).null
        null()
        while domain.now_us < self.until_us:
            self._calls += 1
            null()

    @property
    def planned_calls(self) -> int:
        """Return about how many calls there is time for, on average where up to 16 processors share a bus or a lock."""
        return max(1, round(self.until_us / (250 if self.transfer == "lrpc" else 2000)))

    def findings(self) -> Findings:
        """Return the calls that were over before the time was."""
        return {"calls": self._calls}
