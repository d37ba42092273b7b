"""The stub of a unary method, of a channel for threads.

A usual call, which has a request and nothing else, is made by the native part in one step. Here is
what makes all others, and what goes on with a usual call that has not simply returned.
"""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc

from lrpc.cluster.channel.calls import LocalCall, LocalRpcError
from lrpc.cluster.channel.form import (
    LONG_DETAILS,
    MOST_METADATA,
    NEVER,
    OK,
    REQUEST,
    STOPPING,
    TAKE_GRPC,
    Malformed,
    checked,
    deadline_after,
    is_for_core,
    is_plain_name,
    is_plain_time,
    kept,
    pack_metadata,
    size_of,
    unpack_reply,
)
from lrpc.kernel.errors import CallError
from lrpc.kernel.host import native
from lrpc.kernel.host.client import ENDED, UNTAKEN, NoRoom, TooLarge

if TYPE_CHECKING:
    from lrpc.cluster.channel.channel import Channel

_BY_GRPC: Final = (bytes([TAKE_GRPC]), bytes([STOPPING]))  # how replies begin that send a call there
_CANCELLED, _DEADLINE, _EXHAUSTED, _INTERNAL, _UNAVAILABLE = 1, 4, 8, 13, 14


class UnaryUnary(native.Stub, grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # of whatever messages
    """The stub of one unary method."""

    def __init__(
        self,
        channel: "Channel",
        method: str | bytes,  # as gRPC takes it
        serializer: Callable[[Any], bytes] | None,
        deserializer: Callable[[bytes], Any] | None,
        beside: Any,
    ) -> None:
        name = method if isinstance(method, bytes) else method.encode()
        # Of a call without metadata or deadline.
        self._plain = REQUEST.pack(len(name) & 0xFFFF, len(channel.agent), NEVER) + name + channel.agent
        super().__init__(channel.way, self._plain, OK, serializer, deserializer)
        self._channel = channel
        self._serializer, self._deserializer = serializer, deserializer
        self._beside = beside
        self._name = name
        self._streams = False
        self.__signature__ = _SIGNATURE  # what `inspect` tells of something that C calls
        if not is_plain_name(name):
            self._take_grpc()

    def __copy__(self) -> "UnaryUnary":
        """Return another stub of the method, as a copy of gRPC's is."""
        made = UnaryUnary(self._channel, self._name, self._serializer, self._deserializer, self._beside)
        if self._streams:
            made._take_grpc()
        return made

    def _call_unusual(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        """Make a call with whatever arguments; return its response, or raise `grpc.RpcError`."""
        return self.with_call(request, timeout, metadata, credentials, wait_for_ready, compression)[0]

    def _finish(self, binding: Any, request: Any, data: Any, reply: Any) -> Any:
        """Go on with a usual call that has not returned with a message.

        `data` is what the serializer returned; `reply` is what the native part returned, or None
        where it was not asked.
        """
        if data is None:
            self._fail_to_send(None)
        begun = None if reply is None else (self._plain + data, reply)
        return self._whole(request, None, None, None, None, binding, begun)[0]

    def _was_left(self, binding: Any, reply: Any) -> None:
        """Tell the server that a caller has left its call, by Ctrl-C: the handler learns of it."""
        binding.ring()
        binding.let_go(reply)

    def _fail_to_send(self, error: Exception | None) -> NoReturn:
        """Raise that a request could not be serialized."""
        raise _error(_INTERNAL, "Exception serializing request!") from error

    def _fail_to_read(self) -> NoReturn:
        """Raise that a response could not be read."""
        raise _error(_INTERNAL, "Exception deserializing response!")

    def _take_grpc(self) -> None:
        """Take gRPC from now on: the handler streams, or the method's name fits no A-stack."""
        self._streams = True
        self._retire()

    def with_call(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> tuple[Any, grpc.Call]:
        """Call the method; return its response, and the call with its metadata and status."""
        binding = self._channel.binding(native.now_ns())
        if binding is None or credentials is not None or self._streams or not binding.native.idle(0):
            return self._by_grpc(request, timeout, metadata, wait_for_ready, compression, credentials)
        return self._whole(request, timeout, metadata, wait_for_ready, compression, binding)

    def future(self, *arguments: Any, **named: Any) -> Any:
        """Call the method by gRPC's own channel, and return its future."""
        self._channel.grpc_calls += 1
        return self._beside.future(*arguments, **named)

    def _whole(
        self,
        request: Any,
        timeout: float | None,
        metadata: Any,
        wait_for_ready: bool | None,
        compression: Any,
        binding: Any,
        begun: tuple[bytes, Any] | None = None,
    ) -> tuple[Any, LocalCall]:
        """Make a call with all that it may have; `begun` is its request, and how it went so far."""
        channel = self._channel
        if channel.closed and begun is None:
            raise ValueError("Cannot invoke RPC on closed channel!")
        metadata = kept(metadata)
        if not is_plain_time(timeout):
            return self._by_grpc(request, timeout, metadata, wait_for_ready, compression)
        until = NEVER
        if timeout is not None:
            until = deadline_after(native.now_ns(), timeout)
        try:
            pairs = checked(metadata) if metadata else ()
        except (ValueError, TypeError):
            return self._by_grpc(request, timeout, metadata, wait_for_ready, compression)  # which says what is wrong
        reply: Any = None
        if begun is None:
            packed = self._packed(request, pairs, until)
            if packed is None or size_of(pairs) > MOST_METADATA or is_for_core(pairs):
                return self._by_grpc(request, timeout, metadata, wait_for_ready, compression)
            if timeout is not None and timeout <= 0:
                raise _error(_DEADLINE, "Deadline Exceeded")
        else:
            packed, reply = begun
        try:
            if reply is None:
                reply = binding.native.call(0, 0, packed, until, -1)
            if type(reply) is not bytes:
                kind, reply = binding.finish(reply, 0, 0, until, packed)
                if kind:
                    raise _error(_INTERNAL, f"the server's end of the A-stack failed: {reply[:200]!r}")
        except (NoRoom, TooLarge) as error:
            if not error.executed and not binding.has_ended:  # nothing was sent
                return self._by_grpc(request, self._left_s(until), metadata, wait_for_ready, compression)
            raise _error(_EXHAUSTED, f"CLIENT: Received message larger than max: {error}") from None
        except CallError as error:
            if channel.closed or reply != UNTAKEN:
                raise self._failed(error, until, ended=binding.native.ended or reply == ENDED) from None
            channel.broken()
            return self._by_grpc(request, self._left_s(until), metadata, wait_for_ready, compression)
        except BaseException:
            binding.ring()  # Ctrl-C: its handler learns of it
            raise
        if reply[:1] in _BY_GRPC:
            if reply[0] == TAKE_GRPC:
                self._take_grpc()
            else:
                channel.leave(binding)
            return self._by_grpc(request, self._left_s(until), metadata, wait_for_ready, compression)
        return self._returned(reply)

    def _left_s(self, until: int) -> float | None:
        """Return the seconds that are left of a call's time; None where it may take any."""
        return None if until == NEVER else max(0.0, (until - native.now_ns()) / 1e9)

    def _failed(self, error: CallError, until: int, *, ended: bool) -> LocalRpcError:
        """Return what a caller gets for a call that failed; `ended` with its binding."""
        if self._channel.closed:
            return _error(_CANCELLED, "Channel closed!")
        if ended:
            self._channel.broken()
            return _error(_UNAVAILABLE, f"the server ended while it had the call: {error}")
        if until != NEVER and native.now_ns() >= until:
            return _error(_DEADLINE, "Deadline Exceeded")
        return _error(_UNAVAILABLE, str(error))

    def _returned(self, reply: bytes) -> tuple[Any, LocalCall]:
        channel = self._channel
        try:
            code, details, initial, trailing, message = unpack_reply(reply)
        except Malformed as error:
            raise _error(_INTERNAL, f"the server answered with {error}") from None
        channel.way.count()
        if initial or trailing or len(details) > LONG_DETAILS:
            code, details, initial, trailing = channel.received(code, details, initial, trailing)
        if code:
            raise LocalRpcError(LocalCall(code, details, initial, trailing))
        if len(message) > channel.most_received:
            text = f"CLIENT: Received message larger than max ({len(message)} vs. {channel.most_received})"
            raise _error(_EXHAUSTED, text)
        found: Any = message
        if self._deserializer is not None:
            try:
                found = self._deserializer(message)
            except Exception:
                found = None
            if found is None:
                self._fail_to_read()
        return found, LocalCall(0, "", initial, trailing)  # gRPC passes no details of OK

    def _packed(self, request: Any, pairs: Any, until: int) -> bytes | None:
        """Return a request as it lies on an A-stack; None where gRPC is to say what is wrong."""
        try:
            data = request if self._serializer is None else self._serializer(request)
        except Exception as error:
            self._fail_to_send(error)
        if data is None:
            self._fail_to_send(None)
        if type(data) is not bytes:
            return None
        if len(data) > self._channel.most_sent:
            text = f"CLIENT: Sent message larger than max ({len(data)} vs. {self._channel.most_sent})"
            raise _error(_EXHAUSTED, text)
        if not pairs and until == NEVER:
            return self._plain + data
        packed = self._channel.agent + pack_metadata(pairs)
        return b"".join((REQUEST.pack(len(self._name), len(packed), until), self._name, packed, data))

    def _by_grpc(
        self, request: Any, timeout: Any, metadata: Any, wait_for_ready: Any, compression: Any, credentials: Any = None
    ) -> tuple[Any, Any]:
        self._channel.grpc_calls += 1
        found = self._beside.with_call(request, timeout, metadata, credentials, wait_for_ready, compression)
        return found[0], found[1]


# Errors of wrong arguments name the method that was called.
UnaryUnary._call_unusual.__qualname__ = "UnaryUnary.__call__"
_SIGNATURE: Final = inspect.signature(UnaryUnary._call_unusual.__get__(object()))


def _error(code: int, details: str) -> LocalRpcError:
    return LocalRpcError(LocalCall(code, details, (), ()))
