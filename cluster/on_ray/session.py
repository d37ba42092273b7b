"""Ray sessions: a private one on this computer, or an existing cluster that gets this package.

A run on this computer starts a Ray session of its own and does not join one that happens to be
there. The session requires a token that only this process and its children know, so that other
users of the computer cannot run code in it. Ray reads the token once in the life of a process, so
all sessions of a process have the same one.

A private session leaves nothing behind. Where its start is interrupted, Ray itself forgets some of
the processes that it had started. So all of them carry the session's folder in their environment,
by which they are found and ended. The folder is removed last. It names the process that made it: if
that was killed, the next session clears what it left. Only its owner may enter the folder; what Ray
makes within is open to all, and would otherwise let another user put a socket in the place of one
of Ray's.

On an existing cluster every node says first which version of this package it has. If all have this
one, it is used. Otherwise a wheel of it (`package`) is sent to all nodes, and each says again which
version it runs before any work begins: nodes with different versions could compute different
results. Ray accepts such a wheel only as a session begins, so there are two sessions.
"""

import logging
import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc

from lrpc.cluster.interruption import undisturbed
from lrpc.cluster.on_ray.package import fingerprint, make_wheel
from lrpc.kernel.errors import Refused, RunFailed
from lrpc.kernel.text import one_line

CONNECT_TIMEOUT_S: Final = 3.0
ASKED_OF_RAY: Final = "/ray.rpc.NodeInfoGcsService/GetClusterId"  # that a head node answers to everybody
PROBE_TIMEOUT_S: Final = 60.0  # a node starts a process for a probe
# Bytes of the path of the folder for temporary files. On macOS that has over 40 bytes, and the path
# of a socket may have 103.
LONGEST_FOLDER: Final = 18
# Messages travel over gRPC and not through Ray's object store, so that is as small as Ray allows.
LOCAL: Final = {"address": "local", "include_dashboard": False, "object_store_memory": 80 * 1024 * 1024}
QUIET: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
# The environment variable that all processes of a private session carry, with its folder.
SESSION: Final = "LRPC_RAY_SESSION"
PREFIX: Final = "lrpc-ray-"  # of the names of private sessions' folders
OWNER: Final = "owner"  # the file in such a folder that names the process that made it
T = TypeVar("T")
_imported_here = False  # Ray, with a token


@contextmanager
def ray_session(address: str | None, actors: int) -> Iterator[None]:
    """Run the block with Ray: a private session, or the existing cluster at `address`, host:port.

    A private session has one processor for each of `actors` and ends with the block. A session that
    this process has already is used instead, and left as it is. Raises `Refused` if Ray is not
    installed or was imported without tokens, nothing listens at `address`, this process is
    connected to another cluster, or a node cannot run this package.
    """
    if address is not None:
        check_reachable(address)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        _check_same(address)
        yield
        return
    if address is None:
        _check_imported_with_token()
        clear_leftovers()
        folder = tempfile.mkdtemp(prefix=PREFIX, dir=_short_folder())
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}
        try:
            Path(folder, OWNER).write_text(_named(os.getpid()))
            inner = os.path.join(folder, "r")  # short, as it is a part of sockets' paths
            with _environment(QUIET | token), _session(LOCAL | {"_temp_dir": inner, "num_cpus": actors}, folder):
                yield
        finally:
            with undisturbed():
                _end_processes(folder)
                _remove(folder)
        return
    with _environment(QUIET):
        with _session({"address": address}):
            alike = _all_alike()
        if alike:
            with _session({"address": address}):
                yield
            return
        with tempfile.TemporaryDirectory(prefix="lrpc-wheel-") as folder:
            wheel = make_wheel(Path(folder))
            with _session({"address": address, "runtime_env": {"py_modules": [str(wheel)]}}):
                _check_package()
                yield


def clear_leftovers() -> None:
    """End the processes, and remove the folders, of private sessions whose process was killed."""
    for folder in Path(_short_folder()).glob(f"{PREFIX}*"):
        try:
            if folder.is_symlink() or folder.stat().st_uid != os.getuid():
                continue
            owner = (folder / OWNER).read_text()
        except OSError:  # of another user, or just made or removed
            continue
        pid = owner.split()[0] if owner else ""
        if pid.isdigit() and _named(int(pid)) != owner:
            _end_processes(str(folder))
            _remove(str(folder))


def _named(pid: int) -> str:
    """Return what tells a process from all others of this computer: its number and its start.

    Without /proc, or if there is no such process, its number alone.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return f"{pid}"
    return f"{pid} {fields[19]}"  # the start, in clock ticks since the computer's


def nodes() -> list[dict[str, Any]]:
    """Return Ray's descriptions of the live nodes, in order of their addresses and identifiers."""
    import ray

    return sorted(
        (node for node in ray.nodes() if node["Alive"]),  # type: ignore[no-untyped-call]
        key=lambda node: (node["NodeManagerAddress"], node["NodeID"]),
    )


def on_each_node(work: Callable[[], T], timeout_s: float = PROBE_TIMEOUT_S) -> list[T]:
    """Run `work` on each node at once, and return the results. Passes Ray's own errors on."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    task = ray.remote(work)
    asked = [
        task.options(
            num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in nodes()
    ]
    return ray.get(asked, timeout=timeout_s)


def _probe() -> Callable[[], str]:
    """Return a task that returns the fingerprint of a node's package, or why it has none."""

    # A function inside a function is pickled by value, so nodes without this package can run it.
    def probe() -> str:
        try:
            import lrpc.cluster.station  # noqa: F401
            from lrpc.cluster.on_ray.package import fingerprint as found
        except Exception as error:  # anything that importing another version may raise
            return f"{type(error).__name__}: {error}"
        return found()

    return probe


def reason(error: Exception) -> str:
    """Return the last line of an error of Ray's, cut off after 300 characters."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def check_reachable(address: str) -> None:
    """Raise `Refused` if `address` is not host:port, or nothing listens there.

    Takes at most twice `CONNECT_TIMEOUT_S`; Ray itself would try for minutes.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise Refused(f"Ray address {address}: write host:port of a running cluster's head node")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = f"there is no host {host}"
        if not isinstance(error, socket.gaierror):  # whose numbers are its own
            reason = os.strerror(error.errno) if error.errno else str(error)
        raise Refused(f"Ray address {address}: {reason}; is a cluster running there?") from None
    if os.environ.get("RAY_USE_TLS", "0") in ("", "0"):
        with grpc.insecure_channel(address) as channel:
            said = "what listens there does not speak gRPC, as Ray does"
            try:
                grpc.channel_ready_future(channel).result(timeout=CONNECT_TIMEOUT_S)
                asked: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(ASKED_OF_RAY)
                asked(b"", timeout=CONNECT_TIMEOUT_S)
                return
            except grpc.FutureTimeoutError:
                pass
            except grpc.RpcError as error:
                if not isinstance(error, grpc.Call) or error.code() is not grpc.StatusCode.UNIMPLEMENTED:
                    return  # it asks for a token, say, or is busy
                said = "what listens there is not Ray's head node"
            raise Refused(f"Ray address {address}: {said}; is a cluster running there?")


def _all_alike() -> bool:
    """Return whether every node has the same version of this package as this process."""
    import ray

    try:
        return set(on_each_node(_probe())) == {fingerprint()}
    except ray.exceptions.RayError as error:
        raise Refused(f"Ray: a node does not answer: {reason(error)}") from None


def _check_package() -> None:
    """Raise `Refused` if a node cannot run the wheel that was sent to it."""
    import ray

    try:
        found = set(on_each_node(_probe())) - {fingerprint()}
    except ray.exceptions.RayError as error:
        found = {reason(error)}
    if found:
        what = one_line(sorted(found)[0])
        raise Refused(f"Ray: a node cannot run this package: {what}; install lrpc, or its dependencies, there")


def _short_folder() -> str:
    """Return a folder for temporary files whose path is short enough for Ray's sockets.

    Their paths are some 80 bytes longer, and systems limit the length of a socket's path.
    """
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST_FOLDER else "/tmp"


def _end_processes(folder: str) -> None:
    """End the processes that a private session left.

    Those are the ones with its folder in their environment, or with a file open in it. Ray forgets
    some of its agents where its start is interrupted, and an agent that gives itself a title writes
    over its environment. Without /proc nothing is ended.
    """
    mark = f"\0{SESSION}={folder}\0".encode()
    ended = True
    while ended:  # again, since one of them may have started another before it was ended
        ended = False
        for process in Path("/proc").glob("[0-9]*"):
            try:
                its = mark in b"\0" + (process / "environ").read_bytes() + b"\0" or _holds(process, folder)
                if its and int(process.name) != os.getpid():
                    os.kill(int(process.name), signal.SIGKILL)
                    ended = True
            except OSError:  # another user's process, or one that has ended
                continue


def _holds(process: Path, folder: str) -> bool:
    """Return whether a process of this user has a file open in a folder."""
    for one in (process / "fd").iterdir():
        with suppress(OSError):  # it is closed meanwhile
            if os.readlink(one).startswith(f"{folder}/"):
                return True
    return False


def _remove(folder: str) -> None:
    """Remove the folder of a private session that has ended."""
    # Again, since workers end a moment after their session and write logs until then.
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.05)


@contextmanager
def _session(options: dict[str, Any], mark: str = "") -> Iterator[None]:
    """Run the block in a Ray session with these options of `ray.init`.

    Processes of the session carry `mark` in their environment. Raises `RunFailed` if Ray does not
    start here, and `Refused` if it cannot be reached elsewhere.
    """
    try:
        import ray
    except ImportError:
        raise Refused("Ray is not installed: install it, or run in this process with --actors 0") from None
    try:
        try:
            with _environment({SESSION: mark}), _own_handlers():
                ray.init(**options, configure_logging=False, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # Ray raises bare ones too, where its start takes too long
            if options["address"] == LOCAL["address"]:
                way = "run again, or in this process with --actors 0"
                raise RunFailed(f"Ray does not start: {reason(error)}; {way}") from None
            raise Refused(f"Ray at {options['address']}: {reason(error)}") from None
        yield
    finally:
        with undisturbed():
            ray.shutdown()


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Keep this process's handler of SIGTERM while Ray starts.

    Ray installs one of its own, which drains the node, and ends the process without a message. Its
    native part has another, which prints a trace of the stack: that one is replaced afterwards.
    """
    install, handler_before = signal.signal, signal.getsignal(signal.SIGTERM)

    def kept(number: Any, handler: Any) -> Any:
        return signal.getsignal(number) if number == signal.SIGTERM else install(number, handler)

    setattr(signal, "signal", kept)  # noqa: B010, mypy takes an assignment for another signature
    try:
        yield
    finally:
        setattr(signal, "signal", install)  # noqa: B010
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler_before)


def _check_imported_with_token() -> None:
    """Raise `Refused` where Ray was imported before it could be told that its session has a token.

    Ray reads that once, as it is imported.
    """
    global _imported_here
    if "ray" not in sys.modules:
        _imported_here = True  # by `_session`, which says so
    elif not _imported_here and os.environ.get("RAY_AUTH_MODE") != "token":
        raise Refused(
            "Ray was imported before this run, which gives its session a token: import ray later, set "
            "RAY_AUTH_MODE=token before Python starts, or run in this process with --actors 0"
        )


@cache
def _token() -> str:
    """Return the token of all private sessions of this process: 32 random bytes as text."""
    return secrets.token_hex(32)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Run the block with these environment variables, and restore the old ones afterwards."""
    before = {key: os.environ.get(key) for key in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _check_same(address: str | None) -> None:
    """Raise `Refused` if this process is connected to another cluster than the one at `address`."""
    import ray

    connected = ray.get_runtime_context().gcs_address
    if address is not None and address != connected:
        raise Refused(f"Ray address {address}: this process is connected to {connected} already; disconnect it first")
