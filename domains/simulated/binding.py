"""Importing in virtual time: finds an export, has its clerk asked, and makes the client stubs that fit."""

from lrpc.domains.domain import Exhausted, I, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.stubs import ClientStub, LrpcStub, MessageStub, WithinStub
from lrpc.kernel.errors import BindingRefused
from lrpc.kernel.simulated.domain import Export, ProtectionDomain


def bind(
    client: ProtectionDomain, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait"
) -> I:
    """Import an interface into a domain: an object whose procedures are client stubs.

    `name` is an export, or what the domain's description calls it. When all A-stacks of a procedure are taken, a call
    waits for one, or has the kernel grow their number. Raises `BindingRefused` where nobody exports it, its clerk
    refuses, or it is another interface; `CallFailed` where the domain has terminated; `Refused` where the cost model
    lacks such calls.
    """
    kernel = client.kernel
    name = client.imports.get(name, name)
    export = kernel.exports.get(name)
    found = interface.interface.__name__ if export is None else export.interface
    if export is None:
        where = None if kernel.network is None else kernel.network.locate(name)
        if where is None:
            raise BindingRefused(f"import {name}: nobody exports it to domain {client.name} of {kernel.machine}")
        if name not in client.imports.values():  # synchronisation rests on who may call whom
            place = f"domain {client.name} of machine {kernel.machine}"
            raise BindingRefused(f"import {name}: {place} does not declare it; add it to its imports")
        found = where[1]
    if found != interface.interface.__name__:
        raise BindingRefused(f"import {name}: it is a {found}, not a {interface.interface.__name__}")
    stubs = _stubs(client, interface, name, export, transfer, exhausted)
    made = interface.__new__(interface)
    vars(made).update((stub.procedure.name, stub) for stub in stubs)
    return made


def _stubs(
    client: ProtectionDomain,
    interface: type[Interface],
    name: str,
    export: Export | None,
    transfer: Transfer,
    exhausted: Exhausted,
) -> list[ClientStub]:
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
