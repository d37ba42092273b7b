"""The baseline: message passing over pipes and sockets, with the same interfaces and servers."""

import os
import socket
import threading
from collections.abc import Iterator

import pytest

import lrpc
from lrpc.domains.host.pipes import bind_messages, serve_messages
from tests.support.host import OutOfStock, Shop, ShopServer


@pytest.fixture(params=["pipe", "socket"])
def client(request: pytest.FixtureRequest) -> Iterator[Shop]:
    if request.param == "pipe":
        there, out = os.pipe()
        back, answer = os.pipe()
        server, client = (there, answer), (back, out)
    else:
        one, other = socket.socketpair()
        ends = one.detach(), other.detach()
        server, client = (ends[0], ends[0]), (ends[1], ends[1])
    thread = threading.Thread(target=serve_messages, args=(Shop, ShopServer(), *server))
    thread.start()
    yield bind_messages(Shop, *client)
    os.close(client[1])
    thread.join()
    for fd in {*server, client[0]} - {client[1]}:
        os.close(fd)


def test_results_and_exceptions_are_those_of_any_other_binding(client: Shop) -> None:
    assert client.add(1, 2) == 3
    assert client.both(1, 2) == (2, 1)
    with pytest.raises(OutOfStock, match="no tea left"):
        client.buy("tea")
    with pytest.raises(lrpc.ArgumentError):
        client.add("1", 2)  # type: ignore[arg-type]
    assert client.add(3, 4) == 7


@pytest.mark.parametrize("size", [0, 65_528, 65_529, 1 << 20])
def test_messages_of_any_size_arrive_whole(client: Shop, size: int) -> None:
    data = os.urandom(size)
    assert client.grow(size) == bytes([size % 251]) * size
    if size < 60_000:
        assert client.echo(data) == data
