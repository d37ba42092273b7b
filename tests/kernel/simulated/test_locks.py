"""Processors spin for a lock and threads wait for a resource, both first come first served."""

import pytest

from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.charges import Path
from lrpc.kernel.simulated.costs import STEPS, TRAP, load_cost_model
from lrpc.kernel.simulated.disciplines import TRANSFER_STEPS
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.locks import SpinLock, WaitQueue
from tests.support.simulated import NO_BUS, FourTests, Machine, assert_nothing_held, costs_of, machine, with_locked


def lock_and_path(us: int) -> tuple[SpinLock, Path]:
    """Return a lock, and the steps that run while it is held: `us` microseconds."""
    return SpinLock(), Path(costs_of(us), [TRAP])


def spun_us(one: Machine) -> list[float]:
    """Return how long each processor spun."""
    return [processor.lock_wait_ns / 1000 for processor in one.kernel.processors]


def test_processors_get_a_spin_lock_in_the_order_in_which_they_asked_for_it() -> None:
    one = machine(processors=4)
    lock, path = lock_and_path(100)
    order: list[tuple[int, float]] = []

    def holder(number: int) -> None:
        one.client.compute([30, 10, 0, 20][number])
        lock.hold(one.kernel.running_processor(), path)
        order.append((number, one.client.now_us))

    for number in range(4):
        one.client.spawn(lambda number=number: holder(number))  # type: ignore[misc]
    one.kernel.run(FOREVER)
    assert order == [(2, 100), (1, 200), (3, 300), (0, 400)]
    assert spun_us(one) == [300 - 30, 100 - 10, 0, 200 - 20]
    assert (lock.acquisitions, path.times) == (4, 4)


def test_the_order_is_that_of_virtual_time_not_that_in_which_processors_are_simulated() -> None:
    one = machine(processors=4)
    lock, path = lock_and_path(0)
    order: list[int] = []

    def holder(number: int) -> None:
        for _ in range([3, 1, 0, 2][number]):
            one.kernel.running_processor().spend(one.kernel.charges.trap)
        lock.hold(one.kernel.running_processor(), path)
        order.append(number)

    for number in range(4):
        one.client.spawn(lambda number=number: holder(number))  # type: ignore[misc]
    one.kernel.run(FOREVER)
    assert order == [2, 1, 3, 0]


def test_a_spinning_processor_does_nothing_else() -> None:
    one = machine(processors=2)
    lock, path = lock_and_path(100)
    third_began: list[float] = []

    def holds() -> None:
        lock.hold(one.kernel.running_processor(), path)
        one.kernel.running_processor().checkpoint()

    one.run(holds, holds, lambda: third_began.append(one.client.now_us))
    assert third_began == [100]
    assert spun_us(one) == [0, 100]
    assert sum(processor.busy_ns for processor in one.kernel.processors) == 300_000


def test_a_lock_that_nobody_holds_costs_no_wait() -> None:
    one = machine(processors=2)
    lock, path = lock_and_path(10)
    took = []

    def body() -> None:
        for _ in range(3):
            lock.hold(one.kernel.running_processor(), path)
        took.append(one.client.now_us)

    one.run(body)
    assert took == [30]
    assert (lock.acquisitions, spun_us(one)) == (3, [0, 0])


@pytest.mark.parametrize("processors", [1, 2, 4])
def test_message_passing_is_held_to_one_transfer_at_a_time(processors: int) -> None:
    """Each call holds the lock twice, for 125 us each: validation, queue, transfer, scheduling."""
    one = machine(NO_BUS, processors=processors)

    def body() -> None:
        tests = one.tests("message passing")
        for _ in range(10):
            tests.null()

    one.run(*[body] * 4)
    assert one.kernel.transfer_lock.acquisitions == 2 * 40
    assert one.kernel.now_ns >= 2 * 40 * 125_000
    assert (sum(spun_us(one)) == 0) == (processors == 1)
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("system", ["accent", "mach", "v", "amoeba", "dash"])
def test_systems_of_which_no_lock_is_known_transfer_several_messages_at_a_time(system: str) -> None:
    took: list[list[int]] = []
    for steps in ((), TRANSFER_STEPS):
        costs = load_cost_model(system)
        assert costs.file.message_passing is not None
        assert costs.file.message_passing.locked.steps == ()
        one = machine(with_locked(costs, steps), processors=8)
        tests = one.tests("message passing")
        times: list[int] = []

        def body(tests: FourTests = tests, one: Machine = one, times: list[int] = times) -> None:
            tests.null()
            times.append(one.client.now_ns)

        one.run(*[body] * 4)
        held = steps != ()
        assert (one.kernel.transfer_lock.acquisitions, sum(spun_us(one)) > 0) == (8 * held, held)
        took.append(times)
        assert_nothing_held(one.kernel)
    assert max(took[0]) < max(took[1])


@pytest.mark.parametrize("begin", range(5))
@pytest.mark.parametrize("size", [0, 1, 2, 5])
def test_a_lock_covers_the_steps_that_the_cost_model_names(begin: int, size: int) -> None:
    """What is not under it several processors do at a time."""
    steps = TRANSFER_STEPS[begin : begin + size]
    costs = {step: 100 * 2**at for at, step in enumerate(TRANSFER_STEPS)}
    model = with_locked(costs_of(0, {**costs, "message_dispatch": 10_000}), steps)
    alone, two = (machine(model, processors=8) for _ in range(2))
    took: list[int] = []

    def body(one: Machine) -> None:
        tests, began = one.tests("message passing"), one.client.now_ns
        tests.null()
        took.append(one.client.now_ns - began)

    alone.run(lambda: body(alone))
    two.run(*[lambda: body(two)] * 2)
    assert took[0] == 1000 * (2 * sum(costs.values()) + 10_000)
    assert [alone.kernel.charges.counts()[STEPS.index(step)] for step in TRANSFER_STEPS] == [2] * 5
    under = 1000 * sum(costs[step] for step in steps)
    assert max(took[1:]) - took[0] == under  # the second waits, once, while the first holds it
    assert min(took[1:]) == took[0]


def test_lrpc_takes_no_lock_for_a_transfer() -> None:
    one = machine(processors=2)
    one.run(*[lambda: one.tests().null()] * 2)
    assert one.kernel.transfer_lock.acquisitions == 0


def test_threads_wait_first_come_first_served_and_are_woken_one_at_a_time() -> None:
    one = machine(costs_of(0))
    queue = WaitQueue(one.kernel, "a test")
    order: list[str] = []

    def waiter(number: int) -> None:
        queue.wait()
        order.append(f"{number} goes on")

    def waker() -> None:
        one.client.sleep(1)
        queue.wake_one()
        order.append("woken one")
        one.client.sleep(1)
        assert queue.woken == 0
        queue.wake_all()
        order.append(f"woken {queue.woken}")
        queue.wake_one()  # nobody is left

    for number in range(4):
        one.client.spawn(lambda number=number: waiter(number))  # type: ignore[misc]
    one.run(waker)
    assert order == ["woken one", "0 goes on", "woken 3", "1 goes on", "2 goes on", "3 goes on"]
    assert (queue.waits, queue.woken) == (4, 0)


def test_who_waits_for_what_nobody_gives_is_named() -> None:
    one = machine()
    queue = WaitQueue(one.kernel, "a test")
    thread = one.client.spawn(queue.wait, "stuck")
    one.kernel.run(FOREVER)
    assert [(str(waiting), waiting.waits_for) for waiting in one.kernel.waiting()] == [
        ("thread stuck of domain client", "a test")
    ]
    assert one.kernel.waiting() == [thread]


def test_what_blocks_outside_a_simulated_thread_says_so() -> None:
    one = machine()
    with pytest.raises(RunFailed, match="outside any simulated thread"):
        WaitQueue(one.kernel, "a test").wait()
    with pytest.raises(RunFailed, match="outside any simulated thread"):
        one.client.sleep(1)
