"""Calls of a leaf that nothing can meet: charged, counted and logged at once.

Most calls meet nobody. Nothing else of the machine is due before such a call's end, its A-stack is
on top of a queue that no thread waits for, and its processor has the client's context. What it
charges is then known beforehand, and so is the state in which it leaves the machine: the one that
it found. So only what is seen of it is done. Its Binding Object is checked, its arguments lie on
the A-stack while the procedure runs, and so do its results until they are read; its time, charges,
counts and log are those of any other call, once it has returned.

Whatever else may happen is left to `transfer.call`. What a procedure does is known only once it has
run: where it raises, or returns more than the A-stack has room for, the call is brought to where
the procedure has just returned, and goes on from there step by step.
"""

from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallError, raised
from lrpc.kernel.simulated import transfer
from lrpc.kernel.simulated.costs import COPY_BYTE, COPY_VALUE
from lrpc.kernel.simulated.log import CALL, RETURN
from lrpc.kernel.simulated.memory import READ, WRITE
from lrpc.kernel.states import LINKAGE_FREE

if TYPE_CHECKING:
    from lrpc.kernel.simulated.astacks import AStack
    from lrpc.kernel.simulated.bindings import Binding
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor


class CallAtOnce:
    """The calls of one procedure of a binding, as far as they meet nobody.

    One is made by `call`, where it `fits`, and `finish` once its results have been read.
    """

    def __init__(self, kernel: "Kernel", binding: "Binding", procedure: int) -> None:
        self.kernel = kernel
        self.binding = binding
        self.procedure = procedure
        self.astack: AStack = binding.groups[procedure].members[0]  # the present call's
        # Of a call that goes on step by step: when it began, its bytes, and what its procedure
        # returned or raised.
        self._began = self._size = 0
        self._results = b""
        self._fault: CallError | None = None
        self._charges = charges = kernel.charges
        self._engine = kernel.engine
        self._counts = kernel.counts
        self._log = kernel.log
        self._client = binding.client
        self._server = binding.server
        self._group = binding.groups[procedure]
        self._descriptor = descriptor = binding.descriptors[procedure]
        self._what = binding.number << 16 | procedure
        missed = (0, 0) if kernel.costs.file.tlb.tagged else charges.misses_of_a_call
        self._queue_ns = charges.astack_queue.ns
        self._call_ns = charges.client_stub.ns + self._queue_ns + charges.call.ns
        self._enter_ns = charges.switch.ns
        self._procedure_ns = charges.ns_of_misses(missed[0]) + charges.server_stub.ns
        self._return_ns = charges.leave.ns + charges.switch.ns
        self._read_ns = charges.ns_of_misses(missed[1])
        known_ns = self._call_ns + self._enter_ns + self._procedure_ns + self._return_ns + self._read_ns
        most = charges.ns_of_copy(COPY_VALUE, COPY_BYTE, descriptor.argument_values, descriptor.argument_size)
        most += charges.ns_of_copy(COPY_VALUE, COPY_BYTE, descriptor.result_values, descriptor.result_size)
        self._most_ns = known_ns + self._queue_ns + most

    def fits(self, processor: "Processor", key: BindingObject, size: int) -> bool:
        """Return whether the running thread's next call, of so many bytes, meets nobody."""
        ends = processor.clock + self._most_ns
        if ends >= self._engine.limit or size > self._descriptor.argument_size or processor.notes_all:
            return False
        client, binding, thread = self._client, self.binding, processor.thread
        if thread is None or thread.domain is not client or not binding.admits(key, client):
            return False
        if not processor.would_return_to(client, self._server.pages_on_call):
            return False
        if processor.quantum_ns and ends >= processor.slice_began + processor.quantum_ns:
            return False
        astack = self._group.at_hand(processor.clock)
        if astack is None or astack.linkage.state != LINKAGE_FREE or not self._server.estacks.keeps(astack):
            return False
        self.astack = astack
        outer = thread.innermost
        return outer is None or outer.depth < self.kernel.most_nested

    def call(self, processor: "Processor", arguments: bytes) -> bool:
        """Make the call up to where its results lie on the A-stack, and return True.

        Return False where that was not to be known: `go_on` then ends the call.
        """
        kernel, counts, descriptor, astack = self.kernel, self._counts, self._descriptor, self.astack
        thread = processor.thread
        assert thread is not None
        began, size = processor.clock, len(arguments)
        values, copied = descriptor.argument_values, 0
        if values:
            at = astack.offset
            self._client.memory.access(astack.region, READ | WRITE)[at : at + size] = arguments
            copied = self._charges.ns_of_copy(COPY_VALUE, COPY_BYTE, values, size)
        called = began + self._call_ns
        self._log.add(called, CALL, thread.number, self._what)
        processor.clock = called + self._enter_ns + copied + self._procedure_ns
        astack.results = 0
        fault: CallError | None = None
        results = b""
        try:
            results = kernel.enter(descriptor, self._server.memory.access(astack.region, READ | WRITE), astack.offset)
        except Exception as error:
            fault = raised(error)
        if fault is not None or len(results) > descriptor.result_size:
            self._began, self._size, self._results, self._fault = began, size, results, fault
            return False
        if values:
            counts.copies["A"] += values
            self._charges.copy(COPY_VALUE, COPY_BYTE, values, size)
        if results:
            transfer.place_results(self._server, astack, descriptor.argument_size, descriptor.result_size, results)
        astack.written = size
        self._charges.whole_call.times += 1
        counts.astacks_taken += 1
        counts.linkages_pushed += 1
        counts.cross_domain += 1
        kernel.astack_bytes.add(size + len(results))
        self._server.estacks.use(astack)
        returned = processor.clock + self._return_ns
        self._log.add(returned, RETURN, thread.number, self._what)
        processor.clock = returned + self._read_ns
        return True

    def finish(self, processor: "Processor") -> None:
        """End a call whose results have been read: its A-stack is on top of its queue again."""
        processor.clock += self._queue_ns
        self._group.lock.held_again(processor.clock)
        self._group.poison(self.astack)

    def go_on(self, processor: "Processor") -> None:
        """Go on step by step from where the procedure of the present call has returned.

        Afterwards the call is as after `transfer.call`. Raises what that would.
        """
        kernel, charges, descriptor = self.kernel, self._charges, self._descriptor
        results, fault = self._results, self._fault
        processor.clock = self._began
        processor.spend(charges.client_stub)
        astack = self._group.take(processor)
        astack.written = self._size
        astack.values = descriptor.argument_values
        self._counts.copies["A"] += astack.values
        processor.spend(charges.call)
        estack = transfer.enter(kernel, processor, astack, self.procedure)
        processor.refill()
        processor.spend(charges.server_stub)
        if fault is None:
            try:
                transfer.place_results(self._server, astack, descriptor.argument_size, descriptor.result_size, results)
            except Exception as error:
                fault = raised(error)
        transfer.leave_leaf(kernel, estack, astack.linkage)
        if fault is not None:
            raise fault


def at_once(kernel: "Kernel", binding: "Binding", procedure: int) -> CallAtOnce | None:
    """Return the calls of a procedure that may be made at once; None where none can.

    Procedures that copy arguments to their stack, or read them in place, have more steps than these
    know of; and so have machines whose processors share a bus, or spin in contexts.
    """
    one = binding.descriptors[procedure]
    if not one.leaf or one.private_values or one.reads_in_place or kernel.bus is not None or kernel.domain_caching:
        return None
    return CallAtOnce(kernel, binding, procedure)
