"""A `grpc.aio.Server` whose unary calls may also come over A-stacks.

gRPC's own server stands behind it, as with the server for threads. Calls at the doors are taken by
the event loop that starts the server; no thread stands between a client and its handler's task.
"""

import asyncio
import contextvars
import inspect
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from typing import TYPE_CHECKING, Any, Final

import grpc

from lrpc.cluster.channel import own
from lrpc.cluster.channel.decision import ChannelOptions
from lrpc.cluster.channel.doors import PortDoors, RegisteredServer, broken, largest_request, largest_response, passed_on
from lrpc.cluster.channel.methods import LIMIT_TEXT, Methods

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.cluster.channel.aio.handlers import AwaitedHandlers
    from lrpc.kernel.host.doors import Doors
    from lrpc.kernel.host.server import HostServer

SIMULTANEOUS: Final = 64  # calls of one channel: those of a loop wait without a thread each
ALWAYS_SLEEPS: Final = 1


class AwaitedServer(RegisteredServer, grpc.aio.Server):
    """A gRPC server for asyncio, and the doors beside its ports. Made by `lrpc.aio.server`."""

    def __init__(
        self,
        pool: Executor | None,
        handlers: Sequence[Any] | None,
        interceptors: Sequence[Any] | None,
        options: ChannelOptions | None,
        maximum_concurrent_rpcs: int | None,
        compression: Any,
    ) -> None:
        options = list(options or ())  # they may be iterators
        handlers, interceptors = tuple(handlers or ()), tuple(interceptors or ())
        self.doors = PortDoors(options, SIMULTANEOUS)
        self._pool = pool
        self._methods = Methods(
            interceptors=interceptors,
            generic=list(handlers),
            most_concurrent=maximum_concurrent_rpcs,
            largest=largest_request(options),
            most_sent=largest_response(options),
        )
        self._grpc = own.AIO_SERVER.make(
            pool,
            list(handlers),
            [*interceptors, _CountedCalls(self._methods)],
            passed_on(options),
            maximum_concurrent_rpcs,
            compression,
        )
        self._handlers: AwaitedHandlers | None = None  # once it has started, where it has doors
        self._stops = 0  # that are in progress, or were
        self._stopped = asyncio.Event()

    async def start(self) -> None:
        """Start serving, on gRPC and at the doors."""
        await self._grpc.start()
        if self.doors.local is None:
            self.doors.open(self._serve, None)

    async def stop(self, grace: float | None) -> None:
        """Take no more calls; wait `grace` seconds for those that run, and cancel the others."""
        self._methods.stopping = True
        self._stops += 1
        if self.doors.local is not None:
            self.doors.local.close_doors()
        ending = asyncio.ensure_future(self._grpc.stop(grace))
        if self._handlers is not None:
            from lrpc.domains.host.loops import in_thread

            await self._handlers.drain(grace)
            await in_thread(self.doors.close)
        await ending
        self._stopped.set()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; return whether the time ran out before."""
        loop = asyncio.get_running_loop()
        end = None if timeout is None else loop.time() + timeout
        if await self._grpc.wait_for_termination(timeout):
            return True
        if self._stops:  # calls on A-stacks may still have their grace
            try:
                async with asyncio.timeout_at(end):
                    await self._stopped.wait()
            except TimeoutError:
                return True
        return False

    def __del__(self) -> None:
        """End the doors of a server that nobody has stopped, as gRPC's own side ends."""
        doors: PortDoors | None = getattr(self, "doors", None)
        if doors is not None and doors.local is not None and not self._stops:
            threading.Thread(target=doors.close, daemon=True).start()

    def _serve(self, doors: "Doors") -> "HostServer":
        from lrpc.cluster.channel.aio.handlers import AwaitedHandlers
        from lrpc.domains.host.loops import LoopCalls
        from lrpc.kernel.host.server import HostServer

        loop = asyncio.get_running_loop()
        handlers = self._handlers = AwaitedHandlers(self._methods, self._pool, contextvars.copy_context(), loop)
        return HostServer(
            f"gRPC server {os.getpid()}",
            doors,
            broken,
            ALWAYS_SLEEPS,
            0,
            attends=lambda server: LoopCalls(server, loop, handlers.take),
        )


def server(
    migration_thread_pool: Executor | None = None,
    handlers: Sequence[Any] | None = None,
    interceptors: Sequence[Any] | None = None,
    options: ChannelOptions | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: Any = None,
) -> grpc.aio.Server:
    """Return a gRPC server for asyncio, as `grpc.aio.server` does, with doors for this computer.

    Where this system has no host kernel, or LRPC_CHANNEL=off, gRPC alone serves.
    """
    return AwaitedServer(migration_thread_pool, handlers, interceptors, options, maximum_concurrent_rpcs, compression)


class _CountedCalls(grpc.aio.ServerInterceptor):
    """The innermost interceptor on gRPC's way: what bounds calls there bounds both ways."""

    def __init__(self, methods: Methods) -> None:
        self._methods = methods

    async def intercept_service(
        self, continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Any]], handler_call_details: Any
    ) -> Any:
        """Return the handler with its behaviour counted."""
        self._methods.grpc_calls += 1
        handler = await continuation(handler_call_details)
        if handler is None or self._methods.most_concurrent is None:
            return handler
        kinds = {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
        }
        name, make = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
        counted = self._counted(getattr(handler, name), streams=bool(handler.response_streaming))
        return make(counted, handler.request_deserializer, handler.response_serializer)

    def _counted(self, behaviour: Callable[[Any, Any], Any], *, streams: bool) -> Callable[[Any, Any], Any]:
        """Return a behaviour of the same kind that refuses calls beyond the bound."""
        enter, leave = self._methods.enter, self._methods.leave
        exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED

        async def awaited(request: Any, context: Any) -> Any:
            if not enter():
                await context.abort(exhausted, LIMIT_TEXT)
            try:
                return await behaviour(request, context)
            finally:
                leave()

        async def generated(request: Any, context: Any) -> Any:
            if not enter():
                await context.abort(exhausted, LIMIT_TEXT)
            try:
                async for one in behaviour(request, context):
                    yield one
            finally:
                leave()

        def called(request: Any, context: Any) -> Any:
            if not enter():
                context.abort(exhausted, LIMIT_TEXT)
            try:
                return behaviour(request, context)
            finally:
                leave()

        def iterated(request: Any, context: Any) -> Any:
            if not enter():
                context.abort(exhausted, LIMIT_TEXT)
            try:
                yield from behaviour(request, context)
            finally:
                leave()

        if inspect.isasyncgenfunction(behaviour):
            return generated
        if inspect.iscoroutinefunction(behaviour):
            return awaited
        return iterated if streams else called
