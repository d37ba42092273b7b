"""Finds which spans are two views of one call, and which spans their parents did not wait for."""

from typing import Final

from lrpc.workloads.traces.spans import Kind, Trace

# What the server's view of a call may be called by those who recorded it.
SERVERS: Final = (Kind.SERVER, Kind.UNSAID)


def paired(trace: Trace) -> dict[int, int]:
    """Return the server's span of each call that has two views, by the client's span.

    A client's span says so by its kind, and has one child, which ran in another domain. Where a
    trace has no kinds, a span is a client's if its only child ran in another domain, unless the
    span is itself the server's side of a call.
    """
    return {client: children[0] for client, children in enumerate(trace.children) if _is_client(trace, client)}


def _is_client(trace: Trace, index: int) -> bool:
    children, kind = trace.children[index], trace.spans[index].kind
    if len(children) != 1 or kind not in (Kind.CLIENT, Kind.UNSAID) or not trace.is_call(children[0]):
        return False
    return trace.spans[children[0]].kind in SERVERS and not trace.is_call(index)


def untraced(trace: Trace) -> list[int]:
    """Return the client's spans below which nothing is recorded: they called what is not traced."""
    return [index for index, span in enumerate(trace.spans) if span.kind is Kind.CLIENT and not trace.children[index]]


def asynchronous(trace: Trace, index: int) -> bool:
    """Return whether a span's parent did not wait for it.

    So it is for what follows from its parent, for who consumes a message, and for what began after
    its parent's end. Where the span has no kind, also if more than half of it was after that end.
    """
    parent = trace.parents[index]
    if parent is None:
        return False
    span, caller = trace.spans[index], trace.spans[parent]
    if span.follows or span.kind is Kind.CONSUMER or caller.kind is Kind.PRODUCER:
        return True
    beyond = span.end_ns - max(caller.end_ns, span.start_ns)
    if caller.end_ns < span.start_ns or (span.start_ns == caller.end_ns < span.end_ns):
        return True
    return span.kind is Kind.UNSAID and 2 * beyond > span.end_ns - span.start_ns
