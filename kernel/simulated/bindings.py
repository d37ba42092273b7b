"""Bindings: which domain may use which export, through which Binding Object and A-stacks.

Procedures whose A-stacks are of similar size share a pool of them: within a pool, the largest size
is at most a quarter more than the smallest. Sharing bounds their simultaneous calls together, so a
pool has as many A-stacks as the procedure that asks for most.
"""

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

LARGEST_BINDING: Final = 64 * 1024 * 1024  # most bytes of A-stacks of one binding


class Grant:
    """The kernel's record of a Binding Object: whom it was given to, and for which export."""

    def __init__(self, number: int, key: int, client: "ProtectionDomain", name: str, export: "Export | None") -> None:
        self.number = number
        self.key = key
        self.client = client
        self.name = name
        self.export = export  # None where another machine exports it
        # The client holds this, and may alter it.
        self.client_key = BindingObject(number, key, name, export is None)
        self.state = BINDING_BOUND
        self.fault: CallError | None = None  # what calls through it raise, once it is revoked

    def revoke(self, fault: CallError) -> None:
        """Revoke: later calls through this Binding Object raise `fault`."""
        self.state = follow(self.state, BINDING_REVOKED)
        self.fault = fault


class Binding(Grant):
    """A binding of a client to a server on the same machine, with A-stacks mapped to both."""

    def __init__(
        self, kernel: "Kernel", number: int, key: int, client: "ProtectionDomain", export: "Export", *, grows: bool
    ) -> None:
        super().__init__(number, key, client, export.name, export)
        self.kernel = kernel
        self.server: ProtectionDomain = export.domain
        self.descriptors = list(export.descriptors)
        self.grows = grows  # makes more A-stacks when all are taken; otherwise clients wait
        self.bytes = 0  # mapped: A-stacks and out-of-band segments
        self.groups: list[AStackGroup] = []  # by procedure
        self.pools: list[AStackGroup] = []  # the same groups, each once
        self._regions: list[Region] = []
        self._mapped = True
        pools = pools_of(self.descriptors)
        region = self.map(
            sum(astack_size(self.descriptors, pool) * astack_count(self.descriptors, pool) for pool in pools)
        )
        self._regions.append(region)
        groups: dict[int, AStackGroup] = {}
        base = region.base
        for pool in pools:
            size, count = astack_size(self.descriptors, pool), astack_count(self.descriptors, pool)
            what = f"{self.name}.{'/'.join(self.descriptors[procedure].name for procedure in pool)}"
            group = AStackGroup(kernel, self, region, base, size, what)
            group.fill(count)
            self.pools.append(group)
            groups.update((procedure, group) for procedure in pool)
            base += size * count
        self.groups = [groups[procedure] for procedure in range(len(self.descriptors))]

    def map(self, size: int) -> Region:
        """Return fresh memory that the client and the server, and no others, may read and write."""
        region = self.kernel.memory.allocate(size)
        for domain in (self.client, self.server):
            domain.memory.map(region, READ | WRITE)
        self.bytes += size
        return region

    def unmap(self, region: Region) -> None:
        """Unmap a region that `map` returned, from both domains."""
        for domain in (self.client, self.server):
            domain.memory.unmap(region)
        self.bytes -= region.limit - region.base

    def grow(self, group: AStackGroup, processor: "Processor") -> bool:
        """Add as many A-stacks as the group began with, and return True.

        Return False if clients of this binding wait instead, or if the limits would be exceeded:
        `LARGEST_BINDING` bytes, or `MOST_REGIONS` regions.
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
        """Check what a client gave for a call, and return the A-stack to use.

        Also return how many later regions were searched for it. Raises the `CallError` that says
        what is wrong: the binding's fault once it is revoked, `NoSuchProcedure`, `WrongAStack` or
        `LinkageInUse`.
        """
        if self.fault is not None:
            raise self.fault.copy()
        if not 0 <= procedure < len(self.groups):
            raise NoSuchProcedure(f"{self.name}: procedure {procedure}: it has {len(self.groups)}, numbered from 0")
        return self.groups[procedure].at(address)

    def revoke(self, fault: CallError) -> None:
        """Revoke: later calls, and threads that wait for an A-stack, get `fault`.

        Calls in progress continue.
        """
        super().revoke(fault)
        for group in self.pools:
            group.fault = fault
            group.waiting.fail_all(fault)
        self.collect()

    def reclaim(self) -> None:
        """Free the A-stacks that client stubs took for a call that is not in progress.

        This is for a client that has terminated: no stub is left to put them back.
        """
        for group in self.pools:
            for astack in group.members:
                if astack.state == ASTACK_TAKEN and astack.linkage.state == LINKAGE_FREE:
                    group.collect(astack)

    def collect(self) -> None:
        """Unmap all memory of a revoked binding, once none of its A-stacks is in use."""
        if not self._mapped or any(group.free_count < len(group.members) for group in self.pools):
            return
        self._mapped = False
        for region in self._regions:
            self.unmap(region)
        for group in self.pools:
            for astack in group.members:
                if astack.estack is not None:
                    astack.estack.astack = None  # free for any other A-stack
                    astack.estack = None
        del self.kernel.bindings[self.number]


def pools_of(descriptors: list[ProcedureDescriptor]) -> list[list[int]]:
    """Return which procedures share A-stacks, as lists of their numbers."""
    order = sorted(range(len(descriptors)), key=lambda procedure: (descriptors[procedure].astack_size, procedure))
    pools: list[list[int]] = []
    for procedure in order:
        size = descriptors[procedure].astack_size
        if pools and 4 * size <= 5 * descriptors[pools[-1][0]].astack_size:
            pools[-1].append(procedure)
        else:
            pools.append([procedure])
    return pools


def astack_size(descriptors: list[ProcedureDescriptor], pool: list[int]) -> int:
    """Return the bytes of each A-stack of a pool."""
    return max(descriptors[procedure].astack_size for procedure in pool)


def astack_count(descriptors: list[ProcedureDescriptor], pool: list[int]) -> int:
    """Return how many A-stacks a pool has."""
    return max(descriptors[procedure].simultaneous for procedure in pool)
