"""The channel and the server that stand in gRPC's place: the same to see on both ways."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lrpc
from lrpc.cluster.channel.channel import Channel
from lrpc.cluster.channel.server import ChannelServer
from tests.support.channels import INVALID, PAIRS, SERVICE, VARYING, begin_waiting, seen, serving, stub
from tests.support.host import until


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Channel, grpc.Channel]]:
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LRPC_DOORS", str(folder / "doors"))
        with serving(folder) as (_, target, _), lrpc.insecure_channel(target) as ours:
            assert isinstance(ours, Channel)
            stub(ours, "echo")(StringValue(value="bind while the doors are set"))
            with grpc.insecure_channel(target) as theirs:
                yield ours, theirs


def same(both: tuple[Channel, grpc.Channel], name: str, value: str, **given: Any) -> None:
    """Check that a call is the same on both ways, and took an A-stack on ours."""
    ours, theirs = both
    before = ours.local_calls
    found, expected = seen(ours, name, value, **given), seen(theirs, name, value, **given)
    if expected.code in VARYING:
        found.details = expected.details = ""
    assert found == expected
    assert ours.local_calls == before + 1, ours.decision


class TestBothWays:
    @pytest.mark.parametrize(
        "name",
        [
            *("echo", "none", "odd_code", "cancel", "who", "time", "raises"),
            *("agent", "bad_initial", "bad_trailing", "bad_details", "bad_abort", "long_details"),
        ],
    )
    def test_each_way_of_ending_a_call_looks_the_same(self, both: tuple[Channel, grpc.Channel], name: str) -> None:
        same(both, name, "")

    @pytest.mark.parametrize("code", range(len(grpc.StatusCode)))
    def test_each_status_code_travels(self, both: tuple[Channel, grpc.Channel], code: int) -> None:
        same(both, "status", str(code))
        same(both, "abort", str(code))

    def test_what_a_handler_set_before_it_raised_stays(self, both: tuple[Channel, grpc.Channel]) -> None:
        same(both, "raises", "own details")

    def test_metadata_travels_both_ways_repeated_in_order_and_binary(self, both: tuple[Channel, grpc.Channel]) -> None:
        pairs = (("a", "1"), ("b-bin", bytes(range(256))), ("a", "2"), ("c", " spaces inside "), ("a", ""))
        same(both, "metadata", "", metadata=pairs)

    @pytest.mark.parametrize("timeout", [5, 0.5, 1e6])
    def test_a_handler_is_told_the_time_that_remains(self, both: tuple[Channel, grpc.Channel], timeout: float) -> None:
        same(both, "time", "", timeout=timeout)

    def test_a_method_that_is_not_there_is_unimplemented(self, both: tuple[Channel, grpc.Channel]) -> None:
        same(both, "nothing", "")

    @pytest.mark.parametrize("size", [0, 2000, 2100, 100_000, 3 << 20])
    def test_messages_of_any_size_return(self, both: tuple[Channel, grpc.Channel], size: int) -> None:
        same(both, "large", str(size))
        same(both, "echo", "y" * size)

    @pytest.mark.parametrize("size", [4 << 20, 5 << 20, 7 << 20])
    def test_messages_beyond_the_limit_are_refused_alike(self, both: tuple[Channel, grpc.Channel], size: int) -> None:
        same(both, "large", str(size))
        same(both, "echo", "y" * size)

    @pytest.mark.parametrize("timeout", [float("inf"), float("-inf"), float("nan"), 1e10, 1e300, -1e300, -1])
    def test_times_that_no_clock_tells_end_alike(self, both: tuple[Channel, grpc.Channel], timeout: float) -> None:
        ours, theirs = (seen(channel, "echo", "a", timeout=timeout) for channel in both)
        assert ours == theirs
        assert ours.code is grpc.StatusCode.DEADLINE_EXCEEDED

    @pytest.mark.parametrize("key", ["te", "content-type", "user-agent", "grpc-timeout", "grpc-trace-bin", "grpc-x"])
    def test_keys_that_grpc_keeps_for_itself_are_told_alike(self, both: tuple[Channel, grpc.Channel], key: str) -> None:
        sent = ((key, b"1" if key.endswith("-bin") else "1"), ("own", "2"))
        ours, theirs = (seen(channel, "metadata", "", metadata=sent, timeout=20) for channel in both)
        assert ours == theirs

    @pytest.mark.parametrize("pair", [("b-bin", b"1"), ("grpc-trace-bin", b"1"), ("k", "v" * 20_000), ("K", "v")])
    def test_metadata_that_are_read_once_arrive_on_either_way(
        self, both: tuple[Channel, grpc.Channel], pair: tuple[str, str | bytes]
    ) -> None:
        ends: list[object] = []
        for channel in both:
            try:
                ends.append(stub(channel, "metadata")(StringValue(), metadata=iter((("a", "1"), pair))).value)
            except grpc.RpcError as error:
                ends.append(error.code())
        assert ends[0] == ends[1]

    @pytest.mark.parametrize("name", ["", f"/{SERVICE}/" + "x" * 70_000, f"/{SERVICE}/echo".encode()])
    def test_names_of_methods_that_are_odd_end_alike(
        self, both: tuple[Channel, grpc.Channel], name: str | bytes
    ) -> None:
        ends: list[object] = []
        for channel in both:
            anything: Any = channel
            try:
                ends.append(anything.unary_unary(name)(b"", timeout=20))
            except grpc.RpcError as error:
                ends.append(error.code())
        assert ends[0] == ends[1]

    @pytest.mark.parametrize("count", [7, 20])
    @pytest.mark.parametrize("kind", ["i", "t", "it", "ia", "ta"])
    def test_metadata_of_replies_beyond_the_limit_are_refused_alike(
        self, both: tuple[Channel, grpc.Channel], kind: str, count: int
    ) -> None:
        same(both, "much", f"{kind} {count}")

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.sampled_from(["echo", "metadata", "status", "abort", "raises", "time", "none"]),
        st.text(max_size=300),
        st.integers(0, 16),
        PAIRS,
        st.sampled_from([None, 10.0, 90.0]),
    )
    def test_random_calls_look_the_same(
        self,
        both: tuple[Channel, grpc.Channel],
        name: str,
        text: str,
        code: int,
        metadata: list[tuple[str, str | bytes]],
        timeout: float | None,
    ) -> None:
        value = str(code) if name in ("status", "abort") else text
        pairs = [one for one in metadata if not one[0].startswith("grpc")]
        same(both, name, value, metadata=pairs or None, timeout=timeout)

    @pytest.mark.parametrize("pair", INVALID)
    def test_invalid_metadata_is_refused_alike(self, both: tuple[Channel, grpc.Channel], pair: Any) -> None:
        ends: list[object] = []
        for channel in both:
            try:
                stub(channel, "echo")(StringValue(), metadata=(pair,))
                ends.append("returned")
            except grpc.RpcError as error:
                ends.append((error.code(), error.details()))
            except TypeError as error:
                ends.append(str(error))
        assert ends[0] == ends[1]

    def test_a_serializer_that_returns_nothing_is_asked_once(self, both: tuple[Channel, grpc.Channel]) -> None:
        asked: list[list[object]] = []
        channel: Any
        for channel in both:
            for bound in ({}, {"timeout": 20}):
                asked.append([])
                with pytest.raises(grpc.RpcError, match="Exception serializing request!"):
                    channel.unary_unary(f"/{SERVICE}/echo", asked[-1].append)(b"", **bound)
        assert asked == [[b""]] * 4

    def test_errors_of_serializers_have_grpcs_texts(self, both: tuple[Channel, grpc.Channel]) -> None:
        ends: list[object] = []
        channel: Any
        for channel in both:
            for serializer, deserializer in ((lambda x: 1 / 0, None), (None, lambda x: 1 / 0), (None, lambda x: None)):
                method = channel.unary_unary(f"/{SERVICE}/echo", serializer, deserializer)
                with pytest.raises(grpc.RpcError) as caught:
                    method(b"")
                ends.append((caught.value.code(), caught.value.details()))
            for wrong in ("text", 3):
                with pytest.raises(TypeError) as other:
                    channel.unary_unary(f"/{SERVICE}/echo")(wrong)
                ends.append(str(other.value))
        assert ends[: len(ends) // 2] == ends[len(ends) // 2 :]


class TestChannels:
    def test_they_are_grpcs_by_type(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (_, target, server), lrpc.insecure_channel(target) as channel:
            assert isinstance(server, grpc.Server)
            assert isinstance(channel, grpc.Channel)
            assert isinstance(stub(channel, "echo"), grpc.UnaryUnaryMultiCallable)

    def test_streams_and_futures_take_grpc(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (_, target, _), lrpc.insecure_channel(target) as channel:
            assert isinstance(channel, Channel)
            stream = channel.unary_stream(f"/{SERVICE}/stream", StringValue.SerializeToString, StringValue.FromString)
            assert [one.value for one in stream(StringValue(value="a"))] == ["a0", "a1", "a2"]
            assert stub(channel, "echo").future(StringValue(value="f")).result().value == "f"
            assert channel.local_calls == 0

    def test_a_unary_stub_of_a_streaming_method_is_served_by_grpc(self, tmp_path: Path) -> None:
        with (
            serving(tmp_path) as (_, target, _),
            lrpc.insecure_channel(target) as ours,
            grpc.insecure_channel(target) as theirs,
        ):
            assert seen(ours, "stream", "a", timeout=0.2).code == seen(theirs, "stream", "a", timeout=0.2).code

    def test_client_interceptors_stand_before_it(self, tmp_path: Path) -> None:
        class Adds(grpc.UnaryUnaryClientInterceptor):
            def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
                return continuation(details._replace(metadata=(("by", "interceptor"),)), request)

        with serving(tmp_path) as (_, target, _), lrpc.insecure_channel(target) as channel:
            intercepted = grpc.intercept_channel(channel, Adds())
            assert "('by', 'interceptor')" in stub(intercepted, "metadata")(StringValue()).value
            assert isinstance(channel, Channel)
            assert channel.local_calls == 1

    @pytest.mark.parametrize(
        "options",
        [
            [("grpc.primary_user_agent", "mine/1")],
            [("grpc.secondary_user_agent", "mine/2")],
            [*(("grpc.primary_user_agent", f"mine/{n}") for n in range(2)), ("grpc.secondary_user_agent", "of mine")],
            [("grpc.primary_user_agent", "ü")],
        ],
    )
    def test_a_user_agent_of_its_own_is_told_on_either_way(
        self, tmp_path: Path, options: list[tuple[str, str]]
    ) -> None:
        with (
            serving(tmp_path) as (_, target, _),
            lrpc.insecure_channel(target, options) as ours,
            grpc.insecure_channel(target, options) as theirs,
        ):
            for given in ({}, {"timeout": 20}, {"timeout": 20, "metadata": (("k", "v"),)}):
                assert seen(ours, "agent", "", **given) == seen(theirs, "agent", "", **given)
                assert seen(ours, "metadata", "", **given) == seen(theirs, "metadata", "", **given)
            assert isinstance(ours, Channel)
            assert ours.local_calls == (0 if "ü" in str(options) else 6), ours.decision

    def test_either_side_counts_calls_by_the_way_they_took(self, tmp_path: Path) -> None:
        with (
            serving(tmp_path) as (_, target, server),
            lrpc.insecure_channel(target) as ours,
            grpc.insecure_channel(target) as theirs,
        ):
            for channel, count in ((ours, 3), (theirs, 2)):
                for _ in range(count):
                    seen(channel, "echo", "a")
            assert isinstance(ours, Channel)
            assert isinstance(server, ChannelServer)
            assert (ours.local_calls, ours.grpc_calls) == (3, 0)
            assert (server.local_calls, server.grpc_calls) == (3, 2)

    def test_a_closed_channel_raises_as_grpcs_does(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (_, target, _):
            channel = lrpc.insecure_channel(target)
            method = stub(channel, "echo")
            method(StringValue())
            channel.close()
            with pytest.raises(ValueError, match="Cannot invoke RPC on closed channel!"):
                method(StringValue())

    def test_a_call_that_is_outstanding_when_its_channel_closes_is_cancelled(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, _):
            channel = lrpc.insecure_channel(target)
            ends: list[Any] = []

            def call() -> None:
                try:
                    stub(channel, "wait")(StringValue())
                except grpc.RpcError as error:
                    ends.append(error.code())

            waiting = threading.Thread(target=call)
            waiting.start()
            until(service.called.is_set)
            channel.close()
            waiting.join(10)
            assert ends == [grpc.StatusCode.CANCELLED]

    def test_a_call_outlives_a_decision_that_changes(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, _), lrpc.insecure_channel(target) as channel:
            assert isinstance(channel, Channel)
            waiting, ends = begin_waiting(channel, service)
            (tmp_path / "grpc.sock").rename(tmp_path / "elsewhere")
            channel.broken()
            seen(channel, "echo", "a", timeout=0.2)
            assert channel.decision.door is None
            service.release.set()
            waiting.join(10)
            assert ends[0].response == "True"

    @pytest.mark.parametrize("timeout", [1e8, 3e9])
    def test_a_very_long_time_bounds_nothing(self, tmp_path: Path, timeout: float) -> None:
        with serving(tmp_path) as (_, target, _), lrpc.insecure_channel(target) as channel:
            assert seen(channel, "echo", "a", timeout=timeout).response == "a"

    def test_a_door_in_place_of_tls_is_not_for_a_channel_without(self, tmp_path: Path) -> None:
        server = lrpc.server(ThreadPoolExecutor(1), options=[("lrpc.local_without_tls", 1)])
        assert isinstance(server, ChannelServer)
        port = server.add_secure_port("127.0.0.1:0", grpc.local_server_credentials(grpc.LocalConnectionType.LOCAL_TCP))
        server.start()
        option = [("lrpc.local_without_tls", 1)]
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.LOCAL_TCP)
        with (
            lrpc.insecure_channel(f"localhost:{port}") as plain,
            lrpc.secure_channel(f"localhost:{port}", credentials, option) as secure,
            lrpc.secure_channel(f"localhost:{port}", credentials) as strict,
        ):
            for channel, local in ((plain, 0), (secure, 1), (strict, 0)):
                assert isinstance(channel, Channel)
                seen(channel, "nothing", "", timeout=1)
                assert channel.local_calls == local, channel.decision
        server.stop(0).wait()

    @pytest.mark.parametrize("with_calls", [False, True])
    def test_call_credentials_of_a_channel_are_never_left_out(self, tmp_path: Path, *, with_calls: bool) -> None:
        def keys(request: bytes, context: grpc.ServicerContext) -> bytes:
            return b" ".join(str(key).encode() for key, _ in context.invocation_metadata())

        option, target = [("lrpc.local_without_tls", 1)], f"unix:{tmp_path / 'secure.sock'}"
        server = lrpc.server(ThreadPoolExecutor(1), options=option)
        server.add_registered_method_handlers(SERVICE, {"keys": grpc.unary_unary_rpc_method_handler(keys)})
        server.add_secure_port(target, grpc.local_server_credentials(grpc.LocalConnectionType.UDS))
        server.start()
        credentials = grpc.local_channel_credentials(grpc.LocalConnectionType.UDS)
        if with_calls:
            credentials = grpc.composite_channel_credentials(credentials, grpc.access_token_call_credentials("secret"))
        with lrpc.secure_channel(target, credentials, option) as channel:
            assert isinstance(channel, Channel)
            anything: Any = channel
            told = anything.unary_unary(f"/{SERVICE}/keys")(b"", timeout=20)
            assert (b"authorization" in told) == with_calls
            assert channel.local_calls == (not with_calls), channel.decision
        server.stop(0).wait()

    def test_a_deadline_ends_a_call_as_grpcs_does(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, _), lrpc.insecure_channel(target) as channel:
            stub(channel, "echo")(StringValue())
            found = seen(channel, "wait", "", timeout=0.05)
            assert (found.code, found.details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            assert seen(channel, "echo", "", timeout=-1).code is grpc.StatusCode.DEADLINE_EXCEEDED
            until(service.ended.is_set)

    def test_a_response_after_the_deadline_does_not_reach_a_client_that_has_not_seen_it_pass(
        self, tmp_path: Path
    ) -> None:
        with serving(tmp_path) as (_, target, _), lrpc.insecure_channel(target) as channel:
            assert isinstance(channel, Channel)
            found = seen(channel, "late", "a", timeout=60)
            assert (found.code, found.details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            assert channel.local_calls, channel.decision

    def test_a_plain_grpc_client_and_a_plain_grpc_server_work_as_well(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (_, target, _), grpc.insecure_channel(target) as theirs:
            assert seen(theirs, "echo", "a").response == "a"
        plain = grpc.server(ThreadPoolExecutor(1))
        plain.add_insecure_port(f"unix:{tmp_path / 'plain.sock'}")
        plain.start()
        with lrpc.insecure_channel(f"unix:{tmp_path / 'plain.sock'}") as ours:
            assert isinstance(ours, Channel)
            assert seen(ours, "echo", "a").code is grpc.StatusCode.UNIMPLEMENTED
            assert (ours.local_calls, ours.grpc_calls) == (0, 1)
        plain.stop(0).wait()

    def test_a_server_that_is_not_there_is_unavailable_and_found_once_it_is(self, tmp_path: Path) -> None:
        with lrpc.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel:
            assert isinstance(channel, Channel)
            assert seen(channel, "echo", "").code is grpc.StatusCode.UNAVAILABLE
            with serving(tmp_path):
                channel.broken()  # as after five seconds
                assert seen(channel, "echo", "a", wait_for_ready=True, timeout=20).response == "a"

    def test_the_environment_turns_it_off_and_tells_why(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with serving(tmp_path) as (_, target, _):
            monkeypatch.setenv("LRPC_CHANNEL_LOG", "1")
            with lrpc.insecure_channel(target) as channel:
                assert isinstance(channel, Channel)
                seen(channel, "echo", "a")
                assert channel.local_calls == 1
            monkeypatch.setenv("LRPC_CHANNEL", "off")
            with lrpc.insecure_channel(target) as channel:
                assert isinstance(channel, Channel)
                assert seen(channel, "echo", "a").response == "a"
                assert channel.grpc_calls == 1
            said = capsys.readouterr().err
            assert f"channel to {target}: A-stack: socket" in said
            assert f"channel to {target}: gRPC: LRPC_CHANNEL=off" in said

    def test_install_puts_it_in_grpcs_place_and_uninstall_takes_it_out(self, tmp_path: Path) -> None:
        before = grpc.insecure_channel, grpc.secure_channel, grpc.server
        lrpc.install()
        lrpc.install()
        try:
            with serving(tmp_path) as (_, target, _), grpc.insecure_channel(target) as channel:
                assert isinstance(channel, Channel)
                assert seen(channel, "echo", "a").response == "a"
        finally:
            lrpc.uninstall()
        assert (grpc.insecure_channel, grpc.secure_channel, grpc.server) == before
