"""Libraries that people use with gRPC, each tried once on a channel and a server of ours."""

import asyncio
import contextlib
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import lrpc
from lrpc.cluster.channel.aio.server import AwaitedServer
from lrpc.cluster.channel.channel import Channel
from lrpc.cluster.channel.server import ChannelServer

HANDLERS: dict[str, Any] = {
    "echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request),
    "fails": grpc.unary_unary_rpc_method_handler(
        lambda request, context: context.abort(grpc.StatusCode.NOT_FOUND, "not here")
    ),
}


@contextlib.contextmanager
def served(folder: Path, *adds: Any) -> Iterator[tuple[ChannelServer, str]]:
    """Serve what `adds` add to a server, made by gRPC's own name."""
    server: Any = grpc.server(ThreadPoolExecutor(4))
    server.add_registered_method_handlers("s", HANDLERS)
    for add in adds:
        add(server)
    target = f"unix:{folder / 'grpc.sock'}"
    server.add_insecure_port(target)
    server.start()
    yield server, target
    server.stop(0).wait()


@pytest.fixture(autouse=True)
def installed() -> Iterator[None]:
    lrpc.install()
    yield
    lrpc.uninstall()


class Spans:
    """What OpenTelemetry has recorded, in memory."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        trace = pytest.importorskip("opentelemetry.trace")
        sdk = pytest.importorskip("opentelemetry.sdk.trace")
        export = pytest.importorskip("opentelemetry.sdk.trace.export")
        memory = pytest.importorskip("opentelemetry.sdk.trace.export.in_memory_span_exporter")
        self.memory = memory.InMemorySpanExporter()
        provider = sdk.TracerProvider()
        provider.add_span_processor(export.SimpleSpanProcessor(self.memory))
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)  # it may be set once only

    @contextlib.contextmanager
    def recorded(self, *names: str, installs_first: bool) -> Iterator[None]:
        """Have OpenTelemetry wrap gRPC's names, before or after `install`."""
        instruments: Any = pytest.importorskip("opentelemetry.instrumentation.grpc")
        made = [getattr(instruments, name)() for name in names]
        lrpc.uninstall()
        if installs_first:
            lrpc.install()
        for one in made:
            one.instrument()
        if not installs_first:
            lrpc.install()
        yield
        for one in made:
            one.uninstrument()

    @property
    def kinds(self) -> list[tuple[str, str]]:
        return sorted((one.kind.name, one.name) for one in self.memory.get_finished_spans())


@pytest.mark.parametrize("installs_first", [True, False])
def test_opentelemetry_records_one_span_on_each_side(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, installs_first: bool
) -> None:
    spans = Spans(monkeypatch)
    with (
        spans.recorded("GrpcInstrumentorClient", "GrpcInstrumentorServer", installs_first=installs_first),
        served(tmp_path) as (server, target),
        grpc.insecure_channel(target) as channel,
    ):
        anything: Any = channel
        assert anything.unary_unary("/s/echo")(b"a") == b"a"
        assert server.local_calls == 1
    assert spans.kinds == [("CLIENT", "/s/echo"), ("SERVER", "/s/echo")]


@pytest.mark.parametrize("installs_first", [True, False])
def test_opentelemetry_records_one_span_on_each_side_of_asyncio(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, installs_first: bool
) -> None:
    async def echo(request: bytes, context: Any) -> bytes:
        return request

    async def main() -> None:
        server: Any = grpc.aio.server()
        assert isinstance(server, AwaitedServer)
        server.add_registered_method_handlers("s", {"echo": grpc.unary_unary_rpc_method_handler(echo)})
        target = f"unix:{tmp_path / 'grpc.sock'}"
        server.add_insecure_port(target)
        await server.start()
        async with grpc.aio.insecure_channel(target) as channel:
            anything: Any = channel
            assert await anything.unary_unary("/s/echo")(b"a") == b"a"
        assert server.local_calls == 1
        await server.stop(0)

    spans = Spans(monkeypatch)
    with spans.recorded("GrpcAioInstrumentorClient", "GrpcAioInstrumentorServer", installs_first=installs_first):
        asyncio.run(main())
    assert spans.kinds == [("CLIENT", "/s/echo"), ("SERVER", "/s/echo")]


def test_health_is_asked_over_an_a_stack(tmp_path: Path) -> None:
    health = pytest.importorskip("grpc_health.v1.health")
    messages = pytest.importorskip("grpc_health.v1.health_pb2")
    generated = pytest.importorskip("grpc_health.v1.health_pb2_grpc")
    servicer = health.HealthServicer()
    servicer.set("shop", messages.HealthCheckResponse.SERVING)
    with (
        served(tmp_path, lambda server: generated.add_HealthServicer_to_server(servicer, server)) as (server, target),
        grpc.insecure_channel(target) as channel,
    ):
        stub = generated.HealthStub(channel)
        assert stub.Check(messages.HealthCheckRequest(service="shop")).status == messages.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as caught:
            stub.Check(messages.HealthCheckRequest(service="nothing"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        assert server.local_calls == 2


def test_reflection_streams_by_grpc(tmp_path: Path) -> None:
    reflection = pytest.importorskip("grpc_reflection.v1alpha.reflection")
    database = pytest.importorskip("grpc_reflection.v1alpha.proto_reflection_descriptor_database")
    with (
        served(tmp_path, lambda server: reflection.enable_server_reflection(("s",), server)) as (server, target),
        grpc.insecure_channel(target) as channel,
    ):
        assert "s" in database.ProtoReflectionDescriptorDatabase(channel).get_services()
        assert (server.local_calls, server.grpc_calls) == (0, 1)


def test_google_api_core_wraps_its_stubs(tmp_path: Path) -> None:
    helpers = pytest.importorskip("google.api_core.grpc_helpers")
    gapic = pytest.importorskip("google.api_core.gapic_v1")
    exceptions = pytest.importorskip("google.api_core.exceptions")
    with served(tmp_path) as (server, target), grpc.insecure_channel(target) as channel:
        anything: Any = channel
        assert helpers.wrap_errors(anything.unary_unary("/s/echo"))(b"a") == b"a"
        wrapped = gapic.method.wrap_method(anything.unary_unary("/s/echo"), default_timeout=20, with_call=True)
        assert wrapped(b"b")[0] == b"b"
        with pytest.raises(exceptions.NotFound, match="not here"):
            helpers.wrap_errors(anything.unary_unary("/s/fails"))(b"")
        assert server.local_calls == 3


def test_rich_status_travels(tmp_path: Path) -> None:
    rpc_status = pytest.importorskip("grpc_status.rpc_status")
    status_pb2 = pytest.importorskip("google.rpc.status_pb2")
    rich = status_pb2.Status(code=5, message="not here")
    rich.details.add().type_url = "types/more"

    def fails(request: bytes, context: Any) -> Any:
        context.abort_with_status(rpc_status.to_status(rich))

    handlers: dict[str, Any] = {"fails": grpc.unary_unary_rpc_method_handler(fails)}
    with (
        served(tmp_path, lambda server: server.add_registered_method_handlers("rich", handlers)) as (server, target),
        grpc.insecure_channel(target) as channel,
    ):
        anything: Any = channel
        with pytest.raises(grpc.RpcError) as caught:
            anything.unary_unary("/rich/fails")(b"")
        assert rpc_status.from_call(caught.value) == rich
        assert server.local_calls == 1


def test_simple_stubs_of_grpcs_experiments_have_credentials_and_take_grpc(tmp_path: Path) -> None:
    experimental = pytest.importorskip("grpc.experimental")
    with served(tmp_path) as (server, target), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert experimental.unary_unary(b"a", target, "/s/echo", insecure=True) == b"a"
        assert (server.local_calls, server.grpc_calls) == (0, 1)


def test_a_generic_stub_waits_until_the_channel_is_ready(tmp_path: Path) -> None:
    with served(tmp_path) as (_, target), grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(20)
        assert isinstance(channel, Channel)
        anything: Any = channel
        assert anything.unary_unary("/s/echo")(b"a") == b"a"
        assert channel.local_calls == 1
