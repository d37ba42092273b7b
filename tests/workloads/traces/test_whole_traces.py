"""What a whole trace is: services that are not traced, domains joined, columns, many files."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.workloads.replay import contents
from lrpc.workloads.replay.steps import activity
from lrpc.workloads.traces.calls import outside
from lrpc.workloads.traces.formats.csv_rows import COLUMNS
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.sources import workload_of
from tests.support.command import HERE, lrpc, record
from tests.support.places import PROJECT

HEADER = ",".join(COLUMNS)
CASES = Path(__file__).with_name("cases")
SAMPLE = PROJECT / "workloads" / "traces" / "sample-trace.csv"


def clients_span(folder: Path, **attributes: str | int) -> dict[int, str]:
    """Return what a client's span with these attributes, 90 of its parent's 100 ms, called."""
    tags = [{"key": key, "value": value} for key, value in {"span.kind": "client", **attributes}.items()]
    spans = [
        {"spanID": "1", "operationName": "GET /", "startTime": 0, "duration": 100_000},
        {"spanID": "2", "operationName": "SELECT", "startTime": 5_000, "duration": 90_000, "tags": tags},
    ]
    for span in spans:
        span |= {"traceID": "t", "processID": "p"}
    spans[1]["references"] = [{"refType": "CHILD_OF", "traceID": "t", "spanID": "1"}]
    document = {"data": [{"spans": spans, "processes": {"p": {"serviceName": "front"}}}]}
    path = folder / "trace.json"
    path.write_text(json.dumps(document))
    trace = read_trace(path)
    assert activity(trace).computed_ns == {"front": 10_000_000}
    return dict(outside(trace))


@pytest.mark.parametrize(
    ("attributes", "named"),
    [
        ({}, "front: SELECT"),
        ({"db.system": "mysql", "server.address": "10.0.0.1"}, "mysql"),
        ({"peer.service": "users-db", "db.system": "mysql"}, "users-db"),
        ({"server.address": "db.internal"}, "db.internal"),
        ({"http.url": "https://api.example.org/v1?q=2"}, "api.example.org"),
        ({"http.url": "https://[bad"}, "front: SELECT"),
        ({"peer.service": "front"}, "front (not traced)"),
        ({"peer.service": "a\0b"}, "front: SELECT"),
    ],
)
def test_what_is_not_traced_has_the_name_that_a_client_gives_it(
    tmp_path: Path, attributes: dict[str, str], named: str
) -> None:
    assert clients_span(tmp_path, **attributes) == {1: named}


@pytest.mark.parametrize(
    ("pod", "workload"),
    [
        ("cartservice-579f59597d-wc2lz", "cartservice"),
        ("ts-basic-service-5dc8d4f9fd-46997", "ts-basic-service"),
        ("node-exporter-x7k2p", "node-exporter"),
        ("redis-0", "redis"),
        ("order-front", "order-front"),
        ("cart", "cart"),
    ],
)
def test_what_kubernetes_adds_to_a_pods_name_goes(pod: str, workload: str) -> None:
    assert workload_of(pod) == workload


def pods(folder: Path, group: str) -> list[str]:
    rows = [f"t,{at},{'root' if at == 0 else 0},{pod},op,{at},{100 - at}" for at, pod in enumerate(PODS)]
    path = folder / "trace.csv"
    path.write_text("\n".join((HEADER, *rows)))
    return read_trace(path, group=group).pods


PODS = ("front-7b9c4d5f68-k8vqf", "front-7b9c4d5f68-x2x9p", "cart-0", "cart-1")


def test_domains_that_are_alike_are_joined(tmp_path: Path) -> None:
    assert pods(tmp_path, "") == pods(tmp_path, "instance") == sorted(PODS)
    assert pods(tmp_path, "service") == ["cart", "front"]
    assert pods(tmp_path, "^cart") == ["cart", *PODS[:2]]
    assert pods(tmp_path, "^(.*?)-[a-z0-9]+-[a-z0-9]+$") == [*PODS[2:], "front"]


def test_a_domain_of_several_services_is_warned_of(tmp_path: Path) -> None:
    ended = lrpc("traces", CASES / "a-jaeger-one-host.json", "--group", "^(.)")
    assert ended.code == 0
    assert "Mind that" not in ended.out
    joined = lrpc("traces", CASES / "a-jaeger-one-host.json", "--group", "^(a|c)().*")
    assert joined.code == 0
    ended = lrpc("traces", CASES / "a-jaeger-one-host.json", "--group", "(?:a|c|f).*?(r|s)")
    assert "Mind that domain r holds 2 services: cart, front\n" in ended.out


def test_columns_of_any_name_unit_and_kind_are_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text(
        "When;Took;Who;What;Id;Up;Of;Side;Whom\n"
        "1700000000.5;100;front;GET /;1;;t;server;\n"
        "1700000000.505;90;front;SELECT;2;1;t;CLIENT;users-db\n"
    )
    layout = "trace=Of,span=Id,parent=Up,service=Who,operation=What,start=When:s,duration=Took:ms,kind=Side,peer=Whom"
    trace = read_trace(path, columns=layout)
    assert [span.start_ns % 10**9 for span in trace.spans] == [500_000_000, 505_000_000]
    assert outside(trace) == {1: "users-db"}
    assert activity(trace).computed_ns == {"front": 10_000_000}


@given(st.data())
def test_in_which_file_a_span_is_makes_no_difference(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    header, *rows = SAMPLE.read_text().splitlines()
    folder = tmp_path_factory.mktemp("parts")
    files = data.draw(st.lists(st.integers(0, 3), min_size=len(rows), max_size=len(rows)))
    for number in set(files):
        part = [row for row, file in zip(rows, files, strict=True) if file == number]
        (folder / f"part{number}.csv").write_text("\n".join((header, *part)))
    whole, parts = read_trace(SAMPLE), read_trace(folder)
    assert (parts.spans, parts.parents) == (whole.spans, whole.parents)


def test_a_row_left_out_of_a_folder_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "one.csv").write_text(f"{HEADER}\nt,a,root,front,op,0,9\n")
    (tmp_path / "two.csv").write_text(f"{HEADER}\nt,b,a,cart,op,5,3\n")
    (row,) = read_trace(tmp_path).left_out
    assert row.place == f"{tmp_path / 'two.csv'}, line 2"


def test_a_folder_is_replayed_and_verified(tmp_path: Path) -> None:
    folder, out = tmp_path / "parts", tmp_path / "out"
    folder.mkdir()
    (folder / "one.csv").write_text(f"{HEADER}\nt,a,root,front,op,0,90000\n")
    (folder / "two.csv").write_text(f"{HEADER}\nt,b,a,cart,op,5000,80000\n")
    assert lrpc("replay", folder, "--machines", 2, *HERE, "--out", out).code == 0
    assert lrpc("verify", out, *HERE).code == 0
    (folder / "two.csv").write_text(f"{HEADER}\nt,b,a,cart,op,5000,70000\n")
    assert lrpc("verify", out, *HERE).code == 2


def test_what_is_in_a_trace_is_told() -> None:
    told = contents.tell(read_trace(CASES / "kd2-leaf-client-db.json"))
    expected = {"form": "OTLP in JSON", "spans": 2, "domains": 1, "domains that are not traced": 1, "traces": 1}
    assert {name: told.counts[name] for name in expected} == expected
    assert told.tables[0].rows[1] == ("front: SELECT", "not traced", "", None, 1, None)


@pytest.mark.parametrize(("link", "simulated_ms"), [("model", 81.38), ("trace", 100.0), ("trace-median", 100.0)])
def test_calls_between_machines_cost_what_is_asked_for(link: str, simulated_ms: float, tmp_path: Path) -> None:
    # Two calls with gaps of 10 ms each.
    args = ("--machines", 3, *HERE, "--link", link, "--out", tmp_path / "out")
    assert lrpc("replay", CASES / "b0-otlp-service-only.json", *args).code == 0
    told = record(tmp_path / "out")["trace"]["summary"]
    assert told["mean time of a trace, simulated, us"] == pytest.approx(simulated_ms * 1000)


def test_messages_take_what_their_sizes_say(tmp_path: Path) -> None:
    rows = [
        "Of,Id,Up,Who,What,When,Took,Side,In,Out",
        "t,1,,front,GET,0,100,server,,",
        "t,2,1,cart,Get,10,50,server,1004,",
    ]
    path = tmp_path / "sized.csv"
    path.write_text("\n".join(rows))
    layout = "trace=Of,span=Id,parent=Up,service=Who,operation=What,start=When:ms,duration=Took:ms,kind=Side"
    means = []
    for number, more in enumerate(["", ",request=In,response=Out"]):
        out = tmp_path / f"out{number}"
        args = ("--machines", 2, *HERE, "--columns", layout + more, "--message-bytes", 2004, "--out", out)
        assert lrpc("replay", path, *args).code == 0
        told = record(out)["trace"]["summary"]
        assert told["calls with sizes of messages told"] == number
        assert told["bytes of a request or response, assumed of others"] == 2004
        means.append(told["mean time of a trace, simulated, us"])
    # A byte takes 0.8 ns on the link and 1 ns at each end; there are 1,000 fewer if they are told.
    assert means[0] == pytest.approx(100_690.0 + 4000 * 0.0028, abs=0.06)
    assert means[0] - means[1] == pytest.approx(1000 * 0.0028, abs=0.11)
