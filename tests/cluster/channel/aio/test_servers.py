"""The server of `lrpc.aio`: its handlers, interceptors and bounds, and how it stops."""

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from lrpc.cluster.channel.aio.server import AwaitedServer
from lrpc.cluster.channel.form import WITHOUT_TLS
from tests.support.awaited import awaited_pair, awaited_seen, awaited_serving, awaited_stub, run, text
from tests.support.channels import SERVICE

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("of a test", default="nothing")


class Logs(grpc.aio.ServerInterceptor):
    """Notes what passes."""

    def __init__(self, name: str, log: list[Any]) -> None:
        self.name, self.log = name, log

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self.log.append(
            (self.name, handler_call_details.method, ("k", "v") in handler_call_details.invocation_metadata)
        )
        return await continuation(handler_call_details)


class Answers(grpc.aio.ServerInterceptor):
    """Puts handlers of its own in the place of two, and raises for a third."""

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        async def refuse(request: Any, context: Any) -> Any:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

        name = handler_call_details.method.rpartition("/")[2]
        if name == "none":
            return grpc.unary_unary_rpc_method_handler(refuse)
        if name == "time":
            return grpc.unary_unary_rpc_method_handler(lambda request, context: b"")
        if name == "who":
            raise LookupError("an interceptor raised")
        return await continuation(handler_call_details)


class ByTenant(grpc.GenericRpcHandler):
    """Finds a handler by metadata."""

    def service(self, handler_call_details: Any) -> Any:
        tenant = dict(handler_call_details.invocation_metadata).get("tenant")

        async def answer(request: Any, context: Any) -> bytes:
            return str(tenant).encode()

        return None if tenant is None else grpc.unary_unary_rpc_method_handler(answer)


class TestServers:
    def test_interceptors_are_passed_in_order_and_replace_handlers(self, tmp_path: Path) -> None:
        async def main() -> None:
            log: list[Any] = []
            interceptors = iter([Logs("first", log), Logs("second", log), Answers()])
            async with awaited_pair(tmp_path, interceptors=interceptors) as (_, ours, theirs):
                for name in ("echo", "none", "time", "who", "stream", "nothing"):
                    ends = [
                        await awaited_seen(
                            channel, name, "a", metadata=(("k", "v"),), timeout=1 if name == "stream" else 9
                        )
                        for channel in (ours, theirs)
                    ]
                    if name != "stream":
                        assert ends[0] == ends[1]
                        assert log[:2] == log[2:] == [(n, f"/{SERVICE}/{name}", True) for n in ("first", "second")]
                    log.clear()

        run(main())

    def test_a_generic_handler_is_asked_anew_for_each_call(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path, handlers=iter([ByTenant()])) as (_, ours, _):
                method: Any = ours.unary_unary("/other/Who")
                assert [await method(b"", metadata=(("tenant", one),)) for one in "aba"] == [b"a", b"b", b"a"]
                assert ours.local_calls == 3

        run(main())

    def test_generic_handlers_added_later_serve(self, tmp_path: Path) -> None:
        async def main() -> None:
            server = lrpc.aio.server()
            server.add_generic_rpc_handlers(iter([ByTenant()]))
            server.add_insecure_port(f"unix:{tmp_path / 's'}")
            await server.start()
            async with lrpc.aio.insecure_channel(f"unix:{tmp_path / 's'}") as channel:
                method: Any = channel.unary_unary("/other/Who")
                assert await method(b"", metadata=(("tenant", "x"),)) == b"x"
            await server.stop(None)

        run(main())

    def test_handlers_run_where_grpc_runs_them(self, tmp_path: Path) -> None:
        async def main() -> None:
            found: list[Any] = []

            async def awaited(request: Any, context: Any) -> bytes:
                task = asyncio.current_task()
                assert task is not None
                async with asyncio.timeout(5):
                    await asyncio.sleep(0)
                found.append((threading.current_thread().name, VARIABLE.get()))
                VARIABLE.set("changed")
                return b""

            def called(request: Any, context: Any) -> bytes:
                found.append(threading.current_thread().name.partition("_")[0])
                return b""

            handlers: dict[str, Any] = {
                "awaited": grpc.unary_unary_rpc_method_handler(awaited),
                "called": grpc.unary_unary_rpc_method_handler(called),
            }
            VARIABLE.set("set before the start")
            generic = grpc.method_handlers_generic_handler("s", handlers)
            async with awaited_pair(tmp_path, handlers=[generic]) as (_, ours, theirs):
                VARIABLE.set("set after it")
                channel: Any
                for channel in (ours, ours, theirs):
                    await channel.unary_unary("/s/awaited")(b"")
                    await channel.unary_unary("/s/called")(b"")
                assert found == [("MainThread", "set before the start"), "migration"] * 3
                assert ours.local_calls == 4

        run(main())

    def test_a_context_is_one_of_grpcs_by_type(self, tmp_path: Path) -> None:
        async def main() -> None:
            async def answer(request: Any, context: Any) -> bytes:
                context.disable_next_message_compression()
                with pytest.raises(grpc.aio.UsageError):
                    await context.write(b"")
                return str(isinstance(context, grpc.aio.ServicerContext)).encode()

            generic = grpc.method_handlers_generic_handler("s", {"a": grpc.unary_unary_rpc_method_handler(answer)})
            async with awaited_pair(tmp_path, handlers=[generic]) as (_, ours, _):
                method: Any = ours.unary_unary("/s/a")
                assert await method(b"") == b"True"

        run(main())

    def test_callbacks_of_a_context_are_called_once_the_call_has_ended(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (service, ours, theirs):
                service.release.set()
                for channel in (ours, theirs):
                    await awaited_stub(channel, "wait")(text())
                    assert await service.ended.get() == (True, False)

        run(main())

    def test_a_response_beyond_the_servers_limit_is_refused_as_by_grpc(self, tmp_path: Path) -> None:
        async def main() -> None:
            options = [("grpc.max_send_message_length", 50)]
            async with awaited_pair(tmp_path, options=options) as (_, ours, theirs):
                codes = []
                for size in (5, 60):
                    sent = (("k", "v" * size),)
                    mine, plain = [await awaited_seen(one, "metadata", "", metadata=sent) for one in (ours, theirs)]
                    assert (mine.code, mine.details, mine.trailing) == (plain.code, plain.details, plain.trailing)
                    codes.append(mine.code)
                assert codes == [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED]
                assert ours.local_calls == 2

        run(main())

    def test_messages_that_find_no_room_take_grpc_and_responses_without_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lrpc.kernel.host import server

        monkeypatch.setattr(server, "MOST_BYTES", 1_000_000)

        async def main() -> None:
            async with awaited_pair(tmp_path) as (_, ours, _):
                assert (await awaited_seen(ours, "echo", "a")).response == "a"
                assert (await awaited_seen(ours, "echo", "a" * 2_000_000)).response == "a" * 2_000_000
                assert ours.local_calls == 1
                refused = await awaited_seen(ours, "large", "2000000")
                assert refused.code is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert (await awaited_seen(ours, "echo", "a")).response == "a"

        run(main())

    def test_calls_beyond_the_limit_are_refused_on_both_ways_together(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path, maximum_concurrent_rpcs=2) as (service, ours, theirs):
                refused = grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!"
                waiting = []
                for channel in (ours, theirs):
                    service.called.clear()
                    waiting.append(awaited_stub(channel, "wait")(text("a")))
                    await service.called.wait()
                assert (await awaited_seen(ours, "nothing", "")).code is grpc.StatusCode.UNIMPLEMENTED
                for channel in (ours, theirs):
                    service.called.clear()
                    for name in ("echo", "sync_echo"):
                        found = await awaited_seen(channel, name, "a")
                        assert (found.code, found.details) == refused
                    streams: Any = channel.unary_stream(f"/{SERVICE}/stream")
                    assert await streams(b"").code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                service.release.set()
                assert [(await call).value for call in waiting] == ["a", "a"]
                for channel in (ours, theirs):
                    for name in ("echo", "sync_echo"):
                        assert (await awaited_seen(channel, name, "a")).response == "a"
                assert ours.local_calls == 6

        run(main())

    def test_a_stop_with_grace_lets_calls_in_flight_end(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with (
                awaited_serving(tmp_path) as (service, target, server),
                lrpc.aio.insecure_channel(target) as channel,
            ):
                call = awaited_stub(channel, "wait")(text("a"))
                await service.called.wait()
                stopping = asyncio.ensure_future(server.stop(20))
                assert await server.wait_for_termination(0.05)
                assert (await awaited_seen(channel, "echo", "a")).code is grpc.StatusCode.UNAVAILABLE
                service.release.set()
                assert (await call).value == "a"
                await stopping
                assert not await server.wait_for_termination(20)

        run(main())

    def test_a_new_server_takes_the_place_of_one_in_its_grace(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with (
                awaited_serving(tmp_path) as (service, target, server),
                lrpc.aio.insecure_channel(target) as channel,
            ):
                assert isinstance(channel, AwaitedChannel)
                call = awaited_stub(channel, "wait")(text("a"))
                await service.called.wait()
                stopping = asyncio.ensure_future(server.stop(20))
                while (tmp_path / "grpc.sock").exists():  # gRPC takes it away, whoever's it is
                    await asyncio.sleep(0)
                async with awaited_serving(tmp_path):
                    found = [
                        await awaited_seen(channel, "echo", "a", timeout=20, wait_for_ready=True) for _ in range(2)
                    ]
                    assert [one.response for one in found] == ["a", "a"]
                    before = channel.local_calls
                    while channel.local_calls == before:
                        channel.broken()
                        await awaited_seen(channel, "echo", "a", timeout=20)
                    service.release.set()
                    assert (await call).value == "a"
                    await stopping

        run(main())

    @pytest.mark.parametrize("grace", [None, 0, 0.05])
    def test_a_stop_cancels_calls_that_outlast_its_grace(self, tmp_path: Path, grace: float | None) -> None:
        async def main() -> None:
            async with (
                awaited_serving(tmp_path) as (service, target, server),
                lrpc.aio.insecure_channel(target) as ours,
                grpc.aio.insecure_channel(target) as theirs,
            ):
                calls = []
                for channel in (ours, theirs):
                    service.called.clear()
                    calls.append(asyncio.ensure_future(awaited_seen(channel, "wait", "")))
                    await service.called.wait()
                await server.stop(grace)
                await service.cancelled.wait()
                ends = [(await call).code for call in calls]
                assert ends == [grpc.StatusCode.UNAVAILABLE] * 2
                await server.stop(None)
                assert not await server.wait_for_termination()

        run(main())

    def test_a_door_in_place_of_tls_is_not_for_a_channel_without(self, tmp_path: Path) -> None:
        async def main() -> None:
            server = lrpc.aio.server(options=[("lrpc.local_without_tls", 1)])
            assert isinstance(server, AwaitedServer)
            port = server.add_insecure_port("127.0.0.1:0")  # stands for one that has TLS
            server.doors.ports = [(address, number, WITHOUT_TLS) for address, number, _ in server.doors.ports]
            await server.start()
            option = [("lrpc.local_without_tls", 1)]
            credentials = grpc.ssl_channel_credentials()
            async with (
                lrpc.aio.insecure_channel(f"localhost:{port}") as plain,
                lrpc.aio.secure_channel(f"localhost:{port}", credentials, option) as secure,
                lrpc.aio.secure_channel(f"localhost:{port}", credentials) as strict,
            ):
                for channel, local in ((plain, 0), (secure, 1), (strict, 0)):
                    assert isinstance(channel, AwaitedChannel)
                    await awaited_seen(channel, "nothing", "", timeout=1)
                    assert channel.local_calls == local, channel.decision
            await server.stop(0)

        run(main())


async def streams(requests: AsyncIterator[StringValue], context: Any) -> AsyncIterator[StringValue]:
    """Return what comes."""
    async for request in requests:
        yield request


class TestKinds:
    def test_all_kinds_of_methods_are_counted_where_there_is_a_bound(self, tmp_path: Path) -> None:
        async def gather(requests: AsyncIterator[bytes], context: Any) -> bytes:
            return b"".join([request async for request in requests])

        async def writes(request: bytes, context: Any) -> None:
            await context.write(request)

        def iterates(request: bytes, context: Any) -> Any:
            yield request

        async def main() -> None:
            make: Any = grpc
            handlers = {
                "gather": make.stream_unary_rpc_method_handler(gather),
                "streams": make.stream_stream_rpc_method_handler(streams),
                "writes": make.unary_stream_rpc_method_handler(writes),
                "iterates": make.unary_stream_rpc_method_handler(iterates),
            }
            generic = [grpc.method_handlers_generic_handler("s", handlers)]
            async with awaited_pair(tmp_path, handlers=generic, maximum_concurrent_rpcs=1) as (_, ours, _):
                channel: Any = ours
                for _ in range(3):
                    assert await channel.stream_unary("/s/gather")(iter([b"a", b"b"])) == b"ab"
                    assert [one async for one in channel.stream_stream("/s/streams")(iter([b"a", b"b"]))] == [
                        b"a",
                        b"b",
                    ]
                    assert [one async for one in channel.unary_stream("/s/writes")(b"a")] == [b"a"]
                    assert [one async for one in channel.unary_stream("/s/iterates")(b"a")] == [b"a"]

        run(main())
