"""Interceptors of a channel for asyncio: they see what `grpc.aio` shows them."""

import asyncio
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

import lrpc
from tests.support.awaited import awaited_seen, awaited_serving, awaited_stub, run, text
from tests.support.channels import SERVICE

CANCELLED = "Locally cancelled by application!"


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
