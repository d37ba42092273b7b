"""A figure's kind follows from what it rests on, and never claims more than that proves."""

import ast
from collections.abc import Mapping
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from lrpc.kernel.simulated.costs import CostModel, cost_model, load_cost_model
from lrpc.kernel.simulated.origins import TABLES
from lrpc.workloads.programs.four_tests import TESTS
from lrpc.workloads.records import records
from lrpc.workloads.records.cells import Cell, predictions_rest_on, shortened
from lrpc.workloads.records.kinds import COUNTED, KINDS, QUOTED, Basis, Parameter, from_charges
from lrpc.workloads.reproduction import paper
from lrpc.workloads.reproduction.paper import Measured, Rate
from tests.support.command import lrpc

FIREFLY = load_cost_model("cvax-firefly")
ROWS = ("IV/Null", "IV/Add", "II/Taos", "V/total")
PLACES = tuple(f"{row}/{column}" for row in ROWS for column in TABLES[row.split("/")[0]][1])
POINTS = tuple(f"Figure 2/{point}/{curve}" for point in (1, 2, 4) for curve in ("LRPC", "SRC RPC", "speed-up"))
SOLVED = st.lists(st.sampled_from(PLACES + POINTS), max_size=2, unique=True).map(tuple)
SOME = st.lists(st.sampled_from(PLACES + POINTS), min_size=1, max_size=2, unique=True).map(tuple)
USED = st.sampled_from(sorted(FIREFLY.file.steps))
CHARGES = st.dictionaries(USED, st.integers(0, 4), max_size=8)


def solved_for(origin: str) -> st.SearchStrategy[tuple[str, ...]]:
    """Return cells that a cost of this origin may name: some where it is fitted, none if quoted."""
    return SOME if origin == "fitted" else SOLVED if origin == "assumed" else st.just(())


@st.composite
def models(draw: st.DrawFn) -> CostModel:
    """Draw a cost model: any step may be quoted, assumed or fitted, and part of a quoted total."""
    tables = FIREFLY.file.model_dump(mode="json")
    for step in tables["steps"].values():
        step["origin"] = draw(st.sampled_from(("source", "source", "assumed", "fitted")))
        step["solved_from"] = draw(solved_for(step["origin"]))
    origin = draw(st.sampled_from(("source", "assumed", "fitted")))
    tables["bus"] |= {"origin": origin, "solved_from": draw(SOME if origin == "fitted" else SOLVED)}
    tables["totals"] = []
    for number in range(draw(st.integers(0, 2))):
        of = draw(st.dictionaries(USED, st.integers(1, 2), min_size=1, max_size=3))
        us = sum(tables["steps"][step]["us"] * times for step, times in of.items())
        tables["totals"].append({"name": str(number), "us": us, "source": "drawn", "of": of})
    return cost_model(tables, "drawn")


def kind_by_its_definition(costs: CostModel, charges: Mapping[str, int], row: str) -> str:
    """Return the kind, worked out from the definition alone and step by step."""
    counted = {step: count for step, count in charges.items() if count}
    for step in counted:
        for cell in costs.file.steps[step].solved_from:
            if cell.rsplit("/", 1)[0] == row:
                return "fitted"
    for total in costs.file.totals:
        while all(counted.get(step, 0) >= times for step, times in total.of.items()):
            for step, times in total.of.items():
                counted[step] -= times
    rest = {costs.file.steps[step].origin for step, count in counted.items() if count}
    return "input" if rest <= {"source"} else "predicted"


@given(models(), CHARGES, st.sampled_from(ROWS))
def test_a_kind_is_what_its_definition_says(costs: CostModel, charges: dict[str, int], row: str) -> None:
    assert from_charges(costs, charges, row).kind == kind_by_its_definition(costs, charges, row)


@given(models(), st.lists(st.tuples(CHARGES, st.sampled_from(ROWS)), min_size=1, max_size=4))
def test_a_figure_made_of_others_claims_no_more_than_they_do(
    costs: CostModel, parts: list[tuple[dict[str, int], str]]
) -> None:
    bases = [from_charges(costs, charges, row) for charges, row in parts]
    whole = Basis()
    for basis in bases:
        whole |= basis
    kinds = {basis.kind for basis in bases}
    assert KINDS.index(whole.kind) <= max(KINDS.index(kind) for kind in kinds) or whole.kind == "fitted"
    if "fitted" in kinds:
        assert whole.kind == "fitted"
    if kinds == {"input"}:  # unless one was solved from where another stands
        assert whole.kind in ("input", "fitted")


@given(models(), CHARGES, CHARGES, st.sampled_from(ROWS))
def test_a_sum_claims_no_more_than_its_parts_together(
    costs: CostModel, first: dict[str, int], second: dict[str, int], row: str
) -> None:
    added = {step: first.get(step, 0) + second.get(step, 0) for step in {*first, *second}}
    together = from_charges(costs, first, row) | from_charges(costs, second, row)
    assert KINDS.index(from_charges(costs, added, row).kind) <= KINDS.index(together.kind)


@given(models(), CHARGES, st.integers(1, 100), st.sampled_from(ROWS))
def test_solving_a_parameter_from_a_row_never_lifts_what_stands_there(
    costs: CostModel, charges: dict[str, int], calls: int, row: str
) -> None:
    solved = {
        step: cost.model_copy(update={"origin": "fitted", "solved_from": (f"{row}/LRPC",)})
        for step, cost in costs.file.steps.items()
    }
    refitted = CostModel(costs.file.model_copy(update={"steps": solved}), costs.ns, costs.ps)
    assert from_charges(refitted, charges, row).kind == ("fitted" if any(charges.values()) else "input")


def tables_of(costs: CostModel) -> dict[tuple[str, str, str], Cell]:
    """Return the tables of a reproduction whose loops were charged every step there is."""
    charges: dict[str, int] = dict.fromkeys(costs.file.steps, 10)
    loop = Measured(10, 1_000_000, charges)
    tests: dict[str, Measured] = dict.fromkeys(TESTS, loop)
    rates = {point: Rate(1000.0 * point, dict.fromkeys(charges, 1), {"bus": 1.0}) for point in (1, 2, 4)}
    cells = [
        *paper.table_ii({"Taos": (loop, costs)}),
        *paper.table_iv({"LRPC/MP": tests, "LRPC": tests, "Taos": tests}, costs),
        *paper.table_v(loop, costs),
        *paper.breakdown({"LRPC": loop, "Taos": loop}, costs),
        *paper.convention(tests, tests, costs),
        *paper.figure_2({"LRPC": rates, "SRC RPC": rates}, costs),
    ]
    return {(cell.table, cell.row, cell.column): cell for cell in cells}


@given(models())
def test_no_kind_rises_on_its_way_through_the_papers_tables(costs: CostModel) -> None:
    found = tables_of(costs)
    sums = {("II", "Taos", "overhead"): [("II", "Taos", "actual"), ("II", "Taos", "minimum")]}
    sums |= {("IV ratios", test, "Taos/LRPC"): [("IV", test, one) for one in ("Taos", "LRPC")] for test in TESTS}
    for point in ("2", "4"):
        sums["Figure 2", point, "speed-up"] = [("Figure 2", one, "LRPC") for one in (point, "1")]
        for curve in ("LRPC", "SRC RPC"):
            sums["Figure 2 waits", point, f"{curve} bus"] = [("Figure 2", point, curve)]
    for place, parts in sums.items():
        kinds = {found[part].kind for part in parts}
        if "fitted" in kinds:
            assert found[place].kind == "fitted", place
        elif kinds == {"predicted"}:
            assert found[place].kind != "input", place
    for curve in ("LRPC", "SRC RPC"):  # what was solved from one point of a curve was solved from all
        solved = {
            step
            for step, cost in costs.file.steps.items()
            if any(cell.startswith("Figure 2/") and cell.endswith(f"/{curve}") for cell in cost.solved_from)
        }
        if solved:
            assert {found["Figure 2", point, curve].kind for point in ("1", "2", "4")} == {"fitted"}


def test_what_processors_contend_for_is_no_input_however_well_it_is_known() -> None:
    assert from_charges(FIREFLY, {"trap": 2}).kind == "input"
    waits = from_charges(FIREFLY, {"trap": 2}, bus=True)
    assert (waits.kind, waits.rests_on) == ("predicted", "fitted elsewhere: bus")


def test_a_prediction_lists_what_was_assumed_and_what_was_fitted_elsewhere() -> None:
    parameters = {Parameter("copy", "fitted", ("IV/Add/LRPC",)), Parameter("memory", "assumed")}
    basis = Basis(frozenset({*parameters, Parameter("trap", "source")}), frozenset({"IV/BigIn"}))
    assert (basis.kind, basis.rests_on) == ("predicted", "assumed: memory; fitted elsewhere: copy")
    fitted = Basis(basis.parameters, frozenset({"IV/Add"}))
    assert (fitted.kind, fitted.rests_on) == ("fitted", "")
    cells = [Cell.of("IV", test, "LRPC", None, 1.0, "us", one) for test, one in (("a", basis), ("b", QUOTED))]
    assert predictions_rest_on(cells) == "Predictions here rest on what was assumed: memory; fitted elsewhere: copy."
    assert predictions_rest_on(cells[1:]) == ""


def test_a_cell_of_a_shortened_run_says_so_beside_its_figure() -> None:
    cells = paper.table_i("V", {"trap": 90, "cross_domain": 7, "cross_machine": 3}, run=0.1)
    assert {cell.shortened for cell in cells} == {"10 % of its hours"}
    assert cells[1].place == "Table I, V, remote/total, 10 % of its hours"
    assert shortened(cells) == "* of a shortened run: 10 % of its hours"
    assert {cell.shortened for cell in paper.table_i("V", {"trap": 1, "cross_domain": 1, "cross_machine": 1})} == {""}


def test_a_record_keeps_what_its_cells_rest_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert lrpc("reproduce", "--calls", 10, "--only", "IV", "--only", "I", "--actors", 0, "--out", out).code == 0
    cells = {(cell.table, cell.row, cell.column): cell for cell in records.read(out).cells}
    assert cells["IV", "BigInOut", "LRPC"].rests_on == "fitted elsewhere: copy_byte, copy_value"
    assert cells["I", "V", "remote/total"].shortened == "0.01 % of its hours"
    assert (cells["IV", "Null", "LRPC"].rests_on, cells["IV", "Null", "LRPC"].shortened) == ("", "")
    said = (out / "remarks.csv").read_text().splitlines()
    assert 'IV,BigInOut,LRPC,"fitted elsewhere: copy_byte, copy_value",' in said
    page = (out / "report" / "report.html").read_text()
    assert "Predictions here rest on what was assumed: message_" in page
    assert "of 0.01 % of its hours" in page


def test_what_a_mechanism_counts_is_predicted_and_what_was_given_is_input() -> None:
    letters = {column: dict.fromkeys(paper.TABLE_III, "A") for column in ("LRPC", "message passing")}
    letters["restricted message passing"] = letters["message passing"]
    kinds = {cell.column: cell.kind for cell in paper.table_iii(letters)}
    assert kinds == {"LRPC": "predicted", "message passing": "input", "restricted message passing": "input"}
    assert (COUNTED.kind, QUOTED.kind) == ("predicted", "input")


def test_no_module_writes_a_kind() -> None:
    """A cell is made from a basis, or checked from a record: nobody hands a kind to it."""
    rooms = Path(__file__).resolve().parents[3]
    for path in (rooms / "workloads").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "Cell" or path.name == "cells.py", path
