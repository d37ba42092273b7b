"""Binding on the simulated kernel: finds an export and makes the client stubs that suit it."""

from collections.abc import Callable

from lrpc.domains.domain import Exhausted, I, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.stubs import ClientStub, LrpcStub, MessageStub, WithinStub
from lrpc.domains.simulated.timeline import DOMAINS, MACHINES, NOTHING, recorded_stub
from lrpc.kernel.errors import BindingRefused, ProcedureRaised, Refused
from lrpc.kernel.simulated.domain import Export, ProtectionDomain


def bind(
    client: ProtectionDomain, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait"
) -> I:
    """Import an interface into a domain; return an object whose methods are client stubs.

    `name` is the name of an export, or the alias that the domain's description gives it.
    `exhausted` says what a call does when all A-stacks of its procedure are in use: wait for one
    ("wait"), or have the kernel allocate more ("grow").

    Raises `BindingRefused` where no export of that name exists, its clerk refuses the import, or it
    has another interface; `CallFailed` where the domain has terminated; `Refused` where the cost
    model has no costs for calls by this `transfer`, or a procedure is defined by `async def`.
    """
    refuse_awaited(interface, f"import {name}")
    kernel = client.kernel
    name = client.imports.get(name, name)
    export = kernel.exports.get(name)
    found = interface.interface.__name__ if export is None else export.interface
    if export is None:
        where = None if kernel.network is None else kernel.network.locate(name)
        if where is None:
            raise BindingRefused(f"import {name}: nobody exports it to domain {client.name} of {kernel.machine}")
        # The name service knows what the description says: here, this machine exported it once.
        if kernel.network is not None and where[0] == kernel.network.rank:
            raise BindingRefused(
                f"import {name}: the domain of {kernel.machine} that exported it has terminated; "
                "import it before that, or from another domain"
            )
        # Promises between machines rest on the imports that the description declares, so a
        # program may not call another machine without one.
        if name not in client.imports.values():
            place = f"domain {client.name} of machine {kernel.machine}"
            raise BindingRefused(f"import {name}: {place} does not declare it; add it to its imports")
        found = where[1]
    if found != interface.interface.__name__:
        raise BindingRefused(f"import {name}: it is a {found}, not a {interface.interface.__name__}")
    stubs = _stubs(client, interface, name, export, transfer, exhausted)
    made = interface.__new__(interface)
    for stub in stubs:
        crosses = NOTHING if isinstance(stub, WithinStub) else DOMAINS if export is not None else MACHINES
        called = _declaring(stub) if stub.procedure.raises else stub
        vars(made)[stub.procedure.name] = recorded_stub(client, called, crosses, f"{name}.{stub.procedure.name}")
    return made


def refuse_awaited(interface: type[Interface], what: str) -> None:
    """Raise `Refused` for awaited procedures: virtual time has no event loop."""
    awaited = [procedure.name for procedure in interface.procedures if procedure.awaited]
    if awaited:
        name = f"{interface.interface.__name__}.{awaited[0]}"
        raise Refused(f"{what}: {name} is defined by `async def`; for a simulated machine, define it by `def`")


def _declaring(stub: ClientStub) -> Callable[..., object]:
    """Return a stub that raises exceptions of the classes that its procedure declares."""

    def call(*values: object, **named: object) -> object:
        try:
            return stub(*values, **named)
        except ProcedureRaised as error:
            found = stub.procedure.error(error.kind, error.message)
            for note in getattr(error, "__notes__", ()):
                found.add_note(note)
            raise found from None

    return call


def _stubs(
    client: ProtectionDomain,
    interface: type[Interface],
    name: str,
    export: Export | None,
    transfer: Transfer,
    exhausted: Exhausted,
) -> list[ClientStub]:
    """Return client stubs of one kind: for another machine, this domain, by message, or by LRPC."""
    kernel = client.kernel
    numbered = list(enumerate(interface.procedures))
    if export is None:
        grant = kernel.grant(client, name, None)
        return [ClientStub(client, procedure, number, grant) for number, procedure in numbered]
    if export.domain is client:
        grant = kernel.grant(client, name, export)
        return [WithinStub(client, procedure, number, grant, export.server) for number, procedure in numbered]
    if transfer == "message passing":
        kernel.authorise(client, name)
        port = kernel.port(export)
        grant = kernel.grant(client, name, export)
        return [MessageStub(client, procedure, number, grant, port) for number, procedure in numbered]
    binding = kernel.bind(client, name, grows=exhausted == "grow")
    return [LrpcStub(client, procedure, number, binding) for number, procedure in numbered]
