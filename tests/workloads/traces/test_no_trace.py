"""A file that is no trace is given up early: it fills neither the memory nor the time."""

import json
from pathlib import Path

import pytest

from lrpc.workloads.traces import rows
from lrpc.workloads.traces.formats import json_rows
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.spans import TraceRefused
from tests.support.spans import HEADER


def test_a_document_of_too_many_values_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "array.json"
    path.write_bytes(b"[" + b"0," * (json_rows.MOST_VALUES // 2 + 1) * 2 + b"0]")
    with pytest.raises(TraceRefused, match=r"whole file: not JSON \(more than 32,000,000 values; have a document on"):
        read_trace(path)


@pytest.mark.parametrize("form", ["csv", "jaeger", "lines"])
def test_a_file_whose_first_rows_are_all_unfit_is_given_up(form: str, tmp_path: Path) -> None:
    """The rest is not gone through, and what it says of them does not fill the memory."""
    many = rows.MOST_BEFORE_THE_FIRST + 1
    path = tmp_path / "bad"
    path.write_text(
        {
            "csv": HEADER + "\n" + ",,,,,,\n" * many,
            "jaeger": json.dumps({"data": [{"traceID": "1", "processes": {}, "spans": [{}] * many}]}),
            "lines": '{"data": []}\n' + "broken\n" * many,
        }[form]
    )
    with pytest.raises(TraceRefused, match="100,000 rows before it are left out as well"):
        read_trace(path)


@pytest.mark.long
def test_a_file_with_more_unfit_rows_than_are_kept_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bad.csv"
    most = rows.MOST_LEFT_OUT
    path.write_text(HEADER + "\n" + "t,s,,p,o,1,2,1\n" * (most + 1))
    assert len(read_trace(path).left_out) == most
    with path.open("a") as file:
        file.write("t,s,,p,o,1,2,1\n")
    many = rf"line {most + 3}: .*; {most:,} rows before it are left out as well; correct the file"
    with pytest.raises(TraceRefused, match=many):
        read_trace(path)
