"""A caller can abort a call that its server keeps; it is released once.

The server's resources come back when the server returns.
"""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lrpc.domains.domain import Transfer
from lrpc.kernel.errors import CallAborted, CallError
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
from tests.support.captured import MS, aborting, captured_by, keeping
from tests.support.properties import examples
from tests.support.simulated import (
    TRANSFERS,
    FourTests,
    Machine,
    assert_nothing_held,
    costs_of,
    machine,
)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_caller_resumes_with_call_aborted_and_the_servers_return_changes_nothing(transfer: Transfer) -> None:
    one = keeping()
    caller, found = captured_by(one, transfer)
    one.client.spawn(aborting(one, caller))
    one.kernel.run(50_000_000)
    assert found == ["aborted"]
    one.kernel.run(FOREVER)
    assert found == ["aborted"]
    assert_nothing_held(one.kernel)


def test_a_captured_call_keeps_its_astack_and_linkage_until_the_server_returns() -> None:
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
    assert one.kernel.waiting() == []  # a captured thread belongs to its server
    one.kernel.run(FOREVER)
    states.append(caller.state)
    assert states == [THREAD_WAITING, THREAD_ENDED]
    assert caller.successor is not None
    assert caller.successor.state == THREAD_ENDED
    assert one.kernel.threads == {one.kernel.exports["tests"].clerk_thread.thread}
    assert one.kernel.threads_made - one.kernel.clerks_made == 3


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
def test_a_thread_whose_call_has_ended_has_none_to_abort(transfer: Transfer, first: str) -> None:
    one = keeping(us=MS if first == "returned" else 20 * MS)
    tests = one.tests(transfer)
    found: list[str] = []

    def body() -> None:
        try:
            tests.null()
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
    """Abort before the call, on its way, in the server, on its way back, or afterwards.

    The call ends once, and nothing is held.
    """

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
