"""Invariants of a kernel when none of its threads runs, and of one whose calls have ended."""

from collections import Counter
from collections.abc import Collection, Iterator
from itertools import pairwise

from lrpc.kernel.simulated.astacks import AStack, AStackGroup, Linkage
from lrpc.kernel.simulated.bindings import Binding, ClerkThread
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.memory import Region
from lrpc.kernel.simulated.message_passing import Message, Port
from lrpc.kernel.simulated.threads import Stack, Thread
from lrpc.kernel.states import (
    ASTACK_FREE,
    ASTACK_QUARANTINED,
    ASTACK_TAKEN,
    BINDING_BOUND,
    LINKAGE_ABANDONED,
    LINKAGE_ABORTED,
    LINKAGE_CALLING,
    LINKAGE_FREE,
    THREAD_ENDED,
    THREAD_READY,
    THREAD_RUNNING,
    THREAD_WAITING,
)


def assert_sound(kernel: Kernel, raw: Collection[ProtectionDomain] = ()) -> None:
    """Check every invariant of a kernel none of whose threads runs.

    `raw` are clients that have called on A-stacks they had not taken.
    """
    assert kernel.processor is None
    _processors_are_consistent(kernel)
    for thread in kernel.threads:
        _thread_is_consistent(kernel, thread)
    _linkages_have_one_owner(kernel, raw)
    for binding in kernel.bindings.values():
        _binding_is_consistent(kernel, binding, raw)
    for domain in _domains(kernel):
        _estacks_are_consistent(kernel, domain, raw)
        _memory_is_what_bindings_need(kernel, domain)
    for name, port in kernel.ports.items():
        _port_is_consistent(kernel, name, port)
    for export in kernel.exports.values():
        _clerk_is_consistent(kernel, export.clerk_thread)
    _names_are_of_the_living(kernel)


def assert_nothing_left(kernel: Kernel, raw: Collection[ProtectionDomain] = ()) -> None:
    """Check that a finished kernel holds no call, no thread and no revoked binding."""
    assert_sound(kernel, raw)
    assert [str(thread) for thread in kernel.waiting()] == []
    assert all(thread.serves for thread in kernel.threads)
    assert kernel.calls_in_progress() == 0
    for binding in kernel.bindings.values():
        assert binding.state == BINDING_BOUND, f"binding {binding.number} has been revoked"
        assert all(group.free_count == len(group.members) for group in binding.pools), binding.name
    for port in kernel.ports.values():
        assert port.buffers.free_count == len(port.buffers.members), port.export.name
    for domain in _domains(kernel):
        assert all(estack.idle for estack in domain.estacks.members), str(domain)


def assert_time_is_charged(kernel: Kernel) -> None:
    """Check that processors were busy for what was charged, what was computed, and waiting.

    No thread may have a processor, and no step's cost may be a fraction of a nanosecond.
    """
    ones = kernel.processors
    assert all(one.thread is None for one in ones)
    charged = sum(count * ns for count, ns in zip(kernel.charges.counts(), kernel.costs.ns, strict=True))
    waited = sum(one.lock_wait_ns + one.bus_wait_ns + one.bus_ns - one.bus_mean_ns for one in ones)
    computed = sum(one.own_ns for one in ones)
    sent = sum(one.sent_ns for one in ones)
    assert sum(one.busy_ns for one in ones) + sent == charged + computed + waited


def _processors_are_consistent(kernel: Kernel) -> None:
    """Check that threads and processors match one to one, and none idles while one is ready."""
    idle, ready = kernel.dispatcher._idle, kernel.dispatcher.queue
    without = [processor.number for processor in kernel.processors if processor.thread is None]
    assert sorted(processor.number for processor in idle) == without
    for processor in kernel.processors:
        if processor.thread is not None:
            assert processor.thread.processor is processor
            assert processor.thread in kernel.threads
    assert not (idle and ready)
    assert len(set(ready)) == len(ready)
    assert all(thread in kernel.threads and thread.state == THREAD_READY for thread in ready)


def _thread_is_consistent(kernel: Kernel, thread: Thread) -> None:
    """Check that a thread is in a live domain, at the place that its state says."""
    assert thread.state != THREAD_ENDED, str(thread)
    assert thread.domain.live, f"{thread} is in {thread.domain}, which has terminated"
    assert thread.home.live or thread.linkages, f"{thread} continues though its domain has terminated"
    has, queued = thread.processor is not None, thread in kernel.dispatcher.queue
    if thread.state == THREAD_WAITING:
        assert not has
        assert not queued
    elif thread.state == THREAD_READY:
        assert has != queued
    else:
        assert thread.state == THREAD_RUNNING
        assert has
    if thread.outstanding is not None:
        assert thread.state == THREAD_WAITING
    where = thread.home
    for depth, linkage in enumerate(thread.linkages):
        assert linkage.thread is thread
        assert linkage.binding.client is where
        if depth == 0 and thread.successor is not None:
            assert linkage.state in (LINKAGE_ABORTED, LINKAGE_ABANDONED)
        if linkage.state == LINKAGE_ABORTED:
            assert depth == 0
            assert thread.successor is not None
        else:
            assert linkage.state == (LINKAGE_CALLING if where.live else LINKAGE_ABANDONED)
        where = linkage.binding.server
    for outer, inner in pairwise(thread.linkages):  # who is alive waits for nobody beyond a dead server
        assert outer.state != LINKAGE_CALLING or inner.state != LINKAGE_ABANDONED
    assert thread.domain is where


def _linkages_have_one_owner(kernel: Kernel, raw: Collection[ProtectionDomain]) -> None:
    """Check that a busy linkage is on one thread's stack, and no two threads share a stack."""
    owned = Counter(linkage for thread in kernel.threads for linkage in thread.linkages)
    assert all(count == 1 for count in owned.values())
    busy = {astack.linkage for astack in _astacks(kernel) if astack.linkage.state != LINKAGE_FREE}
    assert busy <= set(owned)
    for linkage in set(owned) - busy:  # called on an A-stack that was not taken
        assert linkage.binding.client in raw
        assert linkage.state != LINKAGE_FREE
    stacks = Counter(thread.stack for thread in kernel.threads)
    stacks.update(linkage.caller for linkage in owned if linkage.state == LINKAGE_CALLING and linkage.caller)
    assert all(count == 1 for count in stacks.values())


def _binding_is_consistent(kernel: Kernel, binding: Binding, raw: Collection[ProtectionDomain]) -> None:
    """Check that a binding is bound or has A-stacks in use, and its count of bytes."""
    if binding.fault is None:
        assert binding.state == BINDING_BOUND
        assert kernel.grants[binding.number] is binding
    else:
        assert binding.number not in kernel.grants
        assert any(group.free_count < len(group.members) for group in binding.pools)
    assert binding.bytes == sum(region.limit - region.base for region in _regions(binding))
    for group in binding.pools:
        _group_is_consistent(kernel, group)
        for astack in group.members:
            _astack_is_consistent(kernel, astack, binding.client in raw)


def _group_is_consistent(kernel: Kernel, group: AStackGroup) -> None:
    """Check that the queue has each free A-stack once, and no thread waits needlessly."""
    assert Counter(group._free) == Counter(astack for astack in group.members if astack.state == ASTACK_FREE)
    assert len(group.members) == group._primary * (group.grown + 1)
    waiting, woken = group.waiting._threads, group.waiting._woken
    assert all(thread.queue is group.waiting for thread in (*waiting, *woken))
    assert all(thread.state == THREAD_WAITING for thread in waiting)
    assert all(thread.state in (THREAD_READY, THREAD_RUNNING) for thread in woken)
    assert set(waiting) | woken <= kernel.threads
    if waiting:
        assert group.fault is None
        assert group.free_count <= len(woken), group.waiting.what
    assert group.fault is not None or len(woken) <= group.free_count


def _astack_is_consistent(kernel: Kernel, astack: AStack, raw: bool) -> None:
    """Check that the states of an A-stack and its linkage match, except for `raw` clients."""
    state, linkage = astack.state, astack.linkage
    if state == ASTACK_QUARANTINED:
        assert linkage.state == LINKAGE_ABORTED
    elif state == ASTACK_FREE:
        assert linkage.state == LINKAGE_FREE or raw
        assert (astack.argument_segment, astack.result_segment) == (None, None) or raw
    else:
        assert state == ASTACK_TAKEN
        assert linkage.state != LINKAGE_ABORTED or raw
        if linkage.state == LINKAGE_FREE:
            assert astack.taker in kernel.threads, "taken by a thread that has ended"
            assert astack.taker.domain is linkage.binding.client


def _estacks_are_consistent(kernel: Kernel, domain: ProtectionDomain, raw: Collection[ProtectionDomain]) -> None:
    """Check that a live domain has an E-stack for each call in it, idle ones up to its limit.

    A domain that has ended has none.
    """
    members = domain.estacks.members
    if not domain.live:
        assert members == []
        return
    used = dict(_calls_in(kernel, domain))
    busy = [estack for estack in members if not estack.idle]
    assert Counter(busy) == Counter(used.keys())
    assert len(members) <= max(domain.estacks.limit, len(busy))
    for estack in members:
        assert not estack.dead
        assert estack.astack is None or estack.astack.estack is estack
        if not estack.idle and used[estack].binding.client not in raw:
            assert estack.astack is used[estack].astack


def _memory_is_what_bindings_need(kernel: Kernel, domain: ProtectionDomain) -> None:
    """Check that only the A-stacks and segments of a domain's bindings are mapped to it."""
    needed = [
        region
        for binding in kernel.bindings.values()
        for side in (binding.client, binding.server)
        if side is domain
        for region in _regions(binding)
    ]
    needed += [region for port in kernel.ports.values() for region in port.buffers.mapped(domain)]
    assert domain.memory._regions == sorted(needed, key=lambda region: region.base), str(domain)


def _port_is_consistent(kernel: Kernel, name: str, port: Port) -> None:
    """Check that a port's concrete threads are idle or have a message each.

    Each thread that waits for a reply has a message at its port, and nobody waits for a buffer that
    is free or could be made.
    """
    assert kernel.exports[name] is port.export
    assert port.export.domain.live
    buffers = port.buffers
    idle, one = [], port._next_idle
    while one is not None:
        idle.append(one)
        one = one.next_idle
    assert all(one.thread.state == THREAD_WAITING and one.thread.serves for one in idle)
    assert {one.thread for one in port.servers} <= kernel.threads
    assert all(one.thread.concrete is one for one in port.servers)
    assert len(port.servers) == max(descriptor.simultaneous for descriptor in port.descriptors)
    assert Counter(idle) == Counter(one for one in port.servers if one.message is None)
    assert not (idle and port._messages)
    assert len(buffers.free) == buffers.free_count
    in_use = [message.buffer for message in (*port._messages, *port.in_service())]
    assert all(buffer in buffers.members and buffer not in buffers.free for buffer in in_use)
    room = buffers.most - len(buffers.members) + buffers.free_count
    assert not buffers.waiting.waiting or room <= buffers.waiting.woken, name
    senders = {thread: thread.outstanding for thread in kernel.threads if isinstance(thread.outstanding, Message)}
    for message in (*port._messages, *port.in_service()):
        assert message.sender is None or senders[message.sender] is message


def _clerk_is_consistent(kernel: Kernel, clerk: ClerkThread) -> None:
    """Check that a clerk waits in its domain, or decides, and that its importers wait for it."""
    assert clerk.thread.serves
    assert clerk.thread in kernel.threads or clerk.thread.successor is not None
    waiting = [*clerk.imports] if clerk.deciding is None else [clerk.deciding, *clerk.imports]
    if clerk.idle:
        assert waiting == []
        assert clerk.thread.state == THREAD_WAITING
        assert clerk.thread.domain is clerk.thread.home is clerk.export.domain
    assert clerk._timer is None or clerk.deciding is not None
    for one in waiting:
        assert one.importer is None or one.importer.outstanding is one


def _names_are_of_the_living(kernel: Kernel) -> None:
    """Check that names and numbers lead to live domains, and awaited messages are at a port."""
    assert all(domain.live and domain.name == name for name, domain in kernel.domains.items())
    assert all(export.domain.live for export in kernel.exports.values())
    for grant in kernel.grants.values():
        assert grant.client.live
        assert grant.export is None or kernel.exports[grant.name] is grant.export
    kept = {id(message) for port in kernel.ports.values() for message in (*port._messages, *port.in_service())}
    for thread in kernel.threads:
        assert not isinstance(thread.outstanding, Message) or id(thread.outstanding) in kept, str(thread)


def _domains(kernel: Kernel) -> set[ProtectionDomain]:
    """Return the live domains, and the ended ones that still take part in a call or a binding."""
    found = set(kernel.domains.values())
    for binding in kernel.bindings.values():
        found |= {binding.client, binding.server}
    for thread in kernel.threads:
        found |= {thread.home, *(linkage.binding.server for linkage in thread.linkages)}
    return found


def _astacks(kernel: Kernel) -> Iterator[AStack]:
    for binding in kernel.bindings.values():
        for group in binding.pools:
            yield from group.members


def _regions(binding: Binding) -> Iterator[Region]:
    yield from binding._regions
    for group in binding.pools:
        for astack in group.members:
            yield from (one for one in (astack.argument_segment, astack.result_segment) if one is not None)


def _calls_in(kernel: Kernel, domain: ProtectionDomain) -> Iterator[tuple[Stack, Linkage]]:
    """Yield the stack of each call in progress in a domain, and its linkage."""
    for thread in kernel.threads:
        stacks = [*(linkage.caller for linkage in thread.linkages[1:]), thread.stack]
        for linkage, stack in zip(thread.linkages, stacks, strict=False):
            if linkage.binding.server is domain:
                assert stack is not None
                yield stack, linkage
