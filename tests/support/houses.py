"""A machine whose domains serve one job and end in the middle of it, and what callers are told."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Int32, UpTo
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.threads import Thread
from tests.support.invariants import assert_nothing_left, assert_sound

FIREFLY = load_cost_model("cvax-firefly")
TRANSFERS: tuple[Transfer, ...] = ("lrpc", "message passing")
MS = 1000.0  # in us
LONG = 100 * MS
MOST = 4000  # bytes, more than an A-stack takes
PROCESSORS = [1, 2, 4]
Work = Callable[[int], int]


class Job(Interface):
    """A job on a number or on bytes, done as each test's server says.

    `do` takes one call at a time in each binding.
    """

    @procedure(simultaneous=1)
    def do(self, number: Int32) -> Int32:
        raise NotImplementedError

    @procedure(simultaneous=2)
    def carry(self, data: Annotated[bytes, UpTo(MOST)]) -> Annotated[bytes, UpTo(MOST)]:
        raise NotImplementedError


class JobServer(Job):
    domain: ProtectionDomain

    def __init__(self, work: Work) -> None:
        self._work = work

    def do(self, number: int) -> int:
        return self._work(number)

    def carry(self, data: bytes) -> bytes:
        self._work(len(data))
        return data


@dataclass
class House:
    """A machine whose domains call by one way of transfer; `told` notes each call's end."""

    kernel: Kernel
    transfer: Transfer
    told: list[str] = field(default_factory=list)

    def domain(self, name: str) -> ProtectionDomain:
        return self.kernel.domain(name)

    def serve(self, name: str, work: Work) -> ProtectionDomain:
        """Return the domain called `name`, which exports a job of that name."""
        domain = self.domain(name)
        Clerk().export(domain, Job, JobServer(work), name)
        return domain

    def keep(self, name: str, us: float = LONG) -> ProtectionDomain:
        """Return a domain whose job sleeps for `us` in each call."""
        return self.serve(name, lambda number: self.slept(name, us, number))

    def slept(self, name: str, us: float, number: int) -> int:
        self.domain(name).sleep(us)
        return number

    def job(self, client: ProtectionDomain, name: str, transfer: Transfer | None = None) -> Job:
        return bind(client, Job, name, transfer or self.transfer)

    def call(self, client: ProtectionDomain, name: str, transfer: Transfer | None = None) -> Thread:
        """Start a thread that makes one call and notes how it ended."""
        return client.spawn(lambda: self.tell(lambda: self.job(client, name, transfer).do(1)))

    def tell(self, call: Callable[[], object]) -> None:
        try:
            call()
            self.told.append("returned")
        except CallError as error:
            self.told.append(type(error).__name__)

    def end(self, *domains: ProtectionDomain, after_us: float = MS) -> None:
        """Start a thread in another domain that terminates these domains, in order."""

        def body() -> None:
            reaper.sleep(after_us)
            for domain in domains:
                domain.terminate()

        reaper = self.domain("reaper")
        reaper.spawn(body)

    def run(self, until_us: float | None = None) -> None:
        self.kernel.run(FOREVER if until_us is None else round(until_us * 1000))
        assert_sound(self.kernel)
        if until_us is None:
            assert_nothing_left(self.kernel)


def house_of(transfer: Transfer, processors: int, *, caching: bool) -> House:
    return House(Kernel("m", FIREFLY, processors=processors, debug=True, domain_caching=caching), transfer)
