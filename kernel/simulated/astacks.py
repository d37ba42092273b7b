"""A-stacks and linkage records: pairwise shared memory for arguments and results, and where a call returns to."""

from typing import TYPE_CHECKING, Final

from greenlet import greenlet

from lrpc.kernel.descriptors import BindingObject, ProcedureDescriptor
from lrpc.kernel.errors import LinkageInUse, NoSuchProcedure, WrongAStack
from lrpc.kernel.simulated.locks import WaitQueue
from lrpc.kernel.simulated.memory import POISON, READ, WRITE, Region
from lrpc.kernel.states import AStackState, BindingState, LinkageState, follow

if TYPE_CHECKING:
    from lrpc.kernel.simulated.estacks import EStack
    from lrpc.kernel.simulated.kernel import Domain, Export, Kernel
    from lrpc.kernel.simulated.threads import Thread

LARGEST_BINDING: Final = 64 * 1024 * 1024  # bytes of A-stacks that one binding may map


class Linkage:
    """The kernel's record of one call in progress: who called, and where the call returns to."""

    __slots__ = ("astack", "binding", "caller", "number", "procedure", "state", "thread")

    def __init__(self, binding: "Binding", procedure: int, number: int) -> None:
        self.binding = binding
        self.procedure = procedure
        self.number = number
        self.state = LinkageState.FREE
        self.thread: Thread | None = None
        self.caller: greenlet | None = None
        self.astack: AStack  # the one beside it, for ever

    def claim(self, thread: "Thread") -> None:
        """Give the linkage to a call of `thread`."""
        self.state = follow(self.state, LinkageState.CALLING)
        self.thread = thread
        thread.linkages.append(self)

    def free(self) -> None:
        """Belong to no call."""
        self.state = follow(self.state, LinkageState.FREE)
        self.thread = None
        self.caller = None


class AStack:
    """A piece of a region that is mapped to client and server alike, and the E-stack last used with it."""

    __slots__ = ("address", "estack", "group", "linkage", "offset", "state")

    def __init__(self, group: "AStackGroup", offset: int, linkage: Linkage) -> None:
        self.group = group
        self.offset = offset
        self.address = group.region.base + offset
        self.linkage = linkage
        self.state = AStackState.FREE
        self.estack: EStack | None = None
        linkage.astack = self


class AStackGroup:
    """The A-stacks of one procedure in one binding: a LIFO queue, and the threads that wait for one."""

    def __init__(self, kernel: "Kernel", region: Region, base: int, size: int, what: str) -> None:
        self.kernel = kernel
        self.region = region
        self.base = base  # address of the first
        self.size = size  # bytes of each
        self.members: list[AStack] = []
        self.waiting = WaitQueue(kernel, f"an A-stack of {what}")
        self._free: list[AStack] = []

    def add(self, linkage: Linkage) -> None:
        """Add one A-stack, behind those that are there."""
        offset = self.base - self.region.base + len(self.members) * self.size
        astack = AStack(self, offset, linkage)
        self.members.append(astack)
        self._free.append(astack)

    @property
    def free_count(self) -> int:
        """Return how many are in the queue."""
        return len(self._free)

    def take(self) -> AStack:
        """Return the A-stack that was freed last; waits where there is none but for threads that waited before."""
        if len(self._free) <= self.waiting.woken:
            self.waiting.wait()
        astack = self._free.pop()
        astack.state = follow(astack.state, AStackState.TAKEN)
        self.kernel.counts.astacks_taken += 1
        return astack

    def give_back(self, astack: AStack) -> None:
        """Put an A-stack on top of the queue and let one waiting thread go on."""
        astack.state = follow(astack.state, AStackState.FREE)
        if self.kernel.debug:
            self.region.bytes[astack.offset : astack.offset + self.size] = bytes([POISON]) * self.size
        self._free.append(astack)
        self.waiting.wake_one()

    def at(self, address: int) -> AStack:
        """Return the A-stack at `address`, by a range check; `WrongAStack` where none of this group begins there."""
        number, rest = divmod(address - self.base, self.size)
        if rest or not 0 <= number < len(self.members):
            raise WrongAStack(f"address {address:#x}: {self.waiting.what} does not begin there")
        return self.members[number]


class Binding:
    """The kernel's record of one binding: who may use it, for which export, with which A-stacks."""

    def __init__(self, kernel: "Kernel", key: BindingObject, client: "Domain", export: "Export") -> None:
        self.client_key = key  # the client's to keep, and to alter
        self.key = BindingObject(key.number, key.key, key.name)
        self.client = client
        self.export = export
        self.state = BindingState.BOUND
        descriptors = export.descriptors
        total = sum(descriptor.astack_size * descriptor.simultaneous for descriptor in descriptors)
        self.region = kernel.memory.allocate(total)
        self.groups: list[AStackGroup] = []
        base = self.region.base
        for procedure, descriptor in enumerate(descriptors):
            self.groups.append(self._group(kernel, procedure, descriptor, base))
            base += descriptor.astack_size * descriptor.simultaneous
        for domain in (client, export.domain):
            domain.memory.map(self.region, READ | WRITE)

    def _group(self, kernel: "Kernel", procedure: int, descriptor: ProcedureDescriptor, base: int) -> AStackGroup:
        what = f"{self.export.name}.{descriptor.name}"
        group = AStackGroup(kernel, self.region, base, descriptor.astack_size, what)
        for number in range(descriptor.simultaneous):
            group.add(Linkage(self, procedure, number))
        return group

    def validate(self, procedure: int, address: int) -> Linkage:
        """Return the linkage of a call, once all that the client gave has been checked against this record."""
        if not 0 <= procedure < len(self.groups):
            raise NoSuchProcedure(f"{self.export.name}: procedure {procedure}: it has {len(self.groups)}, from 0")
        astack = self.groups[procedure].at(address)
        if astack.linkage.state is not LinkageState.FREE:
            raise LinkageInUse(f"{self.export.name}: the A-stack at {address:#x} has a call in progress")
        return astack.linkage
