"""Containers of one pod: a channel and a server in process and mount namespaces of their own."""

import os
from collections.abc import Sequence

import pytest

from lrpc.cluster.channel import decision
from tests.support.pods import CONTAINER, OTHER_USERS, contained

OWN = f"abstract:{os.geteuid()}"
SERVE = """
from concurrent.futures import ThreadPoolExecutor
import grpc, lrpc
server = lrpc.server(ThreadPoolExecutor(2), options=[("lrpc.doors", sys.argv[1])])
echo = grpc.unary_unary_rpc_method_handler(lambda request, context: request)
server.add_registered_method_handlers("test", {"echo": echo})
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(port, flush=True)
server.wait_for_termination()
"""
CALL = """
import encodings.idna
lrpc.insecure_channel("localhost:1").close()  # imported while it may still read what is imported
target, where, user = sys.argv[1:]
if int(user) != os.geteuid():
    os.setresuid(int(user), int(user), int(user))
with lrpc.insecure_channel(target, [("lrpc.doors", where)]) as channel:
    assert channel.unary_unary("/test/echo")(b"x" * 5000, timeout=20) == b"x" * 5000
    print(channel.local_calls, channel.decision.reason)
"""


def called(port: str, where: str, user: int, flags: Sequence[str] = CONTAINER) -> str:
    """Call the echo from a container; return by how many A-stacks, and how that was decided."""
    with contained(CALL, f"127.0.0.1:{port}", where, str(user), flags=flags) as client:
        return client.communicate(timeout=60)[0].strip()


def test_a_port_of_another_container_is_called_by_its_abstract_door() -> None:
    with contained(SERVE, OWN) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        try:
            assert called(port, OWN, os.geteuid()).startswith(f"1 port {port}, socket ")
            # Without the list on its side too, a client looks in a folder, which it does not share.
            assert called(port, "/proc/none", os.geteuid()).startswith("0 ")
            other = called(port, OWN, os.geteuid(), (*OTHER_USERS, *CONTAINER))
            assert other.startswith("0 "), other
            assert "user namespace" in other or "belongs to user" in other
        finally:
            server.kill()
            server.wait()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_users_that_either_side_lists_call_each_other_and_others_take_grpc() -> None:
    with contained(SERVE, "abstract:1234") as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        try:
            assert called(port, "abstract:0", 1234).startswith(f"1 port {port}, socket ")
            assert "user 1235 is not listed in abstract:1234" in called(port, "abstract:0", 1235)
            assert "belongs to user 0, not to user 1234" in called(port, "abstract:1234", 1234)
        finally:
            server.kill()
            server.wait()


def test_a_list_of_users_that_is_none_takes_grpc() -> None:
    assert decision.decide("127.0.0.1:1", [], frozenset()).door is None
