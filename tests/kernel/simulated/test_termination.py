"""A domain ends whatever calls are in it, out of it and through it: callers are told once, and nothing is kept."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Int32, UpTo
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import BindingRefused, CallAborted, CallError, CallFailed
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.memory import READ
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import ASTACK_QUARANTINED, THREAD_ENDED
from tests.support.invariants import assert_nothing_left, assert_sound
from tests.support.properties import examples

FIREFLY = load_cost_model("cvax-firefly")
TRANSFERS: tuple[Transfer, ...] = ("lrpc", "message passing")
MS = 1000.0  # in us
LONG = 100 * MS
MOST = 4000  # bytes, more than an A-stack takes
Work = Callable[[int], int]


class Job(Interface):
    """Does with a number, or with bytes, what each test's server does with it; one call at once in each binding."""

    @procedure(simultaneous=1)
    def do(self, number: Int32) -> Int32:
        raise NotImplementedError

    @procedure(simultaneous=2)
    def carry(self, data: Annotated[bytes, UpTo(MOST)]) -> Annotated[bytes, UpTo(MOST)]:
        raise NotImplementedError


class JobServer(Job):
    domain: ProtectionDomain

    def __init__(self, work: Work) -> None:
        self._work = work

    def do(self, number: int) -> int:
        return self._work(number)

    def carry(self, data: bytes) -> bytes:
        self._work(len(data))
        return data


@dataclass
class House:
    """A machine whose domains call each other by one way of transfer, and what its callers are told."""

    kernel: Kernel
    transfer: Transfer
    told: list[str] = field(default_factory=list)

    def domain(self, name: str) -> ProtectionDomain:
        return self.kernel.domain(name)

    def serve(self, name: str, work: Work) -> ProtectionDomain:
        """Return the domain of that name, which exports a job under it."""
        domain = self.domain(name)
        Clerk().export(domain, Job, JobServer(work), name)
        return domain

    def keep(self, name: str, us: float = LONG) -> ProtectionDomain:
        """Return a domain that sleeps that long in each call."""
        return self.serve(name, lambda number: self.slept(name, us, number))

    def slept(self, name: str, us: float, number: int) -> int:
        self.domain(name).sleep(us)
        return number

    def job(self, client: ProtectionDomain, name: str, transfer: Transfer | None = None) -> Job:
        return bind(client, Job, name, transfer or self.transfer)

    def call(self, client: ProtectionDomain, name: str, transfer: Transfer | None = None) -> Thread:
        """Start a thread that makes one call and says how that ended."""
        return client.spawn(lambda: self.tell(lambda: self.job(client, name, transfer).do(1)))

    def tell(self, call: Callable[[], object]) -> None:
        try:
            call()
            self.told.append("returned")
        except CallError as error:
            self.told.append(type(error).__name__)

    def end(self, *domains: ProtectionDomain, after_us: float = MS) -> None:
        """Have a thread of another domain terminate these."""

        def body() -> None:
            reaper.sleep(after_us)
            for domain in domains:
                domain.terminate()

        reaper = self.domain("reaper")
        reaper.spawn(body)

    def run(self, until_us: float | None = None) -> None:
        self.kernel.run(FOREVER if until_us is None else round(until_us * 1000))
        assert_sound(self.kernel)
        if until_us is None:
            assert_nothing_left(self.kernel)


def house_of(transfer: Transfer, processors: int, *, caching: bool) -> House:
    return House(Kernel("m", FIREFLY, processors=processors, debug=True, domain_caching=caching), transfer)


@pytest.fixture(params=TRANSFERS)
def transfer(request: pytest.FixtureRequest) -> Transfer:
    made: Transfer = request.param
    return made


PROCESSORS = [1, 2, 4]


@pytest.fixture(params=PROCESSORS, ids=lambda count: f"{count} processors")
def processors(request: pytest.FixtureRequest) -> int:
    made: int = request.param
    return made


@pytest.fixture(params=[False, True], ids=["", "caching"])
def house(request: pytest.FixtureRequest, transfer: Transfer, processors: int) -> House:
    return house_of(transfer, processors, caching=request.param)


# What a server's procedure may be at when its domain ends. Each returns what it does, once its domain is there.
def computing(house: House, domain: ProtectionDomain) -> Work:
    def work(_: int) -> int:
        while True:
            domain.compute(10)

    return work


def sleeping(house: House, domain: ProtectionDomain) -> Work:
    return lambda number: house.slept(domain.name, LONG, number)


def joining(house: House, domain: ProtectionDomain) -> Work:
    other = house.domain("other")

    def work(number: int) -> int:
        other.spawn(lambda: other.sleep(LONG)).join()
        return number

    return work


def waiting_for_its_turn(house: House, domain: ProtectionDomain) -> Work:
    """It waits for the one A-stack, or for the one concrete thread, that another domain's call has."""
    house.keep("narrow")
    shared: list[Job] = []

    def work(number: int) -> int:
        if not shared:
            shared.append(house.job(domain, "narrow"))
            domain.spawn(partial(house.tell, lambda: shared[0].do(1)))
            domain.sleep(MS / 2)
        return shared[0].do(number)

    return work


def waiting_for_a_reply(house: House, domain: ProtectionDomain) -> Work:
    house.keep("slow")
    return lambda number: house.job(domain, "slow", "message passing").do(number)


def spawning(house: House, domain: ProtectionDomain) -> Work:
    def work(_: int) -> int:
        while True:
            domain.spawn(lambda: domain.compute(50))
            domain.sleep(20)

    return work


PASTIMES = [computing, sleeping, joining, waiting_for_its_turn, waiting_for_a_reply, spawning]
pastimes = pytest.mark.parametrize("pastime", PASTIMES, ids=lambda one: one.__name__.replace("_", " "))


def busy(house: House, pastime: Callable[[House, ProtectionDomain], Work]) -> ProtectionDomain:
    """Return a domain whose procedure does that."""
    domain = house.domain("server")
    return house.serve("server", pastime(house, domain))


@pastimes
def test_callers_of_a_domain_that_is_ended_from_outside_get_call_failed_once(
    house: House, pastime: Callable[[House, ProtectionDomain], Work]
) -> None:
    server, client = busy(house, pastime), house.domain("client")
    house.call(client, "server")
    house.run(until_us=3 * MS)
    assert house.told == []
    server.terminate()
    assert_sound(house.kernel)
    house.run()
    assert house.told == ["CallFailed"]


# Whoever computes keeps its processor, so that on one nobody else would come to end its domain.
@pytest.mark.parametrize(
    ("pastime", "processors"),
    [(pastime, count) for pastime in PASTIMES for count in PROCESSORS if pastime is not computing or count > 1],
    ids=lambda one: f"{one} processors" if isinstance(one, int) else one.__name__.replace("_", " "),
)
def test_callers_of_a_domain_that_another_thread_ends_get_call_failed_once(
    house: House, pastime: Callable[[House, ProtectionDomain], Work]
) -> None:
    server, client = busy(house, pastime), house.domain("client")
    when: list[float] = []

    def body() -> None:
        house.tell(lambda: house.job(client, "server").do(1))
        when.append(client.now_us)

    client.spawn(body)
    house.end(server, after_us=3 * MS)
    house.run()
    assert house.told == ["CallFailed"]
    assert 3 * MS <= when[0] < 5 * MS


def test_every_caller_is_told_whether_it_is_served_or_waits(house: House) -> None:
    server, client, shared = house.keep("server"), house.domain("client"), []
    shared.append(house.job(client, "server"))
    for _ in range(7):
        client.spawn(lambda: house.tell(lambda: shared[0].do(1)))
    house.end(server, after_us=5 * MS)
    house.run()
    assert house.told == ["CallFailed"] * 7


def test_every_caller_is_told_by_an_error_of_its_own(house: House) -> None:
    server, errors = house.keep("server"), list[CallFailed]()

    def body(client: ProtectionDomain) -> None:
        job = house.job(client, "server")
        for _ in range(3):
            try:
                job.do(1)
            except CallFailed as error:
                errors.append(error)

    for name in ("one", "two"):
        client = house.domain(name)
        for _ in range(7):
            client.spawn(partial(body, client))
    house.end(server, after_us=5 * MS)
    house.run()
    assert len({id(error) for error in errors}) == len(errors) == 2 * 7 * 3
    assert len({str(error) for error in errors}) == 1


def test_callers_of_several_domains_are_all_told_each_once(house: House) -> None:
    server = house.keep("server")
    for name in ("one", "two", "three"):
        house.call(house.domain(name), "server")
    house.end(server, after_us=5 * MS)
    house.run()
    assert house.told == ["CallFailed"] * 3


def test_a_call_after_the_end_fails_and_the_caller_goes_on(house: House) -> None:
    server, client = house.serve("server", lambda number: number), house.domain("client")
    said: list[object] = []

    def body() -> None:
        job = house.job(client, "server")
        said.append(job.do(1))
        server.terminate()
        with pytest.raises(CallFailed, match="domain server of machine m has terminated"):
            job.do(2)
        with pytest.raises(CallFailed):
            job.carry(bytes(MOST))
        with pytest.raises(BindingRefused, match="nobody exports it"):
            house.job(client, "server")
        said.append("went on")

    client.spawn(body)
    house.run()
    assert said == [1, "went on"]


def test_a_domains_own_call_goes_on_at_its_server_and_returns_to_nobody(house: House) -> None:
    done: list[float] = []

    def work(number: int) -> int:
        slow.sleep(10 * MS)
        done.append(slow.now_us)
        return number

    slow, client = house.serve("slow", work), house.domain("client")
    caller = house.call(client, "slow")
    client.spawn(caller.join)
    joined: list[float] = []

    def watch() -> None:
        caller.join()
        joined.append(house.domain("watcher").now_us)

    house.domain("watcher").spawn(watch)
    house.end(client, after_us=3 * MS)
    house.run()
    assert house.told == []
    assert len(done) == 1
    assert done[0] > 10 * MS
    assert 3 * MS <= joined[0] < 4 * MS
    assert caller.state == THREAD_ENDED


HOPS = [(first, second, third) for first in TRANSFERS for second in TRANSFERS for third in TRANSFERS]


@pytest.mark.parametrize("hops", HOPS, ids=" then ".join)
def test_a_call_through_a_domain_that_ends_returns_past_it(
    processors: int, hops: tuple[Transfer, Transfer, Transfer]
) -> None:
    """H calls A, A calls D, D calls B. D ends; B goes on; A is told, and H has A's answer."""
    house = house_of("lrpc", processors, caching=True)
    answers: list[int] = []

    def at_a(number: int) -> int:
        house.tell(lambda: house.job(a, "d", hops[1]).do(number))
        return number + 1

    def at_b(number: int) -> int:
        b.sleep(10 * MS)
        answers.append(-1)
        return number

    a = house.serve("a", at_a)
    d = house.serve("d", lambda number: house.job(d, "b", hops[2]).do(number))
    b = house.serve("b", at_b)
    h = house.domain("h")
    h.spawn(lambda: answers.append(house.job(h, "a", hops[0]).do(7)))
    house.end(d, after_us=5 * MS)
    house.run()
    assert house.told == ["CallFailed"]
    direct = hops[1:] == ("lrpc", "lrpc")  # A's own thread is the one that B has
    assert answers == ([-1, 8] if direct else [8, -1])


@pytest.mark.parametrize("ends", ["a", "ad", "da", "hd", "had", "hadb", "b", "bd", "ab"])
def test_whichever_domains_of_a_chain_end_the_innermost_that_lives_is_told(house: House, ends: str) -> None:
    """The thread is in B, called by D, called by A, called by H."""
    told: dict[str, list[str]] = {name: [] for name in "had"}

    def onwards(here: str, there: str) -> Work:
        def work(number: int) -> int:
            try:
                return house.job(house.domain(here), there).do(number)
            except CallFailed:
                told[here].append("failed")
                return 0

        return work

    house.serve("a", onwards("a", "d"))
    house.serve("d", onwards("d", "b"))
    house.keep("b", 20 * MS)
    domains = {name: house.domain(name) for name in "hadb"}
    domains["h"].spawn(lambda: told["h"].append(str(onwards("h", "a")(7))))
    house.end(*(domains[name] for name in ends), after_us=9 * MS)
    house.run()
    expected: dict[str, list[str]] = {name: [] for name in "had"}
    for caller, callee in ("ha", "ad", "db"):
        if callee in ends and caller not in ends:
            expected[caller].append("failed")
    if "h" not in ends:
        expected["h"].append("7" if expected == {name: [] for name in "had"} else "0")
    assert told == expected


def test_a_domain_that_calls_itself_through_another_ends_with_all_its_calls(house: House) -> None:
    """H calls D, D calls A, A calls D, where D ends: A is told, and on its return H."""
    depth: list[int] = []

    def at_d(number: int) -> int:
        depth.append(number)
        if len(depth) == 2:
            d.sleep(LONG)
        return house.job(d, "a").do(number)

    def at_a(number: int) -> int:
        house.tell(lambda: again.carry(bytes(number)))
        return number

    d, a = house.serve("d", at_d), house.serve("a", at_a)
    again = house.job(a, "d")
    house.call(house.domain("h"), "d")
    house.end(d, after_us=9 * MS)
    house.run()
    assert len(depth) == 2
    assert house.told == ["CallFailed", "CallFailed"]


def test_a_domain_within_itself_is_no_boundary_to_return_past(house: House) -> None:
    def work(number: int) -> int:
        if number:
            return bind(server, Job, "server").do(number - 1)
        server.sleep(LONG)
        return 0

    server = house.serve("server", work)
    client = house.domain("client")
    client.spawn(lambda: house.tell(lambda: house.job(client, "server").do(3)))
    house.end(server, after_us=5 * MS)
    house.run()
    assert house.told == ["CallFailed"]


@pytest.mark.parametrize("ends", ["server", "client", "both", "both, client first"])
def test_a_captured_call_is_over_once_and_what_it_held_comes_back(house: House, ends: str) -> None:
    server, client = house.keep("server"), house.domain("client")
    caller = house.call(client, "server")
    later: list[int] = []

    def abort() -> None:
        client.sleep(2 * MS)
        client.abort(caller)

    client.spawn(abort)
    house.run(until_us=4 * MS)
    assert house.told == ["CallAborted"]
    if house.transfer == "lrpc":
        binding = house.kernel.bindings[1]
        assert any(astack.state == ASTACK_QUARANTINED for astack in binding.groups[0].members)
    domains = {"server": [server], "client": [client], "both": [server, client]}
    house.end(*domains.get(ends, [client, server]))
    house.domain("other").spawn(lambda: later.append(1))
    house.run()
    assert house.told == ["CallAborted"]
    assert later == [1]
    if ends != "server":
        assert house.kernel.bindings == {}


def test_a_captured_thread_that_calls_on_returns_past_the_server_that_kept_it(house: House) -> None:
    passed: list[str] = []

    def at_b(number: int) -> int:
        b.sleep(10 * MS)
        passed.append("b")
        return number

    def at_server(number: int) -> int:
        house.job(server, "b").do(number)
        passed.append("server")
        return number

    b, server, client = house.serve("b", at_b), house.serve("server", at_server), house.domain("client")
    caller = house.call(client, "server")

    def abort() -> None:
        client.sleep(3 * MS)
        client.abort(caller)
        client.sleep(MS)
        server.terminate()

    client.spawn(abort)
    house.run()
    assert house.told == ["CallAborted"]
    assert passed == ["b"]


def test_the_successor_of_a_captured_thread_ends_with_its_domain(house: House) -> None:
    house.keep("server", 20 * MS)
    client, said = house.domain("client"), []

    def body() -> None:
        with pytest.raises(CallAborted):
            house.job(client, "server").do(1)
        client.sleep(10 * MS)
        said.append("went on")

    caller = client.spawn(body)

    def abort() -> None:
        client.sleep(2 * MS)
        client.abort(caller)

    client.spawn(abort)
    house.end(client, after_us=5 * MS)
    house.run()
    assert said == []


def test_memory_of_a_binding_is_unmapped_on_both_sides(house: House) -> None:
    server, client = house.serve("server", lambda number: number), house.domain("client")
    bound = [house.kernel.bind(client, "server") for _ in range(3)]
    regions = [binding.groups[0].members[0].region for binding in bound]
    for region in regions:
        client.memory.store(region.base, b"here")
        assert server.memory.load(region.base, 4) == b"here"
    server.terminate()
    for region in regions:
        for domain in (client, server):
            with pytest.raises(CallError, match="not mapped"):
                domain.memory.load(region.base, 4)
            with pytest.raises(CallError, match="not mapped"):
                domain.memory.access(region, READ)
    assert house.kernel.bindings == {}
    house.run()


@pytest.mark.parametrize("ends", ["server", "client"])
def test_memory_that_a_call_out_of_band_lies_in_is_unmapped_too(house: House, ends: str) -> None:
    server, client = house.keep("server", 10 * MS), house.domain("client")
    client.spawn(lambda: house.tell(lambda: house.job(client, "server").carry(bytes(MOST))))
    house.end(house.domain(ends), after_us=5 * MS)
    house.run()
    assert house.told == (["CallFailed"] if ends == "server" else [])
    assert house.kernel.bindings == {}
    for domain in (server, client):
        assert domain.memory._regions == []


def test_estacks_of_a_domain_end_with_it_whether_in_use_or_idle(house: House) -> None:
    server = house.keep("server", 2 * MS)
    clients = [house.domain(name) for name in ("one", "two", "three")]
    for client in clients:
        house.call(client, "server")
    house.run()
    house.call(clients[0], "server")
    house.end(server)
    house.run()
    assert house.told.count("returned") == 3
    assert server.estacks.members == []


def test_joiners_go_on_when_the_domain_of_whom_they_wait_for_ends(house: House) -> None:
    domain, other, said = house.domain("domain"), house.domain("other"), []
    thread = domain.spawn(lambda: domain.sleep(LONG))

    def body() -> None:
        thread.join()
        said.append(other.now_us)
        thread.join()
        said.append(other.now_us)

    for _ in range(3):
        other.spawn(body)
    house.end(domain)
    house.run()
    assert len(said) == 6
    assert all(MS <= when < 2 * MS for when in said)


def test_a_thread_that_waits_for_one_of_its_own_domain_ends_too(house: House) -> None:
    domain, said = house.domain("domain"), []
    thread = domain.spawn(lambda: domain.sleep(LONG))

    def body() -> None:
        thread.join()
        said.append("went on")

    for _ in range(3):
        domain.spawn(body)
    house.end(domain)
    house.run()
    assert said == []
    assert house.kernel.threads == set()


def test_messages_queued_and_handed_over_are_answered_when_the_port_closes(processors: int) -> None:
    house = house_of("message passing", processors, caching=False)
    server, client = house.keep("server"), house.domain("client")
    job = house.job(client, "server")
    for _ in range(6):  # for two concrete threads
        client.spawn(lambda: house.tell(lambda: job.carry(b"")))
    house.run(until_us=5 * MS)
    port = house.kernel.ports["server"]
    assert (len(port._handed), len(port._messages)) == (2, 4)
    server.terminate()
    assert house.kernel.ports == {}
    house.run()
    assert house.told == ["CallFailed"] * 6
    assert house.kernel.threads == set()


def test_a_message_whose_sender_ended_is_served_and_its_reply_dropped(processors: int) -> None:
    house = house_of("message passing", processors, caching=False)
    served: list[int] = []

    def work(number: int) -> int:
        server.sleep(5 * MS)
        served.append(number)
        return number

    server, client = house.serve("server", work), house.domain("client")
    house.call(client, "server")
    house.end(client, after_us=2 * MS)
    house.run()
    assert (served, house.told) == ([1], [])
    assert house.kernel.counts.replies_dropped == 1


def test_a_thread_ends_its_own_domain_from_its_body(house: House) -> None:
    domain, said = house.domain("domain"), []

    def body() -> None:
        said.append("before")
        try:
            domain.terminate()
            said.append("after")
        finally:
            said.append("unwound")

    other = domain.spawn(lambda: domain.sleep(LONG))
    thread = domain.spawn(body)
    house.run()
    assert said == ["before", "unwound"]
    assert [thread.state, other.state] == [THREAD_ENDED, THREAD_ENDED]
    assert not domain.live


def test_a_procedure_ends_its_own_domain_and_its_caller_is_told(house: House) -> None:
    passed: list[str] = []

    def work(number: int) -> int:
        server.terminate()
        passed.append("after")
        return number

    server, client = house.serve("server", work), house.domain("client")
    house.call(client, "server")
    house.run()
    assert house.told == ["CallFailed"]
    assert passed == []


def test_a_nested_call_ends_the_domain_that_called_it(house: House) -> None:
    """H calls D, D calls B, B ends D and goes on: H is told."""
    passed: list[str] = []

    def at_b(number: int) -> int:
        d.terminate()
        passed.append("b")
        b.sleep(MS)
        passed.append("b again")
        return number

    b = house.serve("b", at_b)
    d = house.serve("d", lambda number: house.job(d, "b").do(number))
    house.call(house.domain("h"), "d")
    house.run()
    assert house.told == ["CallFailed"]
    assert passed == ["b", "b again"]


def test_a_called_domain_ends_the_one_whose_thread_it_runs_on(house: House) -> None:
    passed: list[str] = []

    def work(number: int) -> int:
        client.terminate()
        passed.append("server")
        return number

    house.serve("server", work)
    client = house.domain("client")
    house.call(client, "server")
    house.run()
    assert (passed, house.told) == (["server"], [])


def swallows(domain: ProtectionDomain) -> Work:
    def work(_: int) -> int:
        while True:
            with suppress(BaseException):
                domain.sleep(10)

    return work


def tidies_up(domain: ProtectionDomain) -> Work:
    def work(number: int) -> int:
        try:
            domain.sleep(LONG)
        finally:
            domain.compute(10)
            domain.sleep(10)
        return number

    return work


def answers_all_the_same(domain: ProtectionDomain) -> Work:
    def work(number: int) -> int:
        try:
            domain.sleep(LONG)
        except BaseException:
            return number
        return number

    return work


def raises_all_the_same(domain: ProtectionDomain) -> Work:
    def work(number: int) -> int:
        try:
            domain.sleep(LONG)
        finally:
            raise ValueError("told to go")

    return work


def calls_on_regardless(domain: ProtectionDomain) -> Work:
    Clerk().export(domain.kernel.domain("helper"), Job, JobServer(lambda number: number), "helper")
    helper = bind(domain, Job, "helper")

    def work(number: int) -> int:
        while True:
            try:
                domain.sleep(50)
                helper.do(number)
            except BaseException:
                helper.do(number)

    return work


def spawns_regardless(domain: ProtectionDomain) -> Work:
    def work(_: int) -> int:
        while True:
            try:
                domain.spawn(lambda: domain.sleep(30))
                domain.sleep(50)
            except BaseException:
                pass

    return work


def spawns_elsewhere(domain: ProtectionDomain) -> Work:
    other = domain.kernel.domain("elsewhere")

    def work(_: int) -> int:
        while True:
            try:
                domain.sleep(50)
            except BaseException:
                other.spawn(lambda: other.sleep(30))

    return work


def binds_and_exports_regardless(domain: ProtectionDomain) -> Work:
    def work(_: int) -> int:
        number = 0
        while True:
            try:
                domain.sleep(50)
                number += 1
            except BaseException:
                pass
            try:
                Clerk().export(domain, Job, JobServer(lambda given: given), f"export {number}")
                bind(domain, Job, f"export {number}")
            except BaseException:
                pass

    return work


def ends_others_as_it_goes(domain: ProtectionDomain) -> Work:
    spared = domain.kernel.domain("spared")

    def work(number: int) -> int:
        try:
            domain.sleep(LONG)
        finally:
            spared.terminate()
        return number

    return work


def ends_itself_for_ever(domain: ProtectionDomain) -> Work:
    def work(_: int) -> int:
        while True:
            with suppress(BaseException):
                domain.sleep(50)
            if domain.now_us > MS:
                domain.terminate()

    return work


STUBBORN = [
    swallows,
    tidies_up,
    answers_all_the_same,
    raises_all_the_same,
    calls_on_regardless,
    spawns_regardless,
    spawns_elsewhere,
    binds_and_exports_regardless,
    ends_others_as_it_goes,
    ends_itself_for_ever,
]
stubborn = pytest.mark.parametrize("stubborn", STUBBORN, ids=lambda one: one.__name__.replace("_", " "))


@stubborn
def test_a_server_that_will_not_go_keeps_no_call_alive_and_hangs_nothing(
    house: House, stubborn: Callable[[ProtectionDomain], Work]
) -> None:
    server, client = house.domain("server"), house.domain("client")
    spared = house.domain("spared")
    house.serve("server", stubborn(server))
    house.call(client, "server")
    house.end(server, after_us=3 * MS)
    house.run(until_us=4 * MS)
    assert house.told == ["CallFailed"]
    made = house.kernel.threads_made
    house.run()
    assert house.told == ["CallFailed"]
    assert house.kernel.threads_made == made  # nothing of it goes on
    assert spared.live


@stubborn
def test_a_thread_that_will_not_go_ends_with_its_domain(
    house: House, stubborn: Callable[[ProtectionDomain], Work]
) -> None:
    domain, spared = house.domain("domain"), house.domain("spared")
    work = stubborn(domain)
    thread = domain.spawn(lambda: house.tell(lambda: work(1)))
    house.run(until_us=2 * MS)
    domain.terminate()
    house.run()
    assert thread.state == THREAD_ENDED
    assert spared.live


@stubborn
def test_a_caller_that_will_not_go_ends_when_its_call_returns(
    house: House, stubborn: Callable[[ProtectionDomain], Work]
) -> None:
    """Its stack is dead, though its thread is still in the server."""
    domain = house.domain("domain")
    slow = house.keep("slow", 5 * MS)
    work = stubborn(domain)

    def body() -> None:
        try:
            house.job(domain, "slow").do(1)
        finally:
            work(1)

    thread = domain.spawn(body)
    house.run(until_us=2 * MS)
    domain.terminate()
    house.run(until_us=4 * MS)
    assert house.transfer != "lrpc" or thread.domain is slow
    house.run()
    assert thread.state == THREAD_ENDED


def test_terminating_twice_is_terminating_once(house: House) -> None:
    server, client = house.keep("server"), house.domain("client")
    house.call(client, "server")
    house.end(server, server, after_us=2 * MS)
    house.end(server, after_us=2 * MS)
    house.run()
    server.terminate()
    assert house.told == ["CallFailed"]
    house.run()


def test_a_domain_of_the_same_name_is_another_one(house: House) -> None:
    first, client = house.serve("server", lambda number: number), house.domain("client")
    said: list[int] = []

    def body() -> None:
        job = house.job(client, "server")
        said.append(job.do(1))
        first.terminate()
        second = house.serve("server", lambda number: 10 * number)
        assert second is not first
        assert not first.live
        with pytest.raises(CallFailed):
            job.do(1)
        said.append(house.job(client, "server").do(1))
        first.terminate()
        said.append(house.job(client, "server").do(2))

    client.spawn(body)
    house.run()
    assert said == [1, 10, 20]


def test_threads_of_a_domain_and_of_its_namesake_do_not_mix(house: House) -> None:
    house.keep("slow", 5 * MS)
    first = house.domain("client")
    thread = house.call(first, "slow")
    house.run(until_us=2 * MS)
    first.terminate()
    second = house.domain("client")
    with pytest.raises(CallError, match="own threads only"):
        second.abort(thread)
    house.call(second, "slow")
    house.run()
    assert house.told == ["returned"]


def test_a_domain_that_has_ended_does_nothing_any_more(house: House) -> None:
    house.serve("server", lambda number: number)
    domain = house.domain("domain")
    domain.terminate()
    with pytest.raises(CallFailed, match="domain domain of machine m has terminated"):
        domain.spawn(lambda: None)
    with pytest.raises(CallFailed):
        house.job(domain, "server")
    with pytest.raises(CallFailed):
        Clerk().export(domain, Job, JobServer(lambda number: number), "job")
    assert list(house.kernel.exports) == ["server"]
    house.run()


@pytest.mark.parametrize("ends", ["server", "client"])
def test_a_domain_that_ends_while_a_clerk_thinks_is_not_bound(house: House, ends: str) -> None:
    server, client = house.domain("server"), house.domain("client")

    def policy(_: object) -> None:
        if house.kernel.processor is not None:
            house.domain("thinking").sleep(5 * MS)

    Clerk(policy).export(server, Job, JobServer(lambda number: number), "server")
    other = house.domain("other")
    other.spawn(lambda: house.tell(lambda: house.job(client, "server")))
    house.end(house.domain(ends), after_us=MS)
    house.run()
    assert house.told == ["BindingRefused" if ends == "server" else "CallFailed"]
    assert house.kernel.grants == {}


@pytest.mark.parametrize("order", ["ab", "ba", "aba"])
def test_domains_end_each_other(house: House, order: str) -> None:
    """Each is ended by a thread of the other, or by one that has called into the other."""
    said: list[str] = []
    domains = {name: house.keep(name) for name in "ab"}
    witness = house.domain("witness")
    for name in "ab":
        house.call(witness, name)
        house.call(domains[name], "ab".replace(name, ""))

    def killer(here: str, there: str) -> None:
        domains[here].sleep(5 * MS)
        domains[there].terminate()
        said.append(here)

    for here in order:
        there = "b" if here == "a" else "a"
        domains[here].spawn(lambda here=here, there=there: killer(here, there))  # type: ignore[misc]
    house.run()
    assert len(said) == 1 + (order == "aba" and said[0] == "a" and len(said) == 2)
    # Whoever came first lives on, and waits for nobody.
    survivor, other = domains[said[0]], domains["b" if said[0] == "a" else "a"]
    assert survivor.live
    assert not other.live
    assert sorted(house.told) == ["CallFailed", "CallFailed", "returned"]


def test_a_ring_of_domains_ends_one_after_the_other(house: House) -> None:
    names = ["a", "b", "c", "d", "e"]
    for here, there in pairwise(names):
        domain = house.domain(here)
        house.serve(here, lambda number, domain=domain, there=there: house.job(domain, there).do(number))  # type: ignore[misc]
    house.keep("e")
    witness = house.domain("witness")
    for name in names:
        house.call(witness, name)

    def end_all() -> None:
        reaper.sleep(9 * MS)
        for name in names:
            house.domain(name).terminate()
            reaper.compute(3)

    reaper = house.domain("reaper")
    reaper.spawn(end_all)
    house.run()
    assert house.told == ["CallFailed"] * 5


@examples(200)
@given(
    after=st.integers(0, 2500),
    processors=st.integers(2, 4),
    transfer=st.sampled_from(TRANSFERS),
    caching=st.booleans(),
    computes=st.booleans(),
    ends=st.sampled_from(["server", "middle", "client"]),
    seed=st.integers(0, 3),
)
def test_a_domain_may_end_at_any_moment_of_a_call(
    after: int, processors: int, transfer: Transfer, caching: bool, computes: bool, ends: str, seed: int
) -> None:
    """Before it began, on its way, in the server, on its way back or afterwards: the caller is told once."""
    kernel = Kernel("m", FIREFLY, processors=processors, seed=seed, debug=True, domain_caching=caching)
    house = House(kernel, transfer)

    def work(number: int) -> int:
        (server.compute if computes else server.sleep)(20)
        return number

    server = house.serve("server", work)
    middle = house.domain("middle")
    onwards = house.job(middle, "server")
    house.serve("middle", lambda number: onwards.do(number))
    clients = [house.domain("client"), house.domain("client too")]
    jobs = [house.job(client, "middle") for client in clients]

    def call(job: Job) -> None:
        for _ in range(3):
            house.tell(lambda: job.do(1))

    for client, job in zip(clients, jobs, strict=True):
        client.spawn(partial(call, job))
    reaper = house.domain("reaper")

    def end() -> None:
        reaper.compute(after)
        kernel.domain(ends).terminate()

    reaper.spawn(end)
    house.run()
    told = len(house.told)
    assert 3 <= told <= 6 if ends == "client" else told == 6
    assert set(house.told) <= {"returned", "CallFailed", "ProcedureRaised"}
