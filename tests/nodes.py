"""A Ray cluster of two nodes with addresses of their own: network namespaces joined by a veth pair, made for a test."""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

BIN = Path(sys.executable).parent
ADDRESSES = ("10.213.77.1", "10.213.77.2")
PORT = 6399


def permitted() -> bool:
    """Return whether this process may make network namespaces."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        return False
    name = f"lrpc-{secrets.token_hex(4)}"
    if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode:
        return False
    subprocess.run(["ip", "netns", "del", name], check=True)
    return True


class Nodes:
    """Two nodes, the first of them the head; commands run on either."""

    def __init__(self) -> None:
        mark = secrets.token_hex(3)
        self.names = [f"lrpc-{mark}-{number}" for number in (1, 2)]
        self.folder = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))
        self.address = f"{ADDRESSES[0]}:{PORT}"
        self.variables = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }

    def start(self) -> None:
        """Make the namespaces, join them, and start Ray in both."""
        one, other = self.names
        ends = ["a" + one[5:11], "b" + one[5:11]]
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", ends[0], "netns", one, "type", "veth", "peer", "name", ends[1], "netns", other)
        for name, end, address in zip(self.names, ends, ADDRESSES, strict=True):
            ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            ip("-n", name, "link", "set", "lo", "up")
            ip("-n", name, "link", "set", end, "up")
        shared = ["--num-cpus", "2", "--object-store-memory", "80000000", "--disable-usage-stats"]
        head = ["--head", "--port", str(PORT), "--include-dashboard=false", "--temp-dir", str(self.folder)]
        self._ray(0, ["start", *head, "--node-ip-address", ADDRESSES[0], *shared])
        self._ray(1, ["start", "--address", self.address, "--node-ip-address", ADDRESSES[1], *shared])

    def command(self, node: int, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
        """Start a command on a node, 0 or 1."""
        line = ["ip", "netns", "exec", self.names[node], *map(str, arguments)]
        pipe = subprocess.PIPE
        return subprocess.Popen(line, stdout=pipe, stderr=pipe, text=True, env=self.variables | variables, cwd="/tmp")

    def lrpc(self, node: int, *arguments: object, **variables: str) -> "subprocess.Popen[str]":
        """Start `lrpc` on a node."""
        return self.command(node, BIN / "lrpc", *arguments, "--address", self.address, **variables)

    def kill(self, node: int, spared: Sequence[int] = ()) -> None:
        """Lose a node: end everything that runs there."""
        for process in self._processes(node):
            if process not in spared:
                try:
                    os.kill(process, signal.SIGKILL)
                except ProcessLookupError:
                    continue

    def stop(self) -> None:
        """Leave nothing behind."""
        for node in (0, 1):
            while self._processes(node):
                self.kill(node)
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _processes(self, node: int) -> list[int]:
        found = subprocess.run(
            ["ip", "netns", "pids", self.names[node]], capture_output=True, text=True, check=False
        ).stdout.split()
        return [int(process) for process in found if not _is_zombie(int(process))]

    def _ray(self, node: int, arguments: Sequence[str]) -> None:
        run = self.command(node, BIN / "ray", *arguments)
        out, err = run.communicate(timeout=60)
        assert run.returncode == 0, out + err


def ip(*arguments: str) -> None:
    """Run `ip`."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


def _is_zombie(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """Have a cluster of two nodes in the block."""
    nodes = Nodes()
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


def ended(run: "subprocess.Popen[str]", timeout_s: float = 120) -> tuple[int, str, str]:
    """Wait for a command's end; return its exit code, and what it wrote."""
    try:
        out, err = run.communicate(timeout=timeout_s)
    finally:
        run.kill()
    return run.returncode, out, err
