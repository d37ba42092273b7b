"""A-stacks and linkage records: memory for arguments and results, and where a call returns to.

The procedures of a binding that share A-stacks have one LIFO queue of them. Each queue has a lock
of its own (section 3.4), so that calls through other queues do not contend for it. The A-stacks
made at binding lie in one contiguous region, where validating an address is a range check. Those
made later lie in regions of their own, which take a little longer to search (section 5.2).

Each A-stack has a linkage record, which belongs to the kernel alone. Since no client can forge one,
a return needs no check.
"""

from typing import TYPE_CHECKING, Final

from lrpc.kernel.errors import CallError, LinkageInUse, WrongAStack
from lrpc.kernel.simulated.locks import SpinLock, WaitQueue
from lrpc.kernel.simulated.memory import POISON, Region
from lrpc.kernel.states import (
    ASTACK_FREE,
    ASTACK_QUARANTINED,
    ASTACK_TAKEN,
    LINKAGE_CALLING,
    LINKAGE_FREE,
    follow,
)

if TYPE_CHECKING:
    from lrpc.kernel.simulated.bindings import Binding
    from lrpc.kernel.simulated.estacks import EStack
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.threads import Stack, Thread

MOST_REGIONS: Final = 64  # of one group, which bounds the time of a validation


class Linkage:
    """The kernel's record of one call in progress: the caller, and where the call returns to."""

    __slots__ = ("astack", "binding", "caller", "depth", "number", "outer", "procedure", "state", "thread")

    def __init__(self, binding: "Binding", number: int) -> None:
        self.binding = binding
        self.number = number  # within its group
        self.astack: AStack  # the one that this record is for, always
        # The call in progress, set by `claim`.
        self.procedure = 0
        self.state = LINKAGE_FREE
        self.thread: Thread | None = None
        self.caller: Stack | None = None  # the stack to return to
        self.outer: Linkage | None = None  # the next one down on the thread's linkage stack
        self.depth = 0  # calls on that stack up to this one; it is the first at 1

    def claim(self, thread: "Thread", procedure: int) -> None:
        """Push this linkage on a thread's linkage stack, for a call of a procedure."""
        self.state = follow(self.state, LINKAGE_CALLING)
        self.procedure = procedure
        self.thread = thread
        self.caller = thread.stack
        outer = self.outer = thread.innermost
        self.depth = 1 if outer is None else outer.depth + 1
        thread.innermost = self

    def free(self) -> None:
        """Free this linkage: it belongs to no call."""
        self.state = follow(self.state, LINKAGE_FREE)
        self.thread = None
        self.caller = None
        self.outer = None


class AStack:
    """A piece of a region that client and server share, for one call's arguments and results."""

    __slots__ = (
        "address",
        "argument_segment",
        "estack",
        "group",
        "linkage",
        "offset",
        "read_elsewhere",
        "region",
        "result_segment",
        "results",
        "state",
        "taker",
        "values",
        "written",
    )

    def __init__(self, group: "AStackGroup", region: Region, offset: int, linkage: Linkage) -> None:
        self.group = group
        self.region = region
        self.offset = offset
        self.address = region.base + offset
        self.linkage = linkage
        self.state = ASTACK_FREE
        self.taker: Thread | None = None  # whose client stub took it last
        self.estack: EStack | None = None  # the E-stack that stays with it
        # The present call's; the client stub writes the arguments, the kernel the results. Segments
        # carry out of band what is too large for the A-stack.
        self.argument_segment: Region | None = None
        self.result_segment: Region | None = None
        self.written = 0  # bytes of arguments
        # Arguments whose copy is not charged yet, since its cost depends on which processor reads
        # them.
        self.values = 0
        self.results = 0  # bytes of results
        self.read_elsewhere = False  # the results were written on another processor than reads them
        linkage.astack = self

    def quarantine(self, thread: "Thread") -> None:
        """Leave this A-stack with a server whose caller is released, until that server returns.

        Does nothing if `thread` called without having taken the A-stack.
        """
        if self.state == ASTACK_TAKEN and self.taker is thread:
            self.state = follow(self.state, ASTACK_QUARANTINED)

    def pass_to(self, captured: "Thread", successor: "Thread") -> None:
        """Leave this A-stack to the thread in which a captured one's caller continues."""
        if self.taker is captured:
            self.taker = successor

    def close_segments(self) -> None:
        """Unmap the segments that carried arguments or results out of band."""
        for segment in (self.argument_segment, self.result_segment):
            if segment is not None:
                self.linkage.binding.unmap(segment)
        self.argument_segment = self.result_segment = None


class AStackGroup:
    """The A-stacks that some procedures of a binding share, and the threads that wait for one."""

    def __init__(self, kernel: "Kernel", binding: "Binding", region: Region, base: int, size: int, what: str) -> None:
        self.kernel = kernel
        self.binding = binding
        self.size = size  # bytes of each
        self.members: list[AStack] = []
        self.waiting = WaitQueue(kernel, f"an A-stack of {what}")
        self.fault: CallError | None = None  # the binding's, once that is revoked
        self.lock = SpinLock()
        self.grown = 0  # regions made later
        self._region = region  # the contiguous one, which all groups of the binding share
        self._base = base  # this group's first address there
        self._primary = 0  # this group's A-stacks there, and in each later region
        self._later: list[AStack] = []  # the first A-stack of each later region
        self._free: list[AStack] = []  # the queue: the last one is taken first

    def fill(self, count: int) -> None:
        """Make the A-stacks of the contiguous region. Called once."""
        self._primary = count
        self._add(self._region, self._base - self._region.base, count)

    def grow(self, region: Region, count: int) -> None:
        """Add A-stacks in a region of their own."""
        self.grown += 1
        self._later.append(self._add(region, 0, count))

    @property
    def free_count(self) -> int:
        """Return how many A-stacks are in the queue."""
        return len(self._free)

    def take(self, processor: "Processor") -> AStack:
        """Take the A-stack that was freed last, and return it.

        Where none is left, or only those for threads woken earlier, the binding grows or the
        running thread waits. Raises the binding's fault if it has been revoked.
        """
        self.lock.hold(processor, self.kernel.charges.astack_queue)
        self._require_bound()
        if len(self._free) <= self.waiting.woken and not self.binding.grow(self, processor):
            self.kernel.counts.astack_waits += 1
            self.waiting.wait()
            self._require_bound()
        astack = self._free.pop()
        astack.state = follow(astack.state, ASTACK_TAKEN)
        astack.taker = self.kernel.running_thread()
        self.kernel.counts.astacks_taken += 1
        return astack

    def at_hand(self, now: int) -> AStack | None:
        """Return the A-stack that a processor would take at `now`; None where it must wait.

        None also where a validation would have to search for it.
        """
        waiting = self.waiting
        if not self._free or waiting.woken or waiting.waiting or not self.lock.is_free(now):
            return None
        astack = self._free[-1]
        return astack if astack.linkage.number < self._primary else None

    def put_back(self, astack: AStack, processor: "Processor") -> None:
        """Put an A-stack that the running thread took back on top of the queue."""
        self.lock.hold(processor, self.kernel.charges.astack_queue)
        self.collect(astack)

    def collect(self, astack: AStack) -> None:
        """Free an A-stack, and wake one thread that waits for one."""
        astack.state = follow(astack.state, ASTACK_FREE)
        if astack.argument_segment is not None or astack.result_segment is not None:
            astack.close_segments()
        self.poison(astack)
        self._free.append(astack)
        if self.fault is not None:
            self.binding.collect()
        elif self.waiting.waiting:
            self.waiting.wake_one()

    def poison(self, astack: AStack) -> None:
        """Fill an A-stack that is free, in debug mode."""
        if self.kernel.debug:
            astack.region.bytes[astack.offset : astack.offset + self.size] = bytes([POISON]) * self.size

    def at(self, address: int) -> tuple[AStack, int]:
        """Return the A-stack at `address`, and how many later regions were searched for it.

        Raises `WrongAStack` if none of this group begins there, or `LinkageInUse` if it has a call
        in progress.
        """
        looked = 0
        offset = address - self._base
        if 0 <= offset < self._primary * self.size and offset % self.size == 0:
            astack = self.members[offset // self.size]
        else:
            astack, looked = self._at_later(address)
        if astack.linkage.state != LINKAGE_FREE:
            raise LinkageInUse(f"{self.waiting.what}: the one at {address:#x} has a call in progress")
        return astack, looked

    def _require_bound(self) -> None:
        fault = self.fault
        if fault is not None:
            raise fault.copy()

    def _at_later(self, address: int) -> tuple[AStack, int]:
        for looked, first in enumerate(self._later, 1):
            number, rest = divmod(address - first.address, self.size)
            if not rest and 0 <= number < self._primary:
                return self.members[first.linkage.number + number], looked
        raise WrongAStack(f"address {address:#x}: {self.waiting.what} does not begin there")

    def _add(self, region: Region, offset: int, count: int) -> AStack:
        """Add A-stacks from an offset of a region on; return the first of them."""
        first = len(self.members)
        for number in range(count):
            linkage = Linkage(self.binding, first + number)
            astack = AStack(self, region, offset + number * self.size, linkage)
            self.members.append(astack)
            self._free.append(astack)
        return self.members[first]
