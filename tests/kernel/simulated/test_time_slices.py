"""Threads take turns on a processor where a machine has a quantum, else each keeps its own."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrpc
from lrpc.domains.domain import Transfer
from lrpc.domains.simulated.stubs import ClientStub
from lrpc.kernel.simulated.costs import CostModel, load_cost_model
from lrpc.kernel.simulated.kernel import Kernel
from tests.support.clusters import cluster, pair

SECOND = 1e6  # in us


def free() -> CostModel:
    """Return a cost model by which nothing costs anything, and nobody waits for a bus."""
    found = load_cost_model("cvax-firefly")
    found = found.without(list(found.file.steps))
    return CostModel(found.file.model_copy(update={"bus": None}), found.ns, found.ps)


FREE = free()


class Sum(lrpc.Interface):
    def add(self, a: lrpc.Int32, b: lrpc.Int32) -> lrpc.Int32: ...


class SumServer(Sum):
    def add(self, a: int, b: int) -> int:
        return a + b


class Hours(lrpc.Interface):
    def work(self, us: lrpc.Int32) -> lrpc.Int32: ...


def work(domain: lrpc.Domain, how: str, us: float) -> None:
    """Take so long in a domain: compute, or be in the kernel for a system call."""
    if how == "computes":
        domain.compute(us=us)
    else:
        domain.system_call(us=us)


class HoursServer(Hours):
    """Works for as long as it is asked to, in the domain that `domain` names."""

    domain: lrpc.Domain

    def __init__(self, how: str) -> None:
        self.how = how

    def work(self, us: int) -> int:
        work(self.domain, self.how, us)
        return us


HOWS = ("computes", "traps")


def ends(machine: lrpc.Machine, **bodies: Callable[[], object]) -> dict[str, float]:
    """Run bodies as threads of one domain; return when each ended, in us."""
    found: dict[str, float] = {}

    def body(name: str, work: Callable[[], object]) -> Callable[[], None]:
        def run() -> None:
            work()
            found[name] = machine.now_us

        return run

    for name, work in bodies.items():
        machine.spawn(body(name, work), name=name)
    machine.run()
    return found


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("quantum_us", [None, 1000.0])
def test_what_takes_long_delays_others_by_a_quantum_only(quantum_us: float | None, how: str) -> None:
    machine = lrpc.Machine("m", cost_model=FREE, quantum_us=quantum_us)
    own = machine.domain()
    found = ends(machine, long=lambda: work(own, how, SECOND), short=lambda: work(own, how, 10))
    if quantum_us is None:
        assert found == {"long": SECOND, "short": SECOND + 10}
    else:
        assert found == {"long": SECOND + 10, "short": 1010.0}


def test_equal_threads_get_equal_shares_whatever_the_quantum() -> None:
    machine = lrpc.Machine("m", cost_model=FREE, quantum_us=100)
    own = machine.domain()
    found = ends(
        machine, a=lambda: own.compute(us=1000), b=lambda: own.compute(us=1000), c=lambda: own.compute(us=1000)
    )
    assert found == {"a": 2800.0, "b": 2900.0, "c": 3000.0}


@pytest.mark.parametrize("quantum_us", [None, 1000.0])
def test_a_thread_that_only_calls_gives_way_too(quantum_us: float | None) -> None:
    machine = lrpc.Machine("m", quantum_us=quantum_us)
    machine.export(Sum, SumServer(), "sum")
    adder, own = machine.bind(Sum, "sum"), machine.domain()

    def calls() -> None:
        for number in range(1000):
            assert adder.add(number, 1) == number + 1

    found = ends(machine, calls=calls, short=lambda: own.compute(us=10))
    assert (found["short"] < 2000) == (quantum_us is not None)
    assert found["calls"] > 100_000


def test_traps_give_way() -> None:
    machine = lrpc.Machine("m", quantum_us=100)
    own = machine.domain()

    def traps() -> None:
        for _ in range(100):
            own.system_call(us=10)

    found = ends(machine, traps=traps, short=lambda: own.compute(us=1))
    assert found["short"] < 200


@given(
    times=st.lists(st.integers(0, 3000), min_size=1, max_size=5),
    how=st.sampled_from(HOWS),
    quantum_us=st.sampled_from([1.0, 7.0, 100.0, 2500.0]),
    processors=st.integers(1, 3),
)
def test_turns_lose_no_work_and_leave_no_processor_idle(
    times: list[int], how: str, quantum_us: float, processors: int
) -> None:
    machine = lrpc.Machine("m", cost_model=FREE, quantum_us=quantum_us, processors=processors)
    own = machine.domain()
    found = ends(machine, **{f"t{at}": (lambda us=us: work(own, how, us)) for at, us in enumerate(times)})
    assert sum(one.busy_ns for one in machine.kernel.processors) == 1000 * sum(times)
    last = max(found.values())
    assert max(max(times), sum(times) / processors) <= last <= sum(times) / processors + max(times)


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("quantum_us", [None, 300.0])
def test_a_caller_is_released_at_once_from_a_server_that_ends_while_it(how: str, quantum_us: float | None) -> None:
    machine = lrpc.Machine("m", cost_model=FREE, processors=2, quantum_us=quantum_us)
    server = HoursServer(how)
    server.domain = machine.domain("hours")
    machine.export(Hours, server, "hours")
    stub, killer = machine.bind(Hours, "hours"), machine.domain("killer")
    told: list[float] = []

    def call() -> None:
        with pytest.raises(lrpc.CallFailed):
            stub.work(1_000_000)
        told.append(machine.now_us)

    def kill() -> None:
        killer.sleep(us=500)
        machine.domain("hours").terminate()

    machine.spawn(call)
    machine.spawn(kill, domain="killer")
    machine.run()
    assert told == [500.0]
    assert sum(one.busy_ns for one in machine.kernel.processors) == 500_000  # and its processor is free


REFUSED: dict[str, Callable[[ClientStub, Kernel], None]] = {
    "a forged key": lambda stub, _: setattr(stub.key, "key", 1),
    "a remote bit that was altered": lambda stub, _: setattr(stub.key, "remote", True),
    "no such procedure": lambda stub, _: setattr(stub, "number", 99),
    "a binding that was revoked": lambda _, kernel: revoke(kernel),
    "a server that has ended": lambda _, kernel: kernel.domains["sum"].terminate(),
}


def revoke(kernel: Kernel) -> None:
    """Revoke what every client was given."""
    for one in list(kernel.grants.values()):
        kernel.revoke_grant(one, lrpc.BindingRevoked("no"))


@pytest.mark.parametrize("processors", [1, 2])
@pytest.mark.parametrize("why", REFUSED)
@pytest.mark.parametrize("transfer", ["lrpc", "message passing"])
def test_calls_that_are_refused_for_ever_keep_nobody_from_a_processor(
    transfer: Transfer, why: str, processors: int
) -> None:
    machine = lrpc.Machine("m", quantum_us=1000, processors=processors)
    machine.export(Sum, SumServer(), "sum")
    adder, own = machine.bind(Sum, "sum", transfer=transfer), machine.domain()
    done: list[float] = []

    def retries() -> None:
        stub = adder.add
        assert isinstance(stub, ClientStub)
        REFUSED[why](stub, machine.kernel)
        while not done:
            with pytest.raises(lrpc.CallError):
                adder.add(1, 2)

    def other() -> None:
        own.compute(us=10)
        done.append(machine.now_us)

    machine.spawn(retries)
    machine.spawn(other)
    machine.run()
    assert done[0] < 3000


def test_calls_within_a_domain_give_way() -> None:
    machine = lrpc.Machine("m", quantum_us=1000)
    machine.export(Sum, SumServer(), "sum")
    own = machine.domain("sum")
    found: dict[str, float] = {}

    def calls() -> None:
        adder = own.bind(Sum, "sum")
        for number in range(1000):
            assert adder.add(number, 1) == number + 1
        found["calls"] = machine.now_us

    def short() -> None:
        own.compute(us=10)
        found["short"] = machine.now_us

    machine.spawn(calls, domain="sum")
    machine.spawn(short, domain="sum")
    machine.run()
    assert found["short"] < 2000 < 5000 < found["calls"]


@pytest.mark.parametrize("transfer", ["lrpc", "message passing"])
def test_a_caller_is_released_from_a_server_that_ends_while_it_calls_within_its_own_domain(transfer: Transfer) -> None:
    machine = lrpc.Machine("m", processors=2)
    machine.export(Sum, SumServer(), "sum")
    own = machine.domain("sum")

    class Loops(Hours):
        def work(self, us: int) -> int:
            adder = own.bind(Sum, "sum")
            return sum(adder.add(1, 2) for _ in range(10_000))  # 70 ms

    machine.export(Hours, Loops(), "hours", domain="sum")
    stub, killer = machine.bind(Hours, "hours", transfer=transfer), machine.domain("killer")
    told: list[float] = []

    def call() -> None:
        with pytest.raises(lrpc.CallFailed):
            stub.work(1)
        told.append(machine.now_us)

    def kill() -> None:
        killer.sleep(us=1500)
        own.terminate()

    machine.spawn(call)
    machine.spawn(kill, domain="killer")
    machine.run()
    assert 1500 <= told[0] < 1700


@pytest.mark.parametrize("how", HOWS)
def test_a_processor_is_free_at_once_where_a_thread_ends_while_it(how: str) -> None:
    machine = lrpc.Machine("m", cost_model=FREE, processors=2)
    doomed, killer, other = (machine.domain(name) for name in ("doomed", "killer", "other"))
    began: list[float] = []
    machine.spawn(lambda: work(doomed, how, SECOND), domain="doomed")

    def kill() -> None:
        killer.sleep(us=500)
        other.spawn(lambda: began.append(machine.now_us))
        doomed.terminate()
        killer.compute(us=1000)

    machine.spawn(kill, domain="killer")
    machine.run()
    assert began == [500.0]


@pytest.mark.parametrize("quantum_us", [0.0, -1.0, 0.5, float("nan"), float("inf")])
def test_a_quantum_in_which_nothing_could_be_done_is_refused(quantum_us: float) -> None:
    with pytest.raises(lrpc.Refused, match=r"machine m: quantum_us is .*; give 1 to 1e\+09, or leave it out"):
        lrpc.Machine("m", quantum_us=quantum_us)
    tables = pair("teller", "drawer", ledgers="drawer")
    tables["machines"]["client"]["quantum_us"] = quantum_us
    with pytest.raises(lrpc.Refused, match=r"machines\.client\.quantum_us: "):
        cluster(tables)
