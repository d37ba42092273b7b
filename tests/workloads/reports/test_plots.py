"""Pictures have a text that says all that they show, and colours that everybody tells apart."""

import re
from itertools import combinations

import pytest

from lrpc.workloads.reports import plots, web
from lrpc.workloads.reports.plots import COLOURS
from tests.support.colours import DICHROMACIES, PLAINLY, contrast, distance

NAMES = ["memory_kb", "think_s"]


def test_a_tornado_tells_what_the_share_comes_to_at_either_end_and_how_far_that_is() -> None:
    plot = plots.tornado("How far", NAMES, [(1.5, 4.0), (3.0, 2.0)], 2.5, "%")
    assert plot.told == [
        (
            "memory_kb",
            None,
            [("with the least value", 1.5), ("with the greatest value", 4.0), ("how far apart these are", 2.5)],
        ),
        (
            "think_s",
            None,
            [("with the least value", 3.0), ("with the greatest value", 2.0), ("how far apart these are", 1.0)],
        ),
    ]
    assert web.told(plot) == (
        "How far: memory_kb: with the least value 1.50, with the greatest value 4.00, how far apart these are 2.50; "
        "think_s: with the least value 3.00, with the greatest value 2.00, how far apart these are 1.00"
    )


def test_stacked_bars_tell_the_parts_that_they_have_and_what_these_come_to() -> None:
    plot = plots.stacked("Time", NAMES, {"work": [1.0, 2.0], "waits": [0.5, 0.0]}, "ms", [1.5, 2.0])
    assert web.told(plot) == "Time: memory_kb: 1.50 (work 1.00, waits 0.5); think_s: 2.00 (work 2.00)"
    assert [line.split("█")[0].split() for line in plot.text] == [
        ["memory_kb", "1.50"],
        ["work", "1.00"],
        ["waits", "0.5"],
        ["think_s", "2.00"],
        ["work", "2.00"],
    ]
    lengths = {line.split()[0]: line.count("█") for line in plot.text[:3]}
    assert lengths["memory_kb"] == lengths["work"] + lengths["waits"]  # on one scale


def test_a_waterfall_tells_when_each_bar_begins_and_of_which_kind_it_is() -> None:
    kinds = ["first span", "cross-machine calls"]
    plot = plots.waterfall("Trace", ["frontend", "cart"], kinds, [0.0, 1.25], [4.0, 2.0], "ms", kinds)
    assert web.told(plot) == "Trace: frontend: 4.00 from 0.00, first span; cart: 2.00 from 1.25, cross-machine calls"
    assert [line.split("█")[-1].strip() for line in plot.text] == [
        "from 0.00, first span",
        "from 1.25, cross-machine calls",
    ]


def test_bars_beside_each_other_tell_each_also_where_it_is_none() -> None:
    plot = plots.stacked("Calls", ["a → b", "b → c"], {"spread": [12.0, 3.0], "pack": [0.0, 4.0]}, "calls", None)
    assert web.told(plot) == "Calls: a → b: spread 12.00, pack 0.00; b → c: spread 3.00, pack 4.00"
    grouped = plots.grouped("Table", NAMES, {"ours": [1.0, 2.0], "ours, the paper's": [1.5, None]}, "us")
    assert web.told(grouped) == "Table: memory_kb: ours 1.00, ours, the paper's 1.50; think_s: ours 2.00"


@pytest.mark.parametrize("view", DICHROMACIES)
def test_the_colour_blind_tell_all_colours_apart(view: str) -> None:
    least = min((distance(*pair, DICHROMACIES[view]), pair) for pair in combinations(COLOURS, 2))
    assert least[0] > 15, least


def test_colours_stand_out_on_both_grounds_and_from_each_other() -> None:
    grounds = re.findall("--paper: (#[0-9a-f]+)", web.STYLE)[:2]
    assert grounds == ["#fff", "#14191f"]
    for ground in ("#ffffff", "#14191f"):
        assert min(contrast(colour, ground) for colour in COLOURS) > 2.2
    assert min(distance(*pair, PLAINLY) for pair in combinations(COLOURS, 2)) > 25


def test_colours_that_some_take_for_the_same_are_found_out() -> None:
    assert distance("#e69f00", "#b8a800", DICHROMACIES["protanopia"]) < 2.3 < distance("#e69f00", "#b8a800", PLAINLY)
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
