"""Forms that spans come in: how tools wrap, print, pack and number them, and name their kinds."""

import bz2
import gzip
import json
import lzma
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
import zstandard

from lrpc.workloads.replay.steps import activity
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.spans import Correction, SpanKind, TraceRefused
from lrpc.workloads.traces.trace import Trace
from tests.support.spans import HEADER
from tests.support.tapes import steps_of

CASES = Path(__file__).with_name("cases")
BEGIN = 1_700_000_000_000_000_000
MS = 1_000_000
PROTOBUF = (CASES / "pb-one.bin").read_bytes()


def otlp(span: int, parent: int | None = None, service: str = "front", **changed: Any) -> dict[str, Any]:
    """Return the resource of one span in OTLP, which lasts 100 ms, or 50 ms within its parent."""
    begin, length = (0, 100) if parent is None else (10, 50)
    fields = {
        "traceId": f"{7:032x}",
        "spanId": f"{span:016x}",
        "parentSpanId": "" if parent is None else f"{parent:016x}",
        "name": "do",
        "startTimeUnixNano": BEGIN + begin * MS,
        "endTimeUnixNano": BEGIN + (begin + length) * MS,
    } | changed
    attributes = [{"key": "service.name", "value": {"stringValue": service}}]
    return {"resource": {"attributes": attributes}, "scopeSpans": [{"spans": [fields]}]}


def zipkin(span: int, parent: int | None = None, **changed: Any) -> dict[str, Any]:
    fields = {
        "traceId": f"{7:032x}",
        "id": f"{span:016x}",
        "name": "do",
        "timestamp": (BEGIN + (0 if parent is None else 10 * MS)) // 1000,
        "duration": 100_000 if parent is None else 50_000,
        "localEndpoint": {"serviceName": "front" if parent is None else "cart"},
    }
    return fields | ({} if parent is None else {"parentId": f"{parent:016x}"}) | changed


def jaeger(span: int, parent: int | None = None, **changed: Any) -> dict[str, Any]:
    reference = {"refType": "CHILD_OF", "traceID": f"{7:032x}", "spanID": f"{parent or 0:016x}"}
    return {
        "traceID": f"{7:032x}",
        "spanID": f"{span:016x}",
        "operationName": "do",
        "references": [] if parent is None else [reference],
        "startTime": (BEGIN + (0 if parent is None else 10 * MS)) // 1000,
        "duration": 100_000 if parent is None else 50_000,
        "process": {"serviceName": "front" if parent is None else "cart"},
    } | changed


def printed_by_python(span: int, parent: int | None = None, **changed: Any) -> dict[str, Any]:
    times = ("00:00.000", "00:00.100") if parent is None else ("00:00.010", "00:00.060")
    return {
        "name": "do",
        "context": {"trace_id": f"0x{7:032x}", "span_id": f"0x{span:016x}", "trace_state": "[]"},
        "kind": "SpanKind.SERVER",
        "parent_id": None if parent is None else f"0x{parent:016x}",
        "start_time": f"2023-11-14T22:{times[0]}000Z",
        "end_time": f"2023-11-14T22:{times[1]}000Z",
        "attributes": {},
        "links": [],
        "resource": {"attributes": {"service.name": "front" if parent is None else "cart"}},
    } | changed


def printed_by_go(span: int, parent: int | None = None) -> dict[str, Any]:
    times = ("00:00", "00:00.1") if parent is None else ("00:00.01", "00:00.060000007")
    return {
        "Name": "do",
        "SpanContext": {"TraceID": f"{7:032x}", "SpanID": f"{span:016x}"},
        "Parent": {"TraceID": f"{7:032x}", "SpanID": f"{parent or 0:016x}"},
        "SpanKind": 2,
        "StartTime": f"2023-11-14T22:{times[0]}Z",
        "EndTime": f"2023-11-14T22:{times[1]}Z",
        "Attributes": [],
        "Resource": [{"Key": "service.name", "Value": {"Type": "STRING", "Value": "cart" if parent else "front"}}],
    }


def resources(*spans: dict[str, Any]) -> dict[str, Any]:
    return {"resourceSpans": list(spans)}


def read(folder: Path, content: object, **how: Any) -> Trace:
    """Read a file of bytes, text or one JSON document."""
    path = folder / "trace"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return read_trace(path, **how)


def refused(folder: Path, content: object, **how: Any) -> str:
    with pytest.raises(TraceRefused) as found:
        read(folder, content, **how)
    assert "\n" not in str(found.value)
    return str(found.value).removeprefix(f"{folder / 'trace'}: ")


def indented(*documents: object) -> str:
    return "\n".join(json.dumps(document, indent=4) for document in documents) + "\n"


def lines(*documents: object) -> str:
    return "".join(json.dumps(document) + "\n" for document in documents)


SNAKE = json.loads(json.dumps(otlp(2, 1, "cart")).replace("scopeSpans", "scope_spans").replace("spanId", "span_id"))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(indented(resources(otlp(1)), resources(otlp(2, 1, "cart"))), id="OTLP, indented, in a row"),
        pytest.param(json.dumps(resources(otlp(1))) + json.dumps(resources(otlp(2, 1, "cart"))), id="in one line"),
        pytest.param({"batches": [otlp(1), SNAKE]}, id="batches in snake case"),
        pytest.param([resources(otlp(1)), {"resourceMetrics": []}, resources(otlp(2, 1, "cart"))], id="an array"),
        pytest.param(lines(zipkin(1), zipkin(2, 1)), id="Zipkin, a span a line"),
        pytest.param([zipkin(1, timestamp=BEGIN / 1000), zipkin(2, 1, duration="50000")], id="Zipkin, times as given"),
        pytest.param(lines({"_source": jaeger(1)}, {"_source": jaeger(2, 1)}), id="Elasticsearch, by line"),
        pytest.param([{"_id": "a", "_source": jaeger(1)}, {"_source": jaeger(2, 1)}], id="Elasticsearch, an array"),
        pytest.param(
            {"responses": [{"hits": {"hits": [{"_source": jaeger(1)}, {"_source": jaeger(2, 1)}]}}]},
            id="Elasticsearch, several searches",
        ),
        pytest.param(indented(printed_by_python(1), printed_by_python(2, 1)), id="as Python's SDK prints"),
        pytest.param(indented(printed_by_go(1), printed_by_go(2, 1)), id="as Go's SDK prints"),
    ],
)
def test_two_spans_are_one_call_however_they_are_wrapped(tmp_path: Path, content: object) -> None:
    trace = read(tmp_path, content, strict=True)
    assert (trace.pods, len(trace.calls()), len(trace.roots)) == (["cart", "front"], 1, 1)
    assert [span.end_ns - span.start_ns for span in trace.spans] == [100 * MS, pytest.approx(50 * MS, abs=10)]


def test_an_array_of_documents_in_two_forms_loses_no_span_in_silence(tmp_path: Path) -> None:
    both = [{"data": [{"spans": [jaeger(1)]}]}, resources(otlp(2, 1, "cart"))]
    assert refused(tmp_path, both).startswith("top level: is a list of Jaeger's documents and OTLP's; give each")
    assert refused(tmp_path, [resources(otlp(1)), {"x": 1}]).startswith("[1]: {'x': 1} holds no spans of Jaeger's")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ([{"ph": "X", "ts": 1, "pid": 2, "name": "f"}], "Chrome's trace events"),
        (lines({"trace_id": "1-5f", "id": "a", "start_time": 1.5, "name": "f"}), "AWS X-Ray's"),
        (lines({"span": {"trace_id": "a", "id": "b"}}, {"span": {}}), "Elastic APM's"),
        ([{"processor": {"event": "span"}, "@timestamp": "2023"}], "Elastic APM's"),
        ({"traces": [[{"trace_id": 1, "span_id": 2}]]}, "Datadog's"),
        (lines({"trace_id": 1, "span_id": 2, "meta": {}}, {}), "Datadog's"),
        ({"data": [{"type": "spans", "attributes": {}}]}, "Datadog's"),
        ({"error": {"httpCode": 404, "message": "trace not found"}}, "Jaeger answered 'trace not found'"),
    ],
)
def test_a_form_that_is_known_and_not_read_is_named(tmp_path: Path, content: object, said: str) -> None:
    assert said in refused(tmp_path, content)


def zipped(data: bytes) -> bytes:
    packed = BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("trace.json", data)
    return packed.getvalue()


DOCUMENT = json.dumps(resources(otlp(1), otlp(2, 1, "cart"))).encode()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (bz2.compress(DOCUMENT), "compressed by bzip2; unpack it"),
        (lzma.compress(DOCUMENT), "compressed by xz; unpack it"),
        (zipped(DOCUMENT), "a zip archive; unpack it"),
        (b"\x04\x22\x4d\x18" + bytes(9), "compressed by LZ4; unpack it"),
        (b"\xff\x06\x00\x00sNaPpY" + bytes(9), "compressed by Snappy; unpack it"),
        (b"PAR1" + bytes(9), "in Parquet; write it as CSV"),
        (gzip.compress(bz2.compress(DOCUMENT)), "compressed by bzip2; unpack it"),
        (gzip.compress(gzip.compress(DOCUMENT)), "compressed twice; unpack it once"),
        (gzip.compress(zstandard.compress(DOCUMENT)), "compressed twice; unpack it once"),
        (DOCUMENT.decode().encode("utf-16"), "text in UTF-16; write it in UTF-8"),
    ],
)
def test_a_file_packed_in_a_way_that_is_not_read_says_which(tmp_path: Path, content: bytes, said: str) -> None:
    assert f"whole file: is {said}" in refused(tmp_path, content)


def packed_one_by_one(*messages: bytes) -> bytes:
    """Return messages as OpenTelemetry's collector compresses them: each, with its length ahead."""
    packed = [zstandard.compress(message) for message in messages]
    return b"".join(len(one).to_bytes(4, "big") + one for one in packed)


def test_messages_that_a_collector_compressed_one_by_one_are_read(tmp_path: Path) -> None:
    two = packed_one_by_one(*(json.dumps(resources(one)).encode() for one in (otlp(1), otlp(2, 1, "cart"))))
    assert len(read(tmp_path, two, strict=True).calls()) == 1
    plain = read(tmp_path, PROTOBUF)
    assert read(tmp_path, packed_one_by_one(PROTOBUF)).spans == plain.spans
    assert refused(tmp_path, two[:-3]).startswith("message 2: is cut short; copy the file again")


def test_frames_of_zstd_are_one_file_and_one_cut_short_is_refused_wherever_it_is_cut(tmp_path: Path) -> None:
    text = lines(resources(otlp(1)), resources(otlp(2, 1, "cart"))).encode()
    frames = zstandard.compress(text[:200]) + zstandard.compress(text[200:])
    assert len(read(tmp_path, frames, strict=True).calls()) == 1
    last = len(zstandard.compress(text[200:]))
    for cut in range(1, last):
        assert "its last frame has no end; copy the file again" in refused(tmp_path, frames[:-cut])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(resources(otlp(1, endTimeUnixNano=None), otlp(2, 1, "cart")), id="OTLP, null"),
        pytest.param(resources(otlp(1, endTimeUnixNano=""), otlp(2, 1, "cart")), id="OTLP, empty"),
        pytest.param([zipkin(1, duration=None), zipkin(2, 1)], id="Zipkin"),
        pytest.param({"data": [{"spans": [jaeger(1, duration=None), jaeger(2, 1)]}]}, id="Jaeger"),
        pytest.param([printed_by_python(1, end_time=None), printed_by_python(2, 1)], id="Python's SDK"),
        pytest.param(f"{HEADER}\nt,1,,front,do,{BEGIN},,\nt,2,1,cart,do,{BEGIN},{BEGIN + 60 * MS},\n", id="CSV, empty"),
        pytest.param(
            f"{HEADER}\nt,1,,front,do,{BEGIN},nan,\nt,2,1,cart,do,{BEGIN},{BEGIN + 60 * MS},\n", id="CSV, nan"
        ),
    ],
)
def test_a_span_without_an_end_ends_with_its_last_child_in_every_form(tmp_path: Path, content: object) -> None:
    trace = read(tmp_path, content, strict=True)
    assert trace.corrections == {Correction.NOT_ENDED: 1}
    first = trace.spans[trace.roots[0]]
    assert first.end_ns - first.start_ns == 60 * MS


@pytest.mark.parametrize(("root", "child"), [(f"{9:016x}", f"{5:016x}{9:016x}"), (f"{5:016x}{9:016x}", f"{9:016x}")])
def test_64_of_128_bits_are_one_trace_whichever_span_has_them(tmp_path: Path, root: str, child: str) -> None:
    spans = [jaeger(1, traceID=root), jaeger(2, 1, traceID=child, references=jaeger(2, 1)["references"])]
    spans[1]["references"][0]["traceID"] = child
    trace = read(tmp_path, {"data": [{"spans": spans}]})
    assert (len(trace.roots), len(trace.traces), len(trace.calls())) == (1, 1, 1)
    assert trace.corrections == {Correction.SHORT_ID: 1}


def test_identifiers_may_lack_zeros_and_have_capital_letters(tmp_path: Path) -> None:
    short = resources(otlp(0xAB, traceId="c7"), otlp(2, None, "cart", traceId="C7", parentSpanId="AB"))
    assert len(read(tmp_path, short, strict=True).calls()) == 1
    child = jaeger(2, 0xAB)
    child["references"][0] |= {"traceID": "7", "spanID": "AB"}
    assert len(read(tmp_path, {"data": [{"spans": [jaeger(0xAB), child]}]}, strict=True).calls()) == 1


def link(kind: str, key: str = "traceId") -> dict[str, Any]:
    listed = [{"key": "opentracing.ref_type", "value": {"stringValue": kind}}]
    return {key: f"{7:032X}", "spanId": f"{1:016X}", "attributes": listed}


def test_a_link_can_be_a_parent_who_waited_or_one_who_did_not(tmp_path: Path) -> None:
    trace = read(tmp_path, resources(otlp(1), otlp(2, None, "cart", links=[link("child_of")])), strict=True)
    assert (len(trace.roots), len(trace.calls()), trace.spans[1].follows) == (1, 1, False)
    follows = [link("follows_from")]
    trace = read(tmp_path, resources(otlp(1), otlp(2, None, "cart", links=follows)), strict=True)
    assert (len(trace.roots), len(trace.calls())) == (1, 1)
    assert [span.follows for span in trace.spans if span.pod == "cart"] == [True]
    links = [{"context": {"trace_id": f"0x{7:032x}", "span_id": f"0x{1:016x}"}, "attributes": {}}]
    links[0]["attributes"] = {"opentracing.ref_type": "child_of"}
    orphan = printed_by_python(2, 1, parent_id=None, links=links)
    assert len(read(tmp_path, [printed_by_python(1), orphan], strict=True).roots) == 1


@pytest.mark.parametrize("kind", [2, "2", 2.0, "SPAN_KIND_SERVER", "server", "SERVER"])
def test_a_kind_is_known_by_its_name_or_its_number_however_that_is_written(tmp_path: Path, kind: object) -> None:
    trace = read(tmp_path, resources(otlp(1, kind=kind)))
    assert trace.spans[0].kind is SpanKind.SERVER
    columns = "trace=a, span=b, service=c, operation=d, start=e, end=f, kind=g"
    row = f"a|b|c|d|e|f|g\nt|1|front|do|5|9|{kind}\n"
    assert read(tmp_path, row, columns=columns).spans[0].kind is SpanKind.SERVER


def test_columns_are_refused_for_a_file_that_has_none(tmp_path: Path) -> None:
    columns = "trace=a,span=b,service=c,operation=d,start=e,end=f"
    assert "is JSON, which has no columns; leave --columns out" in refused(tmp_path, DOCUMENT, columns=columns)
    assert "is protobuf, which has no columns" in refused(tmp_path, PROTOBUF, columns=columns)


def test_a_server_of_a_kind_was_waited_for_although_its_clock_says_it_began_later(tmp_path: Path) -> None:
    """What has no kind is taken for asynchronous if it begins after its parent's end."""
    late = {"startTimeUnixNano": BEGIN + 110 * MS, "endTimeUnixNano": BEGIN + 140 * MS}
    trace = read(tmp_path, resources(otlp(1, kind=2), otlp(2, 1, "cart", kind=2, **late)))
    root = steps_of(activity(trace))[0]
    assert [type(step).__name__ for step in root] == ["Compute", "Do"]
    trace = read(tmp_path, resources(otlp(1, kind=2), otlp(2, 1, "cart", **late)))
    assert [type(step).__name__ for step in steps_of(activity(trace))[0]] == ["Compute", "Fork"]


def test_domains_of_one_service_are_told_apart_where_no_host_is_named(tmp_path: Path) -> None:
    (tmp_path / "pods.csv").write_text(f"{HEADER}\nt,1,,front,do,5,9,\n")
    (tmp_path / "services.json").write_text(json.dumps(resources(otlp(1))))
    assert read_trace(tmp_path).pods == ["pod front", "service front"]
