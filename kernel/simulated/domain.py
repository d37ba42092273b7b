"""Protection domains: their memory and E-stacks, what they export, and the time their procedures spend."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import Authoriser, Convention, ProcedureDescriptor
from lrpc.kernel.errors import CallError
from lrpc.kernel.random import Stream
from lrpc.kernel.simulated import termination, transfer
from lrpc.kernel.simulated.estacks import EStackPool
from lrpc.kernel.simulated.memory import AddressSpace, Region
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import DOMAIN_LIVE

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Kernel


class Export:
    """An interface that a domain exports: how to enter it, and who decides on imports."""

    def __init__(
        self,
        name: str,
        interface: str,
        domain: "ProtectionDomain",
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Authoriser,
        server: object,
    ) -> None:
        self.name = name
        self.interface = interface
        self.domain = domain
        self.descriptors = descriptors
        self.clerk = clerk
        self.server = server  # for calls from within the domain


class ProtectionDomain:
    """A protection domain. It ends with `terminate`, or with the machine."""

    def __init__(self, kernel: "Kernel", number: int, name: str) -> None:
        self.kernel = kernel
        self.number = number
        self.name = name
        self.state = DOMAIN_LIVE
        self.memory = AddressSpace(name)
        self.imports: dict[str, str] = {}  # names that its programs use, and the exports they stand for
        self.convention: Convention = "argument pointer"  # of the language its servers are written in
        self.estacks = EStackPool(kernel, self)
        pages = kernel.memory.pages(max(kernel.costs.file.tlb.on_call.domain, kernel.costs.file.tlb.on_return.domain))
        self.pages_on_call = kernel.pages_on_call | _some(pages, kernel.costs.file.tlb.on_call.domain)
        self.pages_on_return = kernel.pages_on_return | _some(pages, kernel.costs.file.tlb.on_return.domain)
        self.missed = 0  # times that an idle processor in its context was needed and missing, since one was sent
        self.needed_ns = 0  # when one was needed last

    def __str__(self) -> str:
        return f"domain {self.name} of machine {self.kernel.machine}"

    @property
    def live(self) -> bool:
        """Return whether anything may run here."""
        return self.state == DOMAIN_LIVE

    def compute(self, us: float) -> None:
        """Occupy the running thread's processor for `us` microseconds of virtual time."""
        self.kernel.compute(_ns(us))

    def sleep(self, us: float) -> None:
        """Let the running thread wait for `us` microseconds without a processor."""
        self.kernel.sleep(_ns(us))

    def system_call(self, us: float = 0.0) -> None:
        """Trap into the kernel for an operation of its own, which takes `us` beyond the trap."""
        self.kernel.system_call(_ns(us))

    def spawn(self, body: Callable[[], None], name: str = "") -> Thread:
        """Start a thread of this domain that runs `body`, as soon as there is a processor.

        Raises `CallFailed` where the domain has terminated.
        """
        self.require_live()
        return self.kernel.spawn(self, body, name or f"{self.name}/{self.kernel.threads_made}")

    def abort(self, thread: Thread) -> Thread:
        """Release one of this domain's threads from its call; return the thread that goes on and sees `CallAborted`.

        Raises `CallError` where the thread is another domain's or has no call in progress.
        """
        if thread.home is not self:
            raise CallError(f"{thread}: domain {self.name} may abort calls of its own threads only")
        return transfer.abort(self.kernel, thread)

    def terminate(self) -> None:
        """End this domain: its bindings are revoked, calls into it fail, and its own threads end.

        Calls that its threads have in progress elsewhere go on there, and return past it. Does nothing a second time.
        """
        termination.terminate(self.kernel, self)

    def revoke(self, client: str, name: str, reason: str) -> int:
        """Revoke a client's bindings to one of this domain's exports; return how many there were.

        Its calls in progress go on; later ones, and those that wait for an A-stack, raise `BindingRevoked`. Raises
        `CallError` where the export is another domain's.
        """
        export = self.kernel.exports.get(name)
        if export is None or export.domain is not self:
            raise CallError(f"revoke {name}: {self} does not export it")
        return self.kernel.revoke(client, name, reason)

    def register(
        self,
        name: str,
        interface: str,
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Authoriser,
        server: object,
    ) -> None:
        """Register an export of this domain; `BindingRefused` where its name is taken or its A-stacks are too large."""
        self.kernel.export(Export(name, interface, self, descriptors, clerk, server))

    def random(self, purpose: str) -> Stream:
        """Return the running thread's stream of random numbers for one purpose, from its beginning."""
        thread = "" if self.kernel.processor is None else self.kernel.running_thread().name
        return self.kernel.random(f"{self.name}/{thread}/{purpose}")

    @property
    def now_ns(self) -> int:
        """Return the virtual time, in nanoseconds."""
        return self.kernel.now_ns

    @property
    def now_us(self) -> float:
        """Return the virtual time, in microseconds."""
        return self.kernel.now_ns / 1000

    def allocate(self, size: int, rights: int) -> Region:
        """Return fresh memory of `size` bytes that only this domain may use."""
        region = self.kernel.memory.allocate(size)
        self.memory.map(region, rights)
        return region

    def require_live(self) -> None:
        """Raise `CallFailed` where this domain has terminated."""
        self.kernel.refuse_if_reaping()
        if self.state != DOMAIN_LIVE:
            raise termination.terminated_error(self)


def _some(pages: frozenset[int], count: int) -> frozenset[int]:
    return frozenset(sorted(pages)[:count])


def _ns(us: float) -> int:
    if not 0 <= us < 1e12:
        raise ValueError(f"a time of {us:g} us: it must be at least 0 and less than 1e12")
    return round(us * 1000)
