"""Finds out in which form a JSON document holds spans, and brings it into one that a reader knows.

Tools wrap the same spans in different ways: an answer of an API, a list that `jq` made, a document
of a search engine. Each wrapping is taken off until Jaeger's `data` or OTLP's `resourceSpans` is
left. Spans of Zipkin and of the OpenTelemetry SDK's console are rewritten as OTLP. Forms that are
known but not read are refused by their names.
"""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final  # `Any` is the type of what json.loads returns

from lrpc.workloads.traces.formats.otlp import FORM, FORMS
from lrpc.workloads.traces.rows import Misshapen, quoted

MOST_WRAPPED: Final = 8  # the most wrappings around a document
MICROSECOND: Final = 1_000  # in ns
SECOND: Final = 1_000_000_000

# Forms that are not read, by a key that only they have at the top, and what to do instead.
OTHERS: Final = {
    "traceEvents": "Chrome's trace events, which are of threads, not of calls; export OTLP or Jaeger JSON",
    "Traces": "AWS X-Ray's; send the spans through an OpenTelemetry collector and export OTLP",
    "Segments": "AWS X-Ray's; send the spans through an OpenTelemetry collector and export OTLP",
    "transaction": "Elastic APM's; send the spans through an OpenTelemetry collector and export OTLP",
    "metadata": "Elastic APM's; send the spans through an OpenTelemetry collector and export OTLP",
}
DATADOG: Final = "Datadog's; send the spans through an OpenTelemetry collector and export OTLP"
# OTLP in snake case: its keys in camel case differ in this alone.
_SNAKE: Final = re.compile(r"_([a-z0-9])")
_SNAKE_KEYS: Final = ("resource_spans", "scope_spans", "instrumentation_library_spans")
_ATTRIBUTES: Final = "attributes"


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
    if isinstance(first.get("spans"), list):
        return {"data": items}
    if "traceId" in first and "id" in first:
        return {"resourceSpans": [_of_zipkin(item) for item in items], FORM: FORMS[2]}
    if "spanID" in first:
        return {"data": [{"spans": items}]}
    if "trace_id" in first and "span_id" in first:
        raise Unread(DATADOG)
    if isinstance(first.get("context"), dict):
        return {"resourceSpans": [_of_console(item) for item in items], FORM: FORMS[3]}
    documents = [unwrapped(item) for item in items]
    listed = [one.get("resourceSpans") if isinstance(one, dict) else None for one in documents]
    if any(one is not None for one in listed):
        return {"resourceSpans": [resource for part in listed if isinstance(part, list) for resource in part]}
    return {"data": [entry for one in documents if isinstance(one, dict) for entry in one.get("data") or []]}


def _of_object(document: object) -> object:
    if not isinstance(document, dict):
        return document
    for key in OTHERS.keys() & document.keys():
        raise Unread(OTHERS[key])
    data = document.get("data")
    if "data" in document and not data and isinstance(document.get("errors"), list):
        told = [error.get("msg") for error in document["errors"] if isinstance(error, dict)]
        raise Misshapen("data", f"holds no trace: Jaeger answered {quoted(told[0] if told else 'nothing')}")
    if isinstance(data, dict):
        return {"data": [data]} if isinstance(data.get("spans"), list) else data
    for wrapping in ("result", "trace"):
        if isinstance(document.get(wrapping), dict):
            return document[wrapping]
    if isinstance(document.get("batches"), list):
        return {"resourceSpans": document["batches"]}
    if any(key in document for key in _SNAKE_KEYS):
        return _camel(document, 0)
    hits = document.get("hits")
    if isinstance(hits, dict) and isinstance(hits.get("hits"), list):
        return [hit["_source"] for hit in hits["hits"] if isinstance(hit, dict) and "_source" in hit]
    if isinstance(document.get("spans"), list) and "traceID" in document:
        return [document]
    alone = "spanID" in document or isinstance(document.get("context"), dict)
    return [document] if alone else document


def _camel(value: Any, depth: int) -> Any:
    """Return OTLP with its keys in camel case; attributes' own keys are values, and stay."""
    if depth > 32:
        return value
    if isinstance(value, list):
        return [_camel(item, depth + 1) for item in value]
    if isinstance(value, dict):
        return {_SNAKE.sub(lambda at: at[1].upper(), key): _camel(one, depth + 1) for key, one in value.items()}
    return value


def _resource(attributes: Mapping[str, Any], span: dict[str, Any]) -> dict[str, Any]:
    """Return the resource of one span, as OTLP has it."""
    return {"resource": {_ATTRIBUTES: _listed(attributes)}, "scopeSpans": [{"spans": [span]}]}


def _listed(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue" if type(value) is int else "stringValue": value}}
        for key, value in attributes.items()
    ]


def _of_zipkin(item: Any) -> dict[str, Any]:
    """Return a span of Zipkin's (version 2) as OTLP."""
    if not isinstance(item, dict):
        return _resource({}, item)
    here, there = (
        endpoint.get("serviceName") if isinstance(endpoint := item.get(key), dict) else None
        for key in ("localEndpoint", "remoteEndpoint")
    )
    found = item.get("tags")
    tags = found if isinstance(found, dict) else {}
    start, duration = item.get("timestamp"), item.get("duration", 0)
    begin, end = start, duration
    if isinstance(start, int) and isinstance(duration, int):
        begin, end = start * MICROSECOND, (start + duration) * MICROSECOND
    span = {
        "traceId": _padded(item.get("traceId"), 32),
        "spanId": _padded(item.get("id"), 16),
        "parentSpanId": _padded(item.get("parentId"), 16),
        "name": item.get("name"),
        "kind": item.get("kind"),
        "startTimeUnixNano": begin,
        "endTimeUnixNano": end,
        _ATTRIBUTES: _listed({"peer.service": there, **tags} if there else tags),
    }
    return _resource({**tags, "service.name": here}, span)


def _of_console(item: Any) -> dict[str, Any]:
    """Return a span that the OpenTelemetry SDK printed as OTLP."""
    if not isinstance(item, dict) or not isinstance(item.get("context"), dict):
        return _resource({}, item)
    context, resource = item["context"], item.get("resource")
    attributes = resource.get(_ATTRIBUTES) if isinstance(resource, dict) else None
    span = {
        "traceId": _padded(context.get("trace_id"), 32),
        "spanId": _padded(context.get("span_id"), 16),
        "parentSpanId": _padded(item.get("parent_id"), 16),
        "name": item.get("name"),
        "kind": str(item.get("kind")).removeprefix("SpanKind."),
        "startTimeUnixNano": _since_1970(item.get("start_time")),
        "endTimeUnixNano": _since_1970(item.get("end_time")),
        _ATTRIBUTES: _listed(own if isinstance(own := item.get(_ATTRIBUTES), dict) else {}),
    }
    return _resource(attributes if isinstance(attributes, dict) else {}, span)


def _padded(text: Any, digits: int) -> Any:
    return text.removeprefix("0x").rjust(digits, "0") if isinstance(text, str) and text else text


def _since_1970(text: Any) -> Any:
    """Return a time in ns, given as ISO 8601 has it; what is no such time as it is."""
    try:
        moment = datetime.fromisoformat(text)
        whole = int(moment.replace(microsecond=0).timestamp())
    except (TypeError, ValueError, OverflowError):
        return text
    return whole * SECOND + moment.microsecond * MICROSECOND
