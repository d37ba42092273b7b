"""Finds what the network took of each recorded call, and charges that to a replay's calls if asked.

The gap of a call is the part of the client's recorded time during which the server's span was not
running: stubs, queues and the network. A replay charges what its cost model and link say instead
(`model`), or what the trace itself shows (`trace`, `trace-median`). Then each pair of domains has a
distribution of its own: a call between machines takes a gap drawn from those recorded between the
two, or their median. A pair without a recorded gap takes what the model says.

So that a crossing can be as short as any that was recorded, the mechanism's own costs of a remote
call are put to nothing, and the link's delay to a small part of the least gap. What is missing to
the gap, the caller waits before its call.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Final, Literal

from lrpc.kernel.random import Stream
from lrpc.kernel.simulated.costs import PARTS, CostModel
from lrpc.workloads.replay.crossings import Crossings, crossings
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.traces.spans import Trace

LinkCost = Literal["model", "trace", "trace-median"]
Pair = tuple[str, str]  # the calling domain and the called one
LEAST_DELAY_US: Final = 1.0  # of a link: machines advance by as much at a time
REMOTE: Final = (*PARTS["network"], *PARTS["messages"], *PARTS["packets"])


@dataclass(frozen=True)
class Charged:
    """How a replay's calls between machines are charged.

    `costs` and `link_delay_us` are what its machines and links have, `each` what a call takes with
    them. `extra_ns` is by server's span what its call takes beside that, where it crosses machines.
    `without` counts the calls between machines whose pair has no recorded gap.
    """

    costs: CostModel
    link_delay_us: float
    each: Crossings
    extra_ns: Mapping[int, int]
    without: int = 0


def network_gaps(trace: Trace, activity: Activity) -> dict[int, int]:
    """Return the network gap of each call in ns, by the server's span.

    Calls without a client's view have none.
    """
    gaps = {}
    for client, server in activity.calls.items():
        seen, did = trace.spans[client], trace.spans[server]
        served = max(0, min(seen.end_ns, did.end_ns) - did.start_ns)
        gaps[server] = max(0, seen.end_ns - seen.start_ns - served)
    return gaps


def gaps_by_pair(trace: Trace, activity: Activity) -> dict[Pair, list[int]]:
    """Return the gaps recorded between each two domains in ns, in ascending order."""
    found: dict[Pair, list[int]] = defaultdict(list)
    clients = {server: client for client, server in activity.calls.items()}
    for server, gap in network_gaps(trace, activity).items():
        found[activity.pods[clients[server]], activity.pods[server]].append(gap)
    return {pair: sorted(gaps) for pair, gaps in sorted(found.items())}


def charged(
    trace: Trace,
    activity: Activity,
    placement: Mapping[str, int],
    machines: int,
    *,
    link: LinkCost,
    costs: CostModel,
    link_delay_us: float,
    link_mbps: float,
    seed: int,
) -> Charged:
    """Return how calls between machines are charged under a placement of pods.

    Gaps are drawn from a stream of each calling domain, in order of spans. Raises `Refused` if
    there is more than one machine and the cost model has no costs for calls between machines.
    """
    each = crossings(costs, machines, link_delay_us=link_delay_us, link_mbps=link_mbps)
    if link == "model" or machines == 1:
        return Charged(costs, link_delay_us, each, {})
    by_pair = gaps_by_pair(trace, activity)
    least_us = min((gaps[0] for gaps in by_pair.values()), default=0) / 1000
    delay_us = max(LEAST_DELAY_US, min(link_delay_us, least_us / 4))
    cheap = costs.without(REMOTE)
    base = crossings(cheap, machines, link_delay_us=delay_us, link_mbps=link_mbps)
    streams: dict[str, Stream] = {}
    extra_ns: dict[int, int] = {}
    without = 0
    for server in trace.calls():
        parent = trace.parents[server]
        assert parent is not None
        caller, callee = activity.pods[parent], activity.pods[server]
        if placement[caller] == placement[callee]:
            continue
        gaps = by_pair.get((caller, callee))
        if gaps is None:
            without += 1
            gap = each.machine_ns
        elif link == "trace-median":
            gap = median_low(gaps)
        else:
            stream = streams.setdefault(caller, Stream(seed, caller, "gaps"))
            gap = gaps[stream.below(len(gaps))]
        extra_ns[server] = max(0, gap - base.machine_ns)
    return Charged(cheap, delay_us, base, extra_ns, without)
