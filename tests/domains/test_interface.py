"""Interfaces come from typed classes or gRPC services; wrong ones are refused in one line."""

from collections.abc import Callable
from typing import Annotated, get_args

import pytest
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Check, FixedBytes, Float32, Immutable, Int32, Marshaled, Mutable, Reference, UpTo
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface, InterfaceRefused, interface_of, procedure
from lrpc.domains.plans import CopyPlan, PrivateValues, ValuePlan
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.descriptors import ETHERNET_PACKET, SIMULTANEOUS_CALLS
from lrpc.kernel.errors import ArgumentError
from tests.support.simulated import TRANSFERS, FourTests, FourTestsServer, assert_nothing_held, machine


def service(*, client_streaming: bool = False, server_streaming: bool = False) -> ServiceDescriptor:
    """Return shop.v1.Prices: Get (Item) returns (Price), and Drop (Item) returns (Item)."""
    file = FileDescriptorProto(name="shop.proto", package="shop.v1", syntax="proto3")
    item = file.message_type.add(name="Item")
    item.field.add(name="name", number=1, type="TYPE_STRING", label="LABEL_OPTIONAL")
    price = file.message_type.add(name="Price")
    price.field.add(name="cents", number=1, type="TYPE_INT64", label="LABEL_OPTIONAL")
    prices = file.service.add(name="Prices")
    prices.method.add(
        name="Get",
        input_type=".shop.v1.Item",
        output_type=".shop.v1.Price",
        client_streaming=client_streaming,
        server_streaming=server_streaming,
    )
    prices.method.add(name="Drop", input_type=".shop.v1.Item", output_type=".shop.v1.Item")
    pool = DescriptorPool()
    pool.Add(file)
    return pool.FindServiceByName("shop.v1.Prices")


@pytest.mark.parametrize("transfer", TRANSFERS)
def test_a_grpc_service_is_an_interface_whose_procedures_take_and_return_messages(transfer: Transfer) -> None:
    prices = service()
    get = prices.methods_by_name["Get"]
    item, price = GetMessageClass(get.input_type), GetMessageClass(get.output_type)
    interface = interface_of(prices)

    class Server:
        def Get(self, request: Message) -> Message:  # noqa: N802 - the service's name for it
            return price(cents=len(request.name))  # type: ignore[attr-defined]

        def Drop(self, request: Message) -> Message:  # noqa: N802
            return price()

    one = machine()
    Clerk().export(one.server, interface, Server(), "prices")
    found: list[object] = []

    def body() -> None:
        stubs = vars(bind(one.client, interface, "prices", transfer))
        found.append(stubs["Get"](item(name="tea")))
        found.append(stubs["Get"](request=item(name="coffee")))
        with pytest.raises(ArgumentError, match=r"shop\.v1\.Prices\.Get: request: takes a shop\.v1\.Item, not Price"):
            stubs["Get"](price())
        with pytest.raises(Exception, match=r"Prices\.Drop: response: takes a shop\.v1\.Item, not Price"):
            stubs["Drop"](item())

    one.run(body)
    assert found == [price(cents=3), price(cents=6)]
    assert_nothing_held(one.kernel)
    assert interface.__name__ == "Prices"
    assert [one.name for one in interface.procedures] == ["Get", "Drop"]


@pytest.mark.parametrize("side", ["client_streaming", "server_streaming"])
def test_a_streaming_method_is_refused(side: str) -> None:
    with pytest.raises(InterfaceRefused, match=r"^shop\.v1\.Prices\.Get: streams; a procedure takes one message"):
        interface_of(service(**{side: True}))


def test_public_methods_are_procedures_in_order() -> None:
    class Some(Interface):
        def second(self, a: Int32) -> None: ...

        def _helper(self) -> None: ...

        def first(self) -> None: ...

        constant = 3

    assert [one.name for one in Some.procedures] == ["second", "first"]
    assert Some.interface is Some


def test_an_implementation_adds_no_procedures() -> None:
    class Server(FourTestsServer):
        def more(self) -> int:
            return 1

    assert Server.procedures == FourTests.procedures
    assert Server.interface is FourTests


def test_sizes_follow_from_the_types() -> None:
    class Some(Interface):
        def sized(
            self,
            a: Int32,
            b: Annotated[bytes, FixedBytes(7)],
            c: Annotated[str, UpTo(10), Immutable],
            d: bytes,
        ) -> tuple[Float32, Annotated[bytes, UpTo(20)]]:
            raise NotImplementedError

    sized = Some.procedures[0]
    assert sized.arguments.size == 4 + 7 + (4 + 10) + (4 + ETHERNET_PACKET)
    assert sized.results.size == 4 + (4 + 20)
    packed = bytearray(sized.arguments.pack((1, bytes(7), "abc", b"")))
    private = PrivateValues(sized.arguments, everything=False)
    assert (private.count, private.size(packed, 0)) == (1, 4 + 3)
    assert private.spans(packed, 0) == [(4 + 7, 4 + 3)]
    assert sized.simultaneous == SIMULTANEOUS_CALLS


def test_a_message_may_be_larger_than_a_packet_where_the_definition_says_so() -> None:
    prices = service()
    item = GetMessageClass(prices.methods_by_name["Get"].input_type)
    values = CopyPlan("p", [])
    assert values.size == 0

    class Some(Interface):
        def take(self, item: Annotated[item, Marshaled(item, 5000)]) -> None: ...  # type: ignore[valid-type]

    arguments = Some.procedures[0].arguments
    assert arguments.largest == 5004
    assert arguments.size == 4 + ETHERNET_PACKET  # what is longer travels out of band


def test_how_many_calls_may_be_in_progress_is_the_definitions() -> None:
    class Some(Interface):
        @procedure(simultaneous=17)
        def many(self) -> None: ...

        def few(self) -> None: ...

    assert [one.simultaneous for one in Some.procedures] == [17, 5]


def without_annotation() -> None:
    class Bad(Interface):
        def p(self, a) -> None: ...  # type: ignore[no-untyped-def]


def without_result() -> None:
    class Bad(Interface):
        def p(self, a: Int32): ...  # type: ignore[no-untyped-def]


def plain_int() -> None:
    class Bad(Interface):
        def p(self, a: int) -> None: ...


def plain_list() -> None:
    class Bad(Interface):
        def p(self) -> list[int]:
            raise NotImplementedError


def optional() -> None:
    class Bad(Interface):
        def p(self, a: Int32 | None) -> None: ...


def bare_tuple() -> None:
    class Bad(Interface):
        def p(self) -> tuple:  # type: ignore[type-arg]
            raise NotImplementedError


def endless_tuple() -> None:
    class Bad(Interface):
        def p(self) -> tuple[Int32, ...]:
            raise NotImplementedError


def default() -> None:
    class Bad(Interface):
        def p(self, a: Int32 = 1) -> None: ...


def rest() -> None:
    class Bad(Interface):
        def p(self, *a: Int32) -> None: ...


def only_named() -> None:
    class Bad(Interface):
        def p(self, *, a: Int32) -> None: ...


def any_message() -> None:
    class Bad(Interface):
        def p(self, a: Message) -> None: ...


def unknown_name() -> None:
    class Bad(Interface):
        def p(self, a: "Nowhere") -> None: ...  # type: ignore[name-defined] # noqa: F821


def unknown_attribute() -> None:
    class Bad(Interface):
        def p(self, a: "pytest.Nowhere") -> None: ...  # type: ignore[name-defined]


def no_expression() -> None:
    class Bad(Interface):
        def p(self, a: "1 +") -> None: ...  # type: ignore[valid-type] # noqa: F722


def no_calls_at_once() -> None:
    class Bad(Interface):
        @procedure(simultaneous=0)
        def p(self) -> None: ...


def half_a_call() -> None:
    class Bad(Interface):
        @procedure(simultaneous=1.5)  # type: ignore[arg-type]
        def p(self) -> None: ...


def bytes_for_a_number() -> None:
    class Bad(Interface):
        def p(self, a: Annotated[int, FixedBytes(4)]) -> None: ...


def text_for_a_number() -> None:
    class Bad(Interface):
        def p(self, a: Annotated[int, UpTo(4)]) -> None: ...


def text_of_fixed_size() -> None:
    class Bad(Interface):
        def p(self, a: Annotated[str, FixedBytes(4)]) -> None: ...


def less_than_nothing() -> None:
    class Bad(Interface):
        def p(self, a: Annotated[bytes, FixedBytes(-1)]) -> None: ...


def up_to_less_than_nothing() -> None:
    class Bad(Interface):
        def p(self, a: Annotated[bytes, UpTo(-9)]) -> None: ...


def a_name_that_interfaces_use() -> None:
    class Bad(Interface):
        def p(self) -> None: ...

        def interface(self) -> None: ...  # type: ignore[override]


def another_name_that_interfaces_use() -> None:
    class Bad(Interface):
        def procedures(self) -> None: ...  # type: ignore[override]


def mutable_and_immutable() -> None:
    class Bad(Interface):
        def p(self, a: Mutable[Annotated[Int32, Immutable]]) -> None: ...


def mutable_and_checked() -> None:
    class Bad(Interface):
        def p(self, a: Mutable[Annotated[Int32, Check(bool, "one")]]) -> None: ...


def mutable_reference() -> None:
    class Bad(Interface):
        def p(self, a: Mutable[Reference[Int32]]) -> None: ...


def reference_to_what_is_mutable() -> None:
    class Bad(Interface):
        def p(self, a: Reference[Mutable[Int32]]) -> None: ...


def mutable_result() -> None:
    class Bad(Interface):
        def p(self) -> Mutable[Int32]: ...


@pytest.mark.parametrize(
    ("define", "said"),
    [
        (mutable_and_immutable, "Bad.p: a: both Mutable and Immutable; choose one"),
        (mutable_and_checked, "Bad.p: a: both Mutable and checked; choose one"),
        (mutable_reference, "Bad.p: a: both Mutable and a Reference; choose one"),
        (reference_to_what_is_mutable, "Bad.p: a: both Mutable and a Reference; choose one"),
        (mutable_result, "Bad.p: a result is no Mutable; the caller has it to itself"),
        (without_annotation, "Bad.p: a: no annotation: not a type that stubs can carry"),
        (without_result, "Bad.p: its result is not annotated; write -> None"),
        (plain_int, "Bad.p: a: <class 'int'>: not a type"),
        (plain_list, "Bad.p: result: list[int]: not a type"),
        (optional, "Bad.p: a: "),
        (bare_tuple, "Bad.p: result: <class 'tuple'>: not a type"),
        (endless_tuple, "Bad.p: result 2: Ellipsis: not a type"),
        (default, "Bad.p: a: a plain parameter is needed, without a default"),
        (rest, "Bad.p: a: a plain parameter is needed"),
        (only_named, "Bad.p: a: a plain parameter is needed"),
        (any_message, "Bad.p: a: "),
        (unknown_name, "Bad.p: name 'Nowhere' is not defined; define it at the top level"),
        (unknown_attribute, "Bad.p: "),
        (no_expression, "Bad.p: "),
        (no_calls_at_once, "Bad.p: 0 simultaneous calls"),
        (half_a_call, "Bad.p: 1.5 simultaneous calls"),
        (bytes_for_a_number, "Bad.p: a: "),
        (text_for_a_number, "Bad.p: a: "),
        (text_of_fixed_size, "Bad.p: a: "),
        (less_than_nothing, "Bad.p: a: "),
        (up_to_less_than_nothing, "Bad.p: a: "),
        (a_name_that_interfaces_use, "Bad.interface: "),
        (another_name_that_interfaces_use, "Bad.procedures: "),
    ],
)
def test_what_no_stub_can_carry_is_refused_in_one_line(define: Callable[[], None], said: str) -> None:
    with pytest.raises(InterfaceRefused) as error:
        define()
    assert str(error.value).startswith(said)
    assert len(str(error.value).splitlines()) == 1


class Even(UpTo):
    """Takes an even number of bytes, and has them the other way round on an A-stack."""

    def encode(self, value: object) -> bytes:
        return super().encode(value)[::-1]

    def decode(self, data: bytes) -> object:
        if len(data) % 2:
            raise ArgumentError("an odd number of bytes")
        return data[::-1]


def test_a_codec_derived_from_one_of_ours_packs_and_reads_by_its_own_methods() -> None:
    plan = CopyPlan("Odd.put", [ValuePlan("number", get_args(Int32)[1]), ValuePlan("data", Even(8))])
    packed = plan.pack((1, b"abcd"))
    assert packed == b"\1\0\0\0" + b"\4\0\0\0" + b"dcba"
    assert plan.unpack(packed, 0) == (1, b"abcd")
    with pytest.raises(ArgumentError, match=r"Odd\.put: data: an odd number of bytes"):
        plan.unpack(b"\1\0\0\0" + b"\3\0\0\0" + b"abc", 0)
