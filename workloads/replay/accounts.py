"""Accounts for every row of a replayed trace, and for its recorded and simulated time.

Two times of a trace have the same core: the computation of its spans. With a processor for every
thread, the time of a trace's first span follows from a recursion over the steps of its spans
(`durations`). Its result depends on the cost given to a call:

- With calls that cost nothing, it is the computation that both times share.
- With calls that cost their recorded gaps, it is the recorded time, except for children that nobody
  waits for and for clocks that differ.
- With calls that cost what `crossings` measures, it is the simulated time, except for waiting.

The parts in a record are differences of these durations, so they add up to both times. Where
nothing is waited for and no child outlives its parent, no part is left over (a property in the
tests).
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Final

from lrpc.cluster.run import Outcome
from lrpc.workloads.records.call_tables import IN_WORDS, LEAVING
from lrpc.workloads.records.records import TraceAccounts, total_counts
from lrpc.workloads.records.tables import TimePart
from lrpc.workloads.replay.durations import Durations
from lrpc.workloads.replay.gaps import Charged, network_gaps
from lrpc.workloads.replay.operations import CriticalPaths, critical_paths, gaps_table, operations, paths_table
from lrpc.workloads.replay.replay import DURATIONS
from lrpc.workloads.replay.slowest import slowest_table
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.traces.calls import asynchronous
from lrpc.workloads.traces.spans import LeftOut, SpanKind
from lrpc.workloads.traces.trace import Trace

EXAMPLES: Final = 3  # rows left out that are shown for each reason


def accounts(
    trace: Trace, activity: Activity, placement: Mapping[str, int], charged: Charged, outcome: Outcome
) -> TraceAccounts:
    """Return the counts of a trace's rows and spans, the parts of its times, and tables of them.

    `charged` says what calls cost without waiting. Counts of spans come from the machines that
    performed them (`outcome`), not from the trace, so that a span which was never performed shows.
    """
    found = Counter[str]()
    simulated_ns: dict[int, int] = {}
    for machine in outcome.machines:
        for findings in machine.findings.values():
            found.update({name: value for name, value in findings.items() if isinstance(value, int)})
            durations = findings.get(DURATIONS)
            simulated_ns.update(durations if isinstance(durations, dict) else {})
    gaps = network_gaps(trace, activity)
    costs = Costs(trace, activity, gaps, placement, charged)
    paths = critical_paths(trace, activity, costs.recorded(), costs.simulated())
    times = _times(activity, costs, paths.values(), found["recorded_ns"], found["simulated_ns"])
    return TraceAccounts(
        {**_spans(trace, activity, found, outcome), **_calls(gaps, charged, found)},
        [f"left out: {row}" for row in trace.left_out],
        found["roots"],
        times,
        left_out_by_reason=by_reason(trace.left_out),
        notes=[*notes(trace), *views_by_shape(trace, activity), charged.stated],
        more=[
            operations(trace, activity, simulated_ns),
            paths_table(paths),
            gaps_table(trace, gaps),
            slowest_table(trace, placement, simulated_ns),
        ],
    )


def _spans(trace: Trace, activity: Activity, found: Counter[str], outcome: Outcome) -> dict[str, int]:
    """Return what became of a trace's spans, by name."""
    counts = total_counts(outcome)
    crossed = counts["cross_domain"] + counts["cross_machine"]
    roots = [root for begun in activity.roots.values() for _, root in begun]
    calls = crossed + found["outside"] + sum(root in activity.outside for root in roots)
    below = counts["within_domain"] + crossed + found["outside"] + found["client_sides"]
    outside, marks = len(set(activity.outside.values())), trace.marks()
    return {
        "spans": len(trace.spans),
        "traces begun (first spans)": found["roots"],
        IN_WORDS["within_domain"]: counts["within_domain"],
        LEAVING: calls,
        "of these, to domains that are not traced": calls - crossed,
        "their client sides": found["client_sides"],
        "marks without length, within their parents": marks,
        "spans accounted for": found["roots"] + below + marks,
        "domains": len(set(activity.pods)) + outside,
        "of these, not traced": outside,
        "end after their parent": len(trace.outliving()),
        "not waited for by their parent (asynchronous)": sum(
            asynchronous(trace, index) for index in range(len(trace.spans))
        ),
        "start before their parent (clamped)": len(trace.starting_early()),
        **{str(correction): count for correction, count in trace.corrections.items()},
        "rows left out": len(trace.left_out),
    }


def _calls(gaps: Mapping[int, int], charged: Charged, found: Counter[str]) -> dict[str, int | float]:
    """Return what calls and traces took, by name."""
    each, traces = charged.each, max(1, found["roots"])
    drawn = {}
    if charged.extra_ns and charged.link != "model":
        extra = sum(charged.extra_ns.values()) / len(charged.extra_ns)
        each_gap = "from the trace's gaps" if charged.link == "trace" else "the median of its pair's gaps"
        drawn = {
            f"a cross-machine call, {each_gap}, mean, us": round((each.machine_ns + extra) / 1000, 1),
            "cross-machine calls without a recorded gap (the cost model's)": charged.without,
        }
    return {
        "calls with sizes of messages told": charged.told,
        "bytes of a request or response, assumed of others": charged.assumed_bytes,
        "median network gap of a call, recorded, us": round(median(gaps.values()) / 1000, 1) if gaps else 0.0,
        "a cross-domain call, simulated, us": each.domain_ns / 1000,
        **(drawn or {"a cross-machine call, simulated, us": each.machine_ns / 1000}),
        "mean time of a trace, recorded, us": round(found["recorded_ns"] / traces / 1000, 1),
        "mean time of a trace, simulated, us": round(found["simulated_ns"] / traces / 1000, 1),
    }


class Costs:
    """What each call costs: what was recorded, or what a replay charges without waiting."""

    def __init__(
        self,
        trace: Trace,
        activity: Activity,
        gaps: Mapping[int, int],
        placement: Mapping[str, int],
        charged: Charged,
    ) -> None:
        self._names = {pod: trace.service_of(pod) for pod in trace.pods}
        self._activity = activity
        self._gaps = gaps
        self._placement = placement
        self._charged = charged

    def recorded(self) -> Durations:
        """Return durations with calls that cost their recorded gaps."""
        return Durations(self._activity, lambda caller, server: self._gaps.get(server, 0), self._names)

    def simulated(self, *, within: bool = True, domains: bool = True, machines: bool = True) -> Durations:
        """Return durations with calls that cost what a replay charges, of these kinds alone."""
        each, extra = self._charged.each, self._charged.extra_ns if machines else {}
        each = replace(
            each,
            within_ns=each.within_ns if within else 0,
            domain_ns=each.domain_ns if domains else 0,
            machine_ns=each.machine_ns if machines else 0,
        )
        pods, placement = self._activity.pods, self._placement

        def cost(caller: str, server: int) -> int:
            return each.between(caller, pods[server], placement) + extra.get(server, 0)

        return Durations(self._activity, cost, self._names)


def _times(
    activity: Activity, costs: Costs, paths: Iterable[CriticalPaths], recorded_ns: int, simulated_ns: int
) -> list[TimePart]:
    """Return the parts of the times of all first spans together, in ns.

    The first parts are in both times. In the recorded time, the part of the recorded gaps follows;
    the rest was spent beside children that are not waited for, or is the skew of clocks. In the
    simulated time, within-domain, cross-domain and cross-machine calls follow, in this
    order; the rest is waiting for processors, A-stacks and the bus, and switching processors to
    domains.
    """
    work, waited = sum(activity.computed_ns.values()), activity.waited_ns
    with_gaps, machines = (
        sum(times.total() for times in found)
        for found in zip(*((one.recorded, one.simulated) for one in paths), strict=True)
    )
    free = costs.simulated(within=False, domains=False, machines=False).total()
    within = costs.simulated(domains=False, machines=False).total()
    domains = costs.simulated(machines=False).total()
    both = free - work - waited
    return [
        TimePart("computation of all spans", work, work),
        *([TimePart("waiting for what is not traced", waited, waited)] if waited else []),
        TimePart("less what was at the same time, or after the reply", both, both),
        TimePart("network gaps between client's and server's view", with_gaps - free, None),
        TimePart("beside children that are not waited for, and clocks' skew", recorded_ns - with_gaps, None),
        TimePart(IN_WORDS["within_domain"], None, within - free),
        TimePart(IN_WORDS["cross_domain"], None, domains - within),
        TimePart(IN_WORDS["cross_machine"], None, machines - domains),
        TimePart("waiting for processors, and switching them", None, simulated_ns - machines),
        TimePart("in all", recorded_ns, simulated_ns),
    ]


def by_reason(left_out: Sequence[LeftOut]) -> list[str]:
    """Return lines that sum up what was left out, by reason, with the first examples of each."""
    counts = Counter(row.reason for row in left_out)
    lines = []
    for reason, count in sorted(counts.items(), key=lambda one: (-one[1], one[0])):
        lines.append(f"left out: {count:,} rows: {reason}")
        examples = [row for row in left_out if row.reason is reason][:EXAMPLES]
        lines += [f"  {row}" for row in examples]
    return lines


def views_by_shape(trace: Trace, activity: Activity) -> list[str]:
    """Return a line that says how many clients' views were found without kinds, if any were."""
    found = sum(trace.spans.kinds[client] is SpanKind.UNSAID for client in activity.calls)
    said = f"assumed: {found:,} spans without a kind, whose one child ran elsewhere, are clients' views of calls"
    return [said] if found else []


def notes(trace: Trace) -> list[str]:
    """Return what somebody who reads the result must mind."""
    return [
        f"Mind that domain {pod} holds {len(services)} services: {', '.join(services[:EXAMPLES])}"
        + (", …" if len(services) > EXAMPLES else "")
        for pod, services in sorted(trace.services.items())
        if len(services) > 1
    ]
