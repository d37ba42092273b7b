"""What messages carry: bytes that each copy moves, in buffers that only some domains can reach."""

from functools import partial
from typing import Annotated, get_args

import pytest

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Check, Immutable, Int32
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.errors import AccessFault, CallFailed, Refused
from lrpc.kernel.simulated.charges import ChargeNote, ChargeNotes
from lrpc.kernel.simulated.costs import STEPS, SWITCH, cost_model
from lrpc.kernel.simulated.disciplines import ARGUMENT_PATHS, COPIES, RESULT_PATHS, CopyPath, Discipline
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.memory import READ, WRITE
from lrpc.kernel.simulated.message_buffers import HEADER
from lrpc.kernel.simulated.message_passing import Port
from tests.support.simulated import FIREFLY, assert_nothing_held, costs_of, with_buffers

DISCIPLINES: tuple[Discipline, ...] = get_args(Discipline)
SHARED: Discipline = "shared buffers"
POSITIVE = Check(lambda value: isinstance(value, int) and value > 0, "above 0")


class Sums(Interface):
    """Adds numbers, of which the server relies on the second and checks the third."""

    def add(self, a: Int32, b: Annotated[Int32, Immutable], c: Annotated[Int32, POSITIVE]) -> tuple[Int32, Int32]:
        """Return the sum, and the sum negated."""
        raise NotImplementedError


class SumServer(Sums):
    """Notes what it is given, and lets others run before it returns."""

    domain: ProtectionDomain

    def __init__(self) -> None:
        self.given: list[tuple[int, int, int]] = []

    def add(self, a: int, b: int, c: int) -> tuple[int, int]:
        self.given.append((a, b, c))
        self.domain.sleep(1_000)
        return a + b + c, -(a + b + c)


class House:
    """A machine whose server exports `Sums`, with a client and a third domain."""

    def __init__(self, discipline: Discipline, buffers: int = 256, processors: int = 2) -> None:
        costs = with_buffers(FIREFLY, buffers)
        self.kernel = Kernel("m", costs, processors=processors, seed=0, discipline=discipline, debug=True)
        self.server, self.client, self.third = (self.kernel.domain(name) for name in ("server", "client", "third"))
        self.sums = SumServer()
        Clerk().export(self.server, Sums, self.sums, "sums")
        self.stub = bind(self.client, Sums, "sums", "message passing")

    @property
    def port(self) -> Port:
        return self.kernel.ports["sums"]

    def call(self, *arguments: tuple[int, int, int]) -> list[object]:
        """Make calls, one after another; return their results, or the errors' types."""
        found: list[object] = []

        def body() -> None:
            for one in arguments:
                try:
                    found.append(self.stub.add(*one))
                except Exception as error:
                    found.append(type(error).__name__)

        self.client.spawn(body)
        self.kernel.run(FOREVER)
        return found


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_each_copy_of_table_iii_is_counted_where_it_moves_bytes(discipline: Discipline) -> None:
    house = House(discipline)
    assert house.call((1, 2, 3), (40, 50, 60)) == [(6, -6), (150, -150)]
    assert house.sums.given == [(1, 2, 3), (40, 50, 60)]
    mutable, immutable, results = COPIES[discipline]
    assert set(mutable + immutable) == set(ARGUMENT_PATHS[discipline])
    assert set(results) == set(RESULT_PATHS[discipline])
    counted = dict.fromkeys("ABCDEF", 0)
    for letter in "ABCDEF":
        counted[letter] = 2 * ((letter in mutable) + 2 * (letter in immutable) + 2 * (letter in results))
    assert {letter: house.kernel.counts.copies[letter] for letter in "ABCDEF"} == counted
    assert_nothing_held(house.kernel)


def left_out(paths: dict[str, CopyPath], discipline: Discipline, letter: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave a copy out, the others in their order."""
    monkeypatch.setitem(paths, discipline, {one: path for one, path in paths[discipline].items() if one != letter})


@pytest.mark.parametrize(
    ("discipline", "letter"), [(one, letter) for one in DISCIPLINES for letter in ARGUMENT_PATHS[one]]
)
def test_a_server_gets_garbage_where_a_copy_of_arguments_is_left_out(
    discipline: Discipline, letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it finds is what lay there: of an earlier message, or of none."""
    left_out(ARGUMENT_PATHS, discipline, letter, monkeypatch)
    house = House(discipline)
    house.call((1, 2, 3), (40, 50, 60))
    assert not {(1, 2, 3), (40, 50, 60)} & set(house.sums.given)


@pytest.mark.parametrize(
    ("discipline", "letter"), [(one, letter) for one in DISCIPLINES for letter in RESULT_PATHS[one]]
)
def test_a_client_gets_garbage_where_a_copy_of_results_is_left_out(
    discipline: Discipline, letter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    left_out(RESULT_PATHS, discipline, letter, monkeypatch)
    found = House(discipline).call((1, 2, 3), (40, 50, 60))
    assert (6, -6) not in found
    assert (150, -150) not in found


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_call_of_a_server_that_has_ended_copies_nothing_and_is_charged_for_no_copy(discipline: Discipline) -> None:
    house = House(discipline)
    house.server.terminate()
    assert house.call((1, 2, 3)) == ["CallFailed"]
    assert house.kernel.counts.copies == dict.fromkeys("ABCDEF", 0)
    charged = dict(zip(STEPS, house.kernel.charges.counts(), strict=True))
    assert charged["message_value"] == charged["message_argument_byte"] == charged["message_result_byte"] == 0


def reached(house: House, domain: ProtectionDomain) -> list[bytearray]:
    """Return the buffers that a domain can read and write."""
    return [
        domain.memory.access(region, READ | WRITE)
        for buffer in house.port.buffers.members
        for region in buffer.regions
        if region in domain.memory._rights
    ]


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_third_domain_can_corrupt_a_message_only_where_buffers_are_shared(discipline: Discipline) -> None:
    house = House(discipline)
    seen: list[bytes] = []

    def meddle() -> None:
        for _ in range(400):
            for memory in reached(house, house.third):
                seen.append(bytes(memory))
                memory[HEADER:] = bytes([1]) * (len(memory) - HEADER)
            house.third.sleep(5)

    house.third.spawn(meddle)
    found = house.call((7, 8, 9))
    if discipline == SHARED:
        assert found != [(24, -24)]
        assert any((7).to_bytes(4, "little") in one for one in seen)
    else:
        assert found == [(24, -24)]
        assert seen == []
        regions = [region for buffer in house.port.buffers.members for region in buffer.regions]
        for region in regions:
            with pytest.raises(AccessFault):
                house.third.memory.access(region, READ)
    assert_nothing_held(house.kernel)


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_sender_cannot_change_what_it_has_sent_unless_buffers_are_shared(discipline: Discipline) -> None:
    house = House(discipline)

    def change() -> None:
        for _ in range(400):
            for memory in reached(house, house.client):
                memory[HEADER:] = bytes([1]) * (len(memory) - HEADER)
            house.client.sleep(5)

    house.client.spawn(change)
    house.call((7, 8, 9))
    if discipline == SHARED:
        assert house.sums.given != [(7, 8, 9)]
    elif discipline == "message passing":
        assert house.sums.given == [(7, 8, 9)]


def test_a_reply_to_another_message_is_refused_and_the_next_call_is_served() -> None:
    """The server presents the number that it finds; a third domain has put another one there."""
    house = House(SHARED)
    errors: list[str] = []

    def body() -> None:
        try:
            house.stub.add(1, 2, 3)
        except CallFailed as error:
            errors.append(str(error))

    def forge() -> None:
        house.third.sleep(800)
        for memory in reached(house, house.third):
            memory[:HEADER] = (77).to_bytes(HEADER, "little")

    house.client.spawn(body)
    house.third.spawn(forge)
    house.kernel.run(FOREVER)
    assert errors == ["sums: its reply was to message 77, not to 1, which it serves"]
    assert house.call((4, 5, 6)) == [(15, -15)]
    assert_nothing_held(house.kernel)


def test_calls_wait_where_all_buffers_are_in_use() -> None:
    house = House("message passing", buffers=2)
    ended: list[int] = []
    for number in range(1, 7):
        house.client.spawn(lambda number=number: ended.append(house.stub.add(number, 0, 1)[0]))  # type: ignore[misc]
    house.kernel.run(FOREVER)
    assert sorted(ended) == [2, 3, 4, 5, 6, 7]
    assert len(house.port.buffers.members) == 2
    assert house.port.buffers.waiting.waits == 4
    assert_nothing_held(house.kernel)


def test_buffers_of_one_client_go_to_another_where_there_are_no_more_and_are_mapped_to_it_alone() -> None:
    house = House("message passing", buffers=1)
    other = bind(house.third, Sums, "sums", "message passing")
    assert house.call((1, 2, 3)) == [(6, -6)]
    found: list[object] = []
    house.third.spawn(lambda: found.append(other.add(4, 5, 6)))
    house.kernel.run(FOREVER)
    assert found == [(15, -15)]
    assert (len(reached(house, house.client)), len(reached(house, house.third))) == (0, 1)


def add(sums: Sums, found: list[object]) -> None:
    """Make a call."""
    found.append(sums.add(4, 5, 6))


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_who_waits_for_a_buffer_gets_one_when_the_client_that_has_it_ends(discipline: Discipline) -> None:
    """At any moment of the other's call: only while the server has the message is it kept."""
    for ends_us in range(0, 1_900, 20):
        house = House(discipline, buffers=1)
        other = bind(house.third, Sums, "sums", "message passing")
        found: list[object] = []
        house.client.spawn(partial(house.stub.add, 1, 2, 3))  # type: ignore[arg-type]
        house.kernel.spawn(house.third, partial(add, other, found), "waits", at_ns=5_000)
        house.kernel.spawn(house.kernel.domain("killer"), house.client.terminate, "killer", at_ns=1000 * ends_us)
        house.kernel.run(FOREVER)
        assert found == [(15, -15)], ends_us
        assert_nothing_held(house.kernel)


ENDS_NS = 1_340_000  # once its call has its reply, and before it has put the buffer back


def test_a_buffer_that_an_ending_client_leaves_goes_past_that_clients_own_threads() -> None:
    """They would have a processor load their context, only to be ended there."""
    house = House("restricted message passing", buffers=1, processors=3)
    other = bind(house.third, Sums, "sums", "message passing")
    found: list[object] = []
    for _ in range(2):
        house.client.spawn(partial(house.stub.add, 1, 2, 3))  # type: ignore[arg-type]
    house.kernel.spawn(house.third, partial(add, other, found), "waits", at_ns=5_000)
    house.kernel.spawn(house.kernel.domain("killer"), house.client.terminate, "killer", at_ns=ENDS_NS)
    notes: list[ChargeNote] = []
    house.kernel.charges.notes = ChargeNotes("m", notes)
    for processor in house.kernel.processors:
        processor.notes_all = True
    house.kernel.run(FOREVER)
    assert found == [(15, -15)]
    loads = [one.domain for one in notes if (SWITCH, 1) in one.steps]
    assert loads.count("client") == 1  # for its reply, which came before it ended
    assert_nothing_held(house.kernel)


def test_callers_that_wait_for_a_buffer_are_told_when_the_server_ends() -> None:
    house = House("message passing", buffers=1)
    told: list[str] = []

    def body() -> None:
        try:
            house.stub.add(1, 2, 3)
        except CallFailed as error:
            told.append(str(error))

    def end() -> None:
        house.third.sleep(700)
        house.server.terminate()

    for _ in range(3):
        house.client.spawn(body)
    house.third.spawn(end)
    house.kernel.run(FOREVER)
    assert len(told) == 3
    assert reached_regions(house.client) == []


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_who_is_woken_for_a_buffer_and_finds_that_the_server_has_ended_gets_no_memory(discipline: Discipline) -> None:
    house = House(discipline, buffers=1)
    told: list[str] = []

    def first() -> None:
        house.stub.add(1, 2, 3)  # then gives its buffer to the waiter, which has no processor yet
        house.server.terminate()

    def second() -> None:
        with pytest.raises(CallFailed) as caught:
            house.stub.add(4, 5, 6)
        told.append(str(caught.value))

    for body in (first, second):
        house.client.spawn(body)
    house.kernel.run(FOREVER)
    assert len(told) == 1
    assert reached_regions(house.client) == []
    assert_nothing_held(house.kernel)


def reached_regions(domain: ProtectionDomain) -> list[object]:
    return list(domain.memory._regions)


@pytest.mark.parametrize("discipline", DISCIPLINES)
def test_a_domain_made_later_reaches_what_is_shared_and_no_more(discipline: Discipline) -> None:
    house = House(discipline)
    house.call((1, 2, 3))
    late = house.kernel.domain("late")
    assert len(reached(house, late)) == (1 if discipline == SHARED else 0)


def test_a_cost_model_without_buffers_is_refused_by_name() -> None:
    tables = costs_of().file.model_dump(mode="json")
    tables["message_passing"]["buffers"]["count"] = 0
    with pytest.raises(Refused, match=r"test: message_passing\.buffers\.count: .*greater than or equal to 1"):
        cost_model(tables, "test")


class BusySumServer(SumServer):
    """Computes while others become ready."""

    def add(self, a: int, b: int, c: int) -> tuple[int, int]:
        self.domain.compute(1_000)
        return a + b + c, -(a + b + c)


def test_a_thread_that_was_woken_for_a_buffer_gets_one_though_another_comes_first() -> None:
    """The client whose buffer becomes free has ended, so that a new buffer is made in its place."""
    kernel = Kernel("m", with_buffers(FIREFLY, 1), processors=2, debug=True)
    Clerk().export(kernel.domain("server"), Sums, BusySumServer(), "sums")
    found: list[tuple[str, object]] = []
    third = kernel.domain("third")

    def enter(name: str, at_us: int) -> None:
        client = kernel.domain(name)
        stub = bind(client, Sums, "sums", "message passing")
        kernel.spawn(client, lambda: found.append((name, stub.add(1, 2, 3))), name, at_ns=at_us * 1000)

    enter("ends", 0)
    enter("waits", 500)  # runs once the first one's call is at the server, and finds no buffer

    def end() -> None:
        kernel.domain("ends").terminate()
        third.compute(5_000)  # the server has the other processor

    kernel.spawn(third, end, "end", at_ns=600_000)
    enter("comes first", 900)
    kernel.run(FOREVER)
    assert sorted(found) == [("comes first", (6, -6)), ("waits", (6, -6))]
    assert_nothing_held(kernel)
