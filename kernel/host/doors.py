"""Doors: the UNIX sockets by which a computer's processes find each other's exports.

A door is a socket named like its export, in a folder that only its owner can enter. Both are
checked through descriptors, so that no link is followed. A lock beside the socket says who is
alive: its holder owns the door, and whoever gets the lock may clear away what a crash has left. A
socket is bound under a temporary name and then renamed, so that a door that can be seen answers.
"""

import contextlib
import errno
import fcntl
import os
import re
import secrets
import socket
import stat
import struct
import tempfile
from pathlib import Path
from typing import Final

from lrpc.kernel.errors import BindingRefused

FOLDER_VARIABLE: Final = "LRPC_DOORS"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LOCK: Final = ".lock"


def check_name(name: str) -> None:
    """Raise `BindingRefused` where an export cannot have this name on the host kernel."""
    if not _NAME.fullmatch(name) or name.endswith(_LOCK):
        raise BindingRefused(
            f"export {name[:80]!r}: a door's name has 1 to 64 letters, digits, '.', '_' or '-', "
            f"begins with a letter, a digit or '_', and does not end in {_LOCK}"
        )


def default_folder() -> Path:
    """Return the folder of this user's doors, which need not exist yet.

    $LRPC_DOORS names it; else it is `lrpc` in $XDG_RUNTIME_DIR, or `lrpc-UID` in the temporary
    folder.
    """
    named = os.environ.get(FOLDER_VARIABLE)
    if named:
        return Path(named)
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime and os.path.isabs(runtime) and os.path.isdir(runtime):
        return Path(runtime, "lrpc")
    return Path(tempfile.gettempdir(), f"lrpc-{os.geteuid()}")


class Doors:
    """A folder of doors, held open; its owner is this process's user and no other may enter it.

    Raises `BindingRefused` where the folder cannot be made, is a link, or is open to others.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.folder, 0o700)
            self._fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise BindingRefused(
                f"doors {self.folder}: {error.strerror}; set {FOLDER_VARIABLE} to a folder of yours"
            ) from None
        found = os.fstat(self._fd)
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid != os.geteuid() or mode & 0o077:
            os.close(self._fd)
            raise BindingRefused(
                f"doors {self.folder}: it belongs to user {found.st_uid} with mode {mode:04o}, and must be yours "
                f"with mode 0700; remove it, or set {FOLDER_VARIABLE}"
            )

    def close(self) -> None:
        """Close the folder."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def path(self, name: str) -> str:
        """Return a path of a file in the folder, by the folder's descriptor.

        It is short enough for a socket's address wherever the folder lies.
        """
        return f"/proc/self/fd/{self._fd}/{name}"

    def names(self) -> list[str]:
        """Return the names of all doors in the folder, whether somebody answers or not."""
        return sorted(name for name in os.listdir(self._fd) if _NAME.fullmatch(name) and self._is_socket(name))

    def _is_socket(self, name: str) -> bool:
        try:
            return stat.S_ISSOCK(os.stat(name, dir_fd=self._fd, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def connect(self, name: str, timeout: float) -> socket.socket:
        """Return a connection to the door of an export.

        Raises `BindingRefused` where there is none, or nobody answers.
        """
        check_name(name)
        if not self._is_socket(name):
            raise BindingRefused(f"import {name}: nobody exports it on this computer: no door {self.folder / name}")
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            # Blocking: Linux refuses others at once where many wait to be accepted.
            door.setsockopt(
                socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout), int(timeout % 1 * 1e6))
            )
            door.connect(self.path(name))
            door.settimeout(timeout)
        except OSError as error:
            door.close()
            if error.errno == errno.ECONNREFUSED:
                raise BindingRefused(
                    f"import {name}: its server has ended and left the door {self.folder / name}; start it again"
                ) from None
            raise BindingRefused(f"import {name}: the door does not answer: {error}") from None
        return door

    def open(self, name: str) -> "Door":
        """Open a door to export under a name. Raises `BindingRefused` where the name is taken."""
        return Door(self, name)


class Door:
    """An open door: a listening socket, and the lock that says that it is alive."""

    def __init__(self, doors: Doors, name: str) -> None:
        check_name(name)
        self.doors, self.name = doors, name
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            self._lock = os.open(doors.path(name + _LOCK), flags, 0o600)
        except OSError as error:
            raise BindingRefused(f"export {name}: its lock {name}{_LOCK} cannot be opened: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            raise BindingRefused(
                f"export {name}: another process exports it; end that, or choose another name"
            ) from None
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        temporary = f".{secrets.token_hex(8)}"
        try:
            self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.listening.bind(doors.path(temporary))
            os.chmod(doors.path(temporary), 0o600)
            self.listening.listen(64)
            os.rename(doors.path(temporary), doors.path(name))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(doors.path(temporary))
            self.listening.close()
            os.close(self._lock)
            raise BindingRefused(f"export {name}: its door cannot be made: {error}") from None

    def hide(self) -> None:
        """Take the door's name away: who looks for it from now on finds none."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.doors.path(self.name))

    def close(self) -> None:
        """Take the door away; a client that connects from now on is refused."""
        if self._lock < 0:
            return
        self.hide()
        self.listening.close()
        # The lock's file stays: removing it would let two processes hold locks of two files.
        os.close(self._lock)
        self._lock = -1

    def forget(self) -> None:
        """Close this process's copies in a forked child; the door stays its parent's."""
        self.listening.close()
        if self._lock >= 0:
            os.close(self._lock)  # a lock of flock belongs to all copies: the parent keeps it
            self._lock = -1
