"""Calls of leaves that meet nobody are made at once, and are those that are made step by step."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from io import BytesIO
from typing import Final, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

import lrpc
from lrpc.domains.clerk import Clerk
from lrpc.domains.simulated.binding import bind
from lrpc.domains.simulated.stubs import ClientStub, PreparedCall, repeat
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.memory import WRITE
from tests.support.invariants import assert_nothing_left, assert_sound
from tests.support.simulated import FIREFLY, NO_BUS

_TLB: Final = NO_BUS.file.tlb.model_copy(update={"tagged": True})
TAGGED: Final = replace(NO_BUS, file=NO_BUS.file.model_copy(update={"tlb": _TLB}))


class Till(lrpc.Interface):
    """Procedures whose results are of fixed size, of any size, or an error."""

    def null(self) -> None: ...

    def add(self, amount: lrpc.Int32) -> lrpc.Int32: ...

    def long(self, size: lrpc.Int32) -> bytes: ...

    def sometimes(self, amount: lrpc.Int32) -> lrpc.Int32: ...


class TillServer(Till):
    """Does `meanwhile` in each procedure."""

    def __init__(self, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.meanwhile = meanwhile
        self.calls = 0

    def null(self) -> None:
        self.calls += 1
        self.meanwhile()

    def add(self, amount: int) -> int:
        self.calls += amount
        return self.calls

    def long(self, size: int) -> bytes:
        self.calls += 1
        return bytes([self.calls % 256]) * size

    def sometimes(self, amount: int) -> int:
        self.calls += amount
        if self.calls % 3 == 0:
            raise KeyError("third")
        return self.calls if self.calls % 4 else 2**40  # which is too large


class LeafTill(TillServer):
    """The same, each procedure declared a leaf."""

    null = lrpc.leaf(lambda self: TillServer.null(self))
    add = lrpc.leaf(lambda self, amount: TillServer.add(self, amount))
    long = lrpc.leaf(lambda self, size: TillServer.long(self, size))
    sometimes = lrpc.leaf(lambda self, amount: TillServer.sometimes(self, amount))


How = Literal["one by one", "repeated", "prepared"]
Calls = list[tuple[str, int, int]]  # of a procedure, with a number, so many times


class Made:
    """A machine with a till and a client of it, which makes some calls."""

    def __init__(self, till: TillServer, costs: CostModel = NO_BUS, **machine: object) -> None:
        self.till = till
        self.sink = BytesIO()
        self.kernel = Kernel("m", costs, sink=self.sink, debug=True, **machine)  # type: ignore[arg-type]
        self.server, self.client = self.kernel.domain("server"), self.kernel.domain("client")
        Clerk().export(self.server, Till, till, "till")
        self.stub = bind(self.client, Till, "till")
        self.told: list[object] = []

    def stub_of(self, procedure: str) -> ClientStub:
        """Return the stub of a procedure."""
        found = getattr(self.stub, procedure)
        assert isinstance(found, ClientStub)
        return found

    def make(self, calls: Calls, how: How = "one by one") -> "Made":
        """Run a thread that makes calls, one by one, as its stub repeats them, or prepared."""

        def body() -> None:
            for procedure, number, times in calls:
                stub, values = self.stub_of(procedure), () if procedure == "null" else (number,)
                try:
                    if how == "repeated":
                        repeat(stub, values, times)
                        continue
                    prepared = PreparedCall(stub, values)
                    for _ in range(times):
                        if how == "prepared":
                            prepared.make()
                        else:
                            self.told.append(stub(*values))
                except lrpc.CallError as error:
                    self.told.append(f"{type(error).__name__} {error}")

        self.client.spawn(body, "caller")
        self.kernel.run(FOREVER)
        assert_sound(self.kernel)
        assert_nothing_left(self.kernel)
        return self

    @property
    def shown(self) -> tuple[object, ...]:
        """Return all that a run shows but for what its calls returned."""
        kernel = self.kernel
        latencies = [(route, one.count, one.total, one.buckets) for route, one in kernel.latencies.items()]
        sizes = kernel.astack_bytes.counts
        clocks = [one.clock for one in kernel.processors]
        return self.sink.getvalue(), kernel.charges.counts(), kernel.counts, clocks, latencies, sizes

    @property
    def at_once(self) -> int:
        """Return how many of its calls were made at once."""
        return self.kernel.charges.whole_call.times


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["null", "add", "long", "sometimes"]), st.sampled_from([0, 1, 2, 2000]), st.integers(1, 5)
    ),
    max_size=6,
)


@given(
    calls=CALLS,
    costs=st.sampled_from([FIREFLY, NO_BUS, TAGGED]),
    processors=st.integers(1, 2),
    quantum=st.sampled_from([None, 300.0]),
)
def test_calls_at_once_show_what_calls_step_by_step_show(
    calls: Calls, costs: CostModel, processors: int, quantum: float | None
) -> None:
    machine = {"costs": costs, "processors": processors, "quantum_us": quantum}
    steps, leaves = (Made(till, **machine).make(calls) for till in (TillServer(), LeafTill()))  # type: ignore[arg-type]
    assert (leaves.shown, leaves.told) == (steps.shown, steps.told)


@given(calls=CALLS, costs=st.sampled_from([FIREFLY, NO_BUS, TAGGED]))
def test_repeated_and_prepared_calls_are_those_made_one_by_one(calls: Calls, costs: CostModel) -> None:
    one_by_one = Made(LeafTill(), costs).make(calls)
    errors = [told for told in one_by_one.told if isinstance(told, str)]
    ways: tuple[How, ...] = ("repeated", "prepared")
    for how in ways:
        made = Made(LeafTill(), costs).make(calls, how)
        assert made.shown == one_by_one.shown
        assert made.told == errors


@pytest.mark.parametrize(
    ("till", "machine", "calls", "made"),
    [
        (LeafTill(), {}, [("null", 0, 100)], 99),  # the first makes the E-stack
        (LeafTill(), {}, [("add", 1, 100)], 99),
        (LeafTill(), {"costs": TAGGED}, [("null", 0, 100)], 99),
        (LeafTill(), {"costs": FIREFLY}, [("null", 0, 100)], 99),  # whose bus one processor has to itself
        (LeafTill(), {"costs": FIREFLY, "processors": 2}, [("null", 0, 100)], 0),
        (LeafTill(), {"processors": 2, "domain_caching": True}, [("null", 0, 100)], 0),
        (LeafTill(), {}, [("long", 2000, 100)], 0),  # out of band
        (TillServer(), {}, [("null", 0, 100)], 0),
    ],
)
def test_only_calls_that_meet_nobody_are_made_at_once(
    till: TillServer, machine: dict[str, object], calls: Calls, made: int
) -> None:
    assert Made(till, **machine).make(calls).at_once == made  # type: ignore[arg-type]


def test_a_call_is_not_made_at_once_where_something_is_due_before_its_end() -> None:
    made = Made(LeafTill())
    waits: list[int] = []
    made.kernel.engine.schedule(157_000 * 50 + 1, lambda: waits.append(made.at_once))
    made.make([("null", 0, 100)])
    assert made.at_once == 98  # neither the first, nor the one during which that was due
    assert waits == [49]


@pytest.mark.parametrize("alter", ["number", "key", "other"])
def test_a_binding_object_that_is_altered_between_calls_is_found(alter: str) -> None:
    made = Made(LeafTill())
    stub = made.stub_of("null")

    def forge() -> None:
        if alter == "other":
            stub.key = made.stub_of("null").key.__class__(stub.key.number, 1, "till")
        else:
            setattr(stub.key, alter, 77)

    made.till.meanwhile = lambda: forge() if made.till.calls == 6 else None
    made.make([("null", 0, 100)], "repeated")
    assert made.kernel.counts.cross_domain == 6
    assert [str(told).split()[0] for told in made.told] == ["ForgedBinding"]


def test_the_arguments_of_a_call_at_once_lie_on_its_astack() -> None:
    seen: list[bytes] = []

    class Watching(LeafTill):
        @lrpc.leaf
        def add(self, amount: int) -> int:
            group = made.kernel.bindings[1].groups[1]
            seen.append(bytes(group.members[-1].region.bytes[group.members[-1].offset :][:4]))
            return amount

    made = Made(Watching())
    made.make([("add", 7, 2), ("add", 8, 1)])
    assert made.at_once == 2
    assert seen == [bytes([7, 0, 0, 0]), bytes([7, 0, 0, 0]), bytes([8, 0, 0, 0])]


def test_a_call_at_once_needs_its_domains_right_to_the_astack() -> None:
    made = Made(LeafTill())
    made.make([("add", 1, 3)])
    region = made.kernel.bindings[1].groups[1].members[0].region
    made.server.memory.map(region, WRITE)
    made.make([("add", 1, 1)])
    assert "AccessFault" in str(made.told[-1])


def test_a_leaf_at_once_reads_the_time_at_which_it_runs() -> None:
    def note(made: Made, read: list[int]) -> None:
        read.append(made.kernel.now_ns)

    times: list[list[int]] = []
    for kind in (TillServer, LeafTill):
        read: list[int] = []
        made = Made(kind())
        made.till.meanwhile = partial(note, made, read)
        made.make([("null", 0, 5)])
        times.append(read)
    assert times[0] == times[1]
    assert len(times[0]) == 5
