"""The paper's four tests (Table IV): Null, Add, BigIn and BigInOut, called in a loop and timed in virtual time."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Annotated, Final, Literal

from pydantic import Field

from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Server
from lrpc.domains.stubs import bind
from lrpc.domains.wires import Bytes200, Int32
from lrpc.kernel.simulated.costs import STEPS
from lrpc.kernel.simulated.domain import Domain

TESTS: Final = ("Null", "Add", "BigIn", "BigInOut")


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
    """Calls each procedure `calls` times in a loop; imports the server as `tests`."""

    calls: Annotated[int, Field(ge=1, le=10**9)] = 100_000
    transfer: Literal["lrpc", "message passing"] = "lrpc"

    def __post_init__(self) -> None:
        """Have measured nothing."""
        self._measured: dict[str, dict[str, object]] = {}

    @property
    def imports(self) -> Collection[str]:
        """Return what it calls."""
        return ("tests",)

    def run(self, domain: Domain) -> None:
        """Run the four loops, one after the other."""
        tests = bind(domain, FourTests, "tests", self.transfer)
        data = bytes(200)
        self._measure(domain, "Null", tests.null)
        self._measure(domain, "Add", lambda: tests.add(1, 2))
        self._measure(domain, "BigIn", lambda: tests.big_in(data))
        self._measure(domain, "BigInOut", lambda: tests.big_in_out(data))

    @property
    def planned_calls(self) -> int:
        """Return the calls of all four loops."""
        return self.calls * len(TESTS)

    def findings(self) -> Findings:
        """Return, for each test, its calls, their time in ns and what they were charged by step."""
        return self._measured

    def _measure(self, domain: Domain, test: str, call: Callable[[], object]) -> None:
        kernel = domain.kernel
        since, before = kernel.now_ns, kernel.charges.counts()
        for _ in range(self.calls):
            call()
        steps = zip(STEPS, before, kernel.charges.counts(), strict=True)
        charges = {step: after - start for step, start, after in steps if after > start}
        self._measured[test] = {"calls": self.calls, "elapsed_ns": kernel.now_ns - since, "charges": charges}
