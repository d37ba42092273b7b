"""Time and threads of one machine: which thread runs, what it waits for, and what wakes it.

All threads of a machine run as greenlets in one operating-system thread, one at a time. A thread
that blocks or yields switches to the thread that is due next, or to the engine's loop where that is
due.

Stacks that must not resume, such as those of a terminated domain, are reaped: an exception unwinds
each of them while no thread runs, which frees its frames. Code on such a stack may catch that
exception and call the kernel. Every entry is refused then, the first time with an error. Code that
catches that too and calls again is never resumed.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, cast

from greenlet import getcurrent, greenlet

from lrpc.kernel.descriptors import DirectEntry, ProcedureDescriptor
from lrpc.kernel.errors import CallError, CallFailed, LeafEntered, Panic, RunFailed
from lrpc.kernel.random import Stream
from lrpc.kernel.simulated import log as events
from lrpc.kernel.simulated.charges import Charges
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.counts import Counts
from lrpc.kernel.simulated.dispatcher import Dispatcher
from lrpc.kernel.simulated.engine import Engine
from lrpc.kernel.simulated.locks import MemoryBus
from lrpc.kernel.simulated.log import EventLog, Sink
from lrpc.kernel.simulated.processor import Processor
from lrpc.kernel.simulated.threads import Errand, Stack, Thread, ThreadStack
from lrpc.kernel.states import THREAD_READY

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain

MOST_PROCESSORS = 1024  # of one machine


class Scheduler:
    """The part of a machine's kernel that runs threads on processors.

    `sink` also gets the event log. Ready threads take turns on a processor, each for `quantum_ns`;
    if that is 0, a thread keeps its processor until it waits. Raises `ValueError` for a number of
    `processors` out of range.
    """

    def __init__(
        self,
        machine: str,
        costs: CostModel,
        *,
        processors: int = 1,
        seed: int = 0,
        sink: Sink | None = None,
        quantum_ns: int = 0,
    ) -> None:
        if not 1 <= processors <= MOST_PROCESSORS:
            raise ValueError(f"machine {machine}: processors: {processors} is not between 1 and {MOST_PROCESSORS}")
        self.machine = machine
        self.costs = costs
        self.seed = seed
        self.quantum_ns = quantum_ns
        self.engine = Engine()
        self.log = EventLog(sink)
        self.log.add(0, events.SEED, seed & events.LARGEST, 0)
        self.counts = Counts()
        shared = costs.file.bus is not None and processors > 1
        self.charges = Charges(costs, bus=shared)
        self.bus = MemoryBus(self.random("memory bus")) if shared else None
        self.threads_made = 0
        self.clerks_made = 0  # of these, the threads of clerks
        self.spare_stacks: list[ThreadStack] = []  # of threads that have ended, to be used again; `Group` shares it
        self.threads: set[Thread] = set()  # those that have not ended
        # The processor whose thread runs now, None between threads. Set by whatever switches to
        # another thread or to the loop.
        self.processor: Processor | None = None
        tagged = costs.file.tlb.tagged
        # A thread that runs without a processor, outside a run; who waits for it; whether it was
        # refused what takes time.
        self.aside: Thread | None = None
        self._waits_aside: greenlet | None = None
        self._waited_aside = False
        self.processors = [Processor(self, number, self.charges, tagged=tagged) for number in range(processors)]
        self.dispatcher = Dispatcher(self, self.processors)
        # The leaf procedure that runs, which may not enter the kernel; and what it met if it did.
        self.leaf: str | None = None
        self._entered: LeafEntered | None = None
        self._dead: list[Stack] = []  # to be reaped
        self._reaping = False
        self._refused: set[greenlet] = set()  # dead, and refused once

    @property
    def now_ns(self) -> int:
        """Return the virtual time: the running processor's clock, else the engine's time."""
        return self.engine.now if self.processor is None else self.processor.clock

    def run(self, horizon: int) -> None:
        """Run everything that is due strictly before `horizon`, in ns.

        Raises `RunFailed` where code of a thread raises what is no call's error, or exits.
        """
        try:
            self.engine.run(horizon)
        except (SystemExit, GeneratorExit) as error:
            raise self._exited(error) from error
        finally:
            self.processor = None

    def running_processor(self) -> Processor:
        """Return the processor whose thread runs; `RunFailed` outside any simulated thread."""
        if self.processor is None or self.leaf is not None:
            self._refuse()
        return self.processor

    def running_thread(self) -> Thread:
        """Return the thread that runs; `RunFailed` outside any simulated thread."""
        thread = self.running_processor().thread
        if thread is None:
            raise Panic(f"machine {self.machine}: a processor runs without a thread")
        return thread

    def refuse_if_reaping(self) -> None:
        """Refuse a kernel entry that comes from a stack being reaped, or from a leaf procedure.

        Entries that need a running thread refuse such code anyway.
        """
        if self._reaping or self.leaf is not None:
            self._refuse()

    def enter(
        self, descriptor: ProcedureDescriptor, buffer: bytes | bytearray, offset: int, stack: bytes | None = None
    ) -> bytes:
        """Run a procedure through its server stub, and return its packed results.

        `buffer` has the packed arguments, from `offset` on. Where copy E has been made, those that
        the procedure does not read in place are taken from `stack`, which is packed alike.
        """
        if descriptor.leaf:
            self.leaf = descriptor.name
        try:
            if stack is None or descriptor.split_entry is None:
                entry = descriptor.entry
                if isinstance(entry, DirectEntry):
                    return entry.enter(buffer, offset)
                return entry(buffer, offset)
            return descriptor.split_entry(stack, buffer, offset)
        finally:
            if descriptor.leaf:
                self.leave_leaf()

    def leave_leaf(self) -> None:
        """Let the kernel be entered again after a leaf procedure; fail the run if that was before.

        The run fails at once, in the loop, so that no code of a client or a server can hide it.
        """
        if self._entered is None:
            self.leaf = None
            return
        name, self.leaf = self.leaf, None
        error, self._entered = self._entered, None
        what = f"{name} is declared a leaf, but enters the kernel; take the declaration off the server's method"
        failure = self._failure(f"{self.running_thread()}, ", what, error)
        self.processor = None
        self.engine.loop.throw(failure)

    def name_for(self, domain: "ProtectionDomain") -> str:
        """Return a name for the next thread of a domain: its number, clerks not counted."""
        return f"{domain.name}/{self.threads_made - self.clerks_made}"

    def new_thread(self, name: str | Errand, domain: "ProtectionDomain", body: Callable[[], None]) -> Thread:
        """Return a new thread that will run `body`; it waits to be woken."""
        self.refuse_if_reaping()
        self.threads_made += 1
        thread = Thread(self, self.threads_made, name, domain, body)
        self.threads.add(thread)
        self.log.add(self.now_ns, events.THREAD, thread.number, 0)
        return thread

    def spawn(
        self, domain: "ProtectionDomain", body: Callable[[], None], name: str, *, at_ns: int | None = None
    ) -> Thread:
        """Start a thread of `domain`, now or at the virtual time `at_ns`, and return it."""
        thread = self.new_thread(name, domain, body)
        if at_ns is None or at_ns <= self.now_ns:
            self.wake(thread)
        else:
            self._wake_at(thread, at_ns, thread.waits)
        return thread

    def wake(self, thread: Thread, delivery: CallError | None = None) -> None:
        """Make a waiting thread ready; on resuming it finds `delivery`, an error or None."""
        thread.enter_state(THREAD_READY)
        thread.deliver(delivery)
        thread.ready_at = self.now_ns
        self.dispatcher.ready(thread)

    def block(self, what: str) -> CallError | None:
        """Block the running thread until it is woken; return the error that was delivered, or None.

        `what` says what the thread waits for, should the run report a deadlock.
        """
        processor = self.running_processor()
        thread = self.running_thread()
        thread.wait_for(what)
        self.dispatcher.reassign(processor)
        delivered = cast("CallError | None", self.switch_away())
        if self.processor is not None:  # else it runs aside
            self.processor.refill()
        return delivered

    def run_aside(self, thread: Thread) -> bool:
        """Run a waiting thread outside a run, on no processor, until it steps aside.

        It runs alone and at the present time. Whatever needs a processor is refused; return whether
        that happened. Should the thread ask for it again, it never goes on. Raises `RunFailed` in
        another thread of the process than the one that made the machine.
        """
        here = getcurrent()
        if self.aside is None and here is not self.engine.loop:
            raise RunFailed(f"machine {self.machine}: {thread} is asked outside a run; ask in the thread that made it")
        outer = self.aside, self._waits_aside, self._waited_aside
        self.aside, self._waits_aside, self._waited_aside = thread, here, False
        thread.begun = True
        try:
            thread.stack.switch(None)
            return self._waited_aside
        except (SystemExit, GeneratorExit) as error:
            raise self._exited(error) from error
        finally:
            self.aside, self._waits_aside, self._waited_aside = outer

    def step_aside(self) -> None:
        """Leave a thread that runs aside; returns when the thread is woken, or run aside again."""
        assert self._waits_aside is not None
        self._waits_aside.switch()
        if self.processor is not None:
            self.processor.refill()

    def compute(self, ns: int) -> None:
        """Occupy the running processor for `ns`; where threads take turns, in slices."""
        processor = self.running_processor()
        if not processor.quantum_ns:
            processor.compute(ns)
            return
        while True:
            processor = self.running_processor()
            part = max(0, min(ns, processor.slice_began + processor.quantum_ns - processor.clock))
            processor.compute(part)
            ns -= part
            if not ns:
                return
            self.take_turns()

    def take_turns(self) -> None:
        """Give the running processor to the next ready thread, if the running one's turn is over.

        Does nothing where threads keep their processors. The caller must not have a step half-done:
        the thread may go on on another processor, or be released or ended before.
        """
        processor = self.running_processor()
        quantum = processor.quantum_ns
        if not quantum or processor.clock - processor.slice_began < quantum:
            return
        thread = self.running_thread()
        if not self.dispatcher.give_way(processor, thread):
            processor.slice_began = processor.clock
            return
        self.switch_away()
        processor = self.running_processor()
        processor.refill()
        processor.slice_began = processor.clock

    def sleep(self, ns: int) -> None:
        """Block the running thread for `ns`; its processor is free meanwhile."""
        thread = self.running_thread()
        self._wake_at(thread, self.now_ns + ns, thread.waits + 1)
        self.block("a timer")

    def system_call(self, ns: int) -> None:
        """Trap into the kernel and spend `ns` there, beyond the cost of the trap.

        That time can be cut short as that of a computation, and where threads take turns it is in
        slices too.
        """
        processor = self.running_processor()
        self.counts.trap += 1
        processor.spend(self.charges.trap)
        self.log.add(processor.clock + ns, events.SYSTEM_CALL, self.running_thread().number, ns)
        self.compute(ns)
        self.take_turns()

    def run_body(self, thread: Thread, body: Callable[[], None]) -> None:
        """Run a thread's body from beginning to end, and end the thread.

        Raises `RunFailed`, which ends the run, for any exception that the body raises.
        """
        if self.processor is not None:  # else it runs aside
            self.processor.refill()
        try:
            body()
        except Exception as error:
            raise self.failed(thread, error) from error
        self.end(self.running_thread())  # a successor, if a call of `thread` was aborted

    def end(self, thread: Thread) -> None:
        """End a thread that waits or has a processor, and reassign the processor.

        The caller must leave the thread's greenlet if that is the one running.
        """
        if thread.innermost is not None:
            raise Panic(f"{thread} ends with {len(thread.linkages)} calls in progress")
        self.log.add(self.now_ns, events.END, thread.number, 0)
        thread.end()
        self.threads.discard(thread)
        if thread.processor is not None:
            self.dispatcher.reassign(thread.processor)

    def switch_away(self) -> object:
        """Leave the running greenlet for what is due next; return what it is passed on resuming."""
        while True:
            turn = self.engine.next_turn()
            if turn is None:
                break
            processor = self.processors[turn.processor]
            thread = processor.thread
            assert thread is not None
            if not thread.begun:
                # A thread is begun by the loop, so that its stack starts at the bottom.
                self.engine.resume(turn, self.engine.now)
                break
            self.processor = processor
            fault = thread.resume()
            if not thread.stack.take_turn(fault):
                return thread.stack.switch(fault)
        self.processor = None
        return self.engine.loop.switch()

    def reap_soon(self, dead: Stack) -> None:
        """Reap a stack that must not resume, as soon as no thread runs."""
        if not self._dead:
            self.engine.schedule(self.now_ns, self._reap)
        self._dead.append(dead)

    def waiting(self) -> list[Thread]:
        """Return, by number, the threads that the run is waiting for.

        These are all that have not ended, except servers' own threads, threads that a successor has
        replaced, and threads of domains that have terminated.
        """
        waiting = (thread for thread in self.threads if not thread.serves and thread.successor is None)
        return sorted((thread for thread in waiting if thread.home.live), key=lambda thread: thread.number)

    def random(self, purpose: str) -> Stream:
        """Return the random stream of this seed and machine for `purpose`."""
        return Stream(self.seed, self.machine, purpose)

    def failed(self, thread: Thread, error: Exception) -> RunFailed:
        """Return what ends the run for an error that code of a thread raised."""
        return self._failure(f"{thread}, ", f"{type(error).__name__}: {error}", error)

    def _exited(self, error: BaseException) -> RunFailed:
        what = f"{type(error).__name__}: {error}: code of a simulated thread may not end the process"
        return self._failure("", what, error)

    def _failure(self, where: str, what: str, error: BaseException) -> RunFailed:
        """Return what ends the run for an error of users' code; `where` names a thread, if any."""
        failure = RunFailed(f"machine {self.machine}, {where}at {self.now_ns / 1000:.3f} µs: {what}")
        failure.__cause__ = error  # compiled code does not set it for `from`
        return failure

    def _wake_at(self, thread: Thread, at_ns: int, waits: int) -> None:
        """Wake a thread at a virtual time, if it is still in the wait number `waits` by then."""

        def wake() -> None:
            if thread.waits == waits:
                self.wake(thread)

        self.engine.schedule(at_ns, wake)

    def _reap(self) -> None:
        """Unwind the dead stacks, which frees their frames; refuse their calls to the kernel."""
        dead, self._dead = self._dead, []
        self._reaping = True
        for one in dead:
            with suppress(Exception):  # raised by a dead domain's code, which has no caller left
                one.greenlet.throw()
        self._reaping = False

    def _refuse(self) -> NoReturn:
        """Refuse a kernel entry by a leaf, or outside any simulated thread.

        The latter is a mistake, or code of a dead stack.

        Code of a dead stack may catch the error and come back, for ever. The second time, its
        greenlet is left suspended here, so that reaping ends.
        """
        if self.leaf is not None:
            self._entered = LeafEntered(self.leaf)
            raise self._entered
        here = getcurrent()
        if self.aside is not None and here is self.aside.stack.greenlet:
            while self._waited_aside:
                cast("greenlet", self._waits_aside).switch()
            self._waited_aside = True
            raise RunFailed(f"machine {self.machine}: {self.aside} waits or takes time outside a run")
        if here is self.engine.loop or here.parent is None:
            raise RunFailed(
                f"machine {self.machine}: a call was made outside any simulated thread; make it in the body of one"
            )
        while here in self._refused:
            here.parent.switch()
        self._refused.add(here)
        raise CallFailed(f"machine {self.machine}: the thread that this code ran on has ended")
