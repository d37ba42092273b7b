"""Calls through `lrpc.aio` while they run, and once they have ended."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest

import lrpc
from tests.support.awaited import awaited_pair, awaited_seen, awaited_serving, awaited_stub, ended, run, text

CANCELLED = "Locally cancelled by application!"


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
                await awaited_seen(ours, "echo", "")
                for channel in (ours, theirs):
                    service.cancelled.clear()
                    found = await awaited_seen(channel, "wait", "", timeout=0.2)
                    assert (found.code, found.details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
                    await service.cancelled.wait()
                assert (await awaited_seen(ours, "echo", "", timeout=-1)).code is grpc.StatusCode.DEADLINE_EXCEEDED
                assert (await awaited_seen(ours, "echo", "a", timeout=8e7)).response == "a"
                assert ours.grpc_calls == 0

        run(main())

    def test_a_response_after_the_deadline_does_not_reach_a_client_that_has_not_seen_it_pass(
        self, tmp_path: Path
    ) -> None:
        async def main() -> None:
            async with awaited_pair(tmp_path) as (_, ours, _):
                await awaited_seen(ours, "echo", "")
                found = await awaited_seen(ours, "late", "a", timeout=0.05)
                assert (found.code, found.details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
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
