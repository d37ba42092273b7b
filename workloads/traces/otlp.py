"""Rows of a trace as OpenTelemetry writes it in JSON (OTLP): spans by scope, and the resource that they ran in."""

from collections.abc import Iterator, Mapping
from typing import Any, Final  # `Any` is what json.loads gives

from lrpc.workloads.traces.rows import NOBODY, Gathered, Misshapen, RowPlace, SpanKey, Unfit, name, nanoseconds, quoted
from lrpc.workloads.traces.spans import Reason, Span

# In this order: an instance is one domain, while several services may share a host. The service's own name comes last,
# since it takes all of its instances together.
POD_ATTRIBUTES: Final = ("k8s.pod.name", "service.instance.id", "host.name", "service.name")
OTHER_SIGNALS: Final = frozenset({"resourceMetrics", "resourceLogs", "resourceProfiles"})  # a file may hold these, too
SCOPES: Final = ("scopeSpans", "instrumentationLibrarySpans")  # what they are called, and were called before 1.0
TRACE_DIGITS: Final = 32  # of an identifier, in hex
SPAN_DIGITS: Final = 16


def read(document: Mapping[str, Any], place: RowPlace, gathered: Gathered) -> None:
    """Read the spans of a document as OTLP has it; `Misshapen` where it is not. What is empty may be absent."""
    for number, (pod, item) in enumerate(_items(document), 1):
        try:
            gathered.keep((*place, number), _span(item, pod))
        except Unfit as unfit:
            gathered.leave((*place, number), _identity(item), unfit)


def _items(document: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Return every span of a document, with its pod."""
    for at, resource in _listed(document, "resourceSpans"):
        pod = _pod(resource.get("resource"))
        scopes = next((key for key in SCOPES if resource.get(key)), SCOPES[0])
        for scope_at, scope in _listed(resource, scopes, f"{at}."):
            for item in _list(scope, "spans", f"{scope_at}."):
                yield pod, item


def _listed(holder: Mapping[str, Any], key: str, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    for number, one in enumerate(_list(holder, key, prefix)):
        at = f"{prefix}{key}[{number}]"
        if not isinstance(one, dict):
            raise Misshapen(at, f"{quoted(one)} is no object")
        yield at, one


def _list(holder: Mapping[str, Any], key: str, prefix: str) -> list[Any]:
    found = holder.get(key)
    if found is None:
        return []
    if not isinstance(found, list):
        raise Misshapen(f"{prefix}{key}", f"{quoted(found)} is no list")
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
    """Return an identifier in small letters; `Unfit` where it is none, or the one of zeros, which is nobody's."""
    text = name(item, key).lower()
    if len(text) == digits and text.strip("0123456789abcdef") == "" and text.strip("0"):
        return text
    raise Unfit(Reason.UNREADABLE, f"{key} is {quoted(item[key])}, not {digits} hexadecimal digits")


def _identity(item: Any) -> SpanKey:
    if not isinstance(item, dict):
        return NOBODY
    trace, span = item.get("traceId"), item.get("spanId")
    return (trace.lower(), span.lower()) if isinstance(trace, str) and isinstance(span, str) else NOBODY
