"""One service of coroutines that do what handlers do, and all that a client of asyncio can see."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
from google.protobuf.wrappers_pb2 import StringValue

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from tests.support.channels import CORE, SERVICE, Seen

CODES = list(grpc.StatusCode)
Context = grpc.aio.ServicerContext[Any, Any]


class AwaitedService:
    """Handlers: each has a way of ending a call. Those whose name begins with `sync` are none."""

    def __init__(self) -> None:
        self.release, self.called, self.cancelled = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self.ended: asyncio.Queue[tuple[bool, bool]] = asyncio.Queue()  # of contexts: done, cancelled

    async def echo(self, request: StringValue, context: Context) -> StringValue:
        return request

    async def metadata(self, request: StringValue, context: Context) -> StringValue:
        told = told_by(context)
        await context.send_initial_metadata((("first", "1"), ("raw-bin", b"\x00\xff"), ("first", "2")))
        context.set_trailing_metadata((*told, ("last", "2")))
        return StringValue(value=str(told))

    async def status(self, request: StringValue, context: Context) -> StringValue:
        context.set_code(CODES[int(request.value)])
        context.set_details(f"status {request.value} ü")
        context.set_trailing_metadata((("why", "because"),))
        return request

    async def abort(self, request: StringValue, context: Context) -> StringValue:
        await context.abort(CODES[int(request.value)], "aborted", (("so", "it is"),))

    async def abort_status(self, request: StringValue, context: Context) -> StringValue:
        class Rich(grpc.Status):
            code, details, trailing_metadata = grpc.StatusCode.DATA_LOSS, request.value, (("rich-bin", b"\x01"),)

        await context.abort_with_status(Rich())

    async def abort_twice(self, request: StringValue, context: Context) -> StringValue:
        with contextlib.suppress(grpc.aio.AbortError):
            await context.abort(grpc.StatusCode.NOT_FOUND, "first")
        await context.abort(grpc.StatusCode.INTERNAL, "second")

    async def abort_swallowed(self, request: StringValue, context: Context) -> StringValue:
        with contextlib.suppress(grpc.aio.AbortError):
            await context.abort(grpc.StatusCode.NOT_FOUND, "gone")
        return request

    async def abort_later(self, request: StringValue, context: Context) -> StringValue:
        context.set_details("before")
        context.set_trailing_metadata((("t", "0"),))
        await context.abort(grpc.StatusCode.NOT_FOUND)

    async def raises(self, request: StringValue, context: Context) -> StringValue:
        if request.value:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details(request.value)
            context.set_trailing_metadata((("kept", "yes"),))
        raise ValueError("handler raised")

    async def none(self, request: StringValue, context: Context) -> Any:
        return None

    async def odd_code(self, request: StringValue, context: Context) -> StringValue:
        context.set_code(5 if request.value else "odd")  # type: ignore[arg-type]  # what some programs do
        return request

    async def bad_trailing(self, request: StringValue, context: Context) -> StringValue:
        context.set_trailing_metadata((("K", "v"),))
        return request

    async def bad_initial(self, request: StringValue, context: Context) -> StringValue:
        await context.send_initial_metadata((("K", "v"),))
        return request

    async def late(self, request: StringValue, context: Any) -> StringValue:
        while context.time_remaining():
            pass  # and so the loop sees no deadline pass
        return request

    async def time(self, request: StringValue, context: Context) -> StringValue:
        left: Any = context.time_remaining()
        return StringValue(value="none" if left is None else "some" if 0 < left < 100 else "much")

    async def who(self, request: StringValue, context: Context) -> StringValue:
        known = context.peer(), context.peer_identities(), context.peer_identity_key(), context.auth_context()
        state = context.code(), context.details(), context.trailing_metadata(), context.done(), context.cancelled()
        return StringValue(value=str([known, state, await context.read() is grpc.aio.EOF]))

    async def agent(self, request: StringValue, context: Context) -> StringValue:
        found = dict(context.invocation_metadata() or ())["user-agent"]
        return StringValue(value=CORE.sub("", str(found)))

    async def wrong(self, request: StringValue, context: Any) -> StringValue:
        found: list[str] = []
        await context.send_initial_metadata(())
        calls: tuple[Callable[[], object], ...] = (
            lambda: context.set_trailing_metadata(5),
            lambda: context.set_trailing_metadata((("a", 1),)),
            lambda: context.set_details(5),
            lambda: context.set_compression(grpc.Compression.Gzip),
        )
        for call in calls:
            try:
                call()
            except Exception as error:
                found.append(repr(error))
        try:
            await context.send_initial_metadata(())
        except Exception as error:
            found.append(repr(error))
        return StringValue(value=str(found))

    async def large(self, request: StringValue, context: Context) -> StringValue:
        return StringValue(value="x" * int(request.value))

    async def wait(self, request: StringValue, context: Any) -> StringValue:
        context.add_done_callback(lambda ended: self.ended.put_nowait((ended.done(), ended.cancelled())))
        self.called.set()
        if request.value == "early":
            await context.send_initial_metadata((("early", "yes"), ("raw-bin", b"\x00")))
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def much(self, request: StringValue, context: Context) -> StringValue:
        kind, _, count = request.value.partition(" ")
        pairs = tuple((f"k{n}", "v" * 1000) for n in range(int(count)))
        if "i" in kind:
            await context.send_initial_metadata(pairs)
        if "t" in kind:
            context.set_trailing_metadata(pairs)
        if "a" in kind:
            await context.abort(grpc.StatusCode.NOT_FOUND, "aborted")
        return request

    async def stream(self, request: StringValue, context: Context) -> AsyncIterator[StringValue]:
        for n in range(3):
            yield StringValue(value=f"{request.value}{n}")

    def sync_echo(self, request: StringValue, context: Any) -> StringValue:
        return request

    def sync_metadata(self, request: StringValue, context: Any) -> StringValue:
        context.send_initial_metadata((("first", "1"),))
        context.set_trailing_metadata((*told_by(context), ("last", "2")))
        return request

    def sync_abort(self, request: StringValue, context: Any) -> StringValue:
        context.abort(CODES[int(request.value)], "aborted")
        return request

    def sync_raises(self, request: StringValue, context: Any) -> StringValue:
        raise LookupError(request.value)

    def handlers(self) -> dict[str, Any]:
        """Return the handlers by name."""
        make: Any = grpc
        forms = StringValue.FromString, StringValue.SerializeToString
        unary = [name for name in vars(AwaitedService) if name not in ("handlers", "stream") and name[0] != "_"]
        found = {name: make.unary_unary_rpc_method_handler(getattr(self, name), *forms) for name in unary}
        return {**found, "stream": make.unary_stream_rpc_method_handler(self.stream, *forms)}


def told_by(context: Any) -> list[tuple[str, str | bytes]]:
    """Return the metadata that the client itself has given."""
    return [tuple(pair) for pair in context.invocation_metadata() if pair[0] != "user-agent"]


@contextlib.asynccontextmanager
async def awaited_serving(folder: Path, **options: Any) -> AsyncIterator[tuple[AwaitedService, str, grpc.aio.Server]]:
    """Serve on a UNIX socket; yield the service, its target and the server."""
    service = AwaitedService()
    with ThreadPoolExecutor(4, thread_name_prefix="migration") as pool:
        server = lrpc.aio.server(pool, **options)
        server.add_registered_method_handlers(SERVICE, service.handlers())
        target = f"unix:{folder / 'grpc.sock'}"
        server.add_insecure_port(target)
        await server.start()
        try:
            yield service, target, server
        finally:
            service.release.set()
            await server.stop(0)


@contextlib.asynccontextmanager
async def awaited_pair(
    folder: Path, **options: Any
) -> AsyncIterator[tuple[AwaitedService, AwaitedChannel, grpc.aio.Channel]]:
    """Serve, and yield the service, a channel of ours that is bound, and one of gRPC's."""
    async with (
        awaited_serving(folder, **options) as (service, target, _),
        lrpc.aio.insecure_channel(target) as ours,
        grpc.aio.insecure_channel(target) as theirs,
    ):
        assert isinstance(ours, AwaitedChannel)
        yield service, ours, theirs


def awaited_stub(channel: grpc.aio.Channel, name: str) -> Any:
    """Return the stub of a unary method, as generated code makes it."""
    made: Any = channel
    return made.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
        _registered_method=True,
    )


async def awaited_seen(channel: grpc.aio.Channel, name: str, value: str, **given: Any) -> Seen:
    """Call a method, and return what can be seen of it: by its error, and by the call itself."""
    call = awaited_stub(channel, name)(StringValue(value=value), **given)
    try:
        response = (await call).value
    except grpc.aio.AioRpcError as error:
        response = None
        said = Seen(
            None, error.code(), error.details() or "", tuple(error.initial_metadata()), tuple(error.trailing_metadata())
        )
        assert said == await ended(call, None)
    assert call.done()
    return await ended(call, response)


async def ended(call: Any, response: str | None) -> Seen:
    """Return what a call says of how it has ended."""
    metadata = tuple(await call.initial_metadata()), tuple(await call.trailing_metadata())
    return Seen(response, await call.code(), await call.details(), *metadata)


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, for at most half a minute."""
    asyncio.run(asyncio.wait_for(main, 30))


def text(value: str = "") -> StringValue:
    """Return a message."""
    return StringValue(value=value)
