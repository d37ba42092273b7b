"""The kernel of one machine in virtual time: its domains, their exports, and who may call them."""

import sys
from collections.abc import Callable
from typing import Final

from lrpc.kernel.descriptors import BindingObject, ImportRequest
from lrpc.kernel.errors import BindingRefused, BindingRevoked, CallError, ForgedBinding, Refused
from lrpc.kernel.simulated import log as events
from lrpc.kernel.simulated.bindings import (
    LARGEST_BINDING,
    Binding,
    ClerkThread,
    Descriptors,
    Grant,
    astack_count,
    astack_size,
    pools_of,
)
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.disciplines import Discipline
from lrpc.kernel.simulated.domain import Export, ProtectionDomain
from lrpc.kernel.simulated.histogram import Histogram, Route, Tally
from lrpc.kernel.simulated.locks import SpinLock
from lrpc.kernel.simulated.log import Sink
from lrpc.kernel.simulated.memory import PhysicalMemory
from lrpc.kernel.simulated.message_passing import Port
from lrpc.kernel.simulated.network.remote import Network
from lrpc.kernel.simulated.scheduler import Scheduler
from lrpc.kernel.states import LINKAGE_FREE

MOST_REASONS = 1000  # kept, of why Binding Objects were revoked; older ones are forgotten
NESTED_CALLS: Final = 100  # of one thread, one within the other, unless a kernel is told otherwise
MOST_NESTED_CALLS: Final = 1000  # that a kernel can be told: their stacks share the process's one
LEAST_QUANTUM_US: Final = 1.0  # a turn in which nothing could be done would never end
MOST_QUANTUM_US: Final = 1e9
FRAMES_PER_CALL: Final = 40  # of Python that a nested call may take; interpreted, lrpc's own are 10


class Kernel(Scheduler):
    """One machine's kernel.

    `debug` fills freed A-stacks with a poison byte. `sink` also gets the event log. With
    `domain_caching` idle processors spin in domain contexts. `discipline` replaces the cost model's
    discipline of message passing. `most_nested` bounds the calls that one thread has in progress.
    With `quantum_us` ready threads take turns on a processor, each for so many microseconds.
    `make_domain` makes the domains, of the class that the code in them needs.
    """

    def __init__(
        self,
        machine: str,
        costs: CostModel,
        *,
        processors: int = 1,
        seed: int = 0,
        debug: bool = False,
        sink: Sink | None = None,
        domain_caching: bool = False,
        discipline: Discipline | None = None,
        most_nested: int = NESTED_CALLS,
        quantum_us: float | None = None,
        make_domain: "Callable[[Kernel, int, str], ProtectionDomain]" = ProtectionDomain,
    ) -> None:
        if quantum_us is not None and not LEAST_QUANTUM_US <= quantum_us <= MOST_QUANTUM_US:  # also what is no number
            least, most = f"{LEAST_QUANTUM_US:g}", f"{MOST_QUANTUM_US:g}"
            raise Refused(f"machine {machine}: quantum_us is {quantum_us:g}; give {least} to {most}, or leave it out")
        quantum_ns = 0 if quantum_us is None else round(quantum_us * 1000)
        super().__init__(machine, costs, processors=processors, seed=seed, sink=sink, quantum_ns=quantum_ns)
        if not 1 <= most_nested <= MOST_NESTED_CALLS:
            raise Refused(f"machine {machine}: most_nested is {most_nested}; give 1 to {MOST_NESTED_CALLS}")
        # Python counts the frames of a thread's stacks together, and where it runs out of them, in
        # the midst of a transfer, no call can be ended in order. So the kernel's limit comes first.
        sys.setrecursionlimit(max(sys.getrecursionlimit(), 1000 + FRAMES_PER_CALL * most_nested))
        self.most_nested = most_nested
        self.debug = debug
        self.domain_caching = domain_caching  # idle processors spin in domain contexts
        passing = costs.file.message_passing
        self.discipline: Discipline = discipline or ("shared buffers" if passing is None else passing.discipline)
        self.memory = PhysicalMemory()
        self.pages_on_call = self.memory.pages(costs.file.tlb.on_call.kernel)
        self.pages_on_return = self.memory.pages(costs.file.tlb.on_return.kernel)
        self.latencies: dict[Route, Histogram] = {}
        self.astack_bytes = Tally()  # the bytes of arguments and results of each call by A-stack
        self.domains: dict[str, ProtectionDomain] = {}
        self.exports: dict[str, Export] = {}
        self.grants: dict[int, Grant] = {}  # all that have not been revoked, by number
        self.bindings: dict[int, Binding] = {}  # by number; a revoked one while A-stacks are in use
        self.ports: dict[str, Port] = {}  # by export
        self.network: Network | None = None
        self.transfer_lock = SpinLock()  # SRC RPC's one, which messages take
        self._make_domain = make_domain
        self._domains_made = 0
        self._grants_made = 0
        self._revoked: dict[int, CallError] = {}  # why the last ones were revoked, by number
        self._keys = self.random("binding keys")

    def domain(self, name: str) -> ProtectionDomain:
        """Return the domain of that name; make it if there is none, or if it has terminated."""
        if name not in self.domains:
            self._domains_made += 1
            self.domains[name] = made = self._make_domain(self, self._domains_made, name)
            for port in self.ports.values():
                port.buffers.share_with(made)
        return self.domains[name]

    def export(self, export: Export) -> None:
        """Register an export under its name, and start its clerk, which waits for imports.

        Raises `BindingRefused` if the name is taken, it has no procedures, or its A-stacks are too
        large.
        """
        self.refuse_if_reaping()
        export.domain.require_live()
        if export.name in self.exports:
            owner = self.exports[export.name].domain.name
            raise BindingRefused(f"export {export.name}: domain {owner} of machine {self.machine} already exports it")
        if not export.descriptors:
            raise BindingRefused(f"export {export.name}: interface {export.interface} has no procedures")
        descriptors = list(export.descriptors)
        size = sum(astack_size(descriptors, pool) * astack_count(descriptors, pool) for pool in pools_of(descriptors))
        if size > LARGEST_BINDING:
            raise BindingRefused(
                f"export {export.name}: A-stacks of {size} bytes; at most {LARGEST_BINDING} are mapped"
            )
        export.clerk_thread = ClerkThread(self, export)
        self.exports[export.name] = export

    def authorise(self, client: ProtectionDomain, name: str) -> tuple[Export, Descriptors]:
        """Return the export `name`, and what its clerk answers to an import of this client.

        The running thread waits for the answer. Raises `BindingRefused` with the reason if the
        clerk refuses, does not answer in time or ends, or if there is no such export, and
        `CallAborted`.
        """
        self.refuse_if_reaping()
        client.require_live()
        export = self.exports.get(name)
        if export is None:
            raise BindingRefused(f"import {name}: machine {self.machine} does not export it")
        descriptors = export.clerk_thread.ask(ImportRequest(client.name, self.machine, name))
        client.require_live()  # either domain may have terminated while the clerk decided
        if self.exports.get(name) is not export:
            raise BindingRefused(f"import {name}: machine {self.machine} no longer exports it")
        return export, descriptors

    def bind(self, client: ProtectionDomain, name: str, *, grows: bool = False) -> Binding:
        """Bind a domain to an export of this machine, with A-stacks and linkage records.

        The A-stacks are mapped to both domains. Where all are taken, clients wait, or the kernel
        makes more if the binding `grows`. Raises `BindingRefused`, or `Refused` if the cost model
        has no LRPC.
        """
        self.costs.require("lrpc")
        export, descriptors = self.authorise(client, name)
        number = self._new_number()
        binding = Binding(self, number, self._keys.word(), client, export, descriptors, grows=grows)
        self.bindings[number] = binding
        self._register(binding)
        return binding

    def grant(self, client: ProtectionDomain, name: str, export: Export | None) -> Grant:
        """Return the record of a new Binding Object for calls that need no A-stacks.

        These are calls by message, calls within a domain, and remote calls, whose `export` is None.
        """
        self.refuse_if_reaping()
        client.require_live()
        grant = Grant(self._new_number(), self._keys.word(), client, name, export)
        self._register(grant)
        return grant

    def check_key(self, key: BindingObject, client: ProtectionDomain) -> Grant:
        """Return the record of a Binding Object.

        Raises `ForgedBinding` if it is not one that `client` was given, or the fault that revoked
        it.
        """
        number = key.claimed_number
        grant = self.grants.get(number)
        if grant is None or grant.client is not client or not key.has_key(grant.key):
            raise self._refusal(number, client)
        return grant

    def binding_of(self, key: BindingObject, client: ProtectionDomain) -> Binding:
        """Return the binding that a Binding Object stands for.

        Raises `ForgedBinding` if it is not one that `client` was given, or the fault that revoked
        it.
        """
        number = key.claimed_number
        binding = self.bindings.get(number)
        if binding is None or binding.client is not client or not key.has_key(binding.key):
            raise self._refusal(number, client)
        return binding

    def revoke(self, client: str, name: str, reason: str) -> int:
        """Revoke a client's bindings to one export; return how many there were."""
        self.refuse_if_reaping()
        found = [grant for grant in self.grants.values() if grant.client.name == client and grant.name == name]
        for grant in found:
            what = f"Binding Object {grant.number}: {name} revoked it for domain {client}: {reason}"
            self.revoke_grant(grant, BindingRevoked(what))
        return len(found)

    def revoke_grant(self, grant: Grant, fault: CallError) -> None:
        """Revoke a Binding Object: later calls through it raise `fault`."""
        del self.grants[grant.number]
        self.log.add(self.now_ns, events.REVOKE, grant.number, 0)
        self._revoked[grant.number] = fault
        if len(self._revoked) > MOST_REASONS:
            del self._revoked[next(iter(self._revoked))]
        grant.revoke(fault)

    def calls_in_progress(self) -> int:
        """Return how many linkages are not free, each of which is a call through an A-stack."""
        return sum(
            astack.linkage.state != LINKAGE_FREE
            for binding in self.bindings.values()
            for group in binding.pools
            for astack in group.members
        )

    def port(self, export: Export) -> "Port":
        """Return the port where messages for an export arrive; make it if there is none."""
        if export.name not in self.ports:
            self.ports[export.name] = Port(self, export)
        return self.ports[export.name]

    def histogram(self, grant: Grant, procedure: str) -> Histogram:
        """Return the histogram of a client's calls of one procedure; make it if need be."""
        server = None if grant.export is None else grant.export.domain.name
        return self.latencies.setdefault(Route(grant.client.name, server, grant.name, procedure), Histogram())

    def _refusal(self, number: int, client: ProtectionDomain) -> CallError:
        """Return the error for a wrong Binding Object: why it was revoked, or `ForgedBinding`."""
        fault = self._revoked.get(number)
        if fault is not None:
            return fault.copy()
        return ForgedBinding(f"Binding Object {number}: not one that domain {client.name} was given")

    def _new_number(self) -> int:
        self._grants_made += 1
        return self._grants_made

    def _register(self, grant: Grant) -> None:
        self.grants[grant.number] = grant
        self.log.add(self.now_ns, events.BIND, grant.number, int(grant.export is None))
