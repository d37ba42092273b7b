"""Waiting and taking turns: queues of threads, spin locks, the memory bus and FIFO queues.

A lock's turn is settled on arrival. How long a processor holds a spin lock is known when it asks
for the lock, and nothing else of the machine is due earlier. First come, first served then means to
begin when those before are done, and the wait can be added to the processor's clock at once. So a
spinning processor needs no event, and a lock has no holder that could vanish when a domain
terminates. The memory bus and the FIFO queues of network processors and wires work alike.
"""

from collections import deque
from typing import TYPE_CHECKING

from lrpc.kernel.errors import CallError
from lrpc.kernel.random import Stream
from lrpc.kernel.simulated.charges import Path

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.scheduler import Scheduler
    from lrpc.kernel.simulated.threads import Thread


class WaitQueue:
    """Threads that wait for one thing, first come, first served.

    A thread that is woken owns what it waited for, though it resumes only once it has a processor.
    `woken` counts such threads, so that the thing's owner gives what is theirs to no thread that
    arrives in between.
    """

    def __init__(self, kernel: "Scheduler", what: str) -> None:
        self.kernel = kernel
        self.what = what  # what they wait for, in reports of a deadlock
        self.waits = 0  # so far
        self._woken: set[Thread] = set()  # those that have not resumed yet
        self._threads: deque[Thread] = deque()

    @property
    def woken(self) -> int:
        """Return how many threads have been woken and have not resumed yet."""
        return len(self._woken)

    @property
    def waiting(self) -> bool:
        """Return whether any thread waits to be woken."""
        return len(self._threads) > 0

    def wait(self) -> None:
        """Block the running thread until it is woken.

        Raises the error that `fail_all` gave, if it did.
        """
        thread = self.kernel.running_thread()
        self.waits += 1
        self._threads.append(thread)
        thread.queue = self
        fault = self.kernel.block(self.what)
        thread.queue = None
        self._woken.discard(thread)
        if fault is not None:
            raise fault

    def wake_one(self) -> None:
        """Wake the thread that has waited longest, if any waits."""
        if self._threads:
            thread = self._threads.popleft()
            self._woken.add(thread)
            self.kernel.wake(thread)

    def wake_all(self) -> None:
        """Wake every waiting thread."""
        while self._threads:
            self.wake_one()

    def fail_all(self, fault: CallError) -> None:
        """Wake every waiting thread with a copy of `fault`, in place of what it waits for."""
        while self._threads:
            self.kernel.wake(self._threads.popleft(), fault.copy())

    def leave_all(self, domain: "ProtectionDomain") -> None:
        """Remove a domain's threads, which will not resume, before others are woken."""
        for thread in [one for one in self._threads if one.domain is domain]:
            self.leave(thread)
        for thread in sorted((one for one in self._woken if one.domain is domain), key=lambda one: one.number):
            self.leave(thread)

    def leave(self, thread: "Thread") -> None:
        """Remove a thread that will not resume; if it was woken, wake the next in its place."""
        thread.queue = None
        if thread in self._woken:
            self._woken.discard(thread)
            self.wake_one()
        elif thread in self._threads:
            self._threads.remove(thread)


class SpinLock:
    """A lock that processors spin for, first come, first served.

    Each holds it for a time that is known when it asks.
    """

    def __init__(self) -> None:
        self.acquisitions = 0
        self._free_at = 0

    def hold(self, processor: "Processor", path: Path) -> None:
        """Spin until the lock is free, then hold it for as long as the steps of `path` cost."""
        processor.checkpoint()
        self.take(processor, path)

    def take(self, processor: "Processor", path: Path) -> None:
        """Do what `hold` does past its checkpoint."""
        self.acquisitions += 1
        wait = self._free_at - processor.clock
        if wait > 0:
            processor.lock_wait_ns += wait
            processor.clock += wait
        processor.spend(path)
        self._free_at = processor.clock

    def is_free(self, now: int) -> bool:
        """Return whether a processor that asks at `now` gets the lock at once."""
        return self._free_at <= now

    def held_again(self, until: int) -> None:
        """Note that one processor has had the lock twice, since nobody else asked; last `until`."""
        self.acquisitions += 2
        self._free_at = until


class MemoryBus:
    """The memory bus that the processors of a machine share, first come, first served.

    Several steps occupy the bus for a part of their cost: misses of a translation buffer, linkages,
    copies. A processor takes the bus for all that it has done since the last time at once, where
    its thread could yield. That time is drawn from an exponential distribution: processors that
    took equal times would fall into step, and never meet. While no other processor has a thread,
    nobody is met, and the mean is taken.
    """

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._free_at = 0

    def take(self, processor: "Processor", mean: int) -> None:
        """Occupy the bus once it is free, for about `mean` ns."""
        processor.due_ns = mean
        processor.checkpoint()
        processor.due_ns = 0
        drawn = mean
        if not processor.kernel.dispatcher.others_idle:
            wait = self._free_at - processor.clock
            if wait > 0:
                processor.bus_wait_ns += wait
                processor.clock += wait
            drawn = self._stream.exponential(mean)
        processor.bus_ns += drawn
        processor.bus_mean_ns += mean
        processor.clock += drawn
        self._free_at = processor.clock


class FifoQueue:
    """A resource that serves one request at a time, first come, first served. All times are in ns.

    Requests must be made in the order of their times, and each says how long it takes.
    """

    def __init__(self) -> None:
        self.served = 0
        self.bytes = 0
        self.busy_ns = 0  # spent serving
        self.wait_ns = 0  # that requests waited for their turn
        self._free_at = 0

    def serve(self, now: int, takes: int, size: int) -> int:
        """Queue a request at `now` that takes `takes` ns; return the time when it is done.

        `size` is its bytes, which are only counted.
        """
        begins = max(now, self._free_at)
        self.served += 1
        self.bytes += size
        self.busy_ns += takes
        self.wait_ns += begins - now
        self._free_at = begins + takes
        return self._free_at
