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
from lrpc.domains.simulated.domain import SimulatedDomain, simulated
from lrpc.kernel.simulated.costs import CostModel
from lrpc.kernel.simulated.threads import Thread
from lrpc.workloads.replay.placement import machine_names
from lrpc.workloads.replay.steps import Activity
from lrpc.workloads.replay.tape import Compute, Do, Fork, Steps, Wait
from lrpc.workloads.traces.trace import Trace

# A-stacks for calls in progress from one pod to another: many, since a trace does not say how many
# calls its pods allowed at a time.
SIMULTANEOUS: Final = 256
DEFAULT_PROCESSORS: Final = 16
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
        self.pods = {pod: domain.bind(Pod, pod) for pod in domain.imports}
        self._runner = SpanRunner(domain, self.activity, self.pods)

    def do(self, span: int) -> int:
        """Perform a span for another pod, or for another span of this pod."""
        self._done += 1
        self._runner.run_span(span)
        return span

    def findings(self) -> Findings:
        """Return how many spans this pod performed, for callers and as client's sides of calls."""
        return {"done": self._done, **self._runner.counts}


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
        self._runner = runner = SpanRunner(simulated(domain), self.activity, server.pods)
        for begins_ns, root in runner.activity.roots[self.pod]:
            body = partial(self._run_root, runner, root, begins_ns)
            runner.domain.kernel.spawn(runner.domain, body, f"root{root}", at_ns=begins_ns)

    def findings(self) -> Findings:
        """Return how many traces began here, and their recorded and simulated times in ns."""
        counts = {} if self._runner is None else self._runner.counts
        return {
            "roots": self._roots,
            **counts,
            "recorded_ns": self._recorded_ns,
            "simulated_ns": sum(self._durations_ns.values()),
            DURATIONS: self._durations_ns,
        }

    def _run_root(self, runner: "SpanRunner", root: int, begins_ns: int) -> None:
        runner.run_span(root)
        self._roots += 1
        self._recorded_ns += runner.activity.recorded_ns[root]
        # From the recorded time on, so that waiting for a processor counts.
        self._durations_ns[root] = runner.domain.kernel.now_ns - begins_ns


class SpanRunner:
    """The interpreter of spans' steps in one domain, which has bound `pods`."""

    def __init__(self, domain: SimulatedDomain, activity: object, pods: Mapping[str, Pod]) -> None:
        assert isinstance(activity, Activity)
        self.domain = domain
        self.activity = activity
        # Spans performed, except first spans of traces: as the client's side of a call, and as
        # calls to what is not traced.
        self._client_sides = self._outside = 0
        self._pods = pods

    @property
    def counts(self) -> dict[str, int]:
        """Return how many spans were client's sides of calls, and calls to what is not traced."""
        return {"client_sides": self._client_sides, "outside": self._outside}

    def run_span(self, span: int) -> None:
        """Run the steps of a span, or make its call if it is the client's side of one."""
        if span in self.activity.calls:
            self._call(self.activity.calls[span])
        else:
            self._run(self.activity.steps[span])

    def _run(self, steps: Steps) -> None:
        forked: list[Thread] = []
        for step in steps:
            if isinstance(step, Compute):
                self.domain.kernel.compute(step.ns)
            elif isinstance(step, Wait):
                self.domain.kernel.sleep(step.ns)
            elif isinstance(step, Do):
                self._do(step.span)
            elif isinstance(step, Fork):
                thread = self._fork(step)
                forked += [thread] if step.joined else []
            else:
                for thread in forked:
                    thread.join()
                forked.clear()

    def _do(self, span: int) -> None:
        """Call the pod that performs the span: its server's if the span is a call's client side."""
        if span in self.activity.outside:
            self._outside += 1
            self._run(self.activity.steps[span])
            return
        server = self.activity.calls.get(span)
        if server is not None:
            self._client_sides += 1
        self._call(span if server is None else server)

    def _call(self, span: int) -> None:
        pod = self.activity.pods[span]
        extra_ns = self.activity.extra_ns.get(span)
        if extra_ns:
            self.domain.kernel.sleep(extra_ns)
        self._pods[pod].do(span)

    def _fork(self, fork: Fork) -> Thread:
        kernel = self.domain.kernel
        name = kernel.name_for(self.domain)
        return kernel.spawn(self.domain, lambda: self._run(fork.steps), name, at_ns=kernel.now_ns + fork.after_ns)


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
