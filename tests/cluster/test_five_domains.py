"""Five domains on one to three machines do anything to each other, in any order, over any links.

They call each other, nested and across machines, by LRPC and by message, and lose packets; they
terminate each other, abort, revoke, export again and import again. Nothing leaks, no kernel panics,
no thread hangs, and each caller is told once. A cluster comes to the same in one order of events,
in windows, and over gRPC. LRPC_SEQUENCES sets how many clusters are drawn.
"""

import os
from dataclasses import dataclass, field
from typing import ClassVar, Final

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.group import Group
from lrpc.cluster.run import digest_of, run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.cluster.synchronisation import InOrder
from lrpc.domains.clerk import Clerk
from lrpc.domains.codecs import Int32
from lrpc.domains.domain import Domain, Transfer, bind
from lrpc.domains.interface import Interface, procedure
from lrpc.domains.residents import Program, Registry, Server
from lrpc.domains.simulated.domain import SimulatedDomain, simulated
from lrpc.kernel.errors import CallError
from tests.support.invariants import assert_nothing_left
from tests.support.properties import examples

SEQUENCES: Final = int(os.environ.get("LRPC_SEQUENCES", "0"))
PLACES: Final = 5
DEEPEST: Final = 3  # calls within calls
Step = tuple[str, int, int, int]  # an action, and its up to three numbers


class Task(Interface):
    """A task that follows a script, by number, and may make nested calls only to a depth."""

    @procedure(simultaneous=40)
    def do(self, script: Int32, depth: Int32) -> Int32:
        raise NotImplementedError


@dataclass
class Made:
    """The scripts of a cluster, and how each call of a run ended, with the domain that made it."""

    scripts: list[list[Step]] = field(default_factory=list)
    calls: list[tuple[SimulatedDomain, list[str]]] = field(default_factory=list)

    now: ClassVar["Made"]  # the one that runs

    def follow(self, domain: SimulatedDomain, script: int, depth: int) -> None:
        kernel = domain.kernel
        for what, one, two, three in self.scripts[script % len(self.scripts)]:
            place = f"d{one % PLACES}"
            if what == "compute":
                domain.compute(us=one * 50)
            elif what == "sleep":
                domain.sleep(us=one * 700)
            elif what == "raise" and depth < DEEPEST:  # in a procedure; a thread's body must not
                raise ValueError("drawn")
            elif what == "call" and depth:
                self._call(domain, place, two, depth - 1, by_message=bool(three & 1))
            elif what == "terminate" and place in kernel.domains:
                kernel.domains[place].terminate()
            elif what == "revoke" and place in kernel.exports:
                kernel.exports[place].domain.revoke(f"d{two % PLACES}", place, "drawn")
            elif what == "export" and place not in kernel.exports and f"machine of {place}" in domain.imports:
                again = simulated(kernel.domain(place))
                again.imports = dict(domain.imports)
                Clerk().export(again, Task, _server(again), place)
            elif what == "abort":
                threads = sorted(kernel.threads, key=lambda thread: thread.number)
                try:
                    threads[one % len(threads)].home.abort(threads[one % len(threads)])
                except CallError:  # it makes no call
                    continue

    def _call(self, domain: SimulatedDomain, name: str, script: int, depth: int, *, by_message: bool) -> None:
        ended: list[str] = []
        self.calls.append((domain, ended))
        way: Transfer = "message passing" if by_message else "lrpc"
        try:
            bind(domain, Task, name, way).do(script, depth)
            ended.append("returned")
        except (CallError, ValueError) as error:  # ValueError: of a procedure of this very domain
            ended.append(type(error).__name__)


@dataclass
class TaskServer(Server, Task):
    def do(self, script: int, depth: int) -> int:
        Made.now.follow(simulated(self.domain), script, depth)
        return script


def _server(domain: SimulatedDomain) -> TaskServer:
    made = TaskServer()
    made.domain = domain
    return made


@dataclass
class Follower(Program):
    script: int

    def run(self, domain: Domain) -> None:
        Made.now.follow(simulated(domain), self.script, DEEPEST)


SMALL = st.integers(0, 7)
STEPS = st.one_of(
    st.tuples(st.sampled_from(["compute", "sleep"]), SMALL, st.just(0), st.just(0)),
    *[st.tuples(st.just("call"), SMALL, SMALL, SMALL)] * 3,
    st.tuples(
        st.sampled_from(["terminate", "terminate", "abort", "raise", "revoke", "export", "export"]),
        SMALL,
        SMALL,
        st.just(0),
    ),
)


@st.composite
def clusters(draw: st.DrawFn) -> tuple[Cluster, list[list[Step]]]:
    """Draw five domains, their machines and links, and the scripts that their threads follow."""
    machines = [f"m{number}" for number in range(draw(st.integers(1, 3)))]
    homes = [draw(st.sampled_from(machines)) for _ in range(PLACES)]
    names = [f"d{place}" for place in range(PLACES)]
    domains = {
        name: {
            "machine": home,
            "exports": {name: {"server": "task"}},
            # By the second kind of name a domain knows which others are on its machine.
            "imports": {one: one for one in names}
            | {f"machine of {one}": one for one, its in zip(names, homes, strict=True) if its == home},
            "threads": [
                {"program": "follower", "parameters": {"script": draw(SMALL)}} for _ in range(draw(st.integers(0, 2)))
            ],
        }
        for name, home in zip(names, homes, strict=True)
    }
    table = {
        "name": "five",
        "machines": {
            name: {
                "processors": draw(st.integers(1, 2)),
                "domain_caching": draw(st.booleans()),
                "quantum_us": draw(st.sampled_from([None, 20.0, 300.0])),
            }
            for name in machines
        },
        "links": {"delay_us": 60.0, "loss": draw(st.sampled_from([0.0, 0.0, 0.2]))},
        "domains": domains,
    }
    scripts = draw(st.lists(st.lists(STEPS, max_size=5), min_size=1, max_size=8))
    registry = Registry(servers={"task": TaskServer}, programs={"follower": Follower})
    return describe(ClusterTable.model_validate(table), registry, "five"), scripts


def in_order(cluster: Cluster, scripts: list[list[Step]]) -> tuple[str, list[list[str]]]:
    """Run a cluster in one order of events, and look at its kernels; return digest and ends."""
    made = Made.now = Made(scripts)
    group = Group(cluster, list(range(len(cluster.machines))), 7, None)
    InOrder(group, lambda _: None).run()
    outcomes = sorted(group.finish(), key=lambda one: one.name)
    for machine in (one.machine for one in group._lanes.values()):
        assert_nothing_left(machine.kernel)
    for caller, ended in made.calls:
        assert len(ended) == 1 if caller.live else len(ended) <= 1, (str(caller), ended)
    return digest_of([(one.name, one.digest) for one in outcomes]), [ended for _, ended in made.calls]


def elsewhere(cluster: Cluster, scripts: list[list[Step]], *, windows: bool) -> str:
    """Return the digest of the same in windows, or else over gRPC."""
    Made.now = Made(scripts)
    if windows:
        return run_cluster(cluster, seed=7, actors=0, transport="memory", windows=True).digest
    return run_cluster(cluster, seed=7, actors=0, transport="grpc").digest


MANY = settings(max_examples=SEQUENCES, derandomize=False) if SEQUENCES else examples(150)


@settings(MANY, suppress_health_check=list(HealthCheck), deadline=None)
@given(clusters())
def test_nothing_leaks_nobody_hangs_and_every_caller_is_told_once(drawn: tuple[Cluster, list[list[Step]]]) -> None:
    digest, ends = in_order(*drawn)
    assert in_order(*drawn) == (digest, ends)
    assert elsewhere(*drawn, windows=True) == digest


@settings(examples(10), suppress_health_check=list(HealthCheck), deadline=None)
@given(clusters())
def test_over_grpc_they_come_to_the_same(drawn: tuple[Cluster, list[list[Step]]]) -> None:
    assert elsewhere(*drawn, windows=False) == in_order(*drawn)[0]
