"""Rings of machines, which call themselves and then their neighbour, and a model with few events.

A machine has a client and a server. In each round the client calls its own server `OWN` times, by
LRPC, and the neighbour's once, over a link of one millisecond. `fewest` is a SimPy model of the
same, with one event for a call of one's own and two for one across machines: its arrival at the
server, and its reply's at the client. Nobody waits for a processor, of which there are enough.
"""

from collections.abc import Generator
from typing import TYPE_CHECKING, Final

from benchmarks.cluster import cluster, null_calls
from benchmarks.peers.peer import Exchange, Finished
from benchmarks.remote import DELAY_NS, PROCESSORS, exchange_of
from benchmarks.simulation import timed
from lrpc.cluster.description import Cluster
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.kernel.simulated.charges import Charges
from lrpc.kernel.simulated.costs import CostModel, load_cost_model

if TYPE_CHECKING:
    import simpy

COST_MODEL: Final = "linux-python"
MACHINES: Final = 10
OWN: Final = 10  # calls of its own server for each of the neighbour's


def ring(machines: int, rounds: int) -> Cluster:
    """Return the cluster."""
    names = [f"m{number}" for number in range(machines)]
    domains: dict[str, object] = {}
    for number, name in enumerate(names):
        neighbour = names[(number + 1) % machines]
        domains[f"server {name}"] = {"machine": name, "exports": {f"tests@{name}": {"server": "four tests"}}}
        calls = [null_calls("here", OWN), null_calls("there", 1)]
        domains[f"client {name}"] = {
            "machine": name,
            "imports": {"here": f"tests@{name}", "there": f"tests@{neighbour}"},
            "threads": [{"program": "caller", "parameters": {"calls": calls, "rounds": rounds}}],
        }
    like = {"processors": PROCESSORS, "cost_model": COST_MODEL}
    links = {"delay_us": DELAY_NS / 1000, "bandwidth_mbps": 1000.0}
    return cluster({"name": "ring", "links": links, "machines": dict.fromkeys(names, like), "domains": domains})


def own_ns(costs: CostModel) -> int:
    """Return what a call of one's own takes, in ns: all that an LRPC Null charges."""
    charges = Charges(costs)
    paths = [charges.client_stub, charges.astack_queue, charges.call, charges.switch, charges.server_stub]
    return sum(path.ns for path in [*paths, charges.leave, charges.switch, charges.astack_queue])


def run_lrpc(rounds: int) -> Finished:
    """Run the ring as a cluster in this process, links in memory."""
    described = ring(MACHINES, rounds)
    outcomes: list[Outcome] = []
    seconds = timed(lambda: outcomes.append(run_cluster(described, actors=0, transport="memory")))
    (outcome,) = outcomes
    made = sum(machine.counts["cross_machine"] + machine.counts["cross_domain"] for machine in outcome.machines)
    assert made == calls_of(rounds), f"{made} calls"
    return Finished(max(machine.end_ns for machine in outcome.machines), seconds)


def run_fewest(rounds: int) -> Finished:
    """Run the same in a SimPy model."""
    from simpy import Environment

    environment = Environment(initial_time=0)
    costs = load_cost_model(COST_MODEL)
    for _ in range(MACHINES):
        environment.process(_client(environment, own_ns(costs), exchange_of(costs), rounds))
    seconds = timed(environment.run)
    return Finished(round(environment.now), seconds)


def calls_of(rounds: int) -> int:
    """Return how many calls the machines make in so many rounds."""
    return MACHINES * rounds * (OWN + 1)


def _client(
    environment: "simpy.Environment", own: int, exchange: Exchange, rounds: int
) -> Generator["simpy.Event", object, None]:
    received = 0
    for _ in range(rounds):
        yield environment.timeout(received + own)
        for _ in range(OWN - 1):
            yield environment.timeout(own)
        yield environment.timeout(exchange.client_ns + exchange.delay_ns)
        yield environment.timeout(exchange.server_ns + exchange.delay_ns)
        received = exchange.receive_ns
    yield environment.timeout(received)
