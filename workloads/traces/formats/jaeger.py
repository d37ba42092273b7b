"""Reads the spans of a document in the JSON that Jaeger exports."""

from collections.abc import Iterable, Mapping
from typing import Any  # `Any` is the type of what json.loads returns

from lrpc.workloads.traces.attributes import peer_of, sizes_of
from lrpc.workloads.traces.rows import (
    UNIDENTIFIED,
    Misshapen,
    RowCollector,
    RowPlace,
    SpanKey,
    Unfit,
    hexadecimal,
    name,
    quoted,
    same_trace,
    source_of,
)
from lrpc.workloads.traces.spans import MAX_TIME, Reason, Span, kind_of


def read(document: Mapping[str, Any], place: RowPlace, collector: RowCollector) -> None:
    """Add a document's spans to `collector`; raise `Misshapen` if it is not in Jaeger's format."""
    number = 0
    collector.forms.add("Jaeger's JSON")
    for entry in _entries(document):
        processes = entry.get("processes")
        sources = {key: _attributes(value) for key, value in processes.items()} if isinstance(processes, dict) else {}
        for item in entry["spans"]:
            number += 1
            try:
                collector.keep((*place, number), _span(item, entry, sources))
            except Unfit as unfit:
                collector.leave_out((*place, number), _identity(item, entry), unfit)


def _entries(document: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    entries = document["data"]
    if not isinstance(entries, list):
        raise Misshapen("data", "has no list 'data', which a document of Jaeger's needs")
    for at, entry in enumerate(entries):
        if not isinstance(entry, dict) or not isinstance(entry.get("spans"), list):
            raise Misshapen(f"data[{at}]", "has no list 'spans', which a document of Jaeger's needs")
    return entries


def _attributes(process: Any) -> dict[str, Any]:
    """Return a process's tags by name, with its service's name."""
    if not isinstance(process, dict):
        return {}
    return {**_tags(process), "service.name": process.get("serviceName")}


def _tags(holder: dict[str, Any]) -> dict[str, Any]:
    """Return the tags of a span or process by name: a list, or as a search engine has them."""
    flat = holder.get("tag")
    listed = holder.get("tags")
    tags = [tag for tag in listed if isinstance(tag, dict)] if isinstance(listed, list) else []
    found = {tag["key"]: tag.get("value") for tag in reversed(tags) if isinstance(tag.get("key"), str)}
    return {
        **({key.replace("@", "."): value for key, value in flat.items()} if isinstance(flat, dict) else {}),
        **found,
    }


def _span(item: Any, entry: dict[str, Any], processes: dict[str, dict[str, Any]]) -> Span:
    if not isinstance(item, dict):
        raise Unfit(Reason.UNREADABLE, f"{quoted(item)} is no span")
    trace = hexadecimal(name({"traceID": entry.get("traceID"), **item}, "traceID"))
    inline = item.get("process")
    process = _attributes(inline) if isinstance(inline, dict) else processes.get(name(item, "processID"), {})
    source = source_of(process)
    start = _microseconds(item, "startTime")
    end = 0 if item.get("duration") is None else start + _microseconds(item, "duration")  # 0: it has not ended
    if not 0 <= end * 1000 <= MAX_TIME:
        raise Unfit(Reason.BAD_TIME, f"it would end at {end} µs, outside 0 to {MAX_TIME // 1000}")
    parent, follows = _parent(item, trace)
    span, operation = hexadecimal(name(item, "spanID")), name(item, "operationName")
    tags = _tags(item)
    kind = kind_of(tags.get("span.kind"))
    begin_ns, end_ns = start * 1000, end * 1000
    told = peer_of(tags), sizes_of(tags)
    return Span(trace, span, parent, "", operation, begin_ns, end_ns, kind, follows, source, *told)


def _identity(item: Any, entry: dict[str, Any]) -> SpanKey:
    if not isinstance(item, dict):
        return UNIDENTIFIED
    trace, span = item.get("traceID", entry.get("traceID")), item.get("spanID")
    return (trace, span) if isinstance(trace, str) and isinstance(span, str) else UNIDENTIFIED


def _microseconds(item: dict[str, Any], key: str) -> int:
    value = item.get(key)
    # A negative duration passes here, so that `keep` reports it as an end before the start.
    lowest = -MAX_TIME if key == "duration" else 0
    if isinstance(value, float) and value.is_integer() and abs(value) <= MAX_TIME:
        value = int(value)
    if type(value) is int and lowest <= value * 1000 <= MAX_TIME:
        return value
    raise Unfit(Reason.BAD_TIME, f"{key} is {quoted(value)}, not whole microseconds within 64 bits")


def _parent(item: dict[str, Any], trace: str) -> tuple[str | None, bool]:
    """Return the span that this one is CHILD_OF, else that it FOLLOWS_FROM, and whether it follows.

    A span of another trace does not count as a parent.
    """
    references = item.get("references") or []
    if not isinstance(references, list) or not all(isinstance(one, dict) for one in references):
        raise Unfit(Reason.UNREADABLE, "its references are no list of references")
    found: dict[str, str] = {}
    for reference in references:
        if same_trace(reference.get("traceID", trace), trace):
            found.setdefault(str(reference.get("refType")), hexadecimal(name(reference, "spanID")))
    follows = "CHILD_OF" not in found and "FOLLOWS_FROM" in found
    return found.get("CHILD_OF", found.get("FOLLOWS_FROM")), follows
