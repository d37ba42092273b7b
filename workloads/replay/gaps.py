"""Finds what the network took of each recorded call, and charges that to a replay's calls if asked.

The gap of a call is the part of the client's recorded time during which the server's span was not
running: stubs, queues and the network. A replay charges what its cost model and link say instead
(`model`), or what the trace itself shows (`trace`, `trace-median`). Then each pair of domains has a
distribution of its own: a call between machines takes a gap drawn from those recorded between the
two, or their median. A pair without a recorded gap takes what the model says.

So that a crossing can be as short as any that was recorded, the mechanism's own costs of a remote
call are put to nothing, and the link's delay to a small part of the least gap. What is missing to
the gap, the caller waits before its call.

Messages are as large as spans say; where they do not, a size is assumed. A replay's own messages
have 4 bytes: what the link and the two ends take for the rest, the caller waits before its call. A
recorded gap has that in it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from statistics import median_low
from typing import Final

from lrpc.kernel.random import Stream
from lrpc.kernel.simulated.costs import NETWORK_BYTE, REMOTE_STEPS, CostModel
from lrpc.workloads.replay import MESSAGE_BYTES, LinkCost
from lrpc.workloads.replay.crossings import Crossings, crossings
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.traces.attributes import UNTOLD
from lrpc.workloads.traces.trace import Trace

Pair = tuple[str, str]  # the calling domain and the called one
LEAST_DELAY_US: Final = 1.0  # of a link: machines advance by as much at a time


@dataclass(frozen=True)
class Charged:
    """How a replay's calls between machines are charged.

    `costs` and `link_delay_us` are what its machines and links have, `each` what a call takes with
    them. `extra_ns` is by server's span what its call takes beside that, where it crosses machines.
    `without` counts the calls between machines whose pair has no recorded gap, `told` the calls of
    which spans tell a size, and `assumed_bytes` is that of other requests and responses.
    """

    costs: CostModel
    link_delay_us: float
    each: Crossings
    extra_ns: Mapping[int, int]
    link_mbps: float
    without: int = 0
    told: int = 0
    assumed_bytes: int = MESSAGE_BYTES
    link: LinkCost = "model"

    @property
    def stated(self) -> str:
        """Return a line that says what calls cost in a replay."""
        model = f"what the cost model {self.costs.name} says"
        if self.link == "model":
            link = f"and a link of {self.link_delay_us:g} µs and {self.link_mbps:g} Mbit/s"
            return f"assumed: cross-machine calls cost {model}, {link}; others what it says"
        what = "the median of the gaps" if self.link == "trace-median" else "what is drawn from the gaps"
        return f"assumed: cross-machine calls cost {what} recorded between two domains; others {model}"


def network_gaps(trace: Trace, activity: Activity) -> dict[int, int]:
    """Return the network gap of each call in ns, by the server's span.

    Calls without a client's view have none.
    """
    gaps = {}
    starts_ns, ends_ns = trace.spans.starts_ns, trace.spans.ends_ns
    for client, server in activity.calls.items():
        served = max(0, min(ends_ns[client], ends_ns[server]) - starts_ns[server])
        gaps[server] = max(0, ends_ns[client] - starts_ns[client] - served)
    return gaps


def gaps_by_pair(trace: Trace, gaps: Mapping[int, int]) -> dict[Pair, list[int]]:
    """Return the gaps recorded between each two domains in ns, in ascending order.

    `gaps` has them by the server's span.
    """
    found: dict[Pair, list[int]] = defaultdict(list)
    pods = trace.spans.pods
    for server, gap in gaps.items():
        client = trace.parents[server]
        assert client is not None
        found[pods[client], pods[server]].append(gap)
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
    message_bytes: int = MESSAGE_BYTES,
) -> Charged:
    """Return how calls between machines are charged under a placement of pods.

    Gaps are drawn from a stream of each calling domain, in order of spans. Raises `Refused` if
    there is more than one machine and the cost model has no costs for calls between machines.
    """
    each = crossings(costs, machines, link_delay_us=link_delay_us, link_mbps=link_mbps)
    sizes = trace.spans.sizes
    told = sum(any(size is not None for size in told_sizes(trace, server)) for server in trace.calls()) if sizes else 0
    if link == "model" or machines == 1:
        extra = _carrying(trace, activity, placement, costs, link_mbps, message_bytes)
        return Charged(costs, link_delay_us, each, extra, link_mbps, 0, told, message_bytes)
    by_pair = gaps_by_pair(trace, network_gaps(trace, activity))
    least_us = min((gaps[0] for gaps in by_pair.values()), default=0) / 1000
    delay_us = max(LEAST_DELAY_US, min(link_delay_us, least_us / 4))
    cheap = costs.without(REMOTE_STEPS)
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
    return Charged(cheap, delay_us, base, extra_ns, link_mbps, without, told, message_bytes, link)


def told_sizes(trace: Trace, server: int) -> tuple[int | None, int | None]:
    """Return the bytes of a call's request and response, as either view tells them."""
    views = [trace.spans.sizes.get(span, UNTOLD) for span in (server, trace.parents[server]) if span is not None]
    request, response = (next((size[at] for size in views if size[at] is not None), None) for at in range(2))
    return request, response


def _carrying(
    trace: Trace,
    activity: Activity,
    placement: Mapping[str, int],
    costs: CostModel,
    link_mbps: float,
    assumed: int,
) -> dict[int, int]:
    """Return by server's span what its messages take beyond a replay's own, in ns, if above 0."""
    if not trace.spans.sizes and assumed <= MESSAGE_BYTES:  # as of most traces
        return {}
    per_byte_ns = 8_000 / link_mbps + (2 * costs.ps[NETWORK_BYTE] / 1000 if costs.has("messages") else 0)
    extra_ns = {}
    for server in trace.calls():
        parent = trace.parents[server]
        assert parent is not None
        if placement[activity.pods[parent]] != placement[activity.pods[server]]:
            sizes = (assumed if size is None else size for size in told_sizes(trace, server))
            beyond = sum(max(0, size - MESSAGE_BYTES) for size in sizes)
            if beyond:
                extra_ns[server] = round(beyond * per_byte_ns)
    return extra_ns
