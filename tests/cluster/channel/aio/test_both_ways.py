"""A call through `lrpc.aio` looks as one through `grpc.aio`: to whoever makes it and serves it."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lrpc
from lrpc.cluster.channel.aio.channel import AwaitedChannel
from tests.support.awaited import awaited_pair, awaited_seen, awaited_serving, awaited_stub, run
from tests.support.channels import INVALID, PAIRS, SERVICE, VARYING

ENDS = [
    *("echo", "none", "raises", "odd_code", "abort_status", "abort_twice", "abort_swallowed", "abort_later"),
    *("bad_trailing", "bad_initial", "time", "who", "agent", "wrong", "sync_echo", "sync_raises", "nothing"),
]


class Both:
    """A channel of ours and one of gRPC's to one server, all in one event loop."""

    def __init__(self, runner: asyncio.Runner, ours: AwaitedChannel, theirs: grpc.aio.Channel) -> None:
        self.runner, self.ours, self.theirs = runner, ours, theirs

    def same(self, name: str, value: str, *, local: int = 1, **given: Any) -> None:
        """Check that a call is the same on both ways, and took an A-stack on ours."""

        async def check() -> None:
            before = self.ours.local_calls
            found = await awaited_seen(self.ours, name, value, **given)
            expected = await awaited_seen(self.theirs, name, value, **given)
            if expected.code in VARYING:
                found.details = expected.details = ""
            assert found == expected
            assert self.ours.local_calls == before + local, self.ours.decision

        self.runner.run(check())


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch, asyncio.Runner() as runner:
        patch.setenv("LRPC_DOORS", str(folder / "doors"))
        pair = awaited_pair(folder)
        _, ours, theirs = runner.run(pair.__aenter__())
        runner.run(awaited_seen(ours, "echo", "bind while the doors are set"))
        yield Both(runner, ours, theirs)
        runner.run(pair.__aexit__(None, None, None))


@pytest.mark.parametrize("name", ENDS)
def test_each_way_of_ending_a_call_looks_the_same(both: Both, name: str) -> None:
    both.same(name, "")
    both.same(name, "own details")


@pytest.mark.parametrize("code", range(len(grpc.StatusCode)))
def test_each_status_code_travels(both: Both, code: int) -> None:
    both.same("status", str(code))
    if code:  # gRPC's server never answers a call that is aborted with OK
        both.same("abort", str(code))
        both.same("sync_abort", str(code))


def test_metadata_travels_both_ways_repeated_in_order_and_binary(both: Both) -> None:
    pairs = (("a", "1"), ("b-bin", bytes(range(256))), ("a", "2"), ("c", " spaces inside "), ("a", ""))
    for name in ("metadata", "sync_metadata"):
        both.same(name, "", metadata=pairs)
        both.same(name, "", metadata=grpc.aio.Metadata(*pairs))


@pytest.mark.parametrize("timeout", [5, 0.5, 1e6])
def test_a_handler_is_told_the_time_that_remains(both: Both, timeout: float) -> None:
    both.same("time", "", timeout=timeout)


@pytest.mark.parametrize("size", [0, 2000, 2100, 100_000, 3 << 20, 4 << 20, 5 << 20, 9 << 20])
def test_messages_of_any_size_return_or_are_refused_alike(both: Both, size: int) -> None:
    both.same("large", str(size))
    both.same("echo", "y" * size)


@pytest.mark.parametrize("pair", [("b-bin", b"1"), ("grpc-trace-bin", b"1"), ("k", "v" * 20_000)])
def test_metadata_that_are_read_once_arrive_on_either_way(both: Both, pair: tuple[str, str | bytes]) -> None:
    async def main() -> None:
        ours, theirs = [
            await awaited_seen(channel, "metadata", "", metadata=iter((("a", "1"), pair)), timeout=20)
            for channel in (both.ours, both.theirs)
        ]
        assert (ours.response, ours.code) == (theirs.response, theirs.code)

    both.runner.run(main())


@pytest.mark.parametrize("timeout", [float("inf"), float("-inf"), float("nan"), 1e10, -1e300, -1])
def test_times_that_no_clock_tells_end_alike(both: Both, timeout: float) -> None:
    both.same("echo", "a", timeout=timeout, local=0)


@pytest.mark.parametrize("key", ["te", "content-type", "user-agent", "grpc-timeout", "grpc-trace-bin", "grpc-x"])
def test_keys_that_grpc_keeps_for_itself_are_told_alike(both: Both, key: str) -> None:
    both.same("metadata", "", metadata=((key, b"1" if key.endswith("-bin") else "1"), ("own", "2")), local=0)


@pytest.mark.parametrize("count", [7, 20])
@pytest.mark.parametrize("kind", ["i", "t", "it", "ia", "ta"])
def test_metadata_of_replies_beyond_the_limit_are_refused_alike(both: Both, kind: str, count: int) -> None:
    both.same("much", f"{kind} {count}")


@pytest.mark.parametrize("pair", INVALID)
def test_invalid_metadata_is_refused_alike(both: Both, pair: Any) -> None:
    async def end(channel: grpc.aio.Channel) -> object:
        try:
            await awaited_stub(channel, "echo")(StringValue(), metadata=(pair,))
        except Exception as error:
            return type(error).__name__, str(error).partition("(")[0]
        return "returned"

    assert both.runner.run(end(both.ours)) == both.runner.run(end(both.theirs))


def test_serializers_that_fail_end_as_grpcs(both: Both) -> None:
    async def end(channel: Any, serializer: Any, deserializer: Any, request: Any) -> object:
        call = channel.unary_unary(f"/{SERVICE}/echo", serializer, deserializer)(request)
        try:
            return await call, await call.code(), await call.details()
        except Exception as error:
            return repr(error)

    cases: list[tuple[Any, Any, Any]] = [
        *((None, None, wrong) for wrong in ("text", 3, None, bytearray(b"x"))),
        *((serializer, None, b"x") for serializer in (lambda x: 1 / 0, lambda x: None, lambda x: "text")),
        *((None, deserializer, b"") for deserializer in (lambda x: 1 / 0, lambda x: None, bytes.hex)),
    ]
    for case in cases:
        assert both.runner.run(end(both.ours, *case)) == both.runner.run(end(both.theirs, *case))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(["echo", "metadata", "status", "abort", "raises", "time", "none", "sync_metadata", "sync_abort"]),
    st.text(max_size=300),
    st.integers(1, 16),
    PAIRS,
    st.sampled_from([None, 10.0, 90.0]),
)
def test_random_calls_look_the_same(
    both: Both, name: str, text: str, code: int, metadata: list[tuple[str, str | bytes]], timeout: float | None
) -> None:
    value = str(code) if name in ("status", "abort", "sync_abort") else text
    pairs = [one for one in metadata if not one[0].startswith("grpc")]
    both.same(name, value, metadata=pairs or None, timeout=timeout)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from(["echo", "raises", "sync_echo", "large"]), st.integers(0, 3000)), max_size=40)
)
def test_random_calls_at_once_look_the_same(both: Both, calls: list[tuple[str, int]]) -> None:
    async def all_of(channel: grpc.aio.Channel) -> list[object]:
        return await asyncio.gather(*(awaited_seen(channel, name, str(value)) for name, value in calls))

    assert both.runner.run(all_of(both.ours)) == both.runner.run(all_of(both.theirs))


def test_a_user_agent_of_its_own_is_told_on_either_way(tmp_path: Path) -> None:
    options = [("grpc.primary_user_agent", "mine/1"), ("grpc.secondary_user_agent", "mine/2")]

    async def main() -> None:
        async with (
            awaited_serving(tmp_path) as (_, target, _),
            lrpc.aio.insecure_channel(target, options) as ours,
            grpc.aio.insecure_channel(target, options) as theirs,
        ):
            for name in ("agent", "metadata"):
                found = [await awaited_seen(one, name, "", metadata=(("k", "v"),)) for one in (ours, theirs)]
                assert found[0] == found[1]
            assert isinstance(ours, AwaitedChannel)
            assert ours.local_calls == 2

    run(main())
