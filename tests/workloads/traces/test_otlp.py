"""OpenTelemetry's JSON is read as the collector writes it; bad spans are left out or refused."""

import gzip
import json
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.workloads.traces import read as reading
from lrpc.workloads.traces.formats import json_rows
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.sources import NOWHERE
from lrpc.workloads.traces.spans import MAX_TIME, Reason, SpanKind, TraceRefused
from lrpc.workloads.traces.trace import Trace
from tests.support.command import HERE, lrpc, record
from tests.support.places import SAMPLE_OTLP as SAMPLE

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
ABSENT: Final = "absent"


def identifier(number: int) -> str:
    return f"{number:016x}"


def span(number: int, parent: int | None = None, **changed: Any) -> dict[str, Any]:
    fields = {"traceId": TRACE, "spanId": identifier(number), "name": "o"}
    fields |= {"parentSpanId": "" if parent is None else identifier(parent)}
    fields |= {"startTimeUnixNano": "100", "endTimeUnixNano": "900"}
    return {key: value for key, value in (fields | changed).items() if value != ABSENT}


def resource(*spans: Any, scopes: str = "scopeSpans", **attributes: Any) -> dict[str, Any]:
    named = {key.replace("_", "."): value for key, value in attributes.items()} or {"k8s.pod.name": "front"}
    listed = [{"key": key, "value": {"stringValue": value}} for key, value in named.items()]
    return {"resource": {"attributes": listed}, scopes: [{"scope": {"name": "s"}, "spans": list(spans)}]}


def document(*resources: Any) -> dict[str, Any]:
    return {"resourceSpans": list(resources)}


def read(folder: Path, *lines: Any, indent: int | None = None, strict: bool = False) -> Trace:
    path = folder / "trace.csv"  # the name says nothing
    texts = [line if isinstance(line, str) else json.dumps(line, indent=indent) for line in lines]
    path.write_text("\n".join(texts))
    return read_trace(path, strict=strict)


def refusal(folder: Path, *lines: Any, indent: int | None = None, strict: bool = False) -> str:
    with pytest.raises(TraceRefused) as caught:
        read(folder, *lines, indent=indent, strict=strict)
    (line,) = str(caught.value).splitlines()
    path = f"{folder / 'trace.csv'}: "
    assert line.startswith(path)
    assert "; " in line  # the fix
    return line.removeprefix(path)


def read_or_refused(folder: Path, *lines: Any) -> Trace | str:
    try:
        return read(folder, *lines)
    except TraceRefused as refused:
        return str(refused)


def test_the_sample_holds_the_spans_of_the_csv_sample() -> None:
    mine, plain = (read_trace(SAMPLE.with_name(name), strict=True) for name in (SAMPLE.name, "sample-trace.csv"))
    unsaid = [span._replace(kind=SpanKind.UNSAID, source=NOWHERE) for span in mine.spans]
    assert unsaid == [span._replace(source=NOWHERE) for span in plain.spans]
    assert mine.parents == plain.parents


def test_the_sample_replays_as_the_csv_sample_does(tmp_path: Path) -> None:
    for name in (SAMPLE.name, "sample-trace.csv"):
        command = ("replay", SAMPLE.with_name(name), "--machines", 2, *HERE, "--out", tmp_path / name)
        assert lrpc(*command).code == 0
    one, other = (record(tmp_path / name) for name in (SAMPLE.name, "sample-trace.csv"))
    assert (one["digest"], one["workload"]) == (other["digest"], other["workload"])


@pytest.mark.parametrize("indent", [None, 2])
def test_one_document_is_read_whatever_its_lines(tmp_path: Path, indent: int | None) -> None:
    trace = read(
        tmp_path, document(resource(span(1), span(2, 1)), resource(span(3, 2), k8s_pod_name="back")), indent=indent
    )
    assert [(one.span, one.parent, one.pod) for one in trace.spans] == [
        (identifier(1), None, "front"),
        (identifier(2), identifier(1), "front"),
        (identifier(3), identifier(2), "back"),
    ]
    assert (trace.spans[0].start_ns, trace.spans[0].end_ns) == (100, 900)
    assert trace.calls() == [2]


def test_documents_on_lines_are_one_trace_and_other_signals_are_passed_over(tmp_path: Path) -> None:
    lines = [
        document(resource(span(2, 1))),
        "",
        {"resourceMetrics": []},
        {"resourceLogs": [7]},
        document(resource(span(1))),
    ]
    trace = read(tmp_path, *lines, strict=True)
    assert [one.span for one in trace.spans] == [identifier(1), identifier(2)]
    path = tmp_path / "zipped"
    path.write_bytes(gzip.compress((tmp_path / "trace.csv").read_bytes()))
    assert read_trace(path) == trace


def test_what_is_empty_may_be_absent(tmp_path: Path) -> None:
    bare: dict[str, Any] = {"resource": {}, "scopeSpans": [{}]}
    root = span(1, parentSpanId=ABSENT)
    zeros = span(2, parentSpanId="0" * 16)
    trace = read(tmp_path, document({}, bare, resource(root, zeros)), strict=True)
    assert [one.parent for one in trace.spans] == [None, None]


def test_scopes_go_by_their_older_name_where_there_is_no_newer(tmp_path: Path) -> None:
    older = resource(span(1), scopes="instrumentationLibrarySpans")
    assert len(read(tmp_path, document(older), strict=True).spans) == 1
    both = older | {"scopeSpans": resource(span(1))["scopeSpans"]}
    assert len(read(tmp_path, document(both), strict=True).spans) == 1


def test_times_are_digits_or_numbers_and_identifiers_of_either_case_are_the_same(tmp_path: Path) -> None:
    upper = span(0xAB, startTimeUnixNano=5, endTimeUnixNano=MAX_TIME)
    lower = span(2, traceId=TRACE.upper(), parentSpanId="00000000000000AB")
    trace = read(tmp_path, document(resource(upper, lower)), strict=True)
    assert (trace.spans[0].start_ns, trace.spans[0].end_ns) == (5, MAX_TIME)
    assert trace.parents == [None, 0]


@pytest.mark.parametrize(
    ("attributes", "pod"),
    [
        ({"service_name": "s", "host_name": "h", "service_instance_id": "i", "k8s_pod_name": "k"}, "k"),
        ({"service_name": "s", "host_name": "h", "service_instance_id": "i"}, "s"),
        ({"service_name": "s", "host_name": "h", "k8s_pod_name": ""}, "s"),
        ({"service_name": "s", "host_name": 7}, "s"),
    ],
)
def test_a_pod_is_named_by_the_narrowest_attribute(tmp_path: Path, attributes: dict[str, Any], pod: str) -> None:
    assert read(tmp_path, document(resource(span(1), **attributes))).pods == [pod]


@pytest.mark.parametrize(
    ("bad", "reason", "told"),
    [
        (7, Reason.UNREADABLE, "7 is no span"),
        ([], Reason.UNREADABLE, "[] is no span"),
        (span(3, traceId="t"), Reason.UNREADABLE, "traceId is 't', not up to 32 hexadecimal digits"),
        (span(3, traceId="0" * 32), Reason.UNREADABLE, "not up to 32 hexadecimal digits"),
        (span(3, spanId="x" * 16), Reason.UNREADABLE, "not up to 16 hexadecimal digits"),
        (span(3, spanId=7), Reason.UNREADABLE, "spanId is 7, which is no name"),
        (span(3, parentSpanId="p"), Reason.UNREADABLE, "parentSpanId is 'p'"),
        (span(3, parentSpanId=[[]]), Reason.UNREADABLE, "parentSpanId is [[]]"),
        (span(3, name="half \ud800"), Reason.UNREADABLE, "name is"),
        (span(3, spanId=ABSENT), Reason.EMPTY, "no spanId is given"),
        (span(3, name=""), Reason.EMPTY, "no name is given"),
        (span(3, startTimeUnixNano="-5"), Reason.BAD_TIME, "startTimeUnixNano is '-5'"),
        (span(3, startTimeUnixNano=-5), Reason.BAD_TIME, "startTimeUnixNano is -5"),
        (span(3, startTimeUnixNano=100.5), Reason.BAD_TIME, "startTimeUnixNano is 100.5"),
        (span(3, startTimeUnixNano=True), Reason.BAD_TIME, "startTimeUnixNano is True"),
        (span(3, endTimeUnixNano=MAX_TIME + 1), Reason.BAD_TIME, str(MAX_TIME + 1)),
        (span(3, endTimeUnixNano={"low": 900}), Reason.BAD_TIME, "endTimeUnixNano is {'low': 900}"),
        (span(3, endTimeUnixNano="99"), Reason.BACKWARDS, "starts at 100 ns and ends at 99 ns"),
        (span(1), Reason.DUPLICATE, "span 1 has it already"),
    ],
)
def test_a_bad_span_is_left_out_and_named(tmp_path: Path, bad: Any, reason: Reason, told: str) -> None:
    whole = document(resource(span(1), bad, span(2, 1)))
    trace = read(tmp_path, whole, indent=1)
    assert [one.span for one in trace.spans] == [identifier(1), identifier(2)]
    (one,) = trace.left_out
    assert (one.place, one.reason) == ("span 2", reason)
    assert told in one.detail
    assert str(one).encode().isascii()
    assert refusal(tmp_path, whole, indent=1, strict=True).startswith(f"span 2: {reason}: ")


def test_spans_without_a_pod_are_left_out(tmp_path: Path) -> None:
    (one,) = read(tmp_path, document(resource(span(1)), resource(span(2), other="x"))).left_out
    assert (one.place, one.reason) == ("span 2", Reason.EMPTY)
    assert "it has no attribute k8s.pod.name, " in one.detail


def test_a_line_is_named_with_its_span(tmp_path: Path) -> None:
    lines = [document(resource(span(1))), document(resource(span(2, 1), span(3, 9, name="")))]
    (one,) = read(tmp_path, *lines).left_out
    assert one.place == "line 2, span 2"
    again = read(tmp_path, *lines, lines[0])
    assert [row.detail for row in again.left_out][-1] == "line 1, span 1 has it already"


def test_a_line_that_is_cut_short_is_left_out(tmp_path: Path) -> None:
    lines = [document(resource(span(1))), json.dumps(document(resource(span(2, 1))))[:-5]]
    trace = read(tmp_path, *lines)
    assert len(trace.spans) == 1
    (one,) = trace.left_out
    assert (one.place, one.span, one.reason) == ("line 2", "", Reason.UNREADABLE)
    assert refusal(tmp_path, *lines, strict=True).startswith("line 2: unreadable row: not JSON")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"resourceSpans": 7}, "resourceSpans: 7 is not a list"),
        ({"resourceSpans": [7]}, "resourceSpans[0]: 7 is not an object"),
        (document({}, {"scopeSpans": {"a": 1}}), "resourceSpans[1].scopeSpans: {'a': 1} is not a list"),
        (document({"scopeSpans": [[]]}), "resourceSpans[0].scopeSpans[0]: [] is not an object"),
        (document({"scopeSpans": [{"spans": "x"}]}), "resourceSpans[0].scopeSpans[0].spans: 'x' is not a list"),
        ({"resourceSpan": []}, "top level: holds no spans of Jaeger's, OpenTelemetry's or Zipkin's"),
        (document(), "whole file: holds no spans"),
        ({"resourceMetrics": []}, "whole file: holds no spans"),
    ],
)
def test_what_is_no_otlp_is_refused_where_it_is_not(tmp_path: Path, content: Any, told: str) -> None:
    assert refusal(tmp_path, content, indent=1).startswith(told)
    if told.startswith(("resourceSpans", "top level")):
        lines = (document(resource(span(1))), content)
        assert refusal(tmp_path, *lines).startswith(f"line 2: {told}")


def test_a_file_is_read_up_to_its_largest_size_however_it_is_zipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "MOST_BYTES", 100_000)
    bomb = tmp_path / "bomb"
    bomb.write_bytes(gzip.compress(b" " * 10_000_000))
    assert bomb.stat().st_size < 100_000
    for path in (bomb, tmp_path / "large"):
        if path is not bomb:
            path.write_bytes(b"{" * 100_001)
        with pytest.raises(TraceRefused, match="holds more than 100000 bytes; give a smaller part of it"):
            read_trace(path)


def test_a_document_is_read_up_to_its_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(json_rows, "MOST_BYTES", 2_000)
    large = document(resource(*(span(number) for number in range(1, 50))))
    assert "more than 2000 bytes; have a document on each line" in refusal(tmp_path, large, indent=1)
    (one,) = read(tmp_path, document(resource(span(99))), large).left_out
    assert one.place == "line 2"


def test_what_nests_deep_within_a_span_is_named_short(tmp_path: Path) -> None:
    deep: Any = []
    for _ in range(300):
        deep = [deep]
    trace = read(tmp_path, document(resource(span(1), span(2, name=deep), deep)))
    assert [row.reason for row in trace.left_out] == [Reason.UNREADABLE] * 2
    assert all(len(row.detail) < 200 for row in trace.left_out)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
WRONG = st.dictionaries(st.sampled_from(list(span(3))), JSON_VALUES).map(lambda changed: span(3) | changed)


@given(st.lists(JSON_VALUES | WRONG))
def test_any_spans_are_accounted_for(tmp_path_factory: pytest.TempPathFactory, spans: list[Any]) -> None:
    folder = tmp_path_factory.getbasetemp()
    trace = read(folder, document(resource(span(1), *spans)))
    assert len(trace.spans) + len(trace.left_out) == 1 + len(spans)
    assert all(len(str(row).splitlines()) == 1 for row in trace.left_out)


@given(st.dictionaries(st.sampled_from(["resource", "scopeSpans", "instrumentationLibrarySpans"]), JSON_VALUES))
def test_any_resource_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, wrong: dict[str, Any]) -> None:
    folder = tmp_path_factory.getbasetemp()
    found = read_or_refused(folder, document(wrong, resource(span(1))))
    assert found.spans if isinstance(found, Trace) else len(found.splitlines()) == 1
