"""A machine: a kernel, its domains and what lives in them, and one end of its links."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass

from lrpc.cluster.description import Cluster, DomainSpec, MachineSpec, construct
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.links import Links
from lrpc.cluster.names import NameService
from lrpc.cluster.reach import Reach
from lrpc.domains.domain import Exhausted, I, Policy, Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Server
from lrpc.domains.simulated.domain import SimulatedDomain, simulated
from lrpc.kernel.errors import CallError, Refused, RunFailed
from lrpc.kernel.simulated.costs import STEPS, CostModel, Discipline, load_cost_model
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.histogram import Histogram, Route
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.locks import FifoQueue
from lrpc.kernel.simulated.log import Sink
from lrpc.kernel.simulated.processor import Processor
from lrpc.kernel.simulated.remote import Network
from lrpc.kernel.simulated.threads import Thread


@dataclass(frozen=True)
class ProcessorOutcome:
    """What one processor did, in virtual nanoseconds. Waits are part of what it was busy."""

    busy_ns: int  # with a thread
    bus_ns: int  # on the memory bus
    bus_wait_ns: int
    lock_wait_ns: int
    idle_ns: int  # the rest, up to the machine's end
    exchanges: int  # threads that it took over in a call or a return


@dataclass(frozen=True)
class QueueOutcome:
    """What the packets of a machine queued for, one after the other, in virtual nanoseconds."""

    served: int  # packets
    bytes: int  # of data in them
    busy_ns: int
    wait_ns: int  # of all packets, before their turn


@dataclass(frozen=True)
class MachineOutcome:
    """What one machine did, all of it counted where it happened. Times are virtual, in nanoseconds."""

    name: str
    digest: bytes
    end_ns: int  # when its last thread stopped, or its last event was
    processors: tuple[ProcessorOutcome, ...]
    counts: Mapping[str, int]
    copies: Mapping[str, int]
    charges: Mapping[str, int]  # how often each step of the cost model was charged
    astack_waits: int
    astack_bytes: Mapping[int, int]  # calls by bytes of arguments and results that their A-stacks carried
    latencies: Mapping[Route, Histogram]
    findings: Mapping[str, Findings]  # by domain and resident
    network_processor: QueueOutcome | None = None  # None where its cost model has none, or it calls nobody
    wire: QueueOutcome | None = None  # of which it is the hub
    mixes: str = ""  # what its cost model says of the figures that come of crossing machines, where any did

    @property
    def busy_ns(self) -> int:
        """Return how long its processors had threads, summed over them."""
        return sum(processor.busy_ns for processor in self.processors)


class Machine:
    """One simulated machine, to use by itself or as one of a cluster.

    By itself: `export` a server, `bind` to it, `spawn` a thread that calls it, `run`. All times are virtual.
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
            make_domain=SimulatedDomain,
        )
        self.outbox: list[Envelope] = []
        self.lines: Links | None = None  # to other machines
        self._residents: dict[str, Server | Program] = {}

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
    ) -> "Machine":
        """Return a machine of a cluster, by rank, with everything its specification says in place.

        `reach` says how soon at least what it sets off elsewhere can reach it.
        Raises `Refused` where a server cannot be exported or cannot bind what it imports.
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
        )
        if cluster.talks and spec.costs.has("network"):
            machine._connect(cluster, rank, names, reach)
        try:
            machine._populate(spec)
        except CallError as error:  # a server that imports what it must not, or what is not there
            raise Refused(f"{cluster.name}: machine {spec.name}: {error}; mend its description") from None
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
        """Export a server under a name, from a domain of that name unless another is given.

        `policy` is what its clerk goes by; all are accepted without. Raises `BindingRefused`.
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
        """Import an interface into a domain; see `Domain.bind`."""
        return self.domain(domain).bind(interface, name, transfer, exhausted)

    def domain(self, name: str = "client") -> SimulatedDomain:
        """Return a domain of this machine, made when it is first asked for."""
        return simulated(self.kernel.domain(name))

    def spawn(self, body: Callable[[], None], *, domain: str = "client", name: str = "") -> Thread:
        """Start a thread of a domain."""
        return self.domain(domain).spawn(body, name)

    @property
    def now_us(self) -> float:
        """Return the virtual time, in microseconds: that of the thread that runs, or else how far this machine came."""
        return self._now_ns / 1000

    def run(self, until_us: float | None = None) -> None:
        """Run until nothing is left to do, or until a virtual time.

        Raises `RunFailed` where a thread's body raised, or where threads wait for what can never come.
        """
        self.kernel.run(FOREVER if until_us is None else round(until_us * 1000))
        if until_us is None:
            self.check_finished()

    @property
    def next_ns(self) -> int:
        """Return when this machine's next event is due; `FOREVER` when there is none."""
        return self.kernel.engine.next_time

    @property
    def waits(self) -> bool:
        """Return whether replies from other machines may come, beside those that have been delivered."""
        return self.kernel.network is not None and self.kernel.network.waits

    def deliver(self, envelope: Envelope) -> None:
        """Take in a message from another machine."""
        network = self.kernel.network
        if network is None or self.lines is None:
            raise RunFailed(f"machine {self.name}: a message came, but it imports and exports nothing elsewhere")
        source, body = envelope.source, envelope.body
        network.expect(body)
        self.lines.deliver(envelope, lambda: network.arrive(source, body))

    def check_finished(self) -> None:
        """Raise `RunFailed` where threads still wait, though nothing is left to happen."""
        stuck = self.kernel.waiting()
        if stuck:
            first = stuck[0]
            what = f"{len(stuck)} threads can never go on; {first} waits for {first.waits_for}"
            raise RunFailed(f"machine {self.name}, at {self.now_us:.3f} us: {what}")

    def outcome(self) -> MachineOutcome:
        """Return what this machine did so far."""
        kernel = self.kernel
        end_ns = self._now_ns
        counts = asdict(kernel.counts)
        copies = counts.pop("copies")
        charges = {step: count for step, count in zip(STEPS, kernel.charges.counts(), strict=True) if count}
        waits = counts.pop("astack_waits")
        findings = {name: found for name, one in self._residents.items() if (found := one.findings())}
        return MachineOutcome(
            self.name,
            kernel.log.digest(),
            end_ns,
            tuple(_processor(one, end_ns) for one in kernel.processors),
            counts,
            copies,
            charges,
            waits,
            dict(sorted(kernel.astack_bytes.counts.items())),
            kernel.latencies,
            findings,
            _facility(None if kernel.network is None else kernel.network.packets.processor),
            _facility(None if self.lines is None else self.lines.wire),
            kernel.costs.file.mixes if kernel.counts.packets_sent else "",
        )

    @property
    def _now_ns(self) -> int:
        kernel = self.kernel
        if kernel.processor is not None:
            return kernel.now_ns
        return max(kernel.now_ns, *(processor.clock for processor in kernel.processors))

    def _connect(self, cluster: Cluster, rank: int, names: NameService, reach: Reach) -> None:
        self.lines = Links(cluster, rank, reach, self.kernel.engine, self.outbox)
        self.kernel.network = Network(self.kernel, rank, self.lines.send, names.locate, self.lines.line_to)

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
            server.domain = domain
            interface, body = server.module()
            domain.export(interface, body, export.name)
            self._residents[export.name] = server
            servers.append(server)
        return servers

    def _start(self, domain: SimulatedDomain, program: Program, name: str) -> None:
        domain.spawn(lambda: program.run(domain), name)


def _processor(one: Processor, end_ns: int) -> ProcessorOutcome:
    return ProcessorOutcome(
        one.busy_ns, one.bus_ns, one.bus_wait_ns, one.lock_wait_ns, end_ns - one.busy_ns, one.exchanges
    )


def _facility(one: FifoQueue | None) -> QueueOutcome | None:
    return None if one is None else QueueOutcome(one.served, one.bytes, one.busy_ns, one.wait_ns)
