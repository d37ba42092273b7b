"""Ray's session: one of our own on this computer, or an existing cluster, with this package on each of its nodes."""

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
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeVar

from lrpc.cluster.interruption import undisturbed
from lrpc.cluster.package import fingerprint, make_wheel
from lrpc.kernel.documents import one_line
from lrpc.kernel.errors import Refused

CONNECT_TIMEOUT_S: Final = 3.0
PROBE_TIMEOUT_S: Final = 60.0  # a node starts a process for it
LONGEST_FOLDER: Final = 20  # bytes; macOS has over 40 and lets a socket's path have 103
# Machines talk over gRPC, not through Ray's object store, so that is as small as Ray lets it be.
LOCAL: Final = {"address": "local", "include_dashboard": False, "object_store_memory": 80 * 1024 * 1024}
QUIET: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
SESSION: Final = "LRPC_RAY_SESSION"  # in the environment of a session's processes: its folder
T = TypeVar("T")


@contextmanager
def ray_session(address: str | None, actors: int) -> Iterator[None]:
    """Have Ray running in the block: a local session of its own, or the existing cluster at `address`.

    A local session has token authentication on, with a token that only this process and its children know. One
    that runs already in this process is used and left as it is. Raises `Refused` where Ray is not installed,
    nothing listens at `address`, or the cluster's nodes cannot run this package.
    """
    if address is not None:
        check_reachable(address)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        _check_same(address)
        yield
        return
    if address is None:
        folder = tempfile.mkdtemp(prefix="lrpc-ray-", dir=_short_folder())
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}
        try:
            with _environment(QUIET | token), _session(LOCAL | {"_temp_dir": folder, "num_cpus": actors}):
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


def nodes() -> list[dict[str, Any]]:
    """Return the nodes of the cluster that are alive, in order of their addresses and identifiers."""
    import ray

    return sorted(
        (node for node in ray.nodes() if node["Alive"]),  # type: ignore[no-untyped-call]
        key=lambda node: (node["NodeManagerAddress"], node["NodeID"]),
    )


def on_each_node(work: Callable[[], T], timeout_s: float = PROBE_TIMEOUT_S) -> list[T]:
    """Run a task on each node, and return what they return; Ray's own errors are passed on."""
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
    """Return a task that says which package a node runs, or why none; made here, so that it is sent by value."""

    def probe() -> str:
        try:
            import lrpc.cluster.station  # noqa: F401
            from lrpc.cluster.package import fingerprint as found
        except Exception as error:  # whatever is there is not ours
            return f"{type(error).__name__}: {error}"
        return found()

    return probe


def reason(error: Exception) -> str:
    """Return what an error of Ray's comes down to: the last line of many."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__


def check_reachable(address: str) -> None:
    """Raise `Refused` at once where nothing listens: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise Refused(f"Ray address {address}: write host:port of a running cluster's head node")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Refused(f"Ray address {address}: {reason}; is a cluster running there?") from None


def _all_alike() -> bool:
    """Return whether every node has this very package, so that none need be sent."""
    import ray

    try:
        return set(on_each_node(_probe())) == {fingerprint()}
    except ray.exceptions.RayError as error:
        raise Refused(f"Ray: a node does not answer: {reason(error)}") from None


def _check_package() -> None:
    """Raise `Refused` where a node cannot run what was sent there."""
    import ray

    try:
        found = set(on_each_node(_probe())) - {fingerprint()}
    except ray.exceptions.RayError as error:
        found = {reason(error)}
    if found:
        what = one_line(sorted(found)[0])
        raise Refused(f"Ray: a node cannot run this package: {what}; install lrpc, or what it stands on, there")


def _short_folder() -> str:
    """Return a folder for temporary files in which Ray's sockets, some 80 bytes deeper, have paths that sockets may."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST_FOLDER else "/tmp"


def _end_processes(folder: str) -> None:
    """End what a session that is over left running: Ray forgets its agents where its start is interrupted."""
    mark = f"\0{SESSION}={folder}\0".encode()
    ended = True
    while ended:  # one that is ended last may have started another meanwhile
        ended = False
        for found in Path("/proc").glob("[0-9]*/environ"):  # nothing where there is no such folder
            try:
                if mark in b"\0" + found.read_bytes() + b"\0":
                    os.kill(int(found.parent.name), signal.SIGKILL)
                    ended = True
            except OSError:  # another user's, or over
                continue


def _remove(folder: str) -> None:
    """Remove what a session that is over left; its workers end a moment after it, and write their logs until then."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.05)


@contextmanager
def _session(options: dict[str, Any]) -> Iterator[None]:
    try:
        import ray
    except ImportError:
        raise Refused("Ray is not installed: install it, or run in this process with --actors 0") from None
    ended_by = signal.getsignal(signal.SIGTERM)
    try:
        try:
            with _environment({SESSION: options.get("_temp_dir", "")}):
                ray.init(**options, configure_logging=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise Refused(f"Ray at {options['address']}: {reason(error)}") from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ended_by)  # Ray has put its own there, which ends without a word
        yield
    finally:
        with undisturbed():
            ray.shutdown()


@cache
def _token() -> str:
    """Return the token of this process's sessions: Ray reads it once in the life of a process."""
    return secrets.token_hex(32)


@contextmanager
def _environment(settings: Mapping[str, str]) -> Iterator[None]:
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
    """Raise `Refused` where this process is connected to another cluster than is asked for."""
    import ray

    connected = ray.get_runtime_context().gcs_address
    if address is not None and address != connected:
        raise Refused(f"Ray address {address}: this process is connected to {connected} already; disconnect it first")
