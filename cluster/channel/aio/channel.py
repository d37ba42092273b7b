"""A `grpc.aio.Channel` whose unary calls take an A-stack where its target is on this computer.

It decides as the channel for threads does, in a thread of its own, while calls wait for the first
decision or go on with the last one. The end of a call wakes the event loop. A channel belongs to
the loop in which it was first called, as gRPC's does.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self

import grpc

from lrpc.cluster.channel import own
from lrpc.cluster.channel.aio.calls import PassedCall
from lrpc.cluster.channel.aio.ways import ChannelCall, Given
from lrpc.cluster.channel.binder import Binder, StreamsBeside
from lrpc.cluster.channel.decision import ChannelOptions, Decision
from lrpc.cluster.channel.doors import passed_on
from lrpc.cluster.channel.form import (
    MOST_METADATA,
    NEVER,
    OK,
    REQUEST,
    Metadata,
    checked,
    deadline_after,
    is_for_core,
    is_plain_name,
    is_plain_time,
    kept,
    pack_metadata,
    size_of,
)
from lrpc.domains.host.here import require
from lrpc.kernel.errors import Refused

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.domains.host.stubs import AwaitedCalls
    from lrpc.kernel.host.client import ClientBinding

_HEAD: Final = len(OK)
Serializer = Callable[[Any], bytes]
Deserializer = Callable[[bytes], Any]


class AwaitedChannel(StreamsBeside, grpc.aio.Channel):
    """A gRPC channel for asyncio, and its binding. Made by `lrpc.aio.insecure_channel`."""

    def __init__(
        self,
        target: str,
        options: ChannelOptions | None,
        beside: grpc.aio.Channel,
        interceptors: Sequence[Any],
        credentials: grpc.ChannelCredentials | None = None,
    ) -> None:
        self.beside: grpc.aio.Channel = beside
        self.interceptors = interceptors
        self.local_calls = self.grpc_calls = 0  # by the path that they took; streams are not counted
        self.closed = False
        self.outstanding: set[ChannelCall] = set()  # on A-stacks, or not decided yet
        self._binder = Binder(target, options, credentials, notified=True)
        self.most_sent, self.most_received = self._binder.most_sent, self._binder.most_received
        self.received, self.agent = self._binder.received, self._binder.agent
        self.loop: asyncio.AbstractEventLoop | None = None  # of the first call
        self.calls: AwaitedCalls | None = None  # by the binding that is held
        self.left: set[AwaitedCalls] = set()  # by bindings whose last calls still run
        self._decided = False
        self.again_ns = 0
        self._deciding: asyncio.Task[None] | None = None

    # --- as a grpc.aio.Channel -------------------------------------------------------------------

    def unary_unary(
        self,
        method: str,
        request_serializer: Serializer | None = None,
        response_deserializer: Deserializer | None = None,
        _registered_method: bool | None = False,
    ) -> "grpc.aio.UnaryUnaryMultiCallable[Any, Any]":
        """Return the stub of a unary method."""
        return AwaitedUnaryUnary(self, method, request_serializer, response_deserializer, _registered_method)

    def get_state(self, try_to_connect: bool = False) -> grpc.ChannelConnectivity:
        """Return the state of gRPC's connection."""
        return self.beside.get_state(try_to_connect)

    async def wait_for_state_change(self, last_observed_state: grpc.ChannelConnectivity) -> None:
        """Wait until gRPC's connection is in another state."""
        await self.beside.wait_for_state_change(last_observed_state)

    async def channel_ready(self) -> None:
        """Wait until gRPC's connection is there."""
        await self.beside.channel_ready()

    async def close(self, grace: float | None = None) -> None:
        """Close the channel; calls outstanding have `grace` seconds before they are cancelled."""
        if grace is not None and grace < 0:
            await self.beside.close(grace)  # which says that it is wrong
        self.closed = True
        closing = asyncio.ensure_future(self.beside.close(grace))
        if self.outstanding and grace and grace > 0:
            ends = [asyncio.ensure_future(one.code()) for one in self.outstanding]
            await asyncio.wait(ends, timeout=grace)
            for end in ends:
                end.cancel()
        for call in list(self.outstanding):
            call.cancel()
        if self._deciding is not None:
            self._deciding.cancel()
        self._let_go(self.calls)
        self.calls = None
        await closing

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    def __del__(self) -> None:
        """End the binding with the last stub."""
        loop: asyncio.AbstractEventLoop | None = getattr(self, "loop", None)
        if loop is not None and self.calls is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(_end, self.calls)

    # --- its binding -----------------------------------------------------------------------------

    @property
    def decision(self) -> Decision:
        """Return how the channel has decided last, and why."""
        return self._binder.decision

    def takes_grpc(self, now_ns: int) -> bool:
        """Return whether a call takes gRPC without asking: it is known, or of another loop."""
        loop = asyncio.get_running_loop()
        if self.loop is not loop:
            if self.loop is not None:
                return True
            self.loop = loop
        return self.closed or (self.calls is None and self._decided and now_ns < self.again_ns)

    async def bound(self, now_ns: int) -> "AwaitedCalls | None":
        """Return the calls by the binding that holds now; None where gRPC is taken."""
        if now_ns >= self.again_ns:
            if self._deciding is None:
                self._deciding = asyncio.get_running_loop().create_task(self._decide())
            if not self._decided:
                await asyncio.shield(self._deciding)
        return self.calls if self.calls is not None and self.calls.binding.native.idle(0) else None

    def broken(self) -> None:
        """Note that the binding has ended: calls wait until it was decided again."""
        self._binder.broken()
        self.again_ns = 0
        self._decided = False

    def leave(self, calls: "AwaitedCalls") -> None:
        """Note that the server of a binding is stopping: calls wait until it was decided again."""
        self._binder.leave(calls.binding)
        self.broken()

    def done(self, calls: "AwaitedCalls") -> None:
        """Note that a call by a binding has ended, maybe the last of one that is left."""
        if calls in self.left and not self._uses(calls):
            self.left.discard(calls)
            _end(calls)

    async def _decide(self) -> None:
        from lrpc.domains.host.loops import in_thread
        from lrpc.domains.host.stubs import AwaitedCalls
        from lrpc.kernel.host import native

        before = self.calls
        held = None if before is None else before.binding
        try:
            found: ClientBinding | None = await in_thread(partial(self._binder.bind, held))
            if found is not held:
                self._let_go(before)
                self.calls = None if found is None else AwaitedCalls(found)
        finally:
            self.again_ns = self._binder.again_ns(native.now_ns(), bound=self.calls is not None)
            self._decided = True
            self._deciding = None

    def _uses(self, calls: "AwaitedCalls") -> bool:
        """Return whether a call still takes a binding, or waits for room on one of its A-stacks."""
        return any(call.calls is calls for call in self.outstanding)

    def _let_go(self, calls: "AwaitedCalls | None") -> None:
        if calls is not None and self._uses(calls) and not self.closed:
            self.left.add(calls)
        elif calls is not None:
            _end(calls)


class AwaitedUnaryUnary(grpc.aio.UnaryUnaryMultiCallable[Any, Any]):
    """The stub of one unary method, for asyncio."""

    def __init__(
        self,
        channel: AwaitedChannel,
        method: str | bytes,  # as gRPC takes it
        serializer: Serializer | None,
        deserializer: Deserializer | None,
        registered: bool | None,
    ) -> None:
        from lrpc.kernel.host import native

        self.channel = channel
        self._serializer, self.deserializer = serializer, deserializer
        make: Any = channel.beside.unary_unary
        self._beside = make(method, serializer, deserializer, registered)
        self.now = native.now_ns
        self._name = method if isinstance(method, bytes) else method.encode()
        # Of a call without metadata or deadline.
        self._plain = REQUEST.pack(len(self._name) & 0xFFFF, len(channel.agent), NEVER) + self._name + channel.agent
        self.streams = not is_plain_name(self._name)  # or its handler does: calls take gRPC

    def __call__(
        self,
        request: Any,
        *,
        timeout: float | None = None,
        metadata: Any = None,
        credentials: grpc.CallCredentials | None = None,
        wait_for_ready: bool | None = None,
        compression: grpc.Compression | None = None,
    ) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
        """Begin a call, and return it."""
        if not self.channel.interceptors:
            return self._begin((request, timeout, metadata, wait_for_ready, compression), credentials)
        told = metadata if isinstance(metadata, grpc.aio.Metadata) else grpc.aio.Metadata(*(metadata or ()))
        name: Any = self._name  # in bytes, as gRPC's own
        details = grpc.aio.ClientCallDetails(name, timeout, told, credentials, wait_for_ready)

        def last(details: Any, request: Any) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
            given = request, details.timeout, details.metadata, details.wait_for_ready, compression
            return self._named(details.method)._begin(given, details.credentials)

        return PassedCall(self.channel.interceptors, details, request, last)

    def _named(self, method: str | bytes) -> "AwaitedUnaryUnary":
        """Return the stub of a method, which an interceptor may have changed."""
        name = method if isinstance(method, str) else method.decode()
        if name.encode() == self._name:
            return self
        return AwaitedUnaryUnary(self.channel, name, self._serializer, self.deserializer, False)

    def _begin(self, given: Given, credentials: grpc.CallCredentials | None) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
        request, timeout, metadata, wait_for_ready, compression = given
        if metadata is not None and not isinstance(metadata, grpc.aio.Metadata):
            metadata = kept(metadata)
            given = request, timeout, metadata, wait_for_ready, compression
        channel, now = self.channel, self.now()
        if credentials is not None or self.streams or channel.takes_grpc(now) or not is_plain_time(timeout):
            return self.by_grpc(given, credentials)
        until = NEVER
        if timeout is not None:
            until = deadline_after(now, timeout)
        packed = self._packed(request, metadata, until)
        if packed is None:
            return self.by_grpc(given)
        return ChannelCall(self, packed, until, given, now)

    def by_grpc(
        self, given: Given, credentials: grpc.CallCredentials | None = None
    ) -> "grpc.aio.UnaryUnaryCall[Any, Any]":
        """Begin a call by gRPC's own channel."""
        request, timeout, metadata, wait_for_ready, compression = given
        self.channel.grpc_calls += 1
        found: grpc.aio.UnaryUnaryCall[Any, Any] = self._beside(
            request,
            timeout=timeout,
            metadata=metadata,
            credentials=credentials,
            wait_for_ready=wait_for_ready,
            compression=compression,
        )
        return found

    def _packed(self, request: Any, metadata: Any, until: int) -> bytes | None:
        """Return a request as it lies on an A-stack; None where gRPC is to say what is wrong."""
        try:
            data: object = request if self._serializer is None else self._serializer(request)
        except Exception:
            data = None  # gRPC sends an empty message then, and logs the exception
        if type(data) is not bytes:
            return None
        if len(data) > self.channel.most_sent:
            return None
        if not metadata and until == NEVER:
            return self._plain + data
        packed = self.channel.agent
        if metadata:
            try:
                pairs: Metadata = checked(grpc.aio.Metadata(*metadata))  # which puts equal keys together
            except (ValueError, TypeError):
                return None
            if size_of(pairs) > MOST_METADATA or is_for_core(pairs):
                return None
            packed += pack_metadata(pairs)
        return b"".join((REQUEST.pack(len(self._name), len(packed), until), self._name, packed, data))


def _end(calls: "AwaitedCalls") -> None:
    calls.close()
    calls.binding.close()


def _parted(interceptors: Sequence[Any] | None) -> tuple[list[Any], list[Any]]:
    """Return the interceptors of unary calls, and those that are gRPC's to ask."""
    given = list(interceptors or ())
    unary = [one for one in given if isinstance(one, grpc.aio.UnaryUnaryClientInterceptor)]
    return unary, [one for one in given if not isinstance(one, grpc.aio.UnaryUnaryClientInterceptor)]


def insecure_channel(
    target: str,
    options: ChannelOptions | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[Any] | None = None,
) -> grpc.aio.Channel:
    """Return a channel for asyncio, as `grpc.aio.insecure_channel` does: here by A-stacks.

    Unary calls take an A-stack where the target is a server of lrpc's on this computer, and of the
    same user; all else takes gRPC. Where this system has no host kernel, the channel is gRPC's.
    """
    try:
        require()
    except Refused:
        plain: grpc.aio.Channel = own.AIO_INSECURE.make(target, passed_on(options), compression, interceptors)
        return plain
    unary, others = _parted(interceptors)
    beside = own.AIO_INSECURE.make(target, passed_on(options), compression, others)
    return AwaitedChannel(target, options, beside, unary)


def secure_channel(
    target: str,
    credentials: grpc.ChannelCredentials,
    options: ChannelOptions | None = None,
    compression: grpc.Compression | None = None,
    interceptors: Sequence[Any] | None = None,
) -> grpc.aio.Channel:
    """Return a channel for asyncio with TLS, as `grpc.aio.secure_channel` does.

    It takes A-stacks only where it has the option `lrpc.local_without_tls`, and the server too.
    """
    try:
        require()
    except Refused:
        plain: grpc.aio.Channel = own.AIO_SECURE.make(
            target, credentials, passed_on(options), compression, interceptors
        )
        return plain
    unary, others = _parted(interceptors)
    beside = own.AIO_SECURE.make(target, credentials, passed_on(options), compression, others)
    return AwaitedChannel(target, options, beside, unary, credentials)
