"""What users' code prints on actors is shown here, with the machine that printed it."""

from pathlib import Path

import pytest

from lrpc.cluster.on_ray.printed import LONGEST_LINE, MOST_LINES, Lines, PrintedLine, Shown
from tests.support.command import lrpc
from tests.support.town import town


@pytest.fixture
def lines() -> Lines:
    return Lines(lambda: "home")


def show(waiting: list[PrintedLine]) -> None:
    """Show these lines."""

    def ask() -> list[PrintedLine]:
        found, waiting[:] = list(waiting), []
        return found

    Shown(ask).stop(last=True)


def test_lines_are_kept_whole_and_each_is_taken_once(lines: Lines) -> None:
    out, err = lines.writer("stdout"), lines.writer("stderr")
    print("one", "two", file=out)
    out.write("three ")
    print("wrong", file=err)
    print("four", file=out)
    assert lines.taken() == [
        ("home", "stdout", "one two", 8),
        ("home", "stderr", "wrong", 6),
        ("home", "stdout", "three four", 19),
    ]
    out.write("without an end")
    assert lines.taken() == [("home", "stdout", "without an end", 33)]
    assert lines.taken() == []


def test_code_that_prints_without_end_loses_lines_and_is_told_how_many(lines: Lines) -> None:
    out = lines.writer("stdout")
    for number in range(MOST_LINES + 5):
        print(number, file=out)
    found = lines.taken()
    assert len(found) == MOST_LINES + 1
    assert found[-1][:3] == ("home", "stderr", "(5 more lines were lost)")
    out.write("x" * (LONGEST_LINE + 1))
    assert [len(text) for _, _, text, _ in lines.taken()] == [LONGEST_LINE, 1]


def test_what_is_shown_is_text_and_goes_to_the_stream_that_it_was_printed_on(
    capsys: pytest.CaptureFixture[str],
) -> None:
    show([("home", "stdout", "red \x1b[31m", 9), ("market", "stderr", "wrong", 6)])
    said = capsys.readouterr()
    assert said.out == "home: red \\x1b[31m\n"
    assert said.err == "market: wrong\n"


def test_what_a_machine_prints_again_is_shown_once_however_its_lines_were_divided(
    capsys: pytest.CaptureFixture[str],
) -> None:
    first, again = Lines(lambda: "home"), Lines(lambda: "home")
    out = first.writer("stdout")
    out.write("one\ntw")
    lines = first.taken()
    out.write("o\n")
    lines += first.taken()
    again.writer("stdout").write("one\ntwo\nthree\n")
    show([*lines, *again.taken()])
    assert capsys.readouterr().out == "home: one\nhome: tw\nhome: o\nhome: three\n"


@pytest.mark.usefixtures("on_ray")
class TestOnRay:
    def test_each_line_comes_with_its_machine(self, tmp_path: Path) -> None:
        scenario, registry = town(tmp_path)
        ended = lrpc("run", scenario, "--registry", registry, "--actors", 2, "--out", tmp_path / "run")
        assert (ended.code, ended.err) == (0, "")
        shown = [line for line in ended.out.splitlines() if line.startswith(("home: ", "market: "))]
        assert sorted(shown) == [
            *(f"home: bought {2 * n}" for n in range(3)),
            *(f"market: sold {n}" for n in range(3)),
        ]

    def test_where_a_server_raised_is_in_the_record_and_the_programs_traceback_is_told(self, tmp_path: Path) -> None:
        scenario, registry = town(tmp_path, sells=1)
        options = ("--registry", registry, "--actors", 2, "--out", tmp_path / "run", "--tracebacks")
        ended = lrpc("run", scenario, *options)
        assert ended.code == 3
        assert f'File "{tmp_path / "town.py"}", line 32, in run' in ended.err
        assert "ValueError: cannot sell 1" in ended.err.splitlines()[-1]
        reason = (tmp_path / "run" / "record.json").read_text()
        assert f"raised at {tmp_path / 'town.py'}, line 32, in run" in reason
        assert f"market: ValueError raised in the server at {tmp_path / 'town.py'}, line 21, in sold" in reason
