"""The channel of `lrpc.aio`: its life, and which way its calls go."""

import asyncio
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from tests.support.awaited import awaited_pair, awaited_seen, awaited_serving, awaited_stub, run, text
from tests.support.channels import SERVICE, seen, serving

CANCELLED = "Locally cancelled by application!"


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
                with pytest.raises(ValueError, match="grace"):
                    await channel.close(-1)
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
                await awaited_seen(ours, "echo", "a", timeout=5)
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

    def test_a_server_for_threads_learns_that_a_call_was_cancelled(self, tmp_path: Path) -> None:
        async def main() -> None:
            with serving(tmp_path) as (service, target, _):
                async with lrpc.aio.insecure_channel(target) as channel:
                    await awaited_seen(channel, "echo", "a")
                    for _ in range(2):
                        service.called.clear()
                        service.ended.clear()
                        service.release.clear()
                        call = awaited_stub(channel, "wait")(text())
                        await asyncio.to_thread(service.called.wait)
                        call.cancel()
                        assert await asyncio.to_thread(service.ended.wait, 10)
                        service.release.set()
                    assert (await awaited_seen(channel, "wait", "")).response == "True"

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


def test_two_loops_have_channels_of_their_own(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, target, _), ThreadPoolExecutor(2) as pool:

        async def main() -> int:
            async with lrpc.aio.insecure_channel(target) as channel:
                assert isinstance(channel, AwaitedChannel)
                for n in range(50):
                    assert (await awaited_seen(channel, "echo", str(n))).response == str(n)
                return channel.local_calls

        assert list(pool.map(lambda _: asyncio.run(main()), range(2))) == [50, 50]
