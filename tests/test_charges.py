"""THE property of the simulation: a call takes what it is charged, and a step raised by d moves it by d a charge."""

import inspect
import types
from typing import Annotated

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lrpc.domains.clerk import Clerk
from lrpc.domains.interface import Interface
from lrpc.domains.stubs import Transfer, bind
from lrpc.domains.wires import Bool, FixedBytes, Float64, Immutable, Int8, Int32, Int64, UInt16, UpTo
from lrpc.kernel.simulated.costs import PARTS, STEPS, CostModel
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from tests.simulated import FIREFLY, TRANSFERS, assert_nothing_held, charged, costs_of

LOCAL = [*PARTS["lrpc"], *PARTS["message passing"]]


def values_of(hint: object) -> st.SearchStrategy[object]:
    """Return values of a type that a procedure may take."""
    fixed: dict[object, st.SearchStrategy[object]] = {
        Int8: st.integers(-(2**7), 2**7 - 1),
        UInt16: st.integers(0, 2**16 - 1),
        Int32: st.integers(-(2**31), 2**31 - 1),
        Int64: st.integers(-(2**63), 2**63 - 1),
        Float64: st.floats(allow_nan=False),
        Bool: st.booleans(),
    }
    if hint in fixed:
        return fixed[hint]
    note = next(note for note in hint.__metadata__ if note is not Immutable)  # type: ignore[attr-defined]
    if isinstance(note, FixedBytes):
        return st.binary(min_size=note.size, max_size=note.size)
    text = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda value: len(value.encode()) <= note.most)
    return text if hint.__origin__ is str else st.binary(max_size=note.most)  # type: ignore[attr-defined]


HINTS = st.one_of(
    st.sampled_from([Int8, UInt16, Int32, Int64, Float64, Bool]),
    st.integers(0, 300).map(lambda size: Annotated[bytes, FixedBytes(size)]),
    st.integers(0, 300).map(lambda most: Annotated[bytes, UpTo(most)]),
    st.integers(0, 300).map(lambda most: Annotated[str, UpTo(most)]),
    st.integers(0, 300).map(lambda size: Annotated[bytes, FixedBytes(size), Immutable]),
)


@st.composite
def procedures(draw: st.DrawFn) -> tuple[type[Interface], tuple[object, ...], tuple[object, ...]]:
    """Return an interface of one procedure, and arguments and results for it."""
    takes = draw(st.lists(HINTS, max_size=4))
    gives = draw(st.lists(HINTS, max_size=3))
    names = [f"p{number}" for number in range(len(takes))]

    def body(self: object, *values: object) -> object: ...

    body.__annotations__ = dict(zip(names, takes, strict=True))
    body.__annotations__["return"] = tuple[tuple(gives)] if gives else None  # type: ignore[misc]
    parameters = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in ["self", *names]]
    vars(body)["__signature__"] = inspect.Signature(parameters)
    interface = types.new_class("Drawn", (Interface,), exec_body=lambda space: space.update(body=body))
    arguments = tuple(draw(values_of(hint)) for hint in takes)
    results = tuple(draw(values_of(hint)) for hint in gives)
    return interface, arguments, results


COSTS = st.builds(
    lambda steps, tagged, pages: costs_of(1, steps, tagged=tagged, pages=pages),
    st.dictionaries(st.sampled_from(LOCAL), st.integers(0, 500), max_size=len(LOCAL)),
    st.booleans(),
    st.tuples(st.integers(0, 30), st.integers(0, 30)),
)


def measure(
    costs: CostModel,
    drawn: tuple[type[Interface], tuple[object, ...], tuple[object, ...]],
    transfer: Transfer,
    earlier_calls: int,
) -> tuple[int, dict[str, int]]:
    """Return what a call costs in ns and the steps it charges, after some earlier calls."""
    interface, arguments, results = drawn
    given: list[tuple[object, ...]] = []

    class Server:
        def body(self, *values: object) -> object:
            given.append(values)
            return results or None

    kernel = Kernel("m", costs, debug=True)
    client = kernel.domain("client")
    Clerk().export(kernel.domain("server"), interface, Server(), "drawn")
    found: list[tuple[int, list[int]]] = []
    returned: list[object] = []

    def body() -> None:
        call = vars(bind(client, interface, "drawn", transfer))["body"]
        for _ in range(earlier_calls + 1):
            found.append(charged(kernel, lambda: returned.append(call(*arguments))))

    client.spawn(body)
    kernel.run(FOREVER)
    assert_nothing_held(kernel)
    assert given == [arguments] * (earlier_calls + 1)
    assert returned == [results or None] * (earlier_calls + 1)
    ns, counts = found[-1]
    return ns, dict(zip(STEPS, counts, strict=True))


def with_step(costs: CostModel, step: str, us: int) -> CostModel:
    named = {name: int(one.us) for name, one in costs.file.steps.items()} | {step: us}
    tlb = costs.file.tlb
    return costs_of(1, named, tagged=tlb.tagged, pages=(tlb.on_call.domain, tlb.on_return.domain))


@settings(deadline=None, max_examples=150)
@given(
    costs=COSTS,
    drawn=procedures(),
    transfer=st.sampled_from(TRANSFERS),
    earlier=st.integers(0, 1),
    step=st.sampled_from(LOCAL),
    by=st.integers(1, 300),
)
def test_raising_a_step_by_d_makes_a_call_longer_by_d_times_its_charges(
    costs: CostModel,
    drawn: tuple[type[Interface], tuple[object, ...], tuple[object, ...]],
    transfer: Transfer,
    earlier: int,
    step: str,
    by: int,
) -> None:
    ns, counts = measure(costs, drawn, transfer, earlier)
    assert ns == sum(count * costs.ns[STEPS.index(name)] for name, count in counts.items())
    more, same = measure(with_step(costs, step, int(costs.file.steps[step].us) + by), drawn, transfer, earlier)
    assert same == counts
    assert more - ns == by * 1000 * counts[step]


@settings(deadline=None, max_examples=30)
@given(drawn=procedures(), transfer=st.sampled_from(TRANSFERS))
def test_a_call_takes_the_sum_of_its_charges_to_a_nanosecond_for_each_copy(
    drawn: tuple[type[Interface], tuple[object, ...], tuple[object, ...]], transfer: Transfer
) -> None:
    ns, counts = measure(FIREFLY, drawn, transfer, 1)
    exact = sum(count * FIREFLY.file.steps[step].us * 1000 for step, count in counts.items() if count)
    assert abs(ns - exact) <= 3  # copies A, E and F, each rounded once


@settings(deadline=None, max_examples=30)
@given(drawn=procedures(), transfer=st.sampled_from(TRANSFERS))
def test_what_is_copied_is_what_was_passed(
    drawn: tuple[type[Interface], tuple[object, ...], tuple[object, ...]], transfer: Transfer
) -> None:
    interface, arguments, results = drawn
    _, counts = measure(costs_of(), drawn, transfer, 0)
    procedure = interface.procedures[0]
    passed, returned = len(procedure.arguments.pack(arguments)), len(procedure.results.pack(results))
    immutable = [value.wire.size for value in procedure.arguments.values if value.immutable]
    if transfer == "lrpc":
        assert counts["copy_value"] == len(arguments) + len(immutable) + len(results)
        assert counts["copy_byte"] == passed + sum(immutable) + returned
    else:
        assert counts["message_value"] == len(arguments) + len(immutable) + len(results)
        assert counts["message_argument_byte"] == passed + sum(immutable)
        assert counts["message_result_byte"] == returned


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_value_of_no_bytes_is_still_a_value(transfer: Transfer) -> None:
    class Nothing(Interface):
        def body(self, a: Annotated[bytes, FixedBytes(0)]) -> tuple[Annotated[bytes, FixedBytes(0)]]:
            raise NotImplementedError

    _, counts = measure(costs_of(), (Nothing, (b"",), (b"",)), transfer, 0)
    step = "copy_value" if transfer == "lrpc" else "message_value"
    assert counts[step] == 2
