"""A folder is written whole, by one run at a time, and is never away in between."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from lrpc.kernel.errors import Refused
from lrpc.workloads.records import folders
from tests.support.command import HERE, lrpc, office, refused, wait_until

HOLDER = """
import sys
from pathlib import Path
from lrpc.workloads.records import folders
with folders.claimed(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def put(out: Path, text: str) -> None:
    def fill(made: Path) -> None:
        (made / "text").write_text(text)

    folders.put(out, "record", fill)


def test_a_second_run_into_a_folder_is_refused_while_the_first_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    office(tmp_path)
    with folders.claimed(Path("out")):
        line = refused("run", "office.toml", "--out", "out", "--force", *HERE)
    assert line == "lrpc: --out out: another run is writing there; wait for it, or name another folder"
    assert lrpc("run", "office.toml", "--out", "out", *HERE).code == 0
    assert {path.name for path in tmp_path.iterdir()} == {"office.toml", "out"}


def test_a_report_into_a_records_folder_is_refused_while_a_run_works_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert lrpc("run", office(tmp_path), "--out", "out", *HERE).code == 0
    with folders.claimed(Path("out")):
        line = refused("report", "out")
        assert line == "lrpc: record out: another run is writing there; wait for it, or name another folder"
        assert lrpc("report", "out", "--out", "elsewhere").code == 0
    assert lrpc("report", "out").code == 0


def test_a_second_sweep_into_a_folder_is_refused_while_the_first_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    office(tmp_path)
    job = 'name = "s"\njob = { kind = "run", scenario = "office.toml" }\n[parameters]\nseed = [1, 2]\n'
    Path("sweep.toml").write_text(job)
    with folders.claimed(Path("out")):
        assert "another run is writing there" in refused("sweep", "sweep.toml", "--out", "out", "--parallel", 0)


def test_a_folder_s_claim_ends_with_its_process_however_that_ends(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    command = [sys.executable, "-c", HOLDER, str(out)]
    holder = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(Refused, match="another run is writing there"), folders.claimed(out):
            pass
        holder.send_signal(signal.SIGKILL)
    finally:
        holder.communicate()
    with folders.claimed(out):
        pass
    assert list(out.parent.iterdir()) == []


def test_a_claim_leaves_no_folder_behind(tmp_path: Path) -> None:
    with folders.claimed(tmp_path / "a" / "b" / "out"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_claim_keeps_to_its_own_file(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("kept")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "other")
    with pytest.raises(Refused, match="cannot be written"), folders.claimed(tmp_path / "out"):
        pass
    assert (tmp_path / "other").read_text() == "kept"


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere two renames replace a folder")
def test_a_folder_that_is_replaced_is_there_at_every_moment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    put(out, "0")
    missed: list[OSError] = []
    ended, seen = threading.Event(), threading.Event()

    def look() -> None:
        while not ended.is_set():
            try:
                os.stat(out)
            except OSError as error:
                missed.append(error)
            seen.set()

    reader = threading.Thread(target=look)
    reader.start()
    try:
        wait_until("a first look", seen.is_set)
        for number in range(300):
            put(out, str(number))
    finally:
        ended.set()
        reader.join()
    assert missed == []
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_where_folders_cannot_be_exchanged_one_replaces_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "_exchange", lambda one, other: False)
    put(tmp_path / "out", "old")
    put(tmp_path / "out", "new")
    assert (tmp_path / "out" / "text").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
