"""Waiting, written once: threads that wait for a resource, and processors that spin for a lock."""

from collections import deque
from typing import TYPE_CHECKING

from greenlet import getcurrent

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.threads import Thread


class WaitQueue:
    """Threads that wait for one thing, first come first served.

    Who is woken has what it waited for, though it goes on only when it gets a processor: the thing asks `woken` so as
    to give it to nobody who comes in between.
    """

    def __init__(self, kernel: "Kernel", what: str) -> None:
        self.kernel = kernel
        self.what = what  # what they wait for, for reports of why a run cannot go on
        self.waits = 0
        self.woken = 0  # threads that have not gone on yet
        self._threads: deque[Thread] = deque()

    def wait(self) -> None:
        """Block the running thread until it is woken."""
        self.waits += 1
        self._threads.append(self.kernel.running_thread())
        self.kernel.block(self.what)
        self.woken -= 1

    def wake_one(self) -> None:
        """Let the thread that has waited longest go on."""
        if self._threads:
            self.woken += 1
            self.kernel.wake(self._threads.popleft())

    def wake_all(self) -> None:
        """Let every waiting thread go on."""
        while self._threads:
            self.wake_one()


class SpinLock:
    """A lock for which processors spin, first come first served: a spinning processor does nothing else."""

    def __init__(self, kernel: "Kernel") -> None:
        self.kernel = kernel
        self.holder: Processor | None = None
        self.acquisitions = 0
        self.spun_ns = 0
        self._spinning: deque[Processor] = deque()

    def acquire(self) -> None:
        """Take the lock for the running processor."""
        processor = self.kernel.running_processor()
        processor.checkpoint()
        self.acquisitions += 1
        if self.holder is None:
            self.holder = processor
            return
        since = processor.clock
        self._spinning.append(processor)
        assert processor.thread is not None
        processor.thread.greenlet = getcurrent()
        processor.engine.loop.switch()
        self.spun_ns += processor.clock - since

    def release(self) -> None:
        """Hand the lock to the processor that has spun longest, or leave it free."""
        processor = self.kernel.running_processor()
        processor.checkpoint()
        self.holder = None
        if self._spinning:
            self.holder = successor = self._spinning.popleft()
            successor.clock = max(successor.clock, processor.clock)
            successor.engine.resume(successor.clock, successor.number, successor.resume)
