"""Waiting, written once: threads that wait for a resource, and who takes turns at a lock, the bus or a facility."""

from collections import deque
from typing import TYPE_CHECKING

from lrpc.kernel.errors import CallError
from lrpc.kernel.random import Stream
from lrpc.kernel.simulated.charges import Path

if TYPE_CHECKING:
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.scheduler import Scheduler
    from lrpc.kernel.simulated.threads import Thread


class WaitQueue:
    """Threads that wait for one thing, first come first served.

    Who is woken has what it waited for, though it goes on only when it gets a processor: the thing asks `woken` so as
    to give it to nobody who comes in between.
    """

    def __init__(self, kernel: "Scheduler", what: str) -> None:
        self.kernel = kernel
        self.what = what  # what they wait for, for reports of why a run cannot go on
        self.waits = 0
        self._woken: set[Thread] = set()  # those that have not gone on yet
        self._threads: deque[Thread] = deque()

    @property
    def woken(self) -> int:
        """Return how many have been woken and have not gone on yet."""
        return len(self._woken)

    @property
    def waiting(self) -> bool:
        """Return whether any thread has yet to be woken."""
        return len(self._threads) > 0

    def wait(self) -> None:
        """Block the running thread until it is woken; raises what `fail_all` gave instead."""
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
        """Let the thread that has waited longest go on."""
        if self._threads:
            thread = self._threads.popleft()
            self._woken.add(thread)
            self.kernel.wake(thread)

    def wake_all(self) -> None:
        """Let every waiting thread go on."""
        while self._threads:
            self.wake_one()

    def fail_all(self, fault: CallError) -> None:
        """Let every waiting thread go on with an error in place of what it waits for."""
        while self._threads:
            self.kernel.wake(self._threads.popleft(), fault.copy())

    def leave(self, thread: "Thread") -> None:
        """Forget a thread that will not go on; what it was woken for goes to the next."""
        thread.queue = None
        if thread in self._woken:
            self._woken.discard(thread)
            self.wake_one()
        elif thread in self._threads:
            self._threads.remove(thread)


class SpinLock:
    """A lock for which processors spin, first come first served, and that each holds for a time known when it comes.

    So its turn is settled as it comes: nothing of the machine's is due before its clock, and it holds the lock from
    when those before it are done.
    """

    def __init__(self) -> None:
        self.acquisitions = 0
        self._free_at = 0

    def hold(self, processor: "Processor", path: Path) -> None:
        """Spin until the lock is free, and hold it for what the steps of `path` cost."""
        processor.checkpoint()
        self.acquisitions += 1
        wait = self._free_at - processor.clock
        if wait > 0:
            processor.lock_wait_ns += wait
            processor.clock += wait
        processor.spend(path)
        self._free_at = processor.clock


class MemoryBus:
    """The memory bus that the processors of a machine share, first come first served.

    Each miss of a translation buffer occupies it for a part of what it costs. How long several in a row do is drawn
    from an exponential distribution, since processors that all took equal times would fall into step and never meet.
    """

    def __init__(self, ps_per_miss: int, stream: Stream) -> None:
        self._ps_per_miss = ps_per_miss
        self._stream = stream
        self._free_at = 0

    def fetch(self, processor: "Processor", misses: int) -> None:
        """Spend what `misses` cost: the bus's part when it is free, and the rest before that."""
        mean = misses * self._ps_per_miss // 1000
        processor.clock += processor.charges.misses(misses) - mean
        processor.checkpoint()
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
    """Serves one at a time, first come first served, and each for a time known when it comes. All times are in ns.

    Whoever asks for it does so in order of time, so its turn is settled as it comes.
    """

    def __init__(self) -> None:
        self.served = 0
        self.bytes = 0
        self.busy_ns = 0
        self.wait_ns = 0  # of those served, before their turn
        self._free_at = 0

    def serve(self, now: int, takes: int, size: int) -> int:
        """Serve who comes at `now` with `size` bytes, once those before are done; return when that is over."""
        begins = max(now, self._free_at)
        self.served += 1
        self.bytes += size
        self.busy_ns += takes
        self.wait_ns += begins - now
        self._free_at = begins + takes
        return self._free_at
