"""The kernel of one machine in virtual time: its threads and processors, its domains, and who may call whom."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn, cast

from greenlet import getcurrent, greenlet

from lrpc.kernel.descriptors import BindingObject, ImportRequest
from lrpc.kernel.errors import BindingRefused, BindingRevoked, CallError, CallFailed, ForgedBinding, Panic, RunFailed
from lrpc.kernel.random import Stream
from lrpc.kernel.simulated import log as events
from lrpc.kernel.simulated.bindings import LARGEST_BINDING, Binding, Grant, count_of, sharing, size_of
from lrpc.kernel.simulated.charges import Charges
from lrpc.kernel.simulated.costs import CostModel, Discipline
from lrpc.kernel.simulated.dispatcher import Dispatcher
from lrpc.kernel.simulated.domain import Domain, Export
from lrpc.kernel.simulated.engine import Engine
from lrpc.kernel.simulated.histogram import Histogram, Route, Tally
from lrpc.kernel.simulated.locks import MemoryBus, SpinLock
from lrpc.kernel.simulated.log import EventLog, Sink
from lrpc.kernel.simulated.memory import Memory
from lrpc.kernel.simulated.message_passing import Port
from lrpc.kernel.simulated.processor import Processor
from lrpc.kernel.simulated.threads import Stack, Thread, ThreadStack
from lrpc.kernel.states import LINKAGE_FREE, THREAD_READY, THREAD_WAITING

if TYPE_CHECKING:
    from lrpc.kernel.simulated.remote import Network

MOST_PROCESSORS = 1024
MOST_REASONS = 1000  # that are kept, of why Binding Objects open nothing any more


@dataclass(slots=True)
class Counts:
    """What happened on one machine, counted where it happened."""

    trap: int = 0  # operations of the kernel itself
    within_domain: int = 0  # calls of a procedure of the caller's own domain
    cross_domain: int = 0  # calls between domains of this machine
    cross_machine: int = 0  # calls that left this machine
    astacks_taken: int = 0  # for calls that went on to push a linkage, equal to cross_domain under LRPC
    astack_waits: int = 0  # for an A-stack, where all were taken
    linkages_pushed: int = 0
    link_requests: int = 0
    link_replies: int = 0
    replies_dropped: int = 0  # for callers that had given up, or had their reply
    packets_sent: int = 0  # those lost included; a message that travels whole is one
    packets_lost: int = 0
    calls_retransmitted: int = 0
    duplicates_answered: int = 0  # calls that had come before, answered from memory
    duplicates_dropped: int = 0  # whose caller had gone on
    argument_bytes: int = 0
    result_bytes: int = 0
    copies: dict[str, int] = field(default_factory=lambda: dict.fromkeys("ABCDEF", 0))  # letters of Table III


class Kernel:
    """One machine's kernel. Everything on it happens in one operating-system thread, in virtual time."""

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
    ) -> None:
        if not 1 <= processors <= MOST_PROCESSORS:
            raise ValueError(f"machine {machine}: processors: {processors} is not between 1 and {MOST_PROCESSORS}")
        self.machine = machine
        self.costs = costs
        self.seed = seed
        self.debug = debug
        self.domain_caching = domain_caching  # idle processors spin in domain contexts
        passing = costs.file.message_passing
        self.discipline: Discipline = discipline or ("shared buffers" if passing is None else passing.discipline)
        self.engine = Engine()
        self.memory = Memory()
        self.pages_on_call = self.memory.pages(costs.file.tlb.on_call.kernel)
        self.pages_on_return = self.memory.pages(costs.file.tlb.on_return.kernel)
        self.log = EventLog(sink)
        self.log.add(0, events.SEED, seed & events.LARGEST, 0)
        self.counts = Counts()
        self.charges = Charges(costs)
        self.latencies: dict[Route, Histogram] = {}
        self.astack_bytes = Tally()  # of calls: bytes of arguments and results that an A-stack carried
        self.domains: dict[str, Domain] = {}
        self.exports: dict[str, Export] = {}
        self.grants: dict[int, Grant] = {}  # every Binding Object that has not been revoked
        self.bindings: dict[int, Binding] = {}  # those with A-stacks, until the last of these is collected
        self.ports: dict[str, Port] = {}
        self.network: Network | None = None
        self.transfer_lock = SpinLock()  # SRC RPC's one lock
        self.bus: MemoryBus | None = None
        if costs.file.bus is not None and processors > 1:
            self.bus = MemoryBus(costs.file.bus.ps, self.random("memory bus"))
        self.threads_made = 0
        self.spare_stacks: list[ThreadStack] = []
        self.threads: set[Thread] = set()  # those that have not ended
        self.processor: Processor | None = None  # the one whose thread runs at this moment
        tagged = costs.file.tlb.tagged
        self.processors = [Processor(self, number, self.charges, tagged=tagged) for number in range(processors)]
        self.dispatcher = Dispatcher(self, self.processors)
        self._domains_made = 0
        self._grants_made = 0
        self._revoked: dict[int, CallError] = {}  # why, those revoked last
        self._keys = self.random("binding keys")
        self._dead: list[Stack] = []
        self._burying = False
        self._refused: set[greenlet] = set()  # that were dead and came back

    # Time and threads

    @property
    def now_ns(self) -> int:
        """Return the virtual time: the running processor's clock, or the engine's between threads."""
        return self.engine.now if self.processor is None else self.processor.clock

    def run(self, horizon: int) -> None:
        """Do all that is due strictly before `horizon`, in ns."""
        try:
            self.engine.run(horizon)
        finally:
            self.processor = None

    def running_processor(self) -> Processor:
        """Return the processor whose thread runs; `RunFailed` outside any simulated thread."""
        if self.processor is None:
            self._refuse()
        return self.processor

    def running_thread(self) -> Thread:
        """Return the thread that runs at this moment."""
        thread = self.running_processor().thread
        if thread is None:
            raise Panic(f"machine {self.machine}: a processor runs without a thread")
        return thread

    def require_living(self) -> None:
        """Refuse an entry that needs no running thread, where it comes from what is unwound at this moment."""
        if self._burying:
            self._refuse()

    def new_thread(self, name: str, domain: Domain, body: Callable[[], None]) -> Thread:
        """Return a thread that waits to be woken."""
        self.require_living()
        self.threads_made += 1
        thread = Thread(self, self.threads_made, name, domain, body)
        self.threads.add(thread)
        self.log.add(self.now_ns, events.THREAD, thread.number, 0)
        return thread

    def spawn(self, domain: Domain, body: Callable[[], None], name: str, *, at_ns: int | None = None) -> Thread:
        """Start a thread of `domain` now, or at a virtual time to come."""
        thread = self.new_thread(name, domain, body)
        if at_ns is None or at_ns <= self.now_ns:
            self.wake(thread)
        else:
            self._wake_at(thread, at_ns, thread.waits)
        return thread

    def wake(self, thread: Thread, delivery: CallError | None = None) -> None:
        """Make a waiting thread ready; it finds `delivery` when it goes on."""
        thread.become(THREAD_READY)
        thread.deliver(delivery)
        thread.ready_at = self.now_ns
        self.dispatcher.ready(thread)

    def block(self, what: str) -> CallError | None:
        """Let the running thread wait until it is woken; return what was delivered to it."""
        processor = self.running_processor()
        thread = self.running_thread()
        thread.become(THREAD_WAITING)
        thread.waits_for = what
        thread.waits += 1
        self.dispatcher.pass_on(processor)
        delivered = cast("CallError | None", self.switch_away())
        self.running_processor().refill()
        return delivered

    def compute(self, ns: int) -> None:
        """Occupy the running processor."""
        processor = self.running_processor()
        processor.clock += ns
        processor.checkpoint()

    def sleep(self, ns: int) -> None:
        """Wake the running thread `ns` later; its processor is free until then."""
        thread = self.running_thread()
        self._wake_at(thread, self.now_ns + ns, thread.waits + 1)
        self.block("a timer")

    def system_call(self, ns: int) -> None:
        """Perform an operation of the kernel's own."""
        processor = self.running_processor()
        self.counts.trap += 1
        processor.spend(self.charges.trap)
        processor.clock += ns
        self.log.add(processor.clock, events.SYSTEM_CALL, self.running_thread().number, ns)
        processor.checkpoint()

    def run_body(self, thread: Thread, body: Callable[[], None]) -> None:
        """Run a thread from beginning to end; what it raises ends the run."""
        self.running_processor().refill()
        try:
            body()
        except Exception as error:
            place = f"machine {self.machine}, {thread}, at {self.now_ns / 1000:.3f} us"
            failure = RunFailed(f"{place}: {type(error).__name__}: {error}")
            failure.__cause__ = error  # compiled code does not take `from` to mean this
            raise failure from error
        self.end(self.running_thread())

    def end(self, thread: Thread) -> None:
        """End a thread that waits, or has a processor, which is given on; where it runs, its greenlet must be left."""
        if thread.innermost is not None:
            raise Panic(f"{thread} ends with {len(thread.linkages)} calls in progress")
        self.log.add(self.now_ns, events.END, thread.number, 0)
        thread.end()
        self.threads.discard(thread)
        if thread.processor is not None:
            self.dispatcher.pass_on(thread.processor)

    def switch_away(self) -> object:
        """Leave the running greenlet for what is due next; returns what it is given when it is gone on with."""
        return self._switch_to(self.engine.next_processor())

    def stand_back(self, first: int) -> None:
        """Leave the running greenlet, which has its turn later, for the processor of that number, or the loop."""
        self._switch_to(first)

    def bury_soon(self, dead: Stack) -> None:
        """Unwind a stack that must not go on, as soon as no thread runs."""
        if not self._dead:
            self.engine.at(self.now_ns, self._bury)
        self._dead.append(dead)

    def waiting(self) -> list[Thread]:
        """Return the threads that have not ended, in order, without servers' own and those that nobody waits for."""
        waiting = (thread for thread in self.threads if not thread.serves and thread.successor is None)
        return sorted((thread for thread in waiting if thread.home.live), key=lambda thread: thread.number)

    def random(self, purpose: str) -> Stream:
        """Return the stream of random numbers of this seed, machine and purpose."""
        return Stream(self.seed, self.machine, purpose)

    # Domains and binding

    def domain(self, name: str) -> Domain:
        """Return the domain of that name, made when it is first asked for, and anew after it has terminated."""
        if name not in self.domains:
            self._domains_made += 1
            self.domains[name] = Domain(self, self._domains_made, name)
        return self.domains[name]

    def export(self, export: Export) -> None:
        """Register an interface under its name; `BindingRefused` where the name is taken or A-stacks are too large."""
        self.require_living()
        export.domain.require_live()
        if export.name in self.exports:
            owner = self.exports[export.name].domain.name
            raise BindingRefused(f"export {export.name}: domain {owner} of machine {self.machine} already exports it")
        if not export.descriptors:
            raise BindingRefused(f"export {export.name}: interface {export.interface} has no procedures")
        descriptors = list(export.descriptors)
        size = sum(size_of(descriptors, pool) * count_of(descriptors, pool) for pool in sharing(descriptors))
        if size > LARGEST_BINDING:
            raise BindingRefused(
                f"export {export.name}: A-stacks of {size} bytes; at most {LARGEST_BINDING} are mapped"
            )
        self.exports[export.name] = export

    def authorise(self, client: Domain, name: str) -> Export:
        """Return the export that its clerk lets this client import; `BindingRefused` with the reason otherwise."""
        self.require_living()
        client.require_live()
        export = self.exports.get(name)
        if export is None:
            raise BindingRefused(f"import {name}: machine {self.machine} does not export it")
        reason = export.clerk.authorise(ImportRequest(client.name, self.machine, name))
        if reason is not None:
            raise BindingRefused(f"import {name}: its clerk refused domain {client.name}: {reason}")
        client.require_live()  # either may have ended while the clerk decided
        if self.exports.get(name) is not export:
            raise BindingRefused(f"import {name}: machine {self.machine} exports it no more")
        return export

    def bind(self, client: Domain, name: str, *, grows: bool = False) -> Binding:
        """Bind a domain to an export of this machine: A-stacks mapped to both, a linkage beside each.

        Where all A-stacks are taken, clients wait, or more are made if it `grows`.
        """
        self.costs.require("lrpc")
        export = self.authorise(client, name)
        number = self._new_number()
        binding = Binding(self, number, self._keys.word(), client, export, grows=grows)
        self.bindings[number] = binding
        self._register(binding)
        return binding

    def grant(self, client: Domain, name: str, export: Export | None) -> Grant:
        """Return a new Binding Object's record, for calls without A-stacks: by message, within a domain, or remote."""
        self.require_living()
        client.require_live()
        grant = Grant(self._new_number(), self._keys.word(), client, name, export)
        self._register(grant)
        return grant

    def check_key(self, key: BindingObject, client: Domain) -> Grant:
        """Return the record of a Binding Object; `ForgedBinding` where `client` was not given this one."""
        number = key.claimed
        grant = self.grants.get(number)
        if grant is None or grant.client is not client or not key.opens(grant.key):
            raise self._refusal(number, client)
        return grant

    def binding_of(self, key: BindingObject, client: Domain) -> Binding:
        """Return the binding that a Binding Object stands for; `ForgedBinding` where it stands for none."""
        number = key.claimed
        binding = self.bindings.get(number)
        if binding is None or binding.client is not client or not key.opens(binding.key):
            raise self._refusal(number, client)
        return binding

    def revoke(self, client: str, name: str, reason: str) -> int:
        """Revoke a client's bindings to one export; return how many there were."""
        self.require_living()
        found = [grant for grant in self.grants.values() if grant.client.name == client and grant.name == name]
        for grant in found:
            what = f"Binding Object {grant.number}: {name} revoked it for domain {client}: {reason}"
            self.revoke_grant(grant, BindingRevoked(what))
        return len(found)

    def revoke_grant(self, grant: Grant, fault: CallError) -> None:
        """Have a Binding Object open nothing any more; `fault` is what its client gets."""
        del self.grants[grant.number]
        self.log.add(self.now_ns, events.REVOKE, grant.number, 0)
        self._revoked[grant.number] = fault
        if len(self._revoked) > MOST_REASONS:
            del self._revoked[next(iter(self._revoked))]
        grant.revoke(fault)

    def calls_in_progress(self) -> int:
        """Return how many linkages are not free, for those who count leaks."""
        return sum(
            astack.linkage.state != LINKAGE_FREE
            for binding in self.bindings.values()
            for group in binding.pools
            for astack in group.members
        )

    def port(self, export: Export) -> "Port":
        """Return where messages for an export arrive, its concrete threads made when it is first asked for."""
        if export.name not in self.ports:
            self.ports[export.name] = Port(self, export)
        return self.ports[export.name]

    def histogram(self, grant: Grant, procedure: str) -> Histogram:
        """Return the latencies of a client's calls of one procedure, made when they are first asked for."""
        server = None if grant.export is None else grant.export.domain.name
        return self.latencies.setdefault(Route(grant.client.name, server, grant.name, procedure), Histogram())

    # What only this kernel does

    def _refusal(self, number: int, client: Domain) -> CallError:
        """Return why a Binding Object opens nothing."""
        fault = self._revoked.get(number)
        if fault is not None:
            return fault.anew()
        return ForgedBinding(f"Binding Object {number}: not one that domain {client.name} was given")

    def _wake_at(self, thread: Thread, at_ns: int, waits: int) -> None:
        """Wake a thread at a virtual time, if that is still the wait that it is in."""

        def wake() -> None:
            if thread.waits == waits:
                self.wake(thread)

        self.engine.at(at_ns, wake)

    def _switch_to(self, number: int) -> object:
        """Switch to the thread of a processor, by number, if its turn still counts, or to who is due after it."""
        while number >= 0:
            processor = self.processors[number]
            thread = processor.thread
            if processor.turn == self.engine.turn and thread is not None:
                if not thread.begun:  # it begins at the bottom of the stack, so the loop begins it
                    processor.resume_at(self.engine.now)
                    break
                self.processor = processor
                return thread.go_on()
            number = self.engine.next_processor()
        self.processor = None
        return self.engine.loop.switch()

    def _bury(self) -> None:
        """Unwind what is dead: its frames are freed, and whatever they do about it, none of it enters the kernel."""
        dead, self._dead = self._dead, []
        self._burying = True
        for one in dead:
            with suppress(Exception):  # of a dead domain's code: there is nobody to tell
                one.greenlet.throw()
        self._burying = False

    def _refuse(self) -> NoReturn:
        """Refuse an entry outside any simulated thread: a mistake, or the code of a dead domain that goes on.

        Such code may catch what it is given and come back for ever; the second time it is left where it stands.
        """
        here = getcurrent()
        if here is self.engine.loop or here.parent is None:
            raise RunFailed(
                f"machine {self.machine}: a call was made outside any simulated thread; make it in the body of one"
            )
        while here in self._refused:
            here.parent.switch()
        self._refused.add(here)
        raise CallFailed(f"machine {self.machine}: the thread that this ran on is no more")

    def _new_number(self) -> int:
        self._grants_made += 1
        return self._grants_made

    def _register(self, grant: Grant) -> None:
        self.grants[grant.number] = grant
        self.log.add(self.now_ns, events.BIND, grant.number, int(grant.export is None))
