"""Any bytes are read as a trace or refused; every row and span is read or left out."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.spans import Correction, TraceRefused
from lrpc.workloads.traces.trace import Trace
from tests.support.spans import GOOD, HEADER, P1, ROOT, made


def read_or_refused(path: Path) -> Trace | str:
    try:
        return read_trace(path)
    except TraceRefused as refused:
        return str(refused)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bytes") / "trace"


PIECES = st.sampled_from([b",", b'"', b'""', b"\n", b"\r", b"\0", b"\xff", b"t", b"root", b"5", b"\xe2\x80\xa8"])


@given(
    start=st.sampled_from([b"", HEADER.encode() + b"\n", GOOD, b"{", b"\x1f\x8b"]), rest=st.lists(PIECES | st.binary())
)
def test_any_bytes_are_a_trace_or_refused(scratch: Path, start: bytes, rest: list[bytes]) -> None:
    scratch.write_bytes(start + b"".join(rest))
    trace = read_or_refused(scratch)
    assert trace.spans if isinstance(trace, Trace) else len(trace.splitlines()) == 1


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)
KEYS = st.sampled_from(list(made("x")))


@given(st.lists(JSON_VALUES | st.dictionaries(KEYS, JSON_VALUES).map(lambda changed: made("x") | changed)))
def test_any_json_spans_are_accounted_for(scratch: Path, spans: list[Any]) -> None:
    entry = {"traceID": "t", "spans": [made("a"), *spans], "processes": {"p1": P1}}
    scratch.write_text(json.dumps({"data": [entry]}))
    trace = read_trace(scratch)
    assert len(trace.spans) + len(trace.left_out) == 1 + len(spans)
    assert all(len(str(row).splitlines()) == 1 for row in trace.left_out)


IDS = st.sampled_from(["", "root", "a", "b", "c", "d", "e"])
TIMES = st.sampled_from(["1", "2", "3", "-1", "x", ""])
ROWS = st.tuples(st.sampled_from("tu"), IDS, IDS, st.sampled_from(["p", "q", ""]), st.just("o"), TIMES, TIMES)


@given(st.lists(st.tuples(ROWS, st.integers(1, 9))))
def test_every_row_is_good_or_left_out(scratch: Path, rows: list[tuple[tuple[str, ...], int]]) -> None:
    lines = [",".join((*row, "", "")[:width]) for row, width in rows]
    scratch.write_text("\n".join((HEADER, ROOT, *lines)))
    trace = read_trace(scratch)
    assert len(trace.spans) + len(trace.left_out) == 1 + sum(line != "" for line in lines)
    assert sum(trace.reasons.values()) == len(trace.left_out)
    begun_without = 0  # a parent that is not in the file
    for index, parent in enumerate(trace.parents):
        span = trace.spans[index]
        if parent is None:
            begun_without += span.parent is not None
        else:
            assert (trace.spans[parent].trace, trace.spans[parent].span) == (span.trace, span.parent)
            assert index in trace.children[parent]
    corrected = (Correction.NO_PARENT, Correction.OWN_PARENT)
    assert begun_without == sum(trace.corrections.get(one, 0) for one in corrected)
