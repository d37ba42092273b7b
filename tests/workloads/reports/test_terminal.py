"""What a terminal, a file and a pipe show: whole figures and names, the answer last, no zeros."""

import re
from io import StringIO
from pathlib import Path
from typing import Final

import pytest

from lrpc.workloads.records.tables import Table
from lrpc.workloads.reports import terminal
from lrpc.workloads.reports.words import number
from tests.support.command import HERE, lrpc, office
from tests.support.places import SAMPLE

POD: Final = "recommendationservice-6cfdd55578-gfj6q"
GAPS: Final = Table(
    "gaps",
    "Gaps",
    ("caller", "callee", "calls", "total_us", "percent_of_all_gaps", "p50_us", "p95_us", "p99_us"),
    [(POD, "productcatalogservice-668d5f85fb-jhwx9", 1_438, 69_979_895.8, 81.97, 7_209.1, 193_811.5, 350_925.1)],
)
STEPS: Final = Table(
    "steps",
    "Steps",
    ("at_us", "in", "what", "source", "code"),
    [(22.0, "client", "take an A-stack off its queue, or put it back", "section 3.4 " * 6, "AStackGroup.put_back")],
)


def shown(table: Table, width: int | None) -> list[str]:
    """Return the lines of a table in a terminal that is so wide, or in a pipe."""
    out = StringIO()
    console = terminal.PlainConsole(file=out, force_terminal=width is not None, width=width or terminal.ANY_WIDTH)
    terminal.print_table(console, table)
    return re.sub(r"\x1b\[[0-9;]*m", "", out.getvalue()).splitlines()


@pytest.mark.parametrize("table", [GAPS, STEPS])
@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_terminal_has_each_figure_and_each_word_whole_within_its_columns(table: Table, width: int) -> None:
    lines = shown(table, width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for value in table.rows[0]:
        for word in terminal._in_words(value).split():
            assert (word in text) or word.removesuffix("-6cfdd55578-gfj6q").removesuffix("-668d5f85fb-jhwx9") in text
    assert "…" not in text


def test_a_pipe_has_names_whole_on_one_line_however_long() -> None:
    lines = shown(GAPS, None)
    (row,) = [line for line in lines if POD in line]
    assert "productcatalogservice-668d5f85fb-jhwx9" in row
    assert "69,979,895.8" in row


def test_columns_without_values_are_left_out() -> None:
    lines = shown(Table("one", "One", ("name", "nothing", "calls"), [("a", None, 1), ("b", "", 2)]), 80)
    assert "nothing" not in "\n".join(lines)


def test_a_run_ends_with_its_answer_and_counts_nothing_that_is_zero(tmp_path: Path) -> None:
    ended = lrpc("run", office(tmp_path), *HERE, "--out", tmp_path / "run")
    *_, digest, record, answer, time = ended.out.splitlines()
    assert re.match(r"[\d.]+ % of operations cross machines \(remote/total\): ", answer)
    assert time.startswith("Processors' time went ")
    assert (digest.split()[0], record) == ("digest", f"record {tmp_path / 'run'}")
    counts = ended.out.partition("Counts")[2].partition("Latency")[0]
    assert "cross-machine calls" in counts
    assert "cross_machine" not in ended.out
    assert not re.search(r"│ +0 │", counts)


def test_a_replay_and_a_placement_end_with_their_answers(tmp_path: Path) -> None:
    replayed = lrpc("replay", SAMPLE, "--machines", 2, *HERE, "--out", tmp_path / "run").out
    assert "6 of 11 calls that leave their domain cross machines" in replayed.splitlines()[-1]
    where = ("--out", tmp_path / "found.toml", "--record", tmp_path / "place")
    placed = lrpc("place", SAMPLE, "--machines", 2, "--slack", 1.7, *HERE, *where).out
    assert placed.splitlines()[-1].startswith("2 of 11 calls cross machines, in place of 6")


def test_microseconds_have_one_spelling_wherever_they_are_shown(tmp_path: Path) -> None:
    made = ("--out", tmp_path / "run", "--timeline", "--events", tmp_path / "log")
    placed = ("--weight", "gaps", "--out", tmp_path / "found.toml", "--record", tmp_path / "place")
    for command in (
        ("run", office(tmp_path), *HERE, *made),
        ("reproduce", "--calls", 10, "--only", "IV", "--only", "V", *HERE, "--out", tmp_path / "paper"),
        ("replay", SAMPLE, "--machines", 2, *HERE, "--out", tmp_path / "replay"),
        ("place", SAMPLE, "--machines", 2, "--slack", 1.7, *HERE, *placed),
        ("explain", "Add", "--out", tmp_path / "add"),
        ("events", tmp_path / "log", "--words"),
        ("list",),
    ):
        ended = lrpc(*command)
        assert ended.code == 0, ended
        lines = [line for line in (ended.out + ended.err).splitlines() if re.search(r"\b(us|microseconds?)\b", line)]
        assert lines == [], command
        assert "µs" in ended.out, command
    page = (tmp_path / "add" / "report.md").read_text()
    assert not re.search(r"\b(us|microseconds?)\b", page)


@pytest.mark.parametrize("value", [0.25, 3.0, 47.9, 1234.5, 0.0])
def test_a_terminal_writes_numbers_as_a_page_does(value: float) -> None:
    (line,) = [
        line
        for line in shown(Table("one", "One", ("name", "x"), [("a", value or 0.0), ("b", 1.0)]), 80)
        if "│ a" in line
    ]
    assert number(value) in line
