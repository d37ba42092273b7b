"""Reads the spans of a document in OTLP, the JSON that OpenTelemetry writes."""

from collections.abc import Iterator, Mapping
from typing import Any, Final  # `Any` is the type of what json.loads returns

from lrpc.workloads.traces.rows import (
    UNIDENTIFIED,
    Misshapen,
    RowCollector,
    RowPlace,
    SpanKey,
    Unfit,
    name,
    nanoseconds,
    quoted,
)
from lrpc.workloads.traces.spans import Reason, Span

# A resource's attributes that name its pod, the best first. An instance is one domain, while
# several services may share a host. The service's name comes last, since all its instances have the
# same.
POD_ATTRIBUTES: Final = ("k8s.pod.name", "service.instance.id", "host.name", "service.name")
# Documents without spans that a collector may write to the same file.
OTHER_SIGNALS: Final = frozenset({"resourceMetrics", "resourceLogs", "resourceProfiles"})
SCOPES: Final = ("scopeSpans", "instrumentationLibrarySpans")  # the key's name, and its name before OTLP 1.0
TRACE_DIGITS: Final = 32  # hexadecimal digits of a trace's identifier
SPAN_DIGITS: Final = 16


def read(document: Mapping[str, Any], place: RowPlace, collector: RowCollector) -> None:
    """Add a document's spans to `collector`; raise `Misshapen` if it is not OTLP.

    An absent list counts as an empty one, since OTLP leaves out empty fields.
    """
    for number, (pod, item) in enumerate(_items(document), 1):
        try:
            collector.keep((*place, number), _span(item, pod))
        except Unfit as unfit:
            collector.leave_out((*place, number), _identity(item), unfit)


def _items(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the pod and the undecoded span of every span in a document."""
    for at, resource in _listed(document, "resourceSpans"):
        pod = _pod(resource.get("resource"))
        scopes = next((key for key in SCOPES if resource.get(key)), SCOPES[0])
        for scope_at, scope in _listed(resource, scopes, f"{at}."):
            for item in _list(scope, "spans", f"{scope_at}."):
                yield pod, item


def _listed(holder: Mapping[str, Any], key: str, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield the path and the object of every item in the list under `key`."""
    for number, one in enumerate(_list(holder, key, prefix)):
        at = f"{prefix}{key}[{number}]"
        if not isinstance(one, dict):
            raise Misshapen(at, f"{quoted(one)} is not an object")
        yield at, one


def _list(holder: Mapping[str, Any], key: str, prefix: str) -> list[Any]:
    found = holder.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Misshapen(f"{prefix}{key}", f"{quoted(found)} is not a list")
    return found


def _pod(resource: Any) -> str:
    listed = resource.get("attributes") if isinstance(resource, dict) else None
    found: dict[Any, Any] = {}
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("key"), str) and isinstance(one.get("value"), dict):
            found.setdefault(one["key"], one["value"].get("stringValue"))
    texts = (found.get(key) for key in POD_ATTRIBUTES)
    return next((text for text in texts if isinstance(text, str) and text), "")


def _span(item: Any, pod: str) -> Span:
    if not isinstance(item, dict):
        raise Unfit(Reason.UNREADABLE, f"{quoted(item)} is no span")
    if not pod:
        raise Unfit(Reason.EMPTY, f"its resource has no attribute {', '.join(POD_ATTRIBUTES)}")
    parent = item.get("parentSpanId")
    has_parent = parent not in (None, "", "0" * SPAN_DIGITS)
    return Span(
        _identifier(item, "traceId", TRACE_DIGITS),
        _identifier(item, "spanId", SPAN_DIGITS),
        _identifier(item, "parentSpanId", SPAN_DIGITS) if has_parent else None,
        name({"pod": pod}, "pod"),
        name(item, "name"),
        nanoseconds("startTimeUnixNano", item.get("startTimeUnixNano")),
        nanoseconds("endTimeUnixNano", item.get("endTimeUnixNano")),
    )


def _identifier(item: dict[str, Any], key: str, digits: int) -> str:
    """Return an identifier in lower case; raise `Unfit` if it is malformed or all zeros."""
    text = name(item, key).lower()
    if len(text) == digits and text.strip("0123456789abcdef") == "" and text.strip("0"):
        return text
    raise Unfit(Reason.UNREADABLE, f"{key} is {quoted(item[key])}, not {digits} hexadecimal digits")


def _identity(item: Any) -> SpanKey:
    if not isinstance(item, dict):
        return UNIDENTIFIED
    trace, span = item.get("traceId"), item.get("spanId")
    return (trace.lower(), span.lower()) if isinstance(trace, str) and isinstance(span, str) else UNIDENTIFIED
