"""Files and names from anybody are text, are read within bounds, and break nothing.

`hostile/` holds the files.
"""

import csv
import html
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Final

import pytest

from lrpc.cluster.description import describe
from lrpc.cluster.parameters import resolve
from lrpc.cluster.scenario import MOST_PARTS, ClusterTable
from lrpc.kernel.documents import read_toml, validate
from lrpc.workloads import scenarios
from lrpc.workloads.programs.registry import REGISTRY
from lrpc.workloads.records.asked import Input
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.records import read as read_record
from lrpc.workloads.runs import jobs, verify
from tests.support.command import HERE, lrpc, office, record, refused

HOSTILE: Final = Path(__file__).parent / "hostile"
COMMAND: Final = (sys.executable, "-c", "from lrpc_command import main; main()")
FORMULA: Final = re.compile(r"\s*[=+@-].")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def replayed(name: str) -> str:
    """Replay a hostile trace into the folder `out`, and return what that prints."""
    ended = lrpc("replay", HOSTILE / name, "--machines", 2, "--out", "out", *HERE)
    assert ended.code == 0, ended.err
    assert lrpc("report", "out").code == 0
    return ended.out


def is_text(shown: str) -> bool:
    """Return whether nothing in `shown` commands a terminal or turns the direction of writing."""
    return all(one.isprintable() or one == "\n" for one in shown)


class TestNamesAreShownAsTheyAre:
    def test_a_pod_that_looks_like_markup(self) -> None:
        assert "[/x]" in replayed("markup.csv")

    def test_a_file_that_looks_like_markup(self) -> None:
        assert "[bla]" in replayed("[bla].csv")

    def test_a_pod_with_commands_for_a_terminal(self) -> None:
        assert is_text(replayed("escape.csv"))
        for page in ("report.html", "report.md"):
            assert "\x1b" not in Path("out/report", page).read_text()

    def test_a_key_with_commands_for_a_terminal(self) -> None:
        line = refused("run", HOSTILE / "esc.toml")
        assert is_text(line)
        assert r"machines.fileserver.\x1b]0;pwned\x07\x1b[31m: unknown key" in line

    def test_names_that_look_like_tags_formulas_and_paths(self, folder: Path) -> None:
        assert is_text(replayed("inject.csv"))
        page = Path("out/report/report.html").read_text()
        for tag in ("<script>alert", "<img src=x", '<a href="javascript', "\u202e"):
            assert tag not in page
        assert html.escape("<script>alert(1)</script>") in page
        assert "\u202e" not in Path("out/report/report.md").read_text()
        assert {path.name for path in folder.iterdir()} == {"out"}

    def test_no_cell_of_a_csv_file_begins_a_formula(self) -> None:
        replayed("inject.csv")
        files = [*Path("out").glob("*.csv"), *Path("out/report").glob("*.csv")]
        cells = [cell for file in files for row in csv.reader(file.read_text().splitlines()) for cell in row]
        assert any(cell.startswith("'=") for cell in cells)
        for cell in cells:
            assert not FORMULA.match(cell) or re.fullmatch(r"-?[0-9.e+-]+", cell), cell

    def test_a_machine_of_a_record_that_is_verified(self) -> None:
        office(Path())
        lrpc("run", "office.toml", "--out", "out", *HERE)
        found = record(Path("out"))
        found["machines"]["\x1b[31m"] = {"digest": "0"}
        Path("out/record.json").write_text(json.dumps(found))
        ended = lrpc("verify", "out", *HERE)
        assert ended.code == 1
        assert is_text(ended.out)
        assert r"\x1b[31m" in ended.out


class TestFilesAreReadOnceAndWithinBounds:
    def test_a_record_of_a_scenario_with_crlf_is_verified(self) -> None:
        (Path() / "crlf.toml").write_bytes((HOSTILE / "crlf.toml").read_bytes().replace(b"800", b"8"))
        assert lrpc("run", "crlf.toml", "--out", "out", *HERE).code == 0
        Path("crlf.toml").unlink()
        assert lrpc("verify", "out", *HERE).out.startswith("the same: ")

    def test_a_gzipped_trace_that_is_called_toml(self) -> None:
        line = refused("replay", HOSTILE / "gz.toml", "--machines", 2, "--out", "out", *HERE)
        assert line.endswith("gz.toml: byte 1: not UTF-8, as TOML is; give the file another name")

    def test_a_whole_number_of_310_digits(self) -> None:
        assert "a whole number of more than 64 bits" in refused("run", HOSTILE / "huge-number.toml")

    def test_tables_a_thousand_deep(self) -> None:
        Path("deep.toml").write_text(".".join(["a"] * 1000) + " = 1\n")
        assert "more than 100 tables deep" in refused("run", "deep.toml")

    @pytest.mark.parametrize("path", ["/dev/zero", "/dev/stdin", "a\0b", "n" * 5000, "half \ud800"])
    def test_a_record_whose_input_is(self, path: str) -> None:
        trace = Path("t.csv")
        trace.write_bytes((HOSTILE / "markup.csv").read_bytes())
        lrpc("replay", trace, "--machines", 2, "--out", "out", *HERE)
        found = record(Path("out"))
        (found["inputs"][0]["path"], found["job"]["trace"]) = (path, path)
        Path("out/record.json").write_text(json.dumps(found))
        line = refused("verify", "out", *HERE)
        assert len(line) < 1000
        assert is_text(line)

    @pytest.mark.parametrize("name", ["n" * 5000, "a\0b.toml", "half \ud800.toml"])
    def test_the_text_in_a_record_is_run_whatever_its_file_is_called(self, name: str) -> None:
        office(Path())
        lrpc("run", "office.toml", "--out", "out", *HERE)
        found = record(Path("out"))
        found["inputs"][0]["path"] = name
        Path("out/record.json").write_text(json.dumps(found))
        assert lrpc("verify", "out", *HERE).out.startswith("the same: ")

    def test_what_was_hashed_is_what_runs(self, monkeypatch: pytest.MonkeyPatch) -> None:
        trace = Path("t.csv")
        trace.write_bytes((HOSTILE / "markup.csv").read_bytes())
        lrpc("replay", trace, "--machines", 2, "--out", "out", *HERE)

        def read_and_change(argument: str, path: Path) -> Input:
            found = jobs.read_input(argument, path)
            trace.write_text("changed after its digest was taken")
            return found

        monkeypatch.setattr(verify, "read_input", read_and_change)
        assert lrpc("verify", "out", *HERE).out.startswith("the same: ")


class TestWhatPreparationCostsIsWorkedOutFirst:
    @pytest.mark.parametrize("name", ["bomb-machines.toml", "bomb-threads.toml"])
    def test_a_small_file_that_describes_too_much(self, name: str) -> None:
        began = time.monotonic()
        line = refused("run", HOSTILE / name, "--dry-run")
        assert time.monotonic() - began < 5.0  # of which reading the file is a hundredth
        assert re.search(r"describes [0-9,]+ machines, .*; at most 500,000 are prepared; .* --limit [0-9]+$", line)

    def test_a_hundred_thousand_machines_of_which_two_have_one_name(self) -> None:
        began = time.monotonic()
        assert refused("run", HOSTILE / "dup-names.toml").endswith("machines: two are called zz01; rename one")
        assert time.monotonic() - began < 30.0  # it takes one; comparing each with each took minutes

    def test_long_names_count(self) -> None:
        Path("long.toml").write_text(
            f'name = "x"\n[machines.{"m" * 10_000}]\ncount = 10_000\n[domains.d]\nmachine = "m"\n'
        )
        text = Path("long.toml").read_text().replace('machine = "m"', f'machine = "{"m" * 10_000}"')
        Path("long.toml").write_text(text)
        assert "--limit" in refused("run", "long.toml")

    def test_a_trace_on_too_many_processors(self) -> None:
        line = refused("replay", HOSTILE / "markup.csv", "--machines", 100_000, "--processors", 1024)
        assert "describes 102,500,000 machines" in line
        line = refused("place", HOSTILE / "markup.csv", "--machines", 1000, "--processors", 1024)
        assert "describes 1,025,000 machines" in line
        assert "add --limit" in line

    def test_a_limit_is_raised_by_its_option(self) -> None:
        office(Path())
        assert "at most 30 are prepared; describe fewer, or add --limit " in refused(
            "run", "office.toml", "--dry-run", "--limit", 30
        )
        assert lrpc("run", "office.toml", "--out", "out", "--limit", 40, *HERE).code == 0
        assert "--limit" in refused("verify", "out", "--limit", 10, *HERE)
        assert lrpc("verify", "out", "--limit", 40, *HERE).code == 0

    def test_the_runs_of_a_sweep_count_in_sum(self) -> None:
        office(Path())
        Path("sweep.toml").write_text(
            'name = "s"\njob = { kind = "run", scenario = "office.toml" }\n'
            '[parameters]\n"machines.workstation.processors" = [1, 2, 3]\n'
        )
        assert "the runs up to run 3" in refused("sweep", "sweep.toml", "--out", "o", "--limit", 700, "--dry-run")
        assert lrpc("sweep", "sweep.toml", "--out", "o", "--limit", 720, "--dry-run").code == 0

    def test_ten_thousand_machines_are_within_the_limit(self) -> None:
        tables = read_toml(scenarios.find("office"))
        tables["machines"]["workstation"]["count"] = 10_000  # type: ignore[index]
        table = validate(ClusterTable, resolve(tables, "office").tables, "office")
        assert table.parts < MOST_PARTS / 2

    def test_a_description_has_the_parts_that_were_counted(self) -> None:
        table = validate(ClusterTable, resolve(read_toml(scenarios.find("office")), "office").tables, "office")
        assert describe(table, REGISTRY, "office").parts == table.parts


def carried_out(*arguments: str | bytes, **streams: Any) -> "subprocess.CompletedProcess[bytes]":
    """Run the command in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([*COMMAND, *arguments], env=environment, timeout=120, check=False, **streams)


class TestStreamsAndPaths:
    def test_a_path_that_is_not_utf_8(self) -> None:
        os.mkdir(b"f\xff")
        Path(os.fsdecode(b"f\xff/t.csv")).write_bytes((HOSTILE / "markup.csv").read_bytes())
        ended = carried_out("replay", b"f\xff/t.csv", "--machines", "2", *HERE, capture_output=True)
        assert ended.returncode == 2
        assert ended.stderr == b"lrpc: argument 2: f\\udcff/t.csv: not UTF-8; rename it\n"

    @pytest.mark.parametrize("stream", ["stdout", "stderr"])
    def test_a_run_whose_stream_is_closed(self, stream: str) -> None:
        office(Path())
        number = {"stdout": 1, "stderr": 2}[stream]
        ended = carried_out(
            *("run", "office.toml", "--out", "out", *HERE), capture_output=True, preexec_fn=lambda: os.close(number)
        )
        assert ended.returncode == 0
        assert b"Traceback" not in ended.stderr
        assert read_record(Path("out")).status == "complete"

    def test_a_run_whose_stdout_is_full_keeps_its_record(self) -> None:
        office(Path())
        with open("/dev/full", "wb") as full:
            ended = carried_out("run", "office.toml", "--out", "out", *HERE, stdout=full, stderr=subprocess.PIPE)
        assert ended.returncode == 3
        assert ended.stderr == b"lrpc: standard output cannot be written: No space left on device\n"
        found: Record = read_record(Path("out"))
        assert found.status == "complete"

    def test_a_refusal_whose_stderr_is_full_keeps_its_exit_code(self) -> None:
        with open("/dev/full", "wb") as full:
            ended = carried_out("run", "nowhere.toml", stdout=subprocess.PIPE, stderr=full)
        assert (ended.returncode, ended.stdout) == (2, b"")
