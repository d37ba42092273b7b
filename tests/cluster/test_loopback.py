"""Without loopback, runs that need it are refused in one line and in seconds; others go on."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.command import office

COMMAND = Path(sys.executable).with_name("lrpc")
NAMESPACE = ["unshare", "--user", "--map-root-user", "--net", "--"]
ONLY_SIX = 'ip link set lo up && ip addr del 127.0.0.1/8 dev lo && exec "$@"'


def can_unshare() -> bool:
    """Return whether a process here may have a network of its own."""
    return (
        shutil.which("unshare") is not None
        and subprocess.run([*NAMESPACE, "true"], capture_output=True).returncode == 0
    )


pytestmark = pytest.mark.skipif(not can_unshare(), reason="no network namespaces can be made here")


@pytest.mark.parametrize("network", ["none", "::1 only"])
@pytest.mark.parametrize("where", [("--actors", "2"), ("--actors", "0", "--links", "grpc")])
def test_a_run_that_needs_loopback_is_refused(network: str, where: tuple[str, ...], tmp_path: Path) -> None:
    if network != "none" and shutil.which("ip") is None:
        pytest.skip("no command to change addresses")
    inside = [] if network == "none" else ["sh", "-c", ONLY_SIX, "sh"]
    began = time.monotonic()
    ended = subprocess.run(
        [*NAMESPACE, *inside, COMMAND, "run", office(tmp_path), *where, "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert line.startswith("lrpc: loopback, 127.0.0.1: ")
    assert line.endswith("; bring it up (ip link set lo up), or run in this process with --actors 0 --links memory")
    assert not (tmp_path / "run").exists()
    assert time.monotonic() - began < 30


def test_a_run_in_memory_needs_no_network(tmp_path: Path) -> None:
    where = ("--actors", "0", "--links", "memory")
    ended = subprocess.run(
        [*NAMESPACE, COMMAND, "run", office(tmp_path), *where, "--out", tmp_path / "run"],
        capture_output=True,
        text=True,
    )
    assert (ended.returncode, ended.stderr) == (0, "")
