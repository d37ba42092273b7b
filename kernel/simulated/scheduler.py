"""Time and threads of one machine: which thread runs, what it waits for, and what wakes it."""

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, NoReturn, cast

from greenlet import getcurrent, greenlet

from lrpc.kernel.errors import CallError, CallFailed, Panic, RunFailed
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
from lrpc.kernel.simulated.threads import Stack, Thread, ThreadStack
from lrpc.kernel.states import THREAD_READY, THREAD_WAITING

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain

MOST_PROCESSORS = 1024


class Scheduler:
    """The half of a kernel that runs threads on processors. All of it happens in one operating-system thread."""

    def __init__(
        self, machine: str, costs: CostModel, *, processors: int = 1, seed: int = 0, sink: Sink | None = None
    ) -> None:
        if not 1 <= processors <= MOST_PROCESSORS:
            raise ValueError(f"machine {machine}: processors: {processors} is not between 1 and {MOST_PROCESSORS}")
        self.machine = machine
        self.costs = costs
        self.seed = seed
        self.engine = Engine()
        self.log = EventLog(sink)
        self.log.add(0, events.SEED, seed & events.LARGEST, 0)
        self.counts = Counts()
        self.charges = Charges(costs)
        self.bus: MemoryBus | None = None
        if costs.file.bus is not None and processors > 1:
            self.bus = MemoryBus(costs.file.bus.ps, self.random("memory bus"))
        self.threads_made = 0
        self.spare_stacks: list[ThreadStack] = []
        self.threads: set[Thread] = set()  # those that have not ended
        self.processor: Processor | None = None  # the one whose thread runs at this moment
        tagged = costs.file.tlb.tagged
        self.processors = [Processor(self, number, self.charges, tagged=tagged) for number in range(processors)]
        self.dispatcher = Dispatcher(self, self.processors)
        self._dead: list[Stack] = []
        self._reaping = False
        self._refused: set[greenlet] = set()  # that were dead and came back

    @property
    def now_ns(self) -> int:
        """Return the virtual time: the running processor's clock, or the engine's between threads."""
        return self.engine.now if self.processor is None else self.processor.clock

    def run(self, horizon: int) -> None:
        """Do all that is due strictly before `horizon`, in ns."""
        try:
            self.engine.run(horizon)
        finally:
            self.processor = None

    def running_processor(self) -> Processor:
        """Return the processor whose thread runs; `RunFailed` outside any simulated thread."""
        if self.processor is None:
            self._refuse()
        return self.processor

    def running_thread(self) -> Thread:
        """Return the thread that runs at this moment."""
        thread = self.running_processor().thread
        if thread is None:
            raise Panic(f"machine {self.machine}: a processor runs without a thread")
        return thread

    def refuse_if_reaping(self) -> None:
        """Refuse an entry that needs no running thread, where it comes from what is unwound at this moment."""
        if self._reaping:
            self._refuse()

    def new_thread(self, name: str, domain: "ProtectionDomain", body: Callable[[], None]) -> Thread:
        """Return a thread that waits to be woken."""
        self.refuse_if_reaping()
        self.threads_made += 1
        thread = Thread(self, self.threads_made, name, domain, body)
        self.threads.add(thread)
        self.log.add(self.now_ns, events.THREAD, thread.number, 0)
        return thread

    def spawn(
        self, domain: "ProtectionDomain", body: Callable[[], None], name: str, *, at_ns: int | None = None
    ) -> Thread:
        """Start a thread of `domain` now, or at a virtual time to come."""
        thread = self.new_thread(name, domain, body)
        if at_ns is None or at_ns <= self.now_ns:
            self.wake(thread)
        else:
            self._wake_at(thread, at_ns, thread.waits)
        return thread

    def wake(self, thread: Thread, delivery: CallError | None = None) -> None:
        """Make a waiting thread ready; it finds `delivery` when it goes on."""
        thread.become(THREAD_READY)
        thread.deliver(delivery)
        thread.ready_at = self.now_ns
        self.dispatcher.ready(thread)

    def block(self, what: str) -> CallError | None:
        """Let the running thread wait until it is woken; return what was delivered to it."""
        processor = self.running_processor()
        thread = self.running_thread()
        thread.become(THREAD_WAITING)
        thread.waits_for = what
        thread.waits += 1
        self.dispatcher.reassign(processor)
        delivered = cast("CallError | None", self.switch_away())
        self.running_processor().refill()
        return delivered

    def compute(self, ns: int) -> None:
        """Occupy the running processor."""
        processor = self.running_processor()
        processor.clock += ns
        processor.checkpoint()

    def sleep(self, ns: int) -> None:
        """Wake the running thread `ns` later; its processor is free until then."""
        thread = self.running_thread()
        self._wake_at(thread, self.now_ns + ns, thread.waits + 1)
        self.block("a timer")

    def system_call(self, ns: int) -> None:
        """Perform an operation of the kernel's own."""
        processor = self.running_processor()
        self.counts.trap += 1
        processor.spend(self.charges.trap)
        processor.clock += ns
        self.log.add(processor.clock, events.SYSTEM_CALL, self.running_thread().number, ns)
        processor.checkpoint()

    def run_body(self, thread: Thread, body: Callable[[], None]) -> None:
        """Run a thread from beginning to end; what it raises ends the run."""
        self.running_processor().refill()
        try:
            body()
        except Exception as error:
            place = f"machine {self.machine}, {thread}, at {self.now_ns / 1000:.3f} us"
            failure = RunFailed(f"{place}: {type(error).__name__}: {error}")
            failure.__cause__ = error  # compiled code does not take `from` to mean this
            raise failure from error
        self.end(self.running_thread())

    def end(self, thread: Thread) -> None:
        """End a thread that waits, or has a processor, which is given on; where it runs, its greenlet must be left."""
        if thread.innermost is not None:
            raise Panic(f"{thread} ends with {len(thread.linkages)} calls in progress")
        self.log.add(self.now_ns, events.END, thread.number, 0)
        thread.end()
        self.threads.discard(thread)
        if thread.processor is not None:
            self.dispatcher.reassign(thread.processor)

    def switch_away(self) -> object:
        """Leave the running greenlet for what is due next; returns what it is given when it is gone on with."""
        return self._switch_to(self.engine.next_processor())

    def yield_to(self, first: int) -> None:
        """Leave the running greenlet, which has its turn later, for the processor of that number, or the loop."""
        self._switch_to(first)

    def reap_soon(self, dead: Stack) -> None:
        """Unwind a stack that must not go on, as soon as no thread runs."""
        if not self._dead:
            self.engine.schedule(self.now_ns, self._reap)
        self._dead.append(dead)

    def waiting(self) -> list[Thread]:
        """Return the threads that have not ended, in order, without servers' own and those that nobody waits for."""
        waiting = (thread for thread in self.threads if not thread.serves and thread.successor is None)
        return sorted((thread for thread in waiting if thread.home.live), key=lambda thread: thread.number)

    def random(self, purpose: str) -> Stream:
        """Return the stream of random numbers of this seed, machine and purpose."""
        return Stream(self.seed, self.machine, purpose)

    def _wake_at(self, thread: Thread, at_ns: int, waits: int) -> None:
        """Wake a thread at a virtual time, if that is still the wait that it is in."""

        def wake() -> None:
            if thread.waits == waits:
                self.wake(thread)

        self.engine.schedule(at_ns, wake)

    def _switch_to(self, number: int) -> object:
        """Switch to the thread of a processor, by number, if its turn still counts, or to who is due after it."""
        while number >= 0:
            processor = self.processors[number]
            thread = processor.thread
            if processor.turn == self.engine.turn and thread is not None:
                if not thread.begun:  # it begins at the bottom of the stack, so the loop begins it
                    processor.resume_at(self.engine.now)
                    break
                self.processor = processor
                return thread.resume()
            number = self.engine.next_processor()
        self.processor = None
        return self.engine.loop.switch()

    def _reap(self) -> None:
        """Unwind what is dead: its frames are freed, and whatever they do about it, none of it enters the kernel."""
        dead, self._dead = self._dead, []
        self._reaping = True
        for one in dead:
            with suppress(Exception):  # of a dead domain's code: there is nobody to tell
                one.greenlet.throw()
        self._reaping = False

    def _refuse(self) -> NoReturn:
        """Refuse an entry outside any simulated thread: a mistake, or the code of a dead domain that goes on.

        Such code may catch what it is given and come back for ever; the second time it is left where it stands.
        """
        here = getcurrent()
        if here is self.engine.loop or here.parent is None:
            raise RunFailed(
                f"machine {self.machine}: a call was made outside any simulated thread; make it in the body of one"
            )
        while here in self._refused:
            here.parent.switch()
        self._refused.add(here)
        raise CallFailed(f"machine {self.machine}: the thread that this ran on is no more")
