"""Where every row of a replayed trace went, and why its traces took another time than was recorded."""

from collections import Counter
from collections.abc import Callable, Mapping
from statistics import median

from lrpc.cluster.run import Outcome
from lrpc.workloads.records.records import TraceAccounts, total_counts
from lrpc.workloads.records.tables import TimePart
from lrpc.workloads.replay.crossings import Crossings
from lrpc.workloads.replay.steps import Activity, Compute, Do, Fork, Steps, Wait, computation
from lrpc.workloads.traces.spans import Trace

Cost = Callable[[str, int], int]  # the calling pod, the server's span: what the call takes beside that span, in ns


def accounts(
    trace: Trace, done: Activity, placement: Mapping[str, int], each: Crossings, outcome: Outcome
) -> TraceAccounts:
    """Return where every row of a trace went, and its time; `each` is what calls cost where nobody waits.

    Spans done are counted by the machines, not taken from the trace.
    """
    found = Counter[str]()
    for machine in outcome.machines:
        for findings in machine.findings.values():
            found.update({name: value for name, value in findings.items() if isinstance(value, int)})
    counts = total_counts(outcome)
    calls = counts["cross_domain"] + counts["cross_machine"]
    gaps = network_gaps(trace, done)
    summary: dict[str, int | float] = {
        "spans": len(trace.spans),
        "traces begun (first spans)": found["roots"],
        "within a domain": counts["within_domain"],
        "calls between domains": calls,
        "their client sides": found["client_sides"],
        "spans accounted for": found["roots"] + counts["within_domain"] + calls + found["client_sides"],
        "outlive their parent (not waited for)": len(trace.outliving()),
        "start before their parent (clamped)": len(trace.starting_early()),
        "rows left out": len(trace.left_out),
        "median network gap of a call, recorded, us": round(median(gaps.values()) / 1000, 1) if gaps else 0.0,
        "a call between domains, simulated, us": each.domain_ns / 1000,
        "a call between machines, simulated, us": each.machine_ns / 1000,
        "mean time of a trace, recorded, us": round(found["recorded_ns"] / max(1, found["roots"]) / 1000, 1),
        "mean time of a trace, simulated, us": round(found["simulated_ns"] / max(1, found["roots"]) / 1000, 1),
    }
    times = _times(done, gaps, placement, each, found["recorded_ns"], found["simulated_ns"])
    return TraceAccounts(summary, [f"left out: {row}" for row in trace.left_out], found["roots"], times)


def _times(
    done: Activity,
    gaps: Mapping[int, int],
    placement: Mapping[str, int],
    each: Crossings,
    recorded_ns: int,
    simulated_ns: int,
) -> list[TimePart]:
    """Return the parts of what all first spans took together.

    The first two are in both times. What the recorded gaps add comes next, and what is left was spent beside children
    that are not waited for, or by clocks that differ. Calls are added to the simulated time in the order of what they
    cross; what is left there is waiting for processors, A-stacks and the bus, and switching processors to domains.
    """
    work = sum(computation(done).values())
    with_gaps = duration_ns(done, lambda caller, server: gaps.get(server, 0))

    def simulated(costs: Crossings) -> int:
        return duration_ns(done, lambda caller, server: costs.between(caller, done.pods[server], placement))

    free = simulated(Crossings(0, 0, 0))
    within = simulated(Crossings(each.within_ns, 0, 0))
    domains = simulated(Crossings(each.within_ns, each.domain_ns, 0))
    machines = simulated(each)
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


def duration_ns(done: Activity, cost: Cost) -> int:
    """Return what all first spans take together, with calls at a given cost, and processors for every thread."""
    taken = _Durations(done, cost)
    return sum(taken.of(root) for roots in done.roots.values() for _, root in roots)


def network_gaps(trace: Trace, done: Activity) -> dict[int, int]:
    """Return, by server's span, for how long in ns the client saw a call that its server did not, or had not yet."""
    gaps = {}
    for client, server in done.calls.items():
        seen, did = trace.spans[client], trace.spans[server]
        served = max(0, min(seen.end_ns, did.end_ns) - did.start_ns)
        gaps[server] = max(0, seen.end_ns - seen.start_ns - served)
    return gaps


class _Durations:
    """How long spans take, each from its own beginning."""

    def __init__(self, done: Activity, cost: Cost) -> None:
        self._done = done
        self._cost = cost

    def of(self, span: int) -> int:
        """Return what a span takes: a client's side just what its call does."""
        pod = self._done.pods[span]
        if span in self._done.calls:
            return self._call(pod, self._done.calls[span])
        return self._run(pod, self._done.steps[span])

    def _call(self, caller: str, server: int) -> int:
        return self._cost(caller, server) + self.of(server)

    def _run(self, pod: str, steps: Steps) -> int:
        now = 0
        joined: list[int] = []
        for step in steps:
            if isinstance(step, Compute | Wait):
                now += step.ns
            elif isinstance(step, Do):
                now += self._call(pod, self._done.calls.get(step.span, step.span))
            elif isinstance(step, Fork):
                if step.joined:
                    joined.append(now + step.after_ns + self._run(pod, step.steps))
            else:
                now = max([now, *joined])
                joined.clear()
        return now
