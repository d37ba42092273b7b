"""Those who knock at doors: connections that are not bound yet, bounded by user and in time."""

import contextlib
import select
import socket
from collections import Counter
from collections.abc import Mapping
from typing import Final

from lrpc.kernel.host import messages, native
from lrpc.kernel.host.bindings import HostExport
from lrpc.kernel.host.messages import BadMessage, DoorMessage

HELLO_S: Final = 1.0  # within which a hello arrives
MOST_KNOCKS: Final = 64  # connections of one user that are not bound yet
# An export, the connection to it, and the hello that came over that.
Hello = tuple[HostExport, socket.socket, DoorMessage]


class Knocks:
    """Connections to the doors of a server, from when they are accepted until they are bound."""

    def __init__(self, poll: select.epoll) -> None:
        self._poll = poll
        self.refusals: Counter[str] = Counter()
        # The dispatcher's: connections without a hello, by descriptor, with the time they have.
        self._silent: dict[int, tuple[socket.socket, HostExport, int]] = {}
        self._unbound: Counter[int] = Counter()  # connections by user, until they are bound or refused

    def __bool__(self) -> bool:
        """Return whether a hello is awaited."""
        return bool(self._silent)

    def __contains__(self, fd: int) -> bool:
        """Return whether a hello is awaited over this descriptor."""
        return fd in self._silent

    def admit(self, door: socket.socket, export: HostExport) -> None:
        """Wait for the hello of a connection, unless its user has too many."""
        user = messages.user_of(door)
        if self._unbound[user] >= MOST_KNOCKS:
            self.refusals["too many connections that are not bound"] += 1
            door.close()
            return
        self._unbound[user] += 1
        door.setblocking(False)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self._silent[door.fileno()] = door, export, native.now_ns() + int(HELLO_S * 1e9)
        self._poll.register(door, select.EPOLLIN)

    def hello(self, fd: int) -> Hello | None:
        """Receive what has come over a connection; where it is no hello, refuse it."""
        door, export, _ = self._silent.pop(fd)
        self._poll.unregister(fd)
        try:
            message = messages.receive(door)
        except (BadMessage, OSError) as error:
            self.refuse(door, "no hello", f"not a hello: {error}")
            return None
        if message is None:
            self.refuse(door, "no hello", "")
            return None
        return export, door, message

    def send_away_the_silent(self) -> None:
        """Refuse those whose time for a hello is over."""
        now = native.now_ns()
        for fd, (door, _, until) in list(self._silent.items()):
            if now > until:
                del self._silent[fd]
                self._poll.unregister(fd)
                self.refuse(door, "no hello in time", "no hello came in time")

    def refuse(self, door: socket.socket, why: str, reason: str) -> None:
        """Send somebody away. `why` is one of a few words, to be counted."""
        self.refusals[why] += 1
        self.settle(door)
        if reason:
            answer(door, {"refused": reason})
        door.close()

    def settle(self, door: socket.socket) -> None:
        """Count a connection no more: it is bound, or about to be closed."""
        self._unbound[messages.user_of(door)] -= 1

    def close(self) -> None:
        """Close all that wait."""
        for door, _, _ in self._silent.values():
            door.close()


def answer(door: socket.socket, fields: Mapping[str, object]) -> None:
    """Send a message, unless its receiver has gone."""
    with contextlib.suppress(OSError):
        messages.send(door, fields)
