"""Finds two views of one call, calls to what is not traced, and who was waited for."""

from collections.abc import Mapping
from typing import Final

from lrpc.workloads.traces.spans import SpanKind
from lrpc.workloads.traces.trace import Trace

# What the two views of a call may be called by those who recorded them.
SERVERS: Final = (SpanKind.SERVER, SpanKind.UNSAID)
CLIENTS: Final = (SpanKind.CLIENT, SpanKind.UNSAID)
VIEWS: Final = (SpanKind.CLIENT, SpanKind.SERVER)


def paired(trace: Trace) -> dict[int, int]:
    """Return the server's span of each call that has two views, by the client's span.

    A client's span says so by its kind, and has one child, which ran in another domain. Where a
    trace has no kinds, a span is a client's if its only child ran in another domain, unless the
    span is itself the server's side of a call.
    """
    return {client: children[0] for client, children in enumerate(trace.children) if _is_client(trace, client)}


def _is_client(trace: Trace, index: int) -> bool:
    children, kinds = trace.children[index], trace.spans.kinds
    if len(children) != 1 or kinds[index] not in CLIENTS or not trace.is_call(children[0]):
        return False
    return kinds[children[0]] in SERVERS and not trace.is_call(index)


def outside(trace: Trace) -> Mapping[int, str]:
    """Return the domain that each call to what is not traced went to, by the client's span.

    Such a span has no call and no other client's span below it: where a library's client calls
    through another's, the inner one is the call. The domain is named as the span names its peer,
    else by the calling service and the operation. It has no name of a domain that is traced.
    """
    kinds = trace.spans.kinds
    leads = bytearray(len(kinds))  # whether a call or a client's span is below
    for index in reversed(_from_roots(trace)):
        parent = trace.parents[index]
        if parent is not None and (leads[index] or kinds[index] in VIEWS or trace.is_call(index)):
            leads[parent] = True
    traced = set(trace.pods)
    names: dict[int, str] = {}
    for index, kind in enumerate(kinds):
        if kind is SpanKind.CLIENT and not leads[index]:
            span = trace.spans[index]
            name = span.peer or f"{span.source.service or span.pod}: {span.operation}"
            names[index] = f"{name} (not traced)" if name in traced else name
    return names


def _from_roots(trace: Trace) -> list[int]:
    """Return the indices of all spans, each after its parent."""
    reached = list(trace.roots)
    for index in reached:
        reached += trace.children[index]
    return reached


def asynchronous(trace: Trace, index: int) -> bool:
    """Return whether a span's parent did not wait for it.

    So it is for what follows from its parent, and for who consumes a message. Where the span has no
    kind, also for what began after its parent's end, or was after that end for more than half.
    """
    parent = trace.parents[index]
    if parent is None:
        return False
    spans = trace.spans
    kind, start_ns, end_ns = spans.kinds[index], spans.starts_ns[index], spans.ends_ns[index]
    caller_end_ns = spans.ends_ns[parent]
    if index in spans.follows or kind is SpanKind.CONSUMER or spans.kinds[parent] is SpanKind.PRODUCER:
        return True
    if kind is not SpanKind.UNSAID:
        return False
    if caller_end_ns < start_ns or (start_ns == caller_end_ns < end_ns):
        return True
    return 2 * (end_ns - max(caller_end_ns, start_ns)) > end_ns - start_ns
