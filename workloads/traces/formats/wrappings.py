"""Finds out in which form a JSON document holds spans, and brings it into one that a reader knows.

Tools wrap the same spans in different ways: an answer of an API, a list that `jq` made, a document
of a search engine. Each wrapping is taken off until Jaeger's `data` or OTLP's `resourceSpans` is
left. Spans of Zipkin and of OpenTelemetry's SDKs are rewritten as OTLP. Forms that are known but
not read are refused by their names.
"""

import re
from typing import Any, Final  # `Any` is the type of what json.loads returns

from lrpc.workloads.traces.formats.otlp import FORM, FORMS, OTHER_SIGNALS
from lrpc.workloads.traces.formats.rewritten import of_go, of_python, of_zipkin
from lrpc.workloads.traces.rows import Misshapen, quoted

MOST_WRAPPED: Final = 8  # the most wrappings around a document
COLLECTOR: Final = "send the spans through an OpenTelemetry collector and export OTLP"
CHROME: Final = "Chrome's trace events, which are of threads, not of calls; export OTLP or Jaeger JSON"
XRAY: Final = f"AWS X-Ray's; {COLLECTOR}"
ELASTIC: Final = f"Elastic APM's; {COLLECTOR}"
DATADOG: Final = f"Datadog's; {COLLECTOR}"
# Forms that are not read, by the keys that only they have together, and what to do instead.
OTHERS: Final = (
    ({"traceEvents"}, CHROME),
    ({"ph", "ts", "pid"}, CHROME),
    ({"Traces"}, XRAY),
    ({"Segments"}, XRAY),
    ({"trace_id", "id", "start_time"}, XRAY),
    ({"transaction"}, ELASTIC),
    ({"metadata"}, ELASTIC),
    ({"processor", "@timestamp"}, ELASTIC),
    ({"trace_id", "span_id"}, DATADOG),
)
# Spans that are rewritten as OTLP: the keys by which one is known, how, and its form.
REWRITTEN: Final = (
    ({"traceId", "id"}, of_zipkin, FORMS[2]),
    ({"context", "name"}, of_python, FORMS[3]),
    ({"SpanContext", "Name"}, of_go, FORMS[3]),
)
# OTLP in snake case: its keys in camel case differ in this alone.
_SNAKE: Final = re.compile(r"_([a-z0-9])")
_SNAKE_KEYS: Final = ("resource_spans", "scope_spans", "instrumentation_library_spans")


class Unread(Exception):
    """Raised for a document in a form that is known and not read; `str()` says whose it is."""


def unwrapped(document: object) -> object:
    """Return a document in Jaeger's form or OTLP; as it is if it is in no form that is known.

    Raises `Unread` for a form that is not read, and `Misshapen` where a tool answered that there is
    no trace.
    """
    for _ in range(MOST_WRAPPED):
        inner = _of_list(document) if isinstance(document, list) else _of_object(document)
        if inner is document:
            return document
        document = inner
    raise Misshapen("top level", f"has more than {MOST_WRAPPED} wrappings")


def _of_list(items: list[Any]) -> object:
    first = items[0] if items else None
    if isinstance(first, list):
        return [item for part in items if isinstance(part, list) for item in part]
    if not isinstance(first, dict):
        return items
    if "_source" in first:
        return [item["_source"] if isinstance(item, dict) and "_source" in item else item for item in items]
    if isinstance(first.get("spans"), list):
        return {"data": items}
    if "spanID" in first:
        return {"data": [{"spans": items}]}
    for keys, rewritten, form in REWRITTEN:
        if keys <= first.keys():
            return {"resourceSpans": [rewritten(item) for item in items], FORM: form}
    refuse_others(first)
    return _of_documents(items)


def _of_documents(items: list[Any]) -> object:
    """Return one document with the spans of several, all of which are Jaeger's or all OTLP."""
    found: dict[str, list[Any]] = {}
    for number, item in enumerate(items):
        document = unwrapped(item)
        keys = document.keys() if isinstance(document, dict) else set()
        key = next((key for key in ("resourceSpans", "data") if key in keys), "")
        if key:
            found.setdefault(key, []).append(document)
        elif not keys & OTHER_SIGNALS:
            raise Misshapen(f"[{number}]", f"{quoted(item)} holds no spans of Jaeger's, OpenTelemetry's or Zipkin's")
    if len(found) > 1:
        raise Misshapen("top level", "is a list of Jaeger's documents and OTLP's; give each form a file of its own")
    merged: dict[str, object] = {}
    for key, documents in found.items():
        merged[key] = [part for one in documents for part in (one[key] if isinstance(one[key], list) else [one[key]])]
        forms = {one.get(FORM) for one in documents}
        if len(forms) == 1:
            merged[FORM] = forms.pop()
    return merged or {"resourceSpans": []}


def _of_object(document: object) -> object:
    if not isinstance(document, dict):
        return document
    _refuse_answers(document)
    if "spanID" in document or any(keys <= document.keys() for keys, *_ in REWRITTEN):
        return [document]
    refuse_others(document)
    data = document.get("data")
    if isinstance(data, dict):
        return {"data": [data]} if isinstance(data.get("spans"), list) else data
    if isinstance(data, list) and data and isinstance(data[0], dict) and data[0].get("type") == "spans":
        raise Unread(DATADOG)
    for wrapping in ("result", "trace", "_source"):
        if isinstance(document.get(wrapping), dict):
            return document[wrapping]
    for key in ("batches", "resourceSpans"):
        listed = document.get(key)
        if isinstance(listed, list) and any(isinstance(one, dict) and _is_snake(one) for one in listed):
            return {"resourceSpans": _camel(listed, 0)}
        if key == "batches" and isinstance(listed, list):
            return {"resourceSpans": listed}
    if _is_snake(document):
        return _camel(document, 0)
    return _of_search(document)


def _of_search(document: dict[str, Any]) -> object:
    """Return what a search engine found, or what a trace alone in Jaeger's form holds."""
    hits = document.get("hits")
    if isinstance(hits, dict) and isinstance(hits.get("hits"), list):
        return [hit["_source"] for hit in hits["hits"] if isinstance(hit, dict) and "_source" in hit]
    if isinstance(document.get("responses"), list):
        return document["responses"]
    return [document] if isinstance(document.get("spans"), list) and "traceID" in document else document


def _refuse_answers(document: dict[str, Any]) -> None:
    """Raise `Misshapen` for an answer of Jaeger's that says why there is no trace."""
    errors, error = document.get("errors"), document.get("error")
    if "data" in document and not document["data"] and isinstance(errors, list):
        told = [one.get("msg") for one in errors if isinstance(one, dict)]
        raise Misshapen("data", f"holds no trace: Jaeger answered {quoted(told[0] if told else 'nothing')}")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        raise Misshapen("error", f"holds no trace: Jaeger answered {quoted(error['message'])}")


def refuse_others(item: dict[str, Any]) -> None:
    """Raise `Unread` for what is in a form that is known and not read."""
    for keys, whose in OTHERS:
        if keys <= item.keys():
            raise Unread(whose)
    span, traces = item.get("span"), item.get("traces")
    if isinstance(traces, list) and traces and isinstance(traces[0], list):
        raise Unread(DATADOG)
    if isinstance(span, dict) and "trace_id" in span:
        raise Unread(ELASTIC)


def _is_snake(document: dict[str, Any]) -> bool:
    return any(key in document for key in _SNAKE_KEYS)


def _camel(value: Any, depth: int) -> Any:
    """Return OTLP with its keys in camel case; attributes' own keys are values, and stay."""
    if depth > 32:
        return value
    if isinstance(value, list):
        return [_camel(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_SNAKE.sub(lambda at: at[1].upper(), key): _camel(one, depth + 1) for key, one in value.items()}
    return value
