"""Direct transfer: a client's thread runs through the domains it calls and returns.

Nothing stays allocated.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Int32
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import ArgumentError, CallError, Panic, ProcedureRaised, RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.threads import Thread
from lrpc.kernel.states import LINKAGE_CALLING
from tests.support.properties import examples
from tests.support.simulated import TRANSFERS, FourTests, Machine, assert_nothing_held, charged, costs_of, machine


class Hop(Interface):
    """An interface whose procedure calls the next domain."""

    def hop(self, left: Int32) -> Int32:
        raise NotImplementedError


class HopServer:
    """Calls the next server, and takes a note on the way there and back."""

    def __init__(self, one: Machine, number: int, transfer: Transfer, notes: list[str]) -> None:
        self.one, self.number, self.transfer, self.notes = one, number, transfer, notes

    def hop(self, left: int) -> int:
        domain = self.one.kernel.running_thread().domain
        self.notes.append(f"{domain.name} in")
        found = 0
        if left:
            found = bind(domain, Hop, f"hop{self.number + 1}", self.transfer).hop(left - 1)
        self.notes.append(f"{self.one.kernel.running_thread().domain.name} out")
        return found + 1


def chain(length: int, transfer: Transfer, notes: list[str]) -> Machine:
    one = machine()
    for number in range(length):
        server = HopServer(one, number, transfer, notes)
        Clerk().export(one.kernel.domain(f"d{number}"), Hop, server, f"hop{number}")
    return one


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_nested_calls_return_in_order(transfer: Transfer) -> None:
    notes: list[str] = []
    one = chain(6, transfer, notes)
    found: list[int] = []
    one.run(lambda: found.append(bind(one.client, Hop, "hop0", transfer).hop(5)))
    assert found == [6]
    assert notes == [f"d{n} in" for n in range(6)] + [f"d{n} out" for n in reversed(range(6))]
    assert_nothing_held(one.kernel)


def test_one_thread_runs_all_the_way_under_lrpc() -> None:
    threads: set[Thread] = set()
    depth: list[int] = []
    notes: list[str] = []
    one = chain(4, "lrpc", notes)
    one.run(lambda: None)

    class Last:
        def hop(self, left: int) -> int:
            thread = one.kernel.running_thread()
            threads.add(thread)
            depth.append(len(thread.linkages))
            assert [linkage.state for linkage in thread.linkages] == [LINKAGE_CALLING] * len(thread.linkages)
            return 0

    Clerk().export(one.kernel.domain("last"), Hop, Last(), "hop4")

    def body() -> None:
        threads.add(one.kernel.running_thread())
        bind(one.client, Hop, "hop0").hop(4)

    one.run(body)
    assert len(threads) == 1
    assert depth == [5]
    assert one.kernel.threads_made - one.kernel.clerks_made == 2
    assert_nothing_held(one.kernel)


def test_a_call_may_come_back_into_a_domain_that_is_already_on_its_way() -> None:
    one = machine()
    found: list[int] = []

    class Ping:
        def hop(self, left: int) -> int:
            return bind(one.kernel.domain("ping"), Hop, "pong").hop(left - 1) + 1 if left else 0

    class Pong:
        def hop(self, left: int) -> int:
            return bind(one.kernel.domain("pong"), Hop, "ping").hop(left - 1) + 1 if left else 0

    Clerk().export(one.kernel.domain("ping"), Hop, Ping(), "ping")
    Clerk().export(one.kernel.domain("pong"), Hop, Pong(), "pong")
    one.run(lambda: found.append(bind(one.client, Hop, "ping").hop(9)))
    assert found == [9]
    assert_nothing_held(one.kernel)


def test_a_call_into_the_callers_own_domain_is_a_procedure_call() -> None:
    one = machine()
    found: list[object] = []

    def body() -> None:
        tests = bind(one.server, FourTests, "tests")
        ns, counts = charged(one.kernel, lambda: found.append(tests.add(2, 3)))
        found.append((ns, sum(counts)))

    one.server.spawn(body)
    one.kernel.run(FOREVER)
    assert found == [5, (7_000, 1)]
    counts = one.kernel.counts
    assert (counts.within_domain, counts.cross_domain, counts.astacks_taken) == (1, 0, 0)
    assert one.kernel.bindings == {}


def test_within_a_domain_errors_come_out_unchanged() -> None:
    def fail() -> None:
        raise KeyError("mine")

    one = machine(before=fail)
    caught = []

    def body() -> None:
        with pytest.raises(KeyError, match="mine"):
            bind(one.server, FourTests, "tests").null()
        caught.append(1)

    one.server.spawn(body)
    one.kernel.run(FOREVER)
    assert caught == [1]


def test_within_a_domain_results_are_checked_as_everywhere() -> None:
    one = machine()
    caught = []

    class Server:
        def hop(self, left: int) -> object:
            return "wrong"

    Clerk().export(one.server, Hop, Server(), "hop")

    def body() -> None:
        with pytest.raises(ArgumentError, match=r"Hop\.hop: result: Int32 takes int, not str"):
            bind(one.server, Hop, "hop").hop(1)
        caught.append(1)

    one.server.spawn(body)
    one.kernel.run(FOREVER)
    assert caught == [1]


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_what_a_procedure_raises_crosses_as_its_name_and_text_and_nothing_leaks(transfer: Transfer) -> None:
    def fail() -> None:
        raise ValueError("no such file")

    one = machine(before=fail)
    caught: list[ProcedureRaised] = []

    def body() -> None:
        tests = one.tests(transfer)
        for _ in range(7):  # more than there are A-stacks
            with pytest.raises(ProcedureRaised) as error:
                tests.null()
            caught.append(error.value)
            assert tests.add(1, 2) == 3

    one.run(body)
    assert [(one.kind, one.message, str(one)) for one in caught] == [
        ("ValueError", "no such file", "ValueError: no such file")
    ] * 7
    assert all(error.__cause__ is None and error.__context__ is None for error in caught)
    line = fail.__code__.co_firstlineno + 1
    assert {tuple(error.__notes__) for error in caught} == {
        (f"raised in the server at {__file__}, line {line}, in fail",)
    }
    assert_nothing_held(one.kernel)


def test_a_call_that_raises_has_carried_no_results() -> None:
    class Server:
        def hop(self, left: int) -> int:
            if left:
                raise ValueError("no further")
            return left

    one = machine()
    Clerk().export(one.server, Hop, Server(), "hop")

    def body() -> None:
        hop = bind(one.client, Hop, "hop")
        hop.hop(0)
        for _ in range(2):
            with pytest.raises(ProcedureRaised):
                hop.hop(1)

    one.run(body)
    assert one.kernel.astack_bytes.counts == {8: 1, 4: 2}


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_an_error_without_text_is_named(transfer: Transfer) -> None:
    def fail() -> None:
        raise StopIteration

    one = machine(before=fail)
    said = []

    def body() -> None:
        with pytest.raises(ProcedureRaised) as error:
            one.tests(transfer).null()
        said.append(str(error.value))

    one.run(body)
    assert said == ["StopIteration"]


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize("wrong", ["five", 2**31, 1.5, True, None, (1, 2), b"5"])
def test_a_result_of_the_wrong_type_is_an_error_for_the_caller_and_no_crash(transfer: Transfer, wrong: object) -> None:
    one = machine()
    said: list[str] = []

    class Server:
        def hop(self, left: int) -> object:
            return wrong if left else 0

    Clerk().export(one.server, Hop, Server(), "hop")

    def body() -> None:
        hop = bind(one.client, Hop, "hop", transfer)
        with pytest.raises(ProcedureRaised) as error:
            hop.hop(1)
        said.append(error.value.kind)
        assert error.value.message.startswith("Hop.hop: result: ")
        assert hop.hop(0) == 0

    one.run(body)
    assert said == ["ArgumentError"]
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_errors_pass_through_every_domain_on_the_way_back(transfer: Transfer) -> None:
    one = chain(3, transfer, [])
    said = []

    class Last:
        def hop(self, left: int) -> int:
            raise OSError("disk")

    Clerk().export(one.kernel.domain("last"), Hop, Last(), "hop3")

    def body() -> None:
        with pytest.raises(ProcedureRaised) as error:
            bind(one.client, Hop, "hop0", transfer).hop(3)
        said.append(str(error.value))

    one.run(body)
    assert said == ["ProcedureRaised: OSError: disk"]  # however many servers passed it on
    assert_nothing_held(one.kernel)


def test_a_servers_catch_all_does_not_hide_a_broken_kernel() -> None:
    def fail() -> None:
        try:
            raise Panic("broken")
        except Exception:
            pytest.fail("a Panic was caught")

    one = machine(before=fail)
    with pytest.raises(Panic, match="broken"):
        one.run(lambda: one.tests().null())


def test_what_a_program_raises_ends_the_run_and_says_where() -> None:
    one = machine()

    def body() -> None:
        one.client.compute(1.5)
        raise ValueError("mine")

    one.client.spawn(body, "worker")
    with pytest.raises(
        RunFailed, match=r"^machine m, thread worker of domain client, at 1\.500 µs: ValueError: mine$"
    ) as error:
        one.kernel.run(FOREVER)
    assert isinstance(error.value.__cause__, ValueError)


@examples(80)
@given(
    plans=st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["null", "add", "raise", "wrong", "nested", "forged"]), st.sampled_from(TRANSFERS)
            ),
            max_size=6,
        ),
        min_size=1,
        max_size=4,
    ),
    processors=st.integers(1, 3),
)
def test_whatever_threads_do_nothing_is_held_afterwards(
    plans: list[list[tuple[str, Transfer]]], processors: int
) -> None:
    one = machine(costs_of(3), processors=processors)

    class Odd:
        def hop(self, left: int) -> object:
            if left == 1:
                raise ValueError("odd")
            if left == 2:
                return "wrong"
            return bind(one.kernel.domain("middle"), FourTests, "tests").add(20, 22)

    Clerk().export(one.kernel.domain("middle"), Hop, Odd(), "odd")
    expected = {"raise": ProcedureRaised, "wrong": ProcedureRaised, "forged": ArgumentError}
    done: list[tuple[str, type[CallError] | None]] = []

    def work(plan: list[tuple[str, Transfer]]) -> None:
        for kind, transfer in plan:
            tests, odd = one.tests(transfer), bind(one.client, Hop, "odd", transfer)
            try:
                if kind == "null":
                    tests.null()
                elif kind == "add":
                    assert tests.add(1, 2) == 3
                elif kind == "forged":
                    tests.add(1, 2**40)
                else:
                    assert odd.hop({"raise": 1, "wrong": 2, "nested": 3}[kind]) == 42
            except CallError as error:
                done.append((kind, type(error)))
            else:
                done.append((kind, None))

    for plan in plans:
        one.client.spawn(lambda plan=plan: work(plan))  # type: ignore[misc]
    one.kernel.run(FOREVER)
    assert len(done) == sum(map(len, plans))
    assert all(ended is expected.get(kind) for kind, ended in done)
    assert_nothing_held(one.kernel)
    assert all(not thread.linkages for thread in one.kernel.threads)
