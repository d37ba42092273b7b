"""Runs handlers of gRPC's for calls on A-stacks: finds them, and says of them what gRPC would.

Texts and codes are those of gRPC's own server.
"""

import contextvars
import logging
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc

from lrpc.cluster.channel.context import CallDetails, Context
from lrpc.cluster.channel.executors import Pool
from lrpc.cluster.channel.form import (
    NEVER,
    OK,
    STOPPING,
    TAKE_GRPC,
    Malformed,
    has_passed,
    pack_reply,
    pack_request,
    unpack_metadata,
    unpack_request,
)
from lrpc.cluster.channel.methods import (
    CANCELLED,
    CODES,
    EXHAUSTED,
    INTERNAL,
    INVALID_TEXT,
    LATE_REPLY,
    LIMIT_TEXT,
    UNIMPLEMENTED,
    UNKNOWN,
    Handler,
    Methods,
)
from lrpc.kernel.descriptors import Entry

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.kernel.host.bindings import ServerBinding
    from lrpc.kernel.host.native import HandlerStub

_LOG = logging.getLogger("lrpc.channel")


# Of a unary method: what makes a request of bytes, its handler, what makes bytes of a response.
HandlerSteps = tuple[
    Callable[[bytes], object] | None, Callable[[object, Context], object], Callable[[object], bytes] | None
]


@dataclass
class Handlers(Methods):
    """A server's handlers, and how they are run."""

    pool: Pool | None = None  # whose threads the workers stand for, and whose bound is theirs
    executor: Executor | None = None  # handlers are submitted to it; None: they run on workers
    _found: dict[bytes, HandlerSteps] = field(default_factory=dict)

    def stubs_for(self, binding: "ServerBinding") -> list[Entry]:
        """Return the one server stub of a binding: it takes a request and returns a reply."""
        from lrpc.kernel.host import native

        fresh, run, pool = contextvars.Context, self._run, self.pool
        bounded = self.most_concurrent is not None
        all_by_stub = pool is not None and not pool.begins and not bounded  # what a usual call needs

        # It is told the stub: a stub that knew itself would keep the binding's memory for a while.
        def enter(stub: "HandlerStub", data: Any, offset: int) -> bytes:  # always all of some `bytes`
            try:
                method, metadata, deadline_ns, message = unpack_request(data)
                if metadata:
                    unpack_metadata(metadata)  # so that a handler that asks for it is not surprised
            except Malformed as error:
                return pack_reply(INTERNAL, str(error), (), (), b"")
            steps = self._found.get(method)
            if steps is not None and not metadata and deadline_ns == NEVER and all_by_stub:
                stub.expect(pack_request(method, (), NEVER, b""), steps)
            if self.stopping:
                return pack_reply(STOPPING, "", (), (), b"")
            if bounded and not self.enter():
                return pack_reply(EXHAUSTED, LIMIT_TEXT, (), (), b"")
            context = Context(binding, metadata, deadline_ns, native.attended())
            try:
                if pool is None:
                    assert self.executor is not None
                    return self.executor.submit(fresh().run, run, stub, steps, method, context, message).result()
                pool.take()
                try:
                    executor = pool.executor()
                    if executor is None or executor._shutdown or (pool.begins and not pool.begin()):
                        return pack_reply(TAKE_GRPC, "", (), (), b"")
                    return fresh().run(run, stub, steps, method, context, message)
                finally:
                    pool.leave()
            finally:
                if bounded:
                    self.leave()
                context.finished = True
                if context.callbacks is not None:
                    context.call_back()

        take, leave, executor = (None, None, None) if pool is None else (pool.take, pool.leave, pool.executor)
        most = self.largest, self.most_sent
        stub = native.HandlerStub(self, enter, binding, Context, fresh, take, leave, executor, OK, *most)
        return [stub.enter]

    def _run(
        self, stub: "HandlerStub", steps: HandlerSteps | None, method: bytes, context: Context, message: bytes
    ) -> bytes:
        """Run the handler of a unary method, and answer with what it returns."""
        if context.deadline_ns >= 0 and not context.is_active():  # its time passed while it waited
            return LATE_REPLY
        if steps is None:
            found = self._look_up(method, context)
            if isinstance(found, bytes):
                return found
            steps = found
        if len(message) > self.largest:  # as in gRPC, which reads no request before
            return pack_reply(EXHAUSTED, self.too_large(message) or "", (), (), b"")
        reply = stub.handle(steps, context, message)
        return LATE_REPLY if has_passed(context.deadline_ns) else reply

    # What the native part asks of a call with which something is unusual; errors are being handled.

    def _unread(self, context: Context, error: Exception | None) -> bytes:
        """Reply that the request could not be read."""
        text = "Exception deserializing request!"
        if error is not None:
            _LOG.exception(text)
        return self._reply(context, INTERNAL, text)

    def _cancelled(self, context: Context, _: None) -> bytes:
        """Reply that the handler has cancelled its call."""
        return self._reply(context, CANCELLED, "CANCELLED", own=False)

    def _unsent(self, context: Context, error: Exception | None) -> bytes:
        """Reply that the response could not be serialized."""
        if error is not None:
            _LOG.exception("Exception serializing message!")
        return self._reply(context, INTERNAL, "Failed to serialize response!")

    def _answered(self, context: Context, data: bytes) -> bytes:
        """Reply with a response with which more goes, or that may be too long."""
        if len(data) > self.most_sent:
            return pack_reply(EXHAUSTED, self.too_long(data) or "", context.initial, (), b"")
        return self._reply(context, 0, "", data)

    def _look_up(self, method: bytes, context: Context) -> HandlerSteps | bytes:
        """Return what handles a method; or the reply, where it is no unary one of this server."""
        try:
            handler = self._find(method.decode(), context)
        except Exception:
            _LOG.exception("Error in service handler!")
            return pack_reply(UNKNOWN, "Error in service handler!", (), (), b"")
        if handler is None:
            return self._reply(context, UNIMPLEMENTED, "Method not found!")
        if handler.request_streaming or handler.response_streaming:
            return pack_reply(TAKE_GRPC, "", (), (), b"")
        steps = handler.request_deserializer, handler.unary_unary, handler.response_serializer
        if not self.interceptors and method.decode() in self.registered:  # generic ones may look at metadata
            self._found[method] = steps
        return steps

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
            return self._cancelled(context, None)
        return self._reply(context, UNKNOWN, details)

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
