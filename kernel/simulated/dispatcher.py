"""Which thread has which processor, and in which contexts idle processors spin.

A thread keeps its processor until it waits, unless the machine has a quantum: then ready threads
take turns, at the end of computation, calls and traps (`Scheduler.take_turns`).

With domain caching (section 3.4), an idle processor spins in the context that it had last. A call
or return into that context's domain continues on the idle processor, which saves a context switch.

How much each domain needs one is counted: the calls into it, which count half once all domains
together have had `HALVED_AFTER` more. Where a call finds none, an idle processor is sent to that
context, from the one that is needed least, if it is needed less by a quarter: domains that are
called in turn do not take each other's processor each time. Returns count nothing. A call that
finds an idle processor leaves one in its caller's context, which its return finds; for one that
found none, a processor kept there would serve a single return, and in a server's context it serves
a call and its return again and again.
"""

from collections import Counter
from typing import TYPE_CHECKING, Final

from lrpc.kernel.simulated.log import EXCHANGE
from lrpc.kernel.states import THREAD_READY, THREAD_WAITING

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.scheduler import Scheduler
    from lrpc.kernel.simulated.threads import Thread

HALVED_AFTER: Final = 64  # calls of all domains, until an earlier one counts half
NEED: Final = 1 << 20  # what a call counts, so that halves of it are whole numbers


class Dispatcher:
    """Gives processors to ready threads, first come, first served, and keeps the idle ones."""

    def __init__(self, kernel: "Scheduler", processors: list["Processor"]) -> None:
        self.kernel = kernel
        self._needs = 0  # calls that needed an idle processor so far
        self._idle = list(processors)
        self._others = len(processors) - 1
        self._next: Thread | None = None  # the first of those that are ready and have no processor
        self._last: Thread | None = None  # the last of these, if there are any

    @property
    def queue(self) -> "list[Thread]":
        """Return the threads that are ready and have no processor, the next first."""
        found, thread = [], self._next
        while thread is not None:
            found.append(thread)
            thread = thread.next_ready
        return found

    @property
    def others_idle(self) -> bool:
        """Return whether at most one processor has a thread."""
        return len(self._idle) >= self._others

    def ready(self, thread: "Thread") -> None:
        """Give a ready thread the idle processor that suits it best, or queue it for one."""
        if self._idle:
            self._idle.pop(self._most_suitable(thread)).assign(thread)
        else:
            self._append(thread)

    def _append(self, thread: "Thread") -> None:
        thread.next_ready = None
        if self._next is None or self._last is None:
            self._next = thread
        else:
            self._last.next_ready = thread
        self._last = thread

    def _most_suitable(self, thread: "Thread") -> int:
        """Return where in `_idle` the processor is that suits a thread best.

        That is the soonest free; of those, one that takes no interrupts; of those, one with the
        right context; of those, the first by number.
        """
        ready_at, domain = thread.ready_at, thread.domain
        at, found, found_at = -1, -1, 0
        interrupted = suits = False  # the best one's, so far
        number = 0
        for one in self._idle:
            at += 1
            free_at = one.clock
            if free_at < ready_at:
                free_at = ready_at
            if found >= 0:
                if free_at != found_at:
                    if free_at > found_at:
                        continue
                elif one.takes_interrupts != interrupted:
                    if not interrupted:
                        continue
                elif (one.context is domain) != suits:
                    if suits:
                        continue
                elif one.number > number:
                    continue
            found, found_at = at, free_at
            interrupted, suits, number = one.takes_interrupts, one.context is domain, one.number
        return found

    def reassign(self, processor: "Processor") -> None:
        """Release a processor's thread, and give the processor to the next ready one.

        Without a ready thread, the processor idles in its context.
        """
        processor.release()
        thread = self._next
        if thread is not None:
            self._next = thread.next_ready
            processor.assign(thread)
        else:
            self._idle.append(processor)

    def give_way(self, processor: "Processor", thread: "Thread") -> bool:
        """Give a thread's processor to the next ready one, and queue the thread behind the others.

        Return False, and change nothing, if no thread is ready.
        """
        first = self._next
        if first is None:
            return False
        thread.enter_state(THREAD_WAITING)
        thread.enter_state(THREAD_READY)
        thread.ready_at = processor.clock
        processor.release()
        self._append(thread)
        self._next = first.next_ready
        processor.assign(first)
        return True

    def withdraw(self, thread: "Thread") -> None:
        """Remove a thread from the queue of ready threads, if it is there."""
        if thread.processor is not None:
            return
        before, one = None, self._next
        while one is not None and one is not thread:
            before, one = one, one.next_ready
        if one is None:
            return
        if before is None:
            self._next = one.next_ready
        else:
            before.next_ready = one.next_ready
        if one is self._last:
            self._last = before

    def exchange(self, processor: "Processor", domain: "ProtectionDomain", *, returns: bool) -> "Processor | None":
        """Move the running thread to an idle processor in `domain`'s context, and return it.

        The processor that the thread leaves idles in the context that it has. Returns None if no
        idle processor spins there; one may then be sent, for the next that needs it. `returns` says
        whether the thread returns there, or calls.
        """
        # One whose clock is ahead is not idle yet, or still loads the context it was sent to.
        idle = next((one for one in self._idle if one.context is domain and one.clock <= processor.clock), None)
        if not returns:
            self._needs += 1
            domain.needed = self._need_of(domain) + NEED
            domain.needed_at = self._needs
        if idle is None:
            if not returns:
                self._send_idle(processor.clock, domain)
            return None
        thread = processor.thread
        assert thread is not None
        self._idle[self._idle.index(idle)] = processor
        processor.release()
        idle.clock = processor.clock
        idle.exchanges += 1
        idle.attach(thread)
        idle.take_over(processor)
        idle.spend(idle.charges.exchange)
        self.kernel.processor = idle
        self.kernel.log.add(idle.clock, EXCHANGE, thread.number, idle.number)
        return idle

    def _send_idle(self, now: int, domain: "ProtectionDomain") -> None:
        """Send an idle processor to spin in a domain's context, if its own is needed less."""
        free = [one for one in self._idle if one.context is not domain]
        if not free:
            return
        # Those that spin in one context share what needs them.
        alike = Counter(one.context.number for one in free if one.context is not None)
        needs = {
            one.number: -1 if one.context is None else self._need_of(one.context) // alike[one.context.number]
            for one in free
        }
        processor = min(free, key=lambda one: (needs[one.number], one.number))
        if 4 * domain.needed > 5 * needs[processor.number]:
            begins = processor.clock = max(processor.clock, now)
            processor.load(domain, domain.pages_on_call)
            processor.refill()
            processor.sent_ns += processor.clock - begins

    def _need_of(self, domain: "ProtectionDomain") -> int:
        """Return how much a domain needs idle processors, earlier needs having decayed."""
        halvings, rest = divmod(self._needs - domain.needed_at, HALVED_AFTER)
        whole = domain.needed >> min(halvings, 63)
        return whole - whole * rest // (2 * HALVED_AFTER)
