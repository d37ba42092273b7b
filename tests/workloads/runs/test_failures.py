"""Where a user's code fails a run, file and line are in the record, and printed if asked for."""

import shutil
import tempfile
from pathlib import Path

import pytest

from lrpc.cluster.synchronisation import Progress
from lrpc.workloads.records import folders
from lrpc.workloads.runs import execute, planned
from lrpc.workloads.runs.jobs import RunJob
from tests.support.command import HERE, lrpc, office, record
from tests.support.intruder import intruded, only_root
from tests.support.town import town


@pytest.mark.parametrize("links", ["memory", "grpc"])
@pytest.mark.parametrize("shop", ["home", "market"])
def test_the_record_says_where_program_and_server_raised(shop: str, links: str, tmp_path: Path) -> None:
    scenario, registry = town(tmp_path, shop=shop, sells=2)
    code, out = tmp_path / "town.py", tmp_path / "run"
    ended = lrpc("run", scenario, "--registry", registry, "--actors", 0, "--links", links, "--out", out)
    assert ended.code == 3
    assert "ProcedureRaised: ValueError: cannot sell 2 (an incomplete record" in ended.err
    assert "Traceback" not in ended.err
    reason = record(out)["reason"]
    assert f"; raised at {code}, line 32, in run" in reason
    assert f"raised in the server at {code}, line 21, in sold" in reason


def test_a_traceback_is_printed_where_it_is_asked_for_without_frames_of_lrpc(tmp_path: Path) -> None:
    scenario, registry = town(tmp_path, shop="home", sells=2)
    ended = lrpc("run", scenario, "--registry", registry, *HERE, "--out", tmp_path / "run", "--tracebacks")
    trace, last = ended.err.splitlines()[:-1], ended.err.splitlines()[-1]
    assert last.startswith("lrpc: machine home, ")
    assert trace == [
        "Traceback (most recent call last):",
        f'  File "{tmp_path / "town.py"}", line 32, in run',
        '    print("bought", shop.buy(n))',
        *[line for line in trace if line.strip("~^ ") == ""],
        "lrpc.kernel.errors.ProcedureRaised: ValueError: cannot sell 2",
        f"raised in the server at {tmp_path / 'town.py'}, line 21, in sold",
    ]


def test_a_traceback_ends_with_what_servers_of_other_machines_raised(tmp_path: Path) -> None:
    scenario, registry = town(tmp_path, shop="market", sells=2)
    ended = lrpc("run", scenario, "--registry", registry, *HERE, "--out", tmp_path / "run", "--tracebacks")
    code = tmp_path / "town.py"
    assert ended.err.splitlines()[-2] == f"market: ValueError raised in the server at {code}, line 21, in sold"


def test_a_run_whose_memory_grows_much_says_so_and_how_to_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(execute, "GROWN", -1)
    ended = lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run")
    assert ended.code == 0
    assert ended.err.startswith("note: this run takes ")
    assert "lrpc run --max-calls or --until stops it" in ended.err


def test_what_a_run_keeps_on_disk_while_it_works_is_closed_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its event logs and whatever else it puts into the folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    seen: dict[str, int] = {}

    def look(_: Progress) -> None:
        seen.update({one.name: one.stat().st_mode & 0o777 for one in tmp_path.glob("lrpc-*")})

    ready = RunJob(scenario="office").prepare(["lrpc", "run", "office"])
    options = planned.Options(actors=0, transport="grpc", events=tmp_path / "log")
    execute.simulate(ready.cluster, 0, options, on_progress=look)
    assert seen
    assert set(seen.values()) == {0o700}
    assert [one.name for one in tmp_path.iterdir()] == ["log"]


@only_root
def test_another_user_gets_at_nothing_of_a_run_while_it_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """Event logs, and a record that is being written; the folder around them is open to all."""
    place = Path(tempfile.mkdtemp(prefix="open-"))
    try:
        place.chmod(0o777)
        monkeypatch.setattr(tempfile, "tempdir", str(place))
        assert intruded(place).endswith(": open\n")  # the intruder works
        got: list[str] = []
        ready = RunJob(scenario="office").prepare(["lrpc", "run", "office"])
        options = planned.Options(actors=0, transport="grpc", events=place / "log")
        execute.simulate(ready.cluster, 0, options, on_progress=lambda _: got.append(intruded(*place.glob("lrpc-*"))))
        folders.put(place / "out", "record", lambda made: got.append(intruded(made)))
        assert len(got) > 1
        assert set(got) == {""}
    finally:
        shutil.rmtree(place)
