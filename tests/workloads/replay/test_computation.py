"""The computation of a span is its time outside the union of its children, in real traces too."""

from pathlib import Path

import pytest

from lrpc.workloads.replay.steps import Activity, activity
from lrpc.workloads.replay.tape import Compute, Fork, Steps
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.trace import Trace
from tests.support.places import REAL_TRACES, SAMPLE
from tests.support.tapes import steps_of


def computed(steps: Steps) -> int:
    return sum(
        step.ns if isinstance(step, Compute) else computed(step.steps) if isinstance(step, Fork) else 0
        for step in steps
    )


def outside_its_children(trace: Trace, index: int) -> int:
    span = trace.spans[index]
    now, alone = span.start_ns, 0
    for child in sorted(trace.children[index], key=lambda one: trace.spans[one].start_ns):
        begin, end = trace.spans[child].start_ns, min(trace.spans[child].end_ns, span.end_ns)
        alone += max(0, begin - now)
        now = max(now, end)
    return alone + span.end_ns - now


def assert_computes_what_is_its_own(trace: Trace, done: Activity) -> None:
    assert len(steps_of(done)) + len(done.calls) == len(trace.spans)
    for index, steps in steps_of(done).items():
        assert computed(steps) == outside_its_children(trace, index), trace.spans[index]


@pytest.mark.parametrize("path", [SAMPLE, *sorted(REAL_TRACES.glob("*.csv"))], ids=lambda path: path.stem)
def test_a_span_computes_what_it_does_not_spend_in_its_children(path: Path) -> None:
    trace = read_trace(path)
    assert_computes_what_is_its_own(trace, activity(trace))


def test_a_server_that_continues_after_its_reply_computes_nothing_while_its_child_runs(tmp_path: Path) -> None:
    """The child runs from 40 to 90 and the reply leaves at 50.

    The server's own time is 0 to 40 and 90 to 100.
    """
    rows = [("c", "root", "a", 0, 50), ("s", "c", "b", 0, 100), ("k", "s", "b", 40, 90)]
    head = "TraceID,SpanID,ParentID,PodName,OperationName,StartTimeUnixNano,EndTimeUnixNano,Duration"
    lines = [f"t,{span},{parent},{pod},op,{begin},{end},0" for span, parent, pod, begin, end in rows]
    path = tmp_path / "tail.csv"
    path.write_text("\n".join([head, *lines, ""]))
    trace = read_trace(path)
    done = activity(trace)
    assert_computes_what_is_its_own(trace, done)
    assert sorted(computed(steps) for steps in steps_of(done).values()) == [50, 50]
