"""Threads: chains of execution stacks, to which each call in progress adds one.

A thread begins on a stack of its home domain. Each LRPC call moves it to an E-stack of the server's
domain (estacks.py), and the call's linkage record says which stack it returns to. Because caller
and server have stacks of their own, a caller can be released from a call that its server keeps. The
caller's part of the chain then continues as a new thread, the successor. The captured thread keeps
the rest, and ends when the server returns. So do both parts where a domain ends in the middle of a
chain (termination.py).
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from greenlet import greenlet

from lrpc.kernel.errors import CallError
from lrpc.kernel.simulated.histogram import Histogram
from lrpc.kernel.simulated.locks import WaitQueue
from lrpc.kernel.states import THREAD_ENDED, THREAD_RUNNING, THREAD_WAITING, follow

if TYPE_CHECKING:
    from lrpc.kernel.simulated.astacks import Linkage
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.message_turns import ConcreteThread
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.scheduler import Scheduler

# Stacks of ended threads that are kept for others, of one machine or of all that a process runs.
MOST_SPARE: Final = 64


class Outstanding(Protocol):
    """A call by message that a thread waits for, on this machine or another."""

    def abandon(self) -> None:
        """Stop waiting for the reply; a late one is dropped."""


class Errand:
    """What a thread was made to do for another machine. This base class does nothing."""

    @property
    def name(self) -> str:
        """Return the thread's name."""
        return ""

    def receive(self, processor: "Processor") -> bool:
        """Do what comes before the thread needs a stack; return whether it may begin on one now.

        If it may not yet, the processor's next turn is scheduled, or the thread has ended.
        """
        return True

    def lost(self) -> None:
        """Tell the caller that its call is lost, since the server's domain has terminated."""


class Stack:
    """An execution stack: a greenlet, and the bound method that switches to it."""

    def __init__(self, run: Callable[..., None], loop: greenlet) -> None:
        self.greenlet = greenlet(run, loop)
        self.switch: Callable[..., object] = self.greenlet.switch

    def take_turn(self, fault: CallError | None) -> bool:
        """Do what its thread does in a turn in which it finds `fault`, if that needs no stack.

        The greenlet of whoever had the processor before is left alone then: return whether so. If
        not, the caller switches to the thread's stack.
        """
        return False


class ThreadStack(Stack):
    """The stack that a thread begins on. When the thread ends, another begins on the same stack.

    Stacks are reused because making one takes the operating system's help. Machines that one thread
    of the process runs may share them.
    """

    def __init__(self, kernel: "Scheduler") -> None:
        super().__init__(self._run, kernel.engine.loop)
        self.thread: Thread | None = None  # the one that begins on it next

    def _run(self, _: object) -> None:
        while True:
            thread, self.thread = self.thread, None
            assert thread is not None
            kernel = thread.kernel
            thread.run()
            del thread
            if len(kernel.spare_stacks) >= MOST_SPARE:
                return
            kernel.spare_stacks.append(self)
            loop = kernel.engine.loop
            del kernel
            loop.switch()


class TurnStack(Stack):
    """Stands for a thread's own stack for as long as its turns need none."""

    def __init__(self, thread: "Thread") -> None:
        self.thread = thread
        self._own = thread.stack
        self.greenlet = self._own.greenlet
        self.switch = self._own.switch

    def give_way(self) -> None:
        """Let the thread's own stack take its turns again."""
        self.thread.stack = self._own


class RepeatedStack(TurnStack):
    """Stands for the stack of a thread whose stub makes equal calls, one after the other.

    `unpack` checks results, which nobody else reads; None where there are none.
    """

    def __init__(
        self,
        thread: "Thread",
        arguments: bytes,
        unpack: Callable[[bytes, int], object] | None,
        latencies: Histogram,
    ) -> None:
        super().__init__(thread)
        self._arguments = arguments
        self._unpack = unpack
        self._latencies = latencies
        self._left = 0  # calls, the present one among them
        self._since = 0  # when the present call began, in ns
        self._error: Exception | None = None  # which a call raised

    def _count(self, results: bytes, now: int) -> None:
        """Check the results of the present call, and count it."""
        counts = self.thread.kernel.counts
        counts.result_bytes += len(results)
        if self._unpack is not None:
            self._unpack(results, 0)
        counts.argument_bytes += len(self._arguments)
        self._latencies.add(now - self._since)
        self._left -= 1


class Thread:
    """A simulated thread. `home` is the domain where it began, `domain` where it runs now."""

    def __init__(
        self,
        kernel: "Scheduler",
        number: int,
        name: str | Errand,
        home: "ProtectionDomain",
        body: Callable[[], None],
    ) -> None:
        self.kernel = kernel
        self.number = number
        self._name = name  # or what has one, which is made where somebody asks
        self.home = home
        self.domain = home
        self.state = THREAD_WAITING
        self.innermost: Linkage | None = None  # the top of its linkage stack
        self.outstanding: Outstanding | None = None  # its call by message, if it waits for one
        self.queue: WaitQueue | None = None  # the queue it waits in, or was woken from
        self.processor: Processor | None = None  # set by `Processor.attach` and `release` alone
        self.serves = False  # a server's own thread, which may wait for ever
        self.concrete: ConcreteThread | None = None  # what it serves a port as, if it does
        self.quantum_ns = kernel.quantum_ns  # after which it gives its processor to a ready thread; 0 for never
        begins_on = kernel.spare_stacks.pop() if kernel.spare_stacks else ThreadStack(kernel)
        begins_on.thread = self
        self.stack: Stack = begins_on  # the stack of its chain that it is on
        self.begun = False
        self.waits_for = "its start"
        self.waits = 0  # so far, so that a timer set for an earlier wait does not end this one
        self.ready_at = 0
        self.next_ready: Thread | None = None  # the one behind it, while it is ready and has no processor
        # The thread that continues for this one's caller, once a server has captured this one, or
        # a domain in the middle of its chain has ended.
        self.successor: Thread | None = None
        # The call of another machine that it was made to serve: the machine's rank << 32, and the
        # number as the event log has it; 0 for any other thread.
        self.serves_call = 0
        self.service: Errand | None = None  # while the call of another machine has no reply yet
        self._body = body
        self._delivered: CallError | None = None
        self._ended: WaitQueue | None = None  # made by whoever waits for it first

    @property
    def name(self) -> str:
        """Return its name, for people."""
        return self._name if isinstance(self._name, str) else self._name.name

    def __str__(self) -> str:
        return f"thread {self.name} of domain {self.home.name}"

    @property
    def linkages(self) -> list["Linkage"]:
        """Return the linkages of its calls in progress, the innermost last."""
        found: list[Linkage] = []
        linkage = self.innermost
        while linkage is not None:
            found.append(linkage)
            linkage = linkage.outer
        found.reverse()
        return found

    def enter_state(self, state: int) -> None:
        """Enter `state`. Raises `Panic` where it may not follow the present state."""
        self.state = follow(self.state, state)

    def wait_for(self, what: str) -> None:
        """Begin to wait for something, which is named should the run report a deadlock."""
        self.enter_state(THREAD_WAITING)
        self.waits_for = what
        self.waits += 1

    def deliver(self, error: CallError | None) -> None:
        """Leave an error, or None, for the thread to find when it resumes."""
        self._delivered = error

    def resume(self) -> CallError | None:
        """Begin to run, or go on; return the error that was delivered, or None.

        The caller has the stack take the thread's turn, or switches to it.
        """
        if self.state != THREAD_RUNNING:
            self.enter_state(THREAD_RUNNING)
        self.begun = True
        error, self._delivered = self._delivered, None
        return error

    def spare_stack(self) -> None:
        """Give back the stack of a thread that ends without having begun on it."""
        stack = self.stack
        assert isinstance(stack, ThreadStack)
        stack.thread = None
        if len(self.kernel.spare_stacks) < MOST_SPARE:
            self.kernel.spare_stacks.append(stack)

    def join(self) -> None:
        """Block the running thread until this one has ended, or the last of its successors.

        Returns at once if this thread's home domain has terminated.
        """
        if self.state != THREAD_ENDED and self.successor is None and self.home.live:
            if self._ended is None:
                self._ended = WaitQueue(self.kernel, f"thread {self.name} to end")
            self._ended.wait()
        if self.successor is not None:
            self.successor.join()

    def replace(self, successor: "Thread") -> None:
        """Hand this thread's caller, or one of its callers, over to `successor`.

        Threads that join this one then join the successor, and after it whoever was joined before.
        """
        successor.successor, self.successor = self.successor, successor
        self._wake_joining()

    def stop_waiting(self) -> None:
        """Cancel what this thread waits for, so that none of it wakes the thread later."""
        self.waits += 1
        if self.queue is not None:
            self.queue.leave(self)
        if self.outstanding is not None:
            self.outstanding.abandon()
            self.outstanding = None

    def report_lost(self) -> None:
        """Tell those who wait for this thread that its home domain has terminated.

        The thread itself may still have a call in another domain.
        """
        if self.service is not None:
            self.service.lost()
            self.service = None
        self._wake_joining()

    def end(self) -> None:
        """Enter the ended state and wake those who join; the scheduler reassigns the processor."""
        self.enter_state(THREAD_ENDED)
        if self.successor is None:
            self._wake_joining()

    def _wake_joining(self) -> None:
        if self._ended is not None:
            self._ended.wake_all()

    def run(self) -> None:
        """Run the body from beginning to end. Called on the stack that the thread begins on."""
        self.kernel.run_body(self, self._body)
