"""A domain may end with calls in it, out of it and through it: each caller is told once."""

from collections.abc import Callable
from functools import partial
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.domain import Transfer
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import BindingRefused, CallFailed
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.states import THREAD_ENDED
from tests.support.houses import FIREFLY, LONG, MOST, MS, PROCESSORS, TRANSFERS, House, Job, Work, house_of
from tests.support.invariants import assert_sound
from tests.support.properties import examples


# What a server's procedure does when its domain ends. Each returns the procedure's work.
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
    """Wait for the only A-stack or concrete thread, which another call holds."""
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
    """Return a domain whose procedure does the given pastime."""
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


# A procedure that computes keeps its processor: on a single one, no thread could end its domain.
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


def test_a_call_after_the_end_fails_and_the_caller_continues(house: House) -> None:
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


def test_a_call_of_an_ended_domain_continues_at_its_server_and_returns_to_nobody(house: House) -> None:
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
def test_a_call_through_a_domain_that_ends_goes_on_and_keeps_nobody_waiting(
    processors: int, hops: tuple[Transfer, Transfer, Transfer]
) -> None:
    """H calls A, A calls D, D calls B. D ends; A is told, and H gets A's answer; B continues."""
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
    assert answers == [8, -1]


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
    """H calls D, D calls A, A calls D. D ends: A is told, and H when A returns."""
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


@pytest.mark.parametrize("order", ["ab", "ba", "aba"])
def test_domains_end_each_other(house: House, order: str) -> None:
    """Terminate each domain by a thread of the other, or by one that has called into it."""
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
    # The first to terminate the other survives, and waits for no thread.
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
    """End it before the call, on its way, in the server, on its way back, or afterwards.

    The caller is told once.
    """
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
