"""The contexts of a call on an A-stack, as handlers of `grpc.aio` see them."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc

from lrpc.cluster.channel.context import ClientFacts
from lrpc.cluster.channel.form import Metadata, Metadatum, checked, has_passed, pack_metadata, pack_reply
from lrpc.cluster.channel.methods import CODES, INTERNAL, LATE_REPLY, UNKNOWN

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.domains.host.loops import LoopCall

_LOG = logging.getLogger("lrpc.channel")
_INVALID: Final = "Invalid metadata"
_WRONG: Final = "Invalid trailing metadata type, expected Tuple[Tuple[str, Union[str, bytes]]...]: "
MostMetadata = Iterable[tuple[str, str | bytes]]  # what programs give for metadata


class AwaitedContext(ClientFacts, grpc.aio.ServicerContext[Any, Any]):  # type: ignore[misc]  # as gRPC's own
    """A `grpc.aio.ServicerContext` whose call lies on an A-stack."""

    # Set by few calls: until then the class has them, and a call costs less to begin.
    number: int = 0  # of the status code
    failed: grpc.aio.AbortError | None = None  # what `abort` has raised
    callbacks: list[Callable[[Any], None]] | None = None
    began: bool = False
    finished: bool = False
    late: asyncio.TimerHandle | None = None  # that ends the call at its deadline
    _code: object = None
    _details: str = ""
    _initial: Metadata = ()
    _initial_sent: bool = False
    _trailing: tuple[tuple[str, str | bytes], ...] = ()

    def __init__(self, call: "LoopCall", metadata: bytes, deadline_ns: int) -> None:
        self._call = call
        self._binding = call.binding
        self._packed = metadata
        self.deadline_ns = deadline_ns

    def time_remaining(self) -> float | None:  # type: ignore[override]  # as gRPC's own
        """Return the seconds that are left; None where there is no deadline."""
        if self.deadline_ns < 0:
            return None
        return max(0.0, (self.deadline_ns - time.monotonic_ns()) / 1e9)

    # --- what the handler answers ----------------------------------------------------------------

    async def read(self) -> Any:
        """Return `grpc.aio.EOF`: the one request was read."""
        return grpc.aio.EOF

    async def write(self, message: Any) -> None:
        """Raise `grpc.aio.UsageError`: the one response is what the handler returns."""
        raise grpc.aio.UsageError("a unary method returns its response")

    async def send_initial_metadata(self, initial_metadata: MostMetadata) -> None:
        """Send the initial metadata, before the response. Raises `UsageError` the second time."""
        self.require_running()
        if self._initial_sent:
            raise grpc.aio.UsageError("Send initial metadata failed: already sent")
        try:
            self._initial = checked(tuple(initial_metadata))
        except (ValueError, TypeError) as error:
            self.answer(pack_reply(INTERNAL, _INVALID, (), (), b""))
            raise grpc.aio.InternalError(str(error)) from None
        self._initial_sent = True
        self._call.tell(pack_metadata(self._initial))

    async def abort(self, code: object, details: str = "", trailing_metadata: MostMetadata = ()) -> NoReturn:
        """End the call with this status, and raise `grpc.aio.AbortError`."""
        if self.failed is not None:
            raise grpc.aio.UsageError("Abort already called!")
        self.failed = grpc.aio.AbortError("Locally aborted.")
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        self._details = details or self._details
        self.set_code(code)
        if not self.number:
            _LOG.error("abort() called with StatusCode.OK; returning UNKNOWN")
            self.number, self._details = UNKNOWN, ""
        self.answer(self.reply(self.number, self._details))
        raise self.failed

    async def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """End the call with this status and its trailing metadata, and raise `AbortError`."""
        await self.abort(status.code, status.details, status.trailing_metadata or ())

    def set_trailing_metadata(self, trailing_metadata: MostMetadata) -> None:
        """Set the trailing metadata. Raises `TypeError` for what has not its form."""
        given: Any = trailing_metadata
        if not isinstance(given, tuple | list | grpc.aio.Metadata) or not all(map(_is_pair, given)):
            raise TypeError(f"{_WRONG}{given}")
        self._trailing = tuple(given)

    def trailing_metadata(self) -> Any:
        """Return the trailing metadata that was set."""
        return self._trailing

    def set_code(self, code: object) -> None:
        """Set the status code."""
        self._code, self.number = code, _number(code)

    def code(self) -> Any:
        """Return the status code that was set."""
        return self._code

    def set_details(self, details: str) -> None:
        """Set the status details."""
        given: object = details
        if given is not None and not isinstance(given, str):
            raise TypeError(f"Argument 'details' has incorrect type (expected str, got {type(given).__name__})")
        self._details = details

    def details(self) -> str:
        """Return the status details that were set."""
        return self._details

    def set_compression(self, compression: object) -> None:
        """Accept the wish: nothing is compressed on an A-stack."""
        if self._initial_sent:
            raise RuntimeError("Compression setting must be specified before sending initial metadata")

    def disable_next_message_compression(self) -> None:
        """Accept the wish: nothing is compressed on an A-stack."""

    # --- its end ---------------------------------------------------------------------------------

    def add_done_callback(self, callback: Callable[[Any], None]) -> None:
        """Call `callback` with this context when the call has ended."""
        if self.callbacks is None:
            self.callbacks = []
        self.callbacks.append(callback)

    def done(self) -> bool:
        """Return whether the call was answered."""
        return self.finished

    def cancelled(self) -> bool:
        """Return whether the status is CANCELLED."""
        return self.number == CODES[grpc.StatusCode.CANCELLED]

    def require_running(self) -> None:
        """Raise what ended the call, where it has ended."""
        if self.failed is not None:
            raise self.failed
        if self.finished:
            raise grpc.aio.UsageError("RPC already finished.")

    @property
    def has_said(self) -> bool:
        """Return whether a reply says more than its message."""
        return bool(self._initial or self._trailing or self._details)

    def answer(self, reply: bytes) -> None:
        """Answer the call, where it was not, and nobody has given it up; or that it is late."""
        if has_passed(self.deadline_ns):
            self.give_up(LATE_REPLY)
        elif self._call.answer(reply):
            self.finished = True

    def give_up(self, reply: bytes) -> None:
        """Answer a call that its handler has not finished."""
        self._call.answer(reply)

    def reply(self, code: int, details: str | None, message: bytes = b"") -> bytes:
        """Return a reply with the metadata that were set."""
        if not (code or details or self._initial or self._trailing):
            return pack_reply(0, "", (), (), message)
        try:
            trailing: tuple[Metadatum, ...] = checked(self._trailing)
        except (ValueError, TypeError):
            return pack_reply(INTERNAL, _INVALID, (), (), b"")
        return pack_reply(code, details or "", self._initial, trailing, message)


class ThreadContext(ClientFacts):
    """The context of a handler that is no coroutine, and runs on a thread of the executor."""

    def __init__(self, context: AwaitedContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context, self._loop = context, loop
        self._binding, self._packed = context._binding, context._packed
        self.callbacks: list[Callable[[], None]] = []
        self.set_trailing_metadata = context.set_trailing_metadata
        self.set_code, self.set_details = context.set_code, context.set_details
        self.set_compression = context.set_compression
        self.disable_next_message_compression = context.disable_next_message_compression
        self.time_remaining = context.time_remaining

    def send_initial_metadata(self, initial_metadata: MostMetadata) -> None:
        """Send the initial metadata, before the response."""
        asyncio.run_coroutine_threadsafe(self._context.send_initial_metadata(initial_metadata), self._loop).result()

    def abort(self, code: object, details: str = "", trailing_metadata: MostMetadata = ()) -> None:
        """End the call with this status, and raise `grpc.aio.AbortError`."""
        asyncio.run_coroutine_threadsafe(self._context.abort(code, details, trailing_metadata), self._loop).result()

    def add_callback(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the handler has returned."""
        self.callbacks.append(callback)


def _is_pair(one: object) -> bool:
    return isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str) and isinstance(one[1], str | bytes)


def _number(code: object) -> int:
    """Return a status code as a number: gRPC takes what is none for UNKNOWN."""
    if isinstance(code, int):
        return code if code in CODES.values() else UNKNOWN
    return CODES.get(code, UNKNOWN) if isinstance(code, grpc.StatusCode) else UNKNOWN
