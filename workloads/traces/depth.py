"""Leaves out traces whose spans nest deeper than a replay can.

Each nested call adds a stack to the simulated thread, and Python has a limit for those. A trace
that nests deeper is left out whole: without its depths, its times would be others.
"""

from collections.abc import Sequence
from dataclasses import replace

from lrpc.workloads.traces.spans import LeftOut, Reason
from lrpc.workloads.traces.trace import Trace, renumbered, working_children


def without_deep(trace: Trace, most: int) -> Trace:
    """Return a trace without those whose spans nest deeper than `most`; itself if none does.

    Their spans are added to what was left out.
    """
    depths = _depths(trace)
    deepest: dict[str, int] = {}
    traces, ids = trace.spans.traces, trace.spans.ids
    for name, depth in zip(traces, depths, strict=True):
        if depth > deepest.get(name, 0):
            deepest[name] = depth
    deep = {name for name, depth in deepest.items() if depth > most}
    if not deep:
        return trace
    left_out = list(trace.left_out)
    for name, span in zip(traces, ids, strict=True):
        if name in deep:
            detail = f"its trace is {deepest[name]} spans deep, more than {most}"
            left_out.append(LeftOut(f"trace {name}", name, span, Reason.TOO_DEEP, detail))
    kept = [index for index, name in enumerate(traces) if name not in deep]
    parents = renumbered(trace.parents, kept)
    spans = trace.spans.ordered(kept)
    return replace(trace, spans=spans, left_out=left_out, parents=parents, children=working_children(spans, parents))


def _depths(trace: Trace) -> Sequence[int]:
    depths = [1] * len(trace.spans)
    reached = list(trace.roots)
    for index in reached:
        for child in trace.children[index]:
            depths[child] = depths[index] + 1
            reached.append(child)
    return depths
