"""Waiting, written once: threads that wait for a resource, and processors that spin for a lock."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from greenlet import getcurrent

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.threads import Thread


class WaitQueue:
    """Threads that wait for one thing, first come first served; the thing only says whether a thread may proceed."""

    def __init__(self, kernel: "Kernel", what: str) -> None:
        self.kernel = kernel
        self.what = what  # what they wait for, for reports of why a run cannot go on
        self.waits = 0
        self._threads: deque[Thread] = deque()

    def wait_until(self, may_proceed: Callable[[], bool]) -> None:
        """Block the running thread until `may_proceed`; returns at once where it already may."""
        if not self._threads and may_proceed():
            return
        thread = self.kernel.running_thread()
        self.waits += 1
        self._threads.append(thread)
        self.kernel.block(self.what)
        while not may_proceed():  # someone who never had to wait came in between
            self._threads.appendleft(thread)
            self.kernel.block(self.what)

    def wake_one(self) -> None:
        """Let the thread that has waited longest look again."""
        if self._threads:
            self.kernel.wake(self._threads.popleft())

    def wake_all(self) -> None:
        """Let every waiting thread look again."""
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
