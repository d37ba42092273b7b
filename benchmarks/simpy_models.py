"""SimPy models of a null call, for comparison with the kernel.

A model waits one timeout for each step that the kernel charges, in the same order; the TLB misses
after a switch are part of the switch. It takes an A-stack from a `simpy.Store` and puts it back,
and holds a `simpy.Resource` wherever the kernel holds a lock that others want. It moves no bytes,
checks nothing and logs nothing, and one process is both client and server. So a model does less
work than the kernel, which makes the comparison hard on the kernel.

`fewest_model` waits for as little as a model can: a lock's turn is a number, the time at which the
lock is free, and nobody waits for an A-stack, of which there are enough.

A call's timeouts are given as stretches, which are cut where the path meets something shared. A
model that merges each stretch into one timeout is the cheapest that still meets the others at the
same points.
"""

from collections.abc import Callable, Generator, Sequence
from typing import TYPE_CHECKING

from lrpc.kernel.descriptors import SIMULTANEOUS_CALLS
from lrpc.kernel.simulated.charges import Charges, Path

if TYPE_CHECKING:
    import simpy

Stretches = Sequence[Sequence[int]]  # ns of timeouts, cut where the path meets something shared
SimpySteps = Generator["simpy.Event", object, None]
# Takes the environment, the stretches of a call, the number of clients and the calls of each.
Model = Callable[["simpy.Environment", Stretches, int, int], list[SimpySteps]]


def lrpc_paths(charges: Charges) -> list[list[Path]]:
    """Return what an LRPC Null charges, as stretches.

    These are before the A-stack queue, under its lock, with an A-stack, and under the lock again.
    """
    held = [charges.call, charges.switch, charges.server_stub, charges.leave, charges.switch]
    return [[charges.client_stub], [charges.astack_queue], held, [charges.astack_queue]]


def lrpc_model(env: "simpy.Environment", stretches: Stretches, clients: int, calls: int) -> list[SimpySteps]:
    """Return one process per client; all share the A-stacks of one binding.

    A lock on their queue is modelled only where several clients can meet at it.
    """
    from simpy import Resource, Store

    astacks = Store(env)
    astacks.items.extend(range(SIMULTANEOUS_CALLS))
    if clients == 1:
        return [_lrpc_client(env, astacks, stretches, calls)]
    lock = Resource(env)
    return [_lrpc_client_among_others(env, astacks, lock, stretches, calls) for _ in range(clients)]


def _lrpc_client(env: "simpy.Environment", astacks: "simpy.Store", stretches: Stretches, calls: int) -> SimpySteps:
    before, queue, held, unqueue = stretches
    for _ in range(calls):
        for ns in (*before, *queue):
            yield env.timeout(ns)
        astack = yield astacks.get()
        for ns in (*held, *unqueue):
            yield env.timeout(ns)
        yield astacks.put(astack)


def _lrpc_client_among_others(
    env: "simpy.Environment", astacks: "simpy.Store", lock: "simpy.Resource", stretches: Stretches, calls: int
) -> SimpySteps:
    before, queue, held, unqueue = stretches
    for _ in range(calls):
        for ns in before:
            yield env.timeout(ns)
        with lock.request() as mine:
            yield mine
            for ns in queue:
                yield env.timeout(ns)
            astack = yield astacks.get()
        for ns in held:
            yield env.timeout(ns)
        with lock.request() as mine:
            yield mine
            for ns in unqueue:
                yield env.timeout(ns)
            yield astacks.put(astack)


def message_paths(charges: Charges) -> list[list[Path]]:
    """Return what a Null by message charges, as stretches.

    These are in turn outside the global lock and under it; the last is the switch that remains.
    """
    there = [charges.message_client_stub, charges.trap]
    back = [charges.switch, charges.message_dispatch, charges.trap]
    return [there, [charges.under_lock], back, [charges.under_lock], [charges.switch]]


def message_model(env: "simpy.Environment", stretches: Stretches, clients: int, calls: int) -> list[SimpySteps]:
    """Return one process per client; all share one global lock."""
    from simpy import Resource

    lock = Resource(env)
    return [_message_client(env, lock, stretches, calls) for _ in range(clients)]


def _message_client(env: "simpy.Environment", lock: "simpy.Resource", stretches: Stretches, calls: int) -> SimpySteps:
    there, sent, back, replied, rest = stretches
    legs = ((there, sent), (back, replied))
    for _ in range(calls):
        for outside, under_lock in legs:
            for ns in outside:
                yield env.timeout(ns)
            with lock.request() as held:
                yield held
                for ns in under_lock:
                    yield env.timeout(ns)
        for ns in rest:
            yield env.timeout(ns)


def fewest_model(env: "simpy.Environment", stretches: Stretches, clients: int, calls: int) -> list[SimpySteps]:
    """Return one process per client, with one timeout for each time that it asks for a lock.

    Every second stretch is under one lock of all clients, which a single client need not ask for.
    """
    assert clients <= SIMULTANEOUS_CALLS
    times = [sum(stretch) for stretch in stretches]
    if clients == 1:
        return [_alone(env, sum(times), calls)]
    free = [0]  # from when on nobody has the lock
    return [_with_fewest_events(env, free, times, calls) for _ in range(clients)]


def _alone(env: "simpy.Environment", call_ns: int, calls: int) -> SimpySteps:
    for _ in range(calls):
        yield env.timeout(call_ns)


def _with_fewest_events(env: "simpy.Environment", free: list[int], times: Sequence[int], calls: int) -> SimpySteps:
    legs = list(zip(times[::2], times[1::2], strict=False))  # before the lock, and under it
    rest = times[-1] if len(times) % 2 else 0
    due = 0  # when it asks for the lock next
    for _ in range(calls):
        for outside, under_lock in legs:
            due += outside
            yield env.timeout(due - env.now)
            due = free[0] = max(due, free[0]) + under_lock
        due += rest
    yield env.timeout(due - env.now)
