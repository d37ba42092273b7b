"""The server in gRPC's place, how calls end where one side goes, and which way a call takes."""

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import pytest

import lrpc
from lrpc.cluster.channel import decision
from lrpc.cluster.channel.channel import Channel
from lrpc.cluster.channel.server import ChannelServer
from tests.support.channels import SERVICE, seen, serving
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

    def test_a_new_server_takes_the_place_of_one_in_its_grace(self, tmp_path: Path) -> None:
        with serving(tmp_path) as (service, target, server), lrpc.insecure_channel(target) as channel:
            assert isinstance(channel, Channel)
            ends: list[Any] = []
            waiting = threading.Thread(target=lambda: ends.append(seen(channel, "wait", "")))
            waiting.start()
            until(service.called.is_set)
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


SERVER = """
import sys
from pathlib import Path
from tests.support.channels import serving
with serving(Path(sys.argv[1])) as (service, target, server):
    print("ready", flush=True)
    server.wait_for_termination()
"""


FORKED = """
import os, sys, time
from pathlib import Path
from tests.support.channels import serving
with serving(Path(sys.argv[1]), options=[("lrpc.doors", sys.argv[2])]) as (service, target, server):
    service.called.wait()
    child = os.fork()
    if child == 0:
        time.sleep(60)  # with copies of all that its parent has open
        os._exit(0)
    print(child, flush=True)
    server.wait_for_termination()
"""


def kill(server: "subprocess.Popen[str]", at: list[float]) -> None:
    """Kill a server, and note when."""
    at.append(time.monotonic())
    server.kill()


def has_called(channel: Channel, calls: int) -> bool:
    """Return whether a channel has made so many calls on A-stacks; until then it decides again."""
    channel.broken()
    return channel.local_calls >= calls


def calls_locally(channel: Channel) -> bool:
    """Return whether a call of a channel, which decides anew, has taken an A-stack."""
    channel.broken()
    before = channel.local_calls
    seen(channel, "echo", "a")
    return channel.local_calls > before


class TestEnds:
    def test_a_server_that_is_killed_in_a_call_is_unavailable_at_once_and_comes_back(self, tmp_path: Path) -> None:
        command = [sys.executable, "-c", SERVER, str(tmp_path)]
        with lrpc.insecure_channel(f"unix:{tmp_path / 'grpc.sock'}") as channel:
            assert isinstance(channel, Channel)
            took = []
            for _ in range(3):
                server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
                assert server.stdout is not None
                assert server.stdout.readline() == "ready\n"
                channel.broken()
                assert seen(channel, "echo", "a", wait_for_ready=True, timeout=20).response == "a"
                channel.broken()
                assert seen(channel, "echo", "a").response == "a"
                before = channel.local_calls
                killed: list[float] = []
                threading.Timer(0.1, kill, [server, killed]).start()
                found = seen(channel, "wait", "")
                assert found.code is grpc.StatusCode.UNAVAILABLE
                took.append(time.monotonic() - killed[0])
                assert channel.local_calls == before  # the handler may have run: it is not repeated
                assert seen(channel, "echo", "a").code is grpc.StatusCode.UNAVAILABLE
                server.wait()
                server.stdout.close()
                (tmp_path / "grpc.sock").unlink(missing_ok=True)
            assert sorted(took)[1] < 0.1  # the middle one: this computer may be busy

    @pytest.mark.parametrize("where", ["folder", f"abstract:{os.geteuid()}"])
    def test_a_forked_child_of_a_server_does_not_hide_its_end(self, tmp_path: Path, where: str) -> None:
        where = where.replace("folder", str(tmp_path / "doors"))
        took = []
        for turn in range(3):
            (tmp_path / str(turn)).mkdir()
            command = [sys.executable, "-c", FORKED, str(tmp_path / str(turn)), where]
            server = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
            assert server.stdout is not None
            target = f"unix:{tmp_path / str(turn) / 'grpc.sock'}"
            until((tmp_path / str(turn) / "grpc.sock").exists, 30)
            with lrpc.insecure_channel(target, [("lrpc.doors", where)]) as channel:
                assert isinstance(channel, Channel)
                until(partial(calls_locally, channel))
                ends: list[tuple[grpc.StatusCode, float]] = []
                calling = threading.Thread(
                    target=lambda: ends.append((seen(channel, "wait", "").code, time.monotonic()))  # noqa: B023
                )
                calling.start()
                child = int(server.stdout.readline())
                killed = time.monotonic()
                server.kill()
                calling.join(10)
                os.kill(child, signal.SIGKILL)
                assert [code for code, _ in ends] == [grpc.StatusCode.UNAVAILABLE]
                took.append(ends[0][1] - killed)
            server.wait()
            server.stdout.close()
        assert sorted(took)[1] < 0.1  # the middle one: this computer may be busy


class WithoutNetlink(socket.socket):
    """A socket, but none that asks the kernel for its list of sockets."""

    def __init__(self, family: int = -1, *arguments: Any, **named: Any) -> None:
        if family == socket.AF_NETLINK:
            raise PermissionError("refused")
        super().__init__(family, *arguments, **named)


class TestDecisions:
    def test_a_port_of_this_server_has_a_door(self, tmp_path: Path) -> None:
        server = lrpc.server(ThreadPoolExecutor(1))
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        for target in (f"localhost:{port}", f"127.0.0.1:{port}", f"dns:///localhost:{port}", f"ipv4:127.0.0.1:{port}"):
            assert decision.decide(target, []).door is not None, target
        server.stop(0).wait()
        assert decision.decide(f"127.0.0.1:{port}", []).door is None

    @pytest.mark.parametrize("address", ["127.0.0.1", "0.0.0.0", "[::1]", "[::]"])
    def test_sockets_are_listed_by_proc_where_sock_diag_is_refused(
        self, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.create_server(
            (address.strip("[]"), 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET
        ) as one:
            port = one.getsockname()[1]
            told = decision.own_listeners(port)
            assert [each.address for each in told] == [address.strip("[]")]
            monkeypatch.setattr(socket, "socket", WithoutNetlink)
            assert decision.own_listeners(port) == told

    def test_ports_have_doors_where_sock_diag_is_refused_and_others_where_nothing_tells(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(socket, "socket", WithoutNetlink)
        for tables, local in ((decision.PROC_TABLES, 1), (("/nowhere",), 0)):
            monkeypatch.setattr(decision, "PROC_TABLES", tables)
            server = lrpc.server(ThreadPoolExecutor(1))
            port, path = server.add_insecure_port("127.0.0.1:0"), f"unix:{tmp_path / 'last.sock'}"
            server.add_insecure_port(path)
            server.start()
            for target, expected in ((f"127.0.0.1:{port}", local), (path, 1)):
                with lrpc.insecure_channel(target) as channel:
                    assert isinstance(channel, Channel)
                    assert seen(channel, "nothing", "").code is grpc.StatusCode.UNIMPLEMENTED
                    assert channel.local_calls == expected, channel.decision
            server.stop(0).wait()

    def test_a_port_with_several_listeners_takes_grpc(self) -> None:
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
            ("unix:a\0b", [], "a\0b: no socket there"),
            ("unix:/nowhere/at/all", [], "/nowhere/at/all: no socket there"),
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
