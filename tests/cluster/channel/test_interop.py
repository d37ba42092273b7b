"""gRPC's interoperability cases, each with either side lrpc's or gRPC's own."""

import contextlib
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

import grpc
import pytest

import lrpc
from lrpc.cluster.channel.channel import Channel
from tests.support.interop import (
    ECHO_INITIAL,
    ECHO_TRAILING,
    LARGE_REQUEST,
    LARGE_RESPONSE,
    METADATA,
    SERVICE,
    SIZES,
    SPECIAL,
    packed,
    zeros,
)

Case = Callable[[grpc.Channel], None]


def empty_call(request: Any, context: Any) -> Any:
    """Return an empty message."""
    return {}


def unary_call(request: Any, context: Any) -> Any:
    """Return as many bytes as the request asks for, or end with its status."""
    echo_metadata(context)
    end_with(request, context)
    return zeros(request.get("size", 0))


def streaming_input(requests: Iterator[Any], context: Any) -> Any:
    """Return how many bytes came."""
    return {"total": sum(len(request["payload"]) for request in requests)}


def streaming_output(request: Any, context: Any) -> Iterator[Any]:
    """Yield responses of the sizes that the request asks for."""
    yield from map(zeros, request["sizes"])


def full_duplex(requests: Iterator[Any], context: Any) -> Iterator[Any]:
    """Yield responses as each request asks for."""
    echo_metadata(context)
    for request in requests:
        end_with(request, context)
        yield from map(zeros, request.get("sizes", ()))


def echo_metadata(context: Any) -> None:
    """Return the two kinds of metadata that a client asks to have back."""
    told = dict(context.invocation_metadata())
    if ECHO_INITIAL in told:
        context.send_initial_metadata(((ECHO_INITIAL, told[ECHO_INITIAL]),))
    if ECHO_TRAILING in told:
        context.set_trailing_metadata(((ECHO_TRAILING, told[ECHO_TRAILING]),))


def end_with(request: Any, context: Any) -> None:
    """End the call with the status that a request asks for."""
    if "status" in request:
        code, details = request["status"]
        context.abort(next(one for one in grpc.StatusCode if one.value[0] == code), details)


@contextlib.contextmanager
def serving(make: Callable[..., grpc.Server], folder: Path) -> Iterator[str]:
    """Serve the test's service; yield its target."""
    any_grpc: Any = grpc
    forms = json.loads, packed
    handlers = {
        "EmptyCall": any_grpc.unary_unary_rpc_method_handler(empty_call, *forms),
        "UnaryCall": any_grpc.unary_unary_rpc_method_handler(unary_call, *forms),
        "StreamingInputCall": any_grpc.stream_unary_rpc_method_handler(streaming_input, *forms),
        "StreamingOutputCall": any_grpc.unary_stream_rpc_method_handler(streaming_output, *forms),
        "FullDuplexCall": any_grpc.stream_stream_rpc_method_handler(full_duplex, *forms),
    }
    server = make(ThreadPoolExecutor(4))
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{folder / 'interop'}")
    server.start()
    try:
        yield f"unix:{folder / 'interop'}"
    finally:
        server.stop(0).wait()


def stub(channel: grpc.Channel, kind: str, method: str, service: str = SERVICE) -> Any:
    """Return the stub of a method."""
    return getattr(channel, kind)(f"/{service}/{method}", packed, json.loads)


class Requests:
    """Requests of a stream that are written one by one; closed at the end of a block."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Any] = SimpleQueue()

    def __enter__(self) -> "Requests":
        return self

    def __exit__(self, *ended: object) -> None:
        self._queue.put(None)

    def write(self, request: Any) -> None:
        """Write a request."""
        self._queue.put(request)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._queue.get, None)


def empty_unary(channel: grpc.Channel) -> None:
    assert stub(channel, "unary_unary", "EmptyCall")({}) == {}


def large_unary(channel: grpc.Channel) -> None:
    request = {"size": LARGE_RESPONSE, **zeros(LARGE_REQUEST)}
    assert len(stub(channel, "unary_unary", "UnaryCall")(request)["payload"]) == LARGE_RESPONSE


def client_streaming(channel: grpc.Channel) -> None:
    requests = (zeros(size) for _, size in SIZES)
    assert stub(channel, "stream_unary", "StreamingInputCall")(requests) == {"total": sum(size for _, size in SIZES)}


def server_streaming(channel: grpc.Channel) -> None:
    call = stub(channel, "unary_stream", "StreamingOutputCall")({"sizes": [size for size, _ in SIZES]})
    assert [len(response["payload"]) for response in call] == [size for size, _ in SIZES]


def ping_pong(channel: grpc.Channel) -> None:
    with Requests() as requests:
        call = stub(channel, "stream_stream", "FullDuplexCall")(iter(requests))
        for back, size in SIZES:
            requests.write({"sizes": [back], **zeros(size)})
            assert len(next(call)["payload"]) == back
    assert list(call) == []
    assert call.code() is grpc.StatusCode.OK


def empty_stream(channel: grpc.Channel) -> None:
    assert list(stub(channel, "stream_stream", "FullDuplexCall")(iter(()))) == []


def cancel_after_begin(channel: grpc.Channel) -> None:
    with Requests() as requests:
        call = stub(channel, "stream_unary", "StreamingInputCall").future(iter(requests))
        call.cancel()
        assert call.code() is grpc.StatusCode.CANCELLED


def cancel_after_first_response(channel: grpc.Channel) -> None:
    with Requests() as requests:
        call = stub(channel, "stream_stream", "FullDuplexCall")(iter(requests))
        requests.write({"sizes": [31_415], **zeros(27_182)})
        next(call)
        call.cancel()
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() is grpc.StatusCode.CANCELLED


def timeout_on_sleeping_server(channel: grpc.Channel) -> None:
    with Requests() as requests:
        call = stub(channel, "stream_stream", "FullDuplexCall")(iter(requests), timeout=0.001)
        requests.write(zeros(27_182))
        with pytest.raises(grpc.RpcError):
            next(call)
        assert call.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def custom_metadata(channel: grpc.Channel) -> None:
    _, unary = stub(channel, "unary_unary", "UnaryCall").with_call({"size": LARGE_RESPONSE}, metadata=METADATA)
    duplex = stub(channel, "stream_stream", "FullDuplexCall")(iter([{"sizes": [1]}]), metadata=METADATA)
    assert len(list(duplex)) == 1
    for call in (unary, duplex):
        assert dict(call.initial_metadata())[ECHO_INITIAL] == METADATA[0][1]
        assert dict(call.trailing_metadata())[ECHO_TRAILING] == METADATA[1][1]


def ended_with(calls: Callable[[], Any]) -> tuple[grpc.StatusCode, str]:
    """Return the status with which calls end."""
    with pytest.raises(grpc.RpcError) as ended:
        calls()
    error: Any = ended.value
    return error.code(), error.details()


def status_code_and_message(channel: grpc.Channel) -> None:
    request = {"status": [2, "test status message"]}
    unary, duplex = stub(channel, "unary_unary", "UnaryCall"), stub(channel, "stream_stream", "FullDuplexCall")
    for calls in (lambda: unary(request), lambda: list(duplex(iter([request])))):
        assert ended_with(calls) == (grpc.StatusCode.UNKNOWN, "test status message")


def special_status_message(channel: grpc.Channel) -> None:
    unary = stub(channel, "unary_unary", "UnaryCall")
    assert ended_with(lambda: unary({"status": [2, SPECIAL]})) == (grpc.StatusCode.UNKNOWN, SPECIAL)


def unimplemented_method(channel: grpc.Channel) -> None:
    unary = stub(channel, "unary_unary", "UnimplementedCall")
    assert ended_with(lambda: unary({}))[0] is grpc.StatusCode.UNIMPLEMENTED


def unimplemented_service(channel: grpc.Channel) -> None:
    unary = stub(channel, "unary_unary", "UnimplementedCall", "grpc.testing.UnimplementedService")
    assert ended_with(lambda: unary({}))[0] is grpc.StatusCode.UNIMPLEMENTED


CASES: Final[tuple[Case, ...]] = (
    *(empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream),
    *(cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server, custom_metadata),
    *(status_code_and_message, special_status_message, unimplemented_method, unimplemented_service),
)
SIDES: Final = {
    "lrpc to lrpc": (lrpc.insecure_channel, lrpc.server),
    "lrpc to gRPC": (lrpc.insecure_channel, grpc.server),
    "gRPC to lrpc": (grpc.insecure_channel, lrpc.server),
}


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_case_of_grpcs_interoperability_passes(case: Case, sides: str, tmp_path: Path) -> None:
    client, server = SIDES[sides]
    with serving(server, tmp_path) as target, client(target) as channel:
        for _ in range(2):  # also once it is bound
            case(channel)
        if sides == "lrpc to lrpc" and case.__name__.endswith("unary"):
            assert isinstance(channel, Channel)
            assert channel.local_calls == 2
