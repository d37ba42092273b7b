"""The class that implements `lrpc.domains.domain.Domain` for the simulated kernel."""

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Domain, Exhausted, I, Policy, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.binding import bind, refuse_awaited
from lrpc.domains.simulated.timeline import recorded_descriptors
from lrpc.kernel.descriptors import Authoriser, ProcedureDescriptor
from lrpc.kernel.simulated.domain import ProtectionDomain


class SimulatedDomain(ProtectionDomain):
    """A protection domain of the simulated kernel that imports and exports typed interfaces.

    The kernel's own class already has `compute`, `sleep`, `spawn` and the like, so these frequent
    operations pass through no extra layer. `make_domain` tells a `Kernel` to make its domains of
    this class.
    """

    def bind(self, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait") -> I:
        """Import an interface; return an object whose methods are client stubs of its procedures.

        `name` is the name of an export, or the alias that the domain's description gives it.
        `exhausted` says what a call does when all A-stacks of its procedure are in use: wait for
        one ("wait"), or have the kernel allocate more ("grow").

        Raises `BindingRefused` where no export of that name exists, its clerk refuses the import,
        or it has another interface. Raises `CallFailed` where the domain has terminated.
        Raises `Refused` where the cost model has no costs for calls by this `transfer`.
        """
        return bind(self, interface, name, transfer, exhausted)

    def export(self, interface: type[Interface], server: object, name: str, policy: Policy | None = None) -> None:
        """Export a server of this domain under a name, and set `server.domain` to this domain.

        The server's clerk accepts every import unless `policy` returns a reason against it.

        Raises `BindingRefused` where the server lacks a procedure of the interface, the name is
        taken or the A-stacks would be too large. Raises `CallFailed` where the domain has
        terminated, and `Refused` where a procedure is defined by `async def`.
        """
        refuse_awaited(interface, f"export {name}")
        Clerk(policy).export(self, interface, server, name)

    def register(
        self,
        name: str,
        interface: str,
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Authoriser,
        server: object,
    ) -> None:
        """Register an export, as the kernel does; where the machine records, with its procedures.

        Raises the same errors.
        """
        super().register(name, interface, recorded_descriptors(self, name, descriptors), clerk, server)


def simulated(domain: Domain | ProtectionDomain) -> SimulatedDomain:
    """Return a domain as one of the simulated kernel, for programs that need more than `Domain`.

    That is, for example, the kernel's counters, or times in whole nanoseconds. Raises `TypeError`
    for a domain of another kernel.
    """
    if not isinstance(domain, SimulatedDomain):
        raise TypeError(f"{domain!r}: this program needs a domain of the simulated kernel")
    return domain
