"""A caller is released from a call that its server keeps, once, and what the server held comes back when it lets go."""

from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Transfer
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import CallAborted, CallError, ProcedureRaised
from lrpc.kernel.simulated import transfer as transfers
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import (
    ASTACK_FREE,
    ASTACK_QUARANTINED,
    LINKAGE_ABORTED,
    LINKAGE_FREE,
    THREAD_ENDED,
    THREAD_WAITING,
)
from tests.support.invariants import assert_nothing_left, assert_sound
from tests.support.properties import examples
from tests.support.simulated import (
    TRANSFERS,
    FourTests,
    FourTestsServer,
    Machine,
    assert_nothing_held,
    costs_of,
    machine,
)

MS = 1000.0  # in us


def keeping(us: float = 100 * MS, processors: int = 1) -> Machine:
    """Return a machine whose server keeps each Null for that long."""
    made = machine(processors=processors, before=lambda: made.server.sleep(us))
    return made


def captured_by(one: Machine, transfer: Transfer = "lrpc") -> tuple[Thread, list[str]]:
    """Return a thread that calls Null, and where it says, once, how that ended."""
    found: list[str] = []

    def body() -> None:
        try:
            one.tests(transfer).null()
            found.append("returned")
        except CallAborted:
            found.append("aborted")

    return one.client.spawn(body, "caller"), found


def aborting(one: Machine, thread: Thread, after_us: float = MS) -> Callable[[], None]:
    def body() -> None:
        one.client.sleep(after_us)
        one.client.abort(thread)

    return body


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_concrete_thread_released_from_a_call_replies_though_the_captured_one_has_ended(transfer: Transfer) -> None:
    one = keeping(5 * MS, processors=2)
    middle, told = one.kernel.domain("middle"), list[str]()

    class Middle(FourTestsServer):
        def null(self) -> None:
            with pytest.raises(CallAborted):
                bind(middle, FourTests, "tests", transfer).null()
            middle.sleep(20 * MS)  # the captured call is over before

    def body() -> None:
        bind(one.client, FourTests, "middle", "message passing").null()
        told.append("returned")

    Clerk().export(middle, FourTests, Middle(), "middle")
    one.client.spawn(body)
    one.kernel.run(2_000_000)
    (concrete,) = (
        thread for thread in one.kernel.threads if thread.home is middle and (thread.linkages or thread.outstanding)
    )
    middle.abort(concrete)
    for ms in (3, 10, 20):
        one.kernel.run(ms * 1_000_000)
        assert_sound(one.kernel)
    assert told == []
    one.kernel.run(FOREVER)
    assert told == ["returned"]
    assert_nothing_left(one.kernel)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_caller_goes_on_with_call_aborted_and_the_servers_return_changes_nothing(transfer: Transfer) -> None:
    one = keeping()
    caller, found = captured_by(one, transfer)
    one.client.spawn(aborting(one, caller))
    one.kernel.run(50_000_000)
    assert found == ["aborted"]
    one.kernel.run(FOREVER)
    assert found == ["aborted"]
    assert_nothing_held(one.kernel)


def test_a_captured_call_keeps_its_astack_and_linkage_until_the_server_lets_go() -> None:
    one = keeping()
    caller, found = captured_by(one)
    one.client.spawn(aborting(one, caller))
    one.kernel.run(50_000_000)
    group = one.kernel.bindings[1].groups[0]
    held = [astack for astack in group.members if astack.state == ASTACK_QUARANTINED]
    assert [astack.linkage.state for astack in held] == [LINKAGE_ABORTED]
    assert group.free_count == len(group.members) - 1
    assert one.kernel.calls_in_progress() == 1
    one.kernel.run(FOREVER)
    assert found == ["aborted"]
    assert held[0].state == ASTACK_FREE
    assert held[0].linkage.state == LINKAGE_FREE
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_client_calls_on_other_astacks_while_the_server_holds_one(transfer: Transfer) -> None:
    one = keeping()
    found: list[object] = []

    def body() -> None:
        tests = one.tests(transfer)
        with pytest.raises(CallAborted):
            tests.null()
        found.append(tests.add(2, 3))
        found.append(one.client.now_us < 5 * MS)

    one.run(aborting(one, one.client.spawn(body)))
    assert found == [5, True]
    assert_nothing_held(one.kernel)


def test_every_astack_captured_makes_the_next_caller_wait_for_the_server() -> None:
    one = keeping(us=10 * MS)
    tests: list[FourTests] = []
    found: list[str] = []

    def bind_once() -> None:
        tests.append(one.tests())

    one.run(bind_once)

    def body() -> None:
        with pytest.raises(CallAborted):
            tests[0].null()
        found.append("aborted")

    callers = [one.client.spawn(body) for _ in range(5)]

    def late() -> None:
        one.client.sleep(5 * MS)
        for caller in callers:
            one.client.abort(caller)
        since = one.client.now_us
        tests[0].null()
        found.append(f"returned after {(one.client.now_us - since) / MS:.0f} ms")

    one.run(late)
    assert found == ["aborted"] * 5 + ["returned after 15 ms"]
    assert_nothing_held(one.kernel)


def test_whoever_joins_a_captured_thread_waits_for_its_successor() -> None:
    one = keeping()
    order: list[str] = []

    def body() -> None:
        with pytest.raises(CallAborted):
            one.tests().null()
        one.client.sleep(10 * MS)
        order.append("successor ended")

    caller = one.client.spawn(body)

    def before() -> None:
        caller.join()
        order.append("joined from before")

    def after() -> None:
        one.client.sleep(2 * MS)
        caller.join()
        order.append("joined from after")

    one.run(before, after, aborting(one, caller))
    assert order[0] == "successor ended"
    assert sorted(order[1:]) == ["joined from after", "joined from before"]
    assert one.kernel.now_ns > 100_000_000


def test_the_captured_thread_is_destroyed_when_its_server_returns() -> None:
    one = keeping()
    caller, _ = captured_by(one)
    one.client.spawn(aborting(one, caller))
    one.kernel.run(50_000_000)
    states = [caller.state]
    assert caller.domain is one.server
    assert one.kernel.waiting() == []  # a captured thread is its server's affair
    one.kernel.run(FOREVER)
    states.append(caller.state)
    assert states == [THREAD_WAITING, THREAD_ENDED]
    assert caller.successor is not None
    assert caller.successor.state == THREAD_ENDED
    assert one.kernel.threads == set()
    assert one.kernel.threads_made == 3


def test_a_captured_thread_that_waits_for_another_thread_is_released_too() -> None:
    woken: list[str] = []
    slow: list[Thread] = []

    def wait() -> None:
        slow[0].join()
        woken.append("server went on")

    one = machine(before=wait)
    slow.append(one.server.spawn(lambda: one.server.sleep(20 * MS)))
    caller, found = captured_by(one)
    one.run(aborting(one, caller))
    assert (found, woken) == (["aborted"], ["server went on"])
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("inner", TRANSFERS)
@pytest.mark.parametrize("outer", TRANSFERS)
def test_a_nested_call_is_aborted_from_the_outermost_caller(outer: Transfer, inner: Transfer) -> None:
    one = keeping()
    middle = one.kernel.domain("middle")
    passed = []

    def onwards() -> None:
        bind(middle, FourTests, "tests", inner).null()
        passed.append("middle went on")

    Clerk().export(middle, FourTests, FourTestsServer(onwards), "middle")
    found = []

    def body() -> None:
        try:
            bind(one.client, FourTests, "middle", outer).null()
        except CallAborted:
            found.append(one.client.now_us < 2 * MS)

    one.run(aborting(one, one.client.spawn(body)))
    assert found == [True]
    assert passed == ["middle went on"]
    assert_nothing_held(one.kernel)


def test_a_middle_server_releases_its_own_thread_and_serves_on() -> None:
    """The concrete thread that serves messages is itself captured, aborted by its domain, and takes the next call."""
    one = keeping()
    middle = one.kernel.domain("middle")

    def onwards() -> None:
        with pytest.raises(CallAborted):
            bind(middle, FourTests, "tests").null()

    Clerk().export(middle, FourTests, FourTestsServer(onwards), "middle")
    found = []

    def body() -> None:
        tests = bind(one.client, FourTests, "middle", "message passing")
        for _ in range(7):  # more than there are concrete threads
            tests.null()
            found.append(tests.add(1, 1))

    def watch() -> None:
        for _ in range(7):
            middle.sleep(MS)
            held = [thread for thread in one.kernel.threads if thread.home is middle and thread.domain is one.server]
            for thread in held:
                if thread.successor is None:
                    middle.abort(thread)

    one.client.spawn(body)
    middle.spawn(watch)
    one.kernel.run(FOREVER)
    assert found == [2] * 7
    assert_nothing_held(one.kernel)


def test_a_server_that_raises_after_the_abort_raises_to_nobody() -> None:
    def late() -> None:
        one.server.sleep(10 * MS)
        raise ValueError("too late")

    one = machine(before=late)
    caller, found = captured_by(one)
    one.run(aborting(one, caller))
    assert found == ["aborted"]
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_thread_without_a_call_cannot_be_aborted(transfer: Transfer) -> None:
    one = keeping()
    idle = one.client.spawn(lambda: one.client.sleep(10 * MS))
    ended = one.client.spawn(lambda: None)
    refused = []

    def body() -> None:
        one.client.sleep(MS)
        for thread in (idle, ended):
            with pytest.raises(CallError, match="no call to abort"):
                one.client.abort(thread)
            refused.append(thread)
        assert one.tests(transfer).add(1, 2) == 3

    one.run(body)
    assert refused == [idle, ended]
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("first", ["returned", "aborted"])
def test_a_thread_whose_call_is_over_has_none_to_abort(transfer: Transfer, first: str) -> None:
    one = keeping(us=MS if first == "returned" else 20 * MS)
    found: list[str] = []

    def body() -> None:
        try:
            one.tests(transfer).null()
            found.append("returned")
        except CallAborted:
            found.append("aborted")
        one.client.sleep(50 * MS)
        found.append(f"slept until {one.client.now_us / MS:.0f} ms")

    caller = one.client.spawn(body)

    def abort() -> None:
        one.client.sleep(5 * MS)
        successor = caller if first == "returned" else one.client.abort(caller)
        one.client.sleep(5 * MS)
        with pytest.raises(CallError, match="no call to abort"):
            one.client.abort(successor)
        found.append("refused")

    one.run(abort)
    assert found == [first, "refused", "slept until 51 ms" if first == "returned" else "slept until 55 ms"]
    assert_nothing_held(one.kernel)


def test_no_domain_aborts_anothers_calls_not_even_the_server() -> None:
    one = keeping()
    caller, found = captured_by(one)
    refused = []

    def body() -> None:
        one.server.sleep(MS)
        with pytest.raises(CallError, match="own threads only"):
            one.server.abort(caller)
        refused.append(caller)

    one.server.spawn(body)
    one.kernel.run(FOREVER)
    assert refused == [caller]
    assert found == ["returned"]


def test_a_call_is_aborted_once() -> None:
    one = keeping()
    caller, found = captured_by(one)
    refused = []

    def again() -> None:
        one.client.sleep(2 * MS)
        with pytest.raises(CallError, match="aborted before"):
            one.client.abort(caller)
        refused.append(caller)

    one.run(aborting(one, caller), again)
    assert (found, refused) == (["aborted"], [caller])
    assert_nothing_held(one.kernel)


@examples(150)
@given(
    after=st.integers(0, 40),
    processors=st.integers(1, 4),
    transfer=st.sampled_from(TRANSFERS),
    computes=st.booleans(),
)
@example(after=12, processors=3, transfer="lrpc", computes=False)
def test_a_call_may_be_aborted_at_any_moment(after: int, processors: int, transfer: Transfer, computes: bool) -> None:
    """Before it began, on its way, in the server, on its way back or afterwards: it ends once, and nothing is held."""

    def spend() -> None:
        (one.server.compute if computes else one.server.sleep)(3)

    one: Machine = machine(costs_of(2, pages=(0, 0)), processors=processors, before=spend)
    tests: list[FourTests] = []
    one.run(lambda: tests.append(one.tests(transfer)))
    found: list[str] = []

    def body() -> None:
        for _ in range(2):
            try:
                tests[0].null()
                found.append("returned")
            except CallAborted:
                found.append("aborted")
        assert tests[0].add(1, 2) == 3

    caller = one.client.spawn(body)
    refused = []

    def abort() -> None:
        one.client.compute(after)
        try:
            one.client.abort(caller)
        except CallError:
            refused.append("refused")

    one.run(abort)
    assert len(found) == 2
    assert found.count("aborted") + len(refused) == 1
    assert_nothing_held(one.kernel)


def test_aborting_a_raw_call_on_an_astack_that_was_not_taken_harms_only_its_client() -> None:
    one = keeping(us=10 * MS)
    binding = one.binding()
    address = binding.groups[0].members[0].address
    found = []

    def body() -> None:
        with pytest.raises(CallAborted):
            transfers.call(one.kernel, binding.client_key, 0, address)
        found.append("aborted")

    one.run(aborting(one, one.client.spawn(body)))
    assert found == ["aborted"]
    one.run(lambda: found.append(str(one.tests().add(1, 2))))
    assert found == ["aborted", "3"]
    assert_nothing_held(one.kernel)


def test_a_server_sees_an_aborted_inner_call_as_its_own_error() -> None:
    """An abort by the middle domain of a call that its own thread made reaches that thread, not the outer caller."""
    one = keeping(us=10 * MS)
    middle = one.kernel.domain("middle")
    made: list[Thread] = []
    said: list[str] = []

    def inner() -> None:
        with pytest.raises(CallAborted):
            bind(middle, FourTests, "tests").null()
        said.append("inner aborted")

    def onwards() -> None:
        made.append(middle.spawn(inner))
        middle.sleep(MS)
        middle.abort(made[0])
        made[0].join()
        raise ValueError("told")

    Clerk().export(middle, FourTests, FourTestsServer(onwards), "middle")

    def body() -> None:
        with pytest.raises(ProcedureRaised, match="told"):
            bind(one.client, FourTests, "middle").null()
        said.append("outer raised")

    one.run(body)
    assert said == ["inner aborted", "outer raised"]
    assert_nothing_held(one.kernel)
