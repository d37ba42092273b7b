"""A-stacks: one pair of domains shares them, a LIFO queue holds the free ones, callers queue.

Freed A-stacks are overwritten with poison in debug mode.
"""

from typing import Annotated

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import FixedBytes, Int64
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.descriptors import ProcedureDescriptor
from lrpc.kernel.errors import AccessFault, BindingRefused, BindingRevoked, CallError, CallFailed, ProcedureRaised
from lrpc.kernel.simulated.astacks import AStack
from lrpc.kernel.simulated.bindings import LARGEST_BINDING, Binding
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.memory import POISON, Region
from tests.support.properties import examples
from tests.support.simulated import BIG, FIREFLY, Machine, assert_nothing_held, costs_of, machine


class Slow(Interface):
    """A job whose procedures take one call at a time."""

    @procedure(simultaneous=1)
    def wait(self, us: Int64) -> None: ...

    @procedure(simultaneous=3)
    def quick(self) -> None: ...


def slow(processors: int = 1, costs_us: int = 1) -> Machine:
    """Return a machine whose server "slow" sleeps for as long as a call asks."""
    one = machine(costs_of(costs_us, pages=(0, 0)), processors=processors)

    class Server:
        def wait(self, us: int) -> None:
            one.server.sleep(us)

        def quick(self) -> None: ...

    Clerk().export(one.server, Slow, Server(), "slow")
    return one


def region_of(binding: Binding) -> Region:
    """Return the contiguous region that a binding's A-stacks were made in."""
    return binding.groups[0].members[0].region


def test_the_astack_freed_last_is_taken_first() -> None:
    one = machine()
    group = one.binding().groups[0]
    taken: list[AStack] = []

    def body() -> None:
        taken.extend(group.take(one.kernel.running_processor()) for _ in range(3))
        for astack in (taken[1], taken[0]):
            group.put_back(astack, one.kernel.running_processor())
        taken.extend(group.take(one.kernel.running_processor()) for _ in range(2))
        for astack in (taken[2], taken[1], taken[0]):
            group.put_back(astack, one.kernel.running_processor())

    one.run(body)
    assert taken[3:] == [taken[0], taken[1]]
    assert_nothing_held(one.kernel)


@given(st.lists(st.booleans(), max_size=60))
def test_a_queue_is_a_stack_whatever_is_taken_and_freed(steps: list[bool]) -> None:
    one = machine()
    group = one.binding().groups[0]
    model = list(group.members)
    held: list[AStack] = []

    def body() -> None:
        for takes in steps:
            if takes and model:
                held.append(group.take(one.kernel.running_processor()))
                assert held[-1] is model.pop()
            elif held and not takes:
                model.append(held.pop(0))
                group.put_back(model[-1], one.kernel.running_processor())
        while held:
            group.put_back(held.pop(), one.kernel.running_processor())

    one.run(body)
    assert_nothing_held(one.kernel)


def test_calls_one_after_another_use_one_astack_and_one_estack() -> None:
    one = machine()

    def body() -> None:
        tests = one.tests()
        for _ in range(20):
            tests.null()

    one.run(body)
    used = [astack for astack in one.kernel.bindings[1].groups[0].members if astack.estack is not None]
    assert used == one.kernel.bindings[1].groups[0].members[-1:]
    assert one.server.estacks.made == 1


def test_without_a_free_astack_callers_wait_first_come_first_served() -> None:
    one = slow()
    order: list[int] = []
    tests = bind(one.client, Slow, "slow")

    def caller(number: int) -> None:
        tests.wait(1000)
        order.append(number)

    for number in range(6):
        one.client.spawn(lambda number=number: caller(number))  # type: ignore[misc]
    one.kernel.run(FOREVER)
    assert order == list(range(6))
    assert one.kernel.bindings[1].groups[0].waiting.waits == 5
    assert one.kernel.now_ns > 6_000_000
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("ended", ["revoked", "terminated"])
def test_who_is_woken_for_an_astack_and_finds_the_binding_ended_is_told(ended: str) -> None:
    one = slow()
    calls = bind(one.client, Slow, "slow")
    told: list[type[CallError]] = []

    def first() -> None:
        calls.wait(1000)  # then hands its A-stack to the waiter, which has no processor yet
        if ended == "revoked":
            one.server.revoke("client", "slow", "enough")
        else:
            one.server.terminate()

    def second() -> None:
        with pytest.raises(CallError) as caught:
            calls.wait(0)
        told.append(caught.type)

    one.run(first, second)
    assert told == [BindingRevoked if ended == "revoked" else CallFailed]
    assert_nothing_held(one.kernel)


def test_who_asks_first_in_virtual_time_gets_the_astack() -> None:
    one = slow(processors=2)
    tests = bind(one.client, Slow, "slow")
    order: list[str] = []

    def earlier_simulated_but_later() -> None:
        for _ in range(20):
            one.kernel.running_processor().spend(one.kernel.charges.trap)
        tests.wait(100)
        order.append("later")

    def earlier() -> None:
        one.client.compute(5)
        tests.wait(100)
        order.append("earlier")

    one.run(earlier_simulated_but_later, earlier)
    assert order == ["earlier", "later"]


def test_a_waiting_caller_does_not_keep_others_from_other_procedures() -> None:
    one = slow()
    tests = bind(one.client, Slow, "slow")
    order: list[str] = []

    def waits() -> None:
        tests.wait(1000)
        order.append("wait")

    def passes() -> None:
        tests.quick()
        order.append("quick")

    one.run(waits, waits, passes)
    assert order == ["quick", "wait", "wait"]


@examples(60)
@given(
    arrivals=st.lists(st.integers(0, 60), min_size=2, max_size=12),
    processors=st.integers(1, 4),
    keeps=st.integers(0, 20),
)
def test_however_callers_arrive_each_gets_an_astack(arrivals: list[int], processors: int, keeps: int) -> None:
    one = slow(processors)
    tests = bind(one.client, Slow, "slow")
    done: list[int] = []

    def caller(number: int) -> None:
        one.client.sleep(arrivals[number])
        for _ in range(3):
            tests.wait(keeps)
            tests.quick()
        done.append(number)

    for number in range(len(arrivals)):
        one.client.spawn(lambda number=number: caller(number))  # type: ignore[misc]
    one.kernel.run(FOREVER)
    assert sorted(done) == list(range(len(arrivals)))
    assert one.kernel.counts.astacks_taken == one.kernel.counts.linkages_pushed == 6 * len(arrivals)
    assert_nothing_held(one.kernel)


@examples(80)
@given(
    visits=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5), st.integers(0, 5)), min_size=8, max_size=20),
    processors=st.integers(1, 4),
)
def test_astacks_are_had_in_the_order_in_which_they_were_asked_for(
    visits: list[tuple[int, int, int]], processors: int
) -> None:
    one = machine(costs_of(0, pages=(0, 0)), processors=processors)
    group = one.binding().groups[0]
    had_at: dict[tuple[int, int], int] = {}  # in order of asking

    def caller(number: int) -> None:
        before, holding, between = visits[number]
        one.client.sleep(before)
        for turn in range(2):
            one.client.compute(0)
            had_at[number, turn] = -1
            astack = group.take(one.kernel.running_processor())
            had_at[number, turn] = one.kernel.now_ns
            one.client.sleep(holding)
            one.client.compute(0)
            group.put_back(astack, one.kernel.running_processor())
            one.client.sleep(between)

    for number in range(len(visits)):
        one.client.spawn(lambda number=number: caller(number))  # type: ignore[misc]
    one.kernel.run(FOREVER)
    assert list(had_at.values()) == sorted(had_at.values())
    assert_nothing_held(one.kernel)


def test_a_third_domain_faults_on_the_astacks_of_a_pair() -> None:
    one = machine()
    group = one.binding().groups[3]
    address, size = group.members[0].address, group.size
    for domain in (one.client, one.server):
        domain.memory.store(address, b"x" * size)
        assert domain.memory.load(address, size) == b"x" * size
    for domain in (one.kernel.domain("third"), one.kernel.domain("kernel")):
        with pytest.raises(AccessFault, match=f"domain {domain.name}: read at address {address:#x}"):
            domain.memory.load(address, 1)
        with pytest.raises(AccessFault, match="write"):
            domain.memory.store(address, b"y")
    assert one.client.memory.load(address, size) == b"x" * size


def test_two_clients_of_one_server_share_no_astack() -> None:
    one = machine()
    other = one.kernel.domain("other")
    mine, others = one.binding(), one.kernel.bind(other, "tests")
    with pytest.raises(AccessFault):
        other.memory.load(region_of(mine).base, 1)
    with pytest.raises(AccessFault):
        one.client.memory.load(region_of(others).base, 1)
    assert region_of(mine).limit <= region_of(others).base


def test_a_server_that_lost_its_mapping_faults_and_its_caller_is_told() -> None:
    one = machine()
    said = []

    def body() -> None:
        tests = one.tests()
        one.server.memory.unmap(region_of(one.kernel.bindings[1]))
        with pytest.raises(ProcedureRaised, match="AccessFault: domain server: read and write"):
            tests.null()
        said.append(1)

    one.run(body)
    assert said == [1]
    assert_nothing_held(one.kernel)


def test_astacks_of_an_interface_are_contiguous_and_never_overlap() -> None:
    binding = machine().binding()
    members = [astack for group in binding.groups for astack in group.members]
    ends = [astack.address + astack.group.size for astack in members]
    assert [astack.address for astack in members] == [binding.groups[0].members[0].region.base, *ends[:-1]]
    assert ends[-1] == binding.groups[0].members[0].region.limit
    assert [group.size for group in binding.groups] == [4, 12, 200, 400]
    assert [len(group.members) for group in binding.groups] == [5, 5, 5, 5]


@given(st.integers(0, 2000), st.integers(0, 2000))
@example(0, 0)
def test_an_astack_holds_arguments_and_results_in_whole_words(argument: int, result: int) -> None:
    size = ProcedureDescriptor("p", lambda buffer, offset: b"", argument, result).astack_size
    assert size % 4 == 0
    assert size >= max(4, argument + result)
    assert size - (argument + result) < 4 or size == 4


def test_nothing_of_a_call_is_left_on_a_freed_astack_in_debug_mode() -> None:
    one = machine()
    seen = []

    def body() -> None:
        tests = one.tests()
        assert tests.big_in_out(BIG) == BIG[::-1]
        group = one.kernel.bindings[1].groups[3]
        seen.append(one.client.memory.load(group.members[-1].address, group.size))
        seen.append(one.client.memory.load(group.members[-2].address, group.size))

    one.run(body)
    assert seen == [bytes([POISON]) * 400, bytes(400)]


def test_a_machine_outside_debug_mode_does_not_spend_time_on_poison() -> None:
    kernel = Kernel("m", FIREFLY)
    one = Machine(kernel, kernel.domain("server"), kernel.domain("client"))

    class Server:
        def wait(self, us: int) -> None: ...

        def quick(self) -> None: ...

    Clerk().export(one.server, Slow, Server(), "slow")
    one.run(lambda: bind(one.client, Slow, "slow").wait(7))
    group = kernel.bindings[1].groups[0]
    assert one.client.memory.load(group.members[0].address, 4) == b"\x07\0\0\0"


def test_more_astacks_than_may_be_mapped_are_refused_when_they_are_exported() -> None:
    class Wide(Interface):
        """An interface with more A-stack bytes than may be mapped."""

        @procedure(simultaneous=1024)
        def put(self, data: Annotated[bytes, FixedBytes(LARGEST_BINDING // 1024 + 1)]) -> None: ...

    class Server:
        def put(self, data: bytes) -> None: ...

    one = machine()
    with pytest.raises(BindingRefused, match=f"at most {LARGEST_BINDING} are mapped"):
        Clerk().export(one.server, Wide, Server(), "wide")
    assert "wide" not in one.kernel.exports


def test_procedures_that_share_astacks_count_as_what_is_mapped_for_them_together() -> None:
    class Shared(Interface):
        """Either alone can be mapped; both counts times both sizes cannot."""

        @procedure(simultaneous=1024)
        def often(self, data: Annotated[bytes, FixedBytes(60 << 10)]) -> None: ...

        @procedure(simultaneous=1)
        def large(self, data: Annotated[bytes, FixedBytes(72 << 10)]) -> None: ...

    class Server:
        def often(self, data: bytes) -> None: ...

        def large(self, data: bytes) -> None: ...

    one = machine()
    with pytest.raises(BindingRefused, match=f"A-stacks of {1024 * (72 << 10)} bytes; at most {LARGEST_BINDING} are"):
        Clerk().export(one.server, Shared, Server(), "shared")
