"""Calls between machines take their steps, queue for shared resources, and survive lost packets.

Lost packets are sent again, and no call is done twice.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster.description import Cluster, check, describe
from lrpc.cluster.machine import Machine, MachineOutcome, QueueOutcome
from lrpc.cluster.run import _Memory, run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.domains.codecs import FixedBytes, UInt32, UpTo
from lrpc.domains.domain import Domain, bind
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Registry, Server
from lrpc.kernel.documents import validate
from lrpc.kernel.errors import CallFailed, Refused
from lrpc.kernel.random import Stream
from lrpc.kernel.simulated.costs import PARTS, STEPS, Retransmission
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.network.packets import PAYLOAD, packet_sizes
from lrpc.kernel.simulated.network.stations import ServiceTimes
from tests.support.clusters import REGISTRY, bank, cluster, digest, joined, pair
from tests.support.properties import examples
from tests.support.simulated import FIREFLY, assert_nothing_held, costs_of

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
    return {machine.name: machine for machine in memory._group._machines.values()}


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


@pytest.mark.parametrize("links", LINKS, ids=["point to point", "hub at the server", "hub at the client"])
@pytest.mark.parametrize(
    ("procedure", "us"), [("null", NULL_US), ("put", 606 + 954 + FULL_US), ("get", 606 + 954 + FULL_US)]
)
@pytest.mark.parametrize("processors", [1, 5])
def test_without_variation_a_call_takes_exactly_its_steps(
    links: Mapping[str, object], procedure: str, us: float, processors: int
) -> None:
    made = steady(stores([[timer(procedure)]], {**FIREFLY_WIRE, **links}, processors=processors))
    marshaled = 0 if procedure == "null" else 18.787879 + 0.303030 * PAYLOAD
    assert took(outcomes(made)["client0"]) == [pytest.approx(us + marshaled, abs=0.01)]


@pytest.mark.long
def test_the_mean_of_10_000_uncontended_nulls_is_that_of_their_steps() -> None:
    machines = outcomes(stores([[{"program": "timer", "parameters": {"calls": 10_000}}]], processors=5), 3)
    assert took(machines["client0"])[0] / 10_000 == pytest.approx(NULL_US, rel=0.005)


def test_no_service_takes_less_than_its_floor_and_some_take_more_than_their_cost() -> None:
    times = ServiceTimes(FIREFLY, Stream(7, "m", "services"))
    drawn = [times.draw(100_000) for _ in range(2000)]
    assert FIREFLY.floor_ns(100_000) == 50_000 == FIREFLY.floor_ns(100_001)
    assert 50_000 <= min(drawn) < 51_000
    assert max(drawn) > 200_000
    assert sum(drawn) / len(drawn) == pytest.approx(100_000, rel=0.05)
    assert (times.charged_ns, times.drawn_ns) == (2000 * 100_000, sum(drawn))
    assert FIREFLY.without_variation().floor_ns(100_000) == 100_000


def test_a_long_text_costs_both_sides_and_an_array_the_caller_alone() -> None:
    both = {procedure: outcomes(stores([[timer(procedure)]])) for procedure in ("get", "say", "note")}
    spent = {
        procedure: {
            side: {step: count for step, count in one[side].charges.items() if step in PARTS["marshaling"]}
            for side in ("client0", "server")
        }
        for procedure, one in both.items()
    }
    assert spent["get"] == {"client0": {"marshal_array": 1, "marshal_array_byte": PAYLOAD}, "server": {}}
    text = {"marshal_text": 1, "marshal_text_byte": 128}
    assert spent["say"] == {"client0": text, "server": text}
    assert spent["note"] == {"client0": {"marshal_word": 2}, "server": {"marshal_word": 2}}  # in and out


def test_a_null_is_charged_each_step_of_the_firefly_account() -> None:
    both = outcomes(stores([[timer()]]))
    charges = {step: sum(one.charges.get(step, 0) for one in both.values()) for step in STEPS}
    assert {step for step, count in charges.items() if count == 2} == {
        *("udp_header", "network_trap", "network_queue", "processor_interrupt", "interrupt_handling"),
        *(
            "controller_start",
            "controller_transmit",
            "controller_receive",
            "io_interrupt",
            "receive_handling",
            "wakeup",
        ),
    }
    assert (charges["udp_checksum"], charges["remote_client"], charges["remote_server"]) == (4, 1, 1)
    assert sum(charges.values()) == 2 * 11 + 4 + 2


def test_a_controller_holds_each_packet_of_a_long_message_until_the_wire_has_taken_it() -> None:
    """The sender's controller is the slowest place: it sends, then holds until the wire has taken.

    The last packet, of 120 bytes, waits at the receiver for the full one before.
    """
    both = outcomes(steady(stores([[timer("put_long")]], FIREFLY_WIRE)))
    first = 606 + 18.787879 + 3000 * 0.303030 + 190 + 395 + 98  # with the server's run-time
    sent, received = 70 + 745 + 60 + 1170, 80 + 755 + 456 + 395
    expected = first + 2 * sent + received + 456 + 120 * 0.274306 + 954
    assert took(both["client0"])[0] == pytest.approx(expected, abs=0.02)
    assert packet_sizes(3000) == [1440, 1440, 120]
    assert both["client0"].counts["packets_sent"] == 3
    here, there = both["client0"].controller, both["server"].controller
    assert here is not None
    assert there is not None
    assert (here.served, here.bytes, there.served, there.bytes) == (3 + 1, 3000, 3 + 1, 3000)
    assert here.held_ns == 1000 * (3 * 60) + 812.5 * 3000
    assert there.held_ns == 60_000  # the reply's


@given(st.integers(0, 20_000))
def test_packets_hold_a_message_and_none_is_empty_but_an_empty_ones(size: int) -> None:
    sizes = packet_sizes(size)
    assert sum(sizes) == size
    assert all(0 < one <= PAYLOAD for one in sizes) or sizes == [0]
    assert all(one == PAYLOAD for one in sizes[:-1])


def test_interrupts_queue_for_processor_0_and_are_taken_from_its_thread() -> None:
    """Two threads send at once from 493 us on; the I/O processor takes 98 for either, one by one.

    Requests leave at 661 and 791: the controller holds the first until 721. The server's interrupts
    take 456 each, from 801 on. There, a thread of processor 1 begins at 1,257, and replies.
    """
    both = outcomes(steady(stores([[timer(), timer()]], processors=2)))
    client, server = both["client0"].interrupts, both["server"].interrupts
    assert client is not None
    assert server is not None
    assert (client.served, server.served) == (2 + 2, 2 + 2)
    assert client.busy_ns == server.busy_ns == 1000 * 2 * (98 + 456)
    for one in both.values():
        first, second = one.processors
        assert (first.interrupt_ns, second.interrupt_ns) == (1000 * 2 * (98 + 456), 0)
        assert first.busy_ns + first.interrupt_ns + first.idle_ns == one.end_ns
    assert client.wait_ns >= 98_000  # the second request's
    assert min(took(both["client0"])) == 2514 < max(took(both["client0"]))


def test_a_thread_computes_for_longer_where_interrupts_take_its_processor() -> None:
    """The only processor of the server's machine computes while four calls come."""
    once = {"program": "timer", "count": 4}
    load = {"machine": "server", "threads": [{"program": "busy", "parameters": {"us": 50_000.0}}]}
    both = outcomes(steady(stores([[once]], load=load)))
    assert both["server"].findings["of load/0"] == {"took": 50_000 + 4 * 456}
    (processor,) = both["server"].processors
    assert processor.interrupt_ns == 4 * (456 + 98) * 1000


def test_packets_of_two_machines_queue_for_the_wire_they_share() -> None:
    apart = outcomes(steady(stores([[timer()], [timer()]], processors=2)))
    shared = outcomes(steady(stores([[timer()], [timer()]], ETHERNET, processors=2)))
    assert apart["server"].wire is None
    wire = shared["server"].wire
    assert wire == QueueOutcome(4, 0, 4 * 60_000, 60_000)  # both requests are ready at the same time
    assert [one.wire for name, one in shared.items() if name != "server"] == [None, None]


def test_with_long_messages_the_wire_is_busy_with_their_bytes() -> None:
    shared = outcomes(stores([[timer("put_long"), timer("get")], [timer("put")]], ETHERNET, processors=2))
    wire = shared["server"].wire
    assert wire is not None
    carried = 3000 + 2 * PAYLOAD
    assert (wire.served, wire.bytes) == (3 + 1 + 2 + 2, carried)
    assert wire.busy_ns == 8 * 60_000 + carried * 800
    assert wire.wait_ns > 0


@examples(25)
@given(
    threads=st.lists(st.integers(1, 3), min_size=1, max_size=3),
    loss=st.sampled_from([0.0, 0.3]),
    links=st.sampled_from([{}, ETHERNET]),
    seed=st.integers(0, 2**32),
)
def test_all_processors_are_busy_with_what_is_charged(
    threads: list[int], loss: float, links: Mapping[str, object], seed: int
) -> None:
    programs = [[{"program": "caller", "count": count}] for count in threads]
    made = stores(programs, {**links, "loss": loss}, processors=2)
    made = replace(made, machines=tuple(replace(machine, costs=COSTS) for machine in made.machines))
    for one in outcomes(made, seed).values():
        spent = sum(COSTS.ps[STEPS.index(step)] * count for step, count in one.charges.items())
        assert one.controller is not None
        interrupts = sum(processor.interrupt_ns for processor in one.processors)
        assert 1000 * (one.busy_ns + interrupts + one.controller.busy_ns) == spent


@examples(60)
@given(
    threads=st.lists(st.integers(1, 4), min_size=1, max_size=3),
    loss=st.sampled_from([0.01, 0.2, 0.5, 0.9]),
    links=st.sampled_from(LINKS[:2]),
    tries=st.integers(1, 5),
    timeout_us=st.sampled_from([1_000.0, 4_000.0, 50_000.0]),
    work_us=st.sampled_from([0.0, 20_000.0]),
    processors=st.integers(1, 2),
    seed=st.integers(0, 2**32),
)
def test_whatever_is_lost_a_call_is_executed_at_most_once_and_every_caller_hears_once(
    threads: list[int],
    loss: float,
    links: Mapping[str, object],
    tries: int,
    timeout_us: float,
    work_us: float,
    processors: int,
    seed: int,
) -> None:
    numbers = iter(range(0, 10_000, 5))
    programs = [
        [{"program": "caller", "parameters": {"first": next(numbers)}} for _ in range(count)] for count in threads
    ]
    made = stores(programs, {**links, "loss": loss}, processors=processors, server={"work_us": work_us})
    machines = run(patient(made, us=timeout_us, backoff=2, tries=tries), seed)
    server = machines.pop("server")
    noted = server.outcome().findings["store"]["noted"]
    assert isinstance(noted, list)
    assert len(noted) == len(set(noted))  # at most once
    findings = [found for machine in machines.values() for found in machine.outcome().findings.values()]
    came = [one for found in findings for one in cast("list[tuple[int, bool]]", found["came"])]
    assert sorted(number for number, _ in came) == list(range(5 * sum(threads)))  # each ends once
    assert {number for number, returned in came if returned} <= set(noted)
    sent = lost = handled = 0
    for machine in [server, *machines.values()]:
        network, counts = machine.kernel.network, machine.kernel.counts
        assert network is not None
        assert (network.outstanding, machine.next_ns) == ({}, FOREVER)  # and no timer is left
        assert len(network.last_calls) <= (sum(threads) if machine is server else 0)
        assert_nothing_held(machine.kernel)
        sent, lost = sent + counts.packets_sent, lost + counts.packets_lost
        handled += network.packets.controller.served
    assert handled == 2 * sent - lost  # each at its sender, and at its receiver unless lost


def test_a_call_that_takes_long_is_acknowledged_and_neither_fails_nor_runs_twice() -> None:
    made = stores([[{"program": "caller", "parameters": {"calls": 1}}]], {"loss": 1e-9}, server={"work_us": 10e6})
    machines = outcomes(patient(made, us=100_000.0, backoff=1, tries=2))
    assert machines["server"].findings["store"] == {"noted": [0]}
    assert machines["client0"].findings["of client0/0"] == {"came": [(0, True)]}
    again = machines["client0"].counts["calls_retransmitted"]
    assert again == machines["server"].counts["duplicates_answered"] == 99


def test_a_call_may_be_given_up_while_it_is_sent_again_and_its_caller_called_with_anew() -> None:
    tables = pair("impatient", "slow", patience_us=5_000, kept_us=50_000)
    tables["links"] = {"delay_us": 60.0, "loss": 1e-9}
    machines = run(patient(cluster(tables), us=1_000.0, backoff=1, tries=3))
    client, server = machines["client"], machines["server"]
    assert client.outcome().findings["program/0"] == {"seen": ["aborted", "called again"]}
    assert client.kernel.counts.replies_dropped > 0
    assert client.kernel.network is not None
    assert client.kernel.network.outstanding == {}
    assert server.kernel.network is not None
    ((where, last),) = server.kernel.network.last_calls.items()
    assert (where, last.number) == ((0, 1), 2)
    assert_nothing_held(server.kernel)


def test_a_caller_nobody_answers_is_told_after_its_tries() -> None:
    made = stores([[{"program": "caller", "parameters": {"calls": 3}}]], {"loss": 0.999999999})
    machines = outcomes(patient(made, us=1_000.0, backoff=3, tries=4))
    assert machines["client0"].findings["of client0/0"] == {"came": [(0, False), (1, False), (2, False)]}
    counts = machines["client0"].counts
    assert (counts["packets_sent"], counts["packets_lost"], counts["calls_retransmitted"]) == (12, 12, 9)
    assert machines["server"].findings["store"] == {"noted": []}


def test_without_loss_nothing_is_remembered_and_nobody_is_timed() -> None:
    machines = run(stores([[{"program": "caller"}]], ETHERNET))
    network = machines["server"].kernel.network
    assert network is not None
    assert network.last_calls == {}
    assert machines["client0"].kernel.counts.calls_retransmitted == 0


def lossy_bank() -> Cluster:
    """Return a bank whose machines share a wire that loses packets, and have links that do."""
    tables = bank(teller={"rounds": 2})
    pairs = [{"between": [f"desk{number}", "relay"], "delay_us": 700.0, "loss": 0.02} for number in (1, 2, 3)]
    tables["links"] = {"delay_us": 60.0, "medium": "ethernet", "hub": "bank", "loss": 0.05, "pairs": pairs}
    return cluster(tables)


def test_a_run_that_loses_packets_on_a_wire_has_one_digest_wherever_it_runs() -> None:
    made = lossy_bank()
    expected = digest(made, 3)
    lost = sum(
        machine.counts["packets_lost"] for machine in run_cluster(made, seed=3, actors=0, transport="memory").machines
    )
    assert lost > 10
    assert run_cluster(made, seed=3, actors=0, transport="grpc").digest == expected
    for stations in (2, 3):
        with joined(made, stations, 3) as several:
            several.run()
            assert several.digest() == expected
    assert digest(made, 4) != expected


@pytest.mark.parametrize(
    ("links", "said"),
    [
        ({"medium": "ethernet"}, "tables: links.hub: missing; name a machine; there are client0, client1, server"),
        (
            {"medium": "ethernet", "hub": "attic"},
            "tables: links.hub: no machine attic; there are client0, client1, ser",
        ),
        (
            {"hub": "server"},
            'tables: links.hub: only an ethernet has a hub; set links.medium to "ethernet", or remove links.hub',
        ),
        (
            {"medium": "ethernet", "hub": "client0"},
            "tables: links.hub: client1 calls server over the wire, and neither is its hub, client0; make one of them",
        ),
        ({"loss": 1.0}, "tables: links.loss: Input should be less than 1; it is 1.0"),
        ({"loss": -0.1}, "tables: links.loss: Input should be greater than or equal to 0; it is -0.1"),
        ({"medium": "string"}, "tables: links.medium: Input should be 'point to point' or 'ethernet'; it is 'string'"),
    ],
)
def test_links_that_cannot_be_are_refused_in_one_line(links: Mapping[str, object], said: str) -> None:
    with pytest.raises(Refused) as caught:
        stores([[timer()], [timer()]], links)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(said)


def test_an_ethernet_on_which_sending_takes_no_time_and_loss_without_a_policy_are_refused() -> None:
    free = costs_of(1, dict.fromkeys(("interrupt_handling", "controller_start", "controller_transmit"), 0))
    free = replace(free, file=free.file.model_copy(update={"retransmission": None}))
    for links, said in (
        (ETHERNET, "links.medium: an ethernet joins"),
        ({"loss": 0.1}, "links.loss: cost model test"),
    ):
        made = stores([[timer()]], links)
        made = replace(made, machines=tuple(replace(machine, costs=free) for machine in made.machines))
        with pytest.raises(Refused, match=said):
            check(made, "tables")
