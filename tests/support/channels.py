"""One gRPC service that does what handlers do, and all that a client can see of a call to it."""

import contextlib
import itertools
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import strategies as st

import lrpc
from lrpc.cluster.channel.channel import Channel
from tests.support.host import until

SERVICE = "test.Service"
# Metadata that are valid, and some that are not.
PAIRS = st.lists(
    st.one_of(
        st.tuples(
            st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True),
            st.from_regex(r"[!-~]{1,20}", fullmatch=True),
        ),
        st.tuples(st.from_regex(r"[a-z]{1,5}-bin", fullmatch=True), st.binary(max_size=30)),
    ),
    max_size=5,
)
INVALID: tuple[Any, ...] = (("K", "v"), ("k", "ä"), (":k", "y"), ("", "y"), ("k", 1), ("k-bin", "x"))
CORE: Final = re.compile(r" grpc-c/\S+ \([^)]*\)")  # what gRPC's core says of itself in user agents
# What gRPC's core says where a call has ended while its bytes were under way.
REMOVED: Final = re.compile(r"Stream removed \((.*)\)", re.DOTALL)
# What no test compares, by what the page says of it under "What differs".
EXEMPTIONS: Final = {
    "texts": "Texts of gRPC's core vary from one version to the next.",
    "user agent": "without gRPC's core.",
    "time": "A call with a deadline of no time at all fails on an A-stack; gRPC sometimes lets it through.",
    "interceptors' threads": "Interceptors run on the workers' threads, several at a time.",
    "metadata between limits": "Metadata of a reply that are between a channel's two limits pass",
    "aborted with OK": "`grpc.aio` never answers a call whose handler aborts it with OK",
}
# Codes whose texts are of gRPC's core: see EXEMPTIONS.
VARYING = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)


class Service:
    """Handlers: each has a way of ending a call."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.called = threading.Event()
        self.ended = threading.Event()
        self.threads: set[str] = set()
        self.count = itertools.count()

    def echo(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        self.threads.add(threading.current_thread().name.rpartition("_")[0])
        return request

    def metadata(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        told = [pair for pair in context.invocation_metadata() if pair[0] != "user-agent"]
        context.send_initial_metadata((("first", "1"), ("raw-bin", b"\x00\xff")))
        context.set_trailing_metadata((*((key, value) for key, value in told), ("last", "2")))
        return StringValue(value=str([tuple(pair) for pair in told]))

    def status(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.set_code(list(grpc.StatusCode)[int(request.value)])
        context.set_details(f"status {request.value} ü")
        context.set_trailing_metadata((("why", "because"),))
        return request

    def abort(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.abort(list(grpc.StatusCode)[int(request.value)], "aborted")

    def raises(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        if request.value:
            context.set_code(grpc.StatusCode.NOT_FOUND)
            context.set_details(request.value)
        raise ValueError("handler raised")

    def none(self, request: StringValue, context: grpc.ServicerContext) -> Any:
        return None

    def odd_code(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.set_code(5)  # type: ignore[arg-type]  # what some programs do
        return request

    def bad_initial(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.send_initial_metadata((("K", "v"),))
        return request

    def bad_trailing(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.set_trailing_metadata((("K", "v"),))
        return request

    def bad_details(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.set_code(grpc.StatusCode.NOT_FOUND)
        context.set_details(None)  # type: ignore[arg-type]  # what some programs do
        return request

    def bad_abort(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.abort(grpc.StatusCode.NOT_FOUND, None)  # type: ignore[arg-type]  # likewise

    def long_details(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        raise ValueError("ü%" * 3000)

    def cancel(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.cancel()
        return request

    def wait(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        context.add_callback(self.ended.set)
        self.called.set()
        self.release.wait(30)
        return StringValue(value=str(context.is_active()))

    def late(self, request: StringValue, context: Any) -> StringValue:
        context.deadline_ns = 1  # long ago by the server's clock, and not by the client's
        return request

    def time(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        left = context.time_remaining()
        return StringValue(value="for ever" if left > 1e9 else "some" if 0 < left < 100 else "none")

    def who(self, request: StringValue, context: Any) -> StringValue:
        known = context.peer_identities(), context.peer_identity_key(), context.auth_context()
        return StringValue(value=str([known, context.code(), context.details(), context.is_active()]))

    def agent(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        told = [str(value) for key, value in context.invocation_metadata() if key == "user-agent"]
        return StringValue(value=CORE.sub("", str(told)))

    def large(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        return StringValue(value="x" * int(request.value))

    def much(self, request: StringValue, context: grpc.ServicerContext) -> StringValue:
        kind, _, count = request.value.partition(" ")
        pairs = tuple((f"k{n}", "v" * 1000) for n in range(int(count)))
        if "i" in kind:
            context.send_initial_metadata(pairs)
        if "t" in kind:
            context.set_trailing_metadata(pairs)
        if "a" in kind:
            context.abort(grpc.StatusCode.NOT_FOUND, "aborted")
        return request

    def stream(self, request: StringValue, context: grpc.ServicerContext) -> Iterator[StringValue]:
        yield from (StringValue(value=f"{request.value}{n}") for n in range(3))

    def handlers(self) -> dict[str, Any]:
        """Return the handlers by name."""
        make: Any = grpc
        forms = StringValue.FromString, StringValue.SerializeToString
        unary = [name for name in vars(Service) if name not in ("handlers", "stream") and name[0] != "_"]
        found = {name: make.unary_unary_rpc_method_handler(getattr(self, name), *forms) for name in unary}
        return {**found, "stream": make.unary_stream_rpc_method_handler(self.stream, *forms)}


@contextlib.contextmanager
def serving(folder: Path, **options: Any) -> Iterator[tuple[Service, str, grpc.Server]]:
    """Serve on a UNIX socket; yield the service, its target and the server."""
    service = Service()
    pool = options.pop("thread_pool", None) or ThreadPoolExecutor(8, thread_name_prefix="handler")
    server = lrpc.server(pool, **options)
    server.add_registered_method_handlers(SERVICE, service.handlers())
    target = f"unix:{folder / 'grpc.sock'}"
    server.add_insecure_port(target)
    server.start()
    try:
        yield service, target, server
    finally:
        service.release.set()
        server.stop(0).wait()
        pool.shutdown()


@dataclass
class Seen:
    """All that a client can see of a call."""

    response: str | None
    code: grpc.StatusCode
    details: str
    initial: tuple[tuple[str, str | bytes], ...]
    trailing: tuple[tuple[str, str | bytes], ...]
    debug: str = ""  # what gRPC's core says of the status


def stub(channel: grpc.Channel, name: str) -> Any:
    """Return the stub of a unary method, as generated code makes it."""
    made: Any = channel
    return made.unary_unary(
        f"/{SERVICE}/{name}",
        request_serializer=StringValue.SerializeToString,
        response_deserializer=StringValue.FromString,
        _registered_method=True,
    )


def seen(channel: grpc.Channel, name: str, value: str, **given: Any) -> Seen:
    """Call a method, and return what can be seen of it."""
    call: Any
    try:
        response, call = stub(channel, name).with_call(StringValue(value=value), **given)
    except grpc.RpcError as error:
        response, call = None, error
    initial, trailing = (tuple(map(tuple, one or ())) for one in (call.initial_metadata(), call.trailing_metadata()))
    code = call.code()
    debug = "" if response is not None or code in VARYING else str(call.debug_error_string())
    return Seen(None if response is None else response.value, code, call.details() or "", initial, trailing, debug)


def begin_waiting(channel: grpc.Channel, service: Service) -> tuple[threading.Thread, list[Seen]]:
    """Begin a call whose handler waits; return its thread, and where that puts what it has seen."""
    ends: list[Seen] = []
    waiting = threading.Thread(target=lambda: ends.append(seen(channel, "wait", "")))
    waiting.start()
    until(service.called.is_set)
    return waiting, ends


def calls_locally(channel: Channel) -> bool:
    """Return whether a call of a channel, which decides anew, has taken an A-stack."""
    channel.broken()
    before = channel.local_calls
    seen(channel, "echo", "a")
    return channel.local_calls > before
