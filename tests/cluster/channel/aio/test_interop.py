"""gRPC's interoperability cases over asyncio, each with either side lrpc's or gRPC's own."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from tests.support.awaited import run
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

Case = Callable[[grpc.aio.Channel], Awaitable[None]]


async def empty_call(request: Any, context: Any) -> Any:
    """Return an empty message."""
    return {}


async def unary_call(request: Any, context: Any) -> Any:
    """Return as many bytes as the request asks for, or end with its status."""
    await echo_metadata(context)
    await end_with(request, context)
    return zeros(request.get("size", 0))


async def streaming_input(requests: AsyncIterator[Any], context: Any) -> Any:
    """Return how many bytes came."""
    return {"total": sum([len(request["payload"]) async for request in requests])}


async def streaming_output(request: Any, context: Any) -> AsyncIterator[Any]:
    """Yield responses of the sizes that the request asks for."""
    for size in request["sizes"]:
        yield zeros(size)


async def full_duplex(requests: AsyncIterator[Any], context: Any) -> AsyncIterator[Any]:
    """Yield responses as each request asks for."""
    await echo_metadata(context)
    async for request in requests:
        await end_with(request, context)
        for size in request.get("sizes", ()):
            yield zeros(size)


async def echo_metadata(context: Any) -> None:
    """Return the two kinds of metadata that a client asks to have back."""
    told = dict(context.invocation_metadata())
    if ECHO_INITIAL in told:
        await context.send_initial_metadata(((ECHO_INITIAL, told[ECHO_INITIAL]),))
    if ECHO_TRAILING in told:
        context.set_trailing_metadata(((ECHO_TRAILING, told[ECHO_TRAILING]),))


async def end_with(request: Any, context: Any) -> None:
    """End the call with the status that a request asks for."""
    if "status" in request:
        code, details = request["status"]
        await context.abort(next(one for one in grpc.StatusCode if one.value[0] == code), details)


@contextlib.asynccontextmanager
async def serving(make: Callable[[], grpc.aio.Server], folder: Path) -> AsyncIterator[str]:
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
    server = make()
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_insecure_port(f"unix:{folder / 'interop'}")
    await server.start()
    try:
        yield f"unix:{folder / 'interop'}"
    finally:
        await server.stop(0)


def stub(channel: grpc.aio.Channel, kind: str, method: str, service: str = SERVICE) -> Any:
    """Return the stub of a method."""
    return getattr(channel, kind)(f"/{service}/{method}", packed, json.loads)


async def empty_unary(channel: grpc.aio.Channel) -> None:
    assert await stub(channel, "unary_unary", "EmptyCall")({}) == {}


async def large_unary(channel: grpc.aio.Channel) -> None:
    request = {"size": LARGE_RESPONSE, "payload": "\0" * LARGE_REQUEST}
    assert len((await stub(channel, "unary_unary", "UnaryCall")(request))["payload"]) == LARGE_RESPONSE


async def client_streaming(channel: grpc.aio.Channel) -> None:
    call = stub(channel, "stream_unary", "StreamingInputCall")()
    for _, size in SIZES:
        await call.write(zeros(size))
    await call.done_writing()
    assert await call == {"total": sum(size for _, size in SIZES)}


async def server_streaming(channel: grpc.aio.Channel) -> None:
    call = stub(channel, "unary_stream", "StreamingOutputCall")({"sizes": [size for size, _ in SIZES]})
    assert [len(response["payload"]) async for response in call] == [size for size, _ in SIZES]


async def ping_pong(channel: grpc.aio.Channel) -> None:
    call = stub(channel, "stream_stream", "FullDuplexCall")()
    for back, size in SIZES:
        await call.write({"sizes": [back], "payload": "\0" * size})
        assert len((await call.read())["payload"]) == back
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def empty_stream(channel: grpc.aio.Channel) -> None:
    call = stub(channel, "stream_stream", "FullDuplexCall")()
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF


async def cancel_after_begin(channel: grpc.aio.Channel) -> None:
    call = stub(channel, "stream_unary", "StreamingInputCall")()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert await call.code() is grpc.StatusCode.CANCELLED


async def cancel_after_first_response(channel: grpc.aio.Channel) -> None:
    call = stub(channel, "stream_stream", "FullDuplexCall")()
    await call.write({"sizes": [31_415], "payload": "\0" * 27_182})
    await call.read()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    assert await call.code() is grpc.StatusCode.CANCELLED


async def timeout_on_sleeping_server(channel: grpc.aio.Channel) -> None:
    """Where the deadline passes just as it writes, grpc.aio calls that an error of its core's."""
    codes = []
    for _ in range(20):  # which it does in one call of sixteen, with its own server too
        call = stub(channel, "stream_stream", "FullDuplexCall")(timeout=0.001)
        with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(zeros(27_182))
        if await call.details() != CORES_ERROR:
            codes.append(await call.code())
            break
    assert codes == [grpc.StatusCode.DEADLINE_EXCEEDED]


async def custom_metadata(channel: grpc.aio.Channel) -> None:
    unary = stub(channel, "unary_unary", "UnaryCall")({"size": LARGE_RESPONSE}, metadata=METADATA)
    await unary
    duplex = stub(channel, "stream_stream", "FullDuplexCall")(metadata=METADATA)
    await duplex.write({"sizes": [1]})
    await duplex.read()
    await duplex.done_writing()
    assert await duplex.read() is grpc.aio.EOF
    for call in (unary, duplex):
        assert dict(await call.initial_metadata())[ECHO_INITIAL] == METADATA[0][1]
        assert dict(await call.trailing_metadata())[ECHO_TRAILING] == METADATA[1][1]


async def status_code_and_message(channel: grpc.aio.Channel) -> None:
    request = {"status": [2, "test status message"]}
    unary = stub(channel, "unary_unary", "UnaryCall")(request)
    duplex = stub(channel, "stream_stream", "FullDuplexCall")()
    await duplex.write(request)
    await duplex.done_writing()
    for call in (unary, duplex):
        assert (await call.code(), await call.details()) == (grpc.StatusCode.UNKNOWN, "test status message")


async def special_status_message(channel: grpc.aio.Channel) -> None:
    call = stub(channel, "unary_unary", "UnaryCall")({"status": [2, SPECIAL]})
    assert (await call.code(), await call.details()) == (grpc.StatusCode.UNKNOWN, SPECIAL)


async def unimplemented_method(channel: grpc.aio.Channel) -> None:
    assert await stub(channel, "unary_unary", "UnimplementedCall")({}).code() is grpc.StatusCode.UNIMPLEMENTED


async def unimplemented_service(channel: grpc.aio.Channel) -> None:
    call = stub(channel, "unary_unary", "UnimplementedCall", "grpc.testing.UnimplementedService")({})
    assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


CORES_ERROR: Final = "Internal error from Core"
CASES: Final[tuple[Case, ...]] = (
    *(empty_unary, large_unary, client_streaming, server_streaming, ping_pong, empty_stream),
    *(cancel_after_begin, cancel_after_first_response, timeout_on_sleeping_server, custom_metadata),
    *(status_code_and_message, special_status_message, unimplemented_method, unimplemented_service),
)
SIDES: Final = {
    "lrpc to lrpc": (lrpc.aio.insecure_channel, lrpc.aio.server),
    "lrpc to gRPC": (lrpc.aio.insecure_channel, grpc.aio.server),
    "gRPC to lrpc": (grpc.aio.insecure_channel, lrpc.aio.server),
}


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
def test_a_case_of_grpcs_interoperability_passes(case: Case, sides: str, tmp_path: Path) -> None:
    client, server = SIDES[sides]

    async def main() -> None:
        async with serving(server, tmp_path) as target, client(target) as channel:
            for _ in range(2):  # also once it is bound
                await case(channel)
            if sides == "lrpc to lrpc":
                assert isinstance(channel, AwaitedChannel)
                assert channel.grpc_calls == 0

    run(main())
