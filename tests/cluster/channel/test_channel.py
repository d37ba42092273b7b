"""The channel and the server that stand in gRPC's place: the same to see on both ways."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import lrpc
from lrpc.cluster.channel import decision
from lrpc.cluster.channel.channel import Channel
from lrpc.cluster.channel.form import WITHOUT_TLS
from lrpc.cluster.channel.server import ChannelServer
from tests.support.channels import SERVICE, seen, serving, stub
from tests.support.host import ROOT, until

KEYS = st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True)
VALUES = st.from_regex(r"[!-~]{1,20}", fullmatch=True)
INVALID: tuple[Any, ...] = (("K", "v"), ("k", "ä"), (":k", "y"), ("", "y"), ("k", 1), ("k-bin", "x"))
# Texts of gRPC's core, which vary from one version to the next.
VARYING = (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.CANCELLED)


@pytest.fixture(autouse=True)
def own_doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRPC_DOORS", str(tmp_path / "doors"))


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
    @pytest.mark.parametrize("name", ["echo", "none", "odd_code", "cancel", "who", "time", "raises"])
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

    @pytest.mark.parametrize("size", [4 << 20, 5 << 20])
    def test_messages_beyond_the_limit_are_refused_alike(self, both: tuple[Channel, grpc.Channel], size: int) -> None:
        same(both, "large", str(size))
        same(both, "echo", "y" * size)

    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(
        st.sampled_from(["echo", "metadata", "status", "abort", "raises", "time", "none"]),
        st.text(max_size=300),
        st.integers(0, 16),
        st.lists(
            st.one_of(
                st.tuples(
                    st.from_regex(r"[a-z][a-z0-9_.]{0,8}", fullmatch=True),
                    st.from_regex(r"[!-~]{1,20}", fullmatch=True),
                ),
                st.tuples(st.from_regex(r"[a-z]{1,5}-bin", fullmatch=True), st.binary(max_size=30)),
            ),
            max_size=5,
        ),
        st.sampled_from([None, 10.0, 100.0]),
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
            ends: list[Any] = []
            waiting = threading.Thread(target=lambda: ends.append(seen(channel, "wait", "")))
            waiting.start()
            until(service.called.is_set)
            (tmp_path / "grpc.sock").rename(tmp_path / "elsewhere")
            channel.broken()
            seen(channel, "echo", "a", timeout=0.2)
            assert channel.decision.door is None
            service.release.set()
            waiting.join(10)
            assert ends[0].response == "True"

    @pytest.mark.parametrize("timeout", [1e10, threading.TIMEOUT_MAX])
    def test_a_very_long_time_bounds_nothing(self, tmp_path: Path, timeout: float) -> None:
        with serving(tmp_path) as (_, target, _), lrpc.insecure_channel(target) as channel:
            assert seen(channel, "echo", "a", timeout=timeout).response == "a"

    def test_a_door_in_place_of_tls_is_not_for_a_channel_without(self, tmp_path: Path) -> None:
        server = lrpc.server(ThreadPoolExecutor(1), options=[("lrpc.local_without_tls", 1)])
        assert isinstance(server, ChannelServer)
        port = server.add_insecure_port("127.0.0.1:0")  # stands for one that has TLS
        server._ports = [(address, number, WITHOUT_TLS) for address, number, _ in server._ports]
        server.start()
        option = [("lrpc.local_without_tls", 1)]
        credentials = grpc.ssl_channel_credentials()
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

    def test_a_deadline_ends_a_call_as_grpcs_does(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, _), lrpc.insecure_channel(target) as channel:
            stub(channel, "echo")(StringValue())
            found = seen(channel, "wait", "", timeout=0.05)
            assert (found.code, found.details) == (grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
            assert seen(channel, "echo", "", timeout=-1).code is grpc.StatusCode.DEADLINE_EXCEEDED
            until(service.ended.is_set)

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


class TestServers:
    def test_a_generic_handler_is_asked_anew_for_each_call(self, tmp_path: Path) -> None:
        class ByTenant(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                tenant = dict(details.invocation_metadata)["tenant"].encode()
                return grpc.unary_unary_rpc_method_handler(lambda request, context: tenant)

        with serving(tmp_path, handlers=iter([ByTenant()])) as (_, target, _), lrpc.insecure_channel(target) as ours:
            method: Any = ours.unary_unary("/other/Who")
            assert [method(b"", metadata=(("tenant", one),)) for one in "aba"] == [b"a", b"b", b"a"]
            with grpc.insecure_channel(target) as theirs:
                assert seen(theirs, "echo", "a").response == "a"

    def test_interceptors_given_as_an_iterator_stand_on_both_ways(self, tmp_path: Path) -> None:
        class Refuses(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, details: Any) -> Any:
                def refuse(request: Any, context: Any) -> Any:
                    context.abort(grpc.StatusCode.UNAUTHENTICATED, "who are you?")

                return grpc.unary_unary_rpc_method_handler(refuse)

        with (
            serving(tmp_path, interceptors=iter([Refuses()])) as (_, target, _),
            lrpc.insecure_channel(target) as ours,
            grpc.insecure_channel(target) as theirs,
        ):
            assert seen(ours, "echo", "a") == seen(theirs, "echo", "a")
            assert seen(ours, "echo", "a").code is grpc.StatusCode.UNAUTHENTICATED

    def test_an_interceptor_that_raises_tells_the_client_nothing(self, tmp_path: Path) -> None:
        class Raises(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, details: Any) -> Any:
                raise ValueError("secret")

        with (
            serving(tmp_path, interceptors=[Raises()]) as (_, target, _),
            lrpc.insecure_channel(target) as ours,
            grpc.insecure_channel(target) as theirs,
        ):
            assert seen(ours, "echo", "a") == seen(theirs, "echo", "a")

    def test_waiting_for_termination_waits_for_calls_in_their_grace(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, server), lrpc.insecure_channel(target) as channel:
            ends: list[Any] = []
            waiting = threading.Thread(target=lambda: ends.append(seen(channel, "wait", "")))
            waiting.start()
            until(service.called.is_set)
            server.stop(20)
            assert server.wait_for_termination(0.1)
            assert seen(channel, "echo", "a").code is grpc.StatusCode.UNAVAILABLE
            service.release.set()
            assert not server.wait_for_termination(20)
            waiting.join()
            assert ends[0].response == "True"

    def test_more_calls_at_once_than_a_stacks_take_grpc(self, tmp_path: Path) -> None:
        with (
            serving(tmp_path, thread_pool=ThreadPoolExecutor(30)) as (service, target, _),
            lrpc.insecure_channel(target) as channel,
            ThreadPoolExecutor(20) as callers,
        ):
            calls = [callers.submit(seen, channel, "wait", "") for _ in range(20)]
            until(service.called.is_set)
            assert seen(channel, "echo", "a", timeout=10).response == "a"
            service.release.set()
            assert {one.result(20).response for one in calls} == {"True"}

    def test_handlers_run_on_threads_like_the_executors(self, tmp_path: Path) -> None:
        local = threading.local()

        def begin(value: str) -> None:
            local.value = value

        class Tells(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, details: Any) -> Any:
                assert local.value == "begun"
                return continuation(details)

        pool = ThreadPoolExecutor(3, thread_name_prefix="mine", initializer=begin, initargs=("begun",))
        with serving(tmp_path, thread_pool=pool, interceptors=[Tells()]) as (service, target, _):
            with lrpc.insecure_channel(target) as channel, grpc.insecure_channel(target) as theirs:
                assert seen(channel, "echo", "a").response == "a"
                seen(theirs, "echo", "a")
            assert service.threads == {"mine"}

    def test_an_executor_of_another_kind_is_submitted_to(self, tmp_path: Path) -> None:
        class Other(ThreadPoolExecutor):
            submitted = 0

            def submit(self, *arguments: Any, **named: Any) -> Any:
                Other.submitted += 1
                return super().submit(*arguments, **named)

        with serving(tmp_path, thread_pool=Other(2, thread_name_prefix="other")) as (service, target, _):
            with lrpc.insecure_channel(target) as channel:
                assert isinstance(channel, Channel)
                assert seen(channel, "echo", "a").response == "a"
                assert channel.local_calls == 1
            assert service.threads == {"other"}
            assert Other.submitted >= 1

    def test_server_interceptors_see_and_replace_handlers(self, tmp_path: Path) -> None:
        methods = []

        class Replaces(grpc.ServerInterceptor):
            def intercept_service(self, continuation: Any, details: Any) -> Any:
                methods.append((details.method, ("key", "value") in details.invocation_metadata))
                if details.method.endswith("none"):
                    return grpc.unary_unary_rpc_method_handler(lambda request, context: b"replaced")
                return continuation(details)

        with serving(tmp_path, interceptors=[Replaces()]) as (_, target, _), lrpc.insecure_channel(target) as channel:
            anything: Any = channel
            assert anything.unary_unary(f"/{SERVICE}/none")(b"") == b"replaced"
            assert seen(channel, "echo", "a", metadata=(("key", "value"),)).response == "a"
        assert methods == [(f"/{SERVICE}/none", False), (f"/{SERVICE}/echo", True)]

    def test_the_executors_threads_bound_both_ways_together(self, tmp_path: Path) -> None:
        with (
            serving(tmp_path, thread_pool=ThreadPoolExecutor(1)) as (service, target, _),
            lrpc.insecure_channel(target) as ours,
            grpc.insecure_channel(target) as theirs,
        ):
            waiting = threading.Thread(target=seen, args=(ours, "wait", ""))
            waiting.start()
            until(service.called.is_set)
            assert seen(theirs, "echo", "a", timeout=0.1).code is grpc.StatusCode.DEADLINE_EXCEEDED
            service.release.set()
            waiting.join()
            assert seen(theirs, "echo", "a").response == "a"

    def test_concurrent_calls_beyond_the_limit_are_refused_as_by_grpc(self, tmp_path: Path) -> None:
        with (
            serving(tmp_path, maximum_concurrent_rpcs=1) as (service, target, _),
            lrpc.insecure_channel(target) as channel,
        ):
            waiting = threading.Thread(target=seen, args=(channel, "wait", ""))
            waiting.start()
            until(service.called.is_set)
            found = seen(channel, "echo", "a")
            assert (found.code, found.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
            service.release.set()
            waiting.join()

    def test_a_stop_with_grace_lets_calls_in_flight_finish(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, server), lrpc.insecure_channel(target) as channel:
            ends: list[Any] = []
            waiting = threading.Thread(target=lambda: ends.append(seen(channel, "wait", "")))
            waiting.start()
            until(service.called.is_set)
            stopped = server.stop(10)
            assert not stopped.wait(0.05)
            service.release.set()
            assert stopped.wait(10)
            waiting.join()
            assert ends[0].response == "True"

    def test_the_end_of_a_client_cancels_the_handlers_context(self, tmp_path: Path) -> None:
        code = f"""
import lrpc
from tests.support.channels import seen
channel = lrpc.insecure_channel({"unix:" + str(tmp_path / "grpc.sock")!r})
print(seen(channel, "echo", "a").response, channel.local_calls, flush=True)
seen(channel, "wait", "")
"""
        with serving(tmp_path) as (service, _, _):
            client = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert client.stdout is not None
            assert client.stdout.readline() == "a 1\n"
            until(service.called.is_set)
            client.kill()
            client.wait()
            client.stdout.close()
            until(service.ended.is_set)


SERVER = """
import sys
from pathlib import Path
from tests.support.channels import serving
with serving(Path(sys.argv[1])) as (service, target, server):
    print("ready", flush=True)
    server.wait_for_termination()
"""


def has_called(channel: Channel, calls: int) -> bool:
    """Return whether a channel has made so many calls on A-stacks; until then it decides again."""
    channel.broken()
    return channel.local_calls >= calls


class TestEnds:
    def test_a_server_that_is_killed_in_a_call_is_unavailable_at_once_and_comes_back(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", SERVER, str(tmp_path)]
        with lrpc.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel:
            assert isinstance(channel, Channel)
            for _ in range(2):
                server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                channel.broken()
                assert seen(channel, "echo", "a", wait_for_ready=True, timeout=20).response == "a"
                channel.broken()
                assert seen(channel, "echo", "a").response == "a"
                before = channel.local_calls
                threading.Timer(0.1, server.send_signal, [signal.SIGKILL]).start()
                began = time.monotonic()
                found = seen(channel, "wait", "")
                assert found.code is grpc.StatusCode.UNAVAILABLE
                assert time.monotonic() - began < 2
                assert channel.local_calls == before  # the handler may have run: it is not repeated
                assert seen(channel, "echo", "a").code is grpc.StatusCode.UNAVAILABLE
                server.wait()
                server.stdout.close()
                (tmp_path / "grpc.sock").unlink(missing_ok=True)

    def test_each_call_has_one_outcome_while_the_server_restarts(self, tmp_path: Path) -> None:
        allowed = {grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
        with lrpc.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel, ThreadPoolExecutor(8) as pool:
            done = threading.Event()

            def many() -> list[grpc.StatusCode]:
                ends = []
                while not done.is_set():
                    ends.append(seen(channel, "echo", "a").code)
                return ends

            callers = [pool.submit(many) for _ in range(8)]
            for _ in range(4):
                with serving(tmp_path):
                    assert isinstance(channel, Channel)
                    channel.broken()
                    before = channel.local_calls
                    until(partial(has_called, channel, before + 200))
            done.set()
            codes = {code for one in callers for code in one.result(30)}
        assert codes <= allowed
        assert grpc.StatusCode.OK in codes


class TestDecisions:
    def test_a_port_of_this_server_has_a_door(self, tmp_path: Path) -> None:
        server = lrpc.server(ThreadPoolExecutor(1))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        for target in (f"localhost:{port}", f"127.0.0.1:{port}", f"dns:///localhost:{port}", f"ipv4:127.0.0.1:{port}"):
            assert decision.decide(target, []).door is not None, target
        server.stop(0).wait()
        assert decision.decide(f"127.0.0.1:{port}", []).door is None

    def test_a_port_with_several_listeners_takes_grpc(self) -> None:
        import socket

        one, other = socket.socket(), socket.socket()
        with one, other:
            for each in (one, other):
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            one.bind(("127.0.0.1", 0))
            one.listen()
            port = one.getsockname()[1]
            assert decision.decide(f"127.0.0.1:{port}", []).door is not None
            other.bind(("127.0.0.1", port))
            other.listen()
            assert decision.decide(f"127.0.0.1:{port}", []) == decision.Decision(
                None, f"2 sockets listen on port {port}"
            )

    @pytest.mark.parametrize(
        ("target", "options", "reason"),
        [
            ("192.0.2.1:80", [], "192.0.2.1: not an address of this computer"),
            ("xds:///service", [], "target xds:///service: not an address"),
            ("localhost", [], "target localhost: no port"),
            ("::1:80", [], "target ::1:80: no port"),
            ("localhost:²", [], "target localhost:²: no port"),
            ("foo..bar:80", [], "foo..bar: not localhost, and not an address"),
            ("unix://relative/s", [], "target unix://relative/s: not an address"),
            ("unix:a\0b", [], "a\0b: no socket of this user"),
            ("unix:/nowhere/at/all", [], "/nowhere/at/all: no socket of this user"),
            ("localhost:1", [("grpc.service_config", "{}")], "option grpc.service_config"),
            ("localhost:1", [("grpc.lb_policy_name", "round_robin")], "option grpc.lb_policy_name=round_robin"),
            ("localhost:1", [("some.thing", 1)], "option some.thing"),
            ("localhost:1", [], "0 sockets listen on port 1"),
        ],
    )
    def test_what_is_no_server_of_this_computer_takes_grpc_and_says_why(
        self, target: str, options: list[tuple[str, object]], reason: str
    ) -> None:
        assert decision.decide(target, options) == decision.Decision(None, reason)

    def test_a_proxy_in_the_environment_takes_grpc(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
        assert decision.decide("localhost:1", []).reason == "a proxy is set in the environment"
        assert decision.decide("localhost:1", [("grpc.enable_http_proxy", 0)]).reason == "0 sockets listen on port 1"

    def test_a_secure_channel_takes_grpc_unless_both_sides_say_otherwise(self, tmp_path: Path) -> None:
        with lrpc.secure_channel(f"unix:{tmp_path / 'x'}", grpc.ssl_channel_credentials()) as channel:
            assert isinstance(channel, Channel)
            assert seen(channel, "echo", "a").code is grpc.StatusCode.UNAVAILABLE
            assert channel.decision.reason == "TLS"

    def test_a_fork_binds_anew(self, tmp_path: Path) -> None:
        code = f"""
import os, sys
import lrpc
from tests.support.channels import seen
channel = lrpc.insecure_channel({"unix:" + str(tmp_path / "grpc.sock")!r})
method = channel.unary_unary("/test.Service/echo")
assert method(b"") == b""
child = os.fork()
if child == 0:
    try:
        assert method(b"") == b""
        assert method(b"") == b""
        os._exit(0 if channel.local_calls == 3 else 2)
    finally:
        os._exit(1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), method(b""), channel.local_calls)
"""
        with serving(tmp_path):
            done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
        assert done.stdout == "0 b'' 2\n", done.stderr


def test_nothing_is_left_of_a_channel(tmp_path: Path) -> None:
    with serving(tmp_path) as (_, target, _):
        for _ in range(3):
            with lrpc.insecure_channel(target) as channel:
                seen(channel, "echo", "a")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            with lrpc.insecure_channel(target) as channel:
                seen(channel, "echo", "a")
        until(lambda: len(os.listdir("/proc/self/fd")) <= before + 4)
