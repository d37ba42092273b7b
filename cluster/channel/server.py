"""A `grpc.Server` whose unary calls may also come over A-stacks.

gRPC's own server stands behind it and serves all that it is asked for. Beside each of its ports
stands a door, for clients of the same user on this computer; handlers, interceptors, limits and
threads are the same on both ways.
"""

import functools
import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, cast

import grpc

from lrpc.cluster.channel import own
from lrpc.cluster.channel.doors import PortDoors, RegisteredServer, broken, largest_request, largest_response, passed_on
from lrpc.cluster.channel.executors import Pool
from lrpc.cluster.channel.handlers import Handlers
from lrpc.cluster.channel.methods import LIMIT_TEXT

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.kernel.host.doors import Doors
    from lrpc.kernel.host.server import HostServer

_MOST_WORKERS: Final = 1000
_MORE_WORKERS: Final = 8
_IDLE_S: Final = 1e6  # a pool's threads stay as long as it does


class ChannelServer(RegisteredServer, grpc.Server):
    """A gRPC server, and the doors beside its ports. Made by `lrpc.server`."""

    def __init__(
        self,
        thread_pool: Executor,
        handlers: Sequence[Any] | None = None,
        interceptors: Sequence[Any] | None = None,
        options: Sequence[tuple[str, Any]] | None = None,
        maximum_concurrent_rpcs: int | None = None,
        compression: Any = None,
        xds: bool = False,
    ) -> None:
        options = list(options or ())  # it may be an iterator
        self.doors = PortDoors(options, unfit="xds" if xds else None)
        plain = type(thread_pool) is ThreadPoolExecutor
        pool = Pool.of(cast(ThreadPoolExecutor, thread_pool)) if plain else None
        handlers, interceptors = tuple(handlers or ()), tuple(interceptors or ())  # they may be iterators
        self._methods: Handlers = Handlers(
            interceptors=interceptors,
            generic=list(handlers),
            most_concurrent=maximum_concurrent_rpcs,
            pool=pool,
            executor=None if plain else thread_pool,
            largest=largest_request(options),
            most_sent=largest_response(options),
        )
        inner = _Counted(self._methods)
        self._grpc = own.SERVER.make(
            cast(ThreadPoolExecutor, thread_pool),
            list(handlers),
            [*interceptors, inner],
            passed_on(options),
            maximum_concurrent_rpcs,
            compression,
            xds=xds,
        )
        self._stopping = threading.Lock()
        self._until = 0.0  # of the grace, by the monotonic clock
        self._stopped: threading.Event | None = None

    # --- as a grpc.Server ------------------------------------------------------------------------

    def start(self) -> None:
        """Start serving, on gRPC and at the doors."""
        self._grpc.start()
        self.doors.open(self._serve, self._methods.stubs_for)

    def wait_for_termination(self, timeout: float | None = None) -> bool:
        """Wait until the server has stopped; return whether the time ran out before."""
        end = None if timeout is None else time.monotonic() + timeout
        if self._grpc.wait_for_termination(timeout):
            return True
        stopped = self._stopped  # calls on A-stacks may still have their grace
        rest = None if end is None else max(0.0, end - time.monotonic())
        return stopped is not None and not stopped.wait(rest)

    def stop(self, grace: float | None) -> threading.Event:
        """Take no more calls; return an event that is set once all have ended or were cancelled."""
        with self._stopping:
            self._methods.stopping = True
            until = time.monotonic() + (grace or 0.0)
            self._until = until if self._stopped is None else min(self._until, until)
            if self.doors.local is not None:
                self._close_doors(self.doors.local)
            ended = self._grpc.stop(grace)
            if self._stopped is None:
                self._stopped = threading.Event()
                threading.Thread(target=self._stop_local, args=(ended, self._stopped), daemon=True).start()
            return self._stopped

    def _close_doors(self, local: "HostServer") -> None:
        from lrpc.kernel.host.workers import Workers

        local.close_doors()
        if isinstance(local.workers, Workers):
            local.workers.add(_MORE_WORKERS)  # which send late calls to gRPC

    def _stop_local(self, ended: threading.Event, stopped: threading.Event) -> None:
        local = self.doors.local
        while local is not None and time.monotonic() < self._until and local.workers.busy:
            local.workers.drain(0.02)  # a later stop may shorten the grace
        self.doors.close()
        ended.wait()
        stopped.set()

    def __del__(self) -> None:
        """End the doors of a server that nobody has stopped, as gRPC's own side ends."""
        doors: PortDoors | None = getattr(self, "doors", None)
        if doors is not None and doors.local is not None and self._stopped is None:
            threading.Thread(target=doors.close, daemon=True).start()

    def _serve(self, doors: "Doors") -> "HostServer":
        from lrpc.kernel.host.server import HostServer

        pool = self._methods.pool
        most = _MOST_WORKERS if pool is None else pool.threads
        if self._methods.most_concurrent is not None:
            most += _MORE_WORKERS  # which say no where the bounds of handlers are reached
        name = "lrpc server_" if pool is None else pool.prefix
        return HostServer(
            f"gRPC server {os.getpid()}",
            doors,
            broken,
            self.doors.waits,
            most,
            thread_name=name,
            idle_s=_IDLE_S,
            fair=False,
        )


def server(
    thread_pool: Executor,
    handlers: Sequence[Any] | None = None,
    interceptors: Sequence[Any] | None = None,
    options: Sequence[tuple[str, Any]] | None = None,
    maximum_concurrent_rpcs: int | None = None,
    compression: Any = None,
    xds: bool = False,
) -> grpc.Server:
    """Return a gRPC server, as `grpc.server` does, with doors for clients of this computer.

    Where this system has no host kernel, or LRPC_CHANNEL=off, gRPC alone serves.
    """
    return ChannelServer(thread_pool, handlers, interceptors, options, maximum_concurrent_rpcs, compression, xds)


class _Counted(grpc.ServerInterceptor):
    """The innermost interceptor on gRPC's way: what bounds handlers there bounds both ways."""

    def __init__(self, handlers: Handlers) -> None:
        self._methods = handlers
        self._kept: dict[str, tuple[Any, Any]] = {}  # of registered methods: their handler, and it counted

    def intercept_service(self, continuation: Callable[[Any], Any], handler_call_details: Any) -> Any:
        """Return the handler with its behaviour counted."""
        self._methods.grpc_calls += 1
        handler = continuation(handler_call_details)
        method = handler_call_details.method
        known = self._kept.get(method)
        if known is not None and known[0] is handler:
            return known[1]
        counted = None if handler is None else self._counted(handler)
        if handler is not None and handler is self._methods.registered.get(method):
            self._kept[method] = handler, counted
        return counted

    def _counted(self, handler: Any) -> Any:
        unary = None if handler.response_streaming or handler.request_streaming else handler.unary_unary
        behaviours = (unary, handler.unary_stream, handler.stream_unary, handler.stream_stream)
        if any(
            hasattr(one, "experimental_non_blocking") or hasattr(one, "experimental_thread_pool") for one in behaviours
        ):
            return handler  # it does not run on the pool that is bounded
        kinds = {
            (False, False): ("unary_unary", grpc.unary_unary_rpc_method_handler),
            (False, True): ("unary_stream", grpc.unary_stream_rpc_method_handler),
            (True, False): ("stream_unary", grpc.stream_unary_rpc_method_handler),
            (True, True): ("stream_stream", grpc.stream_stream_rpc_method_handler),
        }
        name, make = kinds[bool(handler.request_streaming), bool(handler.response_streaming)]
        behaviour = getattr(handler, name)
        counted = self._stream(behaviour) if handler.response_streaming else self._unary(behaviour)
        return make(counted, handler.request_deserializer, handler.response_serializer)

    def _unary(self, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @functools.wraps(behaviour)
        def run(request: Any, context: Any) -> Any:
            self._enter(context)
            try:
                return behaviour(request, context)
            finally:
                self._leave()

        return run

    def _stream(self, behaviour: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        @functools.wraps(behaviour)
        def run(request: Any, context: Any) -> Any:
            self._enter(context)
            try:
                yield from behaviour(request, context)
            finally:
                self._leave()

        return run

    def _enter(self, context: Any) -> None:
        if not self._methods.enter():
            context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, LIMIT_TEXT)
        if self._methods.pool is not None:
            self._methods.pool.take()

    def _leave(self) -> None:
        self._methods.leave()
        if self._methods.pool is not None:
            self._methods.pool.leave()
