"""The end of a protection domain: whoever called it is told, nobody hangs, and everything it held is collected."""

from typing import TYPE_CHECKING

from lrpc.kernel.errors import CallError, CallFailed
from lrpc.kernel.simulated.log import FAIL, TERMINATE
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
    """Return the error for whoever deals with a domain that has terminated."""
    return CallFailed(f"{domain} has terminated; import what it exported from another domain")


def terminate(kernel: "Kernel", domain: "ProtectionDomain") -> None:
    """End a domain, whatever calls are in it, out of it and through it; does not return to a caller that ran in it."""
    kernel.refuse_if_reaping()
    if not domain.live:
        return
    domain.state = follow(domain.state, DOMAIN_TERMINATED)
    kernel.log.add(kernel.now_ns, TERMINATE, domain.number, 0)
    del kernel.domains[domain.name]
    fault = terminated_error(domain)
    here = None if kernel.processor is None else kernel.running_thread()
    ran_here = here is not None and here.domain is domain
    for name in [name for name, export in kernel.exports.items() if export.domain is domain]:
        del kernel.exports[name]
        port = kernel.ports.pop(name, None)
        if port is not None:
            port.close(fault)
    for thread in sorted(kernel.threads, key=lambda thread: thread.number):
        _abandon_calls_from(kernel, domain, thread)
        if thread.domain is domain:
            _send_back(kernel, thread, fault)
    for grant in list(kernel.grants.values()):
        if grant.client is domain or (grant.export is not None and grant.export.domain is domain):
            kernel.revoke_grant(grant, fault)
    for binding in list(kernel.bindings.values()):  # also those revoked before
        if binding.client is domain:
            binding.reclaim()
    for estack in list(domain.estacks.members):
        domain.estacks.drop(estack)
    if ran_here:
        kernel.switch_away()


def unwind(kernel: "Kernel", thread: "Thread", fault: CallError) -> None:
    """Have a thread that left a server go on at its innermost caller whose domain is left, or end where there is none.

    It has its processor still, or waits.
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
    """Free a linkage, and its A-stack where no client stub is left to give that back."""
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


def _send_back(kernel: "Kernel", thread: "Thread", fault: CallError) -> None:
    """Have a thread leave where it runs, waits or is about to run: in a domain that has terminated."""
    kernel.reap_soon(thread.stack)
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
