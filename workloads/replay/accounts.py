"""Accounts for every row of a replayed trace, and for its recorded and simulated time.

Two times of a trace have the same core: the computation of its spans. With a processor for every
thread, the time of a trace's first span follows from a recursion over the steps of its spans
(`_Durations`). Its result depends on the cost given to a call:

- With calls that cost nothing, it is the computation that both times share.
- With calls that cost their recorded gaps, it is the recorded time, except for children that nobody
  waits for and for clocks that differ.
- With calls that cost what `crossings` measures, it is the simulated time, except for waiting.

The parts in a record are differences of these durations, so they add up to both times. Where
nothing is waited for and no child outlives its parent, no part is left over (a property in the
tests).
"""

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import median

from lrpc.cluster.run import Outcome
from lrpc.workloads.records.records import TraceAccounts, total_counts
from lrpc.workloads.records.tables import TimePart
from lrpc.workloads.replay.crossings import Crossings
from lrpc.workloads.replay.steps import Activity, Compute, Do, Fork, Steps, Wait, computation
from lrpc.workloads.traces.calls import asynchronous, untraced
from lrpc.workloads.traces.spans import Trace

# Takes the calling pod and the server's span; returns what the call takes beside that span, in ns.
Cost = Callable[[str, int], int]


def accounts(
    trace: Trace, activity: Activity, placement: Mapping[str, int], crossings: Crossings, outcome: Outcome
) -> TraceAccounts:
    """Return the counts of a trace's rows and spans, and the parts of its times.

    `crossings` are the costs of calls without waiting. Counts of spans come from the machines that
    performed them (`outcome`), not from the trace, so that a span which was never performed shows.
    """
    found = Counter[str]()
    for machine in outcome.machines:
        for findings in machine.findings.values():
            found.update({name: value for name, value in findings.items() if isinstance(value, int)})
    counts = total_counts(outcome)
    calls = counts["cross_domain"] + counts["cross_machine"]
    gaps = network_gaps(trace, activity)
    summary: dict[str, int | float] = {
        "spans": len(trace.spans),
        "traces begun (first spans)": found["roots"],
        "within a domain": counts["within_domain"],
        "calls between domains": calls,
        "their client sides": found["client_sides"],
        "spans accounted for": found["roots"] + counts["within_domain"] + calls + found["client_sides"],
        "end after their parent": len(trace.outliving()),
        "not waited for by their parent (asynchronous)": sum(
            asynchronous(trace, index) for index in range(len(trace.spans))
        ),
        "start before their parent (clamped)": len(trace.starting_early()),
        "calls to what is not traced (waited for)": len(untraced(trace)),
        **{str(correction): count for correction, count in trace.corrections.items()},
        "rows left out": len(trace.left_out),
        "median network gap of a call, recorded, us": round(median(gaps.values()) / 1000, 1) if gaps else 0.0,
        "a call between domains, simulated, us": crossings.domain_ns / 1000,
        "a call between machines, simulated, us": crossings.machine_ns / 1000,
        "mean time of a trace, recorded, us": round(found["recorded_ns"] / max(1, found["roots"]) / 1000, 1),
        "mean time of a trace, simulated, us": round(found["simulated_ns"] / max(1, found["roots"]) / 1000, 1),
    }
    times = _times(activity, gaps, placement, crossings, found["recorded_ns"], found["simulated_ns"])
    return TraceAccounts(summary, [f"left out: {row}" for row in trace.left_out], found["roots"], times)


def _times(
    activity: Activity,
    gaps: Mapping[int, int],
    placement: Mapping[str, int],
    crossings: Crossings,
    recorded_ns: int,
    simulated_ns: int,
) -> list[TimePart]:
    """Return the parts of the times of all first spans together, in ns.

    The first two parts are in both times. In the recorded time, the part of the recorded gaps
    follows; the rest was spent beside children that are not waited for, or is the skew of clocks.
    In the simulated time, calls within a domain, between domains and between machines follow, in
    this order; the rest is waiting for processors, A-stacks and the bus, and switching processors
    to domains.
    """
    work = sum(computation(activity).values())
    with_gaps = duration_ns(activity, lambda caller, server: gaps.get(server, 0))

    def simulated(costs: Crossings) -> int:
        return duration_ns(activity, lambda caller, server: costs.between(caller, activity.pods[server], placement))

    free = simulated(Crossings(0, 0, 0))
    within = simulated(Crossings(crossings.within_ns, 0, 0))
    domains = simulated(Crossings(crossings.within_ns, crossings.domain_ns, 0))
    machines = simulated(crossings)
    return [
        TimePart("computation of all spans", work, work),
        TimePart("less what was at the same time, or after the reply", free - work, free - work),
        TimePart("network gaps between client's and server's view", with_gaps - free, None),
        TimePart("beside children that are not waited for, and clocks' skew", recorded_ns - with_gaps, None),
        TimePart("calls within a domain", None, within - free),
        TimePart("calls between domains of a machine", None, domains - within),
        TimePart("calls between machines", None, machines - domains),
        TimePart("waiting for processors, and switching them", None, simulated_ns - machines),
        TimePart("in all", recorded_ns, simulated_ns),
    ]


def duration_ns(activity: Activity, cost: Cost) -> int:
    """Return the time of all first spans together, in ns, with a processor for every thread."""
    taken = _Durations(activity, cost)
    return sum(taken.of(root) for roots in activity.roots.values() for _, root in roots)


def network_gaps(trace: Trace, activity: Activity) -> dict[int, int]:
    """Return the network gap of each call in ns, by the server's span.

    It is the part of the client's recorded time during which the server's span was not running.
    """
    gaps = {}
    for client, server in activity.calls.items():
        seen, did = trace.spans[client], trace.spans[server]
        served = max(0, min(seen.end_ns, did.end_ns) - did.start_ns)
        gaps[server] = max(0, seen.end_ns - seen.start_ns - served)
    return gaps


class _Durations:
    """The durations of spans, computed recursively, each from the span's own beginning."""

    def __init__(self, activity: Activity, cost: Cost) -> None:
        self._activity = activity
        self._cost = cost

    def of(self, span: int) -> int:
        """Return the duration of a span in ns; a client's side takes as long as its call."""
        pod = self._activity.pods[span]
        if span in self._activity.calls:
            return self._call(pod, self._activity.calls[span])
        return self._run(pod, self._activity.steps[span])

    def _call(self, caller: str, server: int) -> int:
        return self._cost(caller, server) + self.of(server)

    def _run(self, pod: str, steps: Steps) -> int:
        now = 0
        joined: list[int] = []
        for step in steps:
            if isinstance(step, Compute | Wait):
                now += step.ns
            elif isinstance(step, Do):
                now += self._call(pod, self._activity.calls.get(step.span, step.span))
            elif isinstance(step, Fork):
                if step.joined:
                    joined.append(now + step.after_ns + self._run(pod, step.steps))
            else:
                now = max([now, *joined])
                joined.clear()
        return now
