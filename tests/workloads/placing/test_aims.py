"""A placement keeps what it must, starts from where pods are today, and says what it saves."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from lrpc.workloads.placing.moves import renamed
from lrpc.workloads.placing.place import Aims, ask
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
    return result()


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
    assert "┃ spread" in placed(nodes=False).out
    assert "┃ spread" in placed(machines=2).out
    for nodes, machines, said in (
        (False, 3, "does not say on which node or host pods are"),
        (True, 2, "names 3 nodes"),
    ):
        assert said in refused("place", shop(nodes), "--machines", machines, *HERE, "--baseline", "today")


def test_machines_that_are_alike_are_named_so_that_most_pods_stay() -> None:
    before = {"a": 0, "b": 0, "c": 1, "d": 2}
    assert renamed({"a": 2, "b": 2, "c": 0, "d": 1}, before, 3, []) == before
    assert renamed({"a": 1, "b": 1, "c": 0, "d": 2}, before, 3, [1]) == {"a": 1, "b": 1, "c": 0, "d": 2}


def test_gaps_and_bytes_are_weighed_where_that_is_asked_for() -> None:
    for weight, unit in (("gaps", "ns of recorded gaps"), ("bytes", "bytes")):
        ended = lrpc(
            "place", SAMPLE, "--machines", 2, "--slack", 1.7, "--weight", weight, *HERE, "--record", f"runs-{weight}"
        )
        assert ended.code == 0
        assert f"what they weigh, {unit}" in ended.out
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


def test_the_curve_has_every_number_of_machines_once() -> None:
    ended = placed(machines=3)
    rows = re.findall(r"^│ +(\d) │ +(\d+) │", ended.out.split("What more machines cost")[1], re.MULTILINE)
    assert [machines for machines, _ in rows] == ["1", "2", "3"]
