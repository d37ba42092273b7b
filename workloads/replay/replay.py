"""Builds the cluster that replays a trace: each pod is a protection domain on its machine.

Spans compute, wait and call in the order that `steps` found in the trace. Only the cost of calls is
new: it follows from the cost model and from where the placement puts caller and server.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

from lrpc.cluster.description import Cluster, DomainSpec, ExportSpec, MachineSpec, ThreadSpec, check, make_link
from lrpc.domains.codecs import UInt32
from lrpc.domains.domain import Domain
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.residents import Findings, Program, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.simulated.costs import CostModel
from lrpc.workloads.replay import DEFAULT_PROCESSORS
from lrpc.workloads.replay.placement import machine_names
from lrpc.workloads.replay.runner import Perform, SpanRunner
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.traces.trace import Trace

# A-stacks for calls in progress from one pod to another: many, since a trace does not say how many
# calls its pods allowed at a time.
SIMULTANEOUS: Final = 256
DURATIONS: Final = "_durations_ns"  # the finding with the simulated time of each first span


class Pod(Interface):
    """The procedure by which a pod performs spans for its callers."""

    @procedure(simultaneous=SIMULTANEOUS)
    def do(self, span: UInt32) -> UInt32:
        """Perform the span with this index in the trace; return the index."""


@dataclass
class PodServer(Server, Pod):
    """The server of one pod, which performs its spans.

    Its domain imports every pod that it calls, and itself, by the pods' names.
    """

    independent = True

    activity: object  # an `Activity`, which is given by `replay_cluster`, never by a file

    def __post_init__(self) -> None:
        """Start with no spans performed."""
        self._done = 0

    def start(self) -> None:
        """Bind the pods that this one calls, before the first trace begins: that takes no time."""
        domain = simulated(self.domain)
        self.pods: dict[str, Perform] = {pod: domain.bind(Pod, pod).do for pod in domain.imports}
        self._runner = _runner(domain, self.activity, self.pods)

    def do(self, span: int) -> int:
        """Perform a span for another pod, or for another span of this pod."""
        self._done += 1
        self._runner.run_span(span)
        return span

    def findings(self) -> Findings:
        """Return how many spans this pod performed, for callers and as client's sides of calls."""
        return {"done": self._done, **_counts(self._runner)}


@dataclass
class PodRoots(Program):
    """The program that begins the traces of one pod, each first span at its recorded time."""

    activity: object
    pod: str

    def __post_init__(self) -> None:
        """Start with no traces begun."""
        self._recorded_ns = self._roots = 0
        self._durations_ns: dict[int, int] = {}
        self._runner: SpanRunner | None = None

    def run(self, domain: Domain) -> None:
        """Schedule a thread for each trace, which begins it at its recorded time."""
        server = simulated(domain).kernel.exports[self.pod].server
        assert isinstance(server, PodServer)
        self._runner = runner = _runner(domain, self.activity, server.pods)
        for begins_ns, root in runner.activity.roots[self.pod]:
            body = partial(self._run_root, runner, root, begins_ns)
            runner.kernel.spawn(runner.domain, body, f"root{root}", at_ns=begins_ns)

    def findings(self) -> Findings:
        """Return how many traces began here, and their recorded and simulated times in ns."""
        counts = {} if self._runner is None else _counts(self._runner)
        return {
            "roots": self._roots,
            **counts,
            "recorded_ns": self._recorded_ns,
            "simulated_ns": sum(self._durations_ns.values()),
            DURATIONS: self._durations_ns,
        }

    def _run_root(self, runner: SpanRunner, root: int, begins_ns: int) -> None:
        runner.run_span(root)
        self._roots += 1
        self._recorded_ns += runner.activity.recorded_ns[root]
        # From the recorded time on, so that waiting for a processor counts.
        self._durations_ns[root] = runner.kernel.now_ns - begins_ns


def _runner(domain: Domain, activity: object, pods: Mapping[str, Perform]) -> SpanRunner:
    """Return what runs spans in a domain, which has bound `pods`."""
    assert isinstance(activity, Activity)
    own = simulated(domain)
    return SpanRunner(own, own.kernel, activity, pods)


def _counts(runner: SpanRunner) -> dict[str, int]:
    """Return how many spans were client's sides of calls, and calls to what is not traced."""
    return {"client_sides": runner.client_sides, "outside": runner.outside}


def replay_cluster(
    name: str,
    trace: Trace,
    activity: Activity,
    placement: Mapping[str, int],
    machines: int,
    *,
    costs: CostModel,
    processors: int = DEFAULT_PROCESSORS,
    link_delay_us: float,
    link_mbps: float,
) -> Cluster:
    """Return the cluster that replays a trace, with a domain for every pod.

    `placement` maps pods to machines, which are numbered from 0. Raises `Refused` if calls cross
    machines and the cost model has no costs for them.
    """
    called: dict[str, set[str]] = {pod: {pod} for pod in trace.pods}
    for server in trace.calls():
        parent = trace.parents[server]
        assert parent is not None
        called[trace.spans.pods[parent]].add(trace.spans.pods[server])
    names = machine_names(machines)
    specs = tuple(
        MachineSpec(
            machine,
            processors,
            costs,
            tuple(_domain(pod, activity, called[pod]) for pod, where in placement.items() if where == number),
        )
        for number, machine in enumerate(names)
    )
    cluster = Cluster(name, specs, make_link(link_delay_us, link_mbps), {})
    check(cluster, name)
    return cluster


def trace_name(path: Path) -> str:
    """Return the name of a trace: its file's name without extensions."""
    return path.name.split(".")[0] or path.name


def _domain(pod: str, activity: Activity, called: set[str]) -> DomainSpec:
    threads = (
        (ThreadSpec(f"{pod}/roots", PodRoots, {"activity": activity, "pod": pod}),) if pod in activity.roots else ()
    )
    exports = (ExportSpec(pod, PodServer, {"activity": activity}),)
    return DomainSpec(pod, exports, {one: one for one in sorted(called)}, threads)
