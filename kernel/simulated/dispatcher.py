"""Which thread has which processor: the ready ones, the idle ones, and where idle processors spin."""

from collections import deque
from typing import TYPE_CHECKING, Final

from lrpc.kernel.simulated.log import EXCHANGE

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.scheduler import Scheduler
    from lrpc.kernel.simulated.threads import Thread

MISSES_BEFORE_SENDING: Final = 4  # times that a domain must have missed an idle processor until one is sent


class Dispatcher:
    """Gives processors to ready threads, first come first served, and keeps those that nobody needs."""

    def __init__(self, kernel: "Scheduler", processors: list["Processor"]) -> None:
        self.kernel = kernel
        self._idle = list(processors)
        self._ready: deque[Thread] = deque()

    def ready(self, thread: "Thread") -> None:
        """Let a ready thread go on as soon as there is a processor."""
        if self._idle:
            processor = min(self._idle, key=lambda idle: _fitness(idle, thread))
            self._idle.remove(processor)
            processor.assign(thread)
        else:
            self._ready.append(thread)

    def reassign(self, processor: "Processor") -> None:
        """Take a processor from its thread and give it to one that is ready; else it idles where it is."""
        processor.release()
        if self._ready:
            processor.assign(self._ready.popleft())
        else:
            self._idle.append(processor)

    def withdraw(self, thread: "Thread") -> None:
        """Have a thread not be ready, if it is."""
        if thread.processor is None and thread in self._ready:
            self._ready.remove(thread)

    def exchange(self, processor: "Processor", domain: "ProtectionDomain") -> "Processor | None":
        """Have the running thread go on on an idle processor that spins in a domain's context, and return that.

        The processor it leaves idles in the context it has. Returns None where none spins there, and counts that.
        """
        domain.needed_ns = processor.clock
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
        idle.begin(thread)
        idle.spend(idle.charges.exchange)
        self.kernel.processor = idle
        self.kernel.log.add(idle.clock, EXCHANGE, thread.number, idle.number)
        return idle

    def _send_idle(self, now: int, domain: "ProtectionDomain") -> None:
        """Send the idle processor whose context was needed longest ago, if longer than this, to spin in a domain's."""
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


def _fitness(idle: "Processor", thread: "Thread") -> tuple[int, bool, int]:
    """Order idle processors: the one that can begin first, then one with the right context, then by number."""
    return max(idle.clock, thread.ready_at), idle.context is not thread.domain, idle.number
