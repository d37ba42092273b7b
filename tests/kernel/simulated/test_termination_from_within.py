"""A domain may end by its own thread or a callee, and ends even if its code refuses to stop."""

from collections.abc import Callable
from contextlib import suppress

import pytest

from lrpc.domains.clerk import Clerk
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.states import THREAD_ENDED
from tests.support.houses import LONG, MS, House, Job, JobServer, Work


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
    """H calls D, D calls B, B ends D and continues: H is told."""
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
def test_a_server_that_refuses_to_end_keeps_no_call_alive_and_hangs_nothing(
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
    assert house.kernel.threads_made == made  # no part of it continues
    assert spared.live


@stubborn
def test_a_thread_that_refuses_to_end_ends_with_its_domain(
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
def test_a_caller_that_refuses_to_end_ends_when_its_call_returns(
    house: House, stubborn: Callable[[ProtectionDomain], Work]
) -> None:
    """The caller's stack is dead, though its thread is still in the server."""
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
