"""Message passing as SRC RPC does it: concrete threads take messages in turn, with one global lock.

A call is validated twice.
"""

import pytest

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Int32
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import CallAborted, NoSuchProcedure
from lrpc.kernel.simulated.costs import STEPS
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.threads import Thread
from tests.support.simulated import BIG, TRANSFERS, FourTests, Machine, assert_nothing_held, charged, machine


class Queue(Interface):
    """A job whose `wait` takes two calls at a time."""

    @procedure(simultaneous=2)
    def wait(self, number: Int32) -> Int32:
        raise NotImplementedError

    @procedure(simultaneous=1)
    def quick(self) -> None: ...


def queue(one: Machine, us: float, began: list[int]) -> Queue:
    """Return a client's binding to a server that notes each call's begin and sleeps."""

    class Server:
        def wait(self, number: int) -> int:
            began.append(number)
            one.server.sleep(us)
            return number

        def quick(self) -> None: ...

    Clerk().export(one.server, Queue, Server(), "queue")
    return bind(one.client, Queue, "queue", "message passing")


def test_messages_are_taken_in_order_by_as_many_threads_as_calls_may_be_in_progress() -> None:
    one = machine()
    began: list[int] = []
    stub = queue(one, 10_000, began)
    ended: list[int] = []
    for number in range(6):
        one.client.spawn(lambda number=number: ended.append(stub.wait(number)))  # type: ignore[misc]
    one.kernel.run(15_000_000)
    assert (began, ended) == ([0, 1, 2, 3], [0, 1])
    one.kernel.run(FOREVER)
    assert began == ended == list(range(6))
    assert_nothing_held(one.kernel)


def test_concrete_threads_are_the_servers_own_and_made_once() -> None:
    one = machine()
    stub = queue(one, 10, [])
    others = bind(one.kernel.domain("other"), Queue, "queue", "message passing")
    other = one.kernel.domain("other")
    for _ in range(5):
        other.spawn(others.quick)
    one.run(*[stub.quick] * 5)
    clerks = {export.clerk_thread.thread for export in one.kernel.exports.values()}
    served = [thread for thread in one.kernel.threads - clerks if thread.serves]
    assert len(served) == 2
    assert all(thread.home is one.server and thread.domain is one.server for thread in served)
    assert one.kernel.waiting() == []


def test_the_callers_thread_stays_in_its_domain() -> None:
    seen: list[Thread] = []
    one = machine(before=lambda: seen.append(one.kernel.running_thread()))
    caller = one.client.spawn(lambda: one.tests("message passing").null())
    one.kernel.run(FOREVER)
    assert seen[0] is not caller
    assert seen[0].home is one.server
    assert caller.domain is one.client


def test_a_call_is_validated_on_its_way_and_again_on_its_way_back() -> None:
    one = machine()
    found: list[dict[str, int]] = []

    def body() -> None:
        null = one.tests("message passing").null
        null()
        _, counts = charged(one.kernel, null)
        found.append({step: count for step, count in zip(STEPS, counts, strict=True) if count})

    one.run(body)
    twice = (
        "message_validate",
        "message_enqueue",
        "message_transfer",
        "message_schedule",
        "message_switch",
        "trap",
        "switch",
    )
    once = ("procedure_call", "message_client_stub", "message_buffer", "message_dispatch", "message_server_stub")
    assert found == [{**dict.fromkeys(twice, 2), **dict.fromkeys(once, 1), "tlb_miss": 43}]


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_the_copies_that_are_made_are_counted_by_their_letters(transfer: Transfer) -> None:
    one = machine()
    found: list[bytes] = []
    one.run(lambda: found.append(one.tests(transfer).big_in_out(BIG)))
    assert one.kernel.counts.copies == {"A": 1, "B": 0, "C": 0, "D": 0, "E": 0, "F": 1}


def test_calls_through_messages_push_no_linkage_and_take_no_astack() -> None:
    one = machine()
    one.run(lambda: one.tests("message passing").null())
    counts = one.kernel.counts
    assert (counts.cross_domain, counts.linkages_pushed, counts.astacks_taken) == (1, 0, 0)


def test_a_reply_to_a_caller_that_gave_up_is_dropped_and_counted() -> None:
    one = machine()
    began: list[int] = []
    stub = queue(one, 10_000, began)
    ended: list[int] = []

    def body() -> None:
        with pytest.raises(CallAborted):
            stub.wait(1)
        ended.append(stub.wait(2))

    caller = one.client.spawn(body)

    def abort() -> None:
        one.client.sleep(1000)
        assert one.client.abort(caller) is caller

    one.run(abort)
    assert (began, ended) == ([1, 2], [2])
    assert one.kernel.counts.replies_dropped == 1
    assert_nothing_held(one.kernel)


def test_a_queued_call_may_be_given_up_before_a_server_takes_it() -> None:
    one = machine()
    began: list[int] = []
    stub = queue(one, 10_000, began)
    ended: list[int] = []

    def gives_up() -> None:
        one.client.sleep(2000)
        with pytest.raises(CallAborted):
            stub.wait(3)
        ended.append(3)

    caller = one.client.spawn(gives_up)

    def abort() -> None:
        one.client.sleep(5000)
        one.client.abort(caller)

    one.run(lambda: ended.append(stub.wait(1)), lambda: ended.append(stub.wait(2)), abort)
    assert ended == [3, 1, 2]
    assert began == [1, 2, 3]  # the message was sent; its server cannot know
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("number", [-1, 4, 2**80])
def test_a_procedure_that_is_none_is_refused(number: int) -> None:
    one = machine()
    refused = []

    def body() -> None:
        port = one.kernel.port(one.kernel.exports["tests"])
        with pytest.raises(NoSuchProcedure, match=r"^tests: procedure -?\d+: it has 4"):
            port.call(one.kernel.grant(one.client, "tests", port.export).client_key, number, b"")
        refused.append(number)
        bind(one.client, FourTests, "tests", "message passing").null()

    one.run(body)
    assert refused == [number]
    assert_nothing_held(one.kernel)
