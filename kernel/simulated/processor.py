"""A processor: its clock, its context, its translation buffer, and the time it has spent.

Between checkpoints a processor's clock runs ahead of the engine's time; engine.py says why.
"""

from typing import TYPE_CHECKING

from lrpc.kernel.simulated.charges import Charges, Path
from lrpc.kernel.simulated.engine import Engine
from lrpc.kernel.simulated.memory import TranslationBuffer

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.scheduler import Scheduler
    from lrpc.kernel.simulated.threads import Thread


class Processor:
    """One processor of a machine. All times are in ns."""

    def __init__(self, kernel: "Scheduler", number: int, charges: Charges, *, tagged: bool) -> None:
        self.kernel = kernel
        self.engine: Engine = kernel.engine
        self.number = number
        self.charges = charges  # the machine's
        self.clock = 0
        self.notes_all = False  # set while `charges.notes` is; cheaper to test
        # Measurements, for reports.
        self.busy_ns = 0  # time with a thread, up to the last release
        self.bus_ns = 0  # on the memory bus, as drawn
        self.bus_mean_ns = 0  # the mean of the same: what is charged
        self.bus_wait_ns = 0  # for the memory bus
        self.lock_wait_ns = 0  # spinning
        self.exchanges = 0  # threads that moved here, to a context that was loaded
        # What is here now. `assign`, `attach` and `release` set the thread, `load` the context.
        self.thread: Thread | None = None
        self.attached_at = 0  # since when
        self.context: ProtectionDomain | None = None
        self.buffer = TranslationBuffer(tagged=tagged)
        self.turn = 0  # events of earlier turns are stale
        self._resume = self.resume  # bound once, since every event takes it
        self.slice_began = 0  # when its thread's turn did, where threads take turns
        self.computes_from = -1  # since when its thread does nothing but compute; -1 while it does not
        self._missing = 0  # pages that `load` found missing and `refill` has yet to fetch

    def spend(self, path: Path) -> None:
        """Spend what the steps of a path cost, and count the path."""
        path.times += 1
        self.clock += path.ns
        if self.notes_all:
            self._note(path)

    def _note(self, path: Path) -> None:
        notes = self.charges.notes
        assert notes is not None
        notes.add_path(path, self)

    def load(self, domain: "ProtectionDomain", pages: frozenset[int]) -> None:
        """Switch to a domain's context, where the code will touch `pages`.

        Those that the translation buffer lacks are fetched by `refill`, later: that may yield, and
        a thread that moves to another stack must not yield before it has left its old one.
        """
        self.context = domain
        self.spend(self.charges.switch)
        self.buffer.switch()
        self._missing = self.buffer.touch(pages)

    def refill(self) -> None:
        """Fetch the missing pages of the context loaded last, over the memory bus if any."""
        missing = self._missing
        if not missing:
            return
        self._missing = 0
        bus = self.kernel.bus
        if bus is None or self.thread is None:  # an idle processor's misses delay no other
            self.clock += self.charges.misses(missing, self)
        else:
            bus.fetch(self, missing)

    def checkpoint(self) -> None:
        """Yield until nothing else of this machine is due before this processor's clock."""
        if self.clock < self.engine.limit or self.engine.first(self.clock, self.number):
            return
        self.turn += 1
        self.kernel.yield_to(self.engine.yield_turn(self.clock, self.number, self.turn, self._resume))

    def may_go_on(self) -> bool:
        """Return whether nothing else is due first; else schedule this processor's next turn.

        It is what `checkpoint` is for a thread, before that has a stack.
        """
        if self.clock < self.engine.limit or self.engine.first(self.clock, self.number):
            return True
        self.resume_soon()
        return False

    def compute(self, ns: int) -> None:
        """Spend `ns` on a computation, which can be cut short at any time."""
        self.computes_from = self.clock
        self.clock += ns
        self.checkpoint()
        self.computes_from = -1

    def stop_computing(self, now: int) -> None:
        """Cut a computation short at `now`, or at its beginning if that is later."""
        if self.computes_from >= 0:
            self.clock = min(self.clock, max(now, self.computes_from))
            self.computes_from = -1

    def assign(self, thread: "Thread") -> None:
        """Give this processor to a ready thread and schedule its resume.

        The thread resumes no earlier than it became ready.
        """
        self.clock = max(self.clock, thread.ready_at)
        self.attach(thread)
        domain = thread.domain
        if self.context is None:  # the first context of all: it is loaded without a charge
            self.context = domain
            self.buffer.touch(domain.pages_on_return)
        elif self.context is not domain:
            self.load(domain, domain.pages_on_call if thread.serves else domain.pages_on_return)
        self.slice_began = self.clock  # once its context is there, so that each turn gets something done
        self.resume_soon()

    def attach(self, thread: "Thread") -> None:
        """Attach a thread to this processor."""
        self.attached_at = self.slice_began = self.clock
        self.thread = thread
        thread.processor = self

    def release(self) -> None:
        """Release the thread; its pending resume event becomes stale."""
        self.busy_ns += self.clock - self.attached_at
        if self.notes_all and self.charges.notes is not None:
            self.charges.notes.add_release(self, self.attached_at)
        if self.thread is not None:
            self.thread.processor = None
        self.thread = None
        self.turn += 1

    def resume_soon(self) -> None:
        """Schedule the attached thread's resume at this processor's clock, in a new turn."""
        self.turn += 1
        self.resume_at(self.clock)

    def resume_at(self, time: int) -> None:
        """Schedule the attached thread's resume at `time`, in the present turn."""
        self.engine.resume(time, self.number, self.turn, self._resume)

    def resume(self) -> None:
        """Resume the attached thread, unless the event is stale: an action of the engine's."""
        if self.turn == self.engine.turn:
            self.kernel.processor = self
            thread = self.thread
            assert thread is not None
            if thread.begun or thread.service is None or thread.service.receive(self):
                thread.resume()
            self.kernel.processor = None  # the loop is back, perhaps from another thread
