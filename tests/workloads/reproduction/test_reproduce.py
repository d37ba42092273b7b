"""`lrpc reproduce` derives the paper's figures from the mechanism, and gives each figure's kind."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lrpc.cluster.description import Cluster, read_cluster
from lrpc.kernel.simulated.costs import COST_MODELS
from lrpc.kernel.simulated.origins import TABLES
from lrpc.workloads import scenarios
from lrpc.workloads.programs.registry import REGISTRY
from lrpc.workloads.reproduction import PARTS
from lrpc.workloads.reproduction.reproduce import EXPERIMENTS, Plan, reproduce_cluster
from lrpc.workloads.runs.planned import planned_calls
from tests.support.command import HERE, lrpc, record, refused
from tests.support.reproductions import Cells, by_place, column, reproduced, tables

TABLE_II = {
    "Accent": (444, 2300),
    "Taos": (109, 464),
    "Mach": (90, 754),
    "V": (170, 730),
    "Amoeba": (170, 800),
    "DASH": (170, 1590),
}
TABLE_III = {
    "call, mutable parameters": ("A", "A B C E", "A D E"),
    "call, immutable parameters": ("A E", "A B C E", "A D E"),
    "return": ("F", "B C F", "B F"),
}
TABLE_IV = {
    "LRPC/MP": {"Null": 125, "Add": 130, "BigIn": 173, "BigInOut": 219},
    "LRPC": {"Null": 157, "Add": 164, "BigIn": 192, "BigInOut": 227},
    "Taos": {"Null": 464, "Add": 480, "BigIn": 539, "BigInOut": 636},
}
TABLE_V = {
    "procedure call": 7,
    "two traps": 36,
    "two context switches": 66,
    "minimum": 109,
    "stubs": 21,
    "kernel transfer": 27,
    "overhead": 48,
    "total": 157,
}
IV_MP, IV_LRPC, IV_TAOS = ([("IV", test, column) for test in tests] for column, tests in TABLE_IV.items())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reproduce") / "run"
    reproduced(folder)
    return folder


@pytest.fixture(scope="module")
def cells(folder: Path) -> Cells:
    return by_place(folder)


@pytest.fixture(scope="module")
def figure_2(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """Return 0.2 s of Figure 2: enough for the drawn values to come to their means."""
    return reproduced(tmp_path_factory.mktemp("figure-2") / "run", "--only", "Figure 2", calls=20_000)


def test_every_table_is_there_in_the_papers_order(cells: Cells) -> None:
    assert tables(cells) == [
        "I",
        "I runs",
        "Figure 1 survey",
        "Figure 1",
        *("II", "II overhead", "III", "IV", "IV ratios", "IV what-if", "V", "V SRC RPC", "V what-if"),
        "Figure 2",
        "Figure 2 waits",
        "Figure 2 what-if",
        *("Firefly RPC", "Firefly RPC threads", "Firefly RPC busy", "Firefly RPC stubs"),
    ]


def test_what_may_be_fitted_to_is_every_cell_that_the_paper_has(cells: Cells) -> None:
    """Cost models and scenarios name cells; the names stand in the kernel, the figures do not."""
    for table, (rows, columns) in TABLES.items():
        ours = {(row, column): cell["paper"] for (its, row, column), cell in cells.items() if its == table}
        papers = {one for one, paper in ours.items() if paper is not None and not one[0].startswith("unaccounted")}
        assert papers <= {(row, column) for row in rows for column in columns}
        assert set(rows) <= {row for row, _ in ours}
        assert set(columns) - {"calls"} <= {column for _, column in ours}  # Table I's calls are no cell of ours
    elsewhere = {table for (table, _, _), cell in cells.items() if cell["paper"] is not None} - set(TABLES)
    assert elsewhere <= {"IV ratios", "V SRC RPC", "I runs"}  # made of these, or no table of the paper's


# Table II


def test_table_ii(cells: Cells) -> None:
    for system, (minimum, actual) in TABLE_II.items():
        found = {name: cells["II", system, name] for name in ("minimum", "actual", "overhead")}
        assert [cell["paper"] for cell in found.values()] == [minimum, actual, actual - minimum]
        assert found["minimum"]["ours"] == pytest.approx(minimum, abs=0.01)
        assert found["actual"]["ours"] == pytest.approx(actual, rel=0.01)
        assert found["overhead"]["ours"] == pytest.approx(actual - minimum, rel=0.01)
        assert [cell["kind"] for cell in found.values()] == ["input", "fitted", "fitted"]
    assert len(column(cells, "II", "actual")) == len(TABLE_II)


def test_the_parts_of_table_iis_overhead_add_up(cells: Cells) -> None:
    for system in TABLE_II:
        parts = [cell["ours"] for (table, row, _), cell in cells.items() if (table, row) == ("II overhead", system)]
        assert len(parts) == 8
        assert sum(parts) == pytest.approx(cells["II", system, "overhead"]["ours"], abs=0.01)
    assert cells["II overhead", "Taos", "stubs"]["ours"] == 70
    kinds = {cell["kind"] for place, cell in cells.items() if place[0] == "II overhead" and place[2] != "stubs"}
    assert kinds == {"fitted"}  # a share of a fitted cost is no prediction


# Table III


def test_table_iii(cells: Cells) -> None:
    columns = ("LRPC", "message passing", "restricted message passing")
    found = {row: tuple(cells["III", row, one]["ours"] for one in columns) for row in TABLE_III}
    assert found == TABLE_III
    assert {row: tuple(cells["III", row, one]["paper"] for one in columns) for row in TABLE_III} == TABLE_III


# Tables IV and V


def test_table_iv(cells: Cells) -> None:
    assert [place for place in cells if place[0] == "IV"] == [
        ("IV", test, column) for test in TABLE_IV["LRPC"] for column in TABLE_IV
    ]
    for name, tolerance in (("LRPC/MP", 0.01), ("LRPC", 0.005), ("Taos", 0.02)):
        assert column(cells, "IV", name, "paper") == TABLE_IV[name]
        assert column(cells, "IV", name) == pytest.approx(TABLE_IV[name], rel=tolerance)
    ratios = column(cells, "IV ratios", "Taos/LRPC")
    assert [round(ratio, 2) for ratio in (ratios["Null"], ratios["BigInOut"])] == [2.96, 2.80]


def test_table_v(cells: Cells) -> None:
    assert column(cells, "V", "LRPC", "paper") == TABLE_V
    assert column(cells, "V", "LRPC") == pytest.approx(TABLE_V, rel=1e-9)


def test_src_rpcs_breakdown_has_the_sums_that_are_known(cells: Cells) -> None:
    for name in ("LRPC", "Taos"):
        found = column(cells, "V SRC RPC", name)
        for row, paper in column(cells, "V SRC RPC", name, "paper").items():
            assert paper is None or found[row] == pytest.approx(paper, abs=0.01)
        assert found["total"] == pytest.approx(cells["IV", "Null", name]["ours"], abs=0.01)
        assert found["total"] == pytest.approx(found["minimum"] + found["overhead"])
    assert column(cells, "V SRC RPC", "LRPC")["buffers"] == 0


def test_kinds_say_what_can_be_predicted(cells: Cells) -> None:
    assert [cells[cell]["kind"] for cell in IV_MP] == ["fitted", "fitted", "fitted", "predicted"]
    assert [cells[cell]["kind"] for cell in IV_LRPC] == ["input", "fitted", "fitted", "predicted"]
    assert [cells[cell]["kind"] for cell in IV_TAOS] == ["fitted", "predicted", "fitted", "fitted"]
    ratios = column(cells, "IV ratios", "Taos/LRPC", "kind")
    assert list(ratios.values()) == ["fitted"] * 4  # one of the two that each is made of is
    assert set(column(cells, "V", "LRPC", "kind").values()) == {"input"}


def test_with_arguments_on_the_execution_stack_each_is_copied_once_more(cells: Cells) -> None:
    value, byte = 5 / 3, 1 / 6
    slower = {"Null": 0.0, "Add": 2 * value + 8 * byte, "BigIn": value + 200 * byte, "BigInOut": value + 200 * byte}
    plain = column(cells, "IV", "LRPC")
    assert column(cells, "IV what-if", "arguments on the execution stack") == pytest.approx(
        {test: plain[test] + more for test, more in slower.items()}, abs=0.01
    )
    assert column(cells, "IV what-if", "for the extra copies") == pytest.approx(slower, abs=0.01)


def test_without_misses_a_null_takes_118_us_and_an_exchange_has_none(cells: Cells) -> None:
    assert column(cells, "V what-if", "tagged TLB") == {"Null": pytest.approx(157 - 43 * 0.9)}
    assert column(cells, "V what-if", "misses without a switch") == {"Null": 0}


def in_v(*rows: str) -> list[tuple[str, str, str]]:
    return [("V", row, "LRPC") for row in rows]


# Steps, and how many us each cell of Tables IV and V moves when the step costs 1 us more.
MOVES: dict[str, dict[tuple[str, str, str], float]] = {
    "trap": dict.fromkeys([*IV_MP, *IV_LRPC, *IV_TAOS, *in_v("two traps", "minimum", "total")], 2.0),
    "procedure_call": dict.fromkeys([*IV_MP, *IV_LRPC, *IV_TAOS, *in_v("procedure call", "minimum", "total")], 1.0),
    "switch": dict.fromkeys([*IV_LRPC, *IV_TAOS, *in_v("two context switches", "minimum", "total")], 2.0),
    "tlb_miss": dict.fromkeys([*IV_LRPC, *IV_TAOS, *in_v("two context switches", "minimum", "total")], 43.0),
    "client_stub": dict.fromkeys([*IV_MP, *IV_LRPC, *in_v("stubs", "overhead", "total")], 1.0),
    "astack_queue": dict.fromkeys([*IV_MP, *IV_LRPC, *in_v("stubs", "overhead", "total")], 2.0),
    "exchange": dict.fromkeys(IV_MP, 2.0),
    "exchanged_byte": dict(zip(IV_MP, (0.0, 12.0, 200.0, 400.0), strict=True)),
    "copy_value": dict(zip(IV_LRPC, (0.0, 3.0, 1.0, 2.0), strict=True)),
    "copy_byte": dict(zip(IV_LRPC, (0.0, 12.0, 200.0, 400.0), strict=True)),
    "message_buffer": dict.fromkeys(IV_TAOS, 1.0),
    "message_transfer": dict.fromkeys(IV_TAOS, 2.0),
    "message_result_byte": dict(zip(IV_TAOS, (0.0, 4.0, 0.0, 200.0), strict=True)),
    "udp_header": {},
}


@pytest.mark.parametrize("step", MOVES)
def test_one_cost_changed_moves_the_figures_that_contain_it_and_no_other(
    step: str, cells: Cells, tmp_path: Path
) -> None:
    text = (COST_MODELS / "cvax-firefly.toml").read_text().partition("[[totals]]")[0]  # the sums no longer hold
    steps = text.partition("[steps]")[2]
    (line,) = (line for line in steps.splitlines() if line.startswith(f"{step} = "))
    us = float(line.split("us = ")[1].split(",")[0])
    (tmp_path / "dearer.toml").write_text(text.replace(line, line.replace(f"us = {us}", f"us = {us + 1}", 1)))
    model = tmp_path / "dearer.toml"
    dearer = reproduced(tmp_path / "run", "--cost-model", model, "--only", "IV", "--only", "V", calls=20)
    moved = {place: dearer[place]["ours"] - cells[place]["ours"] for place in cells if place[0] in ("IV", "V")}
    assert moved == pytest.approx({place: MOVES[step].get(place, 0.0) for place in moved}, abs=1e-6)


# The figures


def test_figure_1_is_what_the_survey_says(cells: Cells, folder: Path) -> None:
    found = column(cells, "Figure 1 survey", "survey")
    assert (found["services"], found["procedures"], found["procedures called"]) == (28, 366, 112)
    assert found["parameters of four bytes or fewer"] == pytest.approx(65, abs=0.2)
    assert found["most frequent size, from"] == 0
    assert found["share of calls under 200 bytes"] > 50
    bins = column(cells, "Figure 1", "calls")
    assert len(bins) == 1800 // 50 + 1
    assert sum(bins.values()) == found["calls"] == round(1_487_105 * 200 / 100_000)
    carried = record(folder)["machines"]["survey"]["astack_bytes"]
    assert sum(carried.values()) == found["calls"]
    assert bins["0-49"] == sum(calls for size, calls in carried.items() if int(size) < 50)
    assert {cell["kind"] for place, cell in cells.items() if place[0].startswith("Figure 1")} == {"input"}


def test_figure_2(figure_2: Cells) -> None:
    lrpc_rates, src_rpc = column(figure_2, "Figure 2", "LRPC"), column(figure_2, "Figure 2", "SRC RPC")
    speed_up = column(figure_2, "Figure 2", "speed-up")
    assert list(lrpc_rates) == list(src_rpc) == list(speed_up) == [str(number) for number in range(1, 17)]
    assert lrpc_rates["1"] == pytest.approx(6300, rel=0.03)
    assert lrpc_rates["4"] == pytest.approx(23_000, rel=0.03)
    assert speed_up["4"] == pytest.approx(3.7, rel=0.03)
    assert speed_up["1"] == 1
    assert src_rpc["1"] == pytest.approx(1e6 / 464, rel=0.01)
    for row in list(src_rpc)[1:]:
        assert src_rpc[row] == pytest.approx(4000, rel=0.03)
    assert all(more > 0.99 * fewer for fewer, more in pairwise(lrpc_rates.values()))
    assert lrpc_rates["16"] == pytest.approx(1e6 / 23, rel=0.03)  # a call has the bus for 23 us in all


def test_no_processors_call_faster_than_the_bus_can_carry(figure_2: Cells) -> None:
    for curve, alone_us, bus_us in (("tagged TLB", 118.3, 10.1), ("LRPC/MP", 125.0, 20.1)):
        rates = column(figure_2, "Figure 2 what-if", curve)
        most = column(figure_2, "Figure 2 what-if", f"{curve}: the bus's most")
        assert list(most.values()) == pytest.approx([1e6 / bus_us] * 2)
        clients = 4 if curve == "tagged TLB" else 2
        assert 0.9 * clients / alone_us < rates["4"] / 1e6 < clients / alone_us
        assert 0.85 * most["16"] < rates["16"] < most["16"]
        kinds = column(figure_2, "Figure 2 what-if", curve, "kind")
        assert set(kinds.values()) == {"predicted"}


def test_what_figure_2_was_fitted_to_is_said(figure_2: Cells) -> None:
    for curve in ("LRPC", "SRC RPC", "speed-up"):  # each was fitted at one of its points
        kinds = column(figure_2, "Figure 2", curve, "kind")
        assert kinds["1"] == ("fitted" if curve == "SRC RPC" else "input")
        assert {kinds[row] for row in kinds if row != "1"} == {"fitted"}
    waits = {cell["kind"] for cell in figure_2.values() if cell["table"] == "Figure 2 waits" and cell["row"] != "1"}
    assert waits == {"fitted"}
    assert column(figure_2, "Figure 2", "LRPC", "paper")["4"] == 23_000
    papers = column(figure_2, "Figure 2", "speed-up", "paper")
    assert {row: paper for row, paper in papers.items() if paper is not None} == {"4": 3.7, "5": 4.3}


def test_where_the_processors_time_goes_adds_up(figure_2: Cells) -> None:
    columns = {name for table, _, name in figure_2 if table == "Figure 2 waits"}
    waits = {name: column(figure_2, "Figure 2 waits", name) for name in columns}
    for curve in ("LRPC", "SRC RPC"):
        parts = [waits[f"{curve} {what}"] for what in ("computing", "bus", "lock", "idle")]
        for row in parts[0]:
            assert sum(part[row] for part in parts) == pytest.approx(100)
            assert min(part[row] for part in parts) >= 0
    assert waits["LRPC lock"]["16"] == waits["SRC RPC bus"]["1"] == 0
    assert waits["LRPC bus"]["16"] > 50
    assert waits["SRC RPC lock"]["16"] > 80


def test_a_seed_decides_what_is_drawn_and_only_that(tmp_path: Path) -> None:
    only = ("--only", "IV", "--only", "Figure 2")
    first, again = (reproduced(tmp_path / name, *only) for name in ("first", "again"))
    assert first == again
    other = reproduced(tmp_path / "other", *only, "--seed", 1)
    waits = ("Figure 2 waits", "4", "LRPC bus")
    assert other[waits] != first[waits]
    assert {place: cell for place, cell in other.items() if place[0] == "IV"} == {
        place: cell for place, cell in first.items() if place[0] == "IV"
    }


# Selected parts


@pytest.mark.parametrize(
    ("only", "tables_shown", "machines"),
    [
        (("III",), ["III"], ["copies-lrpc", "copies-messages", "copies-restricted"]),
        (("iv",), ["IV", "IV ratios", "IV what-if"], ["execution-stack", "lrpc", "lrpc-mp", "src-rpc"]),
        (("V",), ["V", "V SRC RPC", "V what-if"], ["lrpc", "lrpc-mp", "src-rpc", "tagged-tlb"]),
        (("figure 1",), ["Figure 1 survey", "Figure 1"], ["survey"]),
        (
            ("V", "II", "v"),
            ["II", "II overhead", "V", "V SRC RPC", "V what-if"],
            ["accent", "amoeba", "dash", "lrpc", "lrpc-mp", "mach", "src-rpc", "tagged-tlb", "v"],
        ),
    ],
    ids=" ".join,
)
def test_only_runs_what_those_tables_need(
    only: tuple[str, ...], tables_shown: list[str], machines: list[str], cells: Cells, tmp_path: Path
) -> None:
    found = reproduced(tmp_path / "run", *(word for name in only for word in ("--only", name)))
    assert tables(found) == tables_shown
    assert found == {place: cells[place] for place in found}
    assert list(record(tmp_path / "run")["machines"]) == machines


def test_an_unknown_table_is_refused_with_those_there_are() -> None:
    assert refused("reproduce", "--only", "IV", "--only", "VI") == (
        "lrpc: --only VI: unknown; known are I, Figure 1, II, III, IV, V, Figure 2, Firefly RPC"
    )


def test_a_cost_model_needs_what_the_tables_measure(tmp_path: Path) -> None:
    assert "accent: has no costs for lrpc" in refused("reproduce", "--cost-model", "accent", "--only", "IV")
    assert "no costs for message passing" in refused("reproduce", "--cost-model", "linux-python", "--only", "III")
    cells = reproduced(tmp_path / "run", "--cost-model", "linux-python", "--only", "Figure 1")
    assert cells["Figure 1 survey", "procedures called", "survey"]["ours"] == 112


def test_how_many_calls_are_made_changes_no_mean(cells: Cells, tmp_path: Path) -> None:
    few = reproduced(tmp_path / "run", *("--only", "II", "--only", "IV", "--only", "V"), calls=1)
    assert {place: cell["ours"] for place, cell in few.items()} == pytest.approx(
        {place: cells[place]["ours"] for place in few}, rel=1e-9
    )


def test_one_call_is_enough_for_everything(tmp_path: Path) -> None:
    cells = reproduced(tmp_path / "run", calls=1)
    assert sum(column(cells, "Figure 1", "calls").values()) == 15
    assert cells["Figure 2", "4", "SRC RPC"]["ours"] > 0


def described(**plan: Any) -> Cluster:
    return reproduce_cluster(Plan(**plan))


def test_progress_knows_about_how_many_calls_there_are(folder: Path) -> None:
    others = tuple(part for part in PARTS if part != "I")  # tests/workloads/systems checks the people
    counts = [one["counts"] for name, one in record(folder)["machines"].items() if not name.startswith("table-i-")]
    made = sum(one["cross_domain"] + one["cross_machine"] for one in counts)
    assert planned_calls(described(calls=200, only=others)) == pytest.approx(made, rel=0.1)


def test_of_the_machines_of_one_run_only_those_talk_that_measure_calls_between_machines() -> None:
    assert not described(only=tuple(set(PARTS) - {"I", "Firefly RPC"})).talks
    talk = [machine.name for machine in described(only=("Firefly RPC",)).machines]
    assert len(talk) == 2 * (2 * 8 + 1)
    assert all(name.startswith("firefly-") for name in talk)
    assert tuple(EXPERIMENTS) == PARTS
    assert set(PARTS) == {"I", "II", "III", "IV", "V", "Figure 1", "Figure 2", "Firefly RPC"}


def test_the_scenario_table_iv_has_the_machines_of_table_iv() -> None:
    ours = {machine.name: machine for machine in described(only=("IV",)).machines}
    scenario = read_cluster(scenarios.find("table-iv"), REGISTRY)
    assert [machine.name for machine in scenario.machines] == ["lrpc", "lrpc-mp", "src-rpc"]
    assert list(scenario.machines) == [ours[machine.name] for machine in scenario.machines]


# Across machines


def test_a_record_says_that_its_network_is_of_other_processors(folder: Path) -> None:
    (note,) = record(folder)["notes"]
    assert "MicroVAX II" in note
    assert "C-VAX" in note


# Output


def test_tables_are_printed_as_the_paper_prints_them(tmp_path: Path) -> None:
    said = lrpc("reproduce", "--calls", 10, *HERE, "--out", tmp_path / "run").out
    for line in (
        "│ Taos   │ 109.0 (109) i │     464.0 (464) f │     355.0 (355) f │",
        "│ return                     │     F (F) p │     B C F (B C F) i │                B F (B F) i │",
        "│ BigInOut │ 221.0 (219) p │ 227.0 (227) p │ 636.0 (636) f │",
        "│ two traps            │ LRPC   │  36.0 │  36.0 │     +0.0 % │ input │",
        "ours (the paper's); f fitted, i input, p predicted",
    ):
        assert line in said
    assert max(len(line) for line in said.splitlines() if not line.startswith("record ")) <= 110


def test_table_i_comes_from_its_systems_as_machines_of_the_same_run(folder: Path, cells: Cells) -> None:
    machines = record(folder)["machines"]
    for system, row in (("v", "V"), ("taos", "Taos"), ("sun", "Sun UNIX+NFS")):
        counts = [one["counts"] for name, one in machines.items() if name.startswith(f"table-i-{system}-")]
        local = sum(one["trap"] + one["cross_domain"] for one in counts)
        remote = sum(one["cross_machine"] for one in counts)
        assert remote > 0
        assert cells["I", row, "remote/local"]["ours"] == pytest.approx(100 * remote / local)
        assert cells["I", row, "remote/total"]["ours"] == pytest.approx(100 * remote / (local + remote))
        assert cells["I", row, "remote/total"]["paper"] == {"V": 3.0, "Taos": 5.06}.get(row, 0.6)
        assert 0 < cells["I runs", row, "of its hours"]["ours"] < 1  # percent, because so few calls are made
