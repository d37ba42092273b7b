"""Tells of a replayed trace what its first spans took, by operation, and where that time went.

Percentiles are by nearest rank: the least time that at least so many percent do not exceed.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.workloads.records.tables import Table, TableValue
from lrpc.workloads.replay.durations import Durations, Part
from lrpc.workloads.replay.gaps import Pair, gaps_by_pair
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.traces.trace import Trace

PERCENTILES: Final = (50, 95, 99)
MOST_OPERATIONS: Final = 200  # rows of operations; the rest, with the least time, are one row
MOST_PARTS: Final = 12  # rows of an operation's critical path; the rest is one row
Root = tuple[str, str]  # the service and the operation of a trace's first span
OTHERS: Final[Root] = ("", "other operations")


def operations(trace: Trace, activity: Activity, simulated_ns: Mapping[int, int]) -> Table:
    """Return the table of first spans by service and operation, in order of their recorded time.

    `simulated_ns` has the simulated time of each first span. Times are in microseconds.
    """
    rows: list[Sequence[TableValue]] = []
    for (pod, operation), roots in roots_by_operation(trace, activity).items():
        recorded = sorted(activity.recorded_ns[root] for root in roots)
        simulated = sorted(simulated_ns[root] for root in roots if root in simulated_ns)
        figures = (_percentile(times, rank) for times in (recorded, simulated) for rank in PERCENTILES)
        rows.append((pod, operation, len(roots), *figures))
    columns = [f"{view}_p{rank}_us" for view in ("recorded", "simulated") for rank in PERCENTILES]
    return Table("operations", "Times of traces by first operation", ("service", "operation", "traces", *columns), rows)


@dataclass(frozen=True)
class CriticalPaths:
    """What the time on the critical paths of an operation's traces goes to, in ns.

    The recorded path's calls cost their gaps, the simulated one's what crossings cost; neither
    waits for a processor.
    """

    traces: int
    recorded: Counter[Part]
    simulated: Counter[Part]


def critical_paths(
    trace: Trace, activity: Activity, recorded: Durations, simulated: Durations
) -> dict[Root, CriticalPaths]:
    """Return what the time on critical paths goes to, by the operation of their first spans."""
    found = {}
    for operation, roots in roots_by_operation(trace, activity).items():
        paths = found[operation] = CriticalPaths(len(roots), Counter(), Counter())
        for root in roots:
            recorded.follow(root, paths.recorded)
            simulated.follow(root, paths.simulated)
    return found


def paths_table(found: Mapping[Root, CriticalPaths]) -> Table:
    """Return the table of where the time on critical paths goes, in microseconds a trace.

    By first operation it has the services, and the pairs of them, in order of recorded time.
    """
    rows: list[Sequence[TableValue]] = []
    for (pod, operation), paths in found.items():
        both = was, is_now = paths.recorded, paths.simulated
        parts = sorted(was.keys() | is_now.keys(), key=lambda part: (-was[part], -is_now[part], part))
        for part in parts[:MOST_PARTS]:
            rows.append((pod, operation, *part, *(_mean_us(times[part], paths.traces) for times in both)))
        rest = [_mean_us(sum(times[part] for part in parts[MOST_PARTS:]), paths.traces) for times in both]
        if any(rest):
            rows.append((pod, operation, f"{len(parts) - MOST_PARTS} others", "", *rest))
    columns = ("service", "operation", "where", "what", "recorded_us", "simulated_us")
    return Table("critical-paths", "Where the time on critical paths goes, a trace", columns, rows)


def gaps_table(trace: Trace, gaps: Mapping[int, int]) -> Table:
    """Return the table of recorded gaps by pair of services, in order of what they add up to.

    `gaps` are in ns, by the server's span; times in the table are in microseconds.
    """
    by_pair: dict[Pair, list[int]] = {}
    for (caller, callee), found in gaps_by_pair(trace, gaps).items():
        by_pair.setdefault((trace.service_of(caller), trace.service_of(callee)), []).extend(found)
    whole = sum(sum(gaps) for gaps in by_pair.values())
    rows: list[Sequence[TableValue]] = []
    for (caller, callee), found in sorted(by_pair.items(), key=lambda one: (-sum(one[1]), one[0])):
        total, each = sum(found), sorted(found)
        share = round(100 * total / whole, 2) if whole else 0.0
        figures = (_percentile(each, rank) for rank in PERCENTILES)
        rows.append((caller, callee, len(each), total / 1000, share, *figures))
    columns = ("caller", "callee", "calls", "total_us", "percent_of_all_gaps", "p50_us", "p95_us", "p99_us")
    return Table("gaps", "Recorded network gaps of calls by pair of services", columns, rows)


def roots_by_operation(trace: Trace, activity: Activity) -> dict[Root, list[int]]:
    """Return first spans by service and operation, those with most recorded time first."""
    found: dict[Root, list[int]] = {}
    times = Counter[Root]()
    for begun in activity.roots.values():
        for _, root in begun:
            key = (trace.service_of(trace.spans.pods[root]), trace.spans.operations[root])
            found.setdefault(key, []).append(root)
            times[key] += activity.recorded_ns[root]
    order = sorted(found, key=lambda key: (-times[key], key))
    if len(order) <= MOST_OPERATIONS:
        return {key: found[key] for key in order}
    kept = {key: found[key] for key in order[: MOST_OPERATIONS - 1]}
    return kept | {OTHERS: [root for key in order[MOST_OPERATIONS - 1 :] for root in found[key]]}


def _percentile(times_ns: Sequence[int], rank: int) -> float | None:
    """Return a percentile of times in ascending order, in microseconds; None if there is none."""
    if not times_ns:
        return None
    return times_ns[max(0, -(-rank * len(times_ns) // 100) - 1)] / 1000


def _mean_us(total_ns: int, count: int) -> float:
    return round(total_ns / count / 1000, 3)
