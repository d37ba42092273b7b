"""A record is enough to run it again, and `lrpc verify` compares the results."""

import json
from pathlib import Path

import pytest

from tests.support.command import HERE, lrpc, office, record, refused
from tests.support.places import SAMPLE


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the record of a scenario whose file has been removed."""
    folder = tmp_path_factory.mktemp("verify")
    path = office(folder, actions=20)
    assert lrpc("run", path, *HERE, "--out", folder / "run", "--seed", 5).code == 0
    path.unlink()
    return folder / "run"


def edited(ran: Path, folder: Path, **changes: object) -> Path:
    """Return a copy of a record with some values changed."""
    found = record(ran) | changes
    folder.mkdir()
    (folder / "record.json").write_text(json.dumps(found))
    return folder


@pytest.mark.parametrize("where", [HERE, ("--actors", "0", "--links", "grpc")], ids=["memory", "grpc"])
def test_a_run_comes_to_the_same_again_though_its_scenario_is_gone(ran: Path, where: tuple[str, ...]) -> None:
    ended = lrpc("verify", ran, *where)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith(f"the same: 3 machines, digest {record(ran)['digest']}; in one process, links memory")
    assert len(ended.out.splitlines()) == 1


def test_a_machine_that_did_something_else_is_named_with_exit_code_1(ran: Path, tmp_path: Path) -> None:
    machines = record(ran)["machines"]
    machines["workstation1"]["digest"] = "00" * 32
    ended = lrpc("verify", edited(ran, tmp_path / "run", machines=machines), *HERE)
    assert (ended.code, ended.err) == (1, "")
    assert ended.out.startswith("not the same: machine workstation1 did something else, the first of 1 of 3; ")


def test_another_seed_is_another_run(ran: Path, tmp_path: Path) -> None:
    job = record(ran)["job"] | {"seed": 6}
    ended = lrpc("verify", edited(ran, tmp_path / "run", job=job), *HERE)
    assert ended.code == 1
    assert "machine fileserver did something else, the first of 3 of 3" in ended.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("reproduce", "--only", "V", "--calls", "20"), "reproduce"),
        (("replay", str(SAMPLE), "--machines", "2"), "replay"),
        (("run", "taos", "--scale", "0.002"), "run"),
    ],
)
def test_every_kind_of_job_can_be_verified(arguments: tuple[str, ...], said: str, tmp_path: Path) -> None:
    assert lrpc(*arguments, *HERE, "--out", tmp_path / "run").code == 0
    assert record(tmp_path / "run")["job"]["kind"] == said
    assert lrpc("verify", tmp_path / "run", *HERE).code == 0


def test_a_trace_that_has_changed_is_refused(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text(SAMPLE.read_text())
    assert lrpc("replay", trace, "--machines", 2, *HERE, "--out", tmp_path / "run").code == 0
    trace.write_text(trace.read_text() + "\n")
    line = refused("verify", tmp_path / "run", *HERE)
    assert line == f"lrpc: {trace}: has changed since {tmp_path / 'run'} was written; restore the old contents"


def test_records_that_cannot_be_verified_are_refused(ran: Path, tmp_path: Path) -> None:
    versions = record(ran)["versions"]
    assert "written by lrpc 0.0.1, and this is" in refused(
        "verify", edited(ran, tmp_path / "old", versions=versions | {"lrpc": "0.0.1"})
    )
    assert "format 1, of an older lrpc" in refused("verify", edited(ran, tmp_path / "format", format=1))
    assert "incomplete (interrupted); only the record of a complete run" in refused(
        "verify", edited(ran, tmp_path / "part", status="incomplete", reason="interrupted")
    )
    assert "job: " in refused("verify", edited(ran, tmp_path / "job", job={"kind": "walk"}))
    damaged = edited(ran, tmp_path / "damaged", counts="many")
    assert "counts: " in refused("verify", damaged)
    (damaged / "record.json").write_text("{")
    assert "not JSON; the record is damaged: run it again" in refused("verify", damaged)
    assert "cannot be read" in refused("verify", tmp_path / "nowhere")
