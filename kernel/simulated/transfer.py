"""Direct transfer: the trap, the checks, the client's own thread going on in the server's domain, and its return."""

from typing import TYPE_CHECKING

from greenlet import getcurrent

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import CallAborted, CallError, Panic
from lrpc.kernel.simulated.astacks import Linkage
from lrpc.kernel.simulated.log import ABORT, CALL, LARGEST, REFUSED, RETURN
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import AStackState, LinkageState, ThreadState, follow

if TYPE_CHECKING:
    from lrpc.kernel.simulated.estacks import EStack
    from lrpc.kernel.simulated.kernel import Kernel


def call(kernel: "Kernel", key: BindingObject, procedure: int, address: int) -> None:
    """Call a procedure with the arguments that lie on the A-stack at `address`; results are there afterwards.

    The running thread traps, is validated, and goes on in the server's domain on the same processor. Raises the
    `CallError` that says what was forged (the machine goes on and nothing is held), `ProcedureRaised`, or
    `CallAborted` where the caller was released from a call that its server keeps.
    """
    processor = kernel.running_processor()
    thread = processor.thread
    assert thread is not None
    charges = kernel.charges
    processor.spend(charges.call)
    try:
        linkage = kernel.binding_of(key, thread.domain).validate(procedure, address)
    except CallError:
        kernel.log.add(processor.clock, REFUSED, thread.number, key.claimed & LARGEST)
        processor.spend(charges.trap)  # the way back out of the kernel
        processor.checkpoint()
        raise
    linkage.claim(thread)
    linkage.caller = getcurrent()
    counts = kernel.counts
    counts.linkages_pushed += 1
    counts.cross_domain += 1
    kernel.log.add(processor.clock, CALL, thread.number, key.number << 16 | procedure)
    server = linkage.binding.export.domain
    estack = server.take_estack(linkage.astack)
    processor.switch_to(server, charges.enter, charges.switch)
    thread.domain = server
    # No checkpoint on this side of either switch: a thread that stands back here could be released before it has left.
    fault: CallError | None = estack.greenlet.switch(linkage)
    kernel.running_processor().checkpoint()
    if fault is not None:
        raise fault


def leave(kernel: "Kernel", estack: "EStack", linkage: Linkage, fault: CallError | None) -> Linkage:
    """Return from a procedure to its caller, without a check: the linkage cannot be forged.

    Runs on the E-stack and returns there when that is next called upon, with the linkage of the next call.
    """
    processor = kernel.running_processor()
    thread = processor.thread
    assert thread is not None
    charges = kernel.charges
    processor.spend(charges.leave)
    if not thread.linkages or thread.linkages.pop() is not linkage:
        raise Panic(f"{thread} returns through a linkage that is not its innermost")
    if linkage.state is LinkageState.ABORTED:
        return _release_captured(kernel, estack, linkage)
    caller = linkage.caller
    assert caller is not None
    linkage.free()
    estack.domain.give_back_estack(estack)
    client = linkage.binding.client
    processor.switch_to(client, charges.back, charges.switch)
    thread.domain = client
    kernel.log.add(processor.clock, RETURN, thread.number, linkage.binding.key.number << 16 | linkage.procedure)
    following: Linkage = caller.switch(fault)
    return following


def abort(kernel: "Kernel", thread: Thread) -> Thread:
    """Release the caller of `thread`'s outermost call from it; return the thread that goes on and sees call-aborted.

    The server keeps the captured thread, the E-stack and the A-stack until it returns. A thread with no call in
    progress on this machine, but with one outstanding by message, is itself released from that.
    """
    if thread.linkages:
        return _replace_caller(kernel, thread)
    if thread.outstanding is None or thread.state is not ThreadState.WAITING:
        raise CallError(f"{thread} has no call to abort")
    thread.outstanding.abandon()
    thread.outstanding = None
    kernel.log.add(kernel.now_ns, ABORT, thread.number, 0)
    kernel.wake(thread, CallAborted(f"{thread}: its caller gave the call up"))
    return thread


def _replace_caller(kernel: "Kernel", captured: Thread) -> Thread:
    linkage = captured.linkages[0]
    if linkage.state is LinkageState.ABORTED:
        raise CallError(f"{captured}: its call was aborted before")
    linkage.state = follow(linkage.state, LinkageState.ABORTED)
    if linkage.astack.state is AStackState.TAKEN:  # else its client called on one that it had not taken: its own loss
        linkage.astack.state = follow(linkage.astack.state, AStackState.QUARANTINED)
    successor = kernel.new_thread(f"{captured.name}+", captured.home)
    successor.greenlet = linkage.caller
    successor.serves = captured.serves
    captured.replace(successor)
    kernel.log.add(kernel.now_ns, ABORT, captured.number, successor.number)
    kernel.wake(successor, CallAborted(f"{linkage.binding.export.name}: the caller gave the call up"))
    return successor


def _release_captured(kernel: "Kernel", estack: "EStack", linkage: Linkage) -> Linkage:
    """Destroy a captured thread whose server has let go of it: its caller went on long ago."""
    astack = linkage.astack
    linkage.free()
    if astack.state is AStackState.QUARANTINED:
        astack.group.give_back(astack)
    estack.domain.give_back_estack(estack)
    kernel.end_running_thread()
    following: Linkage = kernel.engine.loop.switch()
    return following
