"""A server whose calls take packets, the programs that call it, and clusters of both."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any

from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.machine import Machine, MachineOutcome
from lrpc.cluster.run import _Memory
from lrpc.cluster.scenario import ClusterTable
from lrpc.domains.codecs import FixedBytes, UInt32, UpTo
from lrpc.domains.domain import Domain, bind
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Registry, Server
from lrpc.kernel.documents import validate
from lrpc.kernel.errors import CallFailed
from lrpc.kernel.simulated.costs import Retransmission
from lrpc.kernel.simulated.network.packets import PAYLOAD
from tests.support.clusters import REGISTRY
from tests.support.simulated import FIREFLY, costs_of

COSTS = costs_of(3, {"wakeup": 50, "controller_transmit": 40, "udp_header": 11})
NULL_US = 606 + 2 * 954
FULL_US = 4414  # one way
Full = Annotated[bytes, FixedBytes(PAYLOAD)]
Long = Annotated[bytes, FixedBytes(3000)]


class Store(Interface):
    """An interface that takes and returns bytes."""

    def null(self) -> None: ...

    def put(self, data: Full) -> None: ...

    def get(self) -> Full:
        raise NotImplementedError

    def put_long(self, data: Long) -> None: ...

    def say(self, text: Annotated[str, UpTo(200)]) -> None: ...

    def note(self, number: UInt32) -> UInt32:
        raise NotImplementedError


@dataclass
class StoreServer(Server, Store):
    """Notes the numbers it was called with, in order."""

    work_us: float = 0.0

    def __post_init__(self) -> None:
        self._noted: list[int] = []

    def null(self) -> None: ...

    def put(self, data: bytes) -> None:
        assert data == bytes(PAYLOAD)

    def get(self) -> bytes:
        return bytes(PAYLOAD)

    def put_long(self, data: bytes) -> None:
        assert data == bytes(3000)

    def say(self, text: str) -> None:
        assert text == "a" * 128

    def note(self, number: int) -> int:
        self._noted.append(number)
        self.domain.sleep(us=self.work_us)
        return number + 1

    def findings(self) -> Findings:
        return {"noted": self._noted}


@dataclass
class Timer(Program):
    """Makes `calls` calls, and reports how long they took."""

    procedure: str = "null"
    calls: int = 1

    def run(self, domain: Domain) -> None:
        store = bind(domain, Store, "store")
        began = domain.now_us
        arguments: dict[str, object] = {"put": bytes(PAYLOAD), "put_long": bytes(3000), "say": "a" * 128, "note": 1}
        given = [arguments[self.procedure]] if self.procedure in arguments else []
        for _ in range(self.calls):
            getattr(store, self.procedure)(*given)
        self._took = domain.now_us - began

    def findings(self) -> Findings:
        return {"took": self._took}


@dataclass
class Busy(Program):
    """Computes, and reports how long that took."""

    us: float = 1_000.0

    def run(self, domain: Domain) -> None:
        began = domain.now_us
        domain.compute(us=self.us)
        self._took = domain.now_us - began

    def findings(self) -> Findings:
        return {"took": self._took}


@dataclass
class Caller(Program):
    """Makes `calls` calls, thinks in between, and keeps how each of them ended."""

    first: int = 0
    calls: int = 5
    think_us: int = 3_000

    def __post_init__(self) -> None:
        self._came: list[tuple[int, bool]] = []

    def run(self, domain: Domain) -> None:
        store = bind(domain, Store, "store")
        chance = domain.random("caller")
        for number in range(self.first, self.first + self.calls):
            domain.sleep(us=chance.exponential(self.think_us))
            try:
                assert store.note(number) == number + 1
            except CallFailed:
                self._came.append((number, False))
            else:
                self._came.append((number, True))

    def findings(self) -> Findings:
        return {"came": self._came}


STORES = Registry(
    servers={**REGISTRY.servers, "store": StoreServer},
    programs={**REGISTRY.programs, "timer": Timer, "caller": Caller, "busy": Busy},
)


def stores(
    programs: list[list[dict[str, Any]]],
    links: Mapping[str, object] | None = None,
    *,
    processors: int = 1,
    server: Mapping[str, object] | None = None,
    load: Mapping[str, object] | None = None,
) -> Cluster:
    """Return a cluster of a server's machine and one machine for each list of client threads.

    `load` is another domain.
    """
    clients = [f"client{number}" for number in range(len(programs))]
    exports = {"store": {"server": "store", "parameters": dict(server or {})}}
    tables: dict[str, Any] = {
        "name": "stores",
        "machines": {name: {"processors": processors} for name in [*clients, "server"]},
        "links": {"delay_us": 60.0, **(links or {})},
        "domains": {"store": {"machine": "server", "exports": exports}},
    }
    if load is not None:
        tables["domains"]["of load"] = load
    for name, threads in zip(clients, programs, strict=True):
        tables["domains"][f"of {name}"] = {"machine": name, "imports": {"store": "store"}, "threads": threads}
    return described(tables)


def described(tables: Mapping[str, object]) -> Cluster:
    return describe(validate(ClusterTable, tables, "tables"), STORES, "tables")


def timer(procedure: str = "null") -> dict[str, Any]:
    return {"program": "timer", "parameters": {"procedure": procedure}}


def run(made: Cluster, seed: int = 0) -> dict[str, Machine]:
    """Return the machines of a cluster after a run in this thread, by name."""
    memory = _Memory(made, seed, None)
    memory.driver(made, lambda progress: None).run()
    memory.finish()
    return {one.name: one.machine for one in memory._group._lanes.values()}


def outcomes(made: Cluster, seed: int = 0) -> dict[str, MachineOutcome]:
    return {name: machine.outcome() for name, machine in run(made, seed).items()}


def took(one: MachineOutcome) -> list[float]:
    """Return how long each call of a machine's timers took, in us."""
    return [found["took"] for name, found in one.findings.items() if name.startswith("of ")]  # type: ignore[misc]


def steady(made: Cluster) -> Cluster:
    """Return the cluster with services that always take what they cost."""
    costs = FIREFLY.without_variation()
    return replace(made, machines=tuple(replace(machine, costs=costs) for machine in made.machines))


def patient(made: Cluster, **retransmission: Any) -> Cluster:
    """Return the cluster with these times and tries before its callers give up."""
    policy = Retransmission(origin="assumed", source="a test", **retransmission)
    costs = replace(FIREFLY, file=FIREFLY.file.model_copy(update={"retransmission": policy}))
    return replace(made, machines=tuple(replace(machine, costs=costs) for machine in made.machines))


FIREFLY_WIRE = {"bandwidth_mbps": 8 * 1440 / 1170}
ETHERNET = {"medium": "ethernet", "hub": "server"}
LINKS = [{}, ETHERNET, {"medium": "ethernet", "hub": "client0"}]
