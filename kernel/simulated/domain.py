"""Protection domains of the simulated kernel: what a domain owns, and what code in it can ask for.

Servers and programs receive their domain as an object of a class derived from `ProtectionDomain`.
Times that they give or read are virtual.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import Authoriser, Convention, ProcedureDescriptor
from lrpc.kernel.errors import CallError
from lrpc.kernel.random import Stream
from lrpc.kernel.simulated import termination, transfer
from lrpc.kernel.simulated.estacks import EStackPool
from lrpc.kernel.simulated.memory import AddressSpace, Region, alike
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import DOMAIN_LIVE

if TYPE_CHECKING:
    from lrpc.kernel.simulated.bindings import ClerkThread
    from lrpc.kernel.simulated.kernel import Kernel


class Export:
    """An interface that a domain exports: its procedures, and the clerk who decides on imports."""

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
        self.clerk_thread: ClerkThread  # which asks the clerk; there once the export is registered
        self.server = server  # for calls from within the domain, which need no transfer


class ProtectionDomain:
    """A protection domain of one machine. It lasts until `terminate` is called, or the run ends.

    Methods that spend time or block need a simulated thread. They raise `RunFailed` outside one,
    and `CallFailed` in code of a terminated domain that is being unwound.
    """

    def __init__(self, kernel: "Kernel", number: int, name: str) -> None:
        self.kernel = kernel
        self.number = number
        self.name = name
        self.state = DOMAIN_LIVE
        self.memory = AddressSpace(name)
        self.imports: dict[str, str] = {}  # names that its programs use, and their exports
        self.convention: Convention = "argument pointer"  # of its servers' language
        self.estacks = EStackPool(kernel, self)
        pages = kernel.memory.pages(max(kernel.costs.file.tlb.on_call.domain, kernel.costs.file.tlb.on_return.domain))
        self.pages_on_call = alike(kernel.pages_on_call | _first_pages(pages, kernel.costs.file.tlb.on_call.domain))
        self.pages_on_return = alike(
            kernel.pages_on_return | _first_pages(pages, kernel.costs.file.tlb.on_return.domain)
        )
        # The dispatcher's: how much it needs idle processors in this context, as of which call.
        self.needed = 0
        self.needed_at = 0

    def __str__(self) -> str:
        return f"domain {self.name} of machine {self.kernel.machine}"

    @property
    def live(self) -> bool:
        """Return whether threads may run here: the domain has not terminated."""
        return self.state == DOMAIN_LIVE

    def compute(self, us: float) -> None:
        """Occupy the running thread's processor for `us` microseconds of virtual time.

        Raises `ValueError` unless `us` is at least 0 and less than 1e12.
        """
        self.kernel.compute(_ns(us))

    def sleep(self, us: float) -> None:
        """Block the running thread for `us` microseconds of virtual time.

        Its processor is free for other threads meanwhile. Raises `ValueError` unless `us` is at
        least 0 and less than 1e12.
        """
        self.kernel.sleep(_ns(us))

    def system_call(self, us: float = 0.0) -> None:
        """Trap into the kernel for an operation of its own: a system call.

        The operation takes `us` microseconds of virtual time beyond the trap. Raises `ValueError`
        unless `us` is at least 0 and less than 1e12.
        """
        self.kernel.system_call(_ns(us))

    def spawn(self, body: Callable[[], None], name: str = "") -> Thread:
        """Start a thread of this domain that runs `body`, and return it.

        The thread begins as soon as there is a processor for it. `name` is made up if it is empty.
        Raises `CallFailed` if the domain has terminated.
        """
        self.require_live()
        return self.kernel.spawn(self, body, name or self.kernel.name_for(self))

    def abort(self, thread: Thread) -> Thread:
        """Release a thread of this domain from its outermost call.

        Return the thread in which the caller continues, where the call raises `CallAborted`. That
        is a new thread for a call through an A-stack, and `thread` itself for a call by message.
        The server may still be executing the call. A thread whose caller continues as another one,
        since a server in between has ended, stands for that. Raises `CallError` if the thread is
        another domain's, or has no call to be released from.
        """
        while thread.home is not self and thread.successor is not None:
            thread = thread.successor
        if thread.home is not self:
            raise CallError(f"{thread}: domain {self.name} may abort calls of its own threads only")
        return transfer.abort(self.kernel, thread)

    def terminate(self) -> None:
        """Terminate this domain.

        Its bindings are revoked, calls into it fail with `CallFailed` at once, and its own threads
        end. Calls from here that are in progress elsewhere continue there, and return to nobody.
        Does not return if the running thread is in this domain. A second call does nothing.
        """
        termination.terminate(self.kernel, self)

    def revoke(self, client: str, name: str, reason: str) -> int:
        """Revoke a client's bindings to an export of this domain; return how many there were.

        Calls in progress continue. Later ones, and those waiting for an A-stack, raise
        `BindingRevoked` with the `reason`. Raises `CallError` if this domain does not export
        `name`.
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
        """Register an export of this domain under `name`.

        `server` is what calls from within the domain use directly. Raises `BindingRefused` if the
        name is taken, there are no procedures, or the A-stacks would be too large.
        """
        self.kernel.export(Export(name, interface, self, descriptors, clerk, server))

    def random(self, purpose: str) -> Stream:
        """Return a stream of random numbers for `purpose`, from its beginning.

        The seed, the machine, the domain, the running thread's name and the purpose determine its
        numbers.
        """
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
        """Return a fresh region of `size` bytes, mapped to this domain alone.

        `rights` are `READ`, `WRITE` or both, as in `AddressSpace.map`.
        """
        region = self.kernel.memory.allocate(size)
        self.memory.map(region, rights)
        return region

    def require_live(self) -> None:
        """Raise `CallFailed` if this domain has terminated."""
        self.kernel.refuse_if_reaping()
        if self.state != DOMAIN_LIVE:
            raise termination.terminated_error(self)


def _first_pages(pages: frozenset[int], count: int) -> frozenset[int]:
    return frozenset(sorted(pages)[:count])


def _ns(us: float) -> int:
    if not 0 <= us < 1e12:
        raise ValueError(f"a time of {us:g} µs: it must be at least 0 and less than 1e12")
    return round(us * 1000)
