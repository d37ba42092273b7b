"""Doors: the UNIX sockets by which a computer's processes find each other's exports.

A door is a socket named like its export, in a folder that only its owner can enter. Both are
checked through descriptors, so that no link is followed. A lock beside the socket says who is
alive: its holder owns the door, and whoever gets the lock may clear away what a crash has left. A
socket is bound under a temporary name and then renamed, so that a door that can be seen answers.

Containers of one pod share no folder, but a network namespace, and in it the abstract names of
sockets. Those have no permissions: anybody there may take one, or connect to it. So they are used
only where it is asked for, with a list of the users that either side accepts. Process ids mean
nothing there, and users mean the same only within one user namespace.
"""

import contextlib
import errno
import fcntl
import os
import re
import socket
import stat
import struct
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

from lrpc.kernel.errors import BindingRefused
from lrpc.kernel.host import messages
from lrpc.kernel.host.messages import Sender

FOLDER_VARIABLE: Final = "LRPC_DOORS"
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
_LOCK: Final = ".lock"
_TRIES: Final = 100
ABSTRACT: Final = "abstract:"  # and users' numbers, in the place of a folder
_LISTENS: Final = "00010000"  # the flags of a listening socket in /proc/net/unix
_PREFIX: Final = "lrpc/"  # of abstract names
NOBODY: Final = "stands for all whom this user namespace does not know, and so for nobody"


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


class Doors(Protocol):
    """Where the doors of some exports are, and whose processes may meet there."""

    where: str  # how messages call it
    users: frozenset[int] | None  # who may be at the other end; None: this process's own user

    def card(self) -> dict[str, object]:
        """Return what both sides say of themselves beside their names."""

    def known(self, sender: Sender | None) -> Sender | None:
        """Return what counts of what the system says of a sender."""

    def refusal(self, sender: Sender, fields: Mapping[str, object]) -> str | None:
        """Return why a sender is not to be talked to, by its user and its card; None: it may be."""

    def names(self) -> list[str]:
        """Return the names of all doors there, whether somebody answers or not."""

    def connect(self, name: str, timeout: float) -> socket.socket:
        """Return a connection to the door of an export.

        Raises `BindingRefused` where there is none, or nobody answers.
        """

    def open(self, name: str) -> "Door":
        """Open a door to export under a name. Raises `BindingRefused` where the name is taken."""

    def close(self) -> None:
        """Look for no more doors, and open none."""

    def forget(self) -> None:
        """Close a forked child's copies; the parent goes on."""


class Door(Protocol):
    """An open door."""

    listening: socket.socket

    def hide(self) -> None:
        """Take the door's name away where that can be done: who looks for it finds none."""

    def close(self) -> None:
        """Take the door away; a client that connects from now on is refused."""

    def forget(self) -> None:
        """Close this process's copies in a forked child; the door stays its parent's."""


def doors_at(where: Path | str | None = None) -> Doors:
    """Return the doors in a folder, or with `abstract:` and users' numbers those of this pod.

    Where nothing is said, they are in this user's folder: see `default_folder`. Raises
    `BindingRefused` where that is not this user's alone, or a list of users is none.
    """
    named = str(where or os.environ.get(FOLDER_VARIABLE) or default_folder())
    if named.startswith(ABSTRACT):
        return AbstractDoors(named.removeprefix(ABSTRACT))
    return FolderDoors(Path(named))


def listed_users(where: str | None = None) -> frozenset[int] | None:
    """Return who may be at the other end of abstract doors; None for doors in a folder."""
    named = where or os.environ.get(FOLDER_VARIABLE) or ""
    if not named.startswith(ABSTRACT):
        return None
    with contextlib.suppress(BindingRefused):
        return AbstractDoors(named.removeprefix(ABSTRACT)).users
    return frozenset()  # a list that is none: nobody


class FolderDoors:
    """A folder of doors, held open; its owner is this process's user and no other may enter it.

    Raises `BindingRefused` where the folder cannot be made, is a link, or is open to others.
    """

    users: frozenset[int] | None = None

    def __init__(self, folder: Path) -> None:
        self.where = str(folder)
        self._made = folder == default_folder() and not os.environ.get(FOLDER_VARIABLE)  # by lrpc, which removes it
        self._fd = self._opened(folder)

    def _opened(self, folder: Path) -> int:
        try:
            fd = self._made_or_there(folder)
        except OSError as error:
            raise BindingRefused(
                f"doors {folder}: {error.strerror}; set {FOLDER_VARIABLE} to a folder of yours"
            ) from None
        found = os.fstat(fd)
        mode = stat.S_IMODE(found.st_mode)
        if found.st_uid != os.geteuid() or mode & 0o077:
            os.close(fd)
            raise BindingRefused(
                f"doors {folder}: it belongs to user {found.st_uid} with mode {mode:04o}, and must be yours "
                f"with mode 0700; remove it, or set {FOLDER_VARIABLE}"
            )
        return fd

    def _made_or_there(self, folder: Path) -> int:
        while True:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
                self._made = True
            with contextlib.suppress(FileNotFoundError):  # another process has removed it meanwhile
                return os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)

    def close(self) -> None:
        """Close the folder; remove it where lrpc has made it, and nothing is left in it."""
        if self._fd >= 0 and self._made:
            with contextlib.suppress(OSError):
                os.rmdir(self.where)
        self.forget()

    def forget(self) -> None:
        """Close a forked child's copies."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def look_again(self) -> None:
        """Open the folder again where it was removed and made anew, as its last server does."""
        try:
            stale = not os.path.samestat(os.stat(self.where, follow_symlinks=False), os.fstat(self._fd))
        except FileNotFoundError:
            stale = True
        if stale:
            found = self._opened(Path(self.where))
            os.dup2(found, self._fd, inheritable=False)  # which another thread may be using
            os.close(found)

    def card(self) -> dict[str, object]:
        """Return nothing: that the other side could enter the folder says enough."""
        return {}

    def known(self, sender: Sender | None) -> Sender | None:
        """Return all that the system says."""
        return sender

    def refusal(self, sender: Sender, fields: Mapping[str, object]) -> str | None:
        """Return why not, where a sender is not of this process's user."""
        if sender.is_own_user:
            return None
        if sender.uid == messages.overflow_user():
            return f"user {sender.uid} {NOBODY}"
        return f"only processes of user {os.geteuid()} may, not of {sender.uid}"

    def path(self, name: str) -> str:
        """Return a path of a file in the folder, by the folder's descriptor.

        It is short enough for a socket's address wherever the folder lies.
        """
        return f"/proc/self/fd/{self._fd}/{name}"

    def names(self) -> list[str]:
        """Return the names of all doors in the folder, whether somebody answers or not."""
        self.look_again()
        return sorted(name for name in os.listdir(self._fd) if _NAME.fullmatch(name) and self._is_socket(name))

    def _there(self, name: str) -> str:
        return os.path.join(self.where, name)

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
        self.look_again()
        if not self._is_socket(name):
            raise BindingRefused(f"import {name}: nobody exports it on this computer: no door {self._there(name)}")
        nobody = f"import {name}: its server has ended and left the door {self._there(name)}; start it again"
        return _connected(name, self.path(name), timeout, nobody)

    def open(self, name: str) -> "FolderDoor":
        """Open a door to export under a name. Raises `BindingRefused` where the name is taken."""
        return FolderDoor(self, name)


class FolderDoor:
    """An open door: a listening socket, and the lock that says that it is alive."""

    def __init__(self, doors: FolderDoors, name: str) -> None:
        check_name(name)
        self.doors, self.name = doors, name
        self._lock = self._locked()
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        temporary = f".{name}"
        try:
            with contextlib.suppress(FileNotFoundError):  # left by a crash
                os.unlink(doors.path(temporary))
            self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.listening.bind(doors.path(temporary))
            os.chmod(doors.path(temporary), 0o600)
            self.listening.listen(64)
            os.rename(doors.path(temporary), doors.path(name))
        except OSError as error:
            with contextlib.suppress(OSError):
                os.unlink(doors.path(temporary))
            self.listening.close()
            with contextlib.suppress(OSError):
                os.unlink(doors.path(name + _LOCK))
            os.close(self._lock)
            raise BindingRefused(f"export {name}: its door cannot be made: {error}") from None

    def _locked(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        path = self.doors.path(self.name + _LOCK)
        for _ in range(_TRIES):
            self.doors.look_again()
            path = self.doors.path(self.name + _LOCK)
            try:
                held = os.open(path, flags, 0o600)
            except FileNotFoundError:  # the folder was removed meanwhile
                continue
            except OSError as error:
                raise BindingRefused(
                    f"export {self.name}: its lock {self.name}{_LOCK} cannot be opened: {error.strerror}"
                ) from None
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(held)
                raise BindingRefused(
                    f"export {self.name}: another process exports it; end that, or choose another name"
                ) from None
            # Its last holder may have removed the file since it was opened: then it is no lock.
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.stat(path, follow_symlinks=False), os.fstat(held)):
                    return held
            os.close(held)
        raise BindingRefused(f"export {self.name}: its lock {path} comes and goes; try again")

    def hide(self) -> None:
        """Take the door's name away, and give up its lock: another process may have the name."""
        if self._lock < 0:
            return
        for path in (self.name, self.name + _LOCK):  # while the lock is held: see `_locked`
            with contextlib.suppress(OSError):
                os.unlink(self.doors.path(path))
        os.close(self._lock)
        self._lock = -1

    def close(self) -> None:
        """Take the door away; a client that connects from now on is refused."""
        self.hide()
        self.listening.close()

    def forget(self) -> None:
        """Close this process's copies in a forked child; the door stays its parent's."""
        self.listening.close()
        if self._lock >= 0:
            os.close(self._lock)  # a lock of flock belongs to all copies: the parent keeps it
            self._lock = -1


class AbstractDoors:
    """Doors without a folder, for the containers of one pod; the users at the other end are listed.

    Raises `BindingRefused` for a list that is none, or where this user namespace cannot be told.
    """

    def __init__(self, users: str) -> None:
        self.where = ABSTRACT + users[:200]
        fix = f"write {ABSTRACT} and the numbers of the users at the other end, such as {ABSTRACT}1000,1001"
        if not re.fullmatch(r"[0-9]{1,10}(,[0-9]{1,10})*", users):
            raise BindingRefused(f"doors {self.where}: not a list of users; {fix}")
        numbers = frozenset(map(int, users.split(",")))
        self.users: frozenset[int] | None = numbers
        if messages.overflow_user() in numbers:
            raise BindingRefused(f"doors {self.where}: user {messages.overflow_user()} {NOBODY}; {fix}")
        try:
            self._namespace = os.stat("/proc/self/ns/user").st_ino
        except OSError as error:
            raise BindingRefused(f"doors {self.where}: /proc does not tell the user namespace: {error}") from None

    def card(self) -> dict[str, object]:
        """Return the user namespace, in which users' numbers mean what they mean here."""
        return {"users": self._namespace}

    def known(self, sender: Sender | None) -> Sender | None:
        """Return a sender without its process, whose number means nothing in another container."""
        return None if sender is None else Sender(0, sender.uid, sender.gid)

    def refusal(self, sender: Sender, fields: Mapping[str, object]) -> str | None:
        """Return why not, where a sender's user is not listed, or of another user namespace.

        Who it is, Linux says. Its namespace it says itself: honest sides refuse each other where a
        number could mean two users, and who lies is still of a user that is listed.
        """
        if sender.uid == messages.overflow_user():
            return f"user {sender.uid} {NOBODY}"
        if self.users is None or sender.uid not in self.users:
            return f"user {sender.uid} is not listed in {self.where}"
        if fields.get("users") != self._namespace:
            return "it is in another user namespace, where users' numbers mean others"
        return None

    def names(self) -> list[str]:
        """Return the names of all abstract doors of this network namespace, whoever has them."""
        with open("/proc/net/unix", errors="replace") as file:
            rows = [line.split() for line in file]
        paths = {row[-1] for row in rows if len(row) == 8 and row[3] == _LISTENS}
        found = {path.removeprefix(f"@{_PREFIX}") for path in paths if path.startswith(f"@{_PREFIX}")}
        return sorted(name for name in found if _NAME.fullmatch(name))

    def connect(self, name: str, timeout: float) -> socket.socket:
        """Return a connection to the door of an export.

        Raises `BindingRefused` where there is none, or nobody answers.
        """
        check_name(name)
        nobody = f"import {name}: nobody exports it by an abstract door of this network namespace"
        return _connected(name, f"\0{_PREFIX}{name}", timeout, nobody)

    def open(self, name: str) -> "AbstractDoor":
        """Open a door to export under a name. Raises `BindingRefused` where the name is taken."""
        return AbstractDoor(name)

    def close(self) -> None:
        """Do nothing: there is no folder to close."""

    forget = close


class AbstractDoor:
    """An open door with an abstract name, which Linux gives to one socket at a time."""

    def __init__(self, name: str) -> None:
        check_name(name)
        self.listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        try:
            self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            self.listening.bind(f"\0{_PREFIX}{name}")
            self.listening.listen(64)
        except OSError as error:
            self.listening.close()
            if error.errno == errno.EADDRINUSE:
                raise BindingRefused(
                    f"export {name}: another process of this network namespace exports it; end that, "
                    "or choose another name"
                ) from None
            raise BindingRefused(f"export {name}: its door cannot be made: {error}") from None

    def hide(self) -> None:
        """Do nothing: the name is there as long as somebody listens."""

    def close(self) -> None:
        """Take the door away; a client that connects from now on is refused."""
        self.listening.close()

    forget = close


def _connected(name: str, address: str, timeout: float, nobody: str) -> socket.socket:
    """Return a connection; raise `BindingRefused` with `nobody` where nobody listens."""
    try:
        door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise BindingRefused(f"import {name}: this process has no socket for it: {error.strerror}") from None
    try:
        # Blocking: Linux refuses others at once where many wait to be accepted.
        door.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", int(timeout), int(timeout % 1 * 1e6)))
        door.connect(address)
        door.settimeout(timeout)
    except OSError as error:
        door.close()
        if error.errno == errno.ECONNREFUSED:
            raise BindingRefused(nobody) from None
        raise BindingRefused(f"import {name}: the door does not answer: {error}") from None
    return door
