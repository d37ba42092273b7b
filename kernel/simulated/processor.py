"""A processor: its clock, the domain whose context it holds, its translation buffer, and what it is charged."""

from typing import TYPE_CHECKING

from greenlet import getcurrent

from lrpc.kernel.simulated.charges import Charges, Path
from lrpc.kernel.simulated.engine import Engine

if TYPE_CHECKING:
    from lrpc.kernel.simulated.kernel import Domain, Kernel
    from lrpc.kernel.simulated.threads import Thread


class Processor:
    """One processor of a machine. Its clock runs ahead of the engine's between checkpoints."""

    def __init__(self, kernel: "Kernel", number: int, charges: Charges) -> None:
        self.kernel = kernel
        self.engine: Engine = kernel.engine
        self.number = number
        self.charges = charges  # the machine's
        self.clock = 0
        self.busy_ns = 0  # time with a thread, up to when it last let one go
        self.thread: Thread | None = None
        self.context: Domain | None = None
        self._taken_at = 0
        self._buffered: set[Domain] = set()  # whose pages a tagged buffer holds

    def spend(self, path: Path) -> None:
        """Spend what the steps of a path cost, and count them."""
        path.times += 1
        self.clock += path.ns

    def copy(self, value_step: int, byte_step: int, values: int, size: int) -> None:
        """Spend what copying `values` of `size` bytes in all costs."""
        self.clock += self.charges.copy(value_step, byte_step, values, size)

    def switch_to(self, domain: "Domain", misses: Path, hits: Path) -> None:
        """Load a domain's context: with the misses its pages then cause, or without where the buffer still has them."""
        self.context = domain
        if self.charges.tagged and domain in self._buffered:
            self.spend(hits)
            return
        if self.charges.tagged:
            self._buffered.add(domain)
        self.spend(misses)

    def checkpoint(self) -> None:
        """Stand back until nothing else of this machine is due before this processor's clock."""
        if self.clock < self.engine.limit or self.engine.first(self.clock, self.number):
            return
        assert self.thread is not None
        self.thread.greenlet = getcurrent()
        self.engine.resume(self.clock, self.number, self.resume)
        self.engine.loop.switch()

    def assign(self, thread: "Thread") -> None:
        """Give this processor to a ready thread, no earlier than that became ready."""
        self.clock = max(self.clock, thread.ready_at)
        self._taken_at = self.clock
        self.thread = thread
        if self.context is None:
            self.context = thread.domain  # whatever was there before time began was nobody's
        elif self.context is not thread.domain:
            charges = self.charges
            self.switch_to(thread.domain, charges.enter if thread.serves else charges.back, charges.switch)
        self.engine.resume(self.clock, self.number, self.resume)

    def let_go(self) -> None:
        """Be without a thread."""
        self.busy_ns += self.clock - self._taken_at
        self.thread = None

    def resume(self) -> None:
        """Go on with the thread that has this processor; an event of the engine's."""
        self.kernel.processor = self
        assert self.thread is not None
        self.thread.go_on()
        self.kernel.processor = None
