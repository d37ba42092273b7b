"""The tests as a service of gRPC's, for stubs and servers of gRPC and of lrpc alike.

What protoc would generate, made when it is read: the messages, the client's stub, and what
registers a servicer. There are streams too, of so many messages that each is its own test.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

from lrpc.cluster.channel.aio.channel import insecure_channel as lrpc_aio_channel
from lrpc.cluster.channel.aio.server import server as lrpc_aio_server
from lrpc.cluster.channel.channel import insecure_channel as lrpc_channel
from lrpc.cluster.channel.server import server as lrpc_server
from lrpc.kernel.errors import RunFailed
from lrpc.workloads.bench.servers import ARGUMENTS

SERVICE: Final = "lrpc.bench.Tests"
THREADS: Final = 8
PLAIN: Final = "plain"


def _messages(**fields: dict[str, int]) -> list[Any]:
    """Return a class for each message, whose fields have these types."""
    file = FileDescriptorProto(name="lrpc/bench.proto", package="lrpc.bench", syntax="proto3")
    for name, types in fields.items():
        message = file.message_type.add(name=name)
        for number, (field, kind) in enumerate(types.items(), 1):
            message.field.add(name=field, number=number, type=kind, label=FieldDescriptorProto.LABEL_OPTIONAL)
    pool = DescriptorPool()
    pool.Add(file)
    return [GetMessageClass(pool.FindMessageTypeByName(f"lrpc.bench.{name}")) for name in fields]


Terms, Total, Block = _messages(
    Terms={"a": FieldDescriptorProto.TYPE_INT32, "b": FieldDescriptorProto.TYPE_INT32},
    Total={"value": FieldDescriptorProto.TYPE_INT32},
    Block={"data": FieldDescriptorProto.TYPE_BYTES},
)
_UNARY: Final = {
    "null": (Block, Block),
    "add": (Terms, Total),
    "big_in": (Block, Block),
    "big_in_out": (Block, Block),
    "large": (Block, Block),
}


class TestsStub:
    """The client's side, as it would be generated."""

    def __init__(self, channel: Any) -> None:
        def made(kind: str, name: str, request: Any, response: Any) -> Any:
            make, path = getattr(channel, kind), f"/{SERVICE}/{name}"
            return make(path, request.SerializeToString, response.FromString, _registered_method=True)

        self.unary = {name: made("unary_unary", name, *types) for name, types in _UNARY.items()}
        self.count = made("unary_stream", "count", Total, Total)
        self.collect = made("stream_unary", "collect", Total, Total)
        self.follow = made("stream_stream", "follow", Total, Total)


def channel(target: str, folder: Path, waits: str | None) -> grpc.Channel:
    """Return a channel for threads: lrpc's where it is told how to wait."""
    return grpc.insecure_channel(target) if waits is None else lrpc_channel(target, options(folder, waits))


async def awaited_channel(target: str, folder: Path, *, doors: bool) -> grpc.aio.Channel:
    """Return a channel for asyncio: lrpc's where it has doors."""
    if doors:
        return lrpc_aio_channel(target, options(folder, "adapt"))
    return grpc.aio.insecure_channel(target)


def require_local(channel: Any) -> None:
    """Raise `RunFailed` where the last call by a channel of lrpc's took gRPC, and say why."""
    if not channel.local_calls or channel.grpc_calls:
        raise RunFailed(f"lrpc channel: calls take gRPC: {channel.decision.reason}")


def calls(channel: Any) -> dict[str, Callable[[], Any]]:
    """Return the calls of each test by a channel, which are awaited where it is for asyncio."""
    unary = TestsStub(channel).unary
    awaited = isinstance(channel, grpc.aio.Channel)
    add, block = (_awaited_add, _awaited_block) if awaited else (_add, _block)
    return {
        test: add(unary[name], *argument) if isinstance(argument, tuple) else block(unary[name], argument or b"")
        for test, (name, argument) in ARGUMENTS.items()
    }


def _add(method: Any, a: int, b: int) -> Callable[[], Any]:
    return lambda: method(Terms(a=a, b=b)).value


def _awaited_add(method: Any, a: int, b: int) -> Callable[[], Any]:
    async def call() -> Any:
        return (await method(Terms(a=a, b=b))).value

    return call


def _block(method: Any, data: object) -> Callable[[], Any]:
    return lambda: method(Block(data=data)).data


def _awaited_block(method: Any, data: object) -> Callable[[], Any]:
    async def call() -> Any:
        return (await method(Block(data=data))).data

    return call


def messages_alone() -> Any:
    """Do what every call of Add does on either side, with no boundary between: make, pack, read."""
    request = Terms.FromString(Terms(a=3, b=4).SerializeToString())
    response = _SERVICER.add(request, None).SerializeToString()
    return Total.FromString(response).value


def streams(channel: Any, messages: int) -> dict[str, Callable[[], Any]]:
    """Return what makes a stream of each kind, of so many messages."""
    stub = TestsStub(channel)
    total = Total(value=messages)
    return {
        "from the server": lambda: sum(1 for _ in stub.count(total)),
        "from the client": lambda: stub.collect(Total(value=n) for n in range(messages)),
        "both ways": lambda: sum(1 for _ in stub.follow(Total(value=n) for n in range(messages))),
    }


class _Servicer:
    """The handlers."""

    def null(self, request: Any, context: object) -> Any:
        return Block()

    def add(self, request: Any, context: object) -> Any:
        return Total(value=request.a + request.b)

    def big_in(self, request: Any, context: object) -> Any:
        return Block()

    def big_in_out(self, request: Any, context: object) -> Any:
        return Block(data=request.data)

    large = big_in_out

    def count(self, request: Any, context: object) -> Iterator[Any]:
        for n in range(request.value):
            yield Total(value=n)

    def collect(self, requests: Iterator[Any], context: object) -> Any:
        return Total(value=sum(one.value for one in requests))

    def follow(self, requests: Iterator[Any], context: object) -> Iterator[Any]:
        for one in requests:
            yield Total(value=one.value + 1)


_SERVICER: Final = _Servicer()


class _AwaitedServicer:
    """The handlers of unary methods, as coroutines."""

    def __getattr__(self, name: str) -> Callable[[Any, object], Any]:
        body = getattr(_Servicer(), name)

        async def run(request: Any, context: object) -> Any:
            return body(request, context)

        return run


def _register(servicer: object, server: Any) -> None:
    """Register a servicer, as generated code does."""
    handlers = {
        name: grpc.unary_unary_rpc_method_handler(
            getattr(servicer, name), request.FromString, response.SerializeToString
        )
        for name, (request, response) in _UNARY.items()
    }
    if isinstance(servicer, _Servicer):
        one_way = Total.FromString, Total.SerializeToString
        handlers["count"] = grpc.unary_stream_rpc_method_handler(servicer.count, *one_way)
        handlers["collect"] = grpc.stream_unary_rpc_method_handler(servicer.collect, *one_way)
        handlers["follow"] = grpc.stream_stream_rpc_method_handler(servicer.follow, *one_way)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
    server.add_registered_method_handlers(SERVICE, handlers)


def serve(folder: Path, waits: str | None, ready: Callable[[], None]) -> None:
    """Serve with threads while `ready` runs: by lrpc's server where it is told how to wait."""
    server = _server(folder, waits)
    ready()
    server.stop(None)


def serve_both(folder: Path, ready: Callable[[], None]) -> None:
    """Serve by lrpc's server, and by gRPC's in the folder's folder `plain`, in one process."""
    plain = folder / PLAIN
    plain.mkdir()
    servers = [_server(folder, "adapt"), _server(plain, None)]
    ready()
    for server in servers:
        server.stop(None)


def _server(folder: Path, waits: str | None) -> grpc.Server:
    pool = ThreadPoolExecutor(THREADS)
    server = grpc.server(pool) if waits is None else lrpc_server(pool, options=options(folder, waits))
    _register(_Servicer(), server)
    _open_ports(server, folder)
    server.start()
    return server


async def serve_awaited(folder: Path, ready: Callable[[], Any], *, doors: bool) -> None:
    """Serve with asyncio until `ready` has been awaited: by lrpc's server where it has doors."""
    server = lrpc_aio_server(options=options(folder, "adapt")) if doors else grpc.aio.server()
    _register(_AwaitedServicer(), server)
    _open_ports(server, folder)
    await server.start()
    await ready()
    await server.stop(None)


def _open_ports(server: Any, folder: Path) -> None:
    server.add_insecure_port(f"unix:{folder / 'socket'}")
    (folder / "port").write_text(str(server.add_insecure_port("127.0.0.1:0")))


def options(folder: Path, waits: str) -> list[tuple[str, str]]:
    """Return the options of lrpc's channels and servers."""
    return [("lrpc.doors", str(folder)), ("lrpc.waits", waits)]
