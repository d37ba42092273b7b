"""The clerk: exports a server's interface, and decides which clients may import it."""

from collections.abc import Callable

from lrpc.domains.domain import ExportingDomain, Policy
from lrpc.domains.interface import Interface, Procedure, is_leaf
from lrpc.domains.plans import PrivateValues
from lrpc.domains.stubs import ServerStub, split_stub
from lrpc.kernel.descriptors import Convention, ImportRequest, ProcedureDescriptor
from lrpc.kernel.errors import BindingRefused


class Clerk:
    """Registers a server's interface with the kernel, and authorises imports by a policy.

    As in the paper, each server has a clerk in its domain, and the kernel asks it when a client
    binds.
    """

    def __init__(self, policy: Policy | None = None) -> None:
        self._policy = policy

    def authorise(self, request: ImportRequest) -> str | None:
        """Return None to accept an import, or the reason to refuse it."""
        return None if self._policy is None else self._policy(request)

    def export(self, domain: ExportingDomain, interface: type[Interface], server: object, name: str) -> None:
        """Export `server`'s procedures from its domain under a name; set `server.domain`.

        Raises `BindingRefused` where the server lacks a procedure of the interface, the name is
        taken or the A-stacks would be too large. Raises `CallFailed` where the domain has
        terminated.
        """
        definition = getattr(interface, "interface", None)
        if definition is None:
            raise BindingRefused(
                f"export {name}: {interface.__name__} is not an interface; derive it from lrpc.Interface"
            )
        descriptors = []
        for procedure in interface.procedures:
            body = getattr(server, procedure.name, None)
            # An inherited definition is no implementation: its body is empty.
            if not callable(body) or getattr(type(server), procedure.name, None) is getattr(
                definition, procedure.name, server
            ):
                raise BindingRefused(f"export {name}: {type(server).__name__} has no procedure {procedure.name}")
            descriptors.append(_descriptor(procedure, body, domain.convention))
        domain.register(name, definition.__name__, tuple(descriptors), self, server)
        if hasattr(server, "__dict__"):
            vars(server)["domain"] = domain


def _descriptor(procedure: Procedure, body: Callable[..., object], convention: Convention) -> ProcedureDescriptor:
    """Return the procedure's entry in the procedure descriptor list.

    The domain's convention, a property of its language, decides what the server stub copies off the
    A-stack.
    """
    arguments = procedure.arguments
    everything = convention == "execution stack"
    private = PrivateValues(arguments, everything=everything)
    return ProcedureDescriptor(
        procedure.name,
        ServerStub(procedure, body, copies_all=everything),
        arguments.size,
        procedure.results.size,
        procedure.simultaneous,
        argument_values=arguments.count,
        result_values=procedure.results.count,
        private_values=private.count,
        private_size=private.size,
        private_spans=private.spans,
        largest_arguments=arguments.largest,
        reads_in_place=arguments.in_place and not everything,
        argument_shapes=arguments.shapes,
        result_shapes=procedure.results.shapes,
        split_entry=split_stub(procedure, body, copies_all=everything) if private.count else None,
        leaf=is_leaf(body),
    )
