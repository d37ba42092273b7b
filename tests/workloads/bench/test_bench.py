"""`lrpc bench`: peers answer alike, cells follow from times, and a record and a page are left."""

import json
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from lrpc.kernel.errors import RunFailed
from lrpc.workloads.bench import measure, pairs, record
from lrpc.workloads.bench.measure import BenchCell, BenchTimes, Effort, Shared
from lrpc.workloads.bench.peers import BESIDE, PEERS, BenchPeer, Call
from lrpc.workloads.bench.servers import ARGUMENTS
from tests.support.command import lrpc

TINY = Effort(rounds=1, calls=20, large_calls=3, paced_calls=2, computing_calls=3, clients_s=0.05, pairs=5)


@pytest.mark.parametrize("peer", [one for one in PEERS if one.module != "ray"], ids=lambda peer: peer.name)
def test_every_peer_returns_what_each_test_should(peer: BenchPeer) -> None:
    if not peer.installed:
        pytest.skip(f"{peer.module} is not installed")
    with peer.serving() as (folder, pid), peer.connected(folder, pid) as client:
        assert set(client.calls) == set(ARGUMENTS)
        assert client.calls["Add"]() == 7


@pytest.mark.long
def test_ray_is_a_peer_that_quick_runs_leave_out() -> None:
    """In a process of its own: this one may be connected to Ray already."""
    (peer,) = [one for one in PEERS if one.module == "ray"]
    assert peer.slow
    if not peer.installed:
        pytest.skip("Ray is not installed")
    code = """
from lrpc.workloads.bench.peers import PEERS
peer = PEERS[-1]
with peer.serving() as (folder, pid), peer.connected(folder, pid) as client:
    print(client.calls["Add"](), client.server != pid)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines()[-1:] == ["7 True"], done.stderr[-2000:]


def test_threads_of_one_client_each_count_their_calls() -> None:
    (peer,) = [one for one in PEERS if one.name == "lrpc"]
    (one, four) = measure.share_threads(peer, (1, 4), 0.1)
    assert (one.clients, four.clients, four.are) == (1, 4, "threads")
    assert one.least_of_mean == 1
    assert four.calls_per_s > 100
    assert 0 <= four.least_of_mean <= 1


def test_peers_that_spin_are_paced_too() -> None:
    (peer,) = [one for one in PEERS if one.name == "lrpc/mp"]
    found = measure.measure([peer], ["Add"], TINY, lambda text: None)
    modes = {mode for name, _, mode in found.samples if name == "lrpc/mp"}
    assert modes == {"spin", "paced 100", "paced 1000"}


def test_awaited_calls_are_timed_within_the_event_loop() -> None:
    (peer,) = [one for one in PEERS if one.name == "lrpc channel, asyncio"]
    found = measure.measure([peer], ["Null", "Add"], TINY, lambda text: None)
    own = {(test, mode): len(one.times_ns) for (name, test, mode), one in found.samples.items() if name == peer.name}
    assert own == {("Add", "sleep"): TINY.calls, ("Add", "paced 100"): 2, ("Add", "paced 1000"): 2}


def test_what_messages_take_without_any_call_is_measured_beside_the_channel() -> None:
    chosen = [one for one in PEERS if one.name in ("lrpc channel", "pipe")]
    found = measure.measure(chosen, ["Add"], TINY, lambda text: None)
    alone = {mode: one.times_ns for (name, _, mode), one in found.samples.items() if name == measure.ALONE}
    assert {mode: len(times) for mode, times in alone.items()} == {
        "in one process": TINY.calls,
        "paced 100": 2,
        "paced 1000": 2,
    }
    assert min(alone["in one process"]) < min(found.samples["lrpc channel", "Add", "sleep"].times_ns)
    without = measure.measure([one for one in chosen if one.name == "pipe"], ["Add"], TINY, lambda text: None)
    assert not [name for name, _, _ in without.samples if name == measure.ALONE]


def test_what_the_channel_leaves_to_grpc_is_compared_in_pairs() -> None:
    found = pairs.compare(2 * pairs.CHANNELS, lambda text: None)
    streams = [f"stream {kind}" for kind in ("from the server", "from the client", "both ways")]
    assert [one.what for one in found] == [*streams, "plain server, UNIX socket", "plain server, TCP"]
    assert all(one.pairs == 2 * pairs.CHANNELS and one.ratio > 0 for one in found)


def test_cells_are_medians_and_ratios_are_against_grpc_over_a_unix_socket() -> None:
    found = BenchTimes()
    found.add((BESIDE, "Add", "sleep"), [400_000, 500_000, 600_000])
    found.add(("lrpc/mp", "Add", "spin"), [2_000, 2_000, 9_000], cpu_ns=12_000)
    found.add(("lrpc", "Add", "paced 100"), [50_000])
    cells = {(one.peer, one.mode): one for one in found.cells()}
    assert cells["lrpc/mp", "spin"] == BenchCell("lrpc/mp", "Add", "spin", 2.0, 9.0, 4.0, 250.0)
    assert cells[BESIDE, "sleep"].ratio == 1.0
    assert cells["lrpc", "paced 100"].ratio is None


def test_a_round_whose_floor_was_disturbed_is_repeated_and_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "_floors", lambda found: True)
    (peer,) = [one for one in PEERS if one.name == "pipe"]
    found = measure.measure([peer], ["Null"], TINY, lambda text: None)
    assert found.repeated == measure.MOST_REPEATS
    assert found.disturbed
    assert len(found.samples["pipe", "Null", "sleep"].times_ns) == TINY.calls


def test_a_server_that_computes_meanwhile_is_a_mode_of_its_own() -> None:
    (peer,) = [one for one in PEERS if one.name == "lrpc/mp"]
    found = BenchTimes()
    measure.computing(found, peer, 3)
    (cell,) = found.cells()
    assert (cell.peer, cell.test, cell.mode) == ("lrpc/mp", "Add", "spin, server computes")
    assert cell.median_us > 0


def test_several_clients_each_count_their_calls() -> None:
    (peer,) = [one for one in PEERS if one.name == "lrpc adapting"]
    (found,) = measure.share(peer, (2,), 0.1)
    assert found.clients == 2
    assert found.calls_per_s > 100
    assert 0 < found.least_of_mean <= 1


def test_the_answer_is_a_sentence_about_add() -> None:
    cells = [
        BenchCell("lrpc/mp", "Add", "spin", 2.0, 3.0, None, 250.0),
        BenchCell(BESIDE, "Add", "sleep", 500.0, 900.0, 1.0, 1.0),
    ]
    made = record.BenchRecord(["lrpc", "bench"], TINY, cells, [Shared("lrpc", 2, 10.0, 1.0)], [], [], 0, False)
    assert made.answer == (
        "Add takes gRPC 500 µs over a UNIX socket; here it takes LRPC/MP 2.0 µs (250 times as fast)."
    )


def test_reproduce_measures_table_iv_here_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "QUICK", TINY)
    where = ("--actors", 0, "--links", "memory", "--calls", 100, "--only", "V", "--out", tmp_path / "run")
    said = lrpc("reproduce", *where, "--here").out
    heads = next(line for line in said.splitlines() if "LRPC/MP, µs" in line)
    assert [one.strip() for one in heads.strip("┃").split("┃")[1:]] == [
        "LRPC/MP, µs",
        "LRPC, µs",
        "message passing, µs",
        "gRPC, µs",
    ]
    found = json.loads((tmp_path / "run" / "here" / "record.json").read_text())
    assert {cell["test"] for cell in found["cells"]} == {"Null", "Add", "BigIn", "BigInOut"}


def test_the_command_leaves_a_record_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "QUICK", TINY)
    ended = lrpc("bench", "--quick", "--only", "lrpc/mp", "--only", "socket", "--out", tmp_path / "bench")
    assert ended.code == 0
    *_, told, answer = ended.out.splitlines()
    assert told.startswith("targets: ")
    assert answer.startswith("Add takes gRPC")
    found = json.loads((tmp_path / "bench" / "record.json").read_text())
    assert found["status"] == "complete"
    keys = {"peer", "test", "mode", "median_us", "p99_us", "cpu_us", "ratio"}
    assert all(set(cell) == keys for cell in found["cells"])
    assert {cell["peer"] for cell in found["cells"]} == {"C floor", "lrpc/mp", "socket", BESIDE}
    page = (tmp_path / "bench" / "report.html").read_text()
    assert page.index("Add takes gRPC") < page.index("<details")
    assert (tmp_path / "bench" / "cells.csv").is_file()
    assert {one["verdict"] for one in found["targets"]} <= {"held", "missed", "not measured"}
    assert lrpc("bench", "--quick", "--out", tmp_path / "bench").code == 2
    assert lrpc("bench", "--only", "nobody").line.startswith("lrpc: --only nobody: no such peer; the peers: lrpc/mp")


def test_a_peer_that_cannot_be_connected_to_is_named_in_one_line(tmp_path: Path) -> None:
    def connect(folder: Path, stack: ExitStack) -> dict[str, Call]:
        raise OSError(f"nobody at\n{folder.name}")

    peer = BenchPeer("Slow", "slow", "lrpc", connect)
    with (
        pytest.raises(RunFailed, match=rf"^Slow: cannot connect: nobody at {tmp_path.name}$"),
        peer.connected(tmp_path, 1),
    ):
        pass
