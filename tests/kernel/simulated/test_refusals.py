"""The kernel refuses forged calls with an error that names the forgery, and keeps running."""

from collections.abc import Callable
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.kernel.descriptors import BindingObject
from lrpc.kernel.errors import (
    BindingRevoked,
    CallError,
    ForgedBinding,
    LinkageInUse,
    NoSuchProcedure,
    RunFailed,
    WrongAStack,
)
from lrpc.kernel.simulated import log
from lrpc.kernel.simulated.bindings import Binding
from lrpc.kernel.simulated.kernel import MOST_REASONS
from lrpc.kernel.simulated.transfer import call
from tests.support.properties import examples
from tests.support.simulated import Machine, assert_nothing_held, costs_of, events, machine

Forge = Callable[[Machine, Binding], tuple[BindingObject, int, int]]
HUGE = 2**80


def key_of(binding: Binding, *, number: int | None = None, key: int | None = None) -> BindingObject:
    """Return a Binding Object like the client's, with another number or key."""
    return BindingObject(binding.number if number is None else number, binding.key if key is None else key, "tests")


def address_of(binding: Binding, procedure: int = 0, member: int = 0) -> int:
    return binding.groups[procedure].members[member].address


def numbered(number: int) -> Forge:
    return lambda one, binding: (key_of(binding, number=number), 0, address_of(binding))


def with_key(change: int) -> Forge:
    return lambda one, binding: (key_of(binding, key=binding.key ^ change), 0, address_of(binding))


def anothers(one: Machine, binding: Binding) -> tuple[BindingObject, int, int]:
    other = one.kernel.bind(one.kernel.domain("other"), "tests")
    return key_of(other), 0, address_of(other)


def revoked(one: Machine, binding: Binding) -> tuple[BindingObject, int, int]:
    old = one.binding()
    one.kernel.revoke_grant(old, BindingRevoked("a test took it back"))
    return key_of(old), 0, address_of(old)


def anothers_astack(one: Machine, binding: Binding) -> tuple[BindingObject, int, int]:
    return key_of(binding), 0, address_of(one.kernel.bind(one.kernel.domain("other"), "tests"))


def procedure(number: int) -> Forge:
    return lambda one, binding: (key_of(binding), number, address_of(binding))


def address(offset: int) -> Forge:
    return lambda one, binding: (key_of(binding), 1, address_of(binding, 1) + offset)


FORGERIES: dict[str, tuple[Forge, type[CallError]]] = {
    "a number nobody was given": (numbered(77), ForgedBinding),
    "a negative number": (numbered(-1), ForgedBinding),
    "a number that no word holds": (numbered(HUGE), ForgedBinding),
    "a negative number that no word holds": (numbered(-HUGE), ForgedBinding),
    "a guessed key": (with_key(1), ForgedBinding),
    "a key that no word holds": (with_key(HUGE), ForgedBinding),
    "another domain's Binding Object": (anothers, ForgedBinding),
    "a revoked binding": (revoked, BindingRevoked),
    "procedure -1": (procedure(-1), NoSuchProcedure),
    "one procedure too many": (procedure(4), NoSuchProcedure),
    "a procedure that no word holds": (procedure(HUGE), NoSuchProcedure),
    "another domain's A-stack": (anothers_astack, WrongAStack),
    "the middle of an A-stack": (address(4), WrongAStack),
    "a byte off": (address(1), WrongAStack),
    "another procedure's A-stack": (address(-4), WrongAStack),
    "behind the last A-stack": (address(5 * 12), WrongAStack),
    "address 0": (lambda one, binding: (key_of(binding), 0, 0), WrongAStack),
    "an address below 0": (address(-HUGE), WrongAStack),
    "an address that no word holds": (address(HUGE), WrongAStack),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_a_forgery_is_refused_and_nothing_is_held(forgery: str) -> None:
    forge, error = FORGERIES[forgery]
    one = machine()
    binding = one.binding()
    refused: list[str] = []

    def body() -> None:
        tests = one.tests()
        assert tests.add(1, 2) == 3
        forged = forge(one, binding)
        counts = one.kernel.counts
        before = (counts.linkages_pushed, counts.cross_domain, counts.astacks_taken)
        with pytest.raises(error) as caught:
            call(one.kernel, *forged)
        refused.append(str(caught.value))
        assert (counts.linkages_pushed, counts.cross_domain, counts.astacks_taken) == before
        assert_nothing_held_by_calls(one)
        assert tests.add(3, 4) == 7
        call(one.kernel, key_of(binding), 0, address_of(binding))

    one.run(body)
    assert len(refused) == 1
    assert "\n" not in refused[0]
    assert_nothing_held(one.kernel)
    assert len(one.kernel.log.digest()) == 32


def assert_nothing_held_by_calls(one: Machine) -> None:
    assert one.kernel.calls_in_progress() == 0
    groups = [group for binding in one.kernel.bindings.values() for group in binding.groups]
    assert [group.free_count for group in groups] == [len(group.members) for group in groups]


def test_of_what_was_revoked_long_ago_the_reason_is_no_longer_kept() -> None:
    one = machine()
    bindings = [one.binding() for _ in range(MOST_REASONS + 1)]
    for number, binding in enumerate(bindings):
        one.kernel.revoke_grant(binding, BindingRevoked(f"a test took back {number}"))
    said: list[str] = []

    def body() -> None:
        for binding in (bindings[0], bindings[1], bindings[-1]):
            with pytest.raises(CallError) as caught:
                call(one.kernel, key_of(binding), 0, address_of(binding))
            said.append(str(caught.value))

    one.run(body)
    assert said == [
        "Binding Object 1: not one that domain client was given",
        "a test took back 1",
        f"a test took back {MOST_REASONS}",
    ]


def test_a_refusal_costs_the_way_into_the_kernel_and_out() -> None:
    one = machine()
    binding = one.binding()
    took = []

    def body() -> None:
        since = one.kernel.now_ns
        with pytest.raises(NoSuchProcedure):
            call(one.kernel, key_of(binding), 9, address_of(binding))
        took.append(one.kernel.now_ns - since)

    one.run(body)
    assert took == [18_000 + 20_000 + 18_000]


def test_a_client_that_alters_its_own_binding_object_locks_itself_out() -> None:
    one = machine()
    binding = one.binding()
    other = one.binding()
    refused = []

    def body() -> None:
        binding.client_key.key = 1
        with pytest.raises(ForgedBinding):
            call(one.kernel, binding.client_key, 0, address_of(binding))
        refused.append(1)
        call(one.kernel, other.client_key, 0, address_of(other))

    one.run(body)
    assert refused == [1]
    assert_nothing_held(one.kernel)


def test_an_astack_serves_one_call_at_once() -> None:
    one = machine(before=lambda: one.server.sleep(1000))
    binding = one.binding()
    order = []

    def first() -> None:
        call(one.kernel, key_of(binding), 0, address_of(binding))
        order.append("first returned")

    def second() -> None:
        one.client.sleep(150)
        with pytest.raises(LinkageInUse):
            call(one.kernel, key_of(binding), 0, address_of(binding))
        order.append("second refused")
        call(one.kernel, key_of(binding), 0, address_of(binding, member=1))
        order.append("second returned elsewhere")

    one.run(first, second)
    assert order == ["second refused", "first returned", "second returned elsewhere"]
    assert_nothing_held(one.kernel)


@examples(60)
@given(after=st.integers(0, 200), processors=st.integers(2, 3))
def test_whenever_a_second_thread_uses_an_astack_both_calls_end_well_or_refused(after: int, processors: int) -> None:
    """An A-stack belongs to one call: on the way to the server, in it, and on the way back.

    The way back takes longest here.
    """
    costs = costs_of(2, {"kernel_call": 20, "kernel_return": 80})
    one = machine(costs, processors=processors, before=lambda: one.server.compute(40))
    binding = one.binding()
    ended = []

    def caller(wait: int) -> Callable[[], None]:
        def body() -> None:
            one.client.compute(wait)
            try:
                call(one.kernel, key_of(binding), 0, address_of(binding))
                ended.append("returned")
            except LinkageInUse:
                ended.append("refused")

        return body

    one.run(caller(0), caller(after))
    assert len(ended) == 2
    assert "returned" in ended
    assert_nothing_held(one.kernel)


@examples(60)
@given(
    number=st.integers(),
    key=st.integers(),
    procedure=st.integers(-2, 6),
    address=st.integers(-1, 4096) | st.integers(),
)
def test_only_what_the_kernel_gave_opens_anything(number: int, key: int, procedure: int, address: int) -> None:
    one = machine()
    binding = one.binding()
    refused = []

    def body() -> None:
        with pytest.raises(ForgedBinding):
            call(one.kernel, BindingObject(number, key, "tests"), procedure, address)
        try:
            call(one.kernel, key_of(binding), procedure, address)
        except (NoSuchProcedure, WrongAStack) as error:
            refused.append(error)

    one.run(body)
    starts = [astack.address for astack in binding.groups[procedure].members] if 0 <= procedure < 4 else []
    assert bool(refused) == (address not in starts)
    assert_nothing_held(one.kernel)


def test_a_refusal_is_logged_with_the_number_that_was_given() -> None:
    sink = BytesIO()
    one = machine(sink=sink)
    binding = one.binding()

    def body() -> None:
        for number in (1, 77, HUGE + 3):
            with pytest.raises(ForgedBinding):
                call(one.kernel, BindingObject(number, 0, "tests"), 0, address_of(binding))

    one.run(body)
    one.kernel.log.flush()
    assert [event[3] for event in events(sink) if event[1] == log.REFUSED] == [1, 77, 3]


def test_a_call_outside_any_simulated_thread_says_where_to_make_it() -> None:
    one = machine()
    binding = one.binding()
    with pytest.raises(RunFailed, match="outside any simulated thread; make it in the body of one"):
        call(one.kernel, key_of(binding), 0, address_of(binding))
    one.run(lambda: call(one.kernel, key_of(binding), 0, address_of(binding)))
    assert_nothing_held(one.kernel)
