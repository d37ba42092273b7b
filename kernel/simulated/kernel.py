"""The kernel of one machine in virtual time: its domains and bindings, and which thread has which processor."""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

from greenlet import getcurrent

from lrpc.kernel.descriptors import BindingObject, Clerk, ImportRequest, ProcedureDescriptor
from lrpc.kernel.errors import BindingRefused, CallError, ForgedBinding, Panic, RunFailed
from lrpc.kernel.simulated import log as events
from lrpc.kernel.simulated import transfer
from lrpc.kernel.simulated.astacks import LARGEST_BINDING, AStack, Binding
from lrpc.kernel.simulated.charges import Charges
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.engine import Engine
from lrpc.kernel.simulated.estacks import EStack
from lrpc.kernel.simulated.histogram import Histogram
from lrpc.kernel.simulated.locks import SpinLock
from lrpc.kernel.simulated.log import EventLog
from lrpc.kernel.simulated.memory import AddressSpace, Memory, Region
from lrpc.kernel.simulated.message_passing import Port
from lrpc.kernel.simulated.processor import Processor
from lrpc.kernel.simulated.random import Stream
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import BindingState, LinkageState, ThreadState

if TYPE_CHECKING:
    from lrpc.kernel.simulated.remote import Network

MOST_PROCESSORS = 1024


@dataclass(slots=True)
class Counts:
    """What happened on one machine, counted where it happened."""

    trap: int = 0  # operations of the kernel itself
    within_domain: int = 0  # calls of a procedure of the caller's own domain
    cross_domain: int = 0  # calls between domains of this machine
    cross_machine: int = 0  # calls that left this machine
    astacks_taken: int = 0  # for calls that went on to push a linkage, equal to cross_domain under LRPC
    linkages_pushed: int = 0
    link_requests: int = 0
    link_replies: int = 0
    replies_dropped: int = 0  # for callers that had given up
    argument_bytes: int = 0
    result_bytes: int = 0
    copies: dict[str, int] = field(default_factory=lambda: dict.fromkeys("ABCDEF", 0))  # letters of Table III


class Export:
    """An interface that a domain exports: how to enter it, and who decides on imports."""

    def __init__(
        self,
        name: str,
        interface: str,
        domain: "Domain",
        descriptors: tuple[ProcedureDescriptor, ...],
        clerk: Clerk,
        server: object,
    ) -> None:
        self.name = name
        self.interface = interface
        self.domain = domain
        self.descriptors = descriptors
        self.clerk = clerk
        self.server = server  # for calls from within the domain


class Domain:
    """A protection domain: its own memory, its E-stacks, and the time its procedures spend."""

    def __init__(self, kernel: "Kernel", name: str) -> None:
        self.kernel = kernel
        self.name = name
        self.memory = AddressSpace(name)
        self.imports: dict[str, str] = {}  # names that its programs use, and the exports they stand for
        self.estacks_made = 0
        self._idle_estacks: dict[EStack, None] = {}  # the one used longest ago first

    def compute(self, us: float) -> None:
        """Occupy the running thread's processor for `us` microseconds of virtual time."""
        self.kernel.compute(_ns(us))

    def sleep(self, us: float) -> None:
        """Let the running thread wait for `us` microseconds without a processor."""
        self.kernel.sleep(_ns(us))

    def system_call(self, us: float = 0.0) -> None:
        """Trap into the kernel for an operation of its own, which takes `us` beyond the trap."""
        self.kernel.system_call(_ns(us))

    def spawn(self, body: Callable[[], None], name: str = "") -> Thread:
        """Start a thread of this domain that runs `body`, as soon as there is a processor."""
        return self.kernel.spawn(self, body, name or f"{self.name}/{self.kernel.threads_made}")

    def abort(self, thread: Thread) -> Thread:
        """Release one of this domain's threads from its call; return the thread that goes on and sees `CallAborted`.

        Raises `CallError` where the thread is another domain's or has no call in progress.
        """
        if thread.home is not self:
            raise CallError(f"{thread}: domain {self.name} may abort calls of its own threads only")
        return transfer.abort(self.kernel, thread)

    def random(self, purpose: str) -> Stream:
        """Return the running thread's stream of random numbers for one purpose, from its beginning."""
        thread = "" if self.kernel.processor is None else self.kernel.running_thread().name
        return self.kernel.random(f"{self.name}/{thread}/{purpose}")

    @property
    def now_us(self) -> float:
        """Return the virtual time, in microseconds."""
        return self.kernel.now_ns / 1000

    def allocate(self, size: int, rights: int) -> Region:
        """Return fresh memory of `size` bytes that only this domain may use."""
        region = self.kernel.memory.allocate(size)
        self.memory.map(region, rights)
        return region

    def take_estack(self, astack: AStack) -> EStack:
        """Return the E-stack last used with an A-stack, or else the idle one used longest ago, or else a new one."""
        estack = astack.estack
        if estack is None or estack.astack is not astack:
            estack = next(iter(self._idle_estacks), None)
            if estack is None:
                self.estacks_made += 1
                estack = EStack(self.kernel, self)
                self._idle_estacks[estack] = None
            estack.astack = astack
            astack.estack = estack
        del self._idle_estacks[estack]
        return estack

    def give_back_estack(self, estack: EStack) -> None:
        """Have an E-stack idle again; it stays with its A-stack until another needs one."""
        self._idle_estacks[estack] = None


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
        sink: BinaryIO | None = None,
    ) -> None:
        if not 1 <= processors <= MOST_PROCESSORS:
            raise ValueError(f"machine {machine}: processors: {processors} is not between 1 and {MOST_PROCESSORS}")
        self.machine = machine
        self.costs = costs
        self.seed = seed
        self.debug = debug
        self.engine = Engine()
        self.memory = Memory()
        self.log = EventLog(sink)
        self.log.add(0, events.SEED, seed & events.LARGEST, 0)
        self.counts = Counts()
        self.charges = Charges(costs)
        self.latencies: dict[str, Histogram] = {}
        self.domains: dict[str, Domain] = {}
        self.exports: dict[str, Export] = {}
        self.bindings: dict[int, Binding] = {}
        self.ports: dict[str, Port] = {}
        self.network: Network | None = None
        self.transfer_lock = SpinLock(self)  # SRC RPC's one lock
        self.threads_made = 0
        self.threads: set[Thread] = set()  # those that have not ended
        self.processor: Processor | None = None  # the one whose thread runs at this moment
        self.processors = [Processor(self, number, self.charges) for number in range(processors)]
        self._idle = list(self.processors)
        self._ready: deque[Thread] = deque()
        self._keys = self.random("binding keys")
        self._issued: dict[int, tuple[Domain, BindingObject]] = {}  # every Binding Object, and for whom it is

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
            raise RunFailed(
                f"machine {self.machine}: a call was made outside any simulated thread; make it in the body of one"
            )
        return self.processor

    def running_thread(self) -> Thread:
        """Return the thread that runs at this moment."""
        thread = self.running_processor().thread
        if thread is None:
            raise Panic(f"machine {self.machine}: a processor runs without a thread")
        return thread

    def new_thread(self, name: str, domain: Domain) -> Thread:
        """Return a thread that waits to be woken."""
        self.threads_made += 1
        thread = Thread(self, self.threads_made, name, domain)
        self.threads.add(thread)
        self.log.add(self.now_ns, events.THREAD, thread.number, 0)
        return thread

    def spawn(self, domain: Domain, body: Callable[[], None], name: str, *, at_ns: int | None = None) -> Thread:
        """Start a thread of `domain` now, or at a virtual time to come."""
        thread = self.new_thread(name, domain)
        thread.body = body
        if at_ns is None or at_ns <= self.now_ns:
            self.wake(thread)
        else:
            self.engine.at(at_ns, lambda: self.wake(thread))
        return thread

    def wake(self, thread: Thread, delivery: CallError | None = None) -> None:
        """Make a waiting thread ready; it finds `delivery` when it goes on."""
        thread.become(ThreadState.READY)
        thread.deliver(delivery)
        thread.ready_at = self.now_ns
        if self._idle:
            processor = min(self._idle, key=lambda idle: _fitness(idle, thread))
            self._idle.remove(processor)
            processor.assign(thread)
        else:
            self._ready.append(thread)

    def block(self, what: str) -> CallError | None:
        """Let the running thread wait until it is woken; return what was delivered to it."""
        processor = self.running_processor()
        thread = self.running_thread()
        thread.become(ThreadState.WAITING)
        thread.waits_for = what
        self._pass_on(processor)
        thread.greenlet = getcurrent()
        delivered: CallError | None = self.engine.loop.switch()
        return delivered

    def compute(self, ns: int) -> None:
        """Occupy the running processor."""
        processor = self.running_processor()
        processor.clock += ns
        processor.checkpoint()

    def sleep(self, ns: int) -> None:
        """Wake the running thread `ns` later; its processor is free until then."""
        thread = self.running_thread()
        self.engine.at(self.now_ns + ns, lambda: self.wake(thread))
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
        try:
            body()
        except Exception as error:
            place = f"machine {self.machine}, {thread}, at {self.now_ns / 1000:.3f} us"
            failure = RunFailed(f"{place}: {type(error).__name__}: {error}")
            failure.__cause__ = error  # compiled code does not take `from` to mean this
            raise failure from error
        self.end_running_thread()

    def end_running_thread(self) -> None:
        """End the running thread and give its processor on; the caller must then leave its greenlet."""
        processor = self.running_processor()
        thread = self.running_thread()
        if thread.linkages:
            raise Panic(f"{thread} ends with {len(thread.linkages)} calls in progress")
        self.log.add(processor.clock, events.END, thread.number, 0)
        thread.end()
        self.threads.discard(thread)
        self._pass_on(processor)

    def _pass_on(self, processor: Processor) -> None:
        processor.let_go()
        if self._ready:
            processor.assign(self._ready.popleft())
        else:
            self._idle.append(processor)

    def waiting(self) -> list[Thread]:
        """Return the threads that have not ended, in order, without servers' own and captured ones."""
        waiting = (thread for thread in self.threads if not thread.serves and thread.successor is None)
        return sorted(waiting, key=lambda thread: thread.number)

    def random(self, purpose: str) -> Stream:
        """Return the stream of random numbers of this seed, machine and purpose."""
        return Stream(self.seed, self.machine, purpose)

    # Domains and binding

    def domain(self, name: str) -> Domain:
        """Return the domain of that name, made when it is first asked for."""
        if name not in self.domains:
            self.domains[name] = Domain(self, name)
        return self.domains[name]

    def export(self, export: Export) -> None:
        """Register an interface under its name; `BindingRefused` where the name is taken."""
        if export.name in self.exports:
            owner = self.exports[export.name].domain.name
            raise BindingRefused(f"export {export.name}: domain {owner} of machine {self.machine} already exports it")
        if not export.descriptors:
            raise BindingRefused(f"export {export.name}: interface {export.interface} has no procedures")
        size = sum(descriptor.astack_size * descriptor.simultaneous for descriptor in export.descriptors)
        if size > LARGEST_BINDING:
            raise BindingRefused(
                f"export {export.name}: A-stacks of {size} bytes; at most {LARGEST_BINDING} are mapped"
            )
        self.exports[export.name] = export

    def authorise(self, client: str, machine: str, name: str) -> Export:
        """Return the export that its clerk lets this client import; `BindingRefused` with the reason otherwise."""
        export = self.exports.get(name)
        if export is None:
            raise BindingRefused(f"import {name}: machine {self.machine} does not export it")
        reason = export.clerk.authorise(ImportRequest(client, machine, name))
        if reason is not None:
            raise BindingRefused(f"import {name}: its clerk refused domain {client}: {reason}")
        return export

    def bind(self, client: Domain, name: str) -> Binding:
        """Bind a domain to an export of this machine: A-stacks mapped to both, a linkage beside each."""
        export = self.authorise(client.name, self.machine, name)
        key = self.new_key(client, name, remote=False)
        binding = self.bindings[key.number] = Binding(self, key, client, export)
        return binding

    def new_key(self, client: Domain, name: str, *, remote: bool) -> BindingObject:
        """Return a Binding Object for a domain, whose key nobody can guess; the kernel keeps a copy."""
        number = len(self._issued) + 1
        key = BindingObject(number, self._keys.word(), name, remote)
        self._issued[number] = client, BindingObject(number, key.key, name, remote)
        self.log.add(self.now_ns, events.BIND, number, int(remote))
        return key

    def check_key(self, key: BindingObject, client: Domain) -> BindingObject:
        """Return the kernel's copy of a Binding Object; `ForgedBinding` where `client` was not given this one."""
        owner, copy = self._issued.get(key.claimed, (None, key))
        if owner is not client or not key.is_copy_of(copy):
            raise ForgedBinding(f"Binding Object {key.claimed}: not one that domain {client.name} was given")
        return copy

    def binding_of(self, key: BindingObject, client: Domain) -> Binding:
        """Return the binding that a Binding Object stands for; `ForgedBinding` where it stands for none."""
        binding = self.bindings.get(key.claimed)
        if (
            binding is None
            or not key.is_copy_of(binding.key)
            or binding.client is not client
            or binding.state is not BindingState.BOUND
        ):
            raise ForgedBinding(f"Binding Object {key.claimed}: not one that domain {client.name} was given")
        return binding

    def calls_in_progress(self) -> int:
        """Return how many linkages are not free, for those who count leaks."""
        return sum(
            astack.linkage.state is not LinkageState.FREE
            for binding in self.bindings.values()
            for group in binding.groups
            for astack in group.members
        )

    def port(self, export: Export) -> "Port":
        """Return where messages for an export arrive, its concrete threads made when it is first asked for."""
        if export.name not in self.ports:
            self.ports[export.name] = Port(self, export)
        return self.ports[export.name]

    def histogram(self, procedure: str) -> Histogram:
        """Return the latencies of a procedure, by its full name, made when it is first asked for."""
        return self.latencies.setdefault(procedure, Histogram())


def _fitness(idle: Processor, thread: Thread) -> tuple[int, bool, int]:
    """Order idle processors: the one that can begin first, then one with the right context, then by number."""
    return max(idle.clock, thread.ready_at), idle.context is not thread.domain, idle.number


def _ns(us: float) -> int:
    if not 0 <= us < 1e12:
        raise ValueError(f"a time of {us:g} us: it must be at least 0 and less than 1e12")
    return round(us * 1000)
