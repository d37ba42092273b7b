"""Rewrites spans of Zipkin, and those that OpenTelemetry's SDKs print, as OTLP.

Python's SDK prints spans with a `context`, Go's with a `SpanContext`. What is no such span is left
as it is, so that OTLP's reader says what is wrong with it.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final  # `Any` is the type of what json.loads returns

MICROSECOND: Final = 1_000  # in ns
SECOND: Final = 1_000_000_000
TRACE_DIGITS: Final = 32
SPAN_DIGITS: Final = 16
_ATTRIBUTES: Final = "attributes"


def of_zipkin(item: Any) -> dict[str, Any]:
    """Return a span of Zipkin's (version 2) as OTLP; without a duration it has not ended."""
    if not isinstance(item, dict):
        return _resource({}, item)
    here, there = (
        endpoint.get("serviceName") if isinstance(endpoint := item.get(key), dict) else None
        for key in ("localEndpoint", "remoteEndpoint")
    )
    found = item.get("tags")
    tags = found if isinstance(found, dict) else {}
    start, duration = _whole(item.get("timestamp")), _whole(item.get("duration"))
    span = {
        "traceId": item.get("traceId"),
        "spanId": item.get("id"),
        "parentSpanId": item.get("parentId"),
        "name": item.get("name"),
        "kind": item.get("kind"),
        "startTimeUnixNano": start * MICROSECOND if isinstance(start, int) else start,
        "endTimeUnixNano": duration,
        _ATTRIBUTES: _listed({"peer.service": there, **tags} if there else tags),
    }
    if isinstance(start, int) and isinstance(duration, int):
        span["endTimeUnixNano"] = (start + duration) * MICROSECOND
    return _resource({**tags, "service.name": here}, span)


def of_python(item: Any) -> dict[str, Any]:
    """Return a span that Python's SDK printed as OTLP."""
    if not isinstance(item, dict) or not isinstance(item.get("context"), dict):
        return _resource({}, item)
    context, resource = item["context"], item.get("resource")
    attributes = resource.get(_ATTRIBUTES) if isinstance(resource, dict) else None
    listed = item.get("links")
    span = {
        **_identified(context),
        "parentSpanId": _hexadecimal(item.get("parent_id")),
        "name": item.get("name"),
        "kind": str(item.get("kind")).removeprefix("SpanKind."),
        "startTimeUnixNano": _since_1970(item.get("start_time")),
        "endTimeUnixNano": _since_1970(item.get("end_time")),
        _ATTRIBUTES: _listed(own if isinstance(own := item.get(_ATTRIBUTES), dict) else {}),
        "links": [
            {**_identified(link["context"]), _ATTRIBUTES: _listed(link.get(_ATTRIBUTES) or {})}
            for link in (listed if isinstance(listed, list) else ())
            if isinstance(link, dict) and isinstance(link.get("context"), dict)
        ],
    }
    return _resource(attributes if isinstance(attributes, dict) else {}, span)


def of_go(item: Any) -> dict[str, Any]:
    """Return a span that Go's SDK printed as OTLP."""
    if not isinstance(item, dict) or not isinstance(item.get("SpanContext"), dict):
        return _resource({}, item)
    context, parent = item["SpanContext"], item.get("Parent")
    above = parent.get("SpanID") if isinstance(parent, dict) else None
    span = {
        "traceId": context.get("TraceID"),
        "spanId": context.get("SpanID"),
        "parentSpanId": None if isinstance(above, str) and not above.strip("0") else above,
        "name": item.get("Name"),
        "kind": item.get("SpanKind"),
        "startTimeUnixNano": _since_1970(item.get("StartTime")),
        "endTimeUnixNano": _since_1970(item.get("EndTime")),
        _ATTRIBUTES: _listed(_pairs(item.get("Attributes"))),
    }
    return _resource(_pairs(item.get("Resource")), span)


def _pairs(listed: Any) -> dict[str, Any]:
    """Return attributes as Go's SDK prints them, by name."""
    return {
        one["Key"]: one["Value"].get("Value")
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict) and isinstance(one.get("Key"), str) and isinstance(one.get("Value"), dict)
    }


def _identified(context: dict[str, Any]) -> dict[str, Any]:
    return {"traceId": _hexadecimal(context.get("trace_id")), "spanId": _hexadecimal(context.get("span_id"))}


def _hexadecimal(text: Any) -> Any:
    return text.removeprefix("0x") if isinstance(text, str) else text


def _resource(attributes: Mapping[str, Any], span: dict[str, Any]) -> dict[str, Any]:
    """Return the resource of one span, as OTLP has it."""
    return {"resource": {_ATTRIBUTES: _listed(attributes)}, "scopeSpans": [{"spans": [span]}]}


def _listed(attributes: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue" if type(value) is int else "stringValue": value}}
        for key, value in attributes.items()
    ]


def _whole(value: Any) -> Any:
    """Return a whole number that is given as a text or as a float; what is none as it is."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20 else value


def _since_1970(text: Any) -> Any:
    """Return a time in ns, given as ISO 8601 has it; what is no such time as it is.

    Go prints nanoseconds, and less than six digits where the last are zeros.
    """
    try:
        whole_text, point, rest = text.partition(".")
        digits = rest[: len(rest) - len(rest.lstrip("0123456789"))]
        moment = datetime.fromisoformat(whole_text + rest[len(digits) :] if point else text)
        return int(moment.timestamp()) * SECOND + int(digits[:9].ljust(9, "0"))
    except (AttributeError, TypeError, ValueError, OverflowError):
        return text
