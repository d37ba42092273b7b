"""Stubs of channels for threads: what serializers and deserializers, the user's, do there."""

import copy
import gc
import inspect
import subprocess
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

import lrpc
from lrpc.cluster.channel.channel import Channel
from lrpc.cluster.channel.stub import UnaryUnary
from lrpc.kernel.host import native
from tests.support.channels import SERVICE, serving
from tests.support.host import until

Ours = Callable[..., Any]  # makes a stub of `echo`


@pytest.fixture
def channel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Channel]:
    monkeypatch.setenv("LRPC_DOORS", str(tmp_path / "doors"))
    with serving(tmp_path) as (_, target, _), lrpc.insecure_channel(target) as channel:
        assert isinstance(channel, Channel)
        echo(channel)(StringValue(value="bind"))
        yield channel


def echo(channel: Channel, serialize: Any = StringValue.SerializeToString, read: Any = StringValue.FromString) -> Any:
    return channel.unary_unary(f"/{SERVICE}/echo", serialize, read)


def test_a_serializer_may_call_the_stub_itself(channel: Channel) -> None:
    stubs: list[Any] = []

    def serialize(request: StringValue) -> bytes:
        if request.value:
            request = StringValue(
                value=request.value[1:] + str(len(stubs[0](StringValue(value=request.value[1:])).value))
            )
        return request.SerializeToString()

    stubs.append(echo(channel, serialize))
    before = channel.local_calls
    assert len(stubs[0](StringValue(value="abcdefgh")).value) == 8
    assert channel.local_calls == before + 9


@pytest.mark.parametrize("at", ["serialize", "read"])
def test_what_is_no_error_goes_through_a_stub(channel: Channel, at: str) -> None:
    def leave(_: object) -> Any:
        raise SystemExit(at)

    with pytest.raises(SystemExit, match=at):
        echo(channel, **{at: leave})(StringValue(value="a"))
    assert echo(channel)(StringValue(value="b")).value == "b"  # the A-stack came back


@pytest.mark.parametrize("at", ["serialize", "read"])
def test_an_error_of_users_code_ends_the_call_as_grpc_says(channel: Channel, at: str) -> None:
    def fail(_: object) -> Any:
        raise ValueError(at)

    with pytest.raises(grpc.RpcError) as caught:
        echo(channel, **{at: fail})(StringValue(value="a"))
    assert isinstance(caught.value, grpc.Call)
    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert ("serializing request" if at == "serialize" else "deserializing response") in caught.value.details()


def test_a_serializer_is_asked_once_for_each_call(channel: Channel) -> None:
    asked: list[StringValue] = []

    def serialize(request: StringValue) -> bytes:
        asked.append(request)
        return request.SerializeToString()

    one = echo(channel, serialize)
    values = ["", "short", "x" * 3_000, "y" * 300_000]  # the last finds no room at first
    for value in values:
        assert one(StringValue(value=value)).value == value
    assert [request.value for request in asked] == values


def test_messages_may_be_bytes(channel: Channel) -> None:
    packed = StringValue(value="as it is").SerializeToString()
    assert echo(channel, None, None)(packed) == packed


def test_a_stub_in_a_ring_of_references_goes_with_it(channel: Channel) -> None:
    class Reader:
        stub: Any

        def read(self, data: bytes) -> StringValue:
            return StringValue.FromString(data)

    reader = Reader()
    reader.stub = echo(channel, read=reader.read)
    assert reader.stub(StringValue(value="a")).value == "a"
    gone = weakref.ref(reader)
    del reader
    gc.collect()
    assert gone() is None


def test_a_binding_ends_with_the_last_stub_of_a_channel_that_was_let_go(tmp_path: Path) -> None:
    options = [("lrpc.doors", str(tmp_path / "doors"))]
    with serving(tmp_path, options=options) as (_, target, server):
        one = echo(lrpc.insecure_channel(target, options))  # type: ignore[arg-type]  # it is lrpc's
        assert one(StringValue(value="a")).value == "a"
        local = server.doors.local  # type: ignore[attr-defined]  # it is lrpc's
        assert len(local.bindings) == 1
        del one
        gc.collect()
        until(lambda: not local.bindings)


def test_a_stub_is_made_once(channel: Channel) -> None:
    one = native.Stub(native.Way(1, 1), b"", b"", None, None)
    with pytest.raises(TypeError, match="made once"):
        one.__init__(native.Way(1, 1), b"", b"", None, None)  # type: ignore[misc]
    with pytest.raises(AttributeError, match="call_unusual"):
        one(b"")  # nobody is there to make an unusual call


def test_a_reply_beyond_the_channels_limit_is_refused_whatever_its_size(tmp_path: Path) -> None:
    doors = ("lrpc.doors", str(tmp_path / "doors"))
    with (
        serving(tmp_path, options=[doors]) as (_, target, _),
        lrpc.insecure_channel(target, [doors, ("grpc.max_receive_message_length", 20)]) as channel,
    ):
        one = echo(channel)  # type: ignore[arg-type]
        assert one(StringValue(value="x" * 18)).value == "x" * 18
        with pytest.raises(grpc.RpcError, match="larger than max"):
            one(StringValue(value="x" * 19))
        with pytest.raises(grpc.RpcError, match="larger than max"):
            one(StringValue(value="x" * 19_000))
        assert channel.grpc_calls == 0  # type: ignore[attr-defined]


def test_a_stub_is_to_inspect_and_to_copy_as_grpcs_is(channel: Channel) -> None:
    one, theirs = echo(channel), echo(channel.beside)  # type: ignore[arg-type]  # it is gRPC's

    def told(stub: Any) -> list[tuple[str, object]]:
        return [(name, parameter.default) for name, parameter in inspect.signature(stub).parameters.items()]

    assert told(one) == told(theirs)
    copied = copy.copy(one)
    before = channel.local_calls
    assert copied(request=StringValue(value="by name")).value == "by name"
    assert copied(StringValue(value="a")).value == "a"
    assert channel.local_calls == before + 2


@pytest.mark.parametrize("arguments", [((), {}), ((1, 2, 3, 4, 5, 6, 7), {}), ((1,), {"nothing": 2})])
def test_wrong_arguments_are_told_as_those_of_a_call(channel: Channel, arguments: tuple[Any, Any]) -> None:
    positional, named = arguments
    with pytest.raises(TypeError) as theirs:
        echo(channel.beside)(*positional, **named)  # type: ignore[arg-type]
    with pytest.raises(TypeError) as ours:
        echo(channel)(*positional, **named)
    assert str(ours.value).split(".", 1)[1] == str(theirs.value).split(".", 1)[1]


def test_an_error_that_a_serializer_returns_is_no_bytes(channel: Channel) -> None:
    def give(_: object) -> Any:
        return ValueError("given")

    with pytest.raises(TypeError) as theirs:
        echo(channel.beside, give)(b"")  # type: ignore[arg-type]
    with pytest.raises(TypeError) as ours:
        echo(channel, give)(b"")
    assert str(ours.value) == str(theirs.value)


@pytest.mark.parametrize("at", ["make_room", "_offer", "_send", "_finish"])
def test_calls_that_ctrl_c_ends_while_they_find_room_keep_no_astack(
    channel: Channel, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    one, own = echo(channel), channel.held
    free = own.native.counts()["free"]
    with monkeypatch.context() as patch:
        patch.setattr(UnaryUnary if at == "_finish" else type(own), at, leave)
        for _ in range(3):
            with pytest.raises(KeyboardInterrupt):
                one(StringValue(value="x" * 300_000))
    assert own.native.counts()["free"] == free
    assert one(StringValue(value="y" * 300_000)).value == "y" * 300_000
    own.native.release(0)  # which is back already
    assert own.native.counts()["free"] == free


def test_a_channel_has_read_all_of_lrpc_that_its_calls_take(tmp_path: Path) -> None:
    """A program may become a user who cannot read it before it calls."""
    program = f"""
import sys
import lrpc
channel = lrpc.insecure_channel(sys.argv[1], [("lrpc.doors", sys.argv[2])])
before = set(sys.modules)
assert channel.unary_unary("/{SERVICE}/echo")(b"") == b""
assert channel.unary_unary("/{SERVICE}/echo")(b"", timeout=20) == b""
assert channel.local_calls == 2
print([name for name in sys.modules if name not in before and name.startswith("lrpc")])
"""
    doors = str(tmp_path / "doors")
    with serving(tmp_path, options=[("lrpc.doors", doors)]) as (_, target, _):
        command = [sys.executable, "-c", program, target, doors]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("[]\n", "")
