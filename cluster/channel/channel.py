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
from lrpc.cluster.channel.decision import ChannelOptions, Decision
from lrpc.cluster.channel.doors import passed_on
from lrpc.domains.host.here import require
from lrpc.kernel.errors import Refused

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
        from lrpc.cluster.channel.stub import UnaryUnary
        from lrpc.kernel.host import native

        self._make_stub = UnaryUnary  # read with the channel: later, a program may not be allowed to
        self.beside: grpc.Channel = beside
        self.grpc_calls = 0  # streams are not counted
        self.closed = False
        self._binder = Binder(target, options, credentials, notified=False)
        self.most_sent, self.most_received = self._binder.most_sent, self._binder.most_received
        self.way = native.Way(self.most_sent, self.most_received)  # what its stubs ask for `held`
        self.received, self.agent = self._binder.received, self._binder.agent
        self.held: Any = None  # `lrpc.kernel.host.client.ClientBinding`
        self._again_ns = 0
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
        return self._make_stub(self, method, request_serializer, response_deserializer, beside)

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
            self.way.shut()
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

    @property
    def local_calls(self) -> int:
        """Return how many calls have come back by A-stacks."""
        return self.way.calls

    # --- its binding -----------------------------------------------------------------------------

    def binding(self, now_ns: int) -> Any:
        """Return the binding that calls take now; None where they take gRPC."""
        if now_ns < self._again_ns:
            return self.held
        return self._decide(now_ns)

    def broken(self) -> None:
        """Note that the binding has ended: decide again at the next call."""
        self._binder.broken()
        self._again_ns = 0
        self.way.shut()

    def leave(self, binding: Any) -> None:
        """Note that the server of a binding is stopping: decide again at the next call."""
        self._binder.leave(binding)
        self.broken()

    def forget(self) -> None:
        """Begin anew in a forked child: a thread that stayed with the parent may hold the lock."""
        self._lock = threading.Lock()
        self._again_ns = 0
        self.way.shut()

    def _decide(self, now_ns: int) -> Any:
        with self._lock:
            if now_ns < self._again_ns or self.closed:
                return self.held
            before, self.held = self.held, self._binder.bind(self.held)
            if before is not None and before is not self.held:
                self._left.add(before)  # it ends with the last call that runs on it
            self._again_ns = self._binder.again_ns(self._now(), bound=self.held is not None)
            if self.held is None:
                self.way.shut()
            else:
                self.way.open(self.held.native, self.held, self._again_ns)
            return self.held


def _forget_all() -> None:
    for channel in list(_channels):
        channel.forget()


os.register_at_fork(after_in_child=_forget_all)


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
