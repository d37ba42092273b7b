"""What servers, programs and clerks need of their protection domain: each kernel has a class that provides it."""

from collections.abc import Callable
from typing import Literal, Protocol, TypeVar

from lrpc.domains.interface import Interface
from lrpc.kernel.descriptors import Authoriser, Convention, ImportRequest, ProcedureDescriptor
from lrpc.kernel.random import Stream

Transfer = Literal["lrpc", "message passing"]  # how a client's calls reach the server
Exhausted = Literal["wait", "grow"]  # what a client does when all A-stacks are taken
I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter for an interface
# Returns None to accept an import, or the reason why not.
Policy = Callable[[ImportRequest], str | None]


class Joinable(Protocol):
    """A thread that another may wait for."""

    def join(self) -> None:
        """Make the running thread wait until this one has ended."""


class Domain(Protocol):
    """A protection domain, as the servers and programs in it see it.

    A simulated kernel spends virtual time; a kernel on this computer spends real time.
    """

    name: str

    @property
    def now_ns(self) -> int:
        """Return the time, in nanoseconds since the kernel began."""

    @property
    def now_us(self) -> float:
        """Return the time, in microseconds since the kernel began."""

    def bind(self, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait") -> I:
        """Import an interface: return an object whose procedures are client stubs.

        `name` is an export, or what the domain's description calls it. When all A-stacks of a procedure are taken, a
        call waits for one (`wait`), or the kernel makes more (`grow`). Raises `BindingRefused` where nobody exports
        the name, its clerk refuses, or it is another interface; `CallFailed` where the domain has terminated;
        `Refused` where the kernel has no such calls.
        """

    def export(self, interface: type[Interface], server: object, name: str, policy: Policy | None = None) -> None:
        """Export a server of this domain under a name; the server gets the domain as `server.domain`.

        The clerk accepts every import unless `policy` returns a reason against it. Raises `BindingRefused` where the
        server lacks a procedure, the name is taken or the A-stacks are too large; `CallFailed` where the domain has
        terminated.
        """

    def compute(self, us: float) -> None:
        """Occupy the running thread's processor for `us` microseconds."""

    def sleep(self, us: float) -> None:
        """Let the running thread wait for `us` microseconds without a processor."""

    def system_call(self, us: float = 0.0) -> None:
        """Trap into the kernel for an operation of its own, which takes `us` microseconds beyond the trap."""

    def spawn(self, body: Callable[[], None], name: str = "") -> Joinable:
        """Start a thread of this domain that runs `body`; `CallFailed` where the domain has terminated."""

    def random(self, purpose: str) -> Stream:
        """Return the running thread's stream of random numbers for one purpose, from its beginning."""


class ExportingDomain(Protocol):
    """A protection domain, as a clerk that exports from it sees it."""

    convention: Convention  # where procedures find their arguments

    def register(
        self,
        name: str,
        interface: str,
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Authoriser,
        server: object,
    ) -> None:
        """Register an export with the kernel; `BindingRefused` where the kernel does not accept it."""


def bind(
    domain: Domain, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait"
) -> I:
    """Import an interface into a domain: the same as `domain.bind`."""
    return domain.bind(interface, name, transfer, exhausted)
