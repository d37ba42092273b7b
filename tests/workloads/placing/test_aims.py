"""A placement keeps what it must, starts from where pods are today, and says what it saves."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lrpc.workloads.placing.curve import order
from lrpc.workloads.placing.kubernetes import workload
from lrpc.workloads.placing.moves import renamed
from lrpc.workloads.placing.partition import Overfull, SearchLimits
from lrpc.workloads.placing.place import Aims, ask, takes
from lrpc.workloads.placing.problem import Problem
from lrpc.workloads.placing.question import feasible
from lrpc.workloads.replay.busy import busy
from lrpc.workloads.replay.placement import place
from lrpc.workloads.replay.steps import activity
from lrpc.workloads.runs.jobs import ReplayJob
from lrpc.workloads.traces.read import read_trace
from tests.support.command import HERE, Ended, lrpc, refused
from tests.support.places import SAMPLE

PODS = {"front": "n1", "cart-0": "n2", "cart-1": "n2", "ads": "n3"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run each test in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shop(nodes: bool = True) -> Path:
    """Write a trace of front, which calls two carts three times each, and ads once."""
    resources = []
    spans: list[tuple[str, int, int]] = [
        ("front", 0, 100),
        *((f"cart-{at % 2}", at * 10, at * 10 + 5) for at in range(1, 7)),
    ]
    for number, (pod, begin, end) in enumerate([*spans, ("ads", 80, 95)], 1):
        service = pod.split("-")[0]
        named = {"service.name": service, "k8s.pod.name": pod} | ({"k8s.node.name": PODS[pod]} if nodes else {})
        span: dict[str, Any] = {"traceId": "1" * 32, "spanId": f"{number:016x}", "name": "o", "kind": 2}
        span |= {"parentSpanId": f"{1:016x}" if number > 1 else ""}
        span |= {"startTimeUnixNano": str(begin * 10**6), "endTimeUnixNano": str(end * 10**6)}
        attributes = [{"key": key, "value": {"stringValue": value}} for key, value in named.items()]
        resources.append({"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [span]}]})
    path = Path("shop.json")
    path.write_text(json.dumps({"resourceSpans": resources}))
    return path


def placed(*more: object, machines: int = 3, nodes: bool = True) -> Ended:
    ended = lrpc(
        "place", shop(nodes), "--machines", machines, "--slack", machines, *HERE, "--record", "runs", "--force", *more
    )
    assert (ended.code, ended.err) == (0, "")
    return ended


def result(machines: int = 3) -> dict[str, int]:
    return place(PODS, machines, Path("runs/placement.toml"))


def constrained(text: str, **more: Any) -> dict[str, int]:
    Path("keep.toml").write_text(text)
    placed("--constraints", "keep.toml", **more)
    return result(**more)


def test_without_constraints_all_pods_go_to_one_machine() -> None:
    ended = placed()
    assert len(set(result().values())) == 1
    assert "one machine is enough: with all pods it would be busy to " in ended.out


def test_fixed_pods_stay_where_they_are_fixed() -> None:
    found = constrained("[fixed]\nfront = 2\ncart-1 = 0\n")
    assert (found["front"], found["cart-1"], found["cart-0"]) == (2, 0, 2)


def test_a_service_stands_for_all_its_pods() -> None:
    found = constrained("[fixed]\ncart = 1\n")
    assert found == dict.fromkeys(PODS, 1)


def test_pods_apart_share_no_machine() -> None:
    found = constrained('[apart]\nstore = ["cart"]\nshow = ["front", "ads"]\n')
    assert found["cart-0"] != found["cart-1"]
    assert found["front"] != found["ads"]


def test_pods_of_one_name_may_share_a_machine_where_it_is_apart_from_others() -> None:
    found = constrained('[apart]\nshow = ["front", "cart"]\n', machines=2)
    assert found["cart-0"] == found["cart-1"] != found["front"]
    found = constrained('[apart]\nshow = ["cart", "cart-0"]\n', machines=2)
    assert found["cart-0"] != found["cart-1"]


def test_pods_together_share_one() -> None:
    found = constrained('[apart]\nshow = ["front", "cart-0"]\n[together]\nstore = ["cart"]\n')
    assert found["cart-0"] == found["cart-1"] != found["front"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[fixed]\nfrnt = 0\n", "fixed.'frnt': there is no pod or service 'frnt'; there are front"),
        ("[fixed]\nfront = 3\n", "fixed.'front': 3 is no machine; give a number from 0 to 2"),
        ("[fxed]\nfront = 0\n", "fxed"),
        (
            '[apart]\none = ["front", "ads"]\n[together]\ntwo = ["ads", "front"]\nthree = ["cart"]\n',
            "constraints together.two, apart.one cannot hold together",
        ),
        (
            '[fixed]\nfront = 0\nads = 1\ncart = 1\n[together]\ntwo = ["ads", "front"]\n',
            "constraints fixed.front, fixed.ads, together.two cannot hold together",
        ),
        ('[apart]\nall = ["front", "ads", "cart-0", "cart-1"]\n', "constraint apart.all cannot hold on 3 machines; "),
    ],
)
def test_constraints_that_cannot_hold_are_named(text: str, said: str) -> None:
    Path("keep.toml").write_text(text)
    line = refused("place", shop(), "--machines", 3, *HERE, "--constraints", "keep.toml")
    assert said in line


@pytest.mark.parametrize(
    ("text", "machines", "said"),
    [
        ('[apart]\nall = ["front", "ads", "cart"]\n', 2, "constraint apart.all cannot hold on 2 machines; "),
        ('[apart]\none = ["cart"]\n', 1, "constraint apart.one cannot hold on 1 machine; "),
        (
            '[fixed]\nfront = 0\nads = 0\n[apart]\none = ["front", "ads"]\ntwo = ["cart", "front"]\n',
            3,
            "constraints fixed.front, fixed.ads, apart.one cannot hold together; remove or change one",
        ),
        (
            '[fixed]\nfront = 0\ncart = 1\n[apart]\none = ["front", "ads", "cart"]\ntwo = ["ads"]\n',
            2,
            "constraint apart.one cannot hold on 2 machines; remove or change one, or add machines",
        ),
        (
            '[fixed]\nfront = 0\nads = 1\ncart = 1\n[together]\none = ["ads", "front"]\ntwo = ["cart-0", "cart-1"]\n'
            '[apart]\nthree = ["cart"]\n',
            3,
            "constraints together.two, apart.three cannot hold together, "
            "and constraints fixed.front, fixed.ads, together.one cannot hold together; ",
        ),
    ],
)
def test_all_constraints_that_conflict_are_named_and_what_they_conflict_with(
    text: str, machines: int, said: str
) -> None:
    Path("keep.toml").write_text(text)
    assert said in refused("place", shop(), "--machines", machines, *HERE, "--constraints", "keep.toml")


def test_constraints_that_leave_a_machine_too_busy_or_too_full_are_named() -> None:
    Path("keep.toml").write_text('[together]\nall = ["front", "ads", "cart"]\n[fixed]\nads = 0\n')
    args = ("place", shop(), "--machines", 2, *HERE, "--constraints", "keep.toml")
    said = "constraint together.all cannot hold where machines are busy to at most 60 % of their processors; "
    assert said in refused(*args, "--processors", 1, "--interval", 0.1, "--utilisation", 0.6)
    assert "a machine may hold 60.00 %, with constraint together.all; the smallest" in refused(*args, "--slack", 1.2)


def test_what_the_placement_before_breaks_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("keep.toml").write_text("[fixed]\nfront = 1\n")
    ended = placed("--constraints", "keep.toml")
    assert "today does not fit: it does not keep constraint fixed.front\n" in ended.out
    assert "and that keep 1 constraint\n" in ended.out
    Path("keep.toml").write_text('[apart]\nall = ["front", "ads"]\n')
    for pod in PODS:
        monkeypatch.setitem(PODS, pod, "n1")
    ended = placed("--constraints", "keep.toml", "--baseline", "today", "--processors", 1, "--interval", 0.1)
    assert (
        "today does not fit: it does not keep constraint apart.all, "
        "and its busiest machine is busy for longer than the utilisation allows\n"
    ) in ended.out


def test_one_machine_is_not_enough_for_pods_fixed_on_two() -> None:
    Path("keep.toml").write_text("[fixed]\nfront = 0\nads = 1\n")
    assert "one machine is enough" not in placed("--constraints", "keep.toml").out
    Path("keep.toml").write_text("[fixed]\nfront = 1\nads = 1\n")
    assert "one machine is enough" in placed("--constraints", "keep.toml").out


def test_a_constraint_on_what_is_not_traced_is_refused() -> None:
    case = Path(__file__).parents[1] / "traces" / "cases" / "kd2-leaf-client-db.json"
    Path("keep.toml").write_text('[fixed]\n"front: SELECT" = 0\n')
    line = refused("place", case, "--machines", 2, *HERE, "--constraints", "keep.toml")
    assert "'front: SELECT' is not traced, and so outside of all machines; remove it" in line


def test_today_is_where_the_trace_says_that_pods_are() -> None:
    Path("keep.toml").write_text('[apart]\nshow = ["front", "ads"]\n')
    ended = placed("--constraints", "keep.toml")
    assert re.search(r"┃ +┃ today +┃ found +┃ saved", ended.out)
    assert place(PODS, 3, Path("runs/today.toml")) == {"ads": 2, "cart-0": 1, "cart-1": 1, "front": 0}
    # The carts stay, and front moves to them: one move saves six calls.
    assert result() == {"ads": 2, "cart-0": 1, "cart-1": 1, "front": 1}
    assert re.search(r"│ front │ n1 +│ n2 │ +6 │ +1 │", ended.out)


def test_where_nodes_are_not_known_or_too_many_the_trace_cannot_say_today() -> None:
    for ended, why in (
        (placed(nodes=False), "shop.json does not say on which node or host pods are; --baseline with a file would"),
        (placed(machines=2), "shop.json names 3 nodes; --machines 3 would compare with it"),
    ):
        assert "┃ spread" in ended.out
        assert f"spread stands in for today's placement: {why}" in ended.out
    for nodes, machines, said in (
        (False, 3, "does not say on which node or host pods are"),
        (True, 2, "names 3 nodes"),
    ):
        assert said in refused("place", shop(nodes), "--machines", machines, *HERE, "--baseline", "today")


def test_where_all_pods_are_on_one_node_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for pod in PODS:
        monkeypatch.setitem(PODS, pod, "n1")
    said = "spread stands in for today's placement: shop.json has all pods on one, n1, where nothing crosses"
    assert said in placed().out
    for ended in (placed("--baseline", "today"), placed(machines=1), placed("--baseline", "pack")):
        assert "stands in" not in ended.out


@pytest.mark.parametrize(
    ("saved", "said"),
    [
        ([2.8, 10.234], "2.80 % to 10.23 % less"),
        ([-0.98, -11.35], "0.98 % to 11.35 % more"),
        ([-11.35, 0.98], "from 11.35 % more to 0.98 % less"),
        ([-0.001, 0.0], "0.00 % to 0.00 % less"),
        ([0.001, -4.25], "0.00 % to 4.25 % more"),
    ],
)
def test_a_worse_placement_takes_more(saved: list[float], said: str) -> None:
    assert takes(saved) == said


def test_machines_that_are_alike_are_named_so_that_most_pods_stay() -> None:
    before = {"a": 0, "b": 0, "c": 1, "d": 2}
    assert renamed({"a": 2, "b": 2, "c": 0, "d": 1}, before, 3, []) == before
    assert renamed({"a": 1, "b": 1, "c": 0, "d": 2}, before, 3, [1]) == {"a": 1, "b": 1, "c": 0, "d": 2}


def test_gaps_and_bytes_are_weighed_where_that_is_asked_for() -> None:
    for weight, unit in (("gaps", "ns of recorded gaps"), ("bytes", "bytes")):
        args = ("place", SAMPLE, "--machines", 2, "--slack", 1.7, "--weight", weight)
        ended = lrpc(*args, *HERE, "--record", f"runs-{weight}")
        assert ended.code == 0
        assert f"what they weigh, {unit}" in ended.out
        crossing = rf"\d+ of 11 calls cross machines, in place of 6; [0-9,]+ {unit} do, in place of "
        assert re.match(crossing, ended.out.splitlines()[-1])
        found = json.loads(lrpc(*args, *HERE, "--record", f"json-{weight}", "--json").out)
        heads = [f"{unit} saved", f"cross-machine {unit} then", "calls saved", "cross-machine calls then"]
        assert list(found["moves"][0]) == ["pod", "from", "to", *heads]
        assert found["moves"][-1][heads[1]] == found["crosses"] == found["curve"][-1][f"cross-machine {unit}"]
        assert re.search(rf"at least [0-9,]+ {unit} cross in any placement \(gap 0.00 %", ended.out)
    asked = ask(ReplayJob(trace=str(SAMPLE), machines=2, message_bytes=500), 1.7, Aims(weight="bytes"))
    assert sum(asked.problem.weights.values()) == 2 * 500 * 11


def test_computation_by_interval_adds_up() -> None:
    trace = read_trace(shop())
    found = busy(trace, activity(trace), 7_000_000)
    total = {pod: sum(one[pod] for one in found.values()) for pod in trace.pods}
    assert total == dict(activity(trace).computed_ns)
    assert all(sum(one.values()) <= 2 * 7_000_000 for one in found.values())


def test_machines_are_no_busier_than_they_may_be() -> None:
    # Front computes 55 ms of 100, the carts 15 each, ads 15.
    args = ("--processors", 1, "--interval", 0.1, "--utilisation", 0.7, "--no-curve")
    ended = placed(*args)
    assert "one machine is enough" not in ended.out
    assert re.search(r"the busiest machine in its busiest interval +│ 55.00 % +│ 70.00 % ", ended.out)
    line = refused("place", shop(), "--machines", 3, *HERE, *args[:4], "--utilisation", 0.5, "--slack", 3)
    assert "no placement leaves every machine busy to at most 50 % of its processors" in line
    ended = lrpc("place", shop(), "--machines", 3, *HERE, "--processors", 1, "--interval", 0.05, "--no-curve")
    assert "utilisation 0.6: the smallest" not in ended.out


def test_rules_for_kubernetes_join_what_is_on_one_machine() -> None:
    Path("keep.toml").write_text('[apart]\nshow = ["front", "ads"]\nstore = ["cart"]\n')
    ended = placed("--constraints", "keep.toml", "--kubernetes", "rules.yaml", "--topology", "zone")
    assert "no rule for cart: its pods are on 2 machines" in ended.out
    rules = list(yaml.safe_load_all(Path("rules.yaml").read_text()))
    assert [(rule["kind"], rule["metadata"]["name"]) for rule in rules] == [
        ("Deployment", "ads"),
        ("Deployment", "front"),
    ]
    for rule in rules:
        template = rule["spec"]["template"]
        (own,) = template["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert own["labelSelector"]["matchLabels"] == template["metadata"]["labels"]
        assert own["topologyKey"] == "topology.kubernetes.io/zone"
    assert len({str(rule["spec"]["template"]["metadata"]["labels"]) for rule in rules}) == 2


@pytest.mark.parametrize(
    ("pod", "name", "kind", "is_guess"),
    [
        ("front-6b7c9d5f4-x2x9p", "front", "Deployment", False),
        ("pay-0", "pay", "StatefulSet", False),
        ("log-agent-x2x9p", "log-agent", "DaemonSet", True),
        ("adservice", "adservice", "Deployment", True),
    ],
)
def test_the_name_of_a_pod_tells_what_it_is_of(pod: str, name: str, kind: str, is_guess: bool) -> None:
    found = workload(read_trace(shop()), pod)
    assert (found.name, found.kind, bool(found.guess)) == (name, kind, is_guess)


def test_rules_are_for_the_kind_that_pods_are_of_and_say_where_it_is_a_guess() -> None:
    placed("--kubernetes", "rules.yaml")
    text = Path("rules.yaml").read_text()
    kinds = {rule["metadata"]["name"]: rule["kind"] for rule in yaml.safe_load_all(text)}
    assert kinds == {"ads": "Deployment", "cart": "StatefulSet", "front": "Deployment"}
    assert text.count("# Deployment is a guess: the names of its pods do not tell.\napiVersion") == 2
    assert "StatefulSet is a guess" not in text


def test_the_curve_has_every_number_of_machines_once() -> None:
    ended = placed(machines=3)
    assert numbers(ended) == [1, 2, 3]
    assert numbers(placed(machines=7)) == [1, 2, 3, 4, 5, 6, 7]
    assert sorted(order(40)) == list(range(1, 41))
    assert order(40)[:9] == [1, 2, 3, 4, 6, 8, 12, 16, 24]


def test_a_number_of_machines_without_a_row_has_a_reason() -> None:
    Path("keep.toml").write_text('[fixed]\nfront = 2\n[apart]\nshow = ["front", "ads"]\n')
    ended = placed("--constraints", "keep.toml", machines=4)
    assert numbers(ended) == [3, 4]
    assert "the last table has no row for 1 to 2 machines: fixed.front is on machine 2\n" in ended.out
    Path("keep.toml").write_text('[apart]\nshow = ["front", "ads"]\n')
    ended = placed("--constraints", "keep.toml", machines=60)
    assert numbers(ended) == [*range(2, 51), 60]
    assert "the last table has no row for 1 machine: constraint apart.show cannot hold\n" in ended.out
    assert "the last table has no row for 51 to 59 machines: there are only 4 pods\n" in ended.out


def test_numbers_of_machines_for_which_there_is_no_time_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lrpc.workloads.placing.curve.LEAST_SECONDS", 1e6)
    ended = placed(machines=5)
    assert numbers(ended) == [5]
    assert "the last table has no row for 1 to 4 machines: the time that --seconds gives was over\n" in ended.out


def numbers(ended: Ended) -> list[int]:
    """Return the numbers of machines that have a row in the last table."""
    return [int(row) for row in re.findall(r"^│ +(\d+) │ +[\d,.]+ │", ended.out.split("What more ")[1], re.MULTILINE)]


def test_a_slack_that_was_not_proved_to_be_the_smallest_is_not_called_so() -> None:
    asked = ask(ReplayJob(trace=str(SAMPLE), machines=4), 1.2)
    assert feasible(asked, SearchLimits(20_000, 60.0), slack=True, utilisation=True).is_least
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lrpc.workloads.placing.question.fitting", overfull)
        found = feasible(asked, SearchLimits(20_000, 60.0), slack=True, utilisation=False)
    assert (found.raised, found.is_least) == (True, False)


def overfull(problem: Problem, limits: SearchLimits) -> tuple[int, ...]:
    raise Overfull(sum(problem.loads), proven=False)
