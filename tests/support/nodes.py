"""A Ray cluster of two nodes: in network namespaces with a veth pair, or at one address.

The nodes share an address where network namespaces are not permitted.
"""

import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final, Protocol

from tests.support.command import PATIENCE_S, wait_until

BIN: Final = Path(sys.executable).parent
ADDRESSES: Final = ("10.213.77.1", "10.213.77.2")
PORT: Final = 6399
PATH: Final = f"{os.environ['PATH']}:/usr/sbin:/sbin"  # where `ip` is, if it is anywhere
# Ray counts a node as lost once it has missed this many checks in a row, this far apart.
CHECKS: Final = {"RAY_health_check_period_ms": "500", "RAY_health_check_failure_threshold": "4"}
SHARE: Final = ("--num-cpus", "2", "--object-store-memory", "80000000", "--include-log-monitor=false")
# Two nodes at the address of this computer, for as long as standard input is open.
ON_ONE_ADDRESS: Final = """
import sys
from ray.cluster_utils import Cluster
share = {"num_cpus": 2, "object_store_memory": 80_000_000, "include_log_monitor": False}
cluster = Cluster(initialize_head=True, head_node_args=share | {"include_dashboard": False})
cluster.add_node(**share)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""
# Ray looks for its node among all processes of a computer, so it must be told the node.
ON_NODE: Final = """
import functools, sys
import ray
ray.init = functools.partial(ray.init, _node_ip_address=sys.argv.pop(1))
from lrpc.workloads.launcher import main
main()
"""
Command = subprocess.Popen[str]


def permitted() -> bool:
    """Return whether this process may make network namespaces."""
    if shutil.which("ip", path=PATH) is None or os.geteuid() != 0:
        return False
    name = f"lrpc-{secrets.token_hex(4)}"
    made = _ip("netns", "add", name)
    if made:
        _ip("netns", "del", name)
    return made


class Pair(Protocol):
    """Two nodes of a Ray cluster, 0 and 1, on which commands run."""

    def lrpc(self, node: int, *arguments: object) -> Command:
        """Start `lrpc` on a node, to run on the cluster."""


class Nodes:
    """Two nodes with addresses of their own, the first of them the head."""

    def __init__(self) -> None:
        mark = secrets.token_hex(3)
        self.names = [f"lrpc-{mark}-{number}" for number in (1, 2)]
        self.address = f"{ADDRESSES[0]}:{PORT}"
        self._ends = [f"{letter}{mark}" for letter in "ab"]
        self._folder = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))
        self._variables = variables()

    def start(self) -> None:
        """Make the namespaces, join them, and start Ray in both."""
        for name in self.names:
            assert _ip("netns", "add", name)
        one, other = self.names
        assert _ip("link", "add", self._ends[0], "netns", one, "type", "veth", "peer", self._ends[1], "netns", other)
        for name, end, address in zip(self.names, self._ends, ADDRESSES, strict=True):
            assert _ip("-n", name, "addr", "add", f"{address}/24", "dev", end)
            assert _ip("-n", name, "link", "set", "lo", "up")
            assert _ip("-n", name, "link", "set", end, "up")
        self.restart_lost()

    def restart_lost(self) -> None:
        """Reconnect the nodes; start Ray where it does not run, on both if the head is lost."""
        self.reconnect()
        if not self._processes(0):
            self.lose(1)
            shutil.rmtree(self._folder, ignore_errors=True)
            head = ["--head", "--port", PORT, "--include-dashboard=false", "--no-monitor", "--temp-dir", self._folder]
            self._ray(0, *head)
        if not self._processes(1):
            self._ray(1, "--address", self.address)

    def command(self, node: int, *arguments: object, **variables: str) -> Command:
        """Start a command on a node."""
        return _start("ip", "netns", "exec", self.names[node], *arguments, variables=self._variables | variables)

    def lrpc(self, node: int, *arguments: object) -> Command:
        """Start `lrpc` on a node, to run on the cluster."""
        start = [sys.executable, "-c", ON_NODE, ADDRESSES[node]]
        return self.command(node, *start, *arguments, "--address", self.address)

    def lose(self, node: int) -> None:
        """End every process of a node."""

        def gone() -> bool:
            processes = self._processes(node)
            for process in processes:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            return not processes

        wait_until(f"the end of node {node}", gone)

    def cut(self) -> None:
        """Take down the network between the nodes."""
        _ip("-n", self.names[1], "link", "set", self._ends[1], "down")

    def reconnect(self) -> None:
        """Bring the network between the nodes up again."""
        _ip("-n", self.names[1], "link", "set", self._ends[1], "up")

    def stop(self) -> None:
        """End both nodes and remove their namespaces and files."""
        for node, name in enumerate(self.names):
            self.lose(node)
            _ip("netns", "del", name)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _processes(self, node: int) -> list[int]:
        line = ["ip", "netns", "pids", self.names[node]]
        found = subprocess.run(line, capture_output=True, text=True, check=False, env={"PATH": PATH}).stdout
        return [int(process) for process in found.split() if not _is_zombie(process)]

    def _ray(self, node: int, *arguments: object) -> None:
        share = [*SHARE, "--node-ip-address", ADDRESSES[node], "--disable-usage-stats"]
        code, out, err = ended(self.command(node, BIN / "ray", "start", *arguments, *share))
        assert code == 0, out + err


class OneAddress:
    """Two nodes at one address: what they send each other does not leave loopback."""

    def __init__(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="lr", dir="/tmp"))
        self._variables = variables() | {"RAY_TMPDIR": str(self._folder)}
        self._cluster = _start(sys.executable, "-c", ON_ONE_ADDRESS, variables=self._variables)
        assert self._cluster.stdout is not None
        self.address = self._cluster.stdout.readline().strip()
        if not self.address:
            self.stop()
            raise AssertionError("Ray does not start")

    def lrpc(self, node: int, *arguments: object) -> Command:
        """Start `lrpc`; the node makes no difference."""
        return _start(BIN / "lrpc", *arguments, "--address", self.address, variables=self._variables)

    def stop(self) -> None:
        """End both nodes and remove their files."""
        try:
            code, out, err = ended(self._cluster)
            assert code == 0, out + err
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)


def variables() -> dict[str, str]:
    """Return the environment of a cluster's processes, with a new authentication token."""
    return CHECKS | {
        "PATH": PATH,
        "HOME": os.environ.get("HOME", "/"),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }


@contextmanager
def two_nodes() -> Iterator[Nodes]:
    """Yield two nodes with addresses of their own."""
    nodes = Nodes()
    try:
        nodes.start()
        yield nodes
    finally:
        nodes.stop()


@contextmanager
def on_one_address() -> Iterator[OneAddress]:
    """Yield two nodes at one address."""
    nodes = OneAddress()
    try:
        yield nodes
    finally:
        nodes.stop()


def ended(run: Command, timeout_s: float = PATIENCE_S) -> tuple[int, str, str]:
    """Wait for a command's end; return its exit code, and what it wrote."""
    with run:
        try:
            out, err = run.communicate(timeout=timeout_s)
        finally:
            run.kill()
    return run.returncode, out, err


def _start(*arguments: object, variables: dict[str, str]) -> Command:
    line = [str(argument) for argument in arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(line, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=variables, cwd="/tmp")


def _ip(*arguments: str) -> bool:
    """Run `ip`; return whether it succeeded."""
    return subprocess.run(["ip", *arguments], capture_output=True, check=False, env={"PATH": PATH}).returncode == 0


def _is_zombie(process: str) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True
