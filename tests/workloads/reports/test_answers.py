"""A report opens with a sentence that says what came out, and with pictures of it."""

from dataclasses import replace
from html import unescape
from pathlib import Path

import pytest

from lrpc.workloads.records import records
from lrpc.workloads.records.call_tables import IN_WORDS
from lrpc.workloads.records.records import Record
from lrpc.workloads.records.tables import Table
from lrpc.workloads.reports import page, web
from lrpc.workloads.reports.grids import Grid, as_rows
from lrpc.workloads.reports.page import Report
from lrpc.workloads.reports.plots import Plot
from lrpc.workloads.reports.sections import Note
from lrpc.workloads.reports.waterfalls import waterfalls
from lrpc.workloads.reports.words import number
from tests.support.command import HERE, lrpc, office

FIGURE_2 = {("Figure 2", "LRPC", "1"), ("Figure 2", "SRC RPC", "4")}
SAMPLE = Path(__file__).parents[3] / "workloads" / "traces" / "sample-trace.csv"


def sentence(made: Report) -> str:
    """Return the sentence that a report opens with."""
    first = made.answer[0]
    assert isinstance(first, Note)
    return first.text


def pictures(made: Report) -> dict[str, Plot]:
    return {part.title: part for part in made.answer if isinstance(part, Plot)}


def table(made: Report, name: str) -> Table:
    (found,) = (one for one in made.tables if one.name == name)
    return found


def replay(out: Path, placement: str = "spread") -> Record:
    run = ("replay", SAMPLE, "--machines", 2, "--placement", placement, *HERE, "--out", out)
    assert lrpc(*run).code == 0
    return records.read(out)


def shown(plot: Plot) -> set[tuple[str, str, float]]:
    """Return what a picture of bars shows: the name, the part and the value of each."""
    layout, data = plot.figure["layout"], plot.figure["data"]
    assert isinstance(layout, dict)
    assert isinstance(data, list)
    found: set[tuple[str, str, float]] = set()
    for bars in (one for one in data if one["type"] == "bar"):
        across = bars.get("orientation") == "h"
        names = layout["yaxis" if across else "xaxis"]["ticktext"]
        values = bars.get("customdata") or bars["x" if across else "y"]
        rows = zip(names, values, strict=True)
        found |= {(unescape(name), unescape(bars.get("name", "")), value) for name, value in rows if value}
    return found


def told(plot: Plot) -> set[tuple[str, str, float]]:
    """Return what the text of a picture says: of each bar its own value, and those of its parts."""
    own = {(name, "", value) for name, value, _ in plot.told if value is not None}
    return own | {(name, part, value) for name, _, parts in plot.told for part, value in parts}


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Record:
    folder = tmp_path_factory.mktemp("ran")
    assert lrpc("run", office(folder), *HERE, "--out", folder / "run").code == 0
    return records.read(folder / "run")


@pytest.fixture(scope="module")
def replays(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Record]:
    folder = tmp_path_factory.mktemp("replays")
    return {str(folder / name): replay(folder / name, name) for name in ("spread", "pack")}


def test_a_run_says_what_crosses_beside_1989(ran: Record) -> None:
    made = page.report({"run": ran})
    crossing = ran.counts["cross_machine"]
    operations = ran.counts["trap"] + ran.counts["cross_domain"] + crossing
    assert sentence(made).startswith(
        f"{100 * crossing / operations:.2f} % of operations cross machines (remote/total): {crossing:,} of"
    )
    assert "in 1989, 3 % on V, 5.06 % on Taos, 0.6 % on Sun UNIX+NFS" in sentence(made)
    shares = dict(pictures(made)["Operations that cross machines, of all (remote/total)"].bars)
    assert shares["V, 1989"] == 3.0
    assert shares["office"] == pytest.approx(100 * crossing / operations)
    busy = dict(pictures(made)["What processors' time went to, apart from idling"].bars)
    assert set(busy) == set(ran.machines)


def test_a_replay_says_what_a_trace_takes_beside_the_recorded_time(replays: dict[str, Record]) -> None:
    (record, _) = replays.values()
    assert record.trace is not None
    made = page.report({"replay": record})
    whole = record.trace.times[-1]
    assert whole.simulated_ns is not None
    assert f"A trace takes {whole.simulated_ns / record.trace.traces / 1e6:,.1f} ms on average" in sentence(made)
    (times,) = (plot for title, plot in pictures(made).items() if title.startswith("Where a trace's time went"))
    assert [name for name, _ in times.bars] == ["recorded", "simulated"]
    (pairs,) = (plot for title, plot in pictures(made).items() if title.startswith("The costliest pairs"))
    values = [value for _, value in pairs.bars if value is not None]
    assert values == sorted(values, reverse=True)
    assert "recorded_p95_us" in table(made, "operations").columns


def test_the_parts_of_a_picture_add_up_to_the_time_that_it_tells(replays: dict[str, Record]) -> None:
    (record, _) = replays.values()
    made = page.report({"replay": record})
    (times,) = (plot for title, plot in pictures(made).items() if title.startswith("Where a trace's time went"))
    bars = times.figure["data"]
    assert isinstance(bars, list)
    for at, (_, whole) in enumerate(times.bars):
        assert sum(bar["x"][at] for bar in bars) == pytest.approx(whole, rel=1e-3)


def test_the_text_of_a_picture_says_all_that_the_picture_shows(ran: Record, replays: dict[str, Record]) -> None:
    (record, _) = replays.values()
    made = [page.report({"run": ran}), page.report({"replay": record}), page.report(replays)]
    seen = [plot for report in made for plot in pictures(report).values()]
    assert len(seen) == 6
    for plot in seen:
        assert shown(plot) <= told(plot), plot.title
        assert len(shown(plot)) > 1
        said = " ".join(plot.text)
        for name, part, value in shown(plot):
            assert {name in said, part in said, number(value) in said} == {True}
            assert number(value) in web.told(plot)


def test_a_replay_draws_its_slowest_traces_span_by_span(replays: dict[str, Record]) -> None:
    (record, _) = replays.values()
    (section,) = (one for one in page.report({"replay": record}).sections if one.title == "The slowest traces")
    *pictures, table = section.parts
    assert isinstance(table, Table)
    assert [len(one.bars) for one in pictures if isinstance(one, Plot)] == [9, 7, 6]
    took = [float(str(row[1])) for row in table.rows]
    assert took == sorted(took, reverse=True)
    (first, *_) = (one for one in pictures if isinstance(one, Plot))
    assert first.title.startswith("0fee392")
    assert "48.8 ms as recorded, 40.4 ms in the replay" in first.title
    assert [key.name for key in first.legend] == ["first span", *IN_WORDS.values()]


@pytest.mark.parametrize("spoil", [["trace"], [""] * 9, ["x"] * 9, []])
def test_rows_of_slow_traces_that_make_no_picture_do_no_harm(spoil: list[str], replays: dict[str, Record]) -> None:
    (record, _) = replays.values()
    assert record.trace is not None
    more = [replace(one, rows=[spoil, *one.rows]) if one.name == "slowest" else one for one in record.trace.more]
    found = list(waterfalls(replace(record, trace=replace(record.trace, more=more))))
    assert [len(one.bars) for one in found if isinstance(one, Plot)] == [9, 7, 6]


def test_replays_of_one_trace_are_compared_as_placements(replays: dict[str, Record]) -> None:
    before, after = replays.values()
    made = page.report(replays)
    counts = [record.counts["cross_machine"] for record in (before, after)]
    assert f"With pack, {counts[1]:,} of" in sentence(made)
    assert f"in place of {counts[0]:,} with spread" in sentence(made)
    calls, shares, *_ = table(made, "placements").rows
    assert calls == ("cross-machine calls", *counts, pytest.approx(counts[1] / counts[0] - 1))
    assert shares[3] == f"{float(shares[2] or 0) - float(shares[1] or 0):+.2f} points"  # of percentages
    moved = table(made, "moved")
    assert moved.rows
    assert all(row[1] != row[2] for row in moved.rows)
    pairs = table(made, "pairs")
    assert [sum(int(row[at] or 0) for row in pairs.rows) for at in (3, 4)] == counts


def test_equal_replays_are_said_to_be_equal(replays: dict[str, Record]) -> None:
    (record, _) = replays.values()
    made = page.report({"first": record, "again": record})
    assert sentence(made).count("as with first") == 2
    said = " ".join(part.text for part in made.answer if isinstance(part, Note))
    assert "did the same, event by event" in said
    assert "No domain moved." in said
    assert "0.0 %" not in said
    assert "in place of" not in said
    assert [one.name for one in made.tables if one.name == "moved"] == []
    assert {row[-1] for row in table(made, "placements").rows} == {None}


def test_replays_of_different_traces_are_no_placements(replays: dict[str, Record]) -> None:
    before, after = replays.values()
    other = replace(after, inputs=[replace(one, digest="0" * 64) for one in after.inputs])
    assert "With" not in sentence(page.report({"a": before, "b": other}))


def test_runs_on_more_actors_say_how_much_faster_they_are_and_what_was_predicted(ran: Record) -> None:
    synchronisation = {"predicted_speedup": {"2": 1.9}}
    one = replace(ran, actors=1, wall_s=2.0, synchronisation=synchronisation)
    two = replace(ran, actors=2, wall_s=1.25)
    two_rate = sum(ran.counts[name] for name in ("within_domain", "cross_domain", "cross_machine")) / 1.25
    made = page.report({"two": two, "one": one})
    assert "2 actors are 1.60 times as fast as 1; predicted: 1.90 times" in sentence(made)
    (speed,) = pictures(made).values()
    assert [(key.name, key.form) for key in speed.legend] == [
        ("office, 3 machines", "line"),
        ("office, 3 machines, predicted", "dashed"),
    ]
    assert table(made, "scaling actors").rows[1][1:] == (2, pytest.approx(two_rate), pytest.approx(1.6), 1.9)


def test_runs_that_did_the_same_say_so(ran: Record) -> None:
    assert "did the same, event by event" in sentence(page.report({"a": ran, "b": ran}))


def test_a_reproduction_says_what_is_predicted_and_how_far_that_is_from_the_paper(tmp_path: Path) -> None:
    run = ("reproduce", "--calls", 10, "--only", "IV", "--only", "Figure 2", *HERE, "--out", tmp_path / "run")
    assert lrpc(*run).code == 0
    record = records.read(tmp_path / "run")
    made = page.report({"reproduce": record})
    predicted = [cell for cell in record.cells if cell.kind == "predicted"]
    beside = sum(cell.paper is not None for cell in predicted)
    worst = max(abs(cell.deviation or 0.0) for cell in predicted)
    assert beside < sum(cell.paper is not None for cell in record.cells)
    assert f"{beside} of {len(predicted)} predictions stand beside a figure of the paper; furthest" in sentence(made)
    assert f"{100 * worst:.1f} % (Table IV" in sentence(made)
    four, two = pictures(made).values()
    assert shown(four) == told(four)  # ours and the paper's
    assert ("Null", "Taos, the paper's", 464.0) in told(four)
    assert [key.form for key in four.legend] == ["area", "hatched"] * 3
    forms = {key.name: key.form for key in two.legend}
    assert forms["LRPC, the paper's"] == "points"  # never joined
    assert forms["LRPC, ours, what if"] == "dashed"  # beyond the paper
    said = {name: value for name, value, _ in two.told}
    assert {said[f"{one}, the paper's, {row}"] for one, row in (("LRPC", 1), ("SRC RPC", 4))} == {
        cell.paper for cell in record.cells if (cell.table, cell.column, cell.row) in FIGURE_2
    }
    (grid,) = (part for part in made.parts if isinstance(part, Grid) and part.title.startswith("Table IV: four"))
    heads, null, *_ = as_rows(grid)
    assert heads == ("", "LRPC/MP", "LRPC", "Taos")
    assert null == ("Null", "125.0 (125) ◐", "157.0 (157) ○", "464.0 (464) ◐")


def test_a_placement_has_a_page_with_what_it_saves_and_what_moved(tmp_path: Path) -> None:
    run = ("place", SAMPLE, "--machines", 2, "--slack", 1.7, *HERE, "--record", tmp_path / "place")
    ended = lrpc(*run, "--out", tmp_path / "placement.toml")
    assert ended.code == 0
    *_, page, answer = ended.out.splitlines()
    assert page == f"report {tmp_path / 'place' / 'report' / 'report.html'}"
    text = (tmp_path / "place" / "report" / "report.html").read_text()
    assert answer in text.replace("&nbsp;", " ")
    assert {"placements.csv", "moves.csv", "pairs.csv"} <= {
        path.name for path in (tmp_path / "place" / "report").iterdir()
    }


def test_an_incomplete_run_has_no_answer(ran: Record) -> None:
    assert page.report({"run": replace(ran, status="incomplete", reason="killed")}).answer == []
