"""A `grpc.Channel` whose unary calls take an A-stack where its target is a server of this computer.

The decision is made when the channel binds, which is at its first call, and again when a binding
breaks and every five seconds. gRPC's own channel stands beside it: streams, futures, call
credentials and whatever else A-stacks do not have takes that one. A call whose bytes the server had
not taken when its binding broke may go once more by gRPC; one that it may have taken is never
repeated.
"""

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, Final, Self

import grpc

from lrpc.cluster.channel import own
from lrpc.cluster.channel.binder import Binder, StreamsBeside
from lrpc.cluster.channel.calls import LocalCall, LocalRpcError
from lrpc.cluster.channel.decision import ChannelOptions, Decision
from lrpc.cluster.channel.doors import passed_on
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
from lrpc.domains.host.here import require
from lrpc.kernel.errors import CallError, Refused

_HEAD: Final = len(OK)
_BY_GRPC: Final = (bytes([TAKE_GRPC]), bytes([STOPPING]))  # how replies begin that send a call there


_channels: "Final[weakref.WeakSet[Channel]]" = weakref.WeakSet()


class Channel(StreamsBeside, grpc.Channel):
    """A gRPC channel, and the binding beside it. Made by `lrpc.insecure_channel`."""

    def __init__(
        self,
        target: str,
        options: ChannelOptions | None,
        beside: grpc.Channel,
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        from lrpc.kernel.host import native

        self.beside: grpc.Channel = beside
        self.local_calls = self.grpc_calls = 0  # by the path that they took; streams are not counted
        self.closed = False
        self._binder = Binder(target, options, credentials, notified=False)
        self.most_sent, self.most_received = self._binder.most_sent, self._binder.most_received
        self.received, self.agent = self._binder.received, self._binder.agent
        self.held: Any = None  # `lrpc.kernel.host.client.ClientBinding`
        self.again_ns = 0
        self._now = native.now_ns
        self._lock = threading.Lock()
        self._left: weakref.WeakSet[Any] = weakref.WeakSet()  # bindings whose last calls still run
        _channels.add(self)

    # --- as a grpc.Channel -----------------------------------------------------------------------

    def unary_unary(
        self,
        method: str,
        request_serializer: Callable[[Any], bytes] | None = None,
        response_deserializer: Callable[[bytes], Any] | None = None,
        _registered_method: bool | None = False,
    ) -> "grpc.UnaryUnaryMultiCallable[Any, Any]":
        """Return the stub of a unary method."""
        beside = self.beside.unary_unary(method, request_serializer, response_deserializer, _registered_method)  # type: ignore[call-arg]  # of the stubs of its types
        return UnaryUnary(self, method, request_serializer, response_deserializer, beside)

    def subscribe(
        self, callback: Callable[[grpc.ChannelConnectivity], None], try_to_connect: bool | None = None
    ) -> None:
        """Call `callback` with each state of gRPC's connection from now on."""
        self.beside.subscribe(callback, bool(try_to_connect))

    def unsubscribe(self, callback: Callable[[grpc.ChannelConnectivity], None]) -> None:
        """Stop calling `callback`."""
        self.beside.unsubscribe(callback)

    def close(self) -> None:
        """Close the channel: calls outstanding are cancelled, later ones raise `ValueError`."""
        self.closed = True
        with self._lock:
            for one in (*self._left, *([] if self.held is None else [self.held])):
                one.close()
            self.held = None
        self.beside.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def __del__(self) -> None:
        """End the binding with the last stub."""
        binding = getattr(self, "held", None)
        if binding is not None:
            binding.close()

    @property
    def decision(self) -> Decision:
        """Return how the channel has decided last, and why."""
        return self._binder.decision

    # --- its binding -----------------------------------------------------------------------------

    def binding(self, now_ns: int) -> Any:
        """Return the binding that calls take now; None where they take gRPC."""
        if now_ns < self.again_ns:
            return self.held
        return self._decide(now_ns)

    def broken(self) -> None:
        """Note that the binding has ended: decide again at the next call."""
        self._binder.broken()
        self.again_ns = 0

    def leave(self, binding: Any) -> None:
        """Note that the server of a binding is stopping: decide again at the next call."""
        self._binder.leave(binding)
        self.broken()

    def forget(self) -> None:
        """Begin anew in a forked child: a thread that stayed with the parent may hold the lock."""
        self._lock = threading.Lock()
        self.again_ns = 0

    def _decide(self, now_ns: int) -> Any:
        with self._lock:
            if now_ns < self.again_ns or self.closed:
                return self.held
            before, self.held = self.held, self._binder.bind(self.held)
            if before is not None and before is not self.held:
                self._left.add(before)  # it ends with the last call that runs on it
            self.again_ns = self._binder.again_ns(self._now(), bound=self.held is not None)
            return self.held


class UnaryUnary(grpc.UnaryUnaryMultiCallable):  # type: ignore[type-arg]  # of whatever messages
    """The stub of one unary method."""

    def __init__(
        self,
        channel: Channel,
        method: str | bytes,  # as gRPC takes it
        serializer: Callable[[Any], bytes] | None,
        deserializer: Callable[[bytes], Any] | None,
        beside: Any,
    ) -> None:
        from lrpc.kernel.host import native

        self._channel = channel
        self._serializer, self._deserializer = serializer, deserializer
        self._beside = beside
        self._now = native.now_ns
        name = method if isinstance(method, bytes) else method.encode()
        self._name = name
        # Of a call without metadata or deadline.
        self._plain = REQUEST.pack(len(name) & 0xFFFF, len(channel.agent), NEVER) + name + channel.agent
        self._streams = not is_plain_name(name)  # or its handler does: calls take gRPC

    def __call__(
        self,
        request: Any,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: Any = None,
        wait_for_ready: bool | None = None,
        compression: Any = None,
    ) -> Any:
        """Call the method; return its response. Raises `grpc.RpcError` where it ends otherwise."""
        channel = self._channel
        now = self._now()
        binding = channel.held if now < channel.again_ns else channel.binding(now)
        if binding is None or credentials is not None or self._streams or not binding.native.idle(0):
            channel.grpc_calls += 1
            return self._beside(request, timeout, metadata, credentials, wait_for_ready, compression)
        if timeout is None and not metadata:
            try:
                data = request if self._serializer is None else self._serializer(request)
            except Exception as error:
                raise _error(_INTERNAL, "Exception serializing request!") from error
            if data is None:
                raise _error(_INTERNAL, "Exception serializing request!")
            if type(data) is bytes and len(data) <= channel.most_sent:
                try:
                    reply = binding.native.call(0, 0, self._plain + data, NEVER, -1)
                except BaseException:
                    binding.ring()  # Ctrl-C: its handler learns of it
                    raise
                if type(reply) is bytes and reply.startswith(OK) and len(reply) - _HEAD <= channel.most_received:
                    channel.local_calls += 1
                    if self._deserializer is None:
                        return reply[_HEAD:]
                    try:
                        found = self._deserializer(reply[_HEAD:])
                    except Exception:
                        found = None
                    if found is not None:
                        return found
                    raise _error(_INTERNAL, "Exception deserializing response!")
                again = self._plain + data, reply
                return self._whole(request, timeout, metadata, wait_for_ready, compression, binding, again)[0]
        return self._whole(request, timeout, metadata, wait_for_ready, compression, binding)[0]

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
        binding = self._channel.binding(self._now())
        if binding is None or credentials is not None or self._streams or not binding.native.idle(0):
            self._channel.grpc_calls += 1
            found = self._beside.with_call(request, timeout, metadata, credentials, wait_for_ready, compression)
            return found[0], found[1]
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
        from lrpc.kernel.host.client import ENDED, UNTAKEN, NoRoom, TooLarge

        channel = self._channel
        if channel.closed and begun is None:
            raise ValueError("Cannot invoke RPC on closed channel!")
        metadata = kept(metadata)
        if not is_plain_time(timeout):
            return self._by_grpc(request, timeout, metadata, wait_for_ready, compression)
        until = NEVER
        if timeout is not None:
            until = deadline_after(self._now(), timeout)
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
                self._streams = True
            else:
                channel.leave(binding)
            return self._by_grpc(request, self._left_s(until), metadata, wait_for_ready, compression)
        return self._returned(reply)

    def _left_s(self, until: int) -> float | None:
        """Return the seconds that are left of a call's time; None where it may take any."""
        return None if until == NEVER else max(0.0, (until - self._now()) / 1e9)

    def _failed(self, error: CallError, until: int, *, ended: bool) -> LocalRpcError:
        """Return what a caller gets for a call that failed; `ended` with its binding."""
        if self._channel.closed:
            return _error(_CANCELLED, "Channel closed!")
        if ended:
            self._channel.broken()
            return _error(_UNAVAILABLE, f"the server ended while it had the call: {error}")
        if until != NEVER and self._now() >= until:
            return _error(_DEADLINE, "Deadline Exceeded")
        return _error(_UNAVAILABLE, str(error))

    def _returned(self, reply: bytes) -> tuple[Any, LocalCall]:
        channel = self._channel
        try:
            code, details, initial, trailing, message = unpack_reply(reply)
        except Malformed as error:
            raise _error(_INTERNAL, f"the server answered with {error}") from None
        channel.local_calls += 1
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
                raise _error(_INTERNAL, "Exception deserializing response!")
        return found, LocalCall(0, "", initial, trailing)  # gRPC passes no details of OK

    def _packed(self, request: Any, pairs: Any, until: int) -> bytes | None:
        """Return a request as it lies on an A-stack; None where gRPC is to say what is wrong."""
        try:
            data = request if self._serializer is None else self._serializer(request)
        except Exception as error:
            raise _error(_INTERNAL, "Exception serializing request!") from error
        if data is None:
            raise _error(_INTERNAL, "Exception serializing request!")
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
        self, request: Any, timeout: Any, metadata: Any, wait_for_ready: Any, compression: Any
    ) -> tuple[Any, Any]:
        self._channel.grpc_calls += 1
        found = self._beside.with_call(request, timeout, metadata, None, wait_for_ready, compression)
        return found[0], found[1]


def _forget_all() -> None:
    for channel in list(_channels):
        channel.forget()


os.register_at_fork(after_in_child=_forget_all)
_CANCELLED, _DEADLINE, _EXHAUSTED, _INTERNAL, _UNAVAILABLE = 1, 4, 8, 13, 14


def _error(code: int, details: str) -> LocalRpcError:
    return LocalRpcError(LocalCall(code, details, (), ()))


def insecure_channel(target: str, options: ChannelOptions | None = None, compression: Any = None) -> grpc.Channel:
    """Return a channel to a server, as `grpc.insecure_channel` does: on this computer by A-stacks.

    Unary calls take an A-stack where the target is an `lrpc.server` of this computer and of the
    same user; all else takes gRPC. Where this system has no host kernel, the channel is gRPC's.
    """
    beside: grpc.Channel = own.INSECURE.make(target, passed_on(options), compression)
    try:
        require()
    except Refused:
        return beside
    return Channel(target, options, beside)


def secure_channel(
    target: str, credentials: grpc.ChannelCredentials, options: ChannelOptions | None = None, compression: Any = None
) -> grpc.Channel:
    """Return a channel with TLS, as `grpc.secure_channel` does.

    It takes A-stacks only where it has the option `lrpc.local_without_tls`, and the server too.
    """
    beside: grpc.Channel = own.SECURE.make(target, credentials, passed_on(options), compression)
    try:
        require()
    except Refused:
        return beside
    return Channel(target, options, beside, credentials)
