"""The services of a protection domain, as the servers, programs and clerks in it see them.

Servers and programs are written against these protocols and never against a kernel, so that the
same class runs on every kernel. Each kernel has a class that implements them:
`lrpc.domains.simulated.domain.SimulatedDomain` for the simulated one.
"""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from lrpc.domains.interface import Interface
from lrpc.kernel.descriptors import Authoriser, Convention, ImportRequest, ProcedureDescriptor
from lrpc.kernel.random import Stream

# How calls reach a server in another domain of the same machine.
Transfer = Literal["lrpc", "message passing"]
# What a call does when all A-stacks of its procedure are in use.
Exhausted = Literal["wait", "grow"]
I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter for an interface
# Decides about an import: returns None to accept it, or the reason to refuse it.
Policy = Callable[[ImportRequest], str | None]


class Joinable(Protocol):
    """A thread that another thread can wait for."""

    def join(self) -> None:
        """Make the running thread wait until this one has ended."""


class Domain(Protocol):
    """A protection domain, as the servers and programs in it see it.

    A simulated kernel spends virtual time; a kernel on this computer spends real time.
    """

    name: str

    @property
    def now_ns(self) -> int:
        """Return the time since the kernel began, in nanoseconds."""

    @property
    def now_us(self) -> float:
        """Return the time since the kernel began, in microseconds."""

    def bind(self, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait") -> I:
        """Import an interface; return an object whose methods are client stubs of its procedures.

        `name` is the name of an export, or the alias that the domain's description gives it.
        `exhausted` says what a call does when all A-stacks of its procedure are in use: wait for
        one ("wait"), or have the kernel allocate more ("grow").

        Raises `BindingRefused` where no export of that name exists, its clerk refuses the import,
        or it has another interface. Raises `CallFailed` where the domain has terminated.
        Raises `Refused` where the kernel does not support calls by this `transfer`.
        """

    def export(self, interface: type[Interface], server: object, name: str, policy: Policy | None = None) -> None:
        """Export a server of this domain under a name, and set `server.domain` to this domain.

        The server's clerk accepts every import unless `policy` returns a reason against it.

        Raises `BindingRefused` where the server lacks a procedure of the interface, the name is
        taken or the A-stacks would be too large. Raises `CallFailed` where the domain has
        terminated.
        """

    def compute(self, us: float) -> None:
        """Occupy the running thread's processor for `us` microseconds."""

    def sleep(self, us: float) -> None:
        """Make the running thread wait for `us` microseconds without a processor."""

    def system_call(self, us: float = 0.0) -> None:
        """Trap into the kernel, and spend `us` microseconds there beyond the cost of the trap."""

    def spawn(self, body: Callable[[], None], name: str = "") -> Joinable:
        """Start a thread of this domain that runs `body`.

        Raises `CallFailed` where the domain has terminated.
        """

    def random(self, purpose: str) -> Stream:
        """Return a new stream of random numbers for `purpose`, which belongs to the running thread.

        Asked again for the same purpose, it returns the same numbers from their beginning.
        """


class ExportingDomain(Protocol):
    """A protection domain, as a clerk that exports from it sees it."""

    # Where procedures find their arguments; it decides what a server stub copies.
    convention: Convention

    def register(
        self,
        name: str,
        interface: str,
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Authoriser,
        server: object,
    ) -> None:
        """Register an export with the kernel; `BindingRefused` where it does not accept it."""


def bind(
    domain: Domain, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait"
) -> I:
    """Import an interface into a domain: the same as `domain.bind`."""
    return domain.bind(interface, name, transfer, exhausted)
