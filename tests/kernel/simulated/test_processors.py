"""Processors run threads side by side in virtual time; each keeps the context it had last."""

import pytest

from lrpc.domains.clerk import Clerk
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.scheduler import MOST_PROCESSORS
from tests.support.simulated import FIREFLY, NO_BUS, FourTests, FourTestsServer, assert_nothing_held, costs_of, machine


@pytest.mark.parametrize("processors", [1, 2, 3, 4])
def test_threads_run_side_by_side_on_as_many_processors_as_there_are(processors: int) -> None:
    one = machine(processors=processors)
    ended: list[float] = []

    def body() -> None:
        one.client.compute(100)
        ended.append(one.client.now_us)

    one.run(*[body] * 4)
    assert ended == [100 * (1 + number // processors) for number in range(4)]
    assert sum(processor.busy_ns for processor in one.kernel.processors) == 400_000


@pytest.mark.parametrize("processors", [1, 2, 4])
def test_calls_to_servers_of_their_own_speed_up_with_processors(processors: int) -> None:
    one = machine(NO_BUS, processors=processors)
    clients = [one.kernel.domain(f"client{number}") for number in range(4)]
    for number in range(4):
        Clerk().export(one.kernel.domain(f"server{number}"), FourTests, FourTestsServer(), f"tests{number}")

    bound = [bind(clients[number], FourTests, f"tests{number}") for number in range(4)]

    def body(number: int) -> None:
        for _ in range(10):
            bound[number].null()

    for number in range(4):
        clients[number].spawn(lambda number=number: body(number))  # type: ignore[misc]
    one.kernel.run(FOREVER)
    last = max(processor.clock for processor in one.kernel.processors)
    # One processor goes to the next client: a switch and 22 or 21 misses.
    switches_between_threads = 33_450
    assert (
        40 * 157_000 / processors
        <= last
        <= 40 * 157_000 / processors + (4 // processors - 1) * switches_between_threads
    )
    assert_nothing_held(one.kernel)


def test_a_processor_that_holds_the_right_context_is_preferred() -> None:
    one = machine(costs_of(5), processors=2)
    other = one.kernel.domain("other")
    took: list[float] = []

    def body() -> None:
        one.client.sleep(100)
        took.append(one.client.now_us)
        one.client.sleep(100)
        took.append(one.client.now_us)

    one.client.spawn(body)
    other.spawn(lambda: other.sleep(50))
    one.kernel.run(FOREVER)
    assert took == [100, 200]
    assert [processor.context for processor in one.kernel.processors] == [one.client, other]


def test_the_processor_that_can_begin_first_is_chosen() -> None:
    """An idle processor may be ahead in virtual time, where its last work ended."""
    one = machine(processors=2)
    began: list[tuple[int, float]] = []

    def ahead() -> None:
        for _ in range(5):
            one.kernel.running_processor().spend(one.kernel.charges.trap)

    def late() -> None:
        began.append((one.kernel.running_processor().number, one.client.now_us))

    one.kernel.spawn(one.client, late, "late", at_ns=10_000)
    one.run(ahead)
    assert [processor.clock for processor in one.kernel.processors] == [90_000, 10_000]
    assert began == [(1, 10)]


def test_a_processor_that_changes_domain_is_charged_a_switch() -> None:
    one = machine(costs_of(5, pages=(4, 3)))
    other = one.kernel.domain("other")
    began: list[float] = []

    one.client.spawn(lambda: began.append(one.client.now_us))
    other.spawn(lambda: began.append(other.now_us))
    one.kernel.run(FOREVER)
    assert began == [0, 5 + 3 * 5]


def test_a_thread_never_begins_before_it_was_woken() -> None:
    one = machine(processors=3)
    began: list[float] = []

    def body() -> None:
        one.client.compute(70)
        one.client.spawn(lambda: began.append(one.client.now_us))
        one.client.compute(70)

    one.run(body)
    assert began == [70]


def test_a_thread_may_be_started_at_a_time_to_come() -> None:
    one = machine()
    began: list[float] = []
    one.kernel.spawn(one.client, lambda: began.append(one.client.now_us), "late", at_ns=12_345)
    one.kernel.run(FOREVER)
    assert began == [12.345]


def test_time_goes_by_as_programs_say() -> None:
    one = machine()
    found: list[float] = []

    def body() -> None:
        one.client.compute(10.5)
        found.append(one.client.now_us)
        one.client.sleep(20)
        found.append(one.client.now_us)
        one.client.system_call(1)
        found.append(one.client.now_us)

    one.run(body)
    assert found == [10.5, 30.5, 30.5 + 18 + 1]
    assert one.kernel.counts.trap == 1


@pytest.mark.parametrize("us", [-1, -0.001, float("nan"), float("inf"), 1e12])
def test_a_time_that_is_none_is_refused(us: float) -> None:
    one = machine()
    refused = []

    def body() -> None:
        for spend in (one.client.compute, one.client.sleep, one.client.system_call):
            with pytest.raises(ValueError, match="at least 0 and less than 1e12"):
                spend(us)
            refused.append(us)

    one.run(body)
    assert len(refused) == 3
    assert one.kernel.now_ns == 0


@pytest.mark.parametrize("processors", [0, -1, MOST_PROCESSORS + 1])
def test_a_machine_has_a_processor_and_not_too_many(processors: int) -> None:
    with pytest.raises(ValueError, match=f"machine m: processors: {processors} is not between 1 and"):
        Kernel("m", FIREFLY, processors=processors)
