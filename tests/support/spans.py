"""Spans for tests to read: the header and a first row of CSV, and spans of Jaeger's JSON."""

from typing import Any

from lrpc.workloads.traces.formats.csv_rows import COLUMNS

HEADER = ",".join((*COLUMNS, "Duration"))
ROOT = "t,root1,root,front,Recv,100,900,0"

GOOD = f"{HEADER}\n{ROOT}\n".encode()


def made(span: str, parent: str | None = None, **changed: Any) -> dict[str, Any]:
    references = [{"refType": "CHILD_OF", "traceID": "t", "spanID": parent}] if parent else []
    fields: dict[str, Any] = {"traceID": "t", "spanID": span, "operationName": "o", "references": references}
    fields |= {"startTime": 100, "duration": 50, "processID": "p1"} | changed
    return {key: value for key, value in fields.items() if value != "ABSENT"}


P1 = {"serviceName": "front", "tags": []}
