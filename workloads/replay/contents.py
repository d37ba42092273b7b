"""Tells what is in a trace, before anything is replayed, and what a replay would assume of it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.workloads.records.call_tables import LEAVING
from lrpc.workloads.records.tables import Table, TableValue, as_objects
from lrpc.workloads.replay import MESSAGE_BYTES
from lrpc.workloads.replay.accounts import by_reason, notes, views_by_shape
from lrpc.workloads.replay.gaps import network_gaps
from lrpc.workloads.replay.operations import gaps_table, operations
from lrpc.workloads.replay.steps import Activity, activity
from lrpc.workloads.traces.calls import asynchronous, outside
from lrpc.workloads.traces.spans import SpanKind
from lrpc.workloads.traces.trace import Trace

NOT_TRACED: Final = "not traced"


@dataclass(frozen=True)
class Contents:
    """What is in a trace: counts by name, tables, and lines about what was made of it."""

    counts: Mapping[str, int | str]
    tables: Sequence[Table]
    lines: Sequence[str]


def tell(trace: Trace) -> Contents:
    """Return what is in a trace."""
    recorded = activity(trace)
    unknown = outside(trace)
    first, last = min(trace.spans.starts_ns), max(trace.spans.ends_ns)
    kinds = Counter(trace.spans.kinds)
    counts: dict[str, int | str] = {
        "form": ", ".join(sorted(trace.forms)),
        "spans": len(trace.spans),
        "traces": len(trace.traces),
        "first spans": len(trace.roots),
        "domains": len(trace.pods),
        "domains that are not traced": len(set(unknown.values())),
        "services": len({service for services in trace.services.values() for service in services}),
        "nodes or hosts": len(set(trace.nodes.values())),
        LEAVING: len(trace.calls()) + len(unknown),
        "calls with a client's view": len(recorded.calls),
        "calls to what is not traced": len(unknown),
        **{f"spans of kind {kind}": kinds[kind] for kind in SpanKind if kinds[kind]},
        "not waited for by their parent (asynchronous)": sum(
            asynchronous(trace, index) for index in range(len(trace.spans))
        ),
        "marks without length, within their parents": trace.marks(),
        **{str(correction): count for correction, count in trace.corrections.items()},
        "rows left out": len(trace.left_out),
        "from the first begin to the last end, s": f"{(last - first) / 1e9:,.3f}",
    }
    gaps = network_gaps(trace, recorded)
    tables = [
        _domains(trace, recorded, unknown),
        operations(trace, recorded, {}),
        gaps_table(trace, gaps),
    ]
    assumed = [*views_by_shape(trace, recorded), *_assumptions(trace, len(trace.calls()) - len(gaps))]
    return Contents(counts, tables, [*by_reason(trace.left_out), *notes(trace), *assumed])


def as_json(told: Contents) -> dict[str, object]:
    """Return what is in a trace as JSON has it: counts, tables by name, and lines."""
    return {
        "counts": told.counts,
        **{table.name: as_objects(table) for table in told.tables},
        "lines": list(told.lines),
    }


def _domains(trace: Trace, recorded: Activity, unknown: Mapping[int, str]) -> Table:
    """Return the table of domains: where they are, what they did, how often they were called."""
    work = recorded.computed_ns
    spans = Counter(trace.spans.pods)
    called = Counter(trace.spans.pods[server] for server in trace.calls())
    rows: list[Sequence[TableValue]] = [
        (
            pod,
            ", ".join(trace.services.get(pod, ())),
            trace.nodes.get(pod, ""),
            spans[pod],
            called[pod],
            work[pod] / 1000,
        )
        for pod in trace.pods
    ]
    outsiders = Counter(unknown.values())
    rows += [(name, NOT_TRACED, "", None, count, None) for name, count in sorted(outsiders.items())]
    columns = ("domain", "services", "node or host", "spans", "calls to it", "computation_us")
    return Table("domains", "Domains", columns, rows)


def _assumptions(trace: Trace, blind: int) -> list[str]:
    """Return what a replay would assume of a trace, where the trace does not say it.

    Of its calls, `blind` have no client's view.
    """
    lines = []
    if blind:
        lines.append(f"assumed: {blind:,} calls without a client's view take what the cost model says, and no gap")
    if all(sizes.request is None for sizes in trace.spans.sizes.values()):
        lines.append(
            f"assumed, as no span tells sizes: requests and responses of {MESSAGE_BYTES} bytes (--message-bytes)"
        )
    if not trace.nodes:
        lines.append("assumed, as no span tells its node or host: today's placement is not known")
    return lines
