"""A domain that ends in the middle of calls within calls: its callers wait for nobody beyond it."""

from collections.abc import Callable

import pytest

from lrpc.domains.domain import Transfer
from lrpc.kernel.errors import CallAborted, CallError, CallFailed, NestedTooDeep
from lrpc.kernel.simulated.domain import ProtectionDomain
from tests.support.houses import LONG, MS, TRANSFERS, House, house_of

END = 5 * MS  # when a domain ends


@pytest.fixture
def house() -> House:
    return house_of("lrpc", 2, caching=False)


def passing(house: House, there: str, transfer: Transfer = "lrpc") -> Callable[[str], ProtectionDomain]:
    """Serve a job by the same job elsewhere; return what makes the domain."""

    def made(name: str) -> ProtectionDomain:
        domain = house.domain(name)
        return house.serve(name, lambda number: house.job(domain, there, transfer).do(number))

    return made


def calling(house: House, client: str, there: str, transfer: Transfer = "lrpc") -> list[float]:
    """Start a thread that makes one call; return the list in which it notes when it was told."""
    told: list[float] = []
    domain = house.domain(client)

    def body() -> None:
        house.tell(lambda: house.job(domain, there, transfer).do(1))
        told.append(domain.now_us)

    domain.spawn(body)
    return told


def at_once(told: list[float]) -> bool:
    return len(told) == 1 and END <= told[0] < END + MS


@pytest.mark.parametrize("inner", TRANSFERS)
@pytest.mark.parametrize("outer", TRANSFERS)
@pytest.mark.parametrize("how", ["computes", "sleeps"])
def test_a_client_is_told_at_once_though_its_servers_own_call_goes_on(
    house: House, how: str, outer: Transfer, inner: Transfer
) -> None:
    went_on: list[float] = []

    def work(number: int) -> int:
        (b.compute if how == "computes" else b.sleep)(LONG)
        went_on.append(b.now_us)
        return number

    b = house.serve("b", work)
    a = passing(house, "b", inner)("a")
    told = calling(house, "client", "a", outer)
    house.end(a, after_us=END)
    house.run()
    assert house.told == ["CallFailed"]
    assert at_once(told)
    assert len(went_on) == 1
    assert went_on[0] > LONG


@pytest.mark.parametrize("outer", TRANSFERS)
def test_every_caller_of_a_domain_that_a_call_passed_through_twice_is_told_at_once(
    house: House, outer: Transfer
) -> None:
    """Client -> a -> b -> a -> c: both callers of `a` are told; the call at `c` goes on alone."""
    house.keep("c")
    a, b = house.domain("a"), house.domain("b")
    found: list[tuple[str, float]] = []

    def at_a(number: int) -> int:
        return house.job(a, "b" if number == 1 else "c").do(number)

    def at_b(number: int) -> int:
        with pytest.raises(CallFailed):
            house.job(b, "a").do(number + 1)
        found.append(("b", b.now_us))
        b.sleep(2 * MS)
        return number

    house.serve("a", at_a)
    house.serve("b", at_b)
    told = calling(house, "client", "a", outer)
    house.end(a, after_us=END)
    house.run(until_us=END + MS)
    house.run()
    assert house.told == ["CallFailed"]
    assert at_once(told)
    assert [name for name, _ in found] == ["b"]
    assert at_once([when for _, when in found])


@pytest.mark.parametrize("first", ["a", "c"])
def test_domains_of_one_chain_end_one_after_the_other(house: House, first: str) -> None:
    """Client -> a -> b -> c -> d: each live caller of a domain that ends is told when that ends."""
    house.keep("d")
    b = house.domain("b")
    found: list[float] = []

    def at_b(number: int) -> int:
        try:
            return house.job(b, "c").do(number)
        except CallFailed:
            found.append(b.now_us)
            raise

    c = passing(house, "d")("c")
    house.serve("b", at_b)
    a = passing(house, "b")("a")
    told = calling(house, "client", "a")
    house.end(*{"a": (a, c), "c": (c, a)}[first], after_us=END)
    house.run()
    assert house.told == ["CallFailed"]
    assert at_once(told)
    assert at_once(found)


def test_who_joins_the_caller_and_who_aborts_it_by_its_old_thread_get_the_new_one(house: House) -> None:
    house.keep("b")
    house.keep("other")
    a, client = passing(house, "b")("a"), house.domain("client")
    joined: list[float] = []

    def body() -> None:
        with pytest.raises(CallFailed):
            house.job(client, "a").do(1)
        with pytest.raises(CallAborted):
            house.job(client, "other").do(1)
        house.tell(lambda: None)

    thread = client.spawn(body)

    def watch() -> None:
        thread.join()
        joined.append(client.now_us)

    def abort() -> None:
        client.sleep(END + 5 * MS)
        client.abort(thread)
        with pytest.raises(CallError):
            client.abort(thread)

    client.spawn(watch)
    client.spawn(abort)
    house.end(a, after_us=END)
    house.run()
    assert house.told == ["returned"]
    assert END + 5 * MS < joined[0] < END + 6 * MS


def test_a_concrete_thread_that_is_released_replies_and_serves_on(house: House) -> None:
    house.keep("b")
    a, server = passing(house, "b")("a"), house.domain("server")

    def work(number: int) -> int:
        try:
            return house.job(server, "a").do(number)
        except CallError:
            return number

    house.serve("server", work)
    told = calling(house, "client", "server", "message passing")
    house.end(a, after_us=END)
    house.run(until_us=2 * END)
    assert at_once(told)
    calling(house, "client", "server", "message passing")
    house.run()
    assert house.told == ["returned", "returned"]


def test_an_aborted_callers_server_is_told_at_once_too(house: House) -> None:
    """Client -> a -> b -> c, and the client has given up its call: `a` is told that `b` ended."""
    house.keep("c")
    a, client = house.domain("a"), house.domain("client")
    found: list[float] = []

    def at_a(number: int) -> int:
        with pytest.raises(CallFailed):
            house.job(a, "b").do(number)
        found.append(a.now_us)
        a.sleep(MS)
        return number

    house.serve("a", at_a)
    b = passing(house, "c")("b")
    thread = client.spawn(lambda: house.tell(lambda: house.job(client, "a").do(1)))

    def abort() -> None:
        client.sleep(2 * MS)
        client.abort(thread)

    client.spawn(abort)
    house.end(b, after_us=END)
    house.run(until_us=END + MS / 2)
    house.run()
    assert house.told == ["CallAborted"]
    assert at_once(found)


def test_what_goes_on_alone_may_nest_as_deep_as_any_thread(house: House) -> None:
    """Its calls count from the domain that ended."""
    house.kernel.most_nested = 3
    b = house.domain("b")
    deepest: list[str] = []

    def at_b(number: int) -> int:
        b.sleep(2 * END)
        try:
            return house.job(b, "c").do(number)
        except NestedTooDeep:
            deepest.append("b")
            raise

    def at_d(number: int) -> int:
        deepest.append("d")
        return number

    house.serve("d", at_d)
    passing(house, "d")("c")
    house.serve("b", at_b)
    a = passing(house, "b")("a")
    calling(house, "client", "a")
    house.end(a, after_us=END)
    house.run()
    assert deepest == ["d"]
