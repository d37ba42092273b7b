"""Bindings: which domain may use which export, through which Binding Object and A-stacks.

Procedures whose A-stacks are of similar size share a pool of them: within a pool, the largest size
is at most a quarter more than the smallest. Sharing bounds their simultaneous calls together, so a
pool has as many A-stacks as the procedure that asks for most.

An export's clerk is a thread of its server, which waits in the server's domain. An import has the
kernel wake it, and waits for its answer: the procedure descriptor list (section 3.1). Outside a run
the clerk's thread runs alone, on no processor, so that no time passes and nothing else happens.
"""

from collections import deque
from typing import TYPE_CHECKING, Final

from lrpc.kernel.descriptors import BindingObject, ImportRequest, ProcedureDescriptor
from lrpc.kernel.errors import BindingRefused, CallError, NoSuchProcedure, raised
from lrpc.kernel.simulated.astacks import MOST_REGIONS, AStack, AStackGroup
from lrpc.kernel.simulated.memory import READ, WRITE, Region
from lrpc.kernel.states import ASTACK_TAKEN, BINDING_BOUND, BINDING_REVOKED, LINKAGE_FREE, follow

if TYPE_CHECKING:
    from lrpc.kernel.simulated.domain import Export, ProtectionDomain
    from lrpc.kernel.simulated.engine import Event
    from lrpc.kernel.simulated.kernel import Kernel
    from lrpc.kernel.simulated.processor import Processor
    from lrpc.kernel.simulated.threads import Thread

LARGEST_BINDING: Final = 64 * 1024 * 1024  # most bytes of A-stacks of one binding
QUANTUM_NS: Final = 10**7  # of a clerk, where the machine has none: its policy holds nobody up for longer
PATIENCE_NS: Final = 10 * 10**9  # of importers, from when a clerk begins to decide; no source has one
Descriptors = tuple[ProcedureDescriptor, ...]


class ImportCall:
    """An import that a clerk is to answer, and the thread that waits for the answer."""

    __slots__ = ("answer", "fault", "importer", "request")

    def __init__(self, request: ImportRequest, importer: "Thread | None") -> None:
        self.request = request
        self.importer = importer  # None outside a run, and once nobody waits any more
        self.answer: Descriptors = ()
        self.fault: CallError | None = None  # in place of an answer

    def abandon(self) -> None:
        """Stop waiting for the answer; a late one is dropped."""
        self.importer = None


class ClerkThread:
    """The clerk of one export: a thread that waits in the server's domain for imports."""

    def __init__(self, kernel: "Kernel", export: "Export") -> None:
        self.kernel = kernel
        self.export = export
        kernel.clerks_made += 1
        self.thread = kernel.new_thread(f"{export.name}/clerk", export.domain, self._serve)
        self.thread.serves = True
        self.thread.quantum_ns = kernel.quantum_ns or QUANTUM_NS
        self.thread.waits_for = f"an import of {export.name}"
        self.idle = True  # waits for an import
        self.deciding: ImportCall | None = None  # the import that it decides about
        self.imports: deque[ImportCall] = deque()  # those that wait for it
        self._late = False  # its importers have lost patience, and it has not answered since
        self._closed: BindingRefused | None = None  # what importers get, once its domain has terminated
        self._timer: Event | None = None

    def ask(self, request: ImportRequest) -> Descriptors:
        """Wake the clerk for an import, wait for its answer, and return that.

        Raises `BindingRefused` where the clerk refuses, raises, has not answered in time, or ends,
        and `CallAborted` where the caller is released.
        """
        kernel = self.kernel
        if kernel.processor is not None:
            kernel.processor.checkpoint()  # imports are answered in the order of their times
        if self._closed is not None:
            raise self._closed.copy()
        if self._late:
            raise self._refusal("has not answered an earlier import yet")
        if kernel.processor is None:
            return self._ask_aside(ImportCall(request, None))
        thread = kernel.running_thread()
        one = ImportCall(request, thread)
        self.imports.append(one)
        if self.idle:
            self.idle = False
            kernel.wake(self.thread)
        thread.outstanding = one
        fault = kernel.block(f"the clerk of {self.export.name}") or one.fault
        if fault is not None:
            raise fault
        return one.answer

    def close(self) -> None:
        """End the clerk, whose domain terminates, and refuse what waits for it."""
        self._closed = self._refusal(f"has ended: {self.export.domain} has terminated")
        self._fail_all(self._closed)

    def _ask_aside(self, one: ImportCall) -> Descriptors:
        """Return the clerk's answer to an import that is made outside a run."""
        if not self.idle:
            raise self._refusal("decides about another import, and no time passes outside a run; run its machine")
        self.imports.append(one)
        self.idle = False
        waited = self.kernel.run_aside(self.thread)
        self._late = not self.idle  # it never goes on
        if waited:
            raise self._refusal(
                "waits or takes time, and none passes outside a run; import in the body of a thread instead"
            )
        if one.fault is not None:
            raise one.fault
        return one.answer

    def _serve(self) -> None:
        """Answer imports, one after the other: the body of the clerk's thread."""
        kernel = self.kernel
        while True:
            while self.imports:
                one = self.deciding = self.imports.popleft()
                if kernel.processor is not None:
                    self._timer = kernel.engine.schedule(kernel.now_ns + PATIENCE_NS, self._lose_patience)
                fault = self._decide(one.request)
                kernel.refuse_if_reaping()
                if kernel.processor is not None:
                    self.thread = kernel.running_thread()  # a successor, if a call by the policy was aborted
                self._stop_timer()
                self._late = False
                self.deciding = None
                self._answer(one, fault)
            self.idle = True
            if kernel.processor is None:
                kernel.step_aside()
            else:
                kernel.block(f"an import of {self.export.name}")

    def _decide(self, request: ImportRequest) -> CallError | None:
        """Return None where the policy accepts an import, or why it is refused."""
        try:
            reason = self.export.clerk.authorise(request)
        except Exception as error:
            told = raised(error)
            fault = self._refusal(f"raised {told}")
            for note in getattr(told, "__notes__", ()):
                fault.add_note(note)
            return fault
        return None if reason is None else self._refusal(f"refused domain {request.client}: {reason}")

    def _answer(self, one: ImportCall, fault: CallError | None) -> None:
        if fault is None:
            one.answer = self.export.descriptors
        else:
            one.fault = fault
        importer, one.importer = one.importer, None
        if importer is not None:
            importer.outstanding = None
            self.kernel.wake(importer)

    def _lose_patience(self) -> None:
        """Refuse all imports that wait: the clerk does not answer."""
        self._timer = None
        self._late = True
        self._fail_all(self._refusal(f"has not answered within {PATIENCE_NS // 10**9} s"))

    def _fail_all(self, fault: BindingRefused) -> None:
        self._stop_timer()
        waiting = [*self.imports] if self.deciding is None else [self.deciding, *self.imports]
        self.imports.clear()
        for one in waiting:
            self._answer(one, fault.copy())

    def _stop_timer(self) -> None:
        timer, self._timer = self._timer, None
        if timer is not None:
            self.kernel.engine.cancel(timer)

    def _refusal(self, what: str) -> BindingRefused:
        return BindingRefused(f"import {self.export.name}: its clerk {what}")


class Grant:
    """The kernel's record of a Binding Object: whom it was given to, and for which export."""

    def __init__(self, number: int, key: int, client: "ProtectionDomain", name: str, export: "Export | None") -> None:
        self.number = number
        self.key = key
        self.client = client
        self.name = name
        self.export = export  # None where another machine exports it
        # The client holds this, and may alter it.
        self.client_key = given = BindingObject(number, key, name, export is None)
        self._given_number, self._given_key = given.number, given.key
        self.state = BINDING_BOUND
        self.fault: CallError | None = None  # what calls through it raise, once it is revoked

    def admits(self, key: BindingObject, client: "ProtectionDomain") -> bool:
        """Return whether `key` has what the client was given, and is not revoked: at once if so.

        Where it says no, `Kernel.check_key` finds out more, and raises what is wrong.
        """
        is_given = key.number is self._given_number and key.key is self._given_key
        return is_given and self.fault is None and self.client is client

    def revoke(self, fault: CallError) -> None:
        """Revoke: later calls through this Binding Object raise `fault`."""
        self.state = follow(self.state, BINDING_REVOKED)
        self.fault = fault


class Binding(Grant):
    """A binding of a client to a server on the same machine, with A-stacks mapped to both."""

    def __init__(
        self,
        kernel: "Kernel",
        number: int,
        key: int,
        client: "ProtectionDomain",
        export: "Export",
        descriptors: Descriptors,
        *,
        grows: bool,
    ) -> None:
        super().__init__(number, key, client, export.name, export)
        self.kernel = kernel
        self.server: ProtectionDomain = export.domain
        self.descriptors = list(descriptors)
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
