"""Replays a trace: its pods are protection domains, its spans compute and call as they did, where they are placed."""

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
from lrpc.workloads.replay.steps import Activity, Compute, Do, Fork, Steps, Wait
from lrpc.workloads.traces.spans import Trace

SIMULTANEOUS: Final = 256  # calls in progress from one pod to another; the trace does not say what the pods allowed
DEFAULT_PROCESSORS: Final = 16


class Pod(Interface):
    """What one pod does for another, or a span for its parent."""

    @procedure(simultaneous=SIMULTANEOUS)
    def do(self, span: UInt32) -> UInt32:
        """Do a span, by its index in the trace; return the index."""


@dataclass
class PodServer(Server, Pod):
    """Does the spans of one pod. It imports every pod that it calls by that pod's name, and itself."""

    independent = True

    activity: object  # an Activity; no file gives it

    def __post_init__(self) -> None:
        """Have done nothing."""
        self._done = 0

    def start(self) -> None:
        """Be ready to call: pods are bound when they are first called."""
        self._player = Player(simulated(self.domain), self.activity)

    def do(self, span: int) -> int:
        """Do a span that another pod, or another span of this one, asks for."""
        self._done += 1
        self._player.perform(span)
        return span

    def findings(self) -> Findings:
        """Return how many spans this pod did for a caller, and how many as the client's side of a call."""
        return {"done": self._done, "client_sides": self._player.client_sides}


@dataclass
class PodRoots(Program):
    """Begins the first spans of traces that began in one pod, each at its recorded time."""

    activity: object
    pod: str

    def __post_init__(self) -> None:
        """Have begun nothing."""
        self._recorded_ns = self._simulated_ns = self._roots = 0
        self._player: Player | None = None

    def run(self, domain: Domain) -> None:
        """Wait for each trace's time and begin it in a thread of its own."""
        self._player = player = Player(simulated(domain), self.activity)
        for begins_ns, root in player.activity.roots[self.pod]:
            body = partial(self._run_root, player, root, begins_ns)
            player.domain.kernel.spawn(player.domain, body, f"root{root}", at_ns=begins_ns)

    def findings(self) -> Findings:
        """Return how many traces began here, and what they took in all, recorded and simulated, in ns."""
        return {
            "roots": self._roots,
            "client_sides": 0 if self._player is None else self._player.client_sides,
            "recorded_ns": self._recorded_ns,
            "simulated_ns": self._simulated_ns,
        }

    def _run_root(self, player: "Player", root: int, begins_ns: int) -> None:
        player.perform(root)
        self._roots += 1
        self._recorded_ns += player.activity.recorded_ns[root]
        self._simulated_ns += player.domain.kernel.now_ns - begins_ns  # waiting for a processor is part of it


class Player:
    """Does spans in one domain."""

    def __init__(self, domain: SimulatedDomain, activity: object) -> None:
        assert isinstance(activity, Activity)
        self.domain = domain
        self.activity = activity
        self.client_sides = 0  # spans done as the client's side of a call, first spans of traces apart
        self._pods: dict[str, Pod] = {}

    def perform(self, span: int) -> None:
        """Do what a span did itself, and have done what it caused."""
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
        """Call the server where the span is a call's client side, else whichever pod did the span, maybe this one."""
        server = self.activity.calls.get(span)
        if server is not None:
            self.client_sides += 1
        self._call(span if server is None else server)

    def _call(self, span: int) -> None:
        pod = self.activity.pods[span]
        if pod not in self._pods:
            self._pods[pod] = self.domain.bind(Pod, pod)
        self._pods[pod].do(span)

    def _fork(self, fork: Fork) -> Thread:
        kernel = self.domain.kernel
        name = f"{self.domain.name}/{kernel.threads_made}"
        return kernel.spawn(self.domain, lambda: self._run(fork.steps), name, at_ns=kernel.now_ns + fork.after_ns)


def replay_cluster(
    name: str,
    trace: Trace,
    done: Activity,
    placement: Mapping[str, int],
    machines: int,
    *,
    costs: CostModel,
    processors: int = DEFAULT_PROCESSORS,
    link_delay_us: float,
    link_mbps: float,
) -> Cluster:
    """Return the cluster on which a trace is done again: a domain for every pod, on the machine it is placed on.

    `Refused` where the cost model lacks what calls between machines cost.
    """
    called: dict[str, set[str]] = {pod: {pod} for pod in trace.pods}
    for server in trace.calls():
        parent = trace.parents[server]
        assert parent is not None
        called[trace.spans[parent].pod].add(trace.spans[server].pod)
    names = machine_names(machines)
    specs = tuple(
        MachineSpec(
            machine,
            processors,
            costs,
            tuple(_domain(pod, done, called[pod]) for pod, where in placement.items() if where == number),
        )
        for number, machine in enumerate(names)
    )
    cluster = Cluster(name, specs, make_link(link_delay_us, link_mbps), {})
    check(cluster, name)
    return cluster


def trace_name(path: Path) -> str:
    """Return what a trace is called: its file's name without endings."""
    return path.name.split(".")[0] or path.name


def _domain(pod: str, done: Activity, called: set[str]) -> DomainSpec:
    threads = (ThreadSpec(f"{pod}/roots", PodRoots, {"activity": done, "pod": pod}),) if pod in done.roots else ()
    exports = (ExportSpec(pod, PodServer, {"activity": done}),)
    return DomainSpec(pod, exports, {one: one for one in sorted(called)}, threads)
