"""A single machine, used as the README does, and one of a pair: errors of a run that must stop."""

from collections.abc import Callable
from math import inf, nan

import pytest

from lrpc.cluster.envelope import Transport
from lrpc.cluster.machine import Machine, NameService
from lrpc.cluster.reach import Reach
from lrpc.cluster.run import run_cluster
from lrpc.domains.codecs import Int32
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.stubs import ClientStub
from lrpc.kernel.errors import BindingRefused, ProcedureRaised, Refused, RunFailed
from lrpc.kernel.simulated.threads import Thread
from tests.support.clusters import Ledger, cluster, in_memory, pair
from tests.support.simulated import assert_nothing_held


class Adder(Interface):
    """An interface that adds."""

    def add(self, a: Int32, b: Int32) -> Int32:
        raise NotImplementedError


class AdderServer(Adder):
    """Adds, as the README's server does."""

    def add(self, a: int, b: int) -> int:
        return a + b


class Names(Interface):
    """Another interface."""

    def lookup(self, a: Int32) -> Int32:
        raise NotImplementedError


def adding() -> Machine:
    machine = Machine()
    machine.export(Adder, AdderServer(), name="adder")
    return machine


def failure(machine: Machine) -> str:
    """Return the one line of the error that ends a machine's run."""
    with pytest.raises(RunFailed) as caught:
        machine.run()
    (line,) = str(caught.value).splitlines()
    return line


def test_export_bind_spawn_run() -> None:
    machine = adding()
    adder = machine.bind(Adder, "adder")
    sums: list[int] = []
    machine.spawn(lambda: sums.append(adder.add(1, 2)))
    machine.run()
    assert sums == [3]
    assert machine.now_us == pytest.approx(164, rel=0.005)  # Table IV
    assert machine.outcome().counts["cross_domain"] == 1
    assert_nothing_held(machine.kernel)


def test_a_run_may_stop_at_a_time_and_resume() -> None:
    machine = adding()
    adder = machine.bind(Adder, "adder")
    times: list[float] = []

    def body() -> None:
        for _ in range(4):
            adder.add(1, 2)
            times.append(machine.now_us)

    machine.spawn(body)
    machine.run(until_us=400)
    assert len(times) == 2  # the third ends at 492
    machine.run()
    assert times == pytest.approx([164, 328, 492, 656], rel=0.005)


def test_an_interface_exported_from_a_domain_of_another_name_is_bound_by_its_own() -> None:
    machine = Machine()
    machine.export(Adder, AdderServer(), name="adder", domain="calculators")
    sums: list[int] = []
    machine.spawn(lambda: sums.append(machine.bind(Adder, "adder").add(4, 5)))
    machine.spawn(lambda: sums.append(machine.bind(Adder, "adder", domain="calculators").add(1, 1)), domain="other")
    machine.run()
    assert sorted(sums) == [2, 9]
    assert machine.outcome().counts["within_domain"] == 1


def test_a_clerk_may_refuse_whom_its_policy_refuses() -> None:
    machine = Machine()
    machine.export(
        Adder, AdderServer(), name="adder", policy=lambda request: "not you" if request.client == "spy" else None
    )
    adder = machine.bind(Adder, "adder")
    with pytest.raises(BindingRefused, match="not you"):
        machine.bind(Adder, "adder", domain="spy")
    sums: list[int] = []
    machine.spawn(lambda: sums.append(adder.add(1, 2)))
    machine.run()
    assert sums == [3]


def test_a_binding_to_what_nobody_exports_or_to_another_interface_is_refused() -> None:
    machine = adding()
    with pytest.raises(BindingRefused, match="import subtractor: nobody exports it to domain client of machine"):
        machine.bind(Adder, "subtractor")
    with pytest.raises(BindingRefused, match="import adder: it is a Adder, not a Names"):
        machine.bind(Names, "adder")


@pytest.mark.parametrize("cost_model", ["vax-11", "nowhere.toml"])
def test_an_unknown_cost_model_is_refused(cost_model: str) -> None:
    with pytest.raises(Refused, match=cost_model):
        Machine(cost_model=cost_model)


def test_a_run_until_a_time_ends_at_that_time_and_goes_on_from_there() -> None:
    machine = adding()
    began: list[int] = []
    machine.run(until_us=1500.25)
    assert machine.kernel.now_ns == 1_500_250
    machine.spawn(lambda: began.append(machine.kernel.now_ns))
    machine.run(until_us=1000)  # earlier: time does not run backwards
    assert machine.kernel.now_ns == 1_500_250
    machine.run(until_us=inf)
    assert began == [1_500_250]


@pytest.mark.parametrize("time", [-1.0, nan])
def test_a_run_until_what_is_no_time_is_refused(time: float) -> None:
    with pytest.raises(Refused, match=f"machine machine: until_us is {time}; give 0 or more microseconds"):
        adding().run(until_us=time)


def test_virtual_time_ends_after_146_years_and_that_is_said() -> None:
    machine = Machine("m")
    far = machine.domain("d")

    def body() -> None:
        while True:
            far.sleep(us=9.9e11)

    machine.spawn(body, domain="d")
    assert failure(machine).endswith("virtual time has come to its end, 146 years; make sleeps or computation shorter")
    with pytest.raises(Refused, match=r"until_us is 5e\+15: virtual time ends after 146 years; give less, or math.inf"):
        adding().run(until_us=5e15)


def test_threads_that_wait_for_each_other_are_named_with_what_they_wait_for() -> None:
    machine = Machine("m")
    threads: list[Thread] = []

    def wait_for(other: int) -> Callable[[], None]:
        return lambda: threads[other].join()

    threads += [machine.spawn(wait_for(1), name="first"), machine.spawn(wait_for(0), name="second")]
    line = failure(machine)
    assert line.startswith("machine m, at 0.000 µs: deadlock: 2 threads wait for ever; ")
    assert line.endswith("thread first of domain client waits for thread second to end")


def test_a_thread_that_raises_is_named_with_what_it_raised_in_one_line() -> None:
    machine = Machine("m")

    def body() -> None:
        machine.domain().compute(us=12.5)
        raise ValueError("so\nit goes")

    machine.spawn(body, name="unlucky")
    with pytest.raises(RunFailed) as caught:
        machine.run()
    text = " ".join(str(caught.value).split())
    assert text == "machine m, thread unlucky of domain client, at 12.500 µs: ValueError: so it goes"
    assert isinstance(caught.value.__cause__, ValueError)


def test_a_call_outside_any_thread_fails_and_says_where_to_make_it() -> None:
    adder = adding().bind(Adder, "adder")
    with pytest.raises(RunFailed, match="outside any simulated thread; make it in the body of one"):
        adder.add(1, 2)


def test_a_server_that_raises_raises_at_its_caller_and_the_machine_continues() -> None:
    class Broken(Adder):
        def add(self, a: int, b: int) -> int:
            raise OverflowError("too much") if a > 9 else ArithmeticError

    machine = Machine()
    machine.export(Adder, Broken(), name="adder")
    seen: list[tuple[str, str]] = []

    def body() -> None:
        adder = machine.bind(Adder, "adder")
        for a in (10, 1):
            with pytest.raises(ProcedureRaised) as caught:
                adder.add(a, 0)
            seen.append((caught.value.kind, caught.value.message))

    machine.spawn(body)
    machine.run()
    assert seen == [("OverflowError", "too much"), ("ArithmeticError", "")]
    assert_nothing_held(machine.kernel)


def test_only_a_binding_to_another_machine_has_its_remote_bit_set() -> None:
    described = cluster(pair("teller", "drawer"))
    reach, names = Reach(described), NameService(described)
    client, server = (Machine.of(described, rank, names=names, reach=reach, seed=0, sink=None) for rank in (0, 1))
    bits = []
    for machine in (client, server):
        machine.domain("a client").imports["ledger"] = "ledger"
        stub = vars(machine.bind(Ledger, "ledger", domain="a client"))["post"]
        assert isinstance(stub, ClientStub)
        bits.append(stub.key.remote)
    assert bits == [True, False]


def test_nobody_binds_on_another_machine_what_is_another_interface_there() -> None:
    described = cluster(pair("teller", "drawer"))
    names = NameService(described)
    client = Machine.of(described, 0, names=names, reach=Reach(described), seed=0, sink=None)
    with pytest.raises(BindingRefused, match="domain client of machine client does not declare it; add it to its imp"):
        client.bind(Adder, "ledger")
    client.domain("client").imports["ledger"] = "ledger"
    with pytest.raises(BindingRefused, match="import ledger: it is a Ledger, not a Adder"):
        client.bind(Adder, "ledger")


@pytest.mark.parametrize("transport", ["memory", "grpc"])
def test_what_a_remote_server_raises_is_raised_at_the_caller(transport: Transport) -> None:
    outcome = run_cluster(cluster(pair("provoker", "ledger")), actors=0, transport=transport)
    assert outcome.machines[0].findings["program/0"] == {"seen": ["LookupError", "no such\naccount"]}


def test_a_late_reply_to_a_call_given_up_is_dropped_and_counted_once() -> None:
    client, server = in_memory(cluster(pair("impatient", "slow")))
    assert client.findings["program/0"] == {"seen": ["aborted", "called again"]}
    assert client.counts["replies_dropped"] == 1
    assert (client.counts["link_requests"], server.counts["link_replies"]) == (2, 2)
    assert client.end_ns > 50_000_000  # when the reply came, long after the caller resumed


def test_a_reply_that_comes_in_time_is_not_dropped() -> None:
    with pytest.raises(RunFailed, match=r"thread caller of domain program has no call to abort"):
        in_memory(cluster(pair("impatient", "slow", patience_us=90_000)))


def test_a_call_that_waits_for_its_own_caller_is_named() -> None:
    """The server waits for the thread that calls it: no event is left."""
    machine = Machine("m")
    threads: list[Thread] = []
    sums: list[int] = []

    class Waiting(Adder):
        def add(self, a: int, b: int) -> int:
            threads[0].join()
            return 0

    machine.export(Adder, Waiting(), name="adder")
    threads.append(machine.spawn(lambda: sums.append(machine.bind(Adder, "adder").add(1, 2)), name="caller"))
    assert failure(machine).endswith("thread caller of domain client waits for thread caller to end")


def test_a_description_says_how_a_machine_calls() -> None:
    tables = pair("teller", "drawer")
    tables["machines"]["server"] = {"processors": 2, "domain_caching": True, "tagged_tlb": True}
    tables["machines"]["client"] = {"discipline": "message passing"}
    tables["domains"]["ledger"]["convention"] = "execution stack"
    described = cluster(tables)
    names, reach = NameService(described), Reach(described)
    client, server = (Machine.of(described, rank, names=names, reach=reach, seed=0, sink=None) for rank in (0, 1))
    assert (server.kernel.domain_caching, client.kernel.domain_caching) == (True, False)
    assert (server.kernel.discipline, client.kernel.discipline) == ("shared buffers", "message passing")
    assert (server.kernel.costs.file.tlb.tagged, client.kernel.costs.file.tlb.tagged) == (True, False)
    assert server.domain("ledger").convention == "execution stack"
    assert client.domain("program").convention == "argument pointer"


def test_an_idle_processor_takes_calls_over_and_its_outcome_says_so() -> None:
    machine = Machine(processors=2, domain_caching=True)
    machine.export(Adder, AdderServer(), name="adder")
    adder = machine.bind(Adder, "adder")

    def body() -> None:
        for _ in range(20):
            adder.add(1, 2)

    machine.spawn(body)
    machine.run()
    outcome = machine.outcome()
    assert sum(one.exchanges for one in outcome.processors) == outcome.charges["exchange"] > 20
    assert outcome.busy_ns == sum(one.busy_ns for one in outcome.processors) == outcome.end_ns
    assert all(one.busy_ns + one.idle_ns == outcome.end_ns for one in outcome.processors)
    assert outcome.astack_bytes == {12: 20}
