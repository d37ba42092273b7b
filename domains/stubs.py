"""The stub generator: client stubs that look like the procedure, server stubs that the kernel enters by an upcall."""

from collections.abc import Callable
from typing import Literal, TypeVar

from lrpc.domains.interface import Interface, Procedure
from lrpc.kernel.descriptors import BindingObject, Entry
from lrpc.kernel.errors import ArgumentError, BindingRefused, CallAborted, ForgedBinding
from lrpc.kernel.simulated.astacks import AStackGroup, Binding
from lrpc.kernel.simulated.costs import COPY_BYTE, COPY_VALUE, MESSAGE_ARGUMENT_BYTE, MESSAGE_RESULT_BYTE, MESSAGE_VALUE
from lrpc.kernel.simulated.kernel import Domain, Export
from lrpc.kernel.simulated.log import WITHIN
from lrpc.kernel.simulated.memory import READ, WRITE
from lrpc.kernel.simulated.message_passing import Port
from lrpc.kernel.simulated.transfer import call

Transfer = Literal["lrpc", "message passing"]
I = TypeVar("I", bound=Interface)  # noqa: E741 - the usual letter for an interface


def server_stub(procedure: Procedure, body: Callable[..., object]) -> Entry:
    """Return the entry of one procedure: unpack arguments, run `body`, pack results behind the arguments' room."""
    arguments, results = procedure.arguments, procedure.results

    def enter(buffer: bytearray, offset: int) -> int:
        returned = body(*arguments.unpack(buffer, offset))
        packed = results.pack(procedure.as_results(returned))
        at = offset + arguments.size
        buffer[at : at + len(packed)] = packed
        return len(packed)

    return enter


class ClientStub:
    """Stands for one procedure of a binding. Called like the procedure, by position or by name.

    Raises `ArgumentError` before any trap, and the `CallError` that the call ended with.
    """

    def __init__(self, client: Domain, procedure: Procedure, number: int, key: BindingObject) -> None:
        self.client = client
        self.kernel = client.kernel
        self.procedure = procedure
        self.number = number
        self.key = key
        self.latencies = client.kernel.histogram(f"{key.name}.{procedure.name}")

    def __call__(self, *values: object, **named: object) -> object:
        """Call the procedure."""
        if named:
            values = self._in_order(values, named)
        packed = self.procedure.arguments.pack(values)
        since = self.kernel.running_processor().clock
        results = self._call_remote(packed) if self.key.remote else self.call_here(packed, values)
        counts = self.kernel.counts
        counts.argument_bytes += len(packed)
        self.latencies.add(self.kernel.running_processor().clock - since)
        return self.procedure.returned(results)

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Call a procedure of this machine and return its results."""
        raise ForgedBinding(
            f"Binding Object {self.key.number}: its remote bit is not as domain {self.client.name} got it"
        )

    def _call_remote(self, packed: bytes) -> tuple[object, ...]:
        network = self.kernel.network
        if network is None:
            raise ForgedBinding(
                f"Binding Object {self.key.number}: its remote bit is not as domain {self.client.name} got it"
            )
        data = network.call(self.key, self.number, packed)
        self.kernel.counts.result_bytes += len(data)
        return self.procedure.results.unpack(data, 0)

    def _remote_bit_altered(self) -> ForgedBinding:
        return ForgedBinding(f"Binding Object {self.key.claimed}: domain {self.client.name} altered its remote bit")

    def _in_order(self, values: tuple[object, ...], named: dict[str, object]) -> tuple[object, ...]:
        names = [value.name for value in self.procedure.arguments.values][len(values) :]
        if set(names) != set(named):
            wrong = sorted(set(named) ^ set(names))[0]
            raise ArgumentError(f"{self.procedure.arguments.procedure}: {wrong}: missing, unknown or given twice")
        return values + tuple(named[name] for name in names)


class LrpcStub(ClientStub):
    """Calls through an A-stack, by direct transfer."""

    def __init__(self, client: Domain, procedure: Procedure, number: int, binding: Binding) -> None:
        super().__init__(client, procedure, number, binding.client_key)
        self.group: AStackGroup = binding.groups[number]

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Take an A-stack, copy the arguments there, trap, copy the results from there, put it back."""
        kernel = self.kernel
        processor = kernel.running_processor()
        processor.spend(kernel.charges.client_stub)
        processor.checkpoint()  # before the queue's lock
        astack = self.group.take()
        arguments, results = self.procedure.arguments, self.procedure.results
        try:
            memory = self.client.memory.access(self.group.region, READ | WRITE)
            if arguments.count:
                memory[astack.offset : astack.offset + len(packed)] = packed
                self._copy("A", arguments.count, len(packed))
            call(kernel, self.key, self.number, astack.address)
            returned = results.unpack(memory, astack.offset + arguments.size)
            if returned:
                size = results.packed_size(returned)
                kernel.counts.result_bytes += size
                self._copy("F", results.count, size)
        except CallAborted:  # the server held the call, and with it the A-stack, which by now may be anybody's
            raise
        except Exception:
            self.group.give_back(astack)
            raise
        kernel.running_processor().checkpoint()
        self.group.give_back(astack)
        return returned

    def _copy(self, letter: str, values: int, size: int) -> None:
        self.kernel.counts.copies[letter] += values
        self.kernel.running_processor().copy(COPY_VALUE, COPY_BYTE, values, size)


class MessageStub(ClientStub):
    """Calls by message, as SRC RPC does."""

    def __init__(self, client: Domain, procedure: Procedure, number: int, key: BindingObject, port: Port) -> None:
        super().__init__(client, procedure, number, key)
        self.port = port

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Fill a buffer, send it, wait for the reply, and copy the results."""
        processor = self.kernel.running_processor()
        processor.spend(self.kernel.charges.message_client_stub)
        message = self.port.new_message(self.number)
        message.buffer[: len(packed)] = packed
        self._copy("A", MESSAGE_ARGUMENT_BYTE, self.procedure.arguments.count, len(packed))
        self.port.call(self.key, message)
        plan = self.procedure.results
        results = plan.unpack(message.buffer, self.procedure.arguments.size)
        size = plan.packed_size(results)
        self.kernel.counts.result_bytes += size
        self._copy("F", MESSAGE_RESULT_BYTE, plan.count, size)
        self.kernel.running_processor().checkpoint()
        return results

    def _copy(self, letter: str, byte_step: int, values: int, size: int) -> None:
        if values:
            self.kernel.counts.copies[letter] += values
            self.kernel.running_processor().copy(MESSAGE_VALUE, byte_step, values, size)


class WithinStub(ClientStub):
    """Calls a procedure of the client's own domain: no boundary, so a procedure call."""

    def __init__(self, client: Domain, procedure: Procedure, number: int, key: BindingObject, server: object) -> None:
        super().__init__(client, procedure, number, key)
        self.body: Callable[..., object] = getattr(server, procedure.name)

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Call the procedure itself; what it raises comes out unchanged."""
        processor = self.kernel.running_processor()
        processor.spend(self.kernel.charges.procedure_call)
        self.kernel.counts.within_domain += 1
        self.kernel.log.add(processor.clock, WITHIN, self.kernel.running_thread().number, self.number)
        results = self.procedure.as_results(self.body(*values))
        self.procedure.results.pack(results)
        return results


def bind(client: Domain, interface: type[I], name: str, transfer: Transfer = "lrpc") -> I:
    """Import an interface into a domain: an object whose procedures are client stubs.

    `name` is an export, or what the domain's description calls it. Raises `BindingRefused` where nobody exports
    it, its clerk refuses, or it is another interface; `Refused` where the cost model lacks such calls.
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
    stubs = _stubs(client, interface, name, export, transfer)
    made = interface.__new__(interface)
    vars(made).update((stub.procedure.name, stub) for stub in stubs)
    return made


def _stubs(
    client: Domain, interface: type[Interface], name: str, export: Export | None, transfer: Transfer
) -> list[ClientStub]:
    kernel = client.kernel
    numbered = list(enumerate(interface.procedures))
    if export is None:
        key = kernel.new_key(client, name, remote=True)
        return [ClientStub(client, procedure, number, key) for number, procedure in numbered]
    if export.domain is client:
        key = kernel.new_key(client, name, remote=False)
        return [WithinStub(client, procedure, number, key, export.server) for number, procedure in numbered]
    if transfer == "message passing":
        kernel.authorise(client.name, kernel.machine, name)
        key, port = kernel.new_key(client, name, remote=False), kernel.port(export)
        return [MessageStub(client, procedure, number, key, port) for number, procedure in numbered]
    binding = kernel.bind(client, name)
    return [LrpcStub(client, procedure, number, binding) for number, procedure in numbered]
