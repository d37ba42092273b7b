"""What a server sees of a client, or of a third domain, that changes arguments during a call."""

import ast
import os
import struct
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Annotated, Final, get_args

import pytest

import lrpc
from lrpc.domains.clerk import Clerk
from lrpc.domains.simulated.binding import bind
from lrpc.domains.simulated.stubs import MessageStub
from lrpc.kernel.descriptors import Convention
from lrpc.kernel.simulated.charges import ChargeNote, ChargeNotes
from lrpc.kernel.simulated.disciplines import Discipline
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from lrpc.kernel.simulated.memory import POISONED, READ, WRITE
from lrpc.kernel.simulated.message_buffers import HEADER
from tests.support.simulated import NO_BUS, assert_nothing_held, charged

POSITIVE = lrpc.Check(lambda value: isinstance(value, int) and value > 0, "above 0")
PASSED: Final = (1, 2, 3, 4, 5)
CHANGED: Final = (-1, -2, -3, -4, -5)
PACKED: Final = struct.Struct("<5i")
BEGINS_NS: Final = 1_000_000
READS: Final = 5


class Look(lrpc.Interface):
    """Has one parameter of each kind."""

    @lrpc.procedure(simultaneous=1)
    def look(
        self,
        mutable: lrpc.Mutable[lrpc.Int32],
        immutable: Annotated[lrpc.Int32, lrpc.Immutable],
        checked: Annotated[lrpc.Int32, POSITIVE],
        plain: lrpc.Int32,
        referred: lrpc.Reference[lrpc.Int32],
    ) -> None: ...


@dataclass
class LookServer(Look):
    """Looks at its arguments several times, computing in between."""

    address: int = 0  # of the A-stack
    seen: list[tuple[int, ...]] = field(default_factory=list)  # by the procedure
    lay: list[tuple[int, ...]] = field(default_factory=list)  # on the A-stack, at the same moments
    times: list[int] = field(default_factory=list)

    domain: ProtectionDomain = field(init=False)

    def look(
        self, mutable: lrpc.Mutable[int], immutable: int, checked: int, plain: int, referred: lrpc.Reference[int]
    ) -> None:
        for _ in range(READS):
            self.seen.append((mutable.value, immutable, checked, plain, referred.value))
            self.lay.append(PACKED.unpack(self.domain.memory.load(self.address, PACKED.size)))
            self.times.append(self.domain.now_ns)
            self.domain.compute(us=10)


@dataclass
class Outcome:
    """What the server saw of a call, what the client got, and what that was charged."""

    server: LookServer
    error: str
    ns: int
    counts: list[int]
    notes: list[ChargeNote]


def call(convention: Convention, changes_ns: int) -> Outcome:
    """Call once at `BEGINS_NS`, while another of the client's threads changes the A-stack."""
    kernel = Kernel("m", NO_BUS, processors=2, debug=True)
    server, client = kernel.domain("server"), kernel.domain("client")
    server.convention = convention
    looks = LookServer()
    Clerk().export(server, Look, looks, "look")
    stub = bind(client, Look, "look")
    looks.address = kernel.bindings[1].groups[0].members[0].address
    notes: list[ChargeNote] = []
    found: list[Outcome] = []

    def caller() -> None:
        error = ""

        def once() -> None:
            nonlocal error
            try:
                mutable, immutable, checked, plain, referred = PASSED
                stub.look(lrpc.Mutable(mutable), immutable, checked, plain, lrpc.Reference(referred))
            except lrpc.CallError as raised:
                error = str(raised)

        kernel.charges.notes = ChargeNotes("m", notes)
        for processor in kernel.processors:
            processor.notes_all = True
        ns, counts = charged(kernel, once)
        found.append(Outcome(looks, error, ns, counts, notes))

    def hostile() -> None:
        client.memory.store(looks.address, PACKED.pack(*CHANGED))

    kernel.spawn(client, caller, "caller", at_ns=BEGINS_NS)
    kernel.spawn(client, hostile, "hostile", at_ns=changes_ns)
    kernel.run(FOREVER)
    assert_nothing_held(kernel)
    return found[0]


def boundaries(benign: Outcome) -> list[int]:
    """Return when each step of a call ends and each look happens, and the moments beside these.

    Steps of the return come after what the server computes, which is no step.
    """
    times = {BEGINS_NS, *benign.server.times}
    at = BEGINS_NS
    spent = [(sum(NO_BUS.ps[step] * count for step, count in note.steps) + 500) // 1000 for note in benign.notes]
    for ns in spent:
        at += ns
        times |= {at, at + benign.ns - sum(spent)}
    last = BEGINS_NS + benign.ns
    return sorted({time + beside for time in times for beside in (-1, 0, 1)} | {last - 1, last, last + 1})


@pytest.fixture(scope="module", params=get_args(Convention))
def outcomes(request: pytest.FixtureRequest) -> tuple[Convention, Outcome, dict[int, Outcome]]:
    """Return a call that nobody disturbs, and one for each moment at which its client does."""
    convention: Convention = request.param
    benign = call(convention, 2 * BEGINS_NS)
    return convention, benign, {time: call(convention, time) for time in boundaries(benign)}


Outcomes = tuple[Convention, Outcome, dict[int, Outcome]]


def test_what_is_mutable_is_seen_as_it_lies_and_what_is_not_never_changes(outcomes: Outcomes) -> None:
    convention, benign, disturbed = outcomes
    assert benign.server.seen == [PASSED] * READS
    assert len(disturbed) > 60
    changed_under_its_eyes = 0
    for time, outcome in disturbed.items():
        seen, lay = outcome.server.seen, outcome.server.lay
        in_place = {0, 4} if convention == "argument pointer" else set()
        for number in range(5):
            values = [one[number] for one in seen]
            if number in in_place:
                assert values == [one[number] for one in lay], time
                changed_under_its_eyes += len(set(values)) > 1
            else:
                assert len(set(values)) <= 1, time
        assert len(seen) in (0, READS)
    assert (changed_under_its_eyes > 20) == (convention == "argument pointer")


def test_the_value_that_a_check_has_let_pass_is_the_one_that_the_procedure_gets(outcomes: Outcomes) -> None:
    _, _, disturbed = outcomes
    refused = [outcome for outcome in disturbed.values() if outcome.error]
    for outcome in disturbed.values():
        assert all(checked > 0 for _, _, checked, _, _ in outcome.server.seen)
    assert 0 < len(refused) < len(disturbed)
    for outcome in refused:
        assert "Look.look: checked: -3: must be above 0" in outcome.error
        assert not outcome.server.seen


def test_what_a_client_changes_costs_nobody_time(outcomes: Outcomes) -> None:
    _, benign, disturbed = outcomes
    for time, outcome in disturbed.items():
        if not outcome.error:
            assert (outcome.ns, outcome.counts) == (benign.ns, benign.counts), time


class Text(lrpc.Interface):
    def put(self, before: Annotated[bytes, lrpc.UpTo(8)], text: lrpc.Mutable[Annotated[str, lrpc.UpTo(8)]]) -> None: ...


class TextServer(Text):
    """Reads its text twice, an hour apart, and keeps it."""

    domain: ProtectionDomain

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.kept: list[lrpc.Mutable[str]] = []

    def put(self, before: bytes, text: lrpc.Mutable[str]) -> None:
        self.kept.append(text)
        self.seen.append(text.value)
        self.domain.sleep(1_000)
        self.seen.append(text.value)


LATER: dict[str, tuple[bytes, str]] = {
    "another text": (struct.pack("<I", 3) + b"new", ""),
    "a longer text": (struct.pack("<I", 8) + b"as long.", ""),
    "no text": (struct.pack("<I", 0), ""),
    "a length beyond its type's": (struct.pack("<I", 9) + b"too long.", "Text.put: text: a length of 9 bytes"),
    "a length beyond all memory": (struct.pack("<I", 2**32 - 1), "Text.put: text: a length of 4294967295 bytes"),
    "what is not text": (struct.pack("<I", 1) + b"\xff", "text that is not UTF-8, at byte 0"),
}


@pytest.mark.parametrize("later", LATER)
def test_a_value_of_variable_size_is_checked_each_time_that_it_is_read(later: str) -> None:
    data, error = LATER[later]
    kernel = Kernel("m", NO_BUS, processors=2, debug=True)
    server, client = kernel.domain("server"), kernel.domain("client")
    texts = TextServer()
    Clerk().export(server, Text, texts, "text")
    stub = bind(client, Text, "text")
    raised: list[str] = []

    def caller() -> None:
        try:
            stub.put(b"12", lrpc.Mutable("old"))
        except lrpc.CallError as found:
            raised.append(str(found))

    def hostile() -> None:
        for astack in kernel.bindings[1].groups[0].members:
            client.memory.store(astack.address + 4 + 2, data)

    client.spawn(caller)
    kernel.spawn(client, hostile, "hostile", at_ns=500_000)
    kernel.run(FOREVER)
    assert_nothing_held(kernel)
    if error:
        assert len(raised) == 1
        assert error in raised[0]
        assert texts.seen == ["old"]
    else:
        assert raised == []
        assert texts.seen == ["old", data[4:].decode()]
    with pytest.raises(lrpc.AccessFault, match=r"Text\.put: text: its call has returned"):
        texts.kept[0].value  # noqa: B018 - reading is what raises


class Block(lrpc.Interface):
    def fill(self, block: lrpc.Reference[lrpc.Int32]) -> lrpc.Int32: ...


class BlockServer(Block):
    """Sets what a reference refers to, lets the client run, and returns what it then finds."""

    domain: ProtectionDomain

    def fill(self, block: lrpc.Reference[int]) -> int:
        block.value = 7
        self.domain.sleep(1_000)
        return block.value


def test_a_server_that_has_set_a_referent_finds_what_it_set() -> None:
    kernel = Kernel("m", NO_BUS, processors=2, debug=True)
    client = kernel.domain("client")
    Clerk().export(kernel.domain("server"), Block, BlockServer(), "block")
    stub = bind(client, Block, "block")
    block, found = lrpc.Reference(1), []

    def hostile() -> None:
        for astack in kernel.bindings[1].groups[0].members:
            client.memory.store(astack.address, struct.pack("<i", 99))

    client.spawn(lambda: found.append(stub.fill(block)))
    kernel.spawn(client, hostile, "hostile", at_ns=500_000)
    kernel.run(FOREVER)
    assert (found, block.value) == ([7], 7)


class One(lrpc.Interface):
    def one(self, value: lrpc.Mutable[lrpc.Int32]) -> None: ...


class OneServer(One):
    domain: ProtectionDomain

    def __init__(self) -> None:
        self.seen: list[int] = []

    def one(self, value: lrpc.Mutable[int]) -> None:
        self.seen.append(value.value)
        self.domain.sleep(1_000)
        self.seen.append(value.value)


@pytest.mark.parametrize("discipline", get_args(Discipline))
def test_a_third_domain_changes_a_message_in_mid_call_only_where_buffers_are_shared(discipline: Discipline) -> None:
    kernel = Kernel("m", NO_BUS, processors=2, discipline=discipline, debug=True)
    server, client, third = (kernel.domain(name) for name in ("server", "client", "third"))
    ones = OneServer()
    Clerk().export(server, One, ones, "one")
    stub = bind(client, One, "one", "message passing")

    def meddle() -> None:
        for buffer in kernel.ports["one"].buffers.members:
            for region in buffer.regions:
                if region in third.memory._rights:
                    third.memory.access(region, READ | WRITE)[HEADER : HEADER + 4] = struct.pack("<i", 99)

    client.spawn(lambda: stub.one(lrpc.Mutable(1)))
    kernel.spawn(third, meddle, "meddler", at_ns=900_000)
    kernel.run(FOREVER)
    assert ones.seen == ([1, 99] if discipline == "shared buffers" else [1, 1])
    assert_nothing_held(kernel)


def test_calls_within_a_domain_find_what_their_caller_passed() -> None:
    kernel = Kernel("m", NO_BUS)
    server = kernel.domain("server")
    ones = OneServer()
    Clerk().export(server, One, ones, "one")
    server.spawn(lambda: bind(server, One, "one").one(lrpc.Mutable(1)))
    kernel.run(FOREVER)
    assert ones.seen == [1, 1]


def test_a_mutable_parameter_takes_nothing_else() -> None:
    kernel = Kernel("m", NO_BUS)
    Clerk().export(kernel.domain("server"), One, OneServer(), "one")
    stub = bind(kernel.domain("client"), One, "one")
    refused: list[str] = []

    def body() -> None:
        for wrong in (1, lrpc.Reference(1), lrpc.Mutable("1"), lrpc.Mutable(2**40)):
            try:
                stub.one(wrong)  # type: ignore[arg-type]
            except lrpc.ArgumentError as error:
                refused.append(str(error))

    kernel.domain("client").spawn(body)
    kernel.run(FOREVER)
    assert refused == [
        "One.one: value: takes a Mutable, not int",
        "One.one: value: takes a Mutable, not Reference",
        "One.one: value: Int32 takes int, not str",
        "One.one: value: 1099511627776 does not fit Int32",
    ]
    assert kernel.counts.cross_domain == 0


class Two(lrpc.Interface):
    def both(self, mutable: lrpc.Mutable[lrpc.Int32], kept: Annotated[lrpc.Int32, lrpc.Immutable]) -> None: ...


@dataclass
class TwoServer(Two):
    """Looks at its arguments twice."""

    seen: list[tuple[int, int]] = field(default_factory=list)

    domain: ProtectionDomain = field(init=False)

    def both(self, mutable: lrpc.Mutable[int], kept: int) -> None:
        self.seen.append((mutable.value, kept))
        self.domain.compute(us=1000)
        self.seen.append((mutable.value, kept))


def test_beside_an_argument_that_was_copied_another_is_read_where_it_lies_in_a_message_too() -> None:
    kernel = Kernel("m", NO_BUS, processors=2, discipline="shared buffers", debug=True)
    server, client, third = (kernel.domain(name) for name in ("server", "client", "third"))
    two = TwoServer()
    Clerk().export(server, Two, two, "two")
    stub = bind(client, Two, "two", "message passing")
    client.spawn(lambda: stub.both(lrpc.Mutable(1), 2))

    def meddle() -> None:
        (buffer,) = kernel.ports["two"].buffers.members
        for region in buffer.regions:
            if region.limit > region.base:
                third.memory.store(region.base + HEADER, struct.pack("<2i", 99, 99))

    kernel.spawn(third, meddle, "meddle", at_ns=900_000)
    kernel.run(FOREVER)
    assert two.seen == [(1, 2), (99, 2)]


@pytest.mark.parametrize("discipline", get_args(Discipline))
def test_a_message_that_ends_early_gives_a_server_nothing_of_the_one_before(discipline: Discipline) -> None:
    kernel = Kernel("m", NO_BUS, discipline=discipline, debug=True)
    server, client = kernel.domain("server"), kernel.domain("client")
    two = TwoServer()
    Clerk().export(server, Two, two, "two")
    stub = bind(client, Two, "two", "message passing")
    refused: list[str] = []

    def body() -> None:
        stub.both(lrpc.Mutable(1), 2)
        both = vars(stub)["both"]
        assert isinstance(both, MessageStub)
        for size in (0, 3, 4, 7):
            try:
                both.port.call(both.key, both.number, bytes(size))
            except lrpc.CallError as error:
                refused.append(str(error))

    client.spawn(body, "client")
    kernel.run(FOREVER)
    assert two.seen == [(1, 2), (1, 2)]
    assert len(refused) == 4
    assert all("the values end early" in text for text in refused)


LEFT_OUT: Final = """
import sys
from lrpc.domains.clerk import Clerk
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.simulated import transfer
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel
from tests.kernel.simulated.test_mutable_arguments import NO_BUS, Two, TwoServer, lrpc

if sys.argv[1] == "left out":
    transfer.copy_private = lambda descriptor, packed: b""
kernel = Kernel("m", NO_BUS, debug=True)
server, client = kernel.domain("server"), kernel.domain("client")
server.convention = sys.argv[2]
two = TwoServer()
Clerk().export(server, Two, two, "two")
stub = bind(client, Two, "two")
client.spawn(lambda: stub.both(lrpc.Mutable(1), 2))
kernel.run(FOREVER)
print(two.seen[0])
"""


@pytest.mark.parametrize("convention", get_args(Convention))
def test_a_server_gets_garbage_where_copy_e_of_an_lrpc_is_left_out(convention: Convention) -> None:
    found = {}
    for how in ("made", "left out"):
        command = [sys.executable, "-c", LEFT_OUT, how, convention]
        told = subprocess.run(
            command, env=os.environ | {"LRPC_INTERPRETED": "1"}, capture_output=True, text=True, check=True
        )
        found[how] = ast.literal_eval(told.stdout)
    garbage = int.from_bytes(POISONED * 4, "little", signed=True)
    first = 1 if convention == "argument pointer" else garbage
    assert found == {"made": (1, 2), "left out": (first, garbage)}
