"""Strangers at a station's door: processes that knock without the secret, in every bad way.

They speak HTTP/2 by hand, since that costs them least: an attacker's processor time goes to knocks.
As a command: `python -m tests.support.strangers KIND SHARE ADDRESS ...`, until it is ended. SHARE
is the most of one processor that it takes.
"""

import contextlib
import random
import selectors
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
ACKNOWLEDGED: Final = bytes((0, 0, 0, 4, 1, 0, 0, 0, 0))  # the server's settings, or it opens few streams
DATA, HEADERS = 0, 1
END_STREAM, END_HEADERS = 1, 4
CLIENT_HELLO: Final = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))
MOST_CONNECTIONS: Final = 1000


def frame(kind: int, flags: int, stream: int, body: bytes) -> bytes:
    """Return an HTTP/2 frame."""
    return len(body).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + body


def _literal(name: bytes, value: bytes) -> bytes:
    return bytes((0, len(name))) + name + bytes((len(value),)) + value


REQUEST: Final = b"\x83\x86" + b"".join(  # POST, http, and the rest spelt out
    _literal(name, value)
    for name, value in (
        (b":path", b"/lrpc.transport.v1.Transport/Pulse"),
        (b":authority", b"station"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
    )
)


def head(stream: int) -> bytes:
    """Return the beginning of a request."""
    return frame(HEADERS, END_HEADERS, stream, REQUEST)


class Knocks:
    """Connections to stations, of which none is waited for."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = [(host, int(port)) for host, _, port in (one.rpartition(":") for one in addresses)]
        self._selector = selectors.DefaultSelector()
        self._streams: dict[socket.socket, int] = {}
        self._greeted: set[socket.socket] = set()
        self._next = 0

    def connect(self, greeting: bytes = PREFACE) -> socket.socket | None:
        """Open one more connection and greet; return None where it fails."""
        self._next += 1
        try:
            made = socket.create_connection(self._addresses[self._next % len(self._addresses)], timeout=1)
            made.setblocking(False)
            made.send(greeting)
        except OSError:
            return None
        self._selector.register(made, selectors.EVENT_READ)
        self._streams[made] = 1
        return made

    def send(self, one: socket.socket, make: Callable[[int], bytes]) -> None:
        """Send what `make` makes of the next stream's number; drop a broken connection."""
        try:
            one.send(make(self._streams[one]))
            self._streams[one] += 2
        except BlockingIOError:
            return
        except OSError:
            self.drop(one)

    def drain(self, wait_s: float) -> None:
        """Read and forget what has come; drop connections that were closed."""
        for key, _ in self._selector.select(wait_s):
            one = key.fileobj
            assert isinstance(one, socket.socket)
            try:
                if one.recv(1 << 16):
                    if one not in self._greeted:
                        self._greeted.add(one)
                        one.send(ACKNOWLEDGED)
                    continue
            except BlockingIOError:
                continue
            except OSError:
                pass
            self.drop(one)

    def drop(self, one: socket.socket) -> None:
        """Close a connection."""
        self._streams.pop(one, None)
        self._greeted.discard(one)
        self._selector.unregister(one)
        one.close()

    @property
    def open(self) -> list[socket.socket]:
        """Return the open connections."""
        return list(self._streams)

    def keep(self, number: int, greeting: bytes = PREFACE) -> list[socket.socket]:
        """Open connections until there are so many; return those there are."""
        for _ in range(min(20, number - len(self._streams))):
            self.connect(greeting)
        return self.open


def headers_only(knocks: Knocks) -> None:
    """Begin requests that never have a body."""
    for one in knocks.keep(4):
        knocks.send(one, head)


def slow_bodies(knocks: Knocks) -> None:
    """Begin requests whose bodies of a mebibyte come byte by byte, and never end."""
    for one in knocks.keep(8):
        knocks.send(one, lambda stream: head(stream) + frame(DATA, 0, stream, b"\0"))


def connections(knocks: Knocks) -> None:
    """Hold as many connections as there may be, and ask for nothing."""
    knocks.keep(MOST_CONNECTIONS)


def floods(knocks: Knocks) -> None:
    """Make whole requests as fast as they go."""
    for _ in range(8):
        for one in knocks.keep(16):
            knocks.send(one, lambda stream: head(stream) + frame(DATA, END_STREAM, stream, b"\0" * 5))


def garbage(knocks: Knocks) -> None:
    """Send bytes that mean nothing, some of them after a proper greeting."""
    chance = random.Random()
    for one in knocks.keep(16, chance.choice([PREFACE, b"", chance.randbytes(24)])):
        knocks.send(one, lambda stream: chance.randbytes(64))


def tls(knocks: Knocks) -> None:
    """Begin handshakes of TLS, and leave them."""
    for one in knocks.keep(16, CLIENT_HELLO):
        knocks.drop(one)


KINDS: Final[Mapping[str, Callable[[Knocks], None]]] = {
    "headers only": headers_only,
    "slow bodies": slow_bodies,
    "a thousand connections": connections,
    "floods": floods,
    "garbage": garbage,
    "TLS": tls,
}


def knock(kind: str, share: float, addresses: Sequence[str]) -> None:
    """Knock for ever, with at most so much of one processor."""
    knocks = Knocks(addresses)
    began, spent = time.monotonic(), time.process_time()
    while True:
        KINDS[kind](knocks)
        knocks.drain(0.0)
        ahead = (time.process_time() - spent) / share - (time.monotonic() - began)
        if ahead > 0:
            time.sleep(ahead)


@contextlib.contextmanager
def strangers(kind: str, addresses: Sequence[str], share: float = 0.05) -> Iterator[None]:
    """Have a process knock at stations while the block runs."""
    command = [sys.executable, "-m", "tests.support.strangers", kind, str(share), *addresses]
    attacker = subprocess.Popen(command, cwd=Path(__file__).parents[2])
    try:
        yield
        assert attacker.poll() is None, "the attacker ended by itself"
    finally:
        attacker.kill()
        attacker.wait()


if __name__ == "__main__":
    knock(sys.argv[1], float(sys.argv[2]), sys.argv[3:])
