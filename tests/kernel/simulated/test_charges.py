"""THE property of the simulation: a call takes the time it is charged.

Raising a step's cost by d makes a call longer by d for each charge of that step.
"""

import inspect
import types
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Bool, Check, FixedBytes, Float64, Immutable, Int8, Int32, Int64, Reference, UInt16, UpTo
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.plans import PrivateValues
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.descriptors import Convention
from lrpc.kernel.simulated.costs import BUS_STEPS, PARTS, STEPS, Bus, CostModel, StepCost
from lrpc.kernel.simulated.disciplines import COPIES, Discipline
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from tests.support.properties import examples
from tests.support.simulated import FIREFLY, FourTests, FourTestsServer, assert_nothing_held, charged, costs_of, machine

LOCAL = [*PARTS["machine"], *PARTS["lrpc"], *PARTS["message passing"]]
LONG_US = 1e9  # longer than any call


@dataclass(frozen=True)
class Setting:
    """The mechanism that makes a call, and its circumstances."""

    transfer: Literal["lrpc", "message passing", "within a domain"] = "lrpc"
    discipline: Discipline = "shared buffers"
    convention: Convention = "argument pointer"
    exchanged: bool = False  # a second processor spins in the contexts that are called
    # Another call holds the only A-stack of the first region, so more are made.
    crowded: bool = False


SETTINGS = st.one_of(
    st.builds(
        Setting,
        convention=st.sampled_from(["argument pointer", "execution stack"]),
        exchanged=st.booleans(),
        crowded=st.booleans(),
    ),
    st.builds(
        Setting,
        transfer=st.just("message passing"),
        discipline=st.sampled_from(list(COPIES)),
        convention=st.sampled_from(["argument pointer", "execution stack"]),
    ),
    st.just(Setting(transfer="within a domain")),
)
Drawn = tuple[type[Interface], tuple[object, ...], tuple[object, ...]]


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
    if getattr(hint, "__origin__", None) is Reference:
        return values_of(hint.__args__[0]).map(Reference)  # type: ignore[attr-defined]
    note = hint.__metadata__[0]  # type: ignore[attr-defined]
    if isinstance(note, FixedBytes):
        return st.binary(min_size=note.size, max_size=note.size)
    if note.most > 1448:  # too long for an A-stack
        return st.integers(0, note.most).map(bytes)
    text = st.text(st.characters(exclude_categories=["Cs"])).filter(lambda value: len(value.encode()) <= note.most)
    return text if hint.__origin__ is str else st.binary(max_size=note.most)  # type: ignore[attr-defined]


ANYTHING = Check(lambda value: True, "anything")
VALUES = st.one_of(
    st.sampled_from([Int8, UInt16, Int32, Int64, Float64, Bool]),
    st.integers(0, 300).map(lambda size: Annotated[bytes, FixedBytes(size)]),
    st.integers(0, 300).map(lambda most: Annotated[bytes, UpTo(most)]),
    st.integers(0, 300).map(lambda most: Annotated[str, UpTo(most)]),
    st.integers(0, 300).map(lambda size: Annotated[bytes, FixedBytes(size), Immutable]),
    st.integers(0, 300).map(lambda most: Annotated[bytes, UpTo(most), ANYTHING]),
    st.just(Annotated[bytes, UpTo(4000)]),
)
HINTS = st.one_of(VALUES, VALUES.map(lambda hint: Reference[hint]))  # type: ignore[valid-type]


@st.composite
def procedures(draw: st.DrawFn) -> Drawn:
    """Return an interface of one procedure, and arguments and results for it."""
    takes = draw(st.lists(HINTS, max_size=4))
    gives = draw(st.lists(VALUES, max_size=3))
    names = [f"p{number}" for number in range(len(takes))]

    def body(self: object, *values: object) -> object: ...

    body.simultaneous = 1  # type: ignore[attr-defined]
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


def plain(values: object) -> object:
    """Return values in which each reference is replaced by the value it refers to."""
    if isinstance(values, tuple):
        return tuple(plain(value) for value in values)
    return values.value if isinstance(values, Reference) else values


def measure(costs: CostModel, drawn: Drawn, setting: Setting, earlier_calls: int) -> tuple[int, dict[str, int]]:
    """Return the cost of a call in ns and its charges by step, after `earlier_calls` calls."""
    interface, arguments, results = drawn
    given: list[object] = []
    returned: list[object] = []
    found: list[tuple[int, list[int]]] = []
    kernel = Kernel(
        "m",
        costs,
        processors=2 if setting.exchanged else 1,
        debug=True,
        domain_caching=setting.exchanged,
        discipline=setting.discipline,
    )
    server = kernel.domain("server")
    client = server if setting.transfer == "within a domain" else kernel.domain("client")
    keeps = setting.crowded

    class Server:
        def body(self, *values: object) -> object:
            nonlocal keeps
            if keeps:
                keeps = False
                server.sleep(LONG_US)
            given.append(plain(values))
            return results or None

    server.convention = setting.convention
    Clerk().export(server, interface, Server(), "drawn")

    def body() -> None:
        transfer: Transfer = "message passing" if setting.transfer == "message passing" else "lrpc"
        call = vars(bind(client, interface, "drawn", transfer, "grow" if setting.crowded else "wait"))["body"]
        if setting.crowded:
            client.spawn(lambda: returned.append(call(*arguments)))
        for _ in range(earlier_calls + 1):
            client.sleep(LONG_US / 100)  # long enough for every processor to arrive
            found.append(charged(kernel, lambda: returned.append(call(*arguments))))

    client.spawn(body)
    kernel.run(FOREVER)
    assert_nothing_held(kernel)
    times = earlier_calls + 1 + setting.crowded
    assert given == [plain(arguments)] * times
    assert returned == [results or None] * times
    ns, counts = found[-1]
    return ns, dict(zip(STEPS, counts, strict=True))


def with_step(costs: CostModel, step: str, us: int) -> CostModel:
    named = {name: int(one.us) for name, one in costs.file.steps.items()} | {step: us}
    tlb = costs.file.tlb
    return costs_of(1, named, tagged=tlb.tagged, pages=(tlb.on_call.domain, tlb.on_return.domain))


def earlier(setting: Setting, some: int) -> int:
    """Return how many calls to make before the measured one.

    Six are enough for idle processors to be sent into the contexts that are called.
    """
    return 6 if setting.exchanged else some


@examples(300)
@given(
    costs=COSTS,
    drawn=procedures(),
    setting=SETTINGS,
    some=st.integers(0, 1),
    step=st.sampled_from(LOCAL),
    by=st.integers(1, 300),
)
def test_raising_a_step_by_d_makes_a_call_longer_by_d_times_its_charges(
    costs: CostModel, drawn: Drawn, setting: Setting, some: int, step: str, by: int
) -> None:
    ns, counts = measure(costs, drawn, setting, earlier(setting, some))
    assert ns == sum(count * costs.ns[STEPS.index(name)] for name, count in counts.items())
    changed = with_step(costs, step, int(costs.file.steps[step].us) + by)
    more, same = measure(changed, drawn, setting, earlier(setting, some))
    assert same == counts
    assert more - ns == by * 1000 * counts[step]


@examples(60)
@given(drawn=procedures(), setting=SETTINGS, some=st.integers(0, 1))
def test_each_mechanism_charges_the_steps_that_it_is_made_of(drawn: Drawn, setting: Setting, some: int) -> None:
    _, counts = measure(costs_of(pages=(2, 1)), drawn, setting, earlier(setting, some))
    crosses = setting.transfer != "within a domain"
    assert counts["procedure_call"] == 1
    assert counts["exchange"] == (2 if setting.exchanged else 0)
    assert counts["switch"] == (0 if setting.exchanged or not crosses else 2)
    assert counts["tlb_miss"] == (0 if setting.exchanged or not crosses else 3)
    assert counts["secondary_region"] == (1 if setting.crowded else 0)
    if setting.transfer == "lrpc":
        arguments, results = packed_sizes(drawn)
        procedure = drawn[0].procedures[0]
        out_of_band = (arguments > procedure.arguments.size) + (results > procedure.results.size)
        grown = setting.crowded and earlier(setting, some) == 0
        assert counts["map_memory"] == out_of_band + grown
        assert counts["trap"] == 2 + 2 * (out_of_band + grown)


@examples(30)
@given(drawn=procedures(), setting=SETTINGS)
def test_a_call_takes_the_sum_of_its_charges_to_a_nanosecond_for_each_copy(drawn: Drawn, setting: Setting) -> None:
    ns, counts = measure(FIREFLY, drawn, setting, earlier(setting, 1))
    exact = sum(count * FIREFLY.file.steps[step].us * 1000 for step, count in counts.items() if count)
    # Seven roundings: copies A to F of arguments that stay, and of private ones, each once.
    assert abs(ns - exact) <= 7


def packed_sizes(drawn: Drawn) -> tuple[int, int]:
    """Return the bytes of the arguments, and of the referents and results that come back."""
    interface, arguments, results = drawn
    procedure = interface.procedures[0]
    referents = [value.value for value in arguments if isinstance(value, Reference)]
    passed = procedure.arguments.pack(procedure.arguments.referents(arguments))
    return len(passed), len(procedure.results.pack((*referents, *results)))


@examples(60)
@given(drawn=procedures(), setting=SETTINGS.filter(lambda setting: setting.transfer != "within a domain"))
def test_what_is_copied_is_what_was_passed(drawn: Drawn, setting: Setting) -> None:
    interface, arguments, _ = drawn
    _, counts = measure(costs_of(), drawn, setting, earlier(setting, 0))
    plan = interface.procedures[0].arguments
    passed, returned = packed_sizes(drawn)
    everything = setting.convention == "execution stack"
    copied = PrivateValues(plan, everything=everything)
    private, private_size = copied.count, copied.size(plan.pack(plan.referents(arguments)), 0)
    results = interface.procedures[0].results.count
    if setting.transfer == "lrpc":
        elsewhere = "exchanged" if setting.exchanged else "copy"
        counted = {step: counts[f"{elsewhere}_{step}"] for step in ("value", "byte")}
        if setting.exchanged:  # copy E copies what this processor has just read
            assert (counts["copy_value"], counts["copy_byte"]) == (private, private_size)
            private = private_size = 0
        assert counted == {"value": len(arguments) + private + results, "byte": passed + private_size + returned}
    else:
        mutable, immutable, back = (len(letters) for letters in COPIES[setting.discipline])
        values = mutable * (len(arguments) - private) + immutable * private + back * results
        assert counts["message_value"] == values
        assert counts["message_argument_byte"] == mutable * (passed - private_size) + immutable * private_size
        assert counts["message_result_byte"] == back * returned


@pytest.mark.parametrize("transfer", ["lrpc", "message passing"])
def test_a_value_of_no_bytes_is_still_a_value(transfer: Literal["lrpc", "message passing"]) -> None:
    class Nothing(Interface):
        def body(self, a: Annotated[bytes, FixedBytes(0)]) -> tuple[Annotated[bytes, FixedBytes(0)]]:
            raise NotImplementedError

    _, counts = measure(costs_of(), (Nothing, (b"",), (b"",)), Setting(transfer), 0)
    step = "copy_value" if transfer == "lrpc" else "message_value"
    assert counts[step] == 2


@examples(30)
@given(
    seed=st.integers(0, 2**32),
    processors=st.integers(1, 4),
    threads=st.integers(1, 6),
    misses_us=st.integers(1, 20),
    transfer=st.sampled_from(["lrpc", "message passing"]),
)
def test_processors_are_busy_with_what_is_charged_and_with_waiting_for_each_other(
    seed: int, processors: int, threads: int, misses_us: int, transfer: Literal["lrpc", "message passing"]
) -> None:
    costs = costs_of(3, {"tlb_miss": misses_us}, pages=(5, 4))
    costs = with_bus(costs, {**dict.fromkeys(BUS_STEPS, 2.0), "tlb_miss": misses_us / 4})
    simulated = machine(costs, processors=processors, seed=seed)

    def body() -> None:
        tests: FourTests = simulated.tests(transfer)
        for number in range(20):
            assert tests.add(number, 1) == number + 1

    simulated.run(*[body] * threads)
    kernel = simulated.kernel
    spent = sum(count * ns for count, ns in zip(kernel.charges.counts(), costs.ns, strict=True))
    busy = sum(one.busy_ns - one.lock_wait_ns - one.bus_wait_ns for one in kernel.processors)
    drawn = sum(one.bus_ns - one.bus_mean_ns for one in kernel.processors)
    assert busy - drawn == spent
    assert (sum(one.bus_ns for one in kernel.processors) > 0) == (processors > 1)


@pytest.mark.parametrize("step", BUS_STEPS)
def test_what_occupies_the_bus_is_its_share_of_what_was_charged(step: str) -> None:
    costs = with_bus(costs_of(3, pages=(5, 4)), {step: 2.0})
    taken = 0
    settings: list[tuple[Transfer, bool]] = [("lrpc", False), ("lrpc", True), ("message passing", False)]
    for transfer, caching in settings:
        kernel = Kernel("m", costs, processors=2, debug=True, domain_caching=caching)
        Clerk().export(kernel.domain("server"), FourTests, FourTestsServer(), "tests")

        def body(kernel: Kernel = kernel, transfer: Transfer = transfer) -> None:
            tests = bind(kernel.domain("client"), FourTests, "tests", transfer)
            for number in range(20):
                assert tests.add(number, 1) == number + 1

        kernel.domain("client").spawn(body)
        kernel.run(FOREVER)
        if step == "tlb_miss" and caching:
            continue  # an idle processor that loads a context delays no other
        charged_times = kernel.charges.counts()[STEPS.index(step)]
        # One thread alone meets nobody: it takes the mean, and waits for nothing.
        assert sum(one.bus_ns for one in kernel.processors) == 2000 * charged_times
        assert sum(one.bus_wait_ns for one in kernel.processors) == 0
        taken += charged_times
    assert taken > 0


def with_bus(costs: CostModel, shares: Mapping[str, float]) -> CostModel:
    """Return a cost model whose processors share a bus, which these steps occupy for so long."""
    named = {step: StepCost(us=us, origin="assumed", source="a test") for step, us in shares.items()}
    first, us = next(iter(shares.items()))
    bus = Bus(us=us, of={first: 1}, shares=named, origin="assumed", source="a test")
    return replace(costs, file=costs.file.model_copy(update={"bus": bus}))
