"""Bindings: who may use which export, under which Binding Object, with which A-stacks, until that is revoked."""

from typing import TYPE_CHECKING, Final

from lrpc.kernel.descriptors import BindingObject, ProcedureDescriptor
from lrpc.kernel.errors import CallError, NoSuchProcedure
from lrpc.kernel.simulated.astacks import MOST_REGIONS, AStack, AStackGroup
from lrpc.kernel.simulated.memory import READ, WRITE, Region
from lrpc.kernel.states import ASTACK_TAKEN, BINDING_BOUND, BINDING_REVOKED, LINKAGE_FREE, follow

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import Export, ProtectionDomain
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor

LARGEST_BINDING: Final = 64 * 1024 * 1024  # bytes of A-stacks that one binding may map


class Grant:
    """The kernel's record of one Binding Object: whose it is, and what it is for."""

    def __init__(self, number: int, key: int, client: "ProtectionDomain", name: str, export: "Export | None") -> None:
        self.number = number
        self.key = key
        self.client = client
        self.name = name
        self.export = export  # None where another machine exports it
        self.client_key = BindingObject(number, key, name, export is None)  # the client's to keep, and to alter
        self.state = BINDING_BOUND
        self.fault: CallError | None = None  # what a call through it gets, once it is revoked

    def revoke(self, fault: CallError) -> None:
        """Open nothing any more."""
        self.state = follow(self.state, BINDING_REVOKED)
        self.fault = fault


class Binding(Grant):
    """A binding of a client to a server on the same machine, with A-stacks mapped to both.

    Procedures whose A-stacks are of similar size share them, and so bound their simultaneous calls together.
    """

    def __init__(
        self, kernel: "Kernel", number: int, key: int, client: "ProtectionDomain", export: "Export", *, grows: bool
    ) -> None:
        super().__init__(number, key, client, export.name, export)
        self.kernel = kernel
        self.server: ProtectionDomain = export.domain
        self.descriptors = list(export.descriptors)
        self.grows = grows  # where all A-stacks are taken, rather than wait
        self.bytes = 0  # of all its A-stacks
        self.groups: list[AStackGroup] = []  # by procedure
        self.pools: list[AStackGroup] = []  # each group once
        self._regions: list[Region] = []
        self._mapped = True
        pools = sharing(self.descriptors)
        region = self.map(sum(size_of(self.descriptors, pool) * count_of(self.descriptors, pool) for pool in pools))
        self._regions.append(region)
        groups: dict[int, AStackGroup] = {}
        base = region.base
        for pool in pools:
            size, count = size_of(self.descriptors, pool), count_of(self.descriptors, pool)
            what = f"{self.name}.{'/'.join(self.descriptors[procedure].name for procedure in pool)}"
            group = AStackGroup(kernel, self, region, base, size, what)
            group.fill(count)
            self.pools.append(group)
            groups.update((procedure, group) for procedure in pool)
            base += size * count
        self.groups = [groups[procedure] for procedure in range(len(self.descriptors))]

    def map(self, size: int) -> Region:
        """Return fresh memory that client and server, and nobody else, may read and write."""
        region = self.kernel.memory.allocate(size)
        for domain in (self.client, self.server):
            domain.memory.map(region, READ | WRITE)
        self.bytes += size
        return region

    def unmap(self, region: Region) -> None:
        """Take what `map` made away from both."""
        for domain in (self.client, self.server):
            domain.memory.unmap(region)
        self.bytes -= region.limit - region.base

    def grow(self, group: AStackGroup, processor: "Processor") -> bool:
        """Make as many A-stacks more as a group began with, by this binding's policy; return whether there are any.

        There are none where clients wait, and none beyond `LARGEST_BINDING` bytes or `MOST_REGIONS` regions.
        """
        count = len(group.members) // (group.grown + 1)
        size = count * group.size
        if not self.grows or group.grown >= MOST_REGIONS or self.bytes + size > LARGEST_BINDING:
            return False
        processor.spend(self.kernel.charges.map_memory)
        region = self.map(size)
        self._regions.append(region)
        group.grow(region, count)
        return True

    def validate(self, procedure: int, address: int) -> tuple[AStack, int]:
        """Return the A-stack of a call, once all that the client gave has been checked against this record.

        The second is how many later regions were looked through. Raises the `CallError` that says what is wrong.
        """
        if self.fault is not None:
            raise self.fault.copy()
        if not 0 <= procedure < len(self.groups):
            raise NoSuchProcedure(f"{self.name}: procedure {procedure}: it has {len(self.groups)}, from 0")
        return self.groups[procedure].at(address)

    def revoke(self, fault: CallError) -> None:
        """Open nothing any more: whoever waits for an A-stack gets the fault, and calls in progress go on."""
        super().revoke(fault)
        for group in self.pools:
            group.fault = fault
            group.waiting.fail_all(fault)
        self.collect()

    def reclaim(self) -> None:
        """Collect what client stubs took for a call that is not in progress: none is left to put it back."""
        for group in self.pools:
            for astack in group.members:
                if astack.state == ASTACK_TAKEN and astack.linkage.state == LINKAGE_FREE:
                    group.collect(astack)

    def collect(self) -> None:
        """Give back all memory of a revoked binding, once no A-stack of it is in use."""
        if not self._mapped or any(group.free_count < len(group.members) for group in self.pools):
            return
        self._mapped = False
        for region in self._regions:
            self.unmap(region)
        for group in self.pools:
            for astack in group.members:
                if astack.estack is not None:
                    astack.estack.astack = None  # free for any other
                    astack.estack = None
        del self.kernel.bindings[self.number]


def sharing(descriptors: list[ProcedureDescriptor]) -> list[list[int]]:
    """Return which procedures share A-stacks: the largest of them needs at most a quarter more than the least."""
    order = sorted(range(len(descriptors)), key=lambda procedure: (descriptors[procedure].astack_size, procedure))
    pools: list[list[int]] = []
    for procedure in order:
        size = descriptors[procedure].astack_size
        if pools and 4 * size <= 5 * descriptors[pools[-1][0]].astack_size:
            pools[-1].append(procedure)
        else:
            pools.append([procedure])
    return pools


def size_of(descriptors: list[ProcedureDescriptor], pool: list[int]) -> int:
    """Return the bytes of each A-stack of a pool."""
    return max(descriptors[procedure].astack_size for procedure in pool)


def count_of(descriptors: list[ProcedureDescriptor], pool: list[int]) -> int:
    """Return how many A-stacks a pool has: as many as the procedure that asks for most simultaneous calls."""
    return max(descriptors[procedure].simultaneous for procedure in pool)
