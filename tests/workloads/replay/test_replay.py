"""A replay accounts for every span of a trace, from the kernel's counters, in any placement."""

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from lrpc.cluster.run import Outcome, run_cluster
from lrpc.kernel.simulated.costs import COST_MODELS, load_cost_model
from lrpc.workloads.records.records import TraceAccounts, total_counts
from lrpc.workloads.replay.accounts import accounts
from lrpc.workloads.replay.crossings import crossings
from lrpc.workloads.replay.gaps import Charged
from lrpc.workloads.replay.placement import place
from lrpc.workloads.replay.replay import replay_cluster, trace_name
from lrpc.workloads.replay.steps import Activity, activity
from lrpc.workloads.reproduction.paper import table_i
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.trace import Trace
from tests.support.command import HERE as IN_MEMORY
from tests.support.command import lrpc, record, refused
from tests.support.places import REAL_TRACES, SAMPLE

BOUTIQUE = REAL_TRACES / "online-boutique.csv"


@pytest.mark.parametrize(("machines", "crossing"), [(1, 0), (2, 6), (4, 11)])
def test_the_sample_is_accounted_for_on_any_number_of_machines(machines: int, crossing: int, tmp_path: Path) -> None:
    command = ("replay", SAMPLE, "--machines", machines, "--actors", 0, "--out", tmp_path / "run")
    ended = lrpc(*command)
    assert (ended.code, ended.err) == (0, "")
    found = record(tmp_path / "run")
    counts, summary = found["counts"], found["trace"]["summary"]
    assert summary["spans"] == summary["spans accounted for"] == 36
    assert (summary["traces begun (first spans)"], summary["calls that leave their domain"]) == (5, 11)
    assert (counts["cross_machine"], counts["cross_domain"]) == (crossing, 11 - crossing)
    assert counts["astacks_taken"] == counts["linkages_pushed"] == counts["cross_domain"]
    assert counts["link_requests"] == counts["link_replies"] == counts["cross_machine"]
    assert summary["end after their parent"] == 1
    assert found["trace"]["left_out"] == []


def test_the_record_states_processors_cost_model_and_placement(tmp_path: Path) -> None:
    assert lrpc("replay", SAMPLE, "--machines", 2, "--actors", 0, "--out", tmp_path / "run").code == 0
    settings = record(tmp_path / "run")["settings"]
    assert (settings["processors"], settings["cost_model"], settings["machines"]) == (16, "linux-python", 2)
    assert (settings["placement"], sorted(settings["placed"].values())) == ("spread", [0, 0, 1, 1])
    assert settings["trace"] == str(SAMPLE)


def test_the_row_of_table_i_is_named_after_the_trace(tmp_path: Path) -> None:
    assert lrpc("replay", SAMPLE, "--machines", 2, "--actors", 0, "--out", tmp_path / "run").code == 0
    cells = record(tmp_path / "run")["cells"]
    assert [(cell["table"], cell["row"], cell["column"]) for cell in cells[:2]] == [
        ("I", "sample-trace", "remote/local"),
        ("I", "sample-trace", "remote/total"),
    ]
    assert [cell["ours"] for cell in cells[:2]] == pytest.approx([100 * 6 / 5, 100 * 6 / 11])


def test_the_rows_of_1989_stand_beside_it_as_what_was_not_run(tmp_path: Path) -> None:
    said = lrpc("replay", SAMPLE, "--machines", 2, *IN_MEMORY, "--out", tmp_path / "run").out
    found = record(tmp_path / "run")["cells"][2:]
    assert [(cell["row"], cell["column"], cell["paper"]) for cell in found] == [
        ("V, 1989", "remote/total", 3.0),
        ("Taos, 1989", "remote/local", 5.3),
        ("Taos, 1989", "remote/total", 5.06),
        ("Sun UNIX+NFS, 1989", "remote/total", 0.6),
    ]
    assert {(cell["ours"], cell["kind"]) for cell in found} == {("not run", "input")}
    assert re.search(r"Taos, 1989 +│ remote/local │ +5.30 │ +not run │", said)


def test_a_trace_that_was_replayed_says_where_its_time_went(tmp_path: Path) -> None:
    said = lrpc("replay", SAMPLE, "--machines", 2, *IN_MEMORY, "--out", tmp_path / "run").out
    found = record(tmp_path / "run")["trace"]
    for time in ("recorded_ns", "simulated_ns"):
        *parts, whole = (part[time] for part in found["times"])
        assert sum(part for part in parts if part is not None) == whole > 0
    assert found["traces"] == 5
    recorded, simulated = (found["times"][-1][time] / 5 / 1000 for time in ("recorded_ns", "simulated_ns"))
    assert re.search(rf"in all +│ +{recorded:,.1f} │ +{simulated:,.1f} │", said)
    rows = (tmp_path / "run" / "times.csv").read_text().splitlines()
    assert len(rows) == 1 + len(found["times"])


@pytest.mark.parametrize(("path", "name"), [("a/shop.csv.gz", "shop"), ("shop", "shop"), (".hidden", ".hidden")])
def test_a_trace_is_called_what_its_file_is_without_endings(path: str, name: str) -> None:
    assert trace_name(Path(path)) == name


@pytest.mark.parametrize("placement", ["pack", "file"])
def test_pods_go_where_the_placement_says(placement: str, tmp_path: Path) -> None:
    pods = read_trace(SAMPLE).pods
    (tmp_path / "placed.toml").write_text("[placement]\n" + "".join(f'"{pod}" = 1\n' for pod in pods))
    chosen = tmp_path / "placed.toml" if placement == "file" else "pack"
    more = ("--capacity", 4) if placement == "pack" else ()
    ended = lrpc(
        "replay", SAMPLE, "--machines", 2, "--placement", chosen, *more, "--actors", 0, "--out", tmp_path / "run"
    )
    assert ended.code == 0
    found = record(tmp_path / "run")
    assert set(found["settings"]["placed"].values()) == ({1} if placement == "file" else {0})
    assert found["counts"]["cross_machine"] == 0


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("", "placement.'payment-84fd9c7b6-q8n7r': this pod has no machine; add a line for it"),
        ('"payment" = 1\n', "placement.'payment': no such pod in the trace; remove the line"),
        (
            '"payment-84fd9c7b6-q8n7r" = 2\n',
            "placement.'payment-84fd9c7b6-q8n7r': 2 is not a machine; give a number from 0",
        ),
    ],
)
def test_a_placement_file_with_unknown_or_missing_pods_is_refused(line: str, told: str, tmp_path: Path) -> None:
    pods = [pod for pod in read_trace(SAMPLE).pods if not pod.startswith("payment")]
    path = tmp_path / "placed.toml"
    path.write_text("[placement]\n" + "".join(f'"{pod}" = 1\n' for pod in pods) + line)
    said = refused("replay", SAMPLE, "--machines", 2, "--placement", path, "--out", tmp_path / "run")
    assert said.startswith(f"lrpc: {path}: {told}")
    assert not (tmp_path / "run").exists()


def test_a_cost_model_without_network_replays_on_one_machine_alone(tmp_path: Path) -> None:
    text = (COST_MODELS / "linux-python.toml").read_text()
    steps = [line for line in text.splitlines() if not line.startswith(("remote_", "network_"))]
    local = "\n".join(steps).split("[[totals]]")
    (tmp_path / "local.toml").write_text("[[totals]]".join(local[:2]))
    command = ("replay", SAMPLE, "--cost-model", tmp_path / "local.toml", "--actors", 0, "--out", tmp_path / "run")
    ended = lrpc(*command, "--machines", 2)
    assert ended.code == 2
    assert "has no costs for network; add steps.remote_client and the rest" in ended.line
    assert lrpc(*command, "--machines", 1).code == 0


if BOUTIQUE.exists():

    @dataclass(frozen=True)
    class Boutique:
        trace: Trace
        done: Activity

        def on(self, machines: int) -> tuple[Outcome, TraceAccounts]:
            costs = load_cost_model("linux-python")
            placed = place(self.trace.pods, machines, "spread")
            cluster = replay_cluster(
                "online-boutique",
                self.trace,
                self.done,
                placed,
                machines,
                costs=costs,
                link_delay_us=50.0,
                link_mbps=10_000.0,
            )
            outcome = run_cluster(cluster, actors=0, transport="memory")
            each = crossings(costs, machines, link_delay_us=50.0, link_mbps=10_000.0)
            return outcome, accounts(self.trace, self.done, placed, Charged(costs, 50.0, each, {}, 1e4), outcome)

    @pytest.fixture(scope="module")
    def boutique() -> Boutique:
        trace = read_trace(BOUTIQUE, strict=True)
        return Boutique(trace, activity(trace))

    @pytest.mark.parametrize(
        ("machines", "crossing"),
        [(4, 4_959), *(pytest.param(*one, marks=pytest.mark.long) for one in ((1, 0), (10, 5_525)))],
    )
    def test_every_span_of_online_boutique_is_accounted_for(machines: int, crossing: int, boutique: Boutique) -> None:
        outcome, found = boutique.on(machines)
        counts, summary = total_counts(outcome), found.summary
        assert summary["spans"] == summary["spans accounted for"] == 22_969
        assert summary["calls that leave their domain"] == summary["their client sides"] == 5_525
        assert (counts["cross_machine"], counts["cross_domain"]) == (crossing, 5_525 - crossing)
        assert counts["astacks_taken"] == counts["linkages_pushed"] == counts["cross_domain"]
        assert counts["link_requests"] == counts["link_replies"] == counts["cross_machine"]
        assert summary["end after their parent"] == 1_736
        assert summary["not waited for by their parent (asynchronous)"] == 477
        assert summary["start before their parent (clamped)"] == 0
        assert summary["median network gap of a call, recorded, us"] == pytest.approx(3111, abs=1)
        for times in zip(*((part.recorded_ns, part.simulated_ns) for part in found.times), strict=True):
            assert sum(part or 0 for part in times[:-1]) == times[-1]
        waited = found.times[-2].simulated_ns
        assert waited is not None
        assert 0 <= waited < 1_000 * found.traces  # 16 processors suffice; switches take 2 us
        total = next(cell for cell in table_i("boutique", counts) if cell.column == "remote/total")
        assert total.ours == pytest.approx(100 * crossing / 5_525)

    @pytest.mark.long
    def test_online_boutique_takes_as_long_as_recorded_where_calls_cost_their_gaps(tmp_path: Path) -> None:
        said = lrpc("replay", BOUTIQUE, "--machines", 4, "--link", "trace", *IN_MEMORY, "--out", tmp_path / "run").out
        times = {part["part"]: part for part in record(tmp_path / "run")["trace"]["times"]}
        whole = times["in all"]
        assert whole["simulated_ns"] == pytest.approx(whole["recorded_ns"], rel=0.15)
        for time in ("recorded_ns", "simulated_ns"):
            assert sum(part[time] or 0 for part in times.values()) == 2 * whole[time]
        assert "assumed: cross-machine calls cost what is drawn from the gaps recorded between two domains" in said
        assert "assumed: 5,525 spans without a kind, whose one child ran elsewhere, are clients' views" in said
