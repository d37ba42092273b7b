"""The channel of `lrpc.aio`: its calls while they run, interceptors, and which way they go."""

import asyncio
import gc
import os
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from tests.support.awaited import awaited_pair, awaited_seen, awaited_serving, awaited_stub, ended
from tests.support.channels import SERVICE, seen, serving

CANCELLED = "Locally cancelled by application!"


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine, for at most half a minute."""
    asyncio.run(asyncio.wait_for(main, 30))


def text(value: str = "") -> StringValue:
    """Return a message."""
    return StringValue(value=value)


class TestCalls:
    def test_they_are_grpcs_by_type(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (_, target, server), lrpc.aio.insecure_channel(target) as channel:
                assert isinstance(server, grpc.aio.Server)
                assert isinstance(channel, grpc.aio.Channel)
                stub = awaited_stub(channel, "echo")
                assert isinstance(stub, grpc.aio.UnaryUnaryMultiCallable)
                call = stub(text("a"))
                assert isinstance(call, grpc.aio.UnaryUnaryCall)
                assert (await call).value == "a"

        run(main())

    @pytest.mark.parametrize("bound", [False, True])
    def test_a_cancelled_call_cancels_its_handler(self, tmp_path: Path, bound: bool) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (service, ours, theirs):
                if bound:
                    await awaited_seen(ours, "echo", "")
                ends = []
                for channel in (ours, theirs):
                    told: list[bool] = []
                    service.called.clear()
                    service.cancelled.clear()
                    call = awaited_stub(channel, "wait")(text())
                    call.add_done_callback(lambda one, call=call, told=told: told.append(one is call))
                    await service.called.wait()
                    assert not call.done()
                    assert (call.cancel(), call.cancel()) == (True, False)
                    await service.cancelled.wait()
                    with pytest.raises(asyncio.CancelledError):
                        await call
                    ends.append((await ended(call, None), told, call.cancelled(), await service.ended.get()))
                assert ends[0] == ends[1]
                assert (ends[0][0].details, ends[0][1]) == (CANCELLED, [True])
                assert ours.local_calls == bound  # the one that was cancelled has not ended there

        run(main())

    def test_a_call_that_is_cancelled_at_once_is_as_grpcs(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (_, ours, theirs):
                ends = []
                for channel in (ours, ours, theirs):  # first, and once it is bound
                    call = awaited_stub(channel, "echo")(text())
                    assert call.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await call
                    ends.append((await ended(call, None), call.time_remaining()))
                    await awaited_seen(channel, "echo", "")
                assert ends[0] == ends[1] == ends[2]

        run(main())

    def test_whoever_awaits_a_call_and_is_cancelled_cancels_it(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (service, ours, theirs):
                await awaited_seen(ours, "echo", "")
                for channel in (ours, theirs):
                    service.called.clear()
                    service.cancelled.clear()
                    call = awaited_stub(channel, "wait")(text())
                    waiting = asyncio.ensure_future(call)
                    await service.called.wait()
                    waiting.cancel()
                    with pytest.raises(asyncio.CancelledError):
                        await waiting
                    assert call.cancelled()
                    assert await call.code() is grpc.StatusCode.CANCELLED
                    await service.cancelled.wait()
                    with pytest.raises(TimeoutError):
                        await asyncio.wait_for(awaited_stub(channel, "wait")(text()), 0.05)
                assert ours.grpc_calls == 0

        run(main())

    def test_a_deadline_ends_the_call_and_its_handler(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (service, ours, theirs):
                for channel in (ours, ours, theirs):
                    service.cancelled.clear()
                    found = await awaited_seen(channel, "wait", "", timeout=0.05)
                    assert (found.code, found.details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
                    await service.cancelled.wait()
                assert (await awaited_seen(ours, "echo", "", timeout=-1)).code is grpc.StatusCode.DEADLINE_EXCEEDED
                assert (await awaited_seen(ours, "echo", "a", timeout=1e10)).response == "a"
                assert ours.grpc_calls == 0

        run(main())

    def test_initial_metadata_come_before_the_response(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (service, ours, _):
                for _ in range(2):
                    service.release.clear()
                    call = awaited_stub(ours, "wait")(text("early"))
                    assert tuple(await call.initial_metadata()) == (("early", "yes"), ("raw-bin", b"\x00"))
                    assert not call.done()
                    service.release.set()
                    assert (await call).value == "early"
                    assert tuple(await call.initial_metadata()) == (("early", "yes"), ("raw-bin", b"\x00"))
                assert ours.local_calls == 2

        run(main())

    def test_callbacks_are_called_at_the_end_or_at_once_after_it(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (_, ours, theirs):
                for channel in (ours, ours, theirs):
                    told: list[Any] = []
                    call = awaited_stub(channel, "echo")(text())
                    call.add_done_callback(told.append)
                    assert (told, call.done(), call.cancelled()) == ([], False, False)
                    await call
                    call.add_done_callback(told.append)
                    assert told == [call, call]
                    assert (call.cancel(), call.done(), call.cancelled()) == (False, True, False)
                    assert "status" in repr(call)

        run(main())

    def test_a_call_can_be_asked_before_it_is_awaited_and_awaited_again(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (_, ours, theirs):
                for channel in (ours, ours, theirs):
                    call = awaited_stub(channel, "echo")(text("a"), timeout=20)
                    assert await call.code() is grpc.StatusCode.OK
                    assert [(await call).value, (await call).value] == ["a", "a"]
                    assert 0 < call.time_remaining() < 20
                    assert await call.wait_for_connection() is None
                    failed = awaited_stub(channel, "raises")(text())
                    with pytest.raises(grpc.aio.AioRpcError, match="handler raised"):
                        await failed.wait_for_connection()

        run(main())

    def test_more_calls_at_once_than_a_stacks_take_grpc(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (service, ours, _):
                calls = [awaited_stub(ours, "wait")(text()) for _ in range(100)]
                await service.called.wait()
                assert (await awaited_seen(ours, "echo", "a", timeout=10)).response == "a"
                service.release.set()
                await asyncio.gather(*calls)
                assert (ours.local_calls + ours.grpc_calls, ours.grpc_calls >= 36) == (101, True)

        run(main())

    def test_a_large_message_does_not_hold_up_the_loop(self, tmp_path: Path) -> None:
        """The server runs in the same loop: it could not answer if a call blocked it."""

        async def main() -> None:
            async with awaited_pair(tmp_path) as (_, ours, _):
                sizes = [str(size) for size in (10, 3000, 200_000, 1 << 20) for _ in range(5)]
                found = await asyncio.gather(*(awaited_seen(ours, "large", size) for size in sizes))
                assert [len(one.response or "") for one in found] == [int(size) for size in sizes]
                cancelled = awaited_stub(ours, "large")(text(str(3 << 20)))
                cancelled.cancel()
                found = await asyncio.gather(*(awaited_seen(ours, "echo", "y" * int(size)) for size in sizes))
                assert [len(one.response or "") for one in found] == [int(size) for size in sizes]
                assert ours.grpc_calls == 0

        run(main())


class TestChannels:
    def test_streams_take_grpc(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (_, ours, theirs):
                forms = StringValue.SerializeToString, StringValue.FromString
                stream = ours.unary_stream(f"/{SERVICE}/stream", *forms)(text("a"))
                assert [one.value async for one in stream] == ["a0", "a1", "a2"]
                found = [await awaited_seen(channel, "stream", "a", timeout=1) for channel in (ours, ours, theirs)]
                assert {one.code for one in found} == {found[2].code}
                assert ours.local_calls == 0

        run(main())

    def test_a_closed_channel_raises_as_grpcs_does(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (_, target, _):
                channel = lrpc.aio.insecure_channel(target)
                stub = awaited_stub(channel, "echo")
                await stub(text())
                await channel.close()
                await channel.close()
                with pytest.raises(grpc.aio.UsageError, match="Channel is closed"):
                    stub(text())

        run(main())

    @pytest.mark.parametrize("bound", [False, True])
    def test_calls_outstanding_are_cancelled_when_their_channel_closes(self, tmp_path: Path, bound: bool) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (service, target, _):
                channel = lrpc.aio.insecure_channel(target)
                if bound:
                    await awaited_seen(channel, "echo", "")
                call = awaited_stub(channel, "wait")(text())
                await service.called.wait()
                await channel.close()
                with pytest.raises(asyncio.CancelledError):
                    await call
                await service.cancelled.wait()

        run(main())

    def test_a_channel_that_closes_with_grace_lets_calls_end(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (service, target, _):
                channel = lrpc.aio.insecure_channel(target)
                call = awaited_stub(channel, "wait")(text("a"))
                await service.called.wait()
                closing = asyncio.ensure_future(channel.close(20))
                service.release.set()
                assert (await call).value == "a"
                await closing

        run(main())

    def test_connectivity_is_that_of_grpcs_connection(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (_, target, _), lrpc.aio.insecure_channel(target) as channel:
                assert channel.get_state() is grpc.ChannelConnectivity.IDLE
                changed = asyncio.ensure_future(channel.wait_for_state_change(grpc.ChannelConnectivity.IDLE))
                await channel.channel_ready()
                await changed
                assert channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.READY

        run(main())

    def test_a_call_outlives_a_decision_that_changes(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (service, ours, _):
                call = awaited_stub(ours, "wait")(text("a"))
                await service.called.wait()
                (tmp_path / "grpc.sock").rename(tmp_path / "elsewhere")
                ours.broken()
                await awaited_seen(ours, "echo", "a", timeout=0.2)
                assert ours.decision.door is None
                service.release.set()
                assert (await call).value == "a"

        run(main())

    def test_sides_of_all_kinds_call_each_other(self, tmp_path: Path) -> None:
        async def main() -> None:
            threaded, plain = tmp_path / "threaded", tmp_path / "plain"
            threaded.mkdir()
            plain.mkdir()
            with serving(threaded) as (_, target, _):
                async with lrpc.aio.insecure_channel(target) as channel:
                    assert isinstance(channel, AwaitedChannel)
                    assert (await awaited_seen(channel, "echo", "a")).response == "a"
                    assert channel.local_calls == 1
            async with awaited_serving(tmp_path) as (_, target, _), grpc.aio.insecure_channel(target) as theirs:
                assert (await awaited_seen(theirs, "echo", "a")).response == "a"

                def call() -> tuple[object, int]:
                    with lrpc.insecure_channel(target) as channel:
                        return seen(channel, "echo", "a").response, channel.local_calls  # type: ignore[attr-defined]

                assert await asyncio.to_thread(call) == ("a", 1)
            server = grpc.aio.server()
            target = f"unix:{plain / 'grpc.sock'}"
            server.add_insecure_port(target)
            await server.start()
            async with lrpc.aio.insecure_channel(target) as channel:
                assert isinstance(channel, AwaitedChannel)
                assert (await awaited_seen(channel, "echo", "a")).code is grpc.StatusCode.UNIMPLEMENTED
                assert (channel.local_calls, channel.grpc_calls) == (0, 1)
            await server.stop(0)

        run(main())

    def test_a_server_that_is_not_there_is_unavailable_and_found_once_it_is(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with lrpc.aio.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel:
                assert isinstance(channel, AwaitedChannel)
                assert (await awaited_seen(channel, "echo", "")).code is grpc.StatusCode.UNAVAILABLE
                async with awaited_serving(tmp_path):
                    channel.broken()  # as after five seconds
                    found = await awaited_seen(channel, "echo", "a", wait_for_ready=True, timeout=20)
                    assert (found.response, channel.local_calls) == ("a", 1)

        run(main())

    def test_the_environment_turns_it_off(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (_, target, _):
                monkeypatch.setenv("LRPC_CHANNEL", "off")
                async with lrpc.aio.insecure_channel(target) as channel:
                    assert isinstance(channel, AwaitedChannel)
                    assert (await awaited_seen(channel, "echo", "a")).response == "a"
                    assert (channel.grpc_calls, channel.decision.reason) == (1, "LRPC_CHANNEL=off")

        run(main())

    def test_a_secure_channel_takes_grpc_unless_both_sides_say_otherwise(self, tmp_path: Path) -> None:
        async def main() -> None:
            credentials = grpc.ssl_channel_credentials()
            async with lrpc.aio.secure_channel(f"unix:{tmp_path / 'x'}", credentials) as channel:
                assert isinstance(channel, AwaitedChannel)
                assert (await awaited_seen(channel, "echo", "a")).code is grpc.StatusCode.UNAVAILABLE
                assert channel.decision.reason == "TLS"

        run(main())

    def test_install_puts_it_in_grpcs_place_and_uninstall_takes_it_out(self, tmp_path: Path) -> None:
        names = "insecure_channel", "secure_channel", "server"
        before = [getattr(grpc.aio, name) for name in names]

        async def main() -> None:
            async with awaited_serving(tmp_path) as (_, target, _), grpc.aio.insecure_channel(target) as channel:
                assert isinstance(channel, AwaitedChannel)
                assert (await awaited_seen(channel, "echo", "a")).response == "a"

        lrpc.install()
        try:
            run(main())
            assert [getattr(grpc.aio, name) for name in names] == [getattr(lrpc.aio, name) for name in names]
        finally:
            lrpc.uninstall()
        assert [getattr(grpc.aio, name) for name in names] == before

    def test_nothing_is_left_of_channels_closed_or_dropped(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (_, target, server):
                async with lrpc.aio.insecure_channel(target) as channel:
                    await awaited_seen(channel, "echo", "a")
                doors: Any = server
                while doors.doors.local.bindings:
                    await asyncio.sleep(0)
                before = len(os.listdir("/proc/self/fd"))
                for closes in (True, False) * 5:
                    channel = lrpc.aio.insecure_channel(target)
                    await awaited_seen(channel, "echo", "a")
                    if closes:
                        await channel.close()
                del channel
                gc.collect()
                while doors.doors.local.bindings:
                    await asyncio.sleep(0)
                assert len(os.listdir("/proc/self/fd")) <= before + 4

        run(main())


class Adds(grpc.aio.UnaryUnaryClientInterceptor):
    """Adds metadata to what passes."""

    def __init__(self, key: str) -> None:
        self.key, self.passed = key, 0

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        self.passed += 1
        client_call_details.metadata.add(self.key, str(self.passed))
        return await continuation(client_call_details, request)


class Returns(grpc.aio.UnaryUnaryClientInterceptor):
    """Returns a response of its own, or raises."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        if request.value == "raise":
            raise LookupError("not today")
        if request.value == "wait":
            call = await continuation(client_call_details, request)
            return text((await call).value + " and more")
        return text("without a server")


class Moves(grpc.aio.UnaryUnaryClientInterceptor):
    """Calls another method."""

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
        assert client_call_details.method == f"/{SERVICE}/none".encode()
        return await continuation(client_call_details._replace(method=f"/{SERVICE}/echo".encode()), request)


class TestInterceptors:
    def test_each_is_passed_once_in_order_on_either_way(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (_, target, _):
                found = []
                for make in (lrpc.aio.insecure_channel, grpc.aio.insecure_channel):
                    a, b = Adds("a"), Adds("b")
                    async with make(target, interceptors=[a, b]) as channel:
                        found += [await awaited_seen(channel, "metadata", "", metadata=(("c", "0"),)) for _ in "12"]
                        call = awaited_stub(channel, "echo")(text("x"))
                        told: list[Any] = []
                        call.add_done_callback(told.append)
                        assert not call.done()
                        assert (await call).value == "x"
                        assert told == [call]
                        assert (call.done(), call.cancelled(), call.cancel()) == (True, False, False)
                        with pytest.raises(NotImplementedError):
                            call.time_remaining()
                    assert (a.passed, b.passed) == (3, 3)
                assert found[:2] == found[2:]

        run(main())

    def test_they_may_return_responses_raise_and_call_other_methods(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (_, target, _):
                ends: list[object] = []
                wrong: Any = [object()]
                for make in (lrpc.aio.insecure_channel, grpc.aio.insecure_channel):
                    async with make(target, interceptors=[Returns()]) as channel:
                        for value in ("", "wait"):
                            call = awaited_stub(channel, "echo")(text(value))
                            ends += [(await call).value, await call.code(), await call.details(), call.done()]
                            ends += [await call.initial_metadata(), await call.trailing_metadata()]
                        with pytest.raises(LookupError, match="not today"):
                            await awaited_stub(channel, "echo")(text("raise"))
                    async with make(target, interceptors=[Moves()]) as channel:
                        ends.append((await awaited_seen(channel, "none", "moved")).response)
                    with pytest.raises(ValueError, match="must be"):
                        make(target, interceptors=wrong)
                assert ends[: len(ends) // 2] == ends[len(ends) // 2 :]

        run(main())

    def test_a_call_behind_one_is_cancelled_as_any(self, tmp_path: Path) -> None:
        async def main() -> None:
            async with awaited_serving(tmp_path) as (service, target, _):
                for make in (lrpc.aio.insecure_channel, grpc.aio.insecure_channel):
                    async with make(target, interceptors=[Adds("a")]) as channel:
                        service.called.clear()
                        service.cancelled.clear()
                        call = awaited_stub(channel, "wait")(text())
                        await service.called.wait()
                        assert call.cancel()
                        await service.cancelled.wait()
                        with pytest.raises(asyncio.CancelledError):
                            await call
                        assert (await call.code(), await call.details()) == (grpc.StatusCode.CANCELLED, CANCELLED)
                        early = awaited_stub(channel, "wait")(text())
                        assert early.cancel()
                        with pytest.raises(asyncio.CancelledError):
                            await early
                        assert (early.cancelled(), await early.code()) == (True, grpc.StatusCode.CANCELLED)

        run(main())

    def test_those_of_streams_are_grpcs_to_ask(self, tmp_path: Path) -> None:
        class Streams(grpc.aio.UnaryStreamClientInterceptor):
            async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:
                return await continuation(client_call_details, text("other"))

        async def main() -> None:
            async with (
                awaited_serving(tmp_path) as (_, target, _),
                lrpc.aio.insecure_channel(target, interceptors=[Streams(), Adds("a")]) as channel,
            ):
                forms = StringValue.SerializeToString, StringValue.FromString
                stream = channel.unary_stream(f"/{SERVICE}/stream", *forms)(text("a"))
                assert [one.value async for one in stream] == ["other0", "other1", "other2"]

        run(main())


def test_two_loops_have_channels_of_their_own(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, target, _), ThreadPoolExecutor(2) as pool:

        async def main() -> int:
            async with lrpc.aio.insecure_channel(target) as channel:
                assert isinstance(channel, AwaitedChannel)
                for n in range(50):
                    assert (await awaited_seen(channel, "echo", str(n))).response == str(n)
                return channel.local_calls

        assert list(pool.map(lambda _: asyncio.run(main()), range(2))) == [50, 50]
