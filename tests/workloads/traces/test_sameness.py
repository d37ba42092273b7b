"""What makes no difference to a replay: identifiers, order and files of spans, units, and marks."""

import json
from dataclasses import dataclass
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.cluster.run import Outcome, run_cluster
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads.replay.accounts import accounts
from lrpc.workloads.replay.gaps import charged
from lrpc.workloads.replay.placement import place
from lrpc.workloads.replay.replay import replay_cluster
from lrpc.workloads.replay.steps import activity
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.trace import Trace

PODS: Final = ("cart", "front", "stock")
COSTS: Final = load_cost_model("linux-python")
COLUMNS: Final = "trace=t,span=s,parent=p,pod=d,operation=o,start=b:{0},duration=l:{0},kind=k"
MS: Final = 1_000_000


@dataclass(frozen=True)
class Row:
    """A span; its parent is the index of a row before it. Times are in ms: many begin together."""

    parent: int | None
    pod: str
    begin: int
    length: int
    kind: str


@st.composite
def traces(draw: st.DrawFn) -> list[Row]:
    rows: list[Row] = []
    for at in range(draw(st.integers(1, 9))):
        parent = draw(st.none() | st.integers(0, at - 1)) if at else None
        begin = rows[parent].begin if parent is not None else 0
        begin += draw(st.integers(0, 3))
        kind = draw(st.sampled_from(["", "server", "client", "internal"]))
        rows.append(Row(parent, draw(st.sampled_from(PODS)), begin, draw(st.integers(0, 4)), kind))
    return rows


def written(rows: list[Row], names: Random, unit: str = "ms") -> list[str]:
    """Return the rows as CSV in a unit of time, with identifiers that `names` draws."""
    ids = [f"{names.getrandbits(64):016x}" for _ in rows]
    roots: list[str] = []
    for row in rows:
        roots.append(f"{names.getrandbits(128):032x}" if row.parent is None else roots[row.parent])
    per_ms = MS // {"ns": 1, "us": 1_000, "ms": MS}[unit]
    return [
        f"{trace},{own},{'' if row.parent is None else ids[row.parent]},{row.pod},do,"
        f"{(row.begin + 10**9) * per_ms},{row.length * per_ms},{row.kind}"
        for row, own, trace in zip(rows, ids, roots, strict=True)
    ]


def read(*files: list[str], unit: str = "ms") -> Trace:
    with TemporaryDirectory() as folder:
        for number, lines in enumerate(files):
            if lines:
                Path(folder, f"{number}.csv").write_text("\n".join(["t,s,p,d,o,b,l,k", *lines]) + "\n")
        return read_trace(folder, columns=COLUMNS.format(unit))


def replayed(trace: Trace, placement: str = "spread") -> Outcome:
    done = activity(trace)
    placed = place(trace.pods, 2, placement)
    calls = charged(trace, done, placed, 2, link="model", costs=COSTS, seed=0, link_delay_us=50, link_mbps=1e4)
    cluster = replay_cluster(
        "t", trace, done, placed, 2, costs=calls.costs, processors=1, link_delay_us=50, link_mbps=1e4
    )
    outcome = run_cluster(cluster, actors=0, transport="memory")
    times = accounts(trace, done, placed, calls, outcome).times
    assert times[0].recorded_ns == times[0].simulated_ns == sum(done.computed_ns.values())
    return outcome


@given(rows=traces(), chance=st.randoms(use_true_random=False))
def test_identifiers_order_files_and_units_make_no_difference(rows: list[Row], chance: Random) -> None:
    digest = replayed(read(written(rows, Random(1)))).digest
    assert replayed(read(written(rows, Random(chance.random())))).digest == digest
    shuffled = written(rows, Random(1))
    chance.shuffle(shuffled)
    cut = chance.randrange(len(shuffled) + 1)
    assert replayed(read(shuffled[:cut], shuffled[cut:])).digest == digest
    for unit in ("us", "ns"):
        assert replayed(read(written(rows, Random(1), unit), unit=unit)).digest == digest


@given(rows=traces(), data=st.data())
def test_a_mark_within_a_span_changes_no_time(rows: list[Row], data: st.DataObject) -> None:
    """A span of no length, where its parent ran, that called nothing, and is no client's."""
    at = data.draw(st.integers(0, len(rows) - 1))
    begin = data.draw(st.integers(rows[at].begin, rows[at].begin + rows[at].length))
    mark = Row(at, rows[at].pod, begin, 0, data.draw(st.sampled_from(["", "server", "internal"])))
    before, after = (read(written(some, Random(1))) for some in (rows, [*rows, mark]))
    assert after.marks() == before.marks() + 1
    assert activity(after).computed_ns == activity(before).computed_ns
    times = [[one.end_ns for one in replayed(trace).machines] for trace in (before, after)]
    assert times[0] == times[1]


@given(rows=traces(), split=st.sets(st.sampled_from(PODS)))
def test_any_placement_computes_as_much_in_all_as_was_recorded(rows: list[Row], split: set[str]) -> None:
    """What processors did beside the steps that a cost model charges is the spans' computation."""
    trace = read(written(rows, Random(1)))
    with TemporaryDirectory() as folder:
        file = Path(folder, "placement.toml")
        file.write_text("[placement]\n" + "".join(f"{json.dumps(pod)} = {int(pod in split)}\n" for pod in trace.pods))
        outcome = replayed(trace, str(file))
    busy_us = sum(machine.busy_ns for machine in outcome.machines) / 1000
    charged_us = sum(
        count * COSTS.file.steps[step].us for machine in outcome.machines for step, count in machine.charges.items()
    )
    computed_us = sum(activity(trace).computed_ns.values()) / 1000
    assert busy_us - charged_us == pytest.approx(computed_us, abs=0.001 * len(rows))
