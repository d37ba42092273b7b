"""Threads begin in one domain, may wait for each other, and are counted until they end."""

import pytest

from lrpc.kernel.errors import Panic, RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import THREAD_ENDED, THREAD_READY, THREAD_RUNNING, THREAD_WAITING
from tests.support.simulated import assert_nothing_held, machine


def test_joining_waits_until_the_thread_has_ended() -> None:
    one = machine()
    joined: list[float] = []
    slow = one.client.spawn(lambda: one.client.sleep(100))

    def joins() -> None:
        slow.join()
        joined.append(one.client.now_us)

    one.run(joins, joins, lambda: one.client.sleep(500), joins)
    assert joined == [100, 100, 100]
    assert_nothing_held(one.kernel)


def test_joining_a_thread_that_has_ended_takes_no_time() -> None:
    one = machine()
    quick = one.client.spawn(lambda: None)
    joined: list[float] = []

    def joins() -> None:
        one.client.sleep(50)
        quick.join()
        joined.append(one.client.now_us)

    one.run(joins)
    assert joined == [50]


def test_a_thread_may_start_others_and_wait_for_all_of_them() -> None:
    one = machine(processors=2)
    ended: list[int] = []

    def leaf(number: int) -> None:
        one.client.sleep(10 * number)
        ended.append(number)

    def root() -> None:
        children = [one.client.spawn(lambda number=number: leaf(number)) for number in (3, 1, 2)]  # type: ignore[misc]
        for child in children:
            child.join()
        ended.append(0)

    one.run(root)
    assert ended == [1, 2, 3, 0]
    assert one.kernel.threads_made - one.kernel.clerks_made == 4
    assert_nothing_held(one.kernel)


def test_a_thread_goes_through_its_states_and_is_forgotten() -> None:
    one = machine()
    seen: list[int] = []

    def body() -> None:
        seen.append(one.kernel.running_thread().state)
        one.client.sleep(10)

    thread = one.client.spawn(body)
    seen.append(thread.state)
    one.kernel.run(5_000)
    seen.append(thread.state)
    assert one.kernel.waiting() == [thread]
    one.kernel.run(FOREVER)
    seen.append(thread.state)
    assert seen == [THREAD_READY, THREAD_RUNNING, THREAD_WAITING, THREAD_ENDED]
    assert all(thread.serves for thread in one.kernel.threads)
    assert thread not in one.kernel.threads


def test_threads_are_named_after_their_domain_unless_they_are_given_a_name() -> None:
    one = machine()
    assert str(one.client.spawn(lambda: None)) == "thread client/0 of domain client"
    assert str(one.client.spawn(lambda: None, "worker")) == "thread worker of domain client"


def test_threads_that_wait_are_listed_in_the_order_they_were_made() -> None:
    one = machine()
    threads: list[Thread] = []

    def stuck() -> None:
        one.kernel.block(f"thing {len(threads)}")

    threads.extend(one.client.spawn(stuck) for _ in range(12))
    one.kernel.run(FOREVER)
    assert one.kernel.waiting() == threads


def test_a_thread_that_is_not_waiting_cannot_be_woken() -> None:
    one = machine()
    ended = one.client.spawn(lambda: None)
    one.kernel.run(FOREVER)
    with pytest.raises(Panic, match="cannot become"):
        one.kernel.wake(ended)


def test_after_a_run_failed_nothing_seems_to_run() -> None:
    one = machine()

    def body() -> None:
        raise ValueError("mine")

    with pytest.raises(RunFailed):
        one.run(body)
    with pytest.raises(RunFailed, match="outside any simulated thread"):
        one.kernel.running_thread()
