"""Runs handlers of gRPC's for calls on A-stacks: finds them, and says of them what gRPC would.

Texts and codes are those of gRPC's own server.
"""

import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import grpc

from lrpc.cluster.channel.context import Context
from lrpc.cluster.channel.executors import Pool
from lrpc.cluster.channel.form import (
    OK,
    STOPPING,
    TAKE_GRPC,
    Malformed,
    pack_reply,
    unpack_metadata,
    unpack_request,
)
from lrpc.cluster.channel.methods import (
    CANCELLED,
    CODES,
    EXHAUSTED,
    INTERNAL,
    INVALID_TEXT,
    LATE,
    LIMIT_TEXT,
    UNIMPLEMENTED,
    UNKNOWN,
    CallDetails,
    Handler,
    Methods,
)
from lrpc.kernel.descriptors import Entry

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.kernel.host.bindings import ServerBinding

_LOG = logging.getLogger("lrpc.channel")


@dataclass
class Handlers(Methods):
    """A server's handlers, and how they are run."""

    pool: Pool | None = None  # whose threads the workers stand for, and whose bound is theirs
    executor: Executor | None = None  # handlers are submitted to it; None: they run on workers
    _found: dict[bytes, Handler] = field(default_factory=dict)

    def stubs_for(self, binding: "ServerBinding") -> list[Entry]:
        """Return the one server stub of a binding: it takes a request and returns a reply."""
        from lrpc.kernel.host.workers import attended

        fresh, run = contextvars.Context, self._run

        def enter(buffer: bytes | bytearray, offset: int) -> bytes:  # always all of some `bytes`
            try:
                method, metadata, deadline_ns, message = unpack_request(
                    bytes(buffer) if offset else cast(bytes, buffer)
                )
                if metadata:
                    unpack_metadata(metadata)  # so that a handler that asks for it is not surprised
            except Malformed as error:
                return pack_reply(INTERNAL, str(error), (), (), b"")
            context = Context(binding, metadata, deadline_ns, attended.index)
            if self.executor is None:
                return fresh().run(run, method, context, message)
            return self.executor.submit(contextvars.Context().run, self._run, method, context, message).result()

        return [enter]

    def _run(self, method: bytes, context: Context, message: bytes) -> bytes:
        if self.stopping:
            return pack_reply(STOPPING, "", (), (), b"")
        if not self.enter():
            return pack_reply(EXHAUSTED, LIMIT_TEXT, (), (), b"")
        pool = self.pool
        if pool is not None and not pool.enter():
            self.leave()
            return pack_reply(TAKE_GRPC, "", (), (), b"")
        try:
            if context.deadline_ns >= 0 and not context.is_active():  # its time passed while it waited
                return pack_reply(LATE, "Deadline Exceeded", (), (), b"")
            return self._answer(method, context, message)
        finally:
            if pool is not None:
                pool.leave()
            self.leave()
            context.finished = True
            if context.callbacks is not None:
                context.call_back()

    def _answer(self, method: bytes, context: Context, message: bytes) -> bytes:
        handler = self._found.get(method)  # registered ones only: generic ones may look at metadata
        if handler is None:
            try:
                handler = self._find(method.decode(), context)
            except Exception:
                _LOG.exception("Error in service handler!")
                return pack_reply(UNKNOWN, "Error in service handler!", (), (), b"")
            if handler is None:
                return self._reply(context, UNIMPLEMENTED, "Method not found!")
            if not self.interceptors and method.decode() in self.registered:
                self._found[method] = handler
        if handler.request_streaming or handler.response_streaming:
            return pack_reply(TAKE_GRPC, "", (), (), b"")
        if (text := self.too_large(message)) is not None:  # as in gRPC, which reads no request before
            return pack_reply(EXHAUSTED, text, (), (), b"")
        request: object = message
        if handler.request_deserializer is not None:
            try:
                request = handler.request_deserializer(message)
            except Exception:
                _LOG.exception("Exception deserializing request!")
                return self._reply(context, INTERNAL, "Exception deserializing request!")
            if request is None:
                return self._reply(context, INTERNAL, "Exception deserializing request!")
        try:
            response = handler.unary_unary(request, context)
        except Exception as error:
            return self._raised(context, error)
        return self._returned(handler, context, response)

    def _find(self, method: str, context: Context) -> Handler:
        """Return the handler of a method, through the interceptors; None where there is none."""
        details = CallDetails(method, context.invocation_metadata())

        def found(details: grpc.HandlerCallDetails) -> Handler:
            return self.handler_of(method, details)  # whatever an interceptor calls it

        def continuation(at: int) -> Callable[[grpc.HandlerCallDetails], Handler]:
            if at == len(self.interceptors):
                return found
            return lambda details: self.interceptors[at].intercept_service(continuation(at + 1), details)

        return continuation(0)(details)

    def _raised(self, context: Context, error: Exception) -> bytes:
        details = "RPC Aborted"
        if not context.aborted:
            try:
                details = f"Exception calling application: {error}"
            except Exception:
                details = "Calling application raised unprintable Exception!"
            _LOG.exception(details)
        if context.cancelled:
            return self._reply(context, CANCELLED, "CANCELLED", own=False)
        return self._reply(context, UNKNOWN, details)

    def _returned(self, handler: Handler, context: Context, response: object) -> bytes:
        if context.cancelled:
            return self._reply(context, CANCELLED, "CANCELLED", own=False)
        data: object = response
        if handler.response_serializer is not None:
            try:
                data = handler.response_serializer(response)
            except Exception:
                _LOG.exception("Exception serializing message!")
                data = None
        if not isinstance(data, bytes):
            return self._reply(context, INTERNAL, "Failed to serialize response!")
        if (text := self.too_long(data)) is not None:
            return pack_reply(EXHAUSTED, text, context.initial, (), b"")
        if context.has_said_nothing():
            return OK + data
        return self._reply(context, 0, "", data)

    def _reply(self, context: Context, code: int, details: str, data: bytes = b"", *, own: bool = True) -> bytes:
        """Return a reply; what the handler has set goes before, where `own`."""
        if own and context.code_set is not None:
            code = _number(context.code_set)
        if own and context.details_set is not None:
            details = context.details_set
        if not context.metadata_are_right():
            return pack_reply(INTERNAL, INVALID_TEXT, (), (), b"")
        return pack_reply(code, details, context.initial, context.trailing, data)


def _number(code: object) -> int:
    """Return a status code as a number: gRPC takes what is none for UNKNOWN."""
    return CODES.get(code, UNKNOWN) if isinstance(code, grpc.StatusCode) else UNKNOWN
