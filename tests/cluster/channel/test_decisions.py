"""Which way a call takes, by what its target is, and what lists it."""

import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

import lrpc
from lrpc.cluster.channel import decision
from lrpc.cluster.channel.channel import Channel
from tests.support.channels import seen, serving
from tests.support.host import ROOT


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
