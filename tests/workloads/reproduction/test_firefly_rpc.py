"""Firefly RPC is reproduced step by step, with what stubs add, and by one to eight threads."""

from pathlib import Path

import pytest

from tests.support.reproductions import Cells, column, reproduced


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    return reproduced(tmp_path_factory.mktemp("firefly") / "run", "--only", "Firefly RPC")


def test_a_remote_null_is_its_steps_and_what_was_measured_beyond_them_is_charged_nowhere(cells: Cells) -> None:
    ours, paper = (column(cells, "Firefly RPC", "MicroVAX II", what) for what in ("ours", "paper"))
    steps = [row for row in ours if row.endswith("twice")]
    assert (len(steps), ours["runtime and stubs"]) == (13, 606)
    assert ours["Null"] == pytest.approx(2514, rel=0.05)  # few calls, whose times vary
    summed = {row for row in ours if "unaccounted" not in row} - {"Null"}
    assert {row: ours[row] for row in summed} == pytest.approx({row: paper[row] for row in summed}, abs=0.01)
    assert ours["runtime and stubs"] + sum(ours[row] for row in steps) == pytest.approx(2514)
    assert ours["1,514-byte packet, one way"] == pytest.approx(4414, abs=0.01)
    assert {row: (paper[row], ours[row]) for row in ours if "unaccounted" in row} == {
        "unaccounted, of 2,645 measured": (131, "not charged"),
        "unaccounted, of 2,660 measured": (146, "not charged"),
    }
    assert set(column(cells, "Firefly RPC", "MicroVAX II", "kind").values()) == {"input"}


@pytest.mark.long
def test_ten_thousand_nulls_take_what_the_account_says_on_average(tmp_path: Path) -> None:
    ours = column(reproduced(tmp_path / "run", "--only", "Firefly RPC", calls=10_000), "Firefly RPC", "MicroVAX II")
    assert ours["Null"] == pytest.approx(2514, rel=0.005)


def test_stubs_add_what_they_are_quoted_to_add(cells: Cells) -> None:
    ours, paper = (column(cells, "Firefly RPC stubs", "MicroVAX II", what) for what in ("ours", "paper"))
    assert len(ours) == 10
    assert ours == pytest.approx(paper, abs=0.01)


def test_what_several_threads_get_is_predicted_and_stands_beside_nothing(cells: Cells) -> None:
    found = {place: cell for place, cell in cells.items() if place[0] in ("Firefly RPC threads", "Firefly RPC busy")}
    assert {cell["paper"] for cell in found.values()} == {None}
    for (table, row, columns), cell in found.items():
        one = row == "1" if table == "Firefly RPC threads" else columns == "1 thread"
        assert cell["kind"] == ("input" if one else "predicted")
    for what, slowest_us in (("Null", 98 + 456), ("full packet", 815 + 1230)):
        took, rates = (column(cells, "Firefly RPC threads", f"{what}, {unit}") for unit in ("us", "calls/s"))
        assert list(took) == list(rates) == [str(threads) for threads in range(1, 9)]
        assert rates["2"] > 1.6 * rates["1"]
        assert rates["8"] > rates["4"] > rates["2"]
        assert max(rates.values()) < 1.15e6 / slowest_us  # no more than the slowest place serves, in few calls
        for threads in rates:
            assert took[threads] * rates[threads] == pytest.approx(1e6 * int(threads), rel=0.05)
        for side in ("caller", "server"):
            busy = column(cells, "Firefly RPC busy", "8 threads")
            parts = [row for row in busy if row.startswith(f"{what}, {side}: ")]
            assert sum(busy[row] for row in parts[1:]) == pytest.approx(busy[parts[0]], abs=0.001)
