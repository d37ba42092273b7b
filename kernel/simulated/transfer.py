"""Direct transfer: how a call enters the server's domain, returns, or is aborted.

A call traps and is validated. Then the client's own thread continues in the server's domain, on an
E-stack there (estacks.py), while the caller's stack waits in the linkage record. A thread must not
yield between the record of its move to another stack and the switch of greenlets that carries the
move out: another thread could then release or end it half-way. So checkpoints stand before the
record and after the switch, and none in between.

A caller can be released from a call that its server keeps (`abort`). Its chain continues as a new
thread that gets `CallAborted`. The server keeps the captured thread, with the E-stack and the
quarantined A-stack. When it returns, they are collected, and no caller is resumed twice. Until then
the captured thread may still make calls.
"""

from typing import TYPE_CHECKING, cast

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallAborted, CallError, NestedTooDeep, Panic, raised
from lrpc.kernel.simulated import termination
from lrpc.kernel.simulated.log import ABORT, CALL, LARGEST, REFUSED, RETURN
from lrpc.kernel.simulated.memory import READ, WRITE, beside, copy_private
from lrpc.kernel.states import LINKAGE_ABORTED, LINKAGE_CALLING, THREAD_WAITING, follow

if TYPE_CHECKING:
    from lrpc.kernel.simulated.astacks import AStack, Linkage
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.estacks import EStack
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.threads import Stack, Thread


def call(kernel: "Kernel", key: BindingObject, procedure: int, address: int) -> None:
    """Call a procedure with the arguments on the A-stack at `address`.

    Afterwards the results are there, or out of band if they are too large.

    The running thread traps, the call is validated, and the thread continues in the server's
    domain: on an idle processor that spins there, or on its own. Raises `ProcedureRaised`; the
    `CallError` that says what was forged, which leaves nothing held; `CallFailed` if the server's
    domain terminates; `CallAborted` if the caller is released from a call that its server keeps;
    and `NestedTooDeep`.
    """
    processor = kernel.running_processor()
    charges = processor.charges
    processor.spend(charges.call)
    if kernel.domain_caching:
        processor.checkpoint()  # which processors are idle depends on what others did before
    thread = processor.thread
    assert thread is not None
    try:
        binding = kernel.binding_of(key, thread.domain)
        astack, looked = binding.validate(procedure, address)
        outer = thread.innermost
        if outer is not None and outer.depth >= kernel.most_nested:
            raise NestedTooDeep(
                f"{binding.name}: {thread.name} has {outer.depth} calls in progress, one within the other, "
                f"and machine {kernel.machine} allows no more; raise its most_nested, or nest fewer"
            )
    except CallError:
        kernel.log.add(processor.clock, REFUSED, thread.number, key.claimed_number & LARGEST)
        processor.spend(charges.trap)  # the trap back out of the kernel
        processor.checkpoint()
        raise
    for _ in range(looked):
        processor.spend(charges.secondary_region)
    kernel.log.add(processor.clock, CALL, thread.number, binding.number << 16 | procedure)
    linkage, server = astack.linkage, binding.server
    estack = enter(kernel, processor, astack, procedure)
    if binding.descriptors[procedure].leaf and not kernel.domain_caching and processor.has_time(charges.server_stub.ns):
        # Nothing can yield before the return, so that nobody sees on which stack this runs.
        fault = upcall(server, linkage)
        leave_leaf(kernel, estack, linkage)
    else:
        # No checkpoint from here to the switch: the thread could be released before it has left.
        fault = cast("CallError | None", estack.switch(linkage))
        _resume(kernel)
    if fault is not None:
        raise fault


def enter(kernel: "Kernel", processor: "Processor", astack: "AStack", procedure: int) -> "EStack":
    """Push the linkage of a call, and enter the server's context; return the E-stack there.

    The copy of the arguments is charged at the rate of whoever reads them.
    """
    thread = processor.thread
    assert thread is not None
    linkage = astack.linkage
    linkage.claim(thread, procedure)
    counts = kernel.counts
    counts.linkages_pushed += 1
    counts.cross_domain += 1
    server = linkage.binding.server
    estack = server.estacks.take(astack)
    other = kernel.dispatcher.exchange(processor, server, returns=False) if kernel.domain_caching else None
    if other is None:
        processor.load(server, server.pages_on_call)
        if astack.values:
            processor.copy(astack.values, astack.written)
    elif astack.values:
        other.copy_exchanged(astack.values, astack.written)
    astack.values = 0
    thread.domain = server
    thread.stack = estack
    return estack


def _resume(kernel: "Kernel") -> None:
    """Go on in the client's domain, into which the running thread has just returned."""
    processor = kernel.running_processor()
    processor.refill()
    processor.checkpoint()
    if processor.quantum_ns:
        kernel.take_turns()


def upcall(server: "ProtectionDomain", linkage: "Linkage") -> CallError | None:
    """Enter the server's stub, and return the error that the procedure raised, or None.

    The stub reads the arguments where the server's address space maps them.
    """
    astack = linkage.astack
    kernel = server.kernel
    processor = kernel.running_processor()
    processor.refill()
    processor.checkpoint()
    processor.spend(processor.charges.server_stub)
    descriptor = linkage.binding.descriptors[linkage.procedure]
    try:
        buffer: bytes | bytearray = server.memory.access(astack.region, READ | WRITE)
        offset = astack.offset
        if astack.argument_segment is not None:
            buffer = server.memory.access(astack.argument_segment, READ)
            offset = 0
        stack: bytes | None = None
        if descriptor.private_values or descriptor.reads_in_place:
            processor.checkpoint()  # the client may change until now what is copied here, or read
        if descriptor.private_values:
            packed = buffer[offset:] if astack.argument_segment else buffer[offset : offset + descriptor.argument_size]
            stack = beside(descriptor, packed, copy_private(descriptor, packed))
            kernel.counts.copies["E"] += descriptor.private_values
            processor.copy(descriptor.private_values, descriptor.private_size(packed, 0))
        astack.results = 0
        results = kernel.enter(descriptor, buffer, offset, stack)
        if results:
            place_results(server, astack, descriptor.argument_size, descriptor.result_size, results)
    except Exception as error:
        return raised(error)
    return None


def place_results(server: "ProtectionDomain", astack: "AStack", at: int, room: int, results: bytes) -> None:
    """Write results where the client finds them: on the A-stack, or out of band if too large.

    `at` is their offset on the A-stack, `room` the bytes that they may take there.
    """
    astack.results = len(results)
    if len(results) > room:
        binding = astack.linkage.binding
        server.kernel.running_processor().spend(server.kernel.charges.map_memory)
        segment = astack.result_segment = binding.map(len(results))
        server.memory.access(segment, WRITE)[:] = results
        return
    at += astack.offset
    server.memory.access(astack.region, READ | WRITE)[at : at + len(results)] = results


def leave(kernel: "Kernel", estack: "EStack", linkage: "Linkage", fault: CallError | None) -> "Linkage":
    """Return from a procedure to its caller, whose call raises `fault` if there is one.

    It runs on the E-stack, switches to the caller's stack, and returns when the E-stack is switched
    to again, with the linkage of the next call.
    """
    caller = _return(kernel, estack, linkage)
    return cast("Linkage", kernel.switch_away() if caller is None else caller.switch(fault))


def leave_leaf(kernel: "Kernel", estack: "EStack", linkage: "Linkage") -> None:
    """Return from a leaf procedure, which has run on its caller's stack."""
    _return(kernel, estack, linkage)
    _resume(kernel)


def _return(kernel: "Kernel", estack: "EStack", linkage: "Linkage") -> "Stack | None":
    """Return the running thread to its caller's domain and stack.

    Return that stack; None where the caller is gone, for which the thread has ended, or gone on
    further down. This needs no check, since no client can forge a linkage.
    """
    processor = kernel.running_processor()
    processor.spend(processor.charges.leave)
    if kernel.domain_caching:
        processor.checkpoint()
    thread = processor.thread
    assert thread is not None
    if thread.innermost is not linkage:
        raise Panic(f"{thread} returns through a linkage that is not its innermost")
    thread.innermost = linkage.outer
    estack.domain.estacks.give_back(estack)
    caller = linkage.caller
    if linkage.state != LINKAGE_CALLING or caller is None:
        termination.release(linkage)
        termination.unwind(kernel, thread, termination.terminated_error(linkage.binding.client))
        return None
    linkage.free()
    astack = linkage.astack
    kernel.astack_bytes.add(astack.written + astack.results)
    client = linkage.binding.client
    other = kernel.dispatcher.exchange(processor, client, returns=True) if kernel.domain_caching else None
    astack.read_elsewhere = other is not None
    if other is None:
        processor.load(client, client.pages_on_return)
    else:
        processor = other
    thread.domain = client
    thread.stack = caller
    kernel.log.add(processor.clock, RETURN, thread.number, linkage.binding.number << 16 | linkage.procedure)
    return caller


def abort(kernel: "Kernel", thread: "Thread") -> "Thread":
    """Release the caller of a thread's outermost call; return the thread that continues.

    That thread gets `CallAborted`. The server keeps the captured thread, its E-stack and the
    A-stack until it returns. A thread whose only call is by message is itself released from that.
    Raises `CallError` if there is no call to release from.
    """
    kernel.refuse_if_reaping()
    if thread.innermost is not None:
        return _replace_caller(kernel, thread)
    if thread.outstanding is None or thread.state != THREAD_WAITING:
        raise CallError(f"{thread} has no call to abort")
    thread.outstanding.abandon()
    thread.outstanding = None
    kernel.log.add(kernel.now_ns, ABORT, thread.number, 0)
    kernel.wake(thread, CallAborted(f"{thread}: its caller gave the call up"))
    return thread


def _replace_caller(kernel: "Kernel", captured: "Thread") -> "Thread":
    linkage = captured.linkages[0]
    if linkage.state != LINKAGE_CALLING:
        raise CallError(f"{captured}: its call was aborted before")
    linkage.state = follow(linkage.state, LINKAGE_ABORTED)
    linkage.astack.quarantine(captured)
    successor = termination.continue_caller(kernel, captured, linkage)
    kernel.wake(successor, CallAborted(f"{linkage.binding.name}: the caller gave the call up"))
    return successor
