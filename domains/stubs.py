"""The stub generator: client stubs that look like the procedure, server stubs that the kernel enters by an upcall."""

from collections.abc import Callable
from typing import Literal, TypeVar

from lrpc.domains.codecs import Reference
from lrpc.domains.interface import Interface, Procedure
from lrpc.kernel.descriptors import BindingObject, Entry
from lrpc.kernel.errors import ArgumentError, BindingRefused, CallAborted, ForgedBinding
from lrpc.kernel.simulated.astacks import AStack, AStackGroup
from lrpc.kernel.simulated.bindings import Binding, Grant
from lrpc.kernel.simulated.domain import Domain, Export
from lrpc.kernel.simulated.log import WITHIN
from lrpc.kernel.simulated.memory import READ, WRITE
from lrpc.kernel.simulated.message_passing import Port
from lrpc.kernel.simulated.transfer import call

Transfer = Literal["lrpc", "message passing"]
Exhausted = Literal["wait", "grow"]  # what a client does when all A-stacks are taken
I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter for an interface


def server_stub(procedure: Procedure, body: Callable[..., object]) -> Entry:
    """Return the entry of one procedure: unpack and check arguments, run `body`, pack results."""
    arguments, results, single = procedure.arguments, procedure.results, procedure.single

    def enter(buffer: bytes | bytearray, offset: int) -> bytes:
        if not arguments.count:
            return results.pack(as_results(single, body()))
        values = arguments.unpack(buffer, offset)
        if arguments.plain:
            return results.pack(as_results(single, body(*values)))
        given = arguments.delivered(values)
        returned = as_results(single, body(*given))
        changed = [reference.value for reference in given if isinstance(reference, Reference)]
        return results.pack((*changed, *returned))

    return enter


def as_results(single: bool, returned: object) -> tuple[object, ...]:
    """Return what a procedure returned as a list of results: one, none, or a tuple of several."""
    if single:
        return (returned,)
    if returned is None:
        return ()
    return returned if isinstance(returned, tuple) else (returned,)


class ClientStub:
    """Stands for one procedure of a binding. Called like the procedure, by position or by name.

    Raises `ArgumentError` before any trap, and the `CallError` that the call ended with.
    """

    def __init__(self, client: Domain, procedure: Procedure, number: int, grant: Grant) -> None:
        self.client = client
        self.kernel = client.kernel
        self.procedure = procedure
        self.arguments = procedure.arguments
        self.results = procedure.results
        self.single = procedure.single
        self.number = number
        self.key: BindingObject = grant.client_key
        self.latencies = client.kernel.histogram(grant, procedure.name)

    def __call__(self, *values: object, **named: object) -> object:
        """Call the procedure."""
        if named:
            values = self._in_order(values, named)
        kernel = self.kernel
        arguments = self.arguments
        packed = arguments.pack(arguments.referents(values) if arguments.references else values)
        since = kernel.running_processor().clock
        results = self.call_remote(packed) if self.key.remote else self.call_here(packed, values)
        kernel.counts.argument_bytes += len(packed)
        self.latencies.add(kernel.running_processor().clock - since)
        if arguments.references:
            results = self._refer(values, results)
        if self.single:
            return results[0]
        return results or None

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Call a procedure of this machine and return its results."""
        raise self._remote_bit_altered()

    def call_remote(self, packed: bytes) -> tuple[object, ...]:
        """Call a procedure of another machine and return its results."""
        network = self.kernel.network
        if network is None:
            raise self._remote_bit_altered()
        data = network.call(self.key, self.number, packed)
        self.kernel.counts.result_bytes += len(data)
        return self.results.unpack(data, 0)

    def _remote_bit_altered(self) -> ForgedBinding:
        return ForgedBinding(
            f"Binding Object {self.key.claimed}: its remote bit is not as domain {self.client.name} got it"
        )

    def _refer(self, values: tuple[object, ...], results: tuple[object, ...]) -> tuple[object, ...]:
        """Give the caller's references what has become of their referents; return the results proper."""
        for at, number in enumerate(self.arguments.references):
            reference = values[number]
            assert isinstance(reference, Reference)
            reference.value = results[at]
        return results[len(self.arguments.references) :]

    def _in_order(self, values: tuple[object, ...], named: dict[str, object]) -> tuple[object, ...]:
        names = [value.name for value in self.arguments.values][len(values) :]
        if set(names) != set(named):
            wrong = sorted(set(named) ^ set(names))[0]
            raise ArgumentError(f"{self.arguments.procedure}: {wrong}: missing, unknown or given twice")
        return values + tuple(named[name] for name in names)


class LrpcStub(ClientStub):
    """Calls through an A-stack, by direct transfer."""

    def __init__(self, client: Domain, procedure: Procedure, number: int, binding: Binding) -> None:
        super().__init__(client, procedure, number, binding)
        self.binding = binding
        self.group: AStackGroup = binding.groups[number]

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Take an A-stack, copy the arguments there, trap, copy the results from there, put it back."""
        kernel = self.kernel
        processor = kernel.running_processor()
        processor.spend(processor.charges.client_stub)
        group = self.group
        astack = group.take(processor)
        returned: tuple[object, ...] = ()
        try:
            astack.written = len(packed)
            if self.arguments.count:
                self._write(astack, packed)
            call(kernel, self.key, self.number, astack.address)
            if self.results.count:
                returned = self._read(astack)
        except CallAborted:  # the server held the call, and with it the A-stack, which by now may be anybody's
            raise
        except Exception:
            processor = kernel.running_processor()
            if astack.values:  # the copy was made, though nobody reads it
                processor.clock += processor.charges.copy(astack.values, astack.written)
                astack.values = 0
            group.put_back(astack, processor)
            processor.checkpoint()
            raise
        processor = kernel.running_processor()
        group.put_back(astack, processor)
        processor.checkpoint()
        return returned

    def _write(self, astack: AStack, packed: bytes) -> None:
        """Make copy A: onto the A-stack, or out of band where the arguments are too large for it."""
        kernel = self.kernel
        size = len(packed)
        if size > self.arguments.size:
            kernel.running_processor().spend(kernel.charges.map_memory)
            segment = astack.argument_segment = self.binding.map(size)
            self.client.memory.access(segment, WRITE)[:] = packed
        else:
            at = astack.offset
            self.client.memory.access(astack.region, READ | WRITE)[at : at + size] = packed
        astack.values = self.arguments.count
        kernel.counts.copies["A"] += astack.values

    def _read(self, astack: AStack) -> tuple[object, ...]:
        """Make copy F: from where the server put the results."""
        kernel = self.kernel
        memory = self.client.memory
        plan = self.results
        if astack.result_segment is not None:
            returned = plan.unpack(memory.access(astack.result_segment, READ), 0)
        else:
            returned = plan.unpack(memory.access(astack.region, READ), astack.offset + self.arguments.size)
        kernel.counts.result_bytes += astack.results
        kernel.counts.copies["F"] += plan.count
        processor = kernel.running_processor()
        charges = processor.charges
        if astack.read_elsewhere:
            processor.clock += charges.copy_exchanged(plan.count, astack.results)
        else:
            processor.clock += charges.copy(plan.count, astack.results)
        return returned


class MessageStub(ClientStub):
    """Calls by message, as SRC RPC does."""

    def __init__(self, client: Domain, procedure: Procedure, number: int, grant: Grant, port: Port) -> None:
        super().__init__(client, procedure, number, grant)
        self.port = port

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Send the arguments in a message, wait for the reply, and take the results from it."""
        processor = self.kernel.running_processor()
        processor.spend(processor.charges.message_client_stub)
        data = self.port.call(self.key, self.number, packed)
        self.kernel.counts.result_bytes += len(data)
        return self.results.unpack(data, 0)


class WithinStub(ClientStub):
    """Calls a procedure of the client's own domain: no boundary, so a procedure call."""

    def __init__(self, client: Domain, procedure: Procedure, number: int, grant: Grant, server: object) -> None:
        super().__init__(client, procedure, number, grant)
        self.body: Callable[..., object] = getattr(server, procedure.name)

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Call the procedure itself; what it raises comes out unchanged."""
        processor = self.kernel.running_processor()
        processor.spend(processor.charges.procedure_call)
        self.kernel.counts.within_domain += 1
        self.kernel.log.add(processor.clock, WITHIN, self.kernel.running_thread().number, self.number)
        results = as_results(self.single, self.body(*values))
        if self.arguments.references:  # what the procedure did to them it did to the caller's own
            results = (*[self.arguments.referents(values)[n] for n in self.arguments.references], *results)
        self.results.pack(results)
        return results


def bind(
    client: Domain, interface: type[I], name: str, transfer: Transfer = "lrpc", exhausted: Exhausted = "wait"
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
    client: Domain,
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
