"""A simulated machine: a kernel, its domains with their servers and programs, and its links."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Final

from lrpc.cluster.description import Cluster, DomainSpec, MachineSpec, construct
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.links import Links
from lrpc.cluster.reach import Reach
from lrpc.domains.domain import Exhausted, I, Policy, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Server
from lrpc.domains.simulated.domain import SimulatedDomain, simulated
from lrpc.domains.simulated.explain import CallObservation, Explanation
from lrpc.domains.simulated.timeline import TimelineBounds, TimelineNotes
from lrpc.kernel.errors import CallError, Refused, RunFailed
from lrpc.kernel.simulated.costs import STEPS, CostModel, load_cost_model
from lrpc.kernel.simulated.counts import Counts
from lrpc.kernel.simulated.disciplines import Discipline
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.histogram import Histogram, Route
from lrpc.kernel.simulated.kernel import NESTED_CALLS, Kernel
from lrpc.kernel.simulated.locks import FifoQueue
from lrpc.kernel.simulated.log import Sink
from lrpc.kernel.simulated.network.remote import Network
from lrpc.kernel.simulated.processor import Processor
from lrpc.kernel.simulated.threads import Thread

COUNTERS: Final = tuple(one.name for one in fields(Counts))
END_OF_TIME: Final = f"{FOREVER / 1e9 / 86400 / 365.2425:.0f} years"  # virtual time that a run may last


@dataclass(frozen=True)
class ProcessorOutcome:
    """What one processor did, in virtual nanoseconds.

    Its busy time includes waits for the memory bus and for locks, and no interrupts.
    """

    busy_ns: int  # it had a thread
    bus_ns: int  # it used the memory bus
    bus_wait_ns: int
    lock_wait_ns: int
    idle_ns: int  # the rest, up to the machine's end, less interrupts
    exchanges: int  # calls and returns in which it took another processor's thread over
    interrupt_ns: int = 0  # interrupts of packets, which take it from its thread


@dataclass(frozen=True)
class QueueOutcome:
    """What a FIFO queue of packets served, in virtual nanoseconds."""

    served: int  # packets
    bytes: int  # of data in them
    busy_ns: int
    wait_ns: int  # of all packets together, before their turn
    held_ns: int = 0  # of a controller: while its packet was on the wire, or waited for it


@dataclass(frozen=True)
class MachineOutcome:
    """What one machine did in a run. Times are virtual, in nanoseconds."""

    name: str
    digest: bytes
    end_ns: int  # when its last thread stopped or its last event was, whichever is later
    processors: tuple[ProcessorOutcome, ...]
    counts: Mapping[str, int]
    copies: Mapping[str, int]
    charges: Mapping[str, int]  # how often each step of the cost model was charged
    astack_waits: int
    # Calls, by the bytes of arguments and results that their A-stacks carried.
    astack_bytes: Mapping[int, int]
    latencies: Mapping[Route, Histogram]
    findings: Mapping[str, Findings]  # by domain and resident
    # None where messages are not sent in packets, or the machine has no links.
    interrupts: QueueOutcome | None = None  # of packets, on processor 0
    controller: QueueOutcome | None = None
    wire: QueueOutcome | None = None  # None unless this machine is the wire's hub
    # The cost model's remark about the sources of its network costs, if packets were sent.
    mixes: str = ""
    # Where its servers raised the last exceptions of which only name and text crossed to another
    # machine.
    raised: tuple[str, ...] = ()
    # What its processors did for calls between machines: ns, by what it was.
    remote_ns: Mapping[str, int] = field(default_factory=dict)

    @property
    def busy_ns(self) -> int:
        """Return how long its processors had threads, summed over them."""
        return sum(processor.busy_ns for processor in self.processors)


class NameService:
    """Finds exports of a cluster by name, from its description."""

    def __init__(self, cluster: Cluster) -> None:
        self._exports = {
            export.name: (rank, export)
            for rank, machine in enumerate(cluster.machines)
            for domain in machine.domains
            for export in domain.exports
        }
        # A cache: `locate` is called for every call that leaves a machine.
        self._located: dict[str, tuple[int, str]] = {}

    def locate(self, name: str) -> tuple[int, str] | None:
        """Return the exporting machine's rank and the interface's name, or None.

        None means that no machine exports the name.
        """
        if name not in self._exports:
            return None
        if name not in self._located:
            rank, export = self._exports[name]
            interface, _ = construct(export.server, export.parameters, name).module()
            self._located[name] = rank, interface.interface.__name__
        return self._located[name]


class Machine:
    """One simulated machine, alone or as part of a cluster. All times are virtual.

        machine = Machine()
        machine.export(Adder, AdderServer(), "adder")
        adder = machine.bind(Adder, "adder")
        machine.spawn(lambda: print(adder.add(1, 2)))
        machine.run()

    `cost_model` is a cost model or the name of one, `seed` that of all random numbers. `sink` gets
    the event log as bytes. With `domain_caching` idle processors spin in domain contexts.
    `discipline` says which copies messages make, if not as the cost model does. A thread may have
    `most_nested` calls in progress, one within the other; the next one raises `NestedTooDeep`.
    Threads keep their processors until they wait, or with `quantum_us` take turns of so long.
    """

    def __init__(
        self,
        name: str = "machine",
        *,
        cost_model: str | CostModel = "cvax-firefly",
        processors: int = 1,
        seed: int = 0,
        sink: Sink | None = None,
        domain_caching: bool = False,
        discipline: Discipline | None = None,
        most_nested: int = NESTED_CALLS,
        quantum_us: float | None = None,
    ) -> None:
        self.name = name
        costs = load_cost_model(cost_model) if isinstance(cost_model, str) else cost_model
        self.kernel = Kernel(
            name,
            costs,
            processors=processors,
            seed=seed,
            sink=sink,
            domain_caching=domain_caching,
            discipline=discipline,
            most_nested=most_nested,
            quantum_us=quantum_us,
            make_domain=SimulatedDomain,
        )
        self.outbox: list[Envelope] = []
        self.links: Links | None = None  # None where the machine calls no other, and none calls it
        self._residents: dict[str, Server | Program] = {}
        self._timeline: TimelineNotes | None = None

    @classmethod
    def of(
        cls,
        cluster: Cluster,
        rank: int,
        *,
        names: NameService,
        reach: Reach,
        seed: int,
        sink: Sink | None,
        timeline: tuple[TimelineBounds, Sink] | None = None,
    ) -> "Machine":
        """Return the machine of a cluster with this rank, populated as its specification says.

        `names` finds exports, and `reach` bounds how early consequences of its messages come back.
        With `timeline` it records its part of one; `close` then ends that.
        Raises `Refused` where a server cannot be exported, or cannot bind what it imports.
        """
        spec = cluster.machines[rank]
        machine = cls(
            spec.name,
            cost_model=spec.costs,
            processors=spec.processors,
            seed=seed,
            sink=sink,
            domain_caching=spec.domain_caching,
            discipline=spec.discipline,
            most_nested=spec.most_nested,
            quantum_us=spec.quantum_us,
        )
        if timeline is not None:
            machine._timeline = TimelineNotes(machine.kernel, *timeline)
        if cluster.talks and spec.costs.has("network"):
            machine._connect(cluster, rank, names, reach)
        try:
            machine._populate(spec)
        except CallError as error:  # a server imports what it may not, or what does not exist
            raise Refused(f"{cluster.name}: machine {spec.name}: {error}; correct its description") from None
        return machine

    def export(
        self,
        interface: type[Interface],
        server: object,
        name: str,
        *,
        domain: str | None = None,
        policy: Policy | None = None,
    ) -> None:
        """Export a server under a name, from the domain `domain`, or else one of the export's name.

        The server's clerk accepts every import unless `policy` returns a reason against it. Raises
        `BindingRefused` where the server lacks a procedure, the name is taken or the A-stacks would
        be too large.
        """
        self.domain(domain or name).export(interface, server, name, policy)

    def bind(
        self,
        interface: type[I],
        name: str,
        *,
        domain: str = "client",
        transfer: Transfer = "lrpc",
        exhausted: Exhausted = "wait",
    ) -> I:
        """Import an interface into a domain; return an object whose methods are client stubs.

        The arguments and errors are those of `lrpc.domains.domain.Domain.bind`.
        """
        return self.domain(domain).bind(interface, name, transfer, exhausted)

    def domain(self, name: str = "client") -> SimulatedDomain:
        """Return a domain of this machine by name; the first request makes it."""
        return simulated(self.kernel.domain(name))

    def spawn(self, body: Callable[[], None], *, domain: str = "client", name: str = "") -> Thread:
        """Start a thread of a domain that runs `body`, and return it."""
        return self.domain(domain).spawn(body, name)

    def explain(self, call: Callable[[], object], *, domain: str = "client") -> Explanation:
        """Run a call from a domain several times, and explain the last of them step by step.

        `call` is a function without arguments, as for `spawn`. The explanation prints one line for
        each step. Raises what `run` does.
        """
        observation = CallObservation()
        observation.watch(self.kernel)
        self.spawn(lambda: observation.make(call), domain=domain)
        self.run()
        return observation.explanation()

    @property
    def now_us(self) -> float:
        """Return the virtual time in microseconds.

        While a thread runs that is its time, otherwise how far the machine has run.
        """
        return self._now_ns / 1000

    def run(self, until_us: float | None = None) -> None:
        """Run until nothing is left to do, or until a virtual time in microseconds.

        With `until_us`, everything before that time happens, and the virtual time is then
        `until_us`; infinity runs to the end. Raises `RunFailed` where a thread's body raised or,
        without `until_us`, where threads wait for ever; `Refused` where `until_us` is no time.
        """
        if until_us is None:
            self.kernel.run(FOREVER)
            self.check_finished()
            return
        if not until_us >= 0:  # also refuses what is not a number
            raise Refused(f"machine {self.name}: until_us is {until_us}; give 0 or more microseconds")
        if until_us * 1000 >= FOREVER and until_us != math.inf:
            end = f"virtual time ends after {END_OF_TIME}; give less, or math.inf"
            raise Refused(f"machine {self.name}: until_us is {until_us:g}: {end}")
        until_ns = FOREVER if until_us == math.inf else round(until_us * 1000)
        self.kernel.run(until_ns)
        if until_ns < FOREVER:
            self.kernel.engine.now = max(self.kernel.engine.now, until_ns)

    @property
    def next_ns(self) -> int:
        """Return the virtual time of the next event; `FOREVER` where there is none."""
        return self.kernel.engine.next_time

    def close(self) -> None:
        """End the machine's part of a timeline, if it records one."""
        if self._timeline is not None:
            self._timeline.close()
            self._timeline = None

    def check_finished(self) -> None:
        """Raise `RunFailed` where threads still wait, though nothing is left to happen."""
        if self.kernel.engine.has_events:
            what = f"virtual time has come to its end, {END_OF_TIME}; make sleeps or computation shorter"
            raise RunFailed(f"machine {self.name}, at {self.now_us:.3f} µs: {what}")
        stuck = self.kernel.waiting()
        if stuck:
            first = stuck[0]
            what = f"deadlock: {len(stuck)} threads wait for ever; {first} waits for {first.waits_for}"
            raise RunFailed(f"machine {self.name}, at {self.now_us:.3f} µs: {what}")

    def outcome(self) -> MachineOutcome:
        """Return what this machine did so far."""
        kernel = self.kernel
        end_ns = self._now_ns
        counts = {name: getattr(kernel.counts, name) for name in COUNTERS}
        copies = dict(counts.pop("copies"))
        charges = {step: count for step, count in zip(STEPS, kernel.charges.counts(), strict=True) if count}
        waits = counts.pop("astack_waits")
        findings = {name: found for name, one in self._residents.items() if (found := one.findings())}
        return MachineOutcome(
            self.name,
            kernel.log.digest(),
            end_ns,
            tuple(_processor_outcome(one, end_ns) for one in kernel.processors),
            counts,
            copies,
            charges,
            waits,
            dict(sorted(kernel.astack_bytes.counts.items())),
            kernel.latencies,
            findings,
            *_stations(kernel.network),
            _queue_outcome(None if self.links is None else self.links.wire),
            kernel.costs.file.mixes if kernel.counts.packets_sent else "",
            () if kernel.network is None else tuple(kernel.network.raised),
            {} if kernel.network is None else kernel.network.spent(),
        )

    @property
    def _now_ns(self) -> int:
        kernel = self.kernel
        if kernel.processor is not None:
            return kernel.now_ns
        return max(kernel.now_ns, *(processor.clock for processor in kernel.processors))

    def _connect(self, cluster: Cluster, rank: int, names: NameService, reach: Reach) -> None:
        self.links = Links(cluster, rank, reach, self.kernel, names.locate, self.outbox)
        self.kernel.network = self.links.network

    def _populate(self, spec: MachineSpec) -> None:
        servers = [server for domain in spec.domains for server in self._export_all(domain)]
        for server in servers:
            server.start()
        for domain in spec.domains:
            for thread in domain.threads:
                program = construct(thread.program, thread.parameters, f"{spec.name}: {thread.name}")
                self._residents[thread.name] = program
                self._start(self.domain(domain.name), program, thread.name)

    def _export_all(self, spec: DomainSpec) -> list[Server]:
        domain = self.domain(spec.name)
        domain.imports = dict(spec.imports)
        domain.convention = spec.convention
        servers = []
        for export in spec.exports:
            server = construct(export.server, export.parameters, f"{self.name}: {export.name}")
            object.__setattr__(server, "domain", domain)  # a frozen dataclass takes no other assignment
            interface, body = server.module()
            domain.export(interface, body, export.name)
            self._residents[export.name] = server
            servers.append(server)
        return servers

    def _start(self, domain: SimulatedDomain, program: Program, name: str) -> None:
        domain.spawn(lambda: program.run(domain), name)


def _processor_outcome(one: Processor, end_ns: int) -> ProcessorOutcome:
    return ProcessorOutcome(
        one.busy_ns,
        one.bus_ns,
        one.bus_wait_ns,
        one.lock_wait_ns,
        end_ns - one.busy_ns - one.interrupt_ns,
        one.exchanges,
        one.interrupt_ns,
    )


def _stations(network: Network | None) -> tuple[QueueOutcome | None, QueueOutcome | None]:
    """Return what the interrupts of packets did, and the controller."""
    if network is None or network.packets.io is None:
        return None, None
    controller = network.packets.controller
    served = (controller.served, controller.bytes, controller.busy_ns, controller.wait_ns, controller.wire_ns)
    return _queue_outcome(network.packets.io.interrupts), QueueOutcome(*served)


def _queue_outcome(one: FifoQueue | None) -> QueueOutcome | None:
    return None if one is None else QueueOutcome(one.served, one.bytes, one.busy_ns, one.wait_ns)
