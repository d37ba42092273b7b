"""Client stubs look like the procedure and refuse wrong arguments before the trap.

Server stubs check everything again.
"""

from collections.abc import Callable
from typing import Annotated

import pytest
from google.protobuf.struct_pb2 import Struct
from google.protobuf.wrappers_pb2 import BytesValue, StringValue
from hypothesis import given
from hypothesis import strategies as st

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import (
    Bool,
    Bytes200,
    FixedBytes,
    Float32,
    Float64,
    Immutable,
    Int8,
    Int16,
    Int32,
    Int64,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    UpTo,
)
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.descriptors import ETHERNET_PACKET
from lrpc.kernel.errors import ArgumentError, CallError, ProcedureRaised
from lrpc.kernel.simulated.transfer import call
from tests.support.properties import examples
from tests.support.simulated import TRANSFERS, Machine, assert_nothing_held, charged, machine

Short = Annotated[bytes, UpTo(8)]
Name = Annotated[str, UpTo(8)]


class Many(Interface):
    """An interface with a procedure for each kind of parameter."""

    def i8(self, a: Int8) -> Int8:
        raise NotImplementedError

    def i16(self, a: Int16) -> Int16:
        raise NotImplementedError

    def i32(self, a: Int32) -> Int32:
        raise NotImplementedError

    def i64(self, a: Int64) -> Int64:
        raise NotImplementedError

    def u8(self, a: UInt8) -> UInt8:
        raise NotImplementedError

    def u16(self, a: UInt16) -> UInt16:
        raise NotImplementedError

    def u32(self, a: UInt32) -> UInt32:
        raise NotImplementedError

    def u64(self, a: UInt64) -> UInt64:
        raise NotImplementedError

    def f32(self, a: Float32) -> Float32:
        raise NotImplementedError

    def f64(self, a: Float64) -> Float64:
        raise NotImplementedError

    def truth(self, a: Bool) -> Bool:
        raise NotImplementedError

    def fixed(self, a: Bytes200) -> Bytes200:
        raise NotImplementedError

    def short(self, a: Short) -> Short:
        raise NotImplementedError

    def name(self, a: Name) -> Name:
        raise NotImplementedError

    def data(self, a: bytes) -> bytes:
        raise NotImplementedError

    def text(self, a: str) -> str:
        raise NotImplementedError

    def wrapped(self, a: StringValue) -> StringValue:
        raise NotImplementedError

    def struct(self, a: Struct) -> Struct:
        raise NotImplementedError

    def three(self, number: Int32, name: Name, flag: Bool) -> tuple[Bool, Name, Int32]:
        raise NotImplementedError

    def mixed(
        self, a: Annotated[Short, Immutable], b: Int64, c: str, d: Annotated[bytes, FixedBytes(3), Immutable()]
    ) -> tuple[bytes, Int64]:
        raise NotImplementedError


class Echo:
    """Returns its arguments."""

    def three(self, number: int, name: str, flag: bool) -> tuple[bool, str, int]:
        return flag, name, number

    def mixed(self, a: bytes, b: int, c: str, d: bytes) -> tuple[bytes, int]:
        return a + c.encode() + d, b

    def same(self, value: object) -> object:
        return value

    i8 = i16 = i32 = i64 = u8 = u16 = u32 = u64 = f32 = f64 = truth = same
    fixed = short = name = data = text = wrapped = struct = same


def many() -> Machine:
    """Return a machine whose server exports `Many`."""
    one = machine()
    Clerk().export(one.server, Many, Echo(), "many")
    return one


def returned(procedure: str, *values: object, transfer: Transfer = "lrpc") -> object:
    """Return the result of a procedure of `Many` at its caller."""
    one, found = many(), []
    one.run(lambda: found.append(vars(bind(one.client, Many, "many", transfer))[procedure](*values)))
    assert_nothing_held(one.kernel)
    return found[0]


def refused(call_it: Callable[[Many], object], transfer: Transfer = "lrpc") -> str:
    """Return the reason for refusing a call, and check that it cost nothing and left nothing."""
    one = many()
    said: list[str] = []

    def body() -> None:
        stubs = bind(one.client, Many, "many", transfer)

        def refuse() -> None:
            with pytest.raises(ArgumentError) as error:
                call_it(stubs)
            said.append(str(error.value))

        ns, counts = charged(one.kernel, refuse)
        assert (ns, sum(counts)) == (0, 0)
        assert stubs.i32(5) == 5

    one.run(body)
    assert_nothing_held(one.kernel)
    assert "\n" not in said[0]
    return said[0]


EXTREMES: list[tuple[str, object]] = [
    *[(f"i{bits}", value) for bits in (8, 16, 32, 64) for value in (-(2 ** (bits - 1)), 0, 2 ** (bits - 1) - 1)],
    *[(f"u{bits}", value) for bits in (8, 16, 32, 64) for value in (0, 2**bits - 1)],
    *[("f64", value) for value in (0.0, -1.5, 1e308, float("inf"))],
    *[("f32", value) for value in (0.0, -1.5, float("-inf"))],
    *[("truth", value) for value in (True, False)],
    ("fixed", bytes(range(200))),
    *[("short", value) for value in (b"", b"12345678")],
    *[("name", value) for value in ("", "12345678", "äöüß")],
    *[("data", value) for value in (b"", bytes(ETHERNET_PACKET))],
    *[("text", value) for value in ("", "x" * ETHERNET_PACKET, "\0\n")],
    *[("wrapped", value) for value in (StringValue(), StringValue(value="x"))],
]


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize(("procedure", "value"), EXTREMES)
def test_values_come_back_as_they_went(procedure: str, value: object, transfer: Transfer) -> None:
    found = returned(procedure, value, transfer=transfer)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_messages_come_back_as_copies(transfer: Transfer) -> None:
    given = Struct()
    given.update({"a": [1, "two", None], "b": {"c": True}})
    found = returned("struct", given, transfer=transfer)
    assert found == given
    assert found is not given


def test_a_whole_number_will_do_for_a_float() -> None:
    assert returned("f64", 3) == 3.0
    assert type(returned("f64", 3)) is float


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_several_results_are_a_tuple(transfer: Transfer) -> None:
    assert returned("three", 7, "seven", True, transfer=transfer) == (True, "seven", 7)
    assert returned("mixed", b"ab", -1, "ü", b"xyz", transfer=transfer) == (b"ab\xc3\xbcxyz", -1)


@pytest.mark.parametrize(
    ("call_it", "said"),
    [
        (lambda many: many.i32("5"), "Many.i32: a: Int32 takes int, not str"),
        (lambda many: many.i32(5.0), "Many.i32: a: Int32 takes int, not float"),
        (lambda many: many.i32(True), "Many.i32: a: Int32 takes int, not bool"),
        (lambda many: many.i32(None), "Many.i32: a: Int32 takes int, not NoneType"),
        (lambda many: many.i32(2**31), "Many.i32: a: 2147483648 does not fit Int32"),
        (lambda many: many.i8(-129), "Many.i8: a: -129 does not fit Int8"),
        (lambda many: many.u16(-1), "Many.u16: a: -1 does not fit UInt16"),
        (lambda many: many.u64(2**64), "Many.u64: a: 18446744073709551616 does not fit UInt64"),
        (lambda many: many.truth(1), "Many.truth: a: Bool takes bool, not int"),
        (lambda many: many.f64("1"), "Many.f64: a: Float64 takes float, not str"),
        (lambda many: many.f64(True), "Many.f64: a: Float64 takes float, not bool"),
        (lambda many: many.f64(10**400), "does not fit Float64"),
        (lambda many: many.f32(1e39), "Many.f32: a: 1e+39 does not fit Float32"),
        (lambda many: many.fixed(bytes(199)), "Many.fixed: a: takes 200 bytes, not 199"),
        (lambda many: many.fixed(bytes(201)), "Many.fixed: a: takes 200 bytes, not 201"),
        (lambda many: many.fixed(bytearray(200)), "Many.fixed: a: takes bytes, not bytearray"),
        (lambda many: many.short(bytes(9)), "Many.short: a: takes at most 8 bytes, not 9"),
        (lambda many: many.short("x"), "Many.short: a: takes bytes, not str"),
        (lambda many: many.name(b"x"), "Many.name: a: takes str, not bytes"),
        (lambda many: many.name("äöüßß"), "Many.name: a: takes at most 8 bytes, not 10"),
        (lambda many: many.text("\ud800"), "is not text that UTF-8 can hold"),
        (lambda many: many.data(bytes(ETHERNET_PACKET + 1)), "Many.data: a: takes at most 1448 bytes, not 1449"),
        (lambda many: many.wrapped("x"), "Many.wrapped: a: takes a google.protobuf.StringValue, not str"),
        (lambda many: many.wrapped(BytesValue()), "takes a google.protobuf.StringValue, not BytesValue"),
        (lambda many: many.wrapped(StringValue(value="x" * 1500)), "of at most 1448 bytes, not 1503"),
        (lambda many: many.i32(), "Many.i32: takes 1 values, not 0"),
        (lambda many: many.i32(1, 2), "Many.i32: takes 1 values, not 2"),
        (lambda many: many.three(1, "x"), "Many.three: takes 3 values, not 2"),
        (lambda many: many.three(1, "x", 1), "Many.three: flag: Bool takes bool, not int"),
        (lambda many: many.three(1, "x", flags=True), "Many.three: flag: missing, unknown or given twice"),
        (lambda many: many.three(1, "x", True, flag=True), "Many.three: flag: missing, unknown or given twice"),
        (lambda many: many.three(1, flag=True), "Many.three: name: missing, unknown or given twice"),
        (lambda many: many.three(number=2**40, name="x", flag=True), "Many.three: number: 1099511627776 does not fit"),
        (lambda many: many.mixed(b"", 0, "", b"1234"), "Many.mixed: d: takes 3 bytes, not 4"),
    ],
)
@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_wrong_argument_is_refused_before_the_trap(
    call_it: Callable[[Many], object], said: str, transfer: Transfer
) -> None:
    assert said in refused(call_it, transfer)


def test_a_procedure_without_parameters_takes_none() -> None:
    one = machine()
    said = []

    def body() -> None:
        with pytest.raises(ArgumentError, match=r"FourTests\.null: takes 0 values, not 1"):
            vars(one.tests())["null"](1)
        said.append(1)

    one.run(body)
    assert said == [1]


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_arguments_may_be_named(transfer: Transfer) -> None:
    one = many()
    found: list[object] = []

    def body() -> None:
        stubs = bind(one.client, Many, "many", transfer)
        found.append(stubs.three(flag=True, number=1, name="x"))
        found.append(stubs.three(1, name="x", flag=True))
        found.append(stubs.i32(a=9))

    one.run(body)
    assert found == [(True, "x", 1), (True, "x", 1), 9]


def test_no_caller_reaches_the_servers_own_values() -> None:
    one = machine()
    kept: list[object] = []

    class Server:
        def struct(self, value: Struct) -> Struct:
            kept.append(value)
            value["seen"] = True
            return value

    for procedure in Many.procedures:
        if procedure.name != "struct":
            setattr(Server, procedure.name, lambda self, *values: None)
    Clerk().export(one.server, Many, Server(), "many")
    given = Struct()

    def body() -> None:
        found = bind(one.client, Many, "many").struct(given)
        assert found["seen"] is True
        assert found is not kept[0]

    one.run(body)
    assert len(kept) == 1
    assert "seen" not in given


HOSTILE = [
    ("data", b"\xff\xff\xff\xff", "ArgumentError: Many.data: a: a length of 4294967295 bytes"),
    ("data", (ETHERNET_PACKET + 1).to_bytes(4, "little"), "Many.data: a: a length of 1449 bytes"),
    ("short", b"\x09\0\0\0" + bytes(9), "Many.short: a: a length of 9 bytes"),
    ("text", b"\x02\0\0\0\xff\xfe", "Many.text: a: text that is not UTF-8, at byte 0"),
    ("wrapped", b"\x02\0\0\0\x0a\x05", "Many.wrapped: a: not a google.protobuf.StringValue"),
    ("mixed", b"\x08\0\0\0" + bytes(16) + b"\xff\xff\xff\xff", "Many.mixed: c: a length of 4294967295 bytes"),
]


@pytest.mark.parametrize(("procedure", "written", "said"), HOSTILE)
def test_a_server_stub_refuses_what_a_hostile_client_writes(procedure: str, written: bytes, said: str) -> None:
    one = many()
    number = [one.name for one in Many.procedures].index(procedure)
    caught: list[str] = []

    def body() -> None:
        binding = one.kernel.bind(one.client, "many")
        astack = binding.groups[number].take(one.kernel.running_processor())
        one.client.memory.store(astack.address, written)
        with pytest.raises(ProcedureRaised) as error:
            call(one.kernel, binding.client_key, number, astack.address)
        caught.append(str(error.value))
        binding.groups[number].put_back(astack, one.kernel.running_processor())
        assert bind(one.client, Many, "many").i32(1) == 1

    one.run(body)
    assert said in caught[0]
    assert_nothing_held(one.kernel)


@examples(60)
@given(written=st.binary(max_size=1500), number=st.integers(0, len(Many.procedures) - 1))
def test_whatever_lies_on_an_astack_a_call_ends_with_results_or_an_error(written: bytes, number: int) -> None:
    one = many()
    ended: list[str] = []

    def body() -> None:
        binding = one.kernel.bind(one.client, "many")
        group = binding.groups[number]
        astack = group.take(one.kernel.running_processor())
        one.client.memory.store(astack.address, written[: group.size])
        try:
            call(one.kernel, binding.client_key, number, astack.address)
            ended.append("returned")
        except ProcedureRaised as error:
            ended.append(error.kind)
        group.put_back(astack, one.kernel.running_processor())

    one.run(body)
    assert len(ended) == 1
    assert ended[0] in ("returned", "ArgumentError")
    assert_nothing_held(one.kernel)


@examples(60)
@given(
    st.binary(max_size=8),
    st.integers(-(2**63), 2**63 - 1),
    st.text("aü", max_size=8),
    st.binary(min_size=3, max_size=3),
)
def test_values_that_end_early_are_refused_wherever_they_end(a: bytes, b: int, c: str, d: bytes) -> None:
    arguments = Many.procedures[-1].arguments
    packed = arguments.pack((a, b, c, d))
    assert arguments.unpack(packed, 0) == (a, b, c, d)
    assert arguments.unpack(bytearray(b"xyz" + packed + b"more"), 3) == (a, b, c, d)
    for size in range(len(packed)):
        with pytest.raises(ArgumentError, match=r"^Many\.mixed: .*the values end early$"):
            arguments.unpack(packed[:size], 0)


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_client_stub_refuses_what_a_hostile_server_writes(transfer: Transfer) -> None:
    one = many()
    number = [one.name for one in Many.procedures].index("data")
    descriptor = one.kernel.exports["many"].descriptors[number]

    def hostile(buffer: bytes | bytearray, offset: int) -> bytes:
        return b"\xff" * 4

    entries = list(one.kernel.exports["many"].descriptors)
    entries[number] = type(descriptor)(
        descriptor.name, hostile, descriptor.argument_size, descriptor.result_size, argument_values=1, result_values=1
    )
    export = one.kernel.exports.pop("many")
    one.kernel.export(type(export)("many", "Many", one.server, tuple(entries), export.clerk, export.server))
    caught = []

    def body() -> None:
        stubs = bind(one.client, Many, "many", transfer)
        with pytest.raises(CallError, match=r"Many\.data: result: a length of 4294967295 bytes"):
            stubs.data(b"x")
        caught.append(stubs.i32(4))

    one.run(body)
    assert caught == [4]
    assert_nothing_held(one.kernel)


@pytest.mark.parametrize("transfer", TRANSFERS)
@pytest.mark.parametrize(
    ("procedure", "value", "size"),
    [
        ("i64", 1, 8),
        ("fixed", bytes(200), 200),
        ("short", b"abc", 4 + 3),
        ("text", "ü", 4 + 2),
        ("wrapped", StringValue(value="x" * 100), 4 + 102),
        ("struct", Struct(), 4),
    ],
)
def test_only_the_bytes_that_a_value_has_are_copied(
    procedure: str, value: object, size: int, transfer: Transfer
) -> None:
    one = many()
    one.run(lambda: vars(bind(one.client, Many, "many", transfer))[procedure](value))
    counts = one.kernel.counts
    assert (counts.argument_bytes, counts.result_bytes) == (size, size)
    assert (counts.copies["A"], counts.copies["F"]) == (1, 1)
