"""A processor: its clock, the domain whose context it holds, its translation buffer, and what it is charged."""

from typing import TYPE_CHECKING

from lrpc.kernel.simulated.charges import Charges, Path
from lrpc.kernel.simulated.engine import Engine
from lrpc.kernel.simulated.memory import TranslationBuffer

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.scheduler import Scheduler
    from lrpc.kernel.simulated.threads import Thread


class Processor:
    """One processor of a machine. Its clock runs ahead of the engine's between checkpoints. All times are in ns."""

    def __init__(self, kernel: "Scheduler", number: int, charges: Charges, *, tagged: bool) -> None:
        self.kernel = kernel
        self.engine: Engine = kernel.engine
        self.number = number
        self.charges = charges  # the machine's
        self.clock = 0
        self.busy_ns = 0  # time with a thread, up to when it last let one go
        self.bus_ns = 0  # on the memory bus, as drawn
        self.bus_mean_ns = 0  # and as it is on average: what is charged
        self.bus_wait_ns = 0
        self.lock_wait_ns = 0
        self.exchanges = 0
        self.thread: Thread | None = None
        self.context: ProtectionDomain | None = None
        self.buffer = TranslationBuffer(tagged=tagged)
        self.turn = 0  # events of earlier turns no longer count
        self._resume = self.resume
        self._taken_at = 0
        self._missing = 0  # pages that the context loaded last has yet to fetch

    def spend(self, path: Path) -> None:
        """Spend what the steps of a path cost, and count them."""
        path.times += 1
        self.clock += path.ns

    def load(self, domain: "ProtectionDomain", pages: frozenset[int]) -> None:
        """Switch to a domain's context; what the code there then misses is spent by `refill`."""
        self.context = domain
        self.spend(self.charges.switch)
        self.buffer.switch()
        self._missing = self.buffer.touch(pages)

    def refill(self) -> None:
        """Fetch the pages that the context loaded last has missed; where processors share a bus, over that."""
        missing = self._missing
        if not missing:
            return
        self._missing = 0
        bus = self.kernel.bus
        if bus is None or self.thread is None:  # an idle one's misses are in nobody's way
            self.clock += self.charges.misses(missing)
        else:
            bus.fetch(self, missing)

    def checkpoint(self) -> None:
        """Stand back until nothing else of this machine is due before this processor's clock."""
        if self.clock < self.engine.limit or self.engine.first(self.clock, self.number):
            return
        self.turn += 1
        self.kernel.yield_to(self.engine.yield_turn(self.clock, self.number, self.turn, self._resume))

    def assign(self, thread: "Thread") -> None:
        """Give this processor to a ready thread, no earlier than that became ready."""
        self.clock = max(self.clock, thread.ready_at)
        self.begin(thread)
        domain = thread.domain
        if self.context is None:  # whatever was there before time began was nobody's
            self.context = domain
            self.buffer.touch(domain.pages_on_return)
        elif self.context is not domain:
            self.load(domain, domain.pages_on_call if thread.serves else domain.pages_on_return)
        self.resume_soon()

    def begin(self, thread: "Thread") -> None:
        """Have a thread from now on."""
        self._taken_at = self.clock
        self.thread = thread
        thread.processor = self

    def release(self) -> None:
        """Be without a thread; what was to happen with it no longer will."""
        self.busy_ns += self.clock - self._taken_at
        if self.thread is not None:
            self.thread.processor = None
        self.thread = None
        self.turn += 1

    def resume_soon(self) -> None:
        """Go on with the thread that has this processor, at its clock."""
        self.turn += 1
        self.resume_at(self.clock)

    def resume_at(self, time: int) -> None:
        """Go on with it at `time`, in the turn that this processor has."""
        self.engine.resume(time, self.number, self.turn, self._resume)

    def resume(self) -> None:
        """Go on with the thread that has this processor; an event of the engine's."""
        if self.turn == self.engine.turn:
            self.kernel.processor = self
            assert self.thread is not None
            self.thread.resume()
            self.kernel.processor = None  # whoever came back here last
