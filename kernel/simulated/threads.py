"""Threads: chains of stacks joined by linkages, one stack for each domain that a thread has a call in."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from greenlet import greenlet

from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.locks import WaitQueue
from lrpc.kernel.states import THREAD_ENDED, THREAD_RUNNING, THREAD_WAITING, follow

if TYPE_CHECKING:
    from lrpc.kernel.simulated.astacks import Linkage
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.message_passing import Port
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.scheduler import Scheduler

MOST_SPARE: Final = 32  # stacks of threads that have ended, of one machine


class Outstanding(Protocol):
    """A call by messages that a thread waits for, on this machine or another."""

    def abandon(self) -> None:
        """Expect no reply any more; one that comes is dropped."""


class Stack:
    """An execution stack: a greenlet, and how to switch to it."""

    def __init__(self, run: Callable[..., None], loop: greenlet) -> None:
        self.greenlet = greenlet(run, loop)
        self.switch: Callable[..., object] = self.greenlet.switch


class ThreadStack(Stack):
    """The stack that a thread begins on. It outlives it, and is another's then: to make one takes the system's help."""

    def __init__(self, kernel: "Scheduler") -> None:
        super().__init__(self._run, kernel.engine.loop)
        self.kernel = kernel
        self.thread: Thread | None = None  # that begins on it next

    def _run(self, _: object) -> None:
        spare = self.kernel.spare_stacks
        while True:
            thread, self.thread = self.thread, None
            assert thread is not None
            thread.run()
            del thread
            if len(spare) >= MOST_SPARE:
                return
            spare.append(self)
            self.kernel.engine.loop.switch()


class Thread:
    """A simulated thread. `domain` is where it runs now, `home` where it began."""

    def __init__(
        self, kernel: "Scheduler", number: int, name: str, home: "ProtectionDomain", body: Callable[[], None]
    ) -> None:
        self.kernel = kernel
        self.number = number
        self.name = name
        self.home = home
        self.domain = home
        self.state = THREAD_WAITING
        self.innermost: Linkage | None = None  # of its calls in progress, from which the others follow
        self.outstanding: Outstanding | None = None
        self.queue: WaitQueue | None = None  # where it waits
        self.processor: Processor | None = None
        self.serves = False  # a server's own thread, which may wait for ever
        self.port: Port | None = None  # whose concrete thread it is
        begins_on = kernel.spare_stacks.pop() if kernel.spare_stacks else ThreadStack(kernel)
        begins_on.thread = self
        self.stack: Stack = begins_on  # where it is: one of its chain
        self.begun = False
        self.waits_for = "its start"
        self.waits = 0  # so far, so that what would end an earlier one does not end this
        self.ready_at = 0
        self.successor: Thread | None = None  # who goes on for its caller, once a server has captured it
        self.on_lost: Callable[[], None] | None = None  # tells whoever waits for it that it will not come back
        self._body = body
        self._delivered: CallError | None = None
        self._ended = WaitQueue(kernel, f"thread {name} to end")

    def __str__(self) -> str:
        return f"thread {self.name} of domain {self.home.name}"

    @property
    def linkages(self) -> list["Linkage"]:
        """Return its calls in progress, the innermost last."""
        found: list[Linkage] = []
        linkage = self.innermost
        while linkage is not None:
            found.append(linkage)
            linkage = linkage.outer
        found.reverse()
        return found

    def become(self, state: int) -> None:
        """Enter `state`; a panic where that may not follow."""
        self.state = follow(self.state, state)

    def deliver(self, error: CallError | None) -> None:
        """Leave what the thread finds when it goes on."""
        self._delivered = error

    def resume(self) -> object:
        """Continue where the thread stood, or begin it; returns what the greenlet that called is given next."""
        if self.state != THREAD_RUNNING:
            self.become(THREAD_RUNNING)
        self.begun = True
        error, self._delivered = self._delivered, None
        return self.stack.switch(error)

    def join(self) -> None:
        """Make the running thread wait until this one has ended, or whoever went on for it."""
        if self.state != THREAD_ENDED and self.successor is None and self.home.live:
            self._ended.wait()
        if self.successor is not None:
            self.successor.join()

    def replace(self, successor: "Thread") -> None:
        """Let `successor` go on for this thread's caller; those who join this one join that one."""
        self.successor = successor
        self._ended.wake_all()

    def stop_waiting(self) -> None:
        """Have nothing wake this thread any more that it has waited for."""
        self.waits += 1
        if self.queue is not None:
            self.queue.leave(self)
        if self.outstanding is not None:
            self.outstanding.abandon()
            self.outstanding = None

    def report_lost(self) -> None:
        """Tell whoever waits for this thread that it will do no more, wherever it still has a call."""
        if self.on_lost is not None:
            self.on_lost()
            self.on_lost = None
        self._ended.wake_all()

    def end(self) -> None:
        """Be over; the processor is given up by the kernel."""
        self.become(THREAD_ENDED)
        if self.successor is None:
            self._ended.wake_all()

    def run(self) -> None:
        """Run its body from beginning to end, on the stack it begins on."""
        self.kernel.run_body(self, self._body)
