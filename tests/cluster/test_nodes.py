"""Runs on two Ray nodes give the same digest, or one line that names what was lost."""

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import lrpc as package
from tests.support.command import lrpc, office, record, wait_until
from tests.support.nodes import ADDRESSES, BIN, Nodes, Pair, ended, on_one_address, permitted, two_nodes

NAMESPACES = permitted()
LONG = 6000  # actions, enough for a fault to fall into the middle
apart = pytest.mark.skipif(not NAMESPACES, reason="network namespaces are not permitted here")


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    """Yield two nodes, once for all tests; at one address where they cannot have their own."""
    with two_nodes() if NAMESPACES else on_one_address() as pair:
        yield pair


@pytest.fixture
def nodes(pair: Pair) -> Nodes:
    """Return two nodes with addresses of their own, neither of them lost."""
    assert isinstance(pair, Nodes)
    pair.restart_lost()
    return pair


@pytest.fixture
def scenario(tmp_path: Path) -> Callable[[int], tuple[Path, str]]:
    """Return a function that makes a scenario of that many actions, and its digest here."""

    def make(actions: int) -> tuple[Path, str]:
        path = office(tmp_path, actions=actions)
        assert lrpc("run", path, "--actors", 0, "--links", "memory", "--out", tmp_path / "here").code == 0
        return path, record(tmp_path / "here")["digest"]

    return make


@pytest.mark.long
class TestOnRay:
    def test_two_nodes_come_to_what_one_process_comes_to(
        self, pair: Pair, scenario: Callable[[int], tuple[Path, str]], tmp_path: Path
    ) -> None:
        if isinstance(pair, Nodes):
            pair.restart_lost()
        path, digest = scenario(100)
        log = tmp_path / "log"
        run = pair.lrpc(0, "run", path, "--actors", 2, "--out", tmp_path / "run", "--events", log)
        assert ended(run)[0] == 0
        found = record(tmp_path / "run")
        assert (found["digest"], found["actors"], found["synchronisation"]["losses"]) == (digest, 2, 0)
        assert lrpc("events", log, "--digest").out.split() == [digest]

    @apart
    def test_a_node_without_this_very_package_is_sent_it(
        self, nodes: Nodes, scenario: Callable[[int], tuple[Path, str]], tmp_path: Path
    ) -> None:
        """The command runs from a changed copy; its digest shows that the nodes run the copy."""
        path, digest = scenario(50)
        copy = tmp_path / "copy" / "lrpc"
        skipped = shutil.ignore_patterns("__pycache__", "*.so", ".*")
        shutil.copytree(Path(package.__file__).parent, copy, ignore=skipped)
        source = copy / "kernel" / "simulated" / "log.py"
        assert source.read_text().count("SEED: Final = ") == 1
        source.write_text(re.sub(r"SEED: Final = \d+", "SEED: Final = 99", source.read_text()))
        start = "from lrpc.workloads.launcher import main; main()"
        arguments = ["run", path, "--actors", 2, "--out", tmp_path / "run", "--address", nodes.address]
        variables = {"PYTHONPATH": str(copy.parent), "LRPC_INTERPRETED": "1"}
        code, _, err = ended(nodes.command(0, sys.executable, "-c", start, *arguments, **variables))
        assert (code, err) == (0, "")
        assert record(tmp_path / "run")["digest"] != digest

    @apart
    def test_an_address_that_is_no_head_is_refused(self, nodes: Nodes, tmp_path: Path) -> None:
        run = nodes.command(
            0, BIN / "lrpc", "run", "office", "--address", f"{ADDRESSES[1]}:1", "--out", tmp_path / "run"
        )
        code, _, err = ended(run)
        assert (code, err.startswith(f"lrpc: Ray address {ADDRESSES[1]}:1: Connection refused; ")) == (2, True)

    @apart
    @pytest.mark.parametrize(("lost", "driver"), [(1, 0), (0, 1)], ids=["worker", "head"])
    def test_a_node_that_is_lost_is_done_without_or_named(
        self, lost: int, driver: int, nodes: Nodes, scenario: Callable[[int], tuple[Path, str]], tmp_path: Path
    ) -> None:
        path, digest = scenario(LONG)
        with nodes.lrpc(driver, "run", path, "--actors", 2, "--out", tmp_path / "run") as run:
            try:
                wait_until("the run's beginning", lambda: (tmp_path / "run").exists() or run.poll() is not None)
            except BaseException:
                run.kill()
                raise
            nodes.lose(lost)
            code, _, err = ended(run)
        found = record(tmp_path / "run")
        if lost == 1:
            assert (code, err) == (0, "")
            assert (found["digest"], found["synchronisation"]["losses"]) == (digest, 1)
        else:
            assert code == 3
            (line,) = err.splitlines()
            assert "lost" in line
            assert found["status"] == "incomplete"
