"""Reads the spans of a document in OTLP, the JSON that OpenTelemetry writes."""

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final  # `Any` is the type of what json.loads returns

from lrpc.workloads.traces.attributes import peer_of, sizes_of
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
    source_of,
)
from lrpc.workloads.traces.spans import Reason, Span, SpanKind

# Documents without spans that a collector may write to the same file.
OTHER_SIGNALS: Final = frozenset({"resourceMetrics", "resourceLogs", "resourceProfiles"})
SCOPES: Final = ("scopeSpans", "instrumentationLibrarySpans")  # the key's name, and its name before OTLP 1.0
FORM: Final = "form"  # the key of the form in which spans were written, before they were made OTLP
FORMS: Final = ("OTLP in JSON", "OTLP in protobuf", "Zipkin's JSON", "the OpenTelemetry SDK's console")
TRACE_DIGITS: Final = 32  # hexadecimal digits of a trace's identifier
SPAN_DIGITS: Final = 16
_BASE64: Final = re.compile("[A-Za-z0-9+/]+={1,2}")  # 64 and 128 bits both leave some padding
KINDS: Final = (
    SpanKind.UNSAID,
    SpanKind.INTERNAL,
    SpanKind.SERVER,
    SpanKind.CLIENT,
    SpanKind.PRODUCER,
    SpanKind.CONSUMER,
)
LINK_TYPE: Final = "opentracing.ref_type"  # a link's attribute that says what it links to
CHILD_OF: Final = "child_of"
KIND_PREFIX: Final = "SPAN_KIND_"  # before a kind's name, where it is given by name


def read(document: Mapping[str, Any], place: RowPlace, collector: RowCollector) -> None:
    """Add a document's spans to `collector`; raise `Misshapen` if it is not OTLP.

    An absent list counts as an empty one, since OTLP leaves out empty fields.
    """
    form = document.get(FORM)
    collector.forms.add(form if form in FORMS else FORMS[0])
    for number, (resource, item) in enumerate(_items(document), 1):
        try:
            collector.keep((*place, number), _span(item, resource))
        except Unfit as unfit:
            collector.leave_out((*place, number), _identity(item), unfit)


def _items(document: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], Any]]:
    """Yield the attributes of its resource, and the undecoded span, for every span."""
    for at, resource in _listed(document, "resourceSpans"):
        attributes = _attributes(resource.get("resource"))
        scopes = next((key for key in SCOPES if resource.get(key)), SCOPES[0])
        for scope_at, scope in _listed(resource, scopes, f"{at}."):
            for item in _list(scope, "spans", f"{scope_at}."):
                yield attributes, item


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


def _attributes(holder: Any) -> dict[str, Any]:
    """Return the attributes of a resource, span or link that are texts or integers, by name."""
    listed = holder.get("attributes") if isinstance(holder, dict) else None
    found: dict[str, Any] = {}
    for one in listed if isinstance(listed, list) else ():
        if isinstance(one, dict) and isinstance(one.get("key"), str) and isinstance(one.get("value"), dict):
            found.setdefault(one["key"], one["value"].get("stringValue", one["value"].get("intValue")))
    return found


def _kind(value: Any) -> SpanKind:
    """Return a span's kind, given by number or by name; what is unknown counts as unsaid."""
    if type(value) is int and 0 <= value < len(KINDS):
        return KINDS[value]
    named = str(value).upper().removeprefix(KIND_PREFIX)
    return next((kind for kind in KINDS if kind.name == named), SpanKind.UNSAID)


def _span(item: Any, resource: dict[str, Any]) -> Span:
    if not isinstance(item, dict):
        raise Unfit(Reason.UNREADABLE, f"{quoted(item)} is no span")
    source = source_of(resource)
    parent = item.get("parentSpanId")
    has_parent = parent not in (None, "", "0" * SPAN_DIGITS)
    holder, key = (item, "parentSpanId") if has_parent else (_linked(item), "spanId")
    told = _attributes(item)
    return Span(
        _identifier(item, "traceId", TRACE_DIGITS),
        _identifier(item, "spanId", SPAN_DIGITS),
        None if holder is None else _identifier(holder, key, SPAN_DIGITS),
        "",
        name(item, "name"),
        nanoseconds("startTimeUnixNano", item.get("startTimeUnixNano")),
        nanoseconds("endTimeUnixNano", item.get("endTimeUnixNano", 0)),  # absent, as 0 is: it has not ended
        _kind(item.get("kind")),
        source=source,
        peer=peer_of(told),
        sizes=sizes_of(told),
    )


def _linked(item: dict[str, Any]) -> dict[str, Any] | None:
    """Return the first link that says that the span is a child of what it links to, if any."""
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if not isinstance(link, dict) or link.get("traceId") != item.get("traceId"):
            continue
        if _attributes(link).get(LINK_TYPE) == CHILD_OF:
            return link
    return None


def _identifier(item: dict[str, Any], key: str, digits: int) -> str:
    """Return an identifier in lower case, in hexadecimal; raise `Unfit` if it is malformed.

    Its bits may be given in base64 too. All zeros are no identifier.
    """
    text = name(item, key)
    if len(text) == -(-digits // 6) * 4 and _BASE64.fullmatch(text):
        text = base64.b64decode(text).hex()
    text = text.lower()
    if len(text) == digits and text.strip("0123456789abcdef") == "" and text.strip("0"):
        return text
    raise Unfit(Reason.UNREADABLE, f"{key} is {quoted(item[key])}, not {digits} hexadecimal digits")


def _identity(item: Any) -> SpanKey:
    if not isinstance(item, dict):
        return UNIDENTIFIED
    trace, span = item.get("traceId"), item.get("spanId")
    return (trace.lower(), span.lower()) if isinstance(trace, str) and isinstance(span, str) else UNIDENTIFIED
