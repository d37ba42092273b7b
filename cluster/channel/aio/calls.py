"""Calls of a channel for asyncio, as programs see them while they run and once they have ended."""

import asyncio
import contextlib
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any, Final

import grpc

from lrpc.cluster.channel.calls import debug_string
from lrpc.cluster.channel.form import Malformed, Metadata, unpack_metadata

_BY_NUMBER: Final = {code.value[0]: code for code in grpc.StatusCode}
_CANCELLED: Final = 1
_LOCALLY: Final = "Locally cancelled by application!"
FAILED: Final = object()  # in the place of a response, where there is none
Done = Callable[[Any], None]


class AwaitedUnaryCall(grpc.aio.UnaryUnaryCall[Any, Any]):
    """A `grpc.aio.UnaryUnaryCall` that has begun: its status, metadata and response.

    It ends by `set_status` and `settle`; or gRPC's own call comes in its place, by `go_beside`.
    """

    # Set by few calls: until then the class has them, and a call costs less to begin.
    _until: float | None = None  # the deadline
    _beside: grpc.aio.UnaryUnaryCall[Any, Any] | None = None
    _code: int | None = None  # of the status, once the call has ended
    _details: str = ""
    _initial: grpc.aio.Metadata | None = None
    _trailing: Metadata = ()
    _locally_cancelled: bool = False
    _callbacks: list[Done] | None = None
    _waiters: list[asyncio.Future[None]] | None = None

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout: float | None) -> None:
        self._loop = loop
        self._response: asyncio.Future[Any] = loop.create_future()
        if timeout is not None:
            self._until = time.time() + timeout

    # --- what makes the call ---------------------------------------------------------------------

    def stop(self) -> None:
        """Stop what makes the call: it was cancelled."""
        raise NotImplementedError

    def settle(self, response: object) -> None:
        """Set the response, which is FAILED where there is none."""
        if not self._response.done():
            self._response.set_result(response)

    def set_status(self, code: int, details: str = "", initial: Metadata = (), trailing: Metadata = ()) -> None:
        """End the call."""
        self._code, self._details = code, details
        if initial or trailing:
            self.set_metadata(initial, trailing)
        if self._waiters is not None:
            self._wake()
        if self._callbacks is not None:
            callbacks, self._callbacks = self._callbacks, None
            for callback in callbacks:
                callback(self)

    def set_metadata(self, initial: Metadata, trailing: Metadata) -> None:
        """Set the metadata that came with the reply."""
        self._trailing = trailing
        if self._initial is None:
            self._initial = grpc.aio.Metadata(*initial)

    def set_early(self, packed: bytes) -> None:
        """Take the initial metadata that came before the reply."""
        with contextlib.suppress(Malformed):
            if self._initial is None:
                self._initial = grpc.aio.Metadata(*unpack_metadata(packed))
                self._wake()

    def time_left(self) -> float | None:
        """Return the seconds until the deadline, also below 0; None where there is none."""
        return None if self._until is None else self._until - time.time()

    def go_beside(self, call: grpc.aio.UnaryUnaryCall[Any, Any]) -> None:
        """Put gRPC's own call in the place of this one."""
        self._beside = call
        self._wake()
        callbacks, self._callbacks = self._callbacks, None
        for callback in callbacks or ():
            self._add_beside(call, callback)

    def _add_beside(self, call: grpc.aio.UnaryUnaryCall[Any, Any], callback: Done) -> None:
        call.add_done_callback(lambda _: callback(self))

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def _change(self) -> None:
        waiter: asyncio.Future[None] = self._loop.create_future()
        self._waiters = [*(self._waiters or ()), waiter]
        await waiter

    async def _end(self) -> "grpc.aio.UnaryUnaryCall[Any, Any] | None":
        """Wait for the status; return gRPC's call, where that has it."""
        while self._code is None and self._beside is None:
            await self._change()
        return None if self._code is not None else self._beside

    # --- as a grpc.aio.UnaryUnaryCall ------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, Any]:
        try:
            response = yield from self._response
        except asyncio.CancelledError:
            if not self.cancelled():
                self.cancel()
            raise
        if response is not FAILED:
            return response
        if self._beside is not None and self._code is None:
            return (yield from self._beside.__await__())  # which raises its error
        raise self._error()

    def _error(self) -> grpc.aio.AioRpcError:
        code = _BY_NUMBER.get(self._code or 0, grpc.StatusCode.UNKNOWN)
        return grpc.aio.AioRpcError(
            code,
            self._initial or grpc.aio.Metadata(),
            grpc.aio.Metadata(*self._trailing),
            details=self._details,
            debug_error_string=debug_string(code, self._details),
        )

    def cancel(self) -> bool:
        """Cancel the call; return whether it still ran."""
        if self.done():
            return False
        self._locally_cancelled = True
        if self._beside is None:
            self.set_status(_CANCELLED, _LOCALLY)
        else:
            self._beside.cancel()
        self.stop()
        self._response.cancel()
        return True

    def cancelled(self) -> bool:
        """Return whether the call has ended with CANCELLED."""
        return self._code == _CANCELLED or (self._beside is not None and self._beside.cancelled())

    def done(self) -> bool:
        """Return whether the call has ended."""
        return self._code is not None or (self._beside is not None and self._beside.done())

    def time_remaining(self) -> float | None:
        """Return the seconds that are left; None where there is no deadline."""
        left = self.time_left()
        return None if left is None else max(0, left)

    def add_done_callback(self, callback: Done) -> None:
        """Call `callback` with this call when it ends, or now where it has."""
        if self._code is not None:
            callback(self)
        elif self._beside is not None:
            self._add_beside(self._beside, callback)
        else:
            self._callbacks = [*(self._callbacks or ()), callback]

    async def initial_metadata(self) -> grpc.aio.Metadata:
        """Return the server's initial metadata, as soon as they are there."""
        while self._initial is None:
            if self._beside is not None:
                return await self._beside.initial_metadata()
            if self._code is not None:
                return grpc.aio.Metadata()
            await self._change()
        return self._initial

    async def trailing_metadata(self) -> grpc.aio.Metadata:
        """Return the server's trailing metadata."""
        beside = await self._end()
        return grpc.aio.Metadata(*self._trailing) if beside is None else await beside.trailing_metadata()

    async def code(self) -> grpc.StatusCode:
        """Return the status code."""
        beside = await self._end()
        if beside is not None:
            return await beside.code()
        return _BY_NUMBER.get(self._code or 0, grpc.StatusCode.UNKNOWN)

    async def details(self) -> str:
        """Return the status details."""
        beside = await self._end()
        return self._details if beside is None else await beside.details()

    async def debug_error_string(self) -> str:
        """Return the status as gRPC's core writes it."""
        beside: Any = await self._end()
        if beside is not None:
            return str(await beside.debug_error_string())
        return debug_string(_BY_NUMBER.get(self._code or 0, grpc.StatusCode.UNKNOWN), self._details)

    async def wait_for_connection(self) -> None:
        """Wait until the call has ended. Raises the error that it ended with."""
        await asyncio.wait((self._response,))
        if self._locally_cancelled:
            raise asyncio.CancelledError
        if self._beside is not None and self._code is None:
            await self._beside.wait_for_connection()
        elif self._code:
            raise self._error()

    def __repr__(self) -> str:
        if self._beside is not None and self._code is None:
            return repr(self._beside)
        if self._code is None:
            return f"<{type(self).__name__} object>"
        code = _BY_NUMBER.get(self._code, grpc.StatusCode.UNKNOWN)
        return (
            f'<{type(self).__name__} of RPC that terminated with:\n\tstatus = {code}\n\tdetails = "{self._details}"\n>'
        )


class ReturnedCall(grpc.aio.UnaryUnaryCall[Any, Any]):
    """The call of an interceptor that has returned a response."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __await__(self) -> Generator[Any, None, Any]:
        return self._response
        yield  # so that it is a generator

    def cancel(self) -> bool:
        """Return False: the call has ended."""
        return False

    def cancelled(self) -> bool:
        """Return False: the call has a response."""
        return False

    def done(self) -> bool:
        """Return True: the call has ended."""
        return True

    def add_done_callback(self, callback: Done) -> None:
        """Call `callback`: the call has ended."""
        callback(self)

    def time_remaining(self) -> float | None:
        """Return None: there is no deadline."""
        return None

    async def initial_metadata(self) -> Any:
        """Return None: no server was asked."""

    async def trailing_metadata(self) -> Any:
        """Return None: no server was asked."""

    async def code(self) -> grpc.StatusCode:
        """Return OK."""
        return grpc.StatusCode.OK

    async def details(self) -> str:
        """Return no details."""
        return ""

    async def debug_error_string(self) -> str | None:
        """Return None: there was no error."""
        return None

    async def wait_for_connection(self) -> None:
        """Return at once."""


class PassedCall(grpc.aio.UnaryUnaryCall[Any, Any]):
    """A call that passes interceptors: `last` makes the call that they let through."""

    def __init__(
        self,
        interceptors: Sequence[Any],
        details: grpc.aio.ClientCallDetails,
        request: Any,
        last: Callable[[Any, Any], grpc.aio.UnaryUnaryCall[Any, Any]],
    ) -> None:
        self._callbacks: list[Done] = []
        self._last = last
        self._task = asyncio.get_running_loop().create_task(self._pass(tuple(interceptors), details, request))
        self._task.add_done_callback(self._passed)

    async def _pass(self, interceptors: tuple[Any, ...], details: Any, request: Any) -> Any:
        if not interceptors:
            return self._last(details, request)

        async def continuation(details: Any, request: Any) -> Any:
            return await self._pass(interceptors[1:], details, request)

        found = await interceptors[0].intercept_unary_unary(continuation, details, request)
        return found if isinstance(found, grpc.aio.UnaryUnaryCall) else ReturnedCall(found)

    def _passed(self, task: "asyncio.Task[Any]") -> None:
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self.add_done_callback(callback)

    def _call(self) -> Any:
        """Return the call that was let through; None where there is none yet, or an error."""
        if not self._task.done() or self._task.cancelled() or self._task.exception() is not None:
            return None
        return self._task.result()

    def __await__(self) -> Generator[Any, None, Any]:
        call = yield from self._task.__await__()
        return (yield from call.__await__())

    def cancel(self) -> bool:
        """Cancel the interceptors, or the call; return whether either still ran."""
        if not self._task.done():
            return self._task.cancel()
        call = self._call()
        return call is not None and call.cancel()

    def cancelled(self) -> bool:
        """Return whether the call has ended with CANCELLED."""
        if self._task.cancelled():
            return True
        call = self._call()
        if call is None:
            error = self._task.exception() if self._task.done() else None
            return isinstance(error, grpc.aio.AioRpcError) and error.code() is grpc.StatusCode.CANCELLED
        return bool(call.cancelled())

    def done(self) -> bool:
        """Return whether the call has ended."""
        if not self._task.done():
            return False
        call = self._call()
        return call is None or call.done()

    def add_done_callback(self, callback: Done) -> None:
        """Call `callback` with this call when it ends, or now where it has."""
        if not self._task.done():
            self._callbacks.append(callback)
        elif (call := self._call()) is None or call.done():
            callback(self)
        else:
            call.add_done_callback(lambda _: callback(self))

    def time_remaining(self) -> float | None:
        """Raise `NotImplementedError`, as gRPC's does."""
        raise NotImplementedError

    async def _told(self, name: str, cancelled: Any) -> Any:
        """Return what the call, or the error in its place, says; or what a cancelled one does."""
        try:
            call = await self._task
        except grpc.aio.AioRpcError as error:
            return getattr(error, name)()
        except asyncio.CancelledError:
            return cancelled
        return await getattr(call, name)()

    async def initial_metadata(self) -> Any:
        """Return the server's initial metadata."""
        return await self._told("initial_metadata", None)

    async def trailing_metadata(self) -> Any:
        """Return the server's trailing metadata."""
        return await self._told("trailing_metadata", None)

    async def code(self) -> Any:
        """Return the status code."""
        return await self._told("code", grpc.StatusCode.CANCELLED)

    async def details(self) -> Any:
        """Return the status details."""
        return await self._told("details", _LOCALLY)

    async def debug_error_string(self) -> Any:
        """Return more than the details where there is more."""
        return await self._told("debug_error_string", "")

    async def wait_for_connection(self) -> None:
        """Wait until the interceptors have let the call through, and it has ended."""
        call = await self._task
        await call.wait_for_connection()
