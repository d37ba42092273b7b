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
    same_trace,
    source_of,
)
from lrpc.workloads.traces.spans import Reason, Span, kind_of

# Documents without spans that a collector may write to the same file.
OTHER_SIGNALS: Final = frozenset({"resourceMetrics", "resourceLogs", "resourceProfiles"})
SCOPES: Final = ("scopeSpans", "instrumentationLibrarySpans")  # the key's name, and its name before OTLP 1.0
FORM: Final = "form"  # the key of the form in which spans were written, before they were made OTLP
FORMS: Final = ("OTLP in JSON", "OTLP in protobuf", "Zipkin's JSON", "the OpenTelemetry SDK's console")
TRACE_DIGITS: Final = 32  # hexadecimal digits of a trace's identifier
SPAN_DIGITS: Final = 16
BASE64_LENGTHS: Final = (12, 24)  # of 64 and of 128 bits
_BASE64: Final = re.compile("[A-Za-z0-9+/]+={1,2}")  # 64 and 128 bits both leave some padding
LINK_TYPE: Final = "opentracing.ref_type"  # a link's attribute that says what it links to
CHILD_OF: Final = "child_of"
FOLLOWS_FROM: Final = "follows_from"


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


def _span(item: Any, resource: dict[str, Any]) -> Span:
    if not isinstance(item, dict):
        raise Unfit(Reason.UNREADABLE, f"{quoted(item)} is no span")
    source = source_of(resource)
    told, end = _attributes(item), item.get("endTimeUnixNano")
    parent = item.get("parentSpanId")
    holder: dict[str, Any] | None = item
    key, follows = "parentSpanId", False
    if not parent or (isinstance(parent, str) and not parent.strip("0")):
        links, key = _links(item), "spanId"
        follows = CHILD_OF not in links and FOLLOWS_FROM in links
        holder = links.get(CHILD_OF, links.get(FOLLOWS_FROM))
    return Span(
        _identifier(item, "traceId", TRACE_DIGITS),
        _identifier(item, "spanId", SPAN_DIGITS),
        None if holder is None else _identifier(holder, key, SPAN_DIGITS),
        "",
        name(item, "name"),
        nanoseconds("startTimeUnixNano", item.get("startTimeUnixNano")),
        nanoseconds("endTimeUnixNano", 0 if end in (None, "") else end),  # absent, as 0 is: it has not ended
        kind_of(item.get("kind")),
        follows,
        source=source,
        peer=peer_of(told),
        sizes=sizes_of(told),
    )


def _links(item: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the first link within the trace that says it is of a type, by the type."""
    links = item.get("links")
    found: dict[str, dict[str, Any]] = {}
    for link in links if isinstance(links, list) else ():
        if isinstance(link, dict) and same_trace(link.get("traceId"), str(item.get("traceId"))):
            found.setdefault(str(_attributes(link).get(LINK_TYPE)), link)
    return found


def _identifier(item: dict[str, Any], key: str, digits: int) -> str:
    """Return an identifier in lower case, in hexadecimal; raise `Unfit` if it is malformed.

    Its bits may be given in base64 too, and zeros ahead may be left out. Zeros alone are none.
    """
    text = name(item, key)
    if _BASE64.fullmatch(text) and len(text) in BASE64_LENGTHS:
        text = base64.b64decode(text).hex()
    text = text.lower()
    if len(text) <= digits and text.strip("0123456789abcdef") == "" and text.strip("0"):
        return text.rjust(digits, "0")
    raise Unfit(Reason.UNREADABLE, f"{key} is {quoted(item[key])}, not up to {digits} hexadecimal digits")


def _identity(item: Any) -> SpanKey:
    if not isinstance(item, dict):
        return UNIDENTIFIED
    trace, span = item.get("traceId"), item.get("spanId")
    return (trace.lower(), span.lower()) if isinstance(trace, str) and isinstance(span, str) else UNIDENTIFIED
