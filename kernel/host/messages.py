"""What two processes say to each other over a door: short messages, with descriptors.

A message is a JSON object in one packet. A process that is at the other end may send anything at
any time. So messages have a limit, what they carry is checked field by field, and descriptors that
nobody asked for are closed. Who sent a message is what the kernel says of it (SCM_CREDENTIALS), not
what it contains.
"""

import array
import contextlib
import errno
import fcntl
import json
import os
import socket
import stat
import struct
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from lrpc.kernel.errors import CallError

VERSION: Final = 1
MOST_BYTES: Final = 64 * 1024
_MOST_DESCRIPTORS: Final = 4  # that a message may have
_RECEIVED_DESCRIPTORS: Final = 253  # that Linux lets one have
_CREDENTIALS: Final = struct.Struct("iII")
# Linux shows a user whom this namespace does not know as this one: it names nobody.
OVERFLOW_USER: Final = 65534
# As plain numbers: each message asks for them.
ANCILLARY: Final = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _RECEIVED_DESCRIPTORS)
CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
T = TypeVar("T")


class BadMessage(CallError):
    """The peer has sent something that lrpc never sends, or nothing at all."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Who sent a message, as the operating system's kernel says."""

    pid: int  # 0 for a process outside of this namespace
    uid: int
    gid: int

    @property
    def is_own_user(self) -> bool:
        """Return whether it is a process of this process's user."""
        return self.uid == os.geteuid() and self.uid != overflow_user()

    def __str__(self) -> str:
        return f"process {self.pid} of user {self.uid}" if self.pid else f"a process of user {self.uid}"


@dataclass(frozen=True, slots=True)
class DoorMessage:
    """A received message. Whoever gets it closes its descriptors."""

    fields: Mapping[str, object]
    descriptors: tuple[int, ...]
    sender: Sender | None

    def get(self, name: str, kind: type[T]) -> T:
        """Return a field. Raises `BadMessage` where it is missing or of another type."""
        value = self.fields.get(name)
        if type(value) is not kind:
            raise BadMessage(f"a message whose {name} is {type(value).__name__}, not {kind.__name__}")
        return value

    def close(self) -> None:
        """Close the descriptors that came along."""
        for one in self.descriptors:
            close(one)


def close(fd: int) -> None:
    """Close a descriptor that a peer has sent, which need not be what it should.

    To close some kinds takes as long as their maker likes, such as a connection that lingers. Only
    memory and UNIX sockets are closed here; all else by a thread of its own.
    """
    try:
        if stat.S_ISSOCK(os.fstat(fd).st_mode):
            with socket.socket(fileno=os.dup(fd)) as found:
                ours = found.family == socket.AF_UNIX
        else:
            ours = fcntl.fcntl(fd, fcntl.F_GET_SEALS) >= 0
    except OSError:
        ours = False
    if ours:
        with contextlib.suppress(OSError):
            os.close(fd)
    else:
        threading.Thread(target=_close_slowly, args=(fd,), name="lrpc closes", daemon=True).start()


def _close_slowly(fd: int) -> None:
    with contextlib.suppress(OSError):
        os.close(fd)


def user_of(door: socket.socket) -> int:
    """Return the user who made a connection, as Linux says."""
    _, user, _ = _CREDENTIALS.unpack(door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    return int(user)


def process_of(sender: Sender) -> int:
    """Return a descriptor of a sender's process (pidfd); -1 where there is none.

    The process may have ended, have no number here, or a filter may forbid to ask: then the end of
    its connection alone tells its end.
    """
    if not sender.pid:
        return -1
    try:
        return os.pidfd_open(sender.pid)
    except OSError as error:
        if error.errno in (errno.ESRCH, errno.ENOSYS, errno.EPERM, errno.EACCES):
            return -1
        raise


def overflow_user() -> int:
    """Return the user number that stands for users whom this namespace does not know."""
    try:
        with open("/proc/sys/kernel/overflowuid") as file:
            return int(file.read())
    except (OSError, ValueError):
        return OVERFLOW_USER


def send(door: socket.socket, fields: Mapping[str, object], descriptors: Sequence[int] = ()) -> None:
    """Send a message with this process's credentials. Raises `OSError` where the peer has gone."""
    data = json.dumps(fields, separators=(",", ":")).encode()
    own = _CREDENTIALS.pack(os.getpid(), os.geteuid(), os.getegid())
    extra: list[tuple[int, int, bytes]] = [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, own)]
    if descriptors:
        extra.append((socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors).tobytes()))
    door.sendmsg([data], extra, socket.MSG_NOSIGNAL)


def receive(door: socket.socket) -> DoorMessage | None:
    """Return the next message; None where the peer has closed the door, `BlockingIOError` as usual.

    Raises `BadMessage` for a packet that is none.
    """
    data, extra, flags, _ = door.recvmsg(MOST_BYTES, ANCILLARY, CLOSE_ON_EXEC)
    return understood(data, extra, flags)


def understood(data: bytes, extra: Sequence[tuple[int, int, bytes]], flags: int) -> DoorMessage | None:
    """Return the message that was received so: see `receive`."""
    descriptors = array.array("i")
    sender = None
    for level, kind, value in extra:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(value[: len(value) // 4 * 4])
        elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
            sender = Sender(*_CREDENTIALS.unpack(value))
    if not data and not extra:
        return None
    message = DoorMessage({}, tuple(descriptors), sender)
    if not data and sender is not None and sender.pid == 0:
        return None  # the end of file, as a socket with SO_PASSCRED tells it
    try:
        if flags & socket.MSG_CTRUNC:
            raise BadMessage("this process could not take the descriptors of a message: it has as many as it may")
        if flags & socket.MSG_TRUNC or len(descriptors) > _MOST_DESCRIPTORS:
            raise BadMessage("a message that is too long, or has too many descriptors")
        if data == b"b":
            return DoorMessage({"bell": True}, message.descriptors, sender)
        fields = json.loads(data)
        if type(fields) is not dict:
            raise BadMessage("a message that is not an object")
    except (ValueError, RecursionError):
        message.close()
        raise BadMessage("a message that is not JSON") from None
    except BadMessage:
        message.close()
        raise
    return DoorMessage(fields, message.descriptors, sender)
