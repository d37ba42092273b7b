"""A private session of Ray's is closed to other users, and what is not Ray is told in seconds."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
import pytest

from lrpc.cluster.journal import Journal
from lrpc.cluster.on_ray import session
from lrpc.cluster.on_ray.session import OWNER, PREFIX, check_reachable, ray_session
from lrpc.kernel.errors import Refused, RunFailed
from lrpc.protos import transport_pb2
from tests.support.command import PATIENCE_S
from tests.support.intruder import intruded, only_root


@pytest.mark.usefixtures("on_ray")
class TestOnRay:
    @only_root
    def test_another_user_can_neither_read_nor_write_nor_connect(self) -> None:
        (folder,) = (
            one for one in Path("/tmp").glob(f"{PREFIX}*") if (one / OWNER).read_text().split()[0] == str(os.getpid())
        )
        assert folder.stat().st_mode & 0o777 == 0o700
        inside = [path for path in folder.rglob("*") if path.is_dir() or path.is_socket()]
        assert any(path.is_socket() for path in inside)
        assert intruded(folder, *inside) == ""


def test_ray_that_was_imported_before_it_could_be_given_a_token_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(session, "_imported_here", False)
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    before = set(Path("/tmp").glob(f"{PREFIX}*"))
    with pytest.raises(Refused, match=r"Ray was imported before this run.*import ray later"), ray_session(None, 1):
        pass
    assert set(Path("/tmp").glob(f"{PREFIX}*")) <= before


def test_ray_that_starts_too_late_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(session, "_imported_here", True)

    def late(**options: object) -> None:
        raise Exception("The current node timed out during startup.\nMore of it.")

    monkeypatch.setattr(ray, "init", late)
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    before = set(Path("/tmp").glob(f"{PREFIX}*"))
    with (
        pytest.raises(RunFailed, match=r"Ray does not start: More of it\.; run again, or .* --actors 0"),
        ray_session(None, 1),
    ):
        pass
    assert set(Path("/tmp").glob(f"{PREFIX}*")) <= before


def test_a_journals_folders_are_private(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "run" / "station" / "to-1.journal")
    journal.add(transport_pb2.Batch())
    journal.close()
    for folder in (tmp_path / "run", tmp_path / "run" / "station"):
        assert folder.stat().st_mode & 0o777 == 0o700


def test_what_listens_and_is_not_ray_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(Refused, match="does not speak gRPC, as Ray does"):
            check_reachable(address)


def test_a_grpc_server_that_is_not_ray_is_told() -> None:
    server = grpc.server(ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with pytest.raises(Refused, match="what listens there is not Ray's head node"):
            check_reachable(f"127.0.0.1:{port}")
    finally:
        server.stop(None).wait()


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no /proc")
def test_what_a_session_left_is_ended_also_without_its_mark(tmp_path: Path) -> None:
    """An agent may have written over its environment; its logs are in the session's folder."""
    log = tmp_path / "agent.log"
    with log.open("w") as file:
        agent = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, stdout=file)
    try:
        session._end_processes(str(tmp_path))
        assert agent.wait(timeout=PATIENCE_S) == -signal.SIGKILL
    finally:
        agent.kill()
        agent.communicate()
