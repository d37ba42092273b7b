"""Measures the cost of a replay's calls without their servers' work.

It does so for calls within a domain, between domains and between machines.

A small replay of calls that do nothing is run, and its latencies are read. Adding up a cost model's
steps here would be a second description of the path of a call, which could differ from the one that
the kernel charges.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from lrpc.cluster.run import run_cluster
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.histogram import Route
from lrpc.workloads.replay.replay import replay_cluster
from lrpc.workloads.replay.steps import activity
from lrpc.workloads.traces.spans import Span
from lrpc.workloads.traces.trace import Children, SpanTable, Trace

# Calls of each kind. The fastest counts, in case a first call pays for something that later ones
# reuse.
ROUNDS: Final = 3
APART_NS: Final = 1_000_000  # the interval between calls, long enough for none to wait for another


@dataclass(frozen=True)
class Crossings:
    """The costs of a call beside the work of its server, in ns, if nothing is waited for."""

    within_ns: int
    domain_ns: int
    machine_ns: int  # 0 on a single machine, which has no such calls

    def between(self, caller: str, server: str, placement: Mapping[str, int]) -> int:
        """Return the cost of a call between two pods in ns; `placement` maps pods to machines."""
        if caller == server:
            return self.within_ns
        return self.domain_ns if placement[caller] == placement[server] else self.machine_ns


def crossings(costs: CostModel, machines: int, *, link_delay_us: float, link_mbps: float) -> Crossings:
    """Return the costs of calls, measured in a replay of calls that do nothing, one after another.

    Raises `Refused` if there is more than one machine and the cost model has no costs for calls
    between machines.
    """
    servers = ("caller", "domain", "machine") * ROUNDS
    calls = [Span("t", str(at), "root", pod, "call", APART_NS * at, APART_NS * at) for at, pod in enumerate(servers)]
    spans = [Span("t", "root", None, "caller", "calls", 0, APART_NS * len(calls)), *calls]
    parents = [None, *(0 for _ in calls)]
    trace = Trace(SpanTable(spans), [], parents, Children(parents))
    cluster = replay_cluster(
        "calls",
        trace,
        activity(trace),
        {"caller": 0, "domain": 0, "machine": min(1, machines - 1)},
        min(2, machines),
        costs=costs,
        processors=1,
        link_delay_us=link_delay_us,
        link_mbps=link_mbps,
    )
    found = run_cluster(cluster, actors=0, transport="memory").machines[0].latencies

    def least(server: str, where: str | None) -> int:
        return found[Route("caller", where, server, "do")].smallest

    return Crossings(
        least("caller", "caller"), least("domain", "domain"), least("machine", None) if machines > 1 else 0
    )
