"""Runs handlers of `grpc.aio` for calls on A-stacks, in the server's event loop.

Each call is a task, as with gRPC. Texts and codes are those of gRPC's own server.
"""

import asyncio
import contextvars
import functools
import inspect
import logging
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any

import grpc

from lrpc.cluster.channel.aio.context import AwaitedContext, ThreadContext
from lrpc.cluster.channel.context import CallDetails
from lrpc.cluster.channel.form import OK, STOPPING, TAKE_GRPC, Malformed, pack_reply, unpack_metadata, unpack_request
from lrpc.cluster.channel.methods import (
    CANCELLED,
    EXHAUSTED,
    INTERNAL,
    LATE_REPLY,
    LIMIT_TEXT,
    STOPPING_TEXT,
    UNAVAILABLE,
    UNIMPLEMENTED,
    UNKNOWN,
    Handler,
    Methods,
)
from lrpc.domains.host.loops import LoopCall
from lrpc.kernel.host.workers import NO_SUCH_PROCEDURE

_LOG = logging.getLogger("lrpc.channel")
Continuation = Callable[[grpc.HandlerCallDetails], Awaitable[Handler]]


@dataclass
class AwaitedHandlers:
    """How a server's handlers are run: coroutines in the loop, others on `pool`."""

    methods: Methods
    pool: Executor | None
    context: contextvars.Context  # each call begins with a copy
    loop: asyncio.AbstractEventLoop  # in which they run: to ask for it costs a system call
    running: dict[AwaitedContext, asyncio.Task[None]] = field(default_factory=dict)
    _found: dict[bytes, tuple[Handler, bool]] = field(default_factory=dict)  # registered ones

    def take(self, call: LoopCall) -> None:
        """Begin a call: its task answers."""
        if call.procedure:
            call.answer(b"", NO_SUCH_PROCEDURE)
            return
        try:
            method, metadata, deadline_ns, message = unpack_request(call.data)
            if metadata:
                unpack_metadata(metadata)  # so that a handler that asks for it is not surprised
        except Malformed as error:
            call.answer(pack_reply(INTERNAL, str(error), (), (), b""))
            return
        if self.methods.stopping:
            call.answer(pack_reply(STOPPING, "", (), (), b""))
            return
        context = AwaitedContext(call, metadata, deadline_ns)
        loop = self.loop
        task = loop.create_task(self._run(method, context, message), context=self.context.copy())
        self.running[context] = task
        call.on_gone = functools.partial(self._stop, context, task)
        if context.deadline_ns >= 0:
            context.late = loop.call_later(context.time_remaining() or 0.0, self._late, context, task)

    def _stop(self, context: AwaitedContext, task: asyncio.Task[None]) -> None:
        task.cancel()
        if not context.began:  # and will not: its coroutine never runs
            self._ended(context)

    def _late(self, context: AwaitedContext, task: asyncio.Task[None]) -> None:
        if not context.finished:
            context.give_up(LATE_REPLY)
            self._stop(context, task)

    def _ended(self, context: AwaitedContext) -> None:
        self.running.pop(context, None)
        if context.late is not None:
            context.late.cancel()
        if not context.finished:
            context.give_up(pack_reply(CANCELLED, "CANCELLED", (), (), b""))
        if context.callbacks is not None:
            asyncio.get_running_loop().call_soon(_call_back, context, context.callbacks)

    async def drain(self, grace: float | None) -> None:
        """Wait for the calls that run, at most so many seconds; cancel those that are left."""
        if self.running and grace:
            await asyncio.wait(self.running.values(), timeout=grace)
        while self.running:
            for context, task in list(self.running.items()):
                context.give_up(pack_reply(UNAVAILABLE, STOPPING_TEXT, (), (), b""))
                self._stop(context, task)
            if self.running:
                await asyncio.wait(self.running.values())

    async def _run(self, method: bytes, context: AwaitedContext, message: bytes) -> None:
        context.began = True
        try:
            known = self._found.get(method)
            if known is None:
                known = await self._look_up(method, context)
            handler, awaited = known
            if handler is None:
                context.answer(context.reply(UNIMPLEMENTED, "Method not found!"))
            elif handler.request_streaming or handler.response_streaming:
                context.answer(pack_reply(TAKE_GRPC, "", (), (), b""))
            elif (text := self.methods.too_large(message)) is not None:  # the interceptors have seen it
                context.answer(pack_reply(EXHAUSTED, text, (), (), b""))
            elif not self.methods.enter():
                context.answer(pack_reply(EXHAUSTED, LIMIT_TEXT, (), (), b""))
            else:
                try:
                    request = message if handler.request_deserializer is None else handler.request_deserializer(message)
                    if awaited:
                        response = await handler.unary_unary(request, context)
                    else:
                        response = await self._on_thread(handler.unary_unary, request, context)
                    self._return(handler, response, context)
                finally:
                    self.methods.leave()
        except asyncio.CancelledError:
            # Where it was not answered, the handler has raised it: gRPC never answers that.
            context.give_up(pack_reply(CANCELLED, "CANCELLED", (), (), b""))
        except Exception as error:
            if error is not context.failed:  # that was answered by `abort`
                name = method.decode(errors="replace")
                _LOG.exception("Unexpected [%s] raised by servicer method [%s]", type(error).__name__, name)
                context.answer(context.reply(context.number or UNKNOWN, f"Unexpected {type(error)}: {error}"))
        finally:
            self._ended(context)

    def _return(self, handler: Handler, response: object, context: AwaitedContext) -> None:
        """Answer with what a handler has returned."""
        context.require_running()
        if context.number:  # gRPC passes no response of a call that failed
            context.answer(context.reply(context.number, context.details()))
            return
        data: object = response.encode() if isinstance(response, str) else response  # as gRPC's server takes it
        if handler.response_serializer is not None:
            data = handler.response_serializer(data)
        if data is None:
            data = b""
        elif not isinstance(data, bytes):
            raise TypeError(f"Expected bytes, got {type(data).__name__}")
        if (text := self.methods.too_long(data)) is not None:
            context.set_trailing_metadata(())  # which gRPC does not send then
            context.answer(context.reply(EXHAUSTED, text))
            return
        context.answer(context.reply(0, context.details(), data) if context.has_said else OK + data)

    async def _look_up(self, method: bytes, context: AwaitedContext) -> tuple[Handler, bool]:
        """Return the handler of a method, and whether it is a coroutine function."""
        handler = await self._find(method.decode(), context)
        found = handler, handler is not None and _is_awaited(handler.unary_unary)
        if not self.methods.interceptors and method.decode() in self.methods.registered:
            self._found[method] = found  # generic ones may look at metadata
        return found

    async def _on_thread(self, behaviour: Callable[[Any, Any], Any], request: object, context: AwaitedContext) -> Any:
        loop = asyncio.get_running_loop()
        own = ThreadContext(context, loop)
        response = await loop.run_in_executor(self.pool, behaviour, request, own)
        for callback in own.callbacks:
            callback()
        return response

    async def _find(self, method: str, context: AwaitedContext) -> Handler:
        """Return the handler of a method, through the interceptors; None where there is none."""
        details = CallDetails(method, context.invocation_metadata())
        if not self.methods.interceptors:
            return self.methods.handler_of(method, details)

        async def found(details: grpc.HandlerCallDetails) -> Handler:
            return self.methods.handler_of(details.method, details)

        return await _through(self.methods.interceptors, found)(details)


def _call_back(context: AwaitedContext, callbacks: list[Callable[[Any], None]]) -> None:
    for callback in callbacks:
        try:
            callback(context)
        except Exception:
            _LOG.exception("Error in callback")


def _through(interceptors: Sequence[Any], last: Continuation) -> Continuation:
    """Return what asks each interceptor in turn, and in the end `last`."""
    if not interceptors:
        return last
    return functools.partial(interceptors[0].intercept_service, _through(interceptors[1:], last))


def _is_awaited(behaviour: object) -> bool:
    return inspect.isawaitable(behaviour) or inspect.iscoroutinefunction(behaviour)
