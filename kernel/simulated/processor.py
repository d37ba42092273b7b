"""A processor: its clock, its context, its translation buffer, and the time it has spent.

Between checkpoints a processor's clock runs ahead of the engine's time; engine.py says why.
"""

from typing import TYPE_CHECKING

from lrpc.kernel.simulated.charges import Charges, Path
from lrpc.kernel.simulated.costs import (
    COPY_BYTE,
    COPY_VALUE,
    EXCHANGED_BYTE,
    EXCHANGED_VALUE,
    MESSAGE_ARGUMENT_BYTE,
    MESSAGE_RESULT_BYTE,
    MESSAGE_VALUE,
    TLB_MISS,
)
from lrpc.kernel.simulated.engine import Engine, Turn
from lrpc.kernel.simulated.memory import TranslationBuffer

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import ProtectionDomain
    from lrpc.kernel.simulated.scheduler import Scheduler
    from lrpc.kernel.simulated.threads import Thread


class ProcessorTurn(Turn):
    """A processor's turn: the thread that is attached to it resumes."""

    def __init__(self, processor: "Processor") -> None:
        super().__init__(processor.number, processor.resume)
        self._processor = processor

    def come(self) -> None:
        """Resume the thread: what `action` does too, which takes longer to call."""
        self._processor.resume()


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
        self.own_ns = 0  # of computations, and of what system calls do: no step is charged for it
        self.sent_ns = 0  # charged while it was sent, idle, to another context
        self.exchanges = 0  # threads that moved here, to a context that was loaded
        self.interrupt_ns = 0  # spent on interrupts of packets, whoever had it
        self.takes_interrupts = False  # it drives the machine's controller
        # What is here now. `assign`, `attach` and `release` set the thread, `load` the context.
        self.thread: Thread | None = None
        self.attached_at = 0  # since when
        self.context: ProtectionDomain | None = None
        self.buffer = TranslationBuffer(tagged=tagged)
        self.turn = ProcessorTurn(self)
        self.quantum_ns = 0  # its thread's: for how long that may run while others are ready; 0 for ever
        self.slice_began = 0  # when its thread's turn did, where threads take turns
        self.computes_from = -1  # since when its thread does nothing but compute; -1 while it does not
        self.due_ns = 0  # what is charged already of a fetch that waits for its turn on the bus
        self._missing = 0  # pages that `load` found missing and `refill` has yet to fetch
        self._interrupted_until = 0
        self._interrupted_ns = 0  # of the time since it was attached
        self._owed_ns = 0  # of what was spent, the bus's part, which `refill` or `settle` will take

    def spend(self, path: Path) -> None:
        """Spend what the steps of a path cost, and count the path."""
        path.times += 1
        self.clock += path.ns
        self._owed_ns += path.bus_ns
        if self.notes_all:
            self._note(path)

    def _note(self, path: Path) -> None:
        notes = self.charges.notes
        assert notes is not None
        notes.add_path(path, self)

    def copy(self, values: int, size: int) -> None:
        """Spend the cost of a copy of `values` values, `size` bytes in all."""
        self.spend_copy(COPY_VALUE, COPY_BYTE, values, size)

    def copy_exchanged(self, values: int, size: int) -> None:
        """Spend the cost of a copy of what another processor wrote."""
        self.spend_copy(EXCHANGED_VALUE, EXCHANGED_BYTE, values, size)

    def copy_arguments(self, values: int, size: int) -> None:
        """Spend the cost of one of message passing's copies of arguments."""
        self.spend_copy(MESSAGE_VALUE, MESSAGE_ARGUMENT_BYTE, values, size)

    def copy_results(self, values: int, size: int) -> None:
        """Spend the cost of one of message passing's copies of results."""
        self.spend_copy(MESSAGE_VALUE, MESSAGE_RESULT_BYTE, values, size)

    def spend_copy(self, value_step: int, byte_step: int, values: int, size: int) -> None:
        """Spend the cost of a copy by its steps, a part of it later, on the memory bus."""
        self.clock += self.charges.copy(value_step, byte_step, values, size)
        if self.charges.bus:
            owed = self.charges.bus_ns(byte_step, size)
            self.clock -= owed
            self._owed_ns += owed

    def load(self, domain: "ProtectionDomain", pages: frozenset[int]) -> None:
        """Switch to a domain's context, where the code will touch `pages`.

        Those that the translation buffer lacks are fetched by `refill`, later: that may yield, and
        a thread that moves to another stack must not yield before it has left its old one.
        """
        self.context = domain
        self.spend(self.charges.switch)
        self.buffer.switch()
        self._missing = self.buffer.touch(pages)

    def would_return_to(self, client: "ProtectionDomain", pages_on_call: frozenset[int]) -> bool:
        """Return whether a call from `client` that touches `pages_on_call` leaves this as it is.

        That is the context, the translation buffer, and what is owed.
        """
        if self.context is not client or self._missing or self._owed_ns:
            return False
        return self.buffer.holds_again(pages_on_call, client.pages_on_return)

    def refill(self) -> None:
        """Fetch the missing pages of the context loaded last, and occupy the memory bus if any.

        It is occupied for that and for what was spent before.
        """
        missing = self._missing
        if missing:
            self._missing = 0
            owed = self.charges.bus_ns(TLB_MISS, missing) if self.charges.bus else 0
            self.clock += self.charges.misses(missing, self) - owed
            self._owed_ns += owed
        if self._owed_ns:
            self._take_bus()

    def has_time(self, ns: int) -> bool:
        """Return whether nothing else is due until `ns` after what is still to be fetched.

        It may be False although nothing is: nobody knows when a bus is free that others take too.
        """
        if self.kernel.bus is not None and not self.kernel.dispatcher.others_idle:
            return False
        return self.clock + self._owed_ns + self.charges.ns_of_misses(self._missing) + ns < self.engine.limit

    def take_over(self, other: "Processor") -> None:
        """Take over another processor's time on the bus: its thread is here now."""
        self._owed_ns, other._owed_ns = other._owed_ns, 0

    def settle(self) -> None:
        """Pass a checkpoint, and occupy the memory bus for what was spent before."""
        if self._owed_ns:
            self._take_bus()
        else:
            self.checkpoint()

    def _take_bus(self) -> None:
        owed, self._owed_ns = self._owed_ns, 0
        bus = self.kernel.bus
        if bus is None or self.thread is None:  # an idle processor delays no other
            self.clock += owed
        else:
            bus.take(self, owed)

    def checkpoint(self) -> None:
        """Yield until nothing else of this machine is due before this processor's clock."""
        if self.clock < self.engine.limit or self.engine.first(self.clock, self.number):
            return
        self.engine.resume(self.turn, self.clock)
        self.kernel.switch_away()

    def may_go_on(self) -> bool:
        """Return whether nothing else is due first; else schedule this processor's turn.

        It is what `checkpoint` is for a thread, before that has a stack.
        """
        if self.clock < self.engine.limit or self.engine.first(self.clock, self.number):
            return True
        self.resume_soon()
        return False

    def may_settle(self) -> bool:
        """Return what `may_go_on` does, but occupy the memory bus where something is owed to it.

        That takes a stack.
        """
        if self._owed_ns:
            self._take_bus()
            return True
        return self.may_go_on()

    def compute(self, ns: int) -> None:
        """Spend `ns` on a computation, which can be cut short at any time."""
        self.computes_from = self.clock
        self.clock += ns
        self.own_ns += ns
        self.checkpoint()
        self.computes_from = -1

    def stop(self, now: int) -> None:
        """End what the thread does: a computation at `now`, a fetch once its misses are there."""
        self.clock += self.due_ns
        self.due_ns = 0
        if self.computes_from >= 0:
            rest = self.clock - max(now, self.computes_from, self._interrupted_until)
            if rest > 0:
                self.clock -= rest
                self.own_ns -= rest
            self.computes_from = -1

    def interrupt(self, begin: int, takes: int) -> None:
        """Take an interrupt that begins at `begin` and takes so long; the thread, if any, waits."""
        self.interrupt_ns += takes
        self._interrupted_until = begin + takes
        if self.thread is None:
            self.clock = max(self.clock, begin) + takes
            return
        self._interrupted_ns += takes
        self.clock += takes
        if self.kernel.processor is not self:  # else it runs, and passes a checkpoint later
            self.resume_soon()

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
        self._interrupted_ns = 0
        self.quantum_ns = thread.quantum_ns
        self.thread = thread
        thread.processor = self

    def release(self) -> None:
        """Release the thread, which will not resume here."""
        self.busy_ns += self.clock - self.attached_at - self._interrupted_ns
        if self.notes_all and self.charges.notes is not None:
            self.charges.notes.add_release(self, self.attached_at)
        if self.thread is not None:
            self.thread.processor = None
        self.thread = None
        self.engine.withdraw(self.turn)

    def resume_soon(self) -> None:
        """Schedule the attached thread's resume at this processor's clock."""
        self.engine.resume(self.turn, self.clock)

    def resume(self) -> None:
        """Resume the attached thread: what its turn does in the loop."""
        self.kernel.processor = self
        thread = self.thread
        assert thread is not None
        if thread.begun or thread.service is None or thread.service.receive(self):
            fault = thread.resume()
            if not thread.stack.take_turn(fault):
                thread.stack.switch(fault)
        self.kernel.processor = None  # the loop is back, perhaps from another thread
