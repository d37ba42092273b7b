"""Which thread has which processor, and in which contexts idle processors spin.

A thread keeps its processor until it waits, unless the machine has a quantum: then ready threads
take turns, at the end of computation, calls and traps (`Scheduler.take_turns`).

With domain caching (section 3.4), an idle processor spins in the context that it had last. A call
or return into that context's domain continues on the idle processor, which saves a context switch.
A domain that needs such a processor and finds none is counted. After `MISSES_BEFORE_SENDING` such
misses one is sent to its context: the idle processor whose own context was needed longest ago.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from lrpc.kernel.simulated.log import EXCHANGE
from lrpc.kernel.states import THREAD_READY, THREAD_WAITING

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.scheduler import Scheduler
    from lrpc.kernel.simulated.threads import Thread

MISSES_BEFORE_SENDING: Final = 4  # of a domain, before an idle processor is sent to its context


class Dispatcher:
    """Gives processors to ready threads, first come, first served, and keeps the idle ones."""

    def __init__(self, kernel: "Scheduler", processors: list["Processor"]) -> None:
        self.kernel = kernel
        self._idle = list(processors)
        self._ready: deque[Thread] = deque()

    def ready(self, thread: "Thread") -> None:
        """Give a ready thread the idle processor that suits it best, or queue it for one."""
        if self._idle:
            processor = min(self._idle, key=lambda idle: _preference(idle, thread))
            self._idle.remove(processor)
            processor.assign(thread)
        else:
            self._ready.append(thread)

    def reassign(self, processor: "Processor") -> None:
        """Release a processor's thread, and give the processor to the next ready one.

        Without a ready thread, the processor idles in its context.
        """
        processor.release()
        if self._ready:
            processor.assign(self._ready.popleft())
        else:
            self._idle.append(processor)

    def give_way(self, processor: "Processor", thread: "Thread") -> bool:
        """Give a thread's processor to the next ready one, and queue the thread behind the others.

        Return False, and change nothing, if no thread is ready.
        """
        if not self._ready:
            return False
        thread.enter_state(THREAD_WAITING)
        thread.enter_state(THREAD_READY)
        thread.ready_at = processor.clock
        processor.release()
        self._ready.append(thread)
        processor.assign(self._ready.popleft())
        return True

    def withdraw(self, thread: "Thread") -> None:
        """Remove a thread from the queue of ready threads, if it is there."""
        if thread.processor is None and thread in self._ready:
            self._ready.remove(thread)

    def exchange(self, processor: "Processor", domain: "ProtectionDomain") -> "Processor | None":
        """Move the running thread to an idle processor in `domain`'s context, and return it.

        The processor that the thread leaves idles in the context that it has. Returns None, and
        counts a miss of the domain, if no idle processor spins there.
        """
        domain.needed_ns = processor.clock
        # One whose clock is ahead is not idle yet, or still loads the context it was sent to.
        idle = next((one for one in self._idle if one.context is domain and one.clock <= processor.clock), None)
        if idle is None:
            domain.missed += 1
            if domain.missed >= MISSES_BEFORE_SENDING:
                self._send_idle(processor.clock, domain)
            return None
        thread = processor.thread
        assert thread is not None
        self._idle[self._idle.index(idle)] = processor
        processor.release()
        idle.clock = processor.clock
        idle.exchanges += 1
        idle.attach(thread)
        idle.spend(idle.charges.exchange)
        self.kernel.processor = idle
        self.kernel.log.add(idle.clock, EXCHANGE, thread.number, idle.number)
        return idle

    def _send_idle(self, now: int, domain: "ProtectionDomain") -> None:
        """Send an idle processor to spin in a domain's context, where other contexts need it less.

        That is the one whose context was needed longest ago, if `domain` was needed more recently.
        """
        free = [one for one in self._idle if one.context is not domain]
        if not free:
            return
        processor = min(free, key=_last_needed)
        if _last_needed(processor)[0] < domain.needed_ns:
            domain.missed = 0
            processor.clock = max(processor.clock, now)
            processor.load(domain, domain.pages_on_call)
            processor.refill()


def _last_needed(processor: "Processor") -> tuple[int, int]:
    return -1 if processor.context is None else processor.context.needed_ns, processor.number


def _preference(idle: "Processor", thread: "Thread") -> tuple[int, bool, int]:
    """Order idle processors: the soonest free, then the right context, then by number."""
    return max(idle.clock, thread.ready_at), idle.context is not thread.domain, idle.number
