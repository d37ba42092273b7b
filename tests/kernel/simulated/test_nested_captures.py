"""Captured calls within calls: an abort releases the caller in the middle, and only that caller."""

import pytest

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Transfer
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import CallAborted, ProcedureRaised
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.threads import Thread
from tests.support.captured import MS, aborting, keeping
from tests.support.invariants import assert_nothing_left, assert_sound
from tests.support.simulated import (
    TRANSFERS,
    FourTests,
    FourTestsServer,
    assert_nothing_held,
)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_concrete_thread_released_from_a_call_replies_though_the_captured_one_has_ended(transfer: Transfer) -> None:
    one = keeping(5 * MS, processors=2)
    middle, told = one.kernel.domain("middle"), list[str]()

    class Middle(FourTestsServer):
        def null(self) -> None:
            with pytest.raises(CallAborted):
                bind(middle, FourTests, "tests", transfer).null()
            middle.sleep(20 * MS)  # the captured call ends before

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
    """The concrete thread that serves messages is captured, then aborted by its domain.

    It takes the next call afterwards.
    """
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


def test_a_server_sees_an_aborted_inner_call_as_its_own_error() -> None:
    """An abort by the middle domain of its own thread's call reaches that thread only.

    The outer caller is not told.
    """
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
