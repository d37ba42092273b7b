"""The server in gRPC's place: whose threads run handlers, what bounds them, and how it stops."""

import os
import signal
import subprocess
import sys
import threading
import types
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

import lrpc
from lrpc.cluster.channel.channel import Channel
from lrpc.cluster.channel.server import ChannelServer
from lrpc.kernel.host import processors
from tests.support.channels import SERVICE, begin_waiting, calls_locally, seen, serving
from tests.support.host import ROOT, until


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

    @pytest.mark.parametrize(("waits", "why"), [("spin", "watches"), ("sleep", "asked to sleep")])
    def test_each_side_waits_as_its_options_say(self, tmp_path: Path, waits: str, why: str) -> None:
        options = [("lrpc.waits", waits)]
        with (
            serving(tmp_path, options=options) as (_, target, server),
            lrpc.insecure_channel(target, options) as channel,
        ):
            assert isinstance(server, ChannelServer)
            assert isinstance(channel, Channel)
            assert seen(channel, "echo", "a").response == "a"
            assert channel.local_calls == 1
            assert server.doors.local is not None
            (binding,) = server.doors.local.bindings.values()
            assert [processors.why(one.native) for one in (binding, channel.held)] == [why, why]

    def test_a_way_to_wait_that_there_is_not_is_refused(self) -> None:
        with pytest.raises(lrpc.Refused, match="waits='doze': it is one of 'adapt', 'sleep', 'spin'"):
            lrpc.server(ThreadPoolExecutor(1), options=[("lrpc.waits", "doze")])

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
            waiting, ends = begin_waiting(channel, service)
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
            waiting, _ = begin_waiting(ours, service)
            assert seen(theirs, "echo", "a", timeout=0.1).code is grpc.StatusCode.DEADLINE_EXCEEDED
            service.release.set()
            waiting.join()
            assert seen(theirs, "echo", "a").response == "a"

    def test_concurrent_calls_beyond_the_limit_are_refused_as_by_grpc(self, tmp_path: Path) -> None:
        with (
            serving(tmp_path, maximum_concurrent_rpcs=1) as (service, target, _),
            lrpc.insecure_channel(target) as channel,
        ):
            waiting, _ = begin_waiting(channel, service)
            found = seen(channel, "echo", "a")
            assert (found.code, found.details) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!")
            service.release.set()
            waiting.join()

    def test_concurrent_calls_are_counted_on_both_ways_together(self, tmp_path: Path) -> None:
        with (
            serving(tmp_path, maximum_concurrent_rpcs=1) as (service, target, _),
            lrpc.insecure_channel(target) as ours,
            grpc.insecure_channel(target) as theirs,
        ):
            for waits, refused in ((ours, theirs), (theirs, ours)):
                service.called.clear()
                service.release.clear()
                waiting, _ = begin_waiting(waits, service)
                found = seen(refused, "echo", "a")
                assert (found.code, found.details) == (
                    grpc.StatusCode.RESOURCE_EXHAUSTED,
                    "Concurrent RPC limit exceeded!",
                )
                service.release.set()
                waiting.join()
                assert seen(refused, "echo", "a").response == "a"

    def test_what_a_handler_raises_after_it_has_cancelled_is_logged(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        def bug(request: bytes, context: grpc.ServicerContext) -> bytes:
            context.cancel()
            raise ValueError("a bug")

        server = lrpc.server(ThreadPoolExecutor(1))
        server.add_registered_method_handlers(SERVICE, {"bug": grpc.unary_unary_rpc_method_handler(bug)})
        target = f"unix:{tmp_path / 'grpc.sock'}"
        server.add_insecure_port(target)
        server.start()
        for make in (grpc.insecure_channel, lrpc.insecure_channel):
            with make(target) as channel:
                caplog.clear()
                assert seen(channel, "bug", "").code is grpc.StatusCode.CANCELLED
                until(lambda: "Exception calling application: a bug" in caplog.messages)
        server.stop(0).wait()

    def test_ctrl_c_in_a_call_is_told_to_its_handler(self, tmp_path: Path) -> None:
        code = f"""
import sys
import lrpc
from tests.support.channels import seen
channel = lrpc.insecure_channel({"unix:" + str(tmp_path / "grpc.sock")!r})
print(seen(channel, "echo", "a").response, channel.local_calls, flush=True)
try:
    seen(channel, "wait", "" if sys.argv[1] == "plain" else "a" * 100_000, **eval(sys.argv[2]))
except KeyboardInterrupt:
    print("interrupted", channel.local_calls, flush=True)
sys.stdin.read()
"""
        for form, given in (("plain", "{}"), ("plain", "{'timeout': 30}"), ("large", "{}")):
            with serving(tmp_path) as (service, _, _):
                command = [sys.executable, "-c", code, form, given]
                pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
                with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as client:
                    assert client.stdout is not None
                    assert client.stdout.readline() == "a 1\n"
                    until(service.called.is_set)
                    client.send_signal(signal.SIGINT)
                    assert client.stdout.readline() == "interrupted 1\n"
                    until(service.ended.is_set, 1)
                    assert not service.release.is_set()

    def test_a_response_beyond_the_servers_limit_is_refused_as_by_grpc(self, tmp_path: Path) -> None:
        with (
            serving(tmp_path, options=[("grpc.max_send_message_length", 50)]) as (_, target, _),
            lrpc.insecure_channel(target) as ours,
            grpc.insecure_channel(target) as theirs,
        ):
            codes = []
            for size in (5, 60):
                sent = (("k", "v" * size),)
                mine, plain = (seen(channel, "metadata", "", metadata=sent) for channel in (ours, theirs))
                assert (mine.code, mine.details, mine.trailing) == (plain.code, plain.details, plain.trailing)
                codes.append(mine.code)
            assert codes == [grpc.StatusCode.OK, grpc.StatusCode.RESOURCE_EXHAUSTED]
            assert isinstance(ours, Channel)
            assert ours.local_calls == 2

    def test_messages_that_find_no_room_take_grpc_and_responses_without_are_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from lrpc.kernel.host import server

        monkeypatch.setattr(server, "MOST_BYTES", 100_000)
        with serving(tmp_path) as (_, target, _), lrpc.insecure_channel(target) as channel:
            assert isinstance(channel, Channel)
            assert seen(channel, "echo", "a").response == "a"
            assert seen(channel, "echo", "a" * 200_000, timeout=20).response == "a" * 200_000
            assert seen(channel, "echo", "a" * 200_000).response == "a" * 200_000
            assert channel.local_calls == 1
            # The handler has run, so it is not asked again by gRPC.
            assert seen(channel, "large", "200000").code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert seen(channel, "echo", "a").response == "a"

    def test_a_channels_own_limit_for_metadata_holds_for_replies_too(self, tmp_path: Path) -> None:
        options = [("grpc.max_metadata_size", 2000), ("grpc.absolute_max_metadata_size", 4000)]
        with (
            serving(tmp_path) as (_, target, _),
            lrpc.insecure_channel(target, options) as ours,
            grpc.insecure_channel(target, options) as theirs,
        ):
            for value, code in (("it 1", grpc.StatusCode.OK), ("i 4", grpc.StatusCode.RESOURCE_EXHAUSTED)):
                mine, plain = (seen(channel, "much", value) for channel in (ours, theirs))
                assert (mine.code, mine.initial, mine.trailing) == (plain.code, plain.initial, plain.trailing)
                assert mine.code is code
            assert isinstance(ours, Channel)
            assert ours.local_calls == 2

    def test_a_server_with_a_limit_of_its_own_for_metadata_is_called_by_grpc(self, tmp_path: Path) -> None:
        options = [("grpc.absolute_max_metadata_size", 400)]
        with serving(tmp_path, options=options) as (_, target, _), lrpc.insecure_channel(target) as channel:
            found = seen(channel, "echo", "a", metadata=(("k", "v" * 1000),))
            assert found.code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert isinstance(channel, Channel)
            assert channel.local_calls == 0

    def test_a_server_that_is_told_by_xds_what_to_do_has_no_doors(self, tmp_path: Path) -> None:
        with serving(tmp_path, xds=True) as (_, _, server):
            assert isinstance(server, ChannelServer)
            assert server.doors.local is None

    def test_what_grpcs_observability_plugin_measures_goes_by_grpc(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with serving(tmp_path) as (_, target, _), lrpc.insecure_channel(target) as channel:
            assert isinstance(channel, Channel)
            for local, plugin in enumerate((None, types.ModuleType("grpc_observability"))):
                if plugin is not None:
                    monkeypatch.setitem(sys.modules, plugin.__name__, plugin)
                channel.broken()
                assert seen(channel, "echo", "a").response == "a"
                assert (channel.local_calls, channel.grpc_calls) == (1, local)
            assert channel.decision.reason == "gRPC's observability plugin"
        with serving(tmp_path) as (_, _, server):
            assert isinstance(server, ChannelServer)
            assert server.doors.local is None

    def test_a_stop_with_grace_lets_calls_in_flight_finish(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, server), lrpc.insecure_channel(target) as channel:
            waiting, ends = begin_waiting(channel, service)
            stopped = server.stop(10)
            assert not stopped.wait(0.05)
            service.release.set()
            assert stopped.wait(10)
            waiting.join()
            assert ends[0].response == "True"

    def test_a_new_server_takes_the_place_of_one_in_its_grace(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, server), lrpc.insecure_channel(target) as channel:
            assert isinstance(channel, Channel)
            waiting, ends = begin_waiting(channel, service)
            stopped = server.stop(20)
            until(lambda: not (tmp_path / "grpc.sock").exists())  # gRPC takes it away, whoever's it is
            with serving(tmp_path):
                # The old server's A-stacks are still there: it sends the call on, and none is lost.
                found = [seen(channel, "echo", "a", timeout=20, wait_for_ready=True) for _ in range(3)]
                assert [one.response for one in found] == ["a"] * 3
                until(partial(calls_locally, channel))
                service.release.set()
                waiting.join()
                assert ends[0].response == "True"
                assert stopped.wait(10)
                before = channel.local_calls
                assert seen(channel, "echo", "a").response == "a"
                assert channel.local_calls == before + 1

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
