"""Ray, in one place: a session of our own or an existing cluster, and stations wrapped as actors."""

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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

from lrpc.cluster.description import Cluster
from lrpc.cluster.group import Report
from lrpc.cluster.link import Peer
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.station import Links, Station
from lrpc.kernel.documents import one_line
from lrpc.kernel.errors import Refused, RunFailed

CONNECT_TIMEOUT_S: Final = 3.0
START_TIMEOUT_S: Final = 120.0
LONGEST_FOLDER: Final = 20  # bytes; macOS has over 40 and lets a socket's path have 103
# Machines talk over gRPC, not through Ray's object store, so that is as small as Ray lets it be.
LOCAL: Final = {"address": "local", "include_dashboard": False, "object_store_memory": 80 * 1024 * 1024}
QUIET: Final = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@contextmanager
def ray_session(address: str | None, actors: int) -> Iterator[None]:
    """Have Ray running in the block: a local session of its own, or the existing cluster at `address`.

    A local session has token authentication on, with a token that only this process and its children know. One
    that runs already in this process is used and left as it is. Raises `Refused` where Ray is not installed or
    nothing listens at `address`.
    """
    if address is not None:
        _check_reachable(address)
    if "ray" in sys.modules and sys.modules["ray"].is_initialized():
        _check_same(address)
        yield
        return
    if address is None:
        folder = tempfile.mkdtemp(prefix="lrpc-ray-", dir=_short_folder())
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": _token()}
        try:
            with _environment(QUIET | token):
                yield from _session(LOCAL | {"_temp_dir": folder, "num_cpus": actors})
        finally:
            _remove(folder)
        return
    with _environment(QUIET):
        yield from _session({"address": address})


def _short_folder() -> str:
    """Return a folder for temporary files in which Ray's sockets, some 80 bytes deeper, have paths that sockets may."""
    usual = tempfile.gettempdir()
    return usual if len(os.fsencode(usual)) <= LONGEST_FOLDER else "/tmp"


def _remove(folder: str) -> None:
    """Remove what a session that is over left; its workers end a moment after it, and write their logs until then."""
    for _ in range(20):
        shutil.rmtree(folder, ignore_errors=True)
        if not os.path.exists(folder):
            return
        time.sleep(0.05)


def _session(options: dict[str, Any]) -> Iterator[None]:
    try:
        import ray
    except ImportError:
        raise Refused("Ray is not installed: install it, or run in this process with --actors 0") from None
    ended_by = signal.getsignal(signal.SIGTERM)
    try:
        try:
            ray.init(**options, configure_logging=False, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            raise Refused(f"Ray at {options['address']}: {one_line(str(error))[:300]}") from None
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, ended_by)  # Ray has put its own there, which ends without a word
        yield
    finally:
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


def _check_reachable(address: str) -> None:
    """Raise `Refused` at once where nothing listens: Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536 or "/" in host:
        raise Refused(f"Ray address {address}: write host:port of a running cluster's head node")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        raise Refused(f"Ray address {address}: {reason}; is a cluster running there?") from None


def _check_same(address: str | None) -> None:
    """Raise `Refused` where this process is connected to another cluster than is asked for."""
    import ray

    connected = ray.get_runtime_context().gcs_address
    if address is not None and address != connected:
        raise Refused(f"Ray address {address}: this process is connected to {connected} already; disconnect it first")


class Actors:
    """Stations on Ray actors of this node: Ray starts and stops them, gRPC does the rest."""

    def __init__(
        self,
        cluster: Cluster,
        placement: list[int],
        count: int,
        *,
        seed: int,
        secret: str,
        links: Links,
        events: Path | None,
    ) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        actor = ray.remote(Station).options(num_cpus=0, max_restarts=0, scheduling_strategy=here)
        shared = ray.put(cluster)
        self._handles: list[Any] = [
            actor.remote(shared, placement, number, seed=seed, secret=secret, links=links, events=events)
            for number in range(count)
        ]
        self.peers: list[Peer] = []
        try:
            addresses = self._ask("get_address")
            self.first: list[Report] = self._ask("connect", addresses)
        except BaseException:
            self.stop()
            raise
        self.peers = [Peer(address, secret) for address in addresses]

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did."""
        return [outcome for outcomes in self._ask("finish") for outcome in outcomes]

    def stop(self) -> None:
        """Let go of the links and end the actors."""
        import ray

        for peer in self.peers:
            peer.close()
        for handle in self._handles:
            ray.kill(handle)

    def _ask(self, method: str, *arguments: object) -> list[Any]:
        import ray

        asked = [getattr(handle, method).remote(*arguments) for handle in self._handles]
        try:
            return ray.get(asked, timeout=START_TIMEOUT_S)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Refused | RunFailed):
                raise error.cause from None
            raise
        except ray.exceptions.RayError as error:
            raise RunFailed(f"an actor was lost: {one_line(str(error))[:300]}") from None
