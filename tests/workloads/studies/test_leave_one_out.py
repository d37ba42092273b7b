"""Table I's systems predicted by people fitted on another: who is drawn alike, and what is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from lrpc.workloads.records.tables import Table
from lrpc.workloads.studies import leave_one_out, sweep
from tests.support.command import lrpc, refused

FEW = 3


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> sweep.Sweep:
    """Return three short draws of all systems, carried out."""
    found = leave_one_out.prepare(FEW, 0.05, 5, tmp_path_factory.mktemp("systems"), ["lrpc", "systems"])
    assert sweep.carry_out(found, 0, None, lambda number, problem: None) == {}
    return found


def intervals(table: Table) -> dict[tuple[object, object], tuple[object, ...]]:
    return {(row[0], row[1]): tuple(row[2:6]) for row in table.rows}


def test_all_systems_of_a_draw_have_the_same_people_and_own_systems(done: sweep.Sweep) -> None:
    for number in range(FEW):
        taos, v, sun = (run.values for run in done.runs[3 * number : 3 * number + 3])
        for name in leave_one_out.PEOPLE:
            key = f"parameters.{name}.value"
            assert taos[key] == v[key] == sun[key], name
        events = ("processes.person.tasks.edit.events.value", "processes.daemons.tasks.poll.statuses.value")
        for amount in events:
            (one,) = {values[key] for values in (taos, v, sun) for key in values if key.endswith(amount)}
            assert one
        # Both have these, with ranges of their own: nothing ties one system's to the other's.
        memory = [_place(values["parameters.memory_kb.value"], 4096, 8192) for values in (v, sun)]
        assert memory[0] != memory[1]
        assert not any("hours.value" in key and "awake" not in key and "day" not in key for key in sun)


def _place(value: Any, low: float, high: float) -> float:
    assert low <= value <= high
    return float((value - low) / (high - low))


def test_before_any_fit_every_draw_counts(done: sweep.Sweep) -> None:
    found = intervals(leave_one_out.compare(sweep.rows(done)))
    assert len(found) == 9
    for system in leave_one_out.SYSTEMS:
        draws, low, middle, high = found[system, "not fitted"]
        assert draws == FEW
        shares = sorted(row.share or 0 for row in sweep.rows(done) if row.run.folder.name.endswith(f"-{system}"))
        assert middle == round(shares[1], 2)
        assert shares[0] - 0.01 <= float(str(low)) <= float(str(high)) <= shares[2] + 0.01
        assert (system, f"fitted on {system}") not in found


def test_people_fitted_on_a_system_are_those_of_draws_near_the_papers_share(
    done: sweep.Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leave_one_out, "NEAR", float("inf"))
    found = intervals(leave_one_out.compare(sweep.rows(done)))
    assert all(interval == found[system, "not fitted"] for (system, _), interval in found.items())
    results = sweep.rows(done)[1::3]
    off = [max(row.share / row.paper, row.paper / row.share) for row in results if row.share and row.paper]
    monkeypatch.setattr(leave_one_out, "NEAR", sorted(off)[1] * 1.0001)
    found = intervals(leave_one_out.compare(sweep.rows(done)))
    assert found["sun", "fitted on v"][0] == 2
    kept = [row.share or 0 for row, one in zip(sweep.rows(done)[2::3], off, strict=True) if one <= sorted(off)[1]]
    assert found["sun", "fitted on v"][2] == pytest.approx(sum(kept) / 2, abs=0.01)


def test_the_answer_says_which_predictions_hold_the_papers_share() -> None:
    def told(*rows: tuple[str, str, str]) -> str:
        lines = [(system, people, 9, 1.0, 2.0, 3.0, 2.0, where) for system, people, where in rows]
        return leave_one_out.answer(Table("systems", "Systems", leave_one_out.COLUMNS, lines))

    beside = "intervals by people fitted on another system hold the paper's share"
    first, second = ("v", "not fitted", "above"), ("v", "fitted on sun", "inside")
    assert told(first, second) == f"1 of 1 {beside}."
    third, few = ("sun", "fitted on v", "below"), ("taos", "fitted on sun", "")
    assert told(first, second, third, few) == (
        f"1 of 2 {beside}; not those of sun by people fitted on v (below); "
        "1 had too few draws near the paper's share to have an interval."
    )


def test_people_tie_all_pairs_of_systems(done: sweep.Sweep) -> None:
    found = leave_one_out.ties(sweep.rows(done))
    assert list(found) == [("taos", "v"), ("taos", "sun"), ("v", "sun")]
    # Three draws in order have one of six ranks.
    assert all(any(rank == pytest.approx(one) for one in (-1, -0.5, 0.5, 1)) for rank in found.values())


def test_the_command_resumes_its_folder_and_prints_what_it_wrote(tmp_path: Path) -> None:
    few = ("--out", tmp_path / "systems", "--draws", 2, "--scale", 0.01, "--parallel", 0)
    assert lrpc("systems", *few, "--dry-run").out.startswith("systems: 6 runs, 0 of them done")
    first = lrpc("systems", *few, "--json")
    assert first.code == 0, first
    assert [row["people"] for row in json.loads(first.out)][:3] == ["not fitted", "fitted on v", "fitted on sun"]
    assert lrpc("systems", *few, "--dry-run").out.startswith("systems: 6 runs, 6 of them done")
    assert lrpc("systems", *few, "--json").out == first.out
    *_, paths, said = lrpc("systems", *few).out.splitlines()
    assert paths.startswith(f"records {tmp_path / 'systems'}")
    assert "intervals by people fitted on another system hold the paper's share" in said
    assert "--draws" in refused("systems", "--out", tmp_path / "other", "--draws", 1)
