"""Traces are read whole and cleaned of bad spans; files without good spans are refused."""

import gzip
import json
import pickle
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from lrpc.workloads.traces import MOST_NESTED
from lrpc.workloads.traces.formats.csv_rows import COLUMNS
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.spans import MAX_TIME, Correction, Reason, TraceRefused
from lrpc.workloads.traces.trace import Trace
from tests.support.places import REAL_TRACES, SAMPLE
from tests.support.spans import GOOD, HEADER, P1, ROOT, made

# spans, traces, pods, calls between pods, spans that outlive their parent, and that precede it
REAL = {
    "online-boutique.csv": (22_969, 502, 10, 5_525, 1_736, 0),
    "train-ticket.csv": (4_890, 71, 25, 783, 97, 16),
}


def zipped_bytes(content: bytes) -> bytes:
    """Compress without a time stamp: the bytes name tests, so they must never change."""
    return gzip.compress(content, mtime=0)


def read(tmp_path: Path, *rows: str, header: str = HEADER, strict: bool = False, max_depth: int = MOST_NESTED) -> Trace:
    path = tmp_path / "trace.csv"
    path.write_bytes("\n".join((header, *rows)).encode())
    return read_trace(path, strict=strict, max_depth=max_depth)


def refusal(path: Path | str, *, strict: bool = False) -> str:
    with pytest.raises(TraceRefused) as caught:
        read_trace(path, strict=strict)
    text = str(caught.value)
    assert len(text.splitlines()) == 1
    return text


def left(trace: Trace) -> list[tuple[str, str, Reason]]:
    return [(row.place, row.span, row.reason) for row in trace.left_out]


def figures(trace: Trace) -> tuple[int, ...]:
    outliving, early = trace.outliving(), trace.starting_early()
    calls = trace.calls()
    return len(trace.spans), len(trace.traces), len(trace.pods), len(calls), len(outliving), len(early)


@pytest.mark.parametrize("name", [name for name in REAL if (REAL_TRACES / name).exists()])
def test_a_real_trace_has_the_figures_told_of_it(name: str) -> None:
    trace = read_trace(REAL_TRACES / name, strict=True)
    assert figures(trace) == REAL[name]
    assert all(trace.is_call(index) for index in trace.starting_early())
    assert len(trace.roots) == len(trace.traces)


def test_the_sample_has_calls_overlap_and_a_child_that_outlives_its_parent() -> None:
    trace = read_trace(SAMPLE, strict=True)
    assert figures(trace) == (36, 5, 4, 11, 1, 0)
    (late,) = trace.outliving()
    assert trace.spans[late].operation == "audit.write"
    for server in trace.calls():
        client = trace.parents[server]
        assert client is not None
        assert list(trace.children[client]) == [server]
        assert trace.spans[client].start_ns < trace.spans[server].start_ns
        assert trace.spans[server].end_ns < trace.spans[client].end_ns
    assert any(
        trace.spans[first].end_ns > trace.spans[second].start_ns
        for children in trace.children
        for first, second in pairwise(children)
    )


def test_spans_are_ordered_and_linked_by_index(tmp_path: Path) -> None:
    trace = read(tmp_path, "t,b,root1,back,Serve,300,400,", "t,a,root1,front,work,200,250,", ROOT)
    assert [span.span for span in trace.spans] == ["root1", "a", "b"]
    assert trace.parents == [None, 0, 0]
    assert list(map(list, trace.children)) == [[1, 2], [], []]
    assert trace.roots == [0]
    assert trace.pods == ["back", "front"]
    assert trace.calls() == [2]
    assert [trace.is_call(index) for index in range(3)] == [False, False, True]


def test_spans_that_begin_together_are_ordered_by_what_they_are(tmp_path: Path) -> None:
    """Callers come first, then what ends first, then domains, operations, and what was called."""
    rows = ["t,c,b,q,o,5,9,", "t,b,,p,o,5,9,", "t,a,,q,o,5,8,", "u,d,,p,n,5,9,", "u,e,,p,o,5,9,", "u,f,e,p,o,5,6,"]
    orders = [[span.span for span in read(tmp_path, *some).spans] for some in (rows, rows[::-1])]
    assert orders[0] == orders[1]
    assert orders[0][:2] == ["a", "d"]
    assert orders[0][4:] == ["f", "c"]


def test_one_span_id_may_stand_in_two_traces(tmp_path: Path) -> None:
    trace = read(tmp_path, ROOT, ROOT.replace("t", "u", 1), "u,kid,root1,back,o,150,160,")
    assert len(trace.spans) == 3
    assert trace.traces == ["t", "u"]
    assert not trace.left_out
    assert trace.spans[trace.parents[2] or 0].trace == "u"


def test_columns_stand_in_any_order_and_others_beside_them(tmp_path: Path) -> None:
    header = "Extra," + ",".join(reversed(COLUMNS))
    trace = read(tmp_path, "x,20,10,o,p,,s,t", header=header)
    (span,) = trace.spans
    assert (span.trace, span.span, span.parent, span.pod, span.operation) == ("t", "s", None, "p", "o")
    assert (span.start_ns, span.end_ns) == (10, 20)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_line_ends_blank_lines_and_byte_order_marks_do_not_matter(tmp_path: Path, ends: str, start: bytes) -> None:
    path = tmp_path / "trace"
    path.write_bytes(start + ends.join((HEADER, "", ROOT, "  ", "")).encode())
    assert len(read_trace(path, strict=True).spans) == 1


def test_a_quoted_name_may_hold_commas_quotes_and_line_ends(tmp_path: Path) -> None:
    trace = read(tmp_path, 't,s,,p,"select ""a"",\nb",1,2,', ROOT, "t,x,,p,o,cut")
    assert trace.spans[0].operation == 'select "a",\nb'
    assert left(trace) == [("line 5", "x", Reason.CUT_SHORT)]


def test_a_stray_quote_costs_one_row(tmp_path: Path) -> None:
    rows = [f"t,s{i},,p,{chr(34) if i in (3, 7) else ''}o,1,2," for i in range(10)]
    trace = read(tmp_path, *rows)
    assert [row.place for row in trace.left_out] == ["line 5", "line 9"]
    assert len(trace.spans) == 8


@pytest.mark.parametrize(
    ("row", "reason", "told"),
    [
        ("t,x,root1,back,o,200,3", Reason.CUT_SHORT, "7 fields, the header 8"),
        ("t", Reason.CUT_SHORT, "1 fields"),
        ("t,x,root1,back,o,200,300,,", Reason.TOO_LONG, "9 fields"),
        ("t,x,root1,back,o,2e2,300,", Reason.BAD_TIME, "StartTimeUnixNano is '2e2'"),
        ("t,x,root1,back,o,-200,300,", Reason.BAD_TIME, "'-200'"),
        ("t,x,root1,back,o, 200,300,", Reason.BAD_TIME, "' 200'"),
        ("t,x,root1,back,o,1_0,300,", Reason.BAD_TIME, "'1_0'"),
        ("t,x,root1,back,o,٢,300,", Reason.BAD_TIME, "from 0 to"),
        (f"t,x,root1,back,o,200,{MAX_TIME + 1},", Reason.BAD_TIME, str(MAX_TIME)),
        (f"t,x,root1,back,o,200,{'9' * 5000},", Reason.BAD_TIME, "…"),
        (f"t,x,root1,back,o,{MAX_TIME + 1},,", Reason.BAD_TIME, f"it would start at {MAX_TIME + 1} ns"),
        ("t,x,root1,back,o,300,200,", Reason.BACKWARDS, "starts at 300 ns and ends at 200 ns"),
        (",x,root1,back,o,200,300,", Reason.EMPTY, "TraceID"),
        ("t,,root1,back,o,200,300,", Reason.EMPTY, "SpanID"),
        ("t,x,root1,,o,200,300,", Reason.EMPTY, "PodName"),
        ("t,x,root1,back,,200,300,", Reason.EMPTY, "OperationName"),
        (ROOT, Reason.DUPLICATE, "line 2 has it already"),
        ("t,x,root1,back,\0,200,300,", Reason.UNREADABLE, "NUL byte"),
        ('t,x,root1,back,"o"o,200,300,', Reason.UNREADABLE, "quotes"),
        ('t,x,root1,back,"o,200,300,', Reason.UNREADABLE, "quotes"),
        ("t,x,root1,back," + "o" * 140_000 + ",200,300,", Reason.UNREADABLE, "longer"),
        ('t,x,root1,back,"' + "o" * 140_000 + '",200,300,', Reason.UNREADABLE, "longer"),
    ],
)
def test_a_bad_row_is_left_out_and_named(tmp_path: Path, row: str, reason: Reason, told: str) -> None:
    trace = read(tmp_path, ROOT, row, "t,ok,root1,back,o,200,300,")
    assert [span.span for span in trace.spans] == ["root1", "ok"]
    (one,) = trace.left_out
    assert (one.place, one.reason) == ("line 3", reason)
    assert told in one.detail
    assert len(str(one).splitlines()) == 1
    assert str(one).startswith("line 3")
    assert trace.reasons == {reason: 1}


def test_a_row_that_is_not_utf8_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_bytes(f"{HEADER}\n{ROOT}\n".encode() + b"t,x,root1,b\xff,o,200,300,\n")
    (one,) = read_trace(path).left_out
    assert (one.reason, one.detail) == (Reason.UNREADABLE, "not UTF-8 from byte 12 of the line")


def test_the_latest_possible_time_is_possible(tmp_path: Path) -> None:
    trace = read(tmp_path, f"t,x,,p,o,0,{MAX_TIME},")
    assert trace.spans[0].end_ns == 2**63 - 1


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ("t,x,root1,back,o,300,200,", Reason.BACKWARDS),
        ("t,x,root1,back,o,200,3", Reason.CUT_SHORT),
    ],
)
def test_descendants_go_with_a_left_out_span(tmp_path: Path, bad: str, reason: Reason) -> None:
    trace = read(tmp_path, "t,z,y,back,o,1,2,", ROOT, "t,y,x,back,o,1,2,", bad)
    assert left(trace) == [
        ("line 2", "z", Reason.DESCENDANT),
        ("line 4", "y", Reason.DESCENDANT),
        ("line 5", "x", reason),
    ]
    assert trace.reasons == {Reason.DESCENDANT: 2, reason: 1}


@pytest.mark.parametrize(("parent", "correction"), [("gone", Correction.NO_PARENT), ("x", Correction.OWN_PARENT)])
def test_a_span_without_its_parent_begins_what_is_known(tmp_path: Path, parent: str, correction: Correction) -> None:
    trace = read(tmp_path, f"t,x,{parent},back,o,200,300,", "t,y,x,front,o,210,220,", strict=True)
    assert (trace.parents, trace.calls(), trace.left_out) == ([None, 0], [1], [])
    assert trace.corrections == {correction: 1}


def test_a_span_that_has_not_ended_does_so_with_the_last_below_it(tmp_path: Path) -> None:
    rows = ["t,r,,p,o,100,0,", "t,a,r,p,o,110,0,", "t,b,a,p,o,120,150,", "t,c,r,p,o,120,130,", "t,d,r,p,o,140,0,"]
    trace = read(tmp_path, *rows, strict=True)
    assert {span.span: span.end_ns for span in trace.spans} == {"r": 150, "a": 150, "b": 150, "c": 130, "d": 140}
    assert trace.corrections == {Correction.NOT_ENDED: 3}


def test_identifiers_that_differ_in_leading_zeros_are_the_same(tmp_path: Path) -> None:
    trace = read(tmp_path, "00ab,001,,p,o,100,200,", "ab,2,1,q,o,110,120,", "0ab,1,,p,o,1,2,")
    assert (trace.parents, trace.traces) == ([None, 0], ["00ab"])
    assert trace.reasons == {Reason.DUPLICATE: 1}


def test_a_trace_of_64_bits_is_the_one_of_128_that_ends_so(tmp_path: Path) -> None:
    whole = "a" * 16 + "b" * 16
    trace = read(tmp_path, f"{whole},1,,p,o,100,200,", f"{'b' * 16},2,1,q,o,110,120,")
    assert (trace.parents, trace.traces) == ([None, 0], [whole])
    other = f"{'c' * 16 + 'b' * 16},1,,p,o,100,200,"
    doubtful = read(tmp_path, f"{whole},1,,p,o,100,200,", other, f"{'b' * 16},2,1,q,o,110,120,")
    assert doubtful.corrections == {Correction.NO_PARENT: 1}


def test_a_cycle_is_told_from_what_hangs_on_it(tmp_path: Path) -> None:
    rows = [f"t,{span},{parent},p,o,1,2," for span, parent in ("ab", "bc", "ca", "da", "ed")]
    assert left(read(tmp_path, *rows, ROOT)) == [
        *((f"line {line}", span, Reason.CYCLE) for line, span in enumerate("abc", 2)),
        ("line 5", "d", Reason.DESCENDANT),
        ("line 6", "e", Reason.DESCENDANT),
    ]


def test_children_of_a_span_given_twice_stay_with_the_first(tmp_path: Path) -> None:
    trace = read(tmp_path, ROOT, "t,kid,root1,p,o,200,300,", ROOT)
    assert [span.span for span in trace.spans] == ["root1", "kid"]
    assert list(map(list, trace.children)) == [[1], []]
    assert left(trace) == [("line 4", "root1", Reason.DUPLICATE)]


@pytest.mark.parametrize("count", [10_000, pytest.param(100_000, marks=pytest.mark.long)])
@pytest.mark.parametrize("top", ["root", "gone", "the last"])
def test_a_chain_of_many_spans_is_read_whatever_its_end(tmp_path: Path, top: str, count: int) -> None:
    top = top.replace("the last", str(count - 1))
    rows = [f"t,{i},{i - 1 if i else top},p{i % 2},o,{i},{count}," for i in range(count)]
    random.Random(1).shuffle(rows)
    trace = read(tmp_path, ROOT, *rows, max_depth=count)
    assert len(trace.spans) + len(trace.left_out) == count + 1
    if top == "root":
        assert len(trace.calls()) == count - 1
    elif top == "gone":
        assert trace.corrections == {Correction.NO_PARENT: 1}
        assert len(trace.calls()) == count - 1
    else:
        assert trace.reasons == {Reason.CYCLE: count}


def test_strict_refuses_the_first_bad_row(tmp_path: Path) -> None:
    read(tmp_path, ROOT, "t,x,root1,p,,1,2,", "t,y,root1,p,o,2,1,")
    text = refusal(tmp_path / "trace.csv", strict=True)
    assert text == f"{tmp_path / 'trace.csv'}: line 3: empty field: no OperationName is given; correct it"


JSON = b'{"data": [{"traceID": "t", "spans": [], "processes": {}}]}'


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "whole file: is empty"),
        (b" \n\n", "whole file: is empty"),
        (b"\xef\xbb\xbf", "whole file: is empty"),
        (zipped_bytes(b""), "whole file: is empty"),
        (HEADER.encode(), "whole file: holds no spans"),
        (JSON, "whole file: holds no spans"),
        (b"\x89PNG\r\n\x1a\n\0\0", "line 1: not UTF-8"),
        (GOOD.decode().encode("utf-16"), "whole file: is text in UTF-16; write it in UTF-8"),
        (b"hello\nworld\n", "line 1: needs column TraceID"),
        (GOOD.replace(b"SpanID", b"Id"), "line 1: needs column SpanID once"),
        (GOOD.replace(b"Duration", b"PodName"), "line 1: needs column PodName once"),
        (GOOD.replace(b"\n", b"\r"), "carriage return within the line"),
        (b'"TraceID\n', "line 1: wrong quotes"),
        (GOOD.replace(b"900", b"9"), "line 2: end before start"),
        (GOOD.replace(b"900", b"9") + b"x\ny\n", "none of 3 rows is good"),
        (zipped_bytes(GOOD)[:-9], "gzip: cut short"),
        (zipped_bytes(GOOD)[:5], "gzip: cut short"),
        (zipped_bytes(GOOD)[:12] + b"\xff" * 40, "gzip: cut short or damaged"),
        (zipped_bytes(GOOD) + b"more", "gzip: cut short or damaged"),
        (zipped_bytes(zipped_bytes(GOOD)), "is compressed twice; unpack it once"),
        (JSON[:-5], "line 1 column"),
        (JSON + JSON[:-5], "line 1 column"),
        (b'{"data": "\xff"}', "not JSON"),
        (b'{"data": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no list 'data'"),
        (b'{"spans": []}', "no list 'data'"),
        (b'{"data": {}}', "no list 'data'"),
        (b'{"data": [{"spans": []}, 7]}', "data[1]: has no list 'spans'"),
        (b'{"data": [{"spans": null}]}', "data[0]: has no list 'spans'"),
    ],
)
def test_a_file_without_a_good_span_is_refused(tmp_path: Path, content: bytes, told: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    text = refusal(path)
    assert text.startswith(f"{path}: ")
    assert told in text
    assert ";" in text  # the fix


def test_a_path_that_is_no_file_is_refused(tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "none.csv")
    assert "has no file in it" in refusal(tmp_path)
    assert "null byte" in refusal("a\0b")
    assert "none\\nsuch" in refusal("none\nsuch")


def test_a_refusal_crosses_processes() -> None:
    refused = TraceRefused("a.csv", "line 1", "bad; mend it")
    assert str(pickle.loads(pickle.dumps(refused))) == str(refused) == "a.csv: line 1: bad; mend it"


# Jaeger's JSON


def jaeger(tmp_path: Path, *spans: Any, zipped: bool = False, **processes: Any) -> Trace:
    document = json.dumps({"data": [{"traceID": "t", "spans": spans, "processes": processes}]}, indent=1)
    path = tmp_path / "trace.csv"  # the name says nothing
    path.write_bytes(zipped_bytes(document.encode()) if zipped else document.encode())
    return read_trace(path)


@pytest.mark.parametrize("zipped", [False, True])
def test_jaegers_export_is_read_in_nanoseconds(tmp_path: Path, zipped: bool) -> None:
    back = {"serviceName": "back"}
    trace = jaeger(
        tmp_path, made("b", "a", processID="p2", startTime=110, duration=9), made("a"), zipped=zipped, p1=P1, p2=back
    )
    first, second = trace.spans
    assert (first.trace, first.span, first.parent, first.pod) == ("t", "a", None, "front")
    assert (first.start_ns, first.end_ns) == (100_000, 150_000)
    assert (second.parent, second.pod, second.start_ns) == ("a", "back", 110_000)
    assert trace.calls() == [1]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_csv_file_is_known_by_its_content(tmp_path: Path, zipped: bool) -> None:
    path = tmp_path / "trace.json"
    path.write_bytes(zipped_bytes(GOOD) if zipped else GOOD)
    assert len(read_trace(path).spans) == 1


@pytest.mark.parametrize(
    ("tags", "pod"),
    [
        ({"hostname": "h", "pod": "p", "k8s.pod.name": "k"}, "k"),
        ({"hostname": "h", "pod": "p"}, "p"),
        ({"hostname": "h", "pod": ""}, "front"),
        ({"hostname": 7}, "front"),
        ({"ip": "10.0.0.1"}, "front"),
    ],
)
def test_a_pod_is_named_by_its_tag_before_its_service(tmp_path: Path, tags: dict[str, Any], pod: str) -> None:
    listed = [{"key": key, "type": "string", "value": value} for key, value in tags.items()]
    assert jaeger(tmp_path, made("a"), p1=P1 | {"tags": listed}).pods == [pod]


def test_child_of_is_the_parent_before_follows_from_and_other_traces_are_none(tmp_path: Path) -> None:
    follows = {"refType": "FOLLOWS_FROM", "traceID": "t", "spanID": "a"}
    child = {"refType": "CHILD_OF", "traceID": "t", "spanID": "b"}
    spans = [
        made("a"),
        made("b", references=[follows]),
        made("c", references=[follows, child]),
        made("d", references=[child | {"traceID": "elsewhere"}]),
        made("e", references=None),
    ]
    trace = jaeger(tmp_path, *spans, p1=P1)
    parents = {span.span: span.parent for span in trace.spans}
    assert parents == {"a": None, "b": "a", "c": "b", "d": None, "e": None}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (7, Reason.UNREADABLE),
        (made("x", spanID=7), Reason.UNREADABLE),
        (made("x", operationName="half \ud800"), Reason.UNREADABLE),
        (made("x", operationName="\0"), Reason.UNREADABLE),
        (made("x", references=7), Reason.UNREADABLE),
        (made("x", references=["root1"]), Reason.UNREADABLE),
        (made("x", spanID="ABSENT"), Reason.EMPTY),
        (made("x", operationName=""), Reason.EMPTY),
        (made("x", processID="ABSENT"), Reason.EMPTY),
        (made("x", processID="p9"), Reason.EMPTY),
        (made("x", processID="p2"), Reason.EMPTY),
        (made("x", processID=["p1"]), Reason.UNREADABLE),
        (made("x", startTime="100"), Reason.BAD_TIME),
        (made("x", startTime=True), Reason.BAD_TIME),
        (made("x", startTime=-1), Reason.BAD_TIME),
        (made("x", startTime=1e300), Reason.BAD_TIME),
        (made("x", startTime=MAX_TIME), Reason.BAD_TIME),
        (made("x", startTime=MAX_TIME // 1000, duration=1), Reason.BAD_TIME),
        (made("x", duration=float("nan")), Reason.BAD_TIME),
        (made("x", duration=-1), Reason.BACKWARDS),
        (made("a"), Reason.DUPLICATE),
    ],
)
def test_a_bad_span_of_jaegers_is_left_out_and_named(tmp_path: Path, bad: Any, reason: Reason) -> None:
    trace = jaeger(tmp_path, made("a"), bad, made("ok", "a"), p1=P1, p2=None)
    assert [span.span for span in trace.spans] == ["a", "ok"]
    (one,) = trace.left_out
    assert (one.place, one.reason) == ("span 2", reason)
    assert str(one).replace("µs", "us").isascii()
