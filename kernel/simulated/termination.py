"""The end of a protection domain: its callers are told, no thread hangs, and what it held is freed.

Every thread that runs in the domain is sent back to its caller with `CallFailed`, wherever it
stands or waits. The domain's own outstanding calls continue in their servers. Their linkages are
abandoned, so that what returns through them finds nobody, and ends. Who has called the domain below
such a call is not kept waiting for it: the caller, and all that it has in progress, continue at
once as another thread, with `CallFailed`. Bindings to and from the domain are revoked. What is left
of its stacks is reaped outside the simulation, where every kernel entry is refused (scheduler.py).
"""

from itertools import pairwise
from typing import TYPE_CHECKING

from lrpc.kernel.errors import CallError, CallFailed
from lrpc.kernel.simulated.log import ABORT, FAIL, TERMINATE
from lrpc.kernel.states import (
    ASTACK_QUARANTINED,
    ASTACK_TAKEN,
    DOMAIN_TERMINATED,
    LINKAGE_ABANDONED,
    LINKAGE_CALLING,
    THREAD_READY,
    THREAD_RUNNING,
    THREAD_WAITING,
    follow,
)

if TYPE_CHECKING:
    from lrpc.kernel.simulated.astacks import Linkage
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.threads import Thread


def terminated_error(domain: "ProtectionDomain") -> CallFailed:
    """Return the error for a thread that deals with a domain that has terminated."""
    return CallFailed(f"{domain} has terminated; import what it exported from another domain")


def terminate(kernel: "Kernel", domain: "ProtectionDomain") -> None:
    """Terminate a domain; does nothing if it has terminated already.

    Calls into it fail, calls out of it are abandoned, and its own threads end. Does not return if
    the running thread is in the domain.
    """
    kernel.refuse_if_reaping()
    if not domain.live:
        return
    for each in kernel.ports.values():
        each.leave(domain)
    domain.state = follow(domain.state, DOMAIN_TERMINATED)
    kernel.log.add(kernel.now_ns, TERMINATE, domain.number, 0)
    del kernel.domains[domain.name]
    fault = terminated_error(domain)
    here = None if kernel.processor is None else kernel.running_thread()
    ran_here = here is not None and here.domain is domain
    for name in [name for name, export in kernel.exports.items() if export.domain is domain]:
        kernel.exports.pop(name).clerk_thread.close()
        port = kernel.ports.pop(name, None)
        if port is not None:
            port.close(fault)
    for thread in sorted(kernel.threads, key=lambda thread: thread.number):
        _abandon_calls_from(kernel, domain, thread)
        _release_callers_of(kernel, domain, thread, fault)
        if thread.domain is domain:
            _evict(kernel, thread, fault)
    for grant in list(kernel.grants.values()):
        if grant.client is domain or (grant.export is not None and grant.export.domain is domain):
            kernel.revoke_grant(grant, fault)
    for binding in list(kernel.bindings.values()):  # including those that were revoked earlier
        if binding.client is domain:
            binding.reclaim()
    for estack in list(domain.estacks.members):
        domain.estacks.drop(estack)
    if ran_here:
        kernel.switch_away()


def unwind(kernel: "Kernel", thread: "Thread", fault: CallError) -> None:
    """Resume a thread that has left a server at its innermost live caller, with `fault`.

    That is the innermost call whose caller was neither released nor terminated. The thread ends if
    there is none. It must be waiting, or still have its processor.
    """
    while (linkage := thread.innermost) is not None:
        thread.innermost = linkage.outer
        alive = linkage.state == LINKAGE_CALLING
        caller, client = linkage.caller, linkage.binding.client
        release(linkage)
        if alive and caller is not None:
            kernel.log.add(kernel.now_ns, FAIL, thread.number, linkage.binding.number << 16 | linkage.procedure)
            thread.stack = caller
            thread.domain = client
            _resume(kernel, thread, fault.copy())
            return
    kernel.end(thread)


def release(linkage: "Linkage") -> None:
    """Free a linkage, and its A-stack if no client stub is left to put that back."""
    abandoned = linkage.state == LINKAGE_ABANDONED
    linkage.free()
    astack = linkage.astack
    if astack.state == ASTACK_QUARANTINED or (abandoned and astack.state == ASTACK_TAKEN):
        astack.group.collect(astack)


def _abandon_calls_from(kernel: "Kernel", domain: "ProtectionDomain", thread: "Thread") -> None:
    for linkage in thread.linkages:
        if linkage.binding.client is domain and linkage.state == LINKAGE_CALLING:
            linkage.state = follow(linkage.state, LINKAGE_ABANDONED)
            assert linkage.caller is not None
            kernel.reap_soon(linkage.caller)
    if thread.home is domain:
        thread.report_lost()


def _release_callers_of(kernel: "Kernel", domain: "ProtectionDomain", thread: "Thread", fault: CallError) -> None:
    """Release each caller of a terminated domain that waits below a call which the domain made.

    What is left of the thread began, as it were, in the domain: it is on its own, in the servers.
    """
    chain = thread.linkages
    for linkage, inner in pairwise(chain):
        if linkage.binding.server is domain and linkage.state == LINKAGE_CALLING:
            successor = continue_caller(kernel, thread, linkage)
            linkage.free()
            inner.outer = None
            for depth, one in enumerate(chain[chain.index(inner) :], 1):
                one.depth = depth
            thread.home = domain
            kernel.log.add(kernel.now_ns, FAIL, successor.number, linkage.binding.number << 16 | linkage.procedure)
            kernel.wake(successor, fault.copy())


def continue_caller(kernel: "Kernel", captured: "Thread", linkage: "Linkage") -> "Thread":
    """Return a new thread in which the caller of a linkage, and what is below, continues.

    It waits to be woken. `captured` keeps what is above; whoever joins it joins the new one.
    """
    caller = linkage.caller
    assert caller is not None
    successor = kernel.new_thread(f"{captured.name}+", captured.home, _nothing)
    successor.stack = caller
    successor.domain = linkage.binding.client
    successor.begun = True
    successor.serves = captured.serves
    successor.quantum_ns = captured.quantum_ns
    successor.service, captured.service = captured.service, None
    concrete, captured.concrete = captured.concrete, None
    if concrete is not None and captured.home.live:
        concrete.pass_to(successor)
    successor.innermost, linkage.outer = linkage.outer, None
    for one in successor.linkages:
        one.thread = successor
        one.astack.pass_to(captured, successor)
    linkage.astack.pass_to(captured, successor)
    captured.replace(successor)
    kernel.log.add(kernel.now_ns, ABORT, captured.number, successor.number)
    return successor


def _nothing() -> None:
    """Do nothing: the body of a successor, which continues where another thread's caller stood."""


def _evict(kernel: "Kernel", thread: "Thread", fault: CallError) -> None:
    """Remove a thread from a terminated domain, whether it runs, computes, waits or is ready."""
    kernel.reap_soon(thread.stack)
    if thread.processor is not None:
        thread.processor.stop(kernel.now_ns)
    thread.stop_waiting()
    kernel.dispatcher.withdraw(thread)
    if thread.state != THREAD_WAITING:
        thread.enter_state(THREAD_WAITING)
    unwind(kernel, thread, fault)


def _resume(kernel: "Kernel", thread: "Thread", fault: CallError) -> None:
    processor = thread.processor
    if processor is None:
        kernel.wake(thread, fault)
        return
    if thread.state == THREAD_RUNNING:
        thread.enter_state(THREAD_WAITING)
    thread.enter_state(THREAD_READY)
    thread.deliver(fault)
    if processor.context is not thread.domain:
        processor.load(thread.domain, thread.domain.pages_on_return)
    processor.resume_soon()
