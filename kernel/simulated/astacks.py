"""A-stacks and linkage records: pairwise shared memory for arguments and results, and where a call returns to."""

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

MOST_REGIONS: Final = 64  # of one group, so that validation ends


class Linkage:
    """The kernel's record of one call in progress: who called, and where the call returns to."""

    __slots__ = ("astack", "binding", "caller", "number", "outer", "procedure", "state", "thread")

    def __init__(self, binding: "Binding", number: int) -> None:
        self.binding = binding
        self.number = number  # within its group
        self.procedure = 0  # of the call
        self.state = LINKAGE_FREE
        self.thread: Thread | None = None
        self.caller: Stack | None = None
        self.outer: Linkage | None = None  # of the call that its thread made this one in
        self.astack: AStack  # the one beside it, for ever

    def claim(self, thread: "Thread", procedure: int) -> None:
        """Push the linkage for a call of `thread`."""
        self.state = follow(self.state, LINKAGE_CALLING)
        self.procedure = procedure
        self.thread = thread
        self.caller = thread.stack
        self.outer = thread.innermost
        thread.innermost = self

    def free(self) -> None:
        """Belong to no call."""
        self.state = follow(self.state, LINKAGE_FREE)
        self.thread = None
        self.caller = None
        self.outer = None


class AStack:
    """A piece of a region that is mapped to client and server alike, and the E-stack last used with it."""

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
        self.estack: EStack | None = None
        # Out of band, mapped for one call: what was too large for the A-stack.
        self.argument_segment: Region | None = None
        self.result_segment: Region | None = None
        self.written = 0  # bytes of arguments
        self.values = 0  # how many those are, until their copy is charged: by which processor will read them
        self.results = 0  # bytes that the server wrote
        self.read_elsewhere = False  # its results were written on another processor than the client reads them on
        linkage.astack = self

    def quarantine(self, thread: "Thread") -> None:
        """Stay with a server that does not let go of a call; does nothing where `thread` called without taking it."""
        if self.state == ASTACK_TAKEN and self.taker is thread:
            self.state = follow(self.state, ASTACK_QUARANTINED)

    def close_segments(self) -> None:
        """Unmap what travelled out of band."""
        for segment in (self.argument_segment, self.result_segment):
            if segment is not None:
                self.linkage.binding.unmap(segment)
        self.argument_segment = self.result_segment = None


class AStackGroup:
    """The A-stacks that some procedures of a binding share: a LIFO queue with a lock, and the threads that wait.

    Those made at binding lie in one contiguous region, the others each in a later one.
    """

    def __init__(self, kernel: "Kernel", binding: "Binding", region: Region, base: int, size: int, what: str) -> None:
        self.kernel = kernel
        self.binding = binding
        self.size = size  # bytes of each
        self.members: list[AStack] = []
        self.waiting = WaitQueue(kernel, f"an A-stack of {what}")
        self.fault: CallError | None = None  # why there will be no more, once the binding is revoked
        self.lock = SpinLock()
        self.grown = 0  # regions made later
        self._region = region
        self._base = base
        self._primary = 0  # A-stacks in the contiguous region
        self._later: list[AStack] = []  # the first of each later region
        self._free: list[AStack] = []

    def fill(self, count: int) -> None:
        """Make the A-stacks of the contiguous region; called once."""
        self._primary = count
        self._add(self._region, self._base - self._region.base, count)

    def grow(self, region: Region, count: int) -> None:
        """Add A-stacks in a region of their own."""
        self.grown += 1
        self._later.append(self._add(region, 0, count))

    @property
    def free_count(self) -> int:
        """Return how many are in the queue."""
        return len(self._free)

    def take(self, processor: "Processor") -> AStack:
        """Return the A-stack that was freed last; where there is none but for threads that came before, wait or grow.

        Raises the `CallError` that says why, where the binding has been revoked.
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

    def put_back(self, astack: AStack, processor: "Processor") -> None:
        """Put an A-stack that this processor's thread took on top of the queue."""
        self.lock.hold(processor, self.kernel.charges.astack_queue)
        self.collect(astack)

    def collect(self, astack: AStack) -> None:
        """Have an A-stack free again, and let one waiting thread go on."""
        astack.state = follow(astack.state, ASTACK_FREE)
        if astack.argument_segment is not None or astack.result_segment is not None:
            astack.close_segments()
        if self.kernel.debug:
            astack.region.bytes[astack.offset : astack.offset + self.size] = bytes([POISON]) * self.size
        self._free.append(astack)
        if self.fault is not None:
            self.binding.collect()
        elif self.waiting.waiting:
            self.waiting.wake_one()

    def at(self, address: int) -> tuple[AStack, int]:
        """Return the A-stack at `address` that is free for a call, and how many later regions were looked through.

        A range check for the contiguous region. Raises `WrongAStack` where none of this group begins there, or
        `LinkageInUse`.
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
        """Add A-stacks from `offset` of a region on, behind those that are there; return the first."""
        first = len(self.members)
        for number in range(count):
            linkage = Linkage(self.binding, first + number)
            astack = AStack(self, region, offset + number * self.size, linkage)
            self.members.append(astack)
            self._free.append(astack)
        return self.members[first]
