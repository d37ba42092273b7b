"""Threads: chains of greenlets joined by linkages, one greenlet for each domain that a thread has a call in."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from greenlet import greenlet

from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.locks import WaitQueue
from lrpc.kernel.states import ThreadState, follow

if TYPE_CHECKING:
    from lrpc.kernel.simulated.astacks import Linkage
    from lrpc.kernel.simulated.kernel import Domain, Kernel


class Outstanding(Protocol):
    """A call by messages that a thread waits for, on this machine or another."""

    def abandon(self) -> None:
        """Expect no reply any more; one that comes is dropped."""


class Thread:
    """A simulated thread. `domain` is where it runs now, `home` where it began."""

    def __init__(self, kernel: "Kernel", number: int, name: str, home: "Domain") -> None:
        self.kernel = kernel
        self.number = number
        self.name = name
        self.home = home
        self.domain = home
        self.state = ThreadState.WAITING
        self.linkages: list[Linkage] = []  # calls in progress, the innermost last
        self.outstanding: Outstanding | None = None
        self.serves = False  # a server's own thread, which may wait for ever
        self.greenlet: greenlet | None = None  # where it goes on; None before its first step
        self.body: Callable[[], None] | None = None
        self.waits_for = "its start"
        self.ready_at = 0
        self.successor: Thread | None = None  # who goes on for its caller, once a server has captured it
        self._delivered: CallError | None = None
        self._ended = WaitQueue(kernel, f"thread {name} to end")

    def __str__(self) -> str:
        return f"thread {self.name} of domain {self.home.name}"

    def become(self, state: ThreadState) -> None:
        """Enter `state`; a panic where that may not follow."""
        self.state = follow(self.state, state)

    def deliver(self, error: CallError | None) -> None:
        """Leave what the thread finds when it goes on."""
        self._delivered = error

    def take_delivery(self) -> CallError | None:
        """Return what was left for the thread, once."""
        error, self._delivered = self._delivered, None
        return error

    def go_on(self) -> None:
        """Continue where the thread stood, or begin it; called by the engine's loop."""
        if self.greenlet is None:
            self.greenlet = greenlet(self._run, self.kernel.engine.loop)
        if self.state is not ThreadState.RUNNING:
            self.become(ThreadState.RUNNING)
        self.greenlet.switch(self.take_delivery())

    def join(self) -> None:
        """Make the running thread wait until this one has ended, or whoever went on for it."""
        if self.state is not ThreadState.ENDED and self.successor is None:
            self._ended.wait()
        if self.successor is not None:
            self.successor.join()

    def replace(self, successor: "Thread") -> None:
        """Let `successor` go on for this thread's caller; those who join this one join that one."""
        self.successor = successor
        self._ended.wake_all()

    def end(self) -> None:
        """Be over; the processor is given up by the kernel."""
        self.become(ThreadState.ENDED)
        if self.successor is None:
            self._ended.wake_all()

    def _run(self, _: object) -> None:
        assert self.body is not None
        self.kernel.run_body(self, self.body)
