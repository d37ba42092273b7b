"""A reproduction ends with a verdict: how figures of each kind stand beside the paper's."""

from lrpc.workloads.records.cells import Cell
from lrpc.workloads.reports.terminal import verdict

CELLS = [
    Cell("IV", "Null", "LRPC", 157.0, 157.0, "us", "input"),
    Cell("IV", "Add", "Taos", 480.0, 472.8, "us", "predicted"),
    Cell("IV", "BigIn", "Taos", 100.0, 104.0, "us", "predicted"),
    Cell("Figure 2", "5", "speed-up", None, 4.0, "x", "predicted"),
    Cell("III", "return", "LRPC", "F", "F", "copies", "predicted"),
    Cell("Figure 1 survey", "parameters", "survey", "over 1,000", 1200.0, "number", "input"),
]


def test_cells_are_counted_by_kind_and_the_worst_of_each_is_named() -> None:
    assert verdict(CELLS) == [
        "verdict: 6 cells: 2 input, 4 predicted",
        "  2 of 2 inputs stand beside a figure of the paper",
        "    furthest +0.0 % (Table IV, Null, LRPC)",
        "  3 of 4 predictions stand beside a figure of the paper",
        "    furthest +4.0 % (Table IV, BigIn, Taos)",
    ]


def test_a_letter_that_is_not_the_papers_is_told() -> None:
    wrong = Cell("III", "call", "LRPC", "A E", "A", "copies", "predicted")
    assert "  1 texts differ from the paper's, the first in Table III, call, LRPC" in verdict([*CELLS, wrong])


def test_predictions_beside_which_the_paper_has_nothing_are_not_counted_as_compared() -> None:
    alone = [Cell("Figure 2", str(at), "speed-up", None, 4.0, "x", "predicted") for at in range(9)]
    assert verdict([*CELLS[:1], *alone])[-1] == "  0 of 9 predictions stand beside a figure of the paper"
