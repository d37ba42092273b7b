"""The placement found is the best of all, and is replayed beside the default.

Bad input leaves no files.
"""

import random
import re
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from lrpc.kernel.simulated.costs import COST_MODELS as MODELS
from lrpc.workloads.placing.partition import SearchLimits, Solution, solve
from lrpc.workloads.placing.place import ask, begin
from lrpc.workloads.placing.question import Question
from lrpc.workloads.replay.placement import place
from lrpc.workloads.runs.jobs import ReplayJob
from tests.support.command import HERE, Ended, lrpc, record, refused
from tests.support.places import REAL_TRACES, SAMPLE
from tests.workloads.placing.test_partition import best_of_all

OTLP = SAMPLE.with_name("sample-trace.otlp.jsonl")
LIMITS = SearchLimits(nodes=20_000, seconds=600.0)
REAL = [
    # trace, machines, slack: 1.2 where it can be met, else the smallest slack that can
    ("online-boutique", 2, 1.2),
    ("online-boutique", 4, 1.4372),
    ("online-boutique", 8, 2.8744),
    ("train-ticket", 2, 1.3585),
    ("train-ticket", 4, 2.7169),
    ("train-ticket", 8, 5.4337),
]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def real(*names: str, least: float = 1.0) -> list[Any]:
    """Return parameters for real traces with these names and at least this slack.

    Those with more than two machines are long.
    """
    return [
        pytest.param(name, machines, slack, marks=() if machines == 2 else pytest.mark.long)
        for name, machines, slack in REAL
        if name in names and slack >= least and (REAL_TRACES / f"{name}.csv").exists()
    ]


def question(trace: Path, machines: int, slack: float) -> Question:
    return ask(ReplayJob(trace=str(trace), machines=machines), slack)


def solved(asked: Question) -> Solution:
    return solve(asked.problem, begin(asked, LIMITS), LIMITS)


def placed(*more: object, trace: Path = SAMPLE, machines: int = 2, slack: float = 1.7) -> Ended:
    return lrpc("place", trace, "--machines", machines, "--slack", slack, *HERE, *more)


def entries() -> set[str]:
    return {str(path) for path in Path().rglob("*")}


def refusal(*arguments: object) -> str:
    before = entries()
    line = refused(*arguments)
    assert entries() == before
    return line


# Real traces


@pytest.mark.parametrize(("name", "machines", "slack"), real("online-boutique"))
def test_no_placement_of_online_boutique_crosses_less(name: str, machines: int, slack: float) -> None:
    asked = question(REAL_TRACES / f"{name}.csv", machines, slack)
    found = solved(asked)
    assert found.end == "optimal"
    assert found.crossing == found.at_least == best_of_all(asked.problem)
    assert asked.problem.fits(found.placed)


@pytest.mark.parametrize(("name", "machines", "slack"), real("train-ticket"))
def test_the_gap_to_what_train_ticket_must_cross_is_closed(name: str, machines: int, slack: float) -> None:
    asked = question(REAL_TRACES / f"{name}.csv", machines, slack)
    found = solved(asked)
    assert asked.problem.fits(found.placed)
    assert found.at_least == found.crossing == asked.problem.crossing(found.placed)


@pytest.mark.parametrize(("name", "machines", "slack"), real("online-boutique", "train-ticket", least=1.3))
def test_the_smallest_slack_of_a_real_trace_is_told(name: str, machines: int, slack: float) -> None:
    path = REAL_TRACES / f"{name}.csv"
    for asked in (1.2, slack - 0.0001):
        line = refusal("place", path, "--machines", machines, "--slack", asked)
        assert line.endswith(f"; the smallest slack that can be met is {slack}")
        assert re.search(r"pod '(productcatalogservice|ts-gateway-service)-[a-z0-9-]+' has [0-9.]+ % of all", line)


# The command


def test_the_problem_is_the_traces_calls_and_computation() -> None:
    asked = question(SAMPLE, 2, 1.3)
    assert [pod.split("-")[0] for pod in asked.pods] == ["cart", "catalog", "frontend", "payment"]
    assert dict(asked.problem.weights) == {(0, 2): 5, (1, 2): 4, (2, 3): 1, (0, 3): 1}
    assert asked.problem.cap == int(Fraction("1.3") * sum(asked.problem.loads) / 2)


@pytest.mark.parametrize("trace", [SAMPLE, OTLP])
def test_both_placements_are_replayed_and_what_is_saved_comes_from_their_records(trace: Path) -> None:
    ended = placed("--out", "mine.toml", "--record", "runs", trace=trace)
    assert (ended.code, ended.err) == (0, "")
    beside, found = record(Path("runs/spread")), record(Path("runs/found"))
    assert (beside["settings"]["placement"], found["settings"]["placement"]) == ("spread", "mine.toml")
    crossed = [one["counts"]["cross_machine"] for one in (beside, found)]
    assert crossed[1] < crossed[0]
    assert re.search(rf"cross-machine calls +│ {crossed[0]} +│ {crossed[1]} +│ ", ended.out)
    means = [one["trace"]["times"][-1]["simulated_ns"] / 5 / 1000 for one in (beside, found)]
    assert re.search(rf"mean time of a trace.* │ {means[0]:,.1f} +│ {means[1]:,.1f} +│ ", ended.out)
    assert f"at least {crossed[1]} calls cross in any placement (gap 0.00 %" in ended.out


def test_the_file_is_one_that_replay_takes() -> None:
    assert placed("--out", "mine.toml").code == 0
    ended = lrpc("replay", SAMPLE, "--machines", 2, "--placement", "mine.toml", *HERE, "--out", "again")
    assert ended.code == 0
    (runs,) = Path("records").iterdir()
    assert record(Path("again"))["digest"] == record(runs / "found")["digest"]


def test_the_same_input_has_the_same_file() -> None:
    for name in ("one.toml", "other.toml"):
        assert placed("--out", name, "--record", f"runs/{name}").code == 0
    assert Path("one.toml").read_bytes() == Path("other.toml").read_bytes()


def test_unless_told_where_the_placement_lies_beside_the_records() -> None:
    assert placed("--record", "runs").code == 0
    pods = record(Path("runs/found"))["settings"]["placed"]
    assert place(pods, 2, Path("runs/placement.toml")) == pods
    assert "name another file, or add --force" in refusal(
        "place", SAMPLE, "--machines", 2, "--out", "runs/placement.toml"
    )
    assert "--record runs/spread: exists already" in refusal("place", SAMPLE, "--machines", 2, "--record", "runs")
    assert placed("--record", "runs", "--force").code == 0


def test_both_records_can_be_verified() -> None:
    assert placed("--record", "runs").code == 0
    Path("runs/placement.toml").unlink()  # the record holds it as well
    for name in ("spread", "found"):
        ended = lrpc("verify", f"runs/{name}", *HERE)
        assert (ended.code, ended.out.split(":")[0]) == (0, "the same")


def test_a_dry_run_says_what_a_machine_may_hold_and_leaves_nothing() -> None:
    ended = placed("--dry-run", slack=1.5)
    assert ended.code == 0
    assert "4 pods, 11 calls between them; a machine may hold 75.0 % of all computation" in ended.out
    assert entries() == set()


def test_where_the_default_placement_holds_too_much_it_is_said() -> None:
    said = "spread does not fit: its fullest machine holds more than the slack allows"
    assert said in placed("--record", "one", machines=3, slack=1.3).out
    assert said not in placed("--record", "other").out


def test_one_machine_holds_all() -> None:
    ended = placed(machines=1, slack=1)
    assert ended.code == 0
    assert re.search(r"cross-machine calls +│ 0 +│ 0 +│ +│", ended.out)


# Bad input


def test_where_no_slack_is_asked_for_the_smallest_that_can_be_met_is_used_and_named() -> None:
    ended = lrpc("place", SAMPLE, "--machines", 4, *HERE)
    assert (ended.code, ended.err) == (0, "")
    told = re.search(r"slack ([0-9.]+): the smallest that can be met, since 1.2 cannot", ended.out)
    assert told is not None
    assert "smallest slack" in refusal("place", SAMPLE, "--machines", 4, "--slack", f"{float(told[1]) - 0.0001:.4f}")


@pytest.mark.parametrize("slack", ["0.99", "nan", "inf", "-1"])
def test_a_slack_that_no_machines_could_keep_is_refused(slack: str) -> None:
    line = refusal("place", SAMPLE, "--machines", 2, "--slack", slack)
    assert line.startswith(f"lrpc: --slack {float(slack)}: ")
    assert line.endswith("give 1 or more")


def test_a_pod_above_the_cap_is_named_with_its_share_and_the_smallest_slack() -> None:
    line = refusal("place", SAMPLE, "--machines", 4, "--slack", 1.2)
    told = re.fullmatch(
        rf"lrpc: {SAMPLE}: --slack 1.2 on 4 machines: pod '([a-z0-9-]+)' has ([0-9.]+) % of all computation, "
        r"and a machine may hold 30.00 %; the smallest slack that can be met is ([0-9.]+)",
        line,
    )
    assert told is not None
    assert told[1].startswith("cart-")
    slack = float(told[3])
    assert abs(slack - float(told[2]) * 4 / 100) < 0.001
    assert placed(machines=4, slack=slack).code == 0
    assert "smallest slack" in refusal("place", SAMPLE, "--machines", 4, "--slack", f"{slack - 0.0001:.4f}")


def test_pods_that_no_division_evens_out_are_refused_too(tmp_path: Path) -> None:
    """Place three equal pods on two machines: one machine has two thirds of the load."""
    header = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano\n"
    path = tmp_path / "t.csv"
    path.write_text(header + "".join(f"t,{pod},root,{pod},o,0,1000\n" for pod in "abc"))
    line = refusal("place", path, "--machines", 2, "--slack", 1.2)
    assert "no placement was found that leaves every machine at most 60.00 % of all computation" in line
    assert line.endswith("the smallest slack that can be met is 1.3334")


def test_a_cost_model_whose_machines_are_nearer_than_its_domains_is_refused(tmp_path: Path) -> None:
    text = (MODELS / "linux-python.toml").read_text().split("[[totals]]")[0]
    (tmp_path / "odd.toml").write_text(text.replace("trap = { us = 1.0", "trap = { us = 900.0"))
    line = refusal("place", SAMPLE, "--machines", 2, "--cost-model", "odd.toml")
    assert "there is nothing to save by staying on a machine" in line


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--machines", 0), "--machines"),
        (("--machines", 2, "--nodes", 0), "--nodes"),
        (("--machines", 2, "--seconds", 0), "--seconds"),
        (("--machines", 2, "--out", "no/such/file.toml"), "there is no folder no/such; make it first"),
        (("--machines", 2, "--out", "."), "--out .: exists already"),
        (("--machines", 2, "--cost-model", "abacus"), "cost model abacus: unknown"),
        (("--machines", 2, "--record", "/proc/none"), "--record /proc/none/spread: cannot be written"),
        (("--machines", 2, "--trace", "x"), "--trace"),
    ],
)
def test_what_cannot_be_is_refused(arguments: tuple[object, ...], told: str) -> None:
    assert told in refusal("place", SAMPLE, *arguments)


def test_a_trace_that_is_none_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal("place", "none.csv", "--machines", 2)
    (tmp_path / "bad.jsonl").write_text('{"resourceSpans": 7}')
    assert "resourceSpans: 7 is not a list" in refusal("place", "bad.jsonl", "--machines", 2)


@pytest.mark.long
def test_a_trace_of_a_hundred_pods_that_all_call_each_other_says_how_far_from_the_best_it_may_be() -> None:
    chance = random.Random(0)
    rows = ["TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano"]
    for trace in range(3_000):
        one, other = chance.sample(range(100), 2)
        rows += [f"{trace},a,root,pod-{one},o,0,1000", f"{trace},b,a,pod-{other},o,100,900"]
    Path("dense.csv").write_text("\n".join(rows) + "\n")
    began = time.monotonic()
    ended = lrpc("place", "dense.csv", "--machines", 4, *HERE)
    assert time.monotonic() - began < 60
    told = re.search(r"at least [0-9,]+ calls cross in any placement \(gap ([0-9.]+) %", ended.out)
    assert told is not None
    assert 0 < float(told[1]) < 15


def test_a_trace_too_large_to_solve_is_placed_by_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrpc.workloads.placing.partition.MOST_VARIABLES", 15)
    monkeypatch.setattr("lrpc.workloads.placing.relaxation.MOST_VERTICES", 0)  # or the bound proves what is found
    ended = placed()
    assert ended.code == 0
    assert "too many pods and pairs for the solver: the best that METIS and the relaxed problem give" in ended.out
