"""A replay repeats a recorded trace except for the costs of calls: round numbers, virtual time."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from lrpc.cluster.run import Outcome, run_cluster
from lrpc.kernel.simulated.costs import PARTS, CostModel
from lrpc.workloads.records.records import TraceAccounts, total_counts
from lrpc.workloads.replay.accounts import accounts
from lrpc.workloads.replay.crossings import Crossings, crossings
from lrpc.workloads.replay.gaps import Charged
from lrpc.workloads.replay.placement import place
from lrpc.workloads.replay.replay import replay_cluster
from lrpc.workloads.replay.steps import Activity, activity
from lrpc.workloads.replay.tape import Compute, Do
from lrpc.workloads.traces.formats.csv_rows import COLUMNS
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.trace import Trace
from tests.support.properties import examples
from tests.support.simulated import costs_of
from tests.support.tapes import steps_of

PACKETS = PARTS["packets"]  # without these, messages travel whole
FREE = costs_of(0, pages=(0, 0))
Row = tuple[str, str, str, int, int]  # span, parent, pod, begin and end in us


@dataclass(frozen=True)
class Replayed:
    """A replayed trace and its results."""

    trace: Trace
    done: Activity
    placed: Mapping[str, int]
    each: Crossings
    outcome: Outcome

    @property
    def us(self) -> float:
        """Return the total time of all first spans, in us."""
        found = 0
        for machine in self.outcome.machines:
            for findings in machine.findings.values():
                took = findings.get("simulated_ns", 0)
                assert isinstance(took, int)
                found += took
        return found / 1000

    @property
    def end_us(self) -> float:
        """Return the time at which the last machine finished, in us."""
        return max(machine.end_ns for machine in self.outcome.machines) / 1000

    @property
    def counts(self) -> Mapping[str, int]:
        return total_counts(self.outcome)

    @property
    def accounts(self) -> TraceAccounts:
        return accounts(
            self.trace,
            self.done,
            self.placed,
            Charged(FREE, 50.0, self.each, {}, 1e4),
            self.outcome,
        )

    def account(self, name: str) -> int | float:
        return self.accounts.summary[name]

    def time(self, part: str) -> tuple[int | None, int | None]:
        """Return the recorded and simulated time, in ns, of the part whose name begins so."""
        (found,) = (one for one in self.accounts.times if one.part.startswith(part))
        return found.recorded_ns, found.simulated_ns


def recorded(folder: Path, rows: Sequence[Row]) -> Trace:
    path = folder / "trace.csv"
    lines = [f"t,{span},{parent},{pod},op,{1000 * begin},{1000 * end}" for span, parent, pod, begin, end in rows]
    path.write_text("\n".join((",".join(COLUMNS), *lines)))
    return read_trace(path, strict=True)


def replayed(
    folder: Path,
    *rows: Row,
    machines: int = 1,
    processors: int = 16,
    costs: CostModel = FREE,
    delay_us: float = 0.001,
) -> Replayed:
    trace = recorded(folder, rows)
    done = activity(trace)
    placed = place(trace.pods, machines, "spread")
    cluster = replay_cluster(
        "trace",
        trace,
        done,
        placed,
        machines,
        costs=costs,
        processors=processors,
        link_delay_us=delay_us,
        link_mbps=1e9,
    )
    each = crossings(costs, machines, link_delay_us=delay_us, link_mbps=1e9)
    return Replayed(trace, done, placed, each, run_cluster(cluster, actors=0, transport="memory"))


def test_what_a_span_does_not_spend_in_its_children_is_computation(tmp_path: Path) -> None:
    trace = recorded(tmp_path, [("r", "root", "A", 0, 100), ("x", "r", "A", 10, 30), ("y", "r", "A", 30, 60)])
    steps = steps_of(activity(trace))
    assert steps[0] == (Compute(10_000), Do(1), Do(2), Compute(40_000))
    assert steps[1] == (Compute(20_000),)


def test_children_in_the_same_pod_change_nothing_but_are_counted(tmp_path: Path) -> None:
    done = replayed(tmp_path, ("r", "root", "A", 0, 100), ("x", "r", "A", 10, 30), ("y", "r", "A", 30, 60))
    assert (done.us, done.end_us) == (100, 100)
    assert (done.counts["within_domain"], done.counts["cross_domain"]) == (2, 0)
    assert done.account("spans accounted for") == 3


def test_computation_occupies_a_processor(tmp_path: Path) -> None:
    """Two first spans overlap: on one processor the second waits for the first to end."""
    rows: list[Row] = [("r", "root", "A", 0, 100), ("q", "root", "A", 50, 120)]
    assert replayed(tmp_path, *rows, processors=2).us == 170
    assert replayed(tmp_path, *rows, processors=1).us == 100 + 120
    assert replayed(tmp_path, *rows, processors=1).end_us == 170


CALL: list[Row] = [("r", "root", "A", 0, 100), ("c", "r", "A", 10, 60), ("s", "c", "B", 20, 50)]


def test_the_gap_between_client_and_server_is_replaced_by_the_simulated_crossing(tmp_path: Path) -> None:
    """The server takes 30 of the client's 50 us: a free call takes only those 30."""
    assert replayed(tmp_path, *CALL).us == 80
    assert replayed(tmp_path, *CALL, costs=costs_of(0, {"trap": 3}, pages=(0, 0))).us == 80 + 2 * 3
    assert replayed(tmp_path, *CALL, machines=2, delay_us=5).us == 80 + 2 * 5
    sent = costs_of(0, {"network_send": 1, "network_receive": 2, "remote_client": 7}, pages=(0, 0), lacks=PACKETS)
    assert replayed(tmp_path, *CALL, machines=2, delay_us=5, costs=sent).us == 80 + 2 * (5 + 1 + 2) + 7


def test_client_and_server_span_are_one_call(tmp_path: Path) -> None:
    here, apart = replayed(tmp_path, *CALL), replayed(tmp_path, *CALL, machines=2)
    assert (here.counts["cross_domain"], here.counts["cross_machine"], here.counts["within_domain"]) == (1, 0, 0)
    assert (apart.counts["cross_domain"], apart.counts["cross_machine"], apart.counts["within_domain"]) == (0, 1, 0)
    for done in (here, apart):
        assert (done.account("calls that leave their domain"), done.account("their client sides")) == (1, 1)
        assert done.account("spans accounted for") == 3


def test_children_that_overlap_run_as_threads_each_from_its_recorded_offset(tmp_path: Path) -> None:
    rows: list[Row] = [("r", "root", "A", 0, 100), ("x", "r", "A", 10, 40), ("y", "r", "A", 35, 70)]
    assert replayed(tmp_path, *rows).us == 100
    # On one processor y is due at 35 and waits until x ends at 40; r's last 30 begin at 75.
    assert replayed(tmp_path, *rows, processors=1).us == 105


def test_overlapping_calls_are_under_way_at_once(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("r", "root", "A", 0, 100),
        ("c", "r", "A", 10, 60),
        ("s", "c", "B", 10, 60),
        ("d", "r", "A", 20, 90),
        ("u", "d", "C", 20, 90),
    ]
    assert replayed(tmp_path, *rows, processors=2).us == 100
    assert replayed(tmp_path, *rows, machines=3, processors=1, delay_us=2).us == 100 + 2 * 2


def test_a_child_that_is_mostly_after_its_parents_end_is_done_but_not_waited_for(tmp_path: Path) -> None:
    done = replayed(tmp_path, ("r", "root", "A", 0, 100), ("z", "r", "A", 51, 150))
    # r computed until 51, and its child ran from then on.
    assert (done.us, done.end_us) == (51, 150)
    assert done.account("end after their parent") == 1
    assert done.account("not waited for by their parent (asynchronous)") == 1
    assert done.account("spans accounted for") == 2


def test_a_child_that_ends_a_little_after_its_parent_was_waited_for(tmp_path: Path) -> None:
    rows: list[Row] = [("r", "root", "A", 0, 100), ("z", "r", "A", 10, 101)]
    done = replayed(tmp_path, *rows)
    assert (done.us, done.end_us) == (101, 101)
    assert done.account("not waited for by their parent (asynchronous)") == 0


def test_what_begins_after_its_parents_end_is_not_computed_up_to(tmp_path: Path) -> None:
    done = replayed(tmp_path, ("r", "root", "A", 0, 100), ("z", "r", "A", 150, 160))
    assert (done.us, done.end_us) == (100, 160)
    assert done.time("computation")[0] == 110_000


def test_only_those_that_outlive_are_not_waited_for(tmp_path: Path) -> None:
    rows: list[Row] = [("r", "root", "A", 0, 100), ("x", "r", "A", 20, 70), ("z", "r", "A", 60, 150)]
    done = replayed(tmp_path, *rows)
    assert (done.us, done.end_us) == (70, 150)


def test_a_child_that_starts_before_its_parent_begins_with_it(tmp_path: Path) -> None:
    done = replayed(tmp_path, ("r", "root", "A", 100, 200), ("e", "r", "A", 90, 130))
    assert done.us == 40 + 70  # the whole child, then the rest of the parent
    assert done.account("start before their parent (clamped)") == 1


def test_a_server_that_continues_after_its_reply_continues_by_itself(tmp_path: Path) -> None:
    done = replayed(tmp_path, ("r", "root", "A", 0, 60), ("c", "r", "A", 10, 60), ("s", "c", "B", 20, 140))
    assert done.us == 10 + 40  # the server's 40 until the reply arrives
    assert done.end_us == 10 + 120
    assert done.account("not waited for by their parent (asynchronous)") == 1


def test_several_servers_called_without_a_client_span_are_all_done(tmp_path: Path) -> None:
    rows: list[Row] = [
        ("r", "root", "A", 0, 100),
        ("s", "r", "B", 10, 30),
        ("u", "r", "C", 40, 70),
        ("x", "r", "A", 75, 80),
    ]
    done = replayed(tmp_path, *rows)
    assert (done.us, done.counts["cross_domain"], done.counts["within_domain"]) == (100, 2, 1)
    assert (done.account("their client sides"), done.account("spans accounted for")) == (0, 4)
    apart = replayed(tmp_path, *rows, machines=3, delay_us=5)
    assert (apart.us, apart.counts["cross_machine"]) == (100 + 4 * 5, 2)


def test_a_server_that_calls_another_without_a_client_span_still_computes(tmp_path: Path) -> None:
    """Only a first span whose single child ran elsewhere is a client span."""
    done = replayed(tmp_path, ("r", "root", "A", 0, 100), ("s", "r", "B", 10, 90), ("u", "s", "C", 20, 80))
    assert done.us == 10 + 60 + 10
    assert (done.counts["cross_domain"], done.account("spans accounted for")) == (2, 3)


def test_first_spans_begin_when_they_did_wherever_they_are(tmp_path: Path) -> None:
    rows: list[Row] = [("r", "root", "A", 1000, 1010), ("q", "root", "B", 1050, 1060), ("p", "root", "A", 1090, 1099)]
    done = replayed(tmp_path, *rows, machines=2)
    assert (done.us, done.end_us) == (29, 99)
    assert done.account("traces begun (first spans)") == 3


def test_recorded_and_simulated_time_are_split_into_what_explains_their_difference(tmp_path: Path) -> None:
    rows: list[Row] = [
        *CALL,
        ("x", "r", "A", 60, 70),
        ("d", "r", "A", 62, 90),  # beside x; a call to C takes 28, the network 8 of it
        ("u", "d", "C", 66, 86),
        ("z", "r", "A", 95, 120),  # not waited for
    ]
    costs = costs_of(0, {"trap": 3, "procedure_call": 1, "remote_client": 7}, pages=(0, 0))
    # A and C are on one machine, B is on the other.
    done = replayed(tmp_path, *rows, machines=2, costs=costs, delay_us=5)
    assert done.done.computed_ns == {"A": 1000 * (10 + 10 + 5 + 25), "B": 30_000, "C": 20_000}
    work = 1000 * (10 + 30 + 10 + 20 + 5 + 25)
    assert done.time("computation") == (work, work)
    free = 1000 * (10 + 30 + (2 + 20) + 5)  # d begins 2 after x and outlasts it
    assert done.time("less what was at the same time") == (free - work, free - work)
    assert done.time("network gaps") == (1000 * (20 + 8), None)
    assert done.time("beside children that are not waited for") == (1000 * 5, None)  # from 95 on
    assert done.time("within-domain calls") == (None, 0)  # x's call ends while d is still awaited
    assert done.time("cross-domain calls") == (None, done.each.domain_ns)
    assert done.each.domain_ns == 1000 * (1 + 2 * 3)
    assert done.time("cross-machine calls") == (None, done.each.machine_ns)
    assert done.each.machine_ns == 1000 * (7 + 2 * 5)
    assert done.time("waiting for processors") == (None, 0)
    assert done.time("in all") == (100_000, 1000 * round(done.us))


def test_what_threads_wait_for_processors_is_a_part_of_its_own(tmp_path: Path) -> None:
    rows: list[Row] = [("r", "root", "A", 0, 100), ("q", "root", "A", 50, 120)]
    assert replayed(tmp_path, *rows, processors=2).time("waiting for processors") == (None, 0)
    assert replayed(tmp_path, *rows, processors=1).time("waiting for processors") == (None, 50_000)


@st.composite
def nested(draw: st.DrawFn, *, gaps: bool = False) -> list[Row]:
    """Return a trace whose children lie within their parents; some are servers with clients.

    A server has the times of its client, or, with `gaps`, times within those.
    """
    rows: list[Row] = []

    def add(parent: str, pod: str, begin: int, end: int, depth: int) -> None:
        span = f"s{len(rows)}"
        rows.append((span, parent, pod, begin, end))
        for _ in range(draw(st.integers(0, 3)) if depth < 3 else 0):
            first, last = sorted(draw(st.tuples(st.integers(begin, end), st.integers(begin, end))))
            client = f"s{len(rows)}"
            other = draw(st.sampled_from("ABC"))
            if other == pod:
                add(span, pod, first, last, depth + 1)
            else:
                rows.append((client, span, pod, first, last))
                if gaps:
                    first, last = sorted(draw(st.tuples(st.integers(first, last), st.integers(first, last))))
                add(client, other, first, last, depth + 1)

    add("root", "A", 0, draw(st.integers(1, 200)), 0)
    return rows


@settings(examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nested())
def test_free_of_charge_a_trace_takes_just_as_long_as_it_was_recorded_to_take(tmp_path: Path, rows: list[Row]) -> None:
    """Replay spans within their parents, with enough processors and no network gaps."""
    done = replayed(tmp_path, *rows, processors=1000)
    assert done.us == rows[0][4]
    assert done.account("spans accounted for") == len(rows)


def ends_with_a_call_within_its_domain(row: Row, rows: list[Row]) -> bool:
    """Return whether a span takes no time, at the end of its parent and in its domain."""
    span_of = {span: (pod, end) for span, _, pod, _, end in rows}
    _, parent, pod, begin, end = row
    return begin == end and span_of.get(parent) == (pod, end)


@settings(examples(60), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(nested(gaps=True), st.integers(1, 3))
def test_where_spans_nest_gaps_are_all_that_is_not_computed_and_calls_all_that_is_added(
    tmp_path: Path, rows: list[Row], machines: int
) -> None:
    """With enough processors and free switches, the parts of both times add up.

    Except where a thread ends with a call within its domain: it may be joined before that call's
    time has passed (docs/design.md, what is not charged).
    """
    assume(not any(ends_with_a_call_within_its_domain(row, rows) for row in rows))
    each = {"trap": 3, "procedure_call": 1, "remote_client": 7, "network_send": 2}
    costs = costs_of(0, each, pages=(0, 0), lacks=PACKETS)
    done = replayed(tmp_path, *rows, machines=machines, processors=1000, costs=costs, delay_us=5)
    assert done.time("beside children") == (0, None)
    assert done.time("waiting for processors") == (None, 0)
    assert done.time("in all") == (1000 * rows[0][4], round(1000 * done.us))


def test_pods_that_many_calls_are_under_way_to_are_not_held_up(tmp_path: Path) -> None:
    rows: list[Row] = [("r", "root", "A", 0, 100)]
    for number in range(200):
        rows += [(f"c{number}", "r", "A", 0, 100), (f"s{number}", f"c{number}", "B", 0, 100)]
    assert replayed(tmp_path, *rows, processors=1000).us == 100


@pytest.mark.parametrize("machines", [1, 2, 3])
def test_how_pods_are_placed_changes_which_calls_cross_machines_and_not_how_many_there_are(
    machines: int, tmp_path: Path
) -> None:
    rows: list[Row] = [("r", "root", "A", 0, 90)]
    for number, pod in enumerate("BCBB"):
        rows += [
            (f"c{number}", "r", "A", 20 * number, 20 * number + 10),
            (f"s{number}", f"c{number}", pod, 20 * number + 1, 20 * number + 9),
        ]
    counts = replayed(tmp_path, *rows, machines=machines).counts
    assert (counts["cross_domain"], counts["cross_machine"]) == {1: (4, 0), 2: (1, 3), 3: (0, 4)}[machines]
