"""Clocks that differ are set right from calls, and what was asynchronous is not waited for."""

import json
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.workloads.replay.steps import activity
from lrpc.workloads.traces.calls import asynchronous, outside, paired
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.spans import Correction
from lrpc.workloads.traces.trace import Trace

TRACE = "0af7651916cd43dd8448eb211c80319c"
Told = tuple[int, int, str, str, int, int]  # span, parent (0 for none), kind, service, begin and end in ms


def read(folder: Path, *told: Told, hosts: dict[str, str] | None = None) -> Trace:
    """Read spans as OpenTelemetry writes them, of services on the hosts that `hosts` names."""
    resources = []
    for span, parent, kind, service, begin, end in told:
        named = {"service.name": service} | ({"host.name": hosts[service]} if hosts else {})
        attributes = [{"key": key, "value": {"stringValue": value}} for key, value in named.items()]
        item: dict[str, Any] = {"traceId": TRACE, "spanId": f"{span:016x}", "name": "o", "kind": f"SPAN_KIND_{kind}"}
        item |= {"parentSpanId": f"{parent:016x}" if parent else ""}
        item |= {"startTimeUnixNano": str(begin * 10**6), "endTimeUnixNano": str(end * 10**6)}
        resources.append({"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [item]}]})
    path = folder / "trace.json"
    path.write_text(json.dumps({"resourceSpans": resources}))
    return read_trace(path, strict=True)


def call(ahead: int) -> tuple[Told, ...]:
    """Return a call of 80 ms within 100, whose server's clock is ahead by so many ms."""
    return (
        (1, 0, "SERVER", "front", 5_000, 5_100),
        (2, 1, "CLIENT", "front", 5_005, 5_095),
        (3, 2, "SERVER", "cart", 5_010 + ahead, 5_090 + ahead),
    )


@pytest.mark.parametrize("ahead", [0, 3, -3, 12, -12, 200, -3_000])
def test_a_servers_clock_changes_no_time(tmp_path: Path, ahead: int) -> None:
    trace = read(tmp_path, *call(ahead))
    assert trace.starting_early() == trace.outliving() == []
    assert trace.corrections == ({Correction.CLOCK: 1} if abs(ahead) > 5 else {})
    assert activity(trace).computed_ns == {"front": 10_000_000, "cart": 80_000_000}


def test_spans_of_one_host_are_not_moved_against_each_other(tmp_path: Path) -> None:
    trace = read(tmp_path, *call(12), hosts={"front": "laptop", "cart": "laptop"})
    assert Correction.CLOCK not in trace.corrections


def test_a_server_called_without_a_clients_span_leaves_its_caller_its_time(tmp_path: Path) -> None:
    trace = read(tmp_path, (1, 0, "SERVER", "gateway", 0, 100), (2, 1, "SERVER", "cart", 45, 55))
    assert paired(trace) == {}
    assert activity(trace).computed_ns == {"gateway": 90_000_000, "cart": 10_000_000}


def test_a_client_waits_for_what_is_not_traced(tmp_path: Path) -> None:
    trace = read(tmp_path, (1, 0, "SERVER", "front", 0, 100), (2, 1, "CLIENT", "front", 5, 95))
    assert outside(trace) == {1: "front: o"}
    assert activity(trace).computed_ns == {"front": 10_000_000}


def test_who_consumes_a_message_is_not_waited_for(tmp_path: Path) -> None:
    spans: tuple[Told, ...] = (
        (1, 0, "SERVER", "front", 0, 100),
        (2, 1, "PRODUCER", "front", 10, 20),
        (3, 2, "CONSUMER", "worker", 15, 90),
    )
    trace = read(tmp_path, *spans)
    assert [asynchronous(trace, index) for index in range(3)] == [False, False, True]
    assert Correction.CLOCK not in trace.corrections


@pytest.mark.parametrize(("end", "waits"), [(100, True), (101, True), (300, True)])
def test_a_server_that_ends_after_its_caller_was_waited_for(tmp_path: Path, end: int, waits: bool) -> None:
    trace = read(tmp_path, (1, 0, "SERVER", "front", 0, 100), (2, 1, "SERVER", "cart", 10, end))
    assert asynchronous(trace, 1) is not waits


@given(st.permutations(call(12)), st.integers(0, 15))
def test_the_order_of_spans_and_their_identifiers_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, told: list[Told], added: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    other = [(span + added, parent + added if parent else 0, *rest) for span, parent, *rest in told]
    first, again = read(folder, *call(12)), read(folder, *cast(list[Told], other))
    times = [[(span.pod, span.start_ns, span.end_ns) for span in trace.spans] for trace in (first, again)]
    assert times[0] == times[1]
    assert (first.parents, first.corrections) == (again.parents, again.corrections)
