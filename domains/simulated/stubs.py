"""Client stubs of the simulated kernel: for LRPC, messages, one domain, or another machine.

One class for each way in which a call reaches its procedure; binding chooses. Each stub spends in
virtual time exactly what it performs, and tests the Binding Object's remote bit first, as the
paper's stubs do (section 5.1).
"""

from collections.abc import Callable

from lrpc.domains.interface import Procedure, is_leaf
from lrpc.domains.stubs import as_results, in_order, pack, refer
from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallAborted, CallError, ForgedBinding
from lrpc.kernel.simulated.astacks import AStack, AStackGroup
from lrpc.kernel.simulated.at_once import CallAtOnce, at_once
from lrpc.kernel.simulated.bindings import Binding, Grant
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.log import WITHIN
from lrpc.kernel.simulated.memory import READ, WRITE
from lrpc.kernel.simulated.message_passing import Port
from lrpc.kernel.simulated.message_turns import RepeatedMessages
from lrpc.kernel.simulated.network.remote import RemoteProcedure
from lrpc.kernel.simulated.transfer import call


class ClientStub:
    """One procedure of a binding, called like the procedure: by position or by name.

    Raises `ArgumentError` before any trap, and the `CallError` with which the call ended. This
    class itself is the stub for calls to another machine.
    """

    def __init__(self, client: ProtectionDomain, procedure: Procedure, number: int, grant: Grant) -> None:
        self.client = client
        self.kernel = client.kernel
        self.procedure = procedure
        self.arguments = procedure.arguments
        self.results = procedure.results
        self.single = procedure.single
        self.number = number
        self.key: BindingObject = grant.client_key
        self.remote = RemoteProcedure(number, procedure.arguments.shapes, procedure.results.shapes)
        self.latencies = client.kernel.histogram(grant, procedure.name)

    def __call__(self, *values: object, **named: object) -> object:
        """Call the procedure; return its result, a tuple of several, or None."""
        return self.make(in_order(self.arguments, values, named) if named else values)

    def repeat(self, values: tuple[object, ...], times: int) -> None:
        """Make so many calls with the same arguments, one after the other; drop their results."""
        network, arguments, results = self.kernel.network, self.arguments, self.results
        if not arguments.bare:
            for _ in range(times):
                self.make(values)
            return
        packed = pack(arguments, values)
        if times > 0 and network is not None and self.key.remote:
            unpack = results.unpack if results.count else None
            since = self.kernel.running_processor().clock
            try:
                times = network.repeat(self.key, self.remote, packed, unpack, self.latencies, times)
            except CallError:
                self._take_turn(since)
                raise
        self.repeat_here(packed, values, times)

    def repeat_here(self, packed: bytes, values: tuple[object, ...], times: int) -> None:
        """Make equal calls, whose arguments are packed already."""
        for _ in range(times):
            self._make(packed, values)

    def make(self, values: tuple[object, ...]) -> object:
        """Make one call; return what the procedure returns."""
        arguments = self.arguments
        results = self._make(pack(arguments, values), values)
        if arguments.references:
            results = refer(arguments, values, results)
        if self.single:
            return results[0]
        return results or None

    def _make(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Make one call, with arguments that are packed already; return its results."""
        kernel = self.kernel
        since = kernel.running_processor().clock
        try:
            results = self.call_remote(packed) if self.key.remote else self.call_here(packed, values)
        except CallError:
            self._take_turn(since)
            raise
        kernel.counts.argument_bytes += len(packed)
        self.latencies.add(kernel.running_processor().clock - since)
        return results

    def _take_turn(self, since: int) -> None:
        """Take time and turns for a call that failed too: its client may try for ever."""
        kernel = self.kernel
        processor = kernel.running_processor()
        if processor.clock == since:  # it was refused before anything was done
            processor.spend(processor.charges.procedure_call)
        processor.settle()
        if processor.quantum_ns:
            kernel.take_turns()

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Call a procedure of this machine and return its results."""
        raise self._remote_bit_altered()

    def call_remote(self, packed: bytes) -> tuple[object, ...]:
        """Call a procedure of another machine and return its results."""
        network = self.kernel.network
        if network is None:
            raise self._remote_bit_altered()
        data = network.call(self.key, self.remote, packed)
        self.kernel.counts.result_bytes += len(data)
        return self.results.unpack(data, 0)

    def _remote_bit_altered(self) -> ForgedBinding:
        return ForgedBinding(
            f"Binding Object {self.key.claimed_number}: its remote bit was altered after "
            f"domain {self.client.name} imported it"
        )


class LrpcStub(ClientStub):
    """Calls through an A-stack, by LRPC's direct transfer of the calling thread."""

    def __init__(self, client: ProtectionDomain, procedure: Procedure, number: int, binding: Binding) -> None:
        super().__init__(client, procedure, number, binding)
        self.binding = binding
        self.group: AStackGroup = binding.groups[number]
        taken, given, server = procedure.arguments, procedure.results, binding.descriptors[number]
        agree = (taken.count, taken.size, given.count, given.size) == (
            server.argument_values,
            server.argument_size,
            server.result_values,
            server.result_size,
        )
        self.at_once = at_once(client.kernel, binding, number) if agree else None

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Run the paper's client stub.

        Take an A-stack off its queue, push the arguments onto it, trap, read the results from it,
        and put it back.
        """
        processor = self.kernel.running_processor()
        one = self.at_once
        if one is None or not one.fits(processor, self.key, len(packed)):
            processor.spend(processor.charges.client_stub)
            return self._call(self.group.take(processor), packed, None)
        if not one.call(processor, packed):
            return self._call(one.astack, packed, one)
        try:
            return self._read(one.astack) if self.results.count else ()
        finally:
            one.finish(processor)

    def _call(self, astack: AStack, packed: bytes, made: CallAtOnce | None) -> tuple[object, ...]:
        """Call on an A-stack that was taken, or go on after a call that was `made`; put it back."""
        kernel, group = self.kernel, self.group
        returned: tuple[object, ...] = ()
        try:
            if made is None:
                astack.written = len(packed)
                if self.arguments.count:
                    self._write(astack, packed)
                call(kernel, self.key, self.number, astack.address)
            else:
                made.go_on(kernel.running_processor())
            if self.results.count:
                returned = self._read(astack)
        except CallAborted:
            # The server still holds the call and its A-stack, which comes back to the queue only
            # when the call returns. This stub must not touch it.
            raise
        except Exception:
            processor = kernel.running_processor()
            # The kernel charges copy A when it knows which processor will read the arguments. Where
            # the call failed before, the copy was made all the same, and is charged here.
            if astack.values:
                processor.copy(astack.values, astack.written)
                astack.values = 0
            group.put_back(astack, processor)
            processor.settle()
            raise
        processor = kernel.running_processor()
        group.put_back(astack, processor)
        processor.settle()
        return returned

    def _write(self, astack: AStack, packed: bytes) -> None:
        """Perform copy A: write the arguments onto the A-stack.

        Arguments too large for it go into a segment out of band, which is mapped for this call.
        """
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
        """Perform copy F: return the results from where the server stub put them."""
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
        if astack.read_elsewhere:
            processor.copy_exchanged(plan.count, astack.results)
        else:
            processor.copy(plan.count, astack.results)
        return returned


class MessageStub(ClientStub):
    """Calls by message, as SRC RPC does."""

    def __init__(self, client: ProtectionDomain, procedure: Procedure, number: int, grant: Grant, port: Port) -> None:
        super().__init__(client, procedure, number, grant)
        self.grant = grant
        self.port = port

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Send the arguments in a message, wait for the reply, and return its results."""
        processor = self.kernel.running_processor()
        processor.spend(processor.charges.message_client_stub)
        data = self.port.call(self.key, self.number, packed, self.grant)
        self.kernel.counts.result_bytes += len(data)
        return self.results.unpack(data, 0)

    def repeat_here(self, packed: bytes, values: tuple[object, ...], times: int) -> None:
        """Make equal calls: most of them without the thread's stack, each unusual one by itself."""
        kernel = self.kernel
        unpack = self.results.unpack if self.results.count else None
        repeated: RepeatedMessages | None = None
        while times > 0:
            self._make(packed, values)
            times -= 1
            if times and kernel.bus is None:
                if repeated is None:
                    repeated = RepeatedMessages(
                        self.port, self.key, self.number, packed, self.grant, unpack, self.latencies
                    )
                since = kernel.running_processor().clock
                try:
                    times = repeated.make(times)
                except CallError:
                    self._take_turn(since)
                    raise


class WithinStub(ClientStub):
    """Calls a procedure of the client's own domain: no boundary is crossed."""

    def __init__(
        self, client: ProtectionDomain, procedure: Procedure, number: int, grant: Grant, server: object
    ) -> None:
        super().__init__(client, procedure, number, grant)
        self.body: Callable[..., object] = getattr(server, procedure.name)
        self.leaf = is_leaf(self.body)

    def call_here(self, packed: bytes, values: tuple[object, ...]) -> tuple[object, ...]:
        """Call the procedure directly; what it raises reaches the caller unchanged.

        Results are packed only to check their types.
        """
        kernel = self.kernel
        processor = kernel.running_processor()
        processor.spend(processor.charges.procedure_call)
        processor.checkpoint()
        if processor.quantum_ns:
            kernel.take_turns()
            processor = kernel.running_processor()
        kernel.counts.within_domain += 1
        kernel.log.add(processor.clock, WITHIN, kernel.running_thread().number, self.number)
        if self.leaf:
            kernel.leaf = self.procedure.name
        try:
            returned = self.body(*values)
        finally:
            if self.leaf:
                kernel.leave_leaf()
        results = as_results(self.single, returned)
        if self.arguments.references:  # the procedure changed the caller's own references
            results = (*[self.arguments.referents(values)[n] for n in self.arguments.references], *results)
        self.results.pack(results)
        return results


class PreparedCall:
    """A call of a bound procedure whose arguments are packed once, however often it is made.

    They are packed each time where the procedure may change them, and where the stub stands behind
    one that records calls or raises declared errors. Raises `ArgumentError` as the call would.
    """

    def __init__(self, procedure: Callable[..., object], values: tuple[object, ...]) -> None:
        self._procedure = procedure
        self._values = values
        self._stub = procedure if isinstance(procedure, ClientStub) and procedure.arguments.bare else None
        self._packed = b"" if self._stub is None else pack(self._stub.arguments, values)

    def make(self) -> None:
        """Make the call, and drop its results."""
        if self._stub is None:
            self._procedure(*self._values)
        else:
            self._stub._make(self._packed, self._values)


def repeat(procedure: Callable[..., object], values: tuple[object, ...], times: int) -> None:
    """Make so many equal calls of a bound procedure, one after the other, and drop their results.

    Its stub makes them, unless it stands behind one that records calls or raises declared errors.
    """
    if isinstance(procedure, ClientStub):
        procedure.repeat(values, times)
        return
    for _ in range(times):
        procedure(*values)
