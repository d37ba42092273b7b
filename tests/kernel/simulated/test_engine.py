"""The order of events is a rule, and cutting a run into windows never changes it."""

import random
from collections.abc import Callable, Sequence
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Int32
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import CallAborted, CallError, Panic
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.engine import ARRIVAL, FOREVER, MOST_LISTED, Arrival, Engine, Turn
from lrpc.kernel.simulated.transfer import call
from tests.support.properties import examples
from tests.support.simulated import FIREFLY, TRANSFERS, FourTests, Machine, assert_nothing_held, costs_of, machine

Plan = Sequence[tuple[str, int]]


def test_at_equal_times_arrivals_come_before_timers_before_processors_by_number() -> None:
    wanted = [
        *[("arrive", 1, 1), ("arrive", 1, 2), ("arrive", 2, 1)],
        *[("at", 0, 0), ("at", 0, 1)],
        *[("resume", 0, 0), ("resume", 1, 0), ("resume", 5, 0)],
    ]
    for seed in range(20):
        engine = Engine()
        order: list[tuple[str, int, int]] = []
        shuffled = random.Random(seed).sample(wanted, len(wanted))
        timers = iter(range(2))
        for what, one, two in shuffled:
            if what == "arrive":
                engine.arrive(7, one, two, partial(order.append, (what, one, two)))
            elif what == "at":
                engine.schedule(7, partial(order.append, (what, 0, next(timers))))
            else:
                engine.resume(Turn(one, partial(order.append, (what, one, 0))), 7)
        engine.run(8)
        assert order == wanted


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), max_size=30), st.integers(0, 60))
def test_what_is_due_strictly_before_the_horizon_is_done_in_order_of_time(
    times: list[tuple[int, int]], horizon: int
) -> None:
    engine = Engine()
    done: list[int] = []

    def action(time: int, then: int) -> None:
        assert engine.now == time
        done.append(time)
        engine.schedule(time + then, lambda: done.append(time + then))

    for time, then in times:
        engine.schedule(time, partial(action, time, then))
    engine.run(horizon)
    due = [time for time, _ in times] + [time + then for time, then in times]
    assert done == sorted(time for time in due if time < horizon)
    assert engine.next_time == min((time for time in due if time >= horizon), default=FOREVER)
    engine.run(FOREVER)
    assert done == sorted(due)


class Source:
    """A machine whose messages come at some times, the next one scheduled as one comes."""

    def __init__(self, engine: Engine, number: int, times: list[int], came: list[tuple[int, int, int]]) -> None:
        self.engine, self.times, self.came = engine, times, came
        self.arrival = Arrival(number, self.come)
        self.wait()

    def wait(self) -> None:
        if self.times:
            self.arrival.time = self.times.pop(0)
            self.arrival.sequence += 1
            self.engine.follow(self.arrival)

    def come(self) -> None:
        self.came.append((self.engine.now, ARRIVAL, self.arrival.source))
        self.wait()


@given(
    arrivals=st.lists(st.lists(st.integers(0, 20), max_size=4).map(sorted), max_size=MOST_LISTED * 2),
    timers=st.lists(st.integers(0, 20), max_size=5),
)
def test_arrivals_come_in_their_order_whether_they_are_listed_or_on_the_heap(
    arrivals: list[list[int]], timers: list[int]
) -> None:
    engine = Engine()
    came: list[tuple[int, int, int]] = []
    expected = [(time, ARRIVAL, source) for source, times in enumerate(arrivals) for time in times]
    expected += [(time, ARRIVAL + 1, number) for number, time in enumerate(timers)]
    for number, time in enumerate(timers):
        engine.schedule(time, partial(came.append, (time, ARRIVAL + 1, number)))
    for source, times in enumerate(arrivals):
        Source(engine, source, list(times), came)
    assert engine.next_time == min((one[0] for one in expected), default=FOREVER)
    assert engine.has_events == bool(expected)
    engine.run(FOREVER)
    assert came == sorted(expected)
    assert not engine.has_events


@given(st.lists(st.tuples(st.integers(0, 4), st.one_of(st.none(), st.integers(0, 6))), max_size=20))
def test_turns_come_in_order_however_they_were_scheduled_and_taken_back(plan: list[tuple[int, int | None]]) -> None:
    engine = Engine()
    came: list[tuple[int, int]] = []
    due: dict[int, int] = {}

    def come(number: int) -> None:
        came.append((engine.now, number))

    turns = [Turn(number, partial(come, number)) for number in range(5)]
    for number, time in plan:
        if time is None:
            engine.withdraw(turns[number])
            due.pop(number, None)
        else:
            engine.resume(turns[number], time)
            due[number] = time
    engine.run(FOREVER)
    assert came == sorted((time, number) for number, time in due.items())


def test_a_message_for_the_past_is_a_panic_and_one_for_the_horizon_is_not() -> None:
    engine, seen = Engine(), []
    engine.run(100)
    with pytest.raises(Panic, match="machine 3 is due at 99 ns, but this machine ran to 100"):
        engine.arrive(99, 3, 1, lambda: None)
    engine.arrive(100, 3, 1, lambda: seen.append(engine.now))
    engine.run(101)
    assert seen == [100]


def test_a_machine_does_not_run_inside_one_of_its_own_threads() -> None:
    one = machine()
    with pytest.raises(Panic, match="in the thread that made it"):
        one.run(lambda: one.kernel.run(FOREVER))


@pytest.mark.parametrize(("horizon", "done"), [(99_999, False), (100_000, False), (100_001, True)])
def test_a_thread_resumes_only_before_the_horizon(horizon: int, done: bool) -> None:
    one = machine()
    found: list[int] = []

    def body() -> None:
        one.client.compute(100)
        found.append(one.kernel.now_ns)

    one.client.spawn(body)
    one.kernel.run(horizon)
    assert found == ([100_000] if done else [])
    one.kernel.run(FOREVER)
    assert found == [100_000]


def test_a_run_may_be_told_meanwhile_to_stop_before_a_nearer_time() -> None:
    engine = Engine()
    done: list[int] = []
    for time in range(10):
        engine.schedule(time, partial(done.append, time))
    engine.schedule(3, lambda: engine.stop_before(6))
    engine.run(FOREVER)
    assert done == [0, 1, 2, 3, 4, 5]
    engine.run(FOREVER)
    assert done == list(range(10))


def test_a_processor_yields_to_an_earlier_event_of_its_own_making() -> None:
    one = machine(processors=2)
    times: list[float] = []

    def child() -> None:
        times.append(one.client.now_us)
        one.client.compute(50)
        times.append(one.client.now_us)

    def body() -> None:
        one.client.compute(10)
        one.client.spawn(child)
        one.client.compute(100)
        times.append(one.client.now_us)

    one.run(body)
    assert times == [10, 60, 110]


@examples(60)
@given(
    starts=st.lists(st.integers(0, 200), min_size=2, max_size=6),
    processors=st.integers(1, 4),
    costs=st.dictionaries(st.sampled_from(["kernel_call", "kernel_return", "switch", "trap"]), st.integers(0, 60)),
)
def test_what_happens_on_several_processors_happens_in_order_of_virtual_time(
    starts: list[int], processors: int, costs: dict[str, int]
) -> None:
    times: list[int] = []
    costs = costs | {"server_stub": 0}  # it would be spent between a checkpoint and the procedure
    one = machine(costs_of(1, costs), processors=processors, before=lambda: times.append(one.kernel.now_ns))
    binding = one.binding()

    def caller(number: int) -> None:
        one.client.compute(starts[number])
        call(one.kernel, binding.client_key, 0, binding.groups[0].members[number % 5].address)
        times.append(one.kernel.now_ns)

    for number in range(min(5, len(starts))):
        one.client.spawn(lambda number=number: caller(number))  # type: ignore[misc]
    one.kernel.run(FOREVER)
    assert len(times) == 2 * min(5, len(starts))
    assert times == sorted(times)


class Busy(Interface):
    """A procedure that computes, sleeps, draws a number or raises, by `kind`."""

    @procedure(simultaneous=2)
    def work(self, kind: Int32, us: Int32) -> Int32:
        raise NotImplementedError


def office(costs: CostModel, processors: int, plans: Sequence[Plan]) -> tuple[Machine, list[str]]:
    """Return a machine with a client thread for each plan, and the list of their notes."""
    one = machine(costs, processors=processors, seed=3)
    notes: list[str] = []

    class Server:
        def work(self, kind: int, us: int) -> int:
            if kind == 0:
                one.server.compute(us)
            elif kind == 1:
                one.server.sleep(us)
            elif kind == 2:
                return one.server.random("work").below(100)
            else:
                raise ValueError("work")
            return us

    Clerk().export(one.server, Busy, Server(), "busy")
    clients = [one.kernel.domain("client"), one.kernel.domain("other")]
    bound = {
        (number, transfer): bind(client, Busy, "busy", transfer)
        for number, client in enumerate(clients)
        for transfer in TRANSFERS
    }

    def act(number: int, plan: Plan) -> None:
        client = clients[number % 2]
        for what, us in plan:
            if what == "compute":
                client.compute(us)
            elif what == "sleep":
                client.sleep(us)
            elif what == "trap":
                client.system_call(us)
            elif what == "spawn":
                client.spawn(lambda us=us: client.compute(us)).join()  # type: ignore[misc]
            elif what == "abort":
                captured = client.spawn(lambda us=us: work(number % 2, "lrpc", 1, us + 50))  # type: ignore[misc]
                client.sleep(us)
                try:
                    client.abort(captured)
                except CallError as error:
                    notes.append(str(error))
            else:
                work(number % 2, "message passing" if what[0] == "m" else "lrpc", us % 4, us)
            notes.append(f"{number} {what} {one.kernel.now_ns}")

    def work(number: int, transfer: Transfer, kind: int, us: int) -> None:
        try:
            notes.append(str(bound[number, transfer].work(kind, us)))
        except CallAborted as error:
            notes.append(str(error))
        except CallError as error:
            notes.append(str(error))

    for number, plan in enumerate(plans):
        clients[number % 2].spawn(lambda number=number, plan=plan: act(number, plan))  # type: ignore[misc]
    return one, notes


ACTS = st.tuples(
    st.sampled_from(["lrpc", "lrpc", "message", "compute", "sleep", "trap", "spawn", "abort"]), st.integers(0, 120)
)


@examples(100)
@given(
    costs=st.sampled_from([costs_of(2), costs_of(1, {"trap": 0, "switch": 0}, pages=(0, 0)), FIREFLY]),
    processors=st.integers(1, 4),
    plans=st.lists(st.lists(ACTS, max_size=6), min_size=1, max_size=6),
    windows=st.lists(st.integers(0, 600_000), max_size=12),
)
def test_no_way_of_cutting_a_run_into_windows_changes_it(
    costs: CostModel, processors: int, plans: list[Plan], windows: list[int]
) -> None:
    whole, notes = office(costs, processors, plans)
    whole.kernel.run(FOREVER)
    cut, cut_notes = office(costs, processors, plans)
    for horizon in sorted(windows):
        cut.kernel.run(horizon)
    cut.kernel.run(FOREVER)
    assert cut_notes == notes
    assert cut.kernel.log.digest() == whole.kernel.log.digest()
    assert cut.kernel.charges.counts() == whole.kernel.charges.counts()
    assert [one.busy_ns for one in cut.kernel.processors] == [one.busy_ns for one in whole.kernel.processors]
    assert [one.clock for one in cut.kernel.processors] == [one.clock for one in whole.kernel.processors]
    assert_nothing_held(whole.kernel)
    assert_nothing_held(cut.kernel)


@pytest.mark.parametrize("width", [1_000, 7_777])
def test_windows_of_one_width_change_nothing_either(width: int) -> None:
    plans = [[("lrpc", 1), ("message", 5), ("sleep", 30), ("lrpc", 3)]] * 5
    whole, _ = office(FIREFLY, 2, plans)
    whole.kernel.run(FOREVER)
    cut, _ = office(FIREFLY, 2, plans)
    windows = 0
    while cut.kernel.engine.next_time != FOREVER:
        windows += 1
        cut.kernel.run(windows * width)
    assert windows > 100
    assert cut.kernel.log.digest() == whole.kernel.log.digest()


def digest(costs: CostModel, order: Sequence[str], seed: int = 0) -> bytes:
    one = machine(costs, seed=seed)

    def body() -> None:
        tests = one.tests()
        acts: dict[str, Callable[[], object]] = {"null": tests.null, "add": lambda: tests.add(1, 2)}
        for what in order:
            acts[what]()

    one.run(body)
    return one.kernel.log.digest()


def test_the_digest_tells_runs_apart_by_cost_by_order_and_by_number_of_calls() -> None:
    order = ["null", "add", "null", "null"]
    same = digest(FIREFLY, order)
    assert digest(FIREFLY, order) == same
    others = [
        digest(FIREFLY, ["add", "null", "null", "null"]),
        digest(FIREFLY, order[:-1]),
        digest(costs_of(2), order),
        digest(costs_of(2, {"server_stub": 3}), order),
    ]
    assert len({same, *others}) == 5
    assert digest(FIREFLY, order, seed=1) != same  # the seed itself is an event, though nothing here is drawn


def test_one_server_stays_a_server_between_runs() -> None:
    """An idle machine accepts more work, at a time later than all it did."""
    one = machine()
    found: list[int] = []
    one.run(lambda: found.append(one.tests("message passing").add(1, 2)))
    before = one.kernel.now_ns
    one.run(lambda: found.append(one.tests("message passing").add(3, 4)))
    assert found == [3, 7]
    assert one.kernel.now_ns > before
    assert isinstance(one.tests(), FourTests)
