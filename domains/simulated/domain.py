"""A protection domain of the simulated kernel, as the servers and programs in it see it."""

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Domain, Exhausted, I, Policy, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.simulated.domain import ProtectionDomain


class SimulatedDomain(ProtectionDomain):
    """A domain that imports and exports typed interfaces; `Kernel` makes its domains of this class when told to.

    It adds no layer to what happens often: `compute`, `sleep` and calls are the kernel's own.
    """

    def bind(self, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait") -> I:
        """Import an interface: return an object whose procedures are client stubs.

        `name` is an export, or what the domain's description calls it. When all A-stacks of a procedure are taken, a
        call waits for one (`wait`), or the kernel makes more (`grow`). Raises `BindingRefused` where nobody exports
        the name, its clerk refuses, or it is another interface; `CallFailed` where the domain has terminated;
        `Refused` where the cost model has no such calls.
        """
        return bind(self, interface, name, transfer, exhausted)

    def export(self, interface: type[Interface], server: object, name: str, policy: Policy | None = None) -> None:
        """Export a server of this domain under a name; the server gets the domain as `server.domain`.

        The clerk accepts every import unless `policy` returns a reason against it. Raises `BindingRefused` where the
        server lacks a procedure, the name is taken or the A-stacks are too large; `CallFailed` where the domain has
        terminated.
        """
        Clerk(policy).export(self, interface, server, name)


def simulated(domain: Domain | ProtectionDomain) -> SimulatedDomain:
    """Return a domain as the simulated kernel's, for programs that read its counters or spend whole nanoseconds.

    Raises `TypeError` for a domain of another kernel.
    """
    if not isinstance(domain, SimulatedDomain):
        raise TypeError(f"{domain!r}: this program needs a domain of the simulated kernel")
    return domain
