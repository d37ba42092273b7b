"""What a call between two machines of one process costs, beside the least that SimPy can do.

    python -m benchmarks.remote [--calls N] [--repeats R]

Ten clients on one machine call a server on another, over a link of one millisecond; each has one
call outstanding. `fewest` is a SimPy model with two events in a call, its arrival at the server
and its reply's at the client: processors are numbers, the times at which they are free. Both must
end at the same virtual time, to the nanosecond. Rounds alternate, and what is compared is
processor time of this process. The kernel makes the cluster as well, in that time.
"""

import argparse
import json
import sys
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from heapq import heapreplace
from statistics import median
from typing import TYPE_CHECKING, Final

from benchmarks.cluster import clients
from benchmarks.peers.peer import Exchange
from benchmarks.simulation import timed
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.kernel.compiled import in_words
from lrpc.kernel.simulated.costs import (
    NETWORK_RECEIVE,
    NETWORK_SEND,
    REMOTE_CLIENT,
    REMOTE_SERVER,
    CostModel,
    load_cost_model,
)

if TYPE_CHECKING:
    import simpy

CLIENTS: Final = 10
PROCESSORS: Final = 8  # of either machine
DELAY_NS: Final = 1_000_000


@dataclass(frozen=True)
class RemoteRun:
    """How many calls a run made, until when in virtual time, in how much processor time."""

    calls: int
    end_ns: int
    seconds: float

    @property
    def us_per_call(self) -> float:
        """Return the processor time of a call, in microseconds."""
        return self.seconds / self.calls * 1e6


def exchange_of(costs: CostModel) -> Exchange:
    """Return what a Null between machines takes."""
    receive, send = costs.ns[NETWORK_RECEIVE], costs.ns[NETWORK_SEND]
    client, server = costs.ns[REMOTE_CLIENT] + send, receive + costs.ns[REMOTE_SERVER] + send
    return Exchange(PROCESSORS, DELAY_NS, client, server, receive)


def run_lrpc(calls: int) -> RemoteRun:
    """Run the clients as a cluster in this process, links in memory; `calls` of each client."""
    described = clients(2, CLIENTS, calls, DELAY_NS / 1000)
    outcomes: list[Outcome] = []
    seconds = timed(lambda: outcomes.append(run_cluster(described, actors=0, transport="memory")))
    (outcome,) = outcomes
    made = sum(machine.counts["cross_machine"] for machine in outcome.machines)
    assert made == CLIENTS * calls, f"{made} calls"
    return RemoteRun(made, max(machine.end_ns for machine in outcome.machines), seconds)


def run_fewest(calls: int) -> RemoteRun:
    """Run the same in a SimPy model."""
    from simpy import Environment

    environment = Environment(initial_time=0)
    exchange = exchange_of(load_cost_model("linux-python"))
    here, there = [0.0] * PROCESSORS, [0.0] * PROCESSORS
    ends = [0.0]
    for _ in range(CLIENTS):
        environment.process(_client(environment, exchange, here, there, calls, ends))
    seconds = timed(environment.run)
    return RemoteRun(CLIENTS * calls, round(ends[0]), seconds)


def _client(
    environment: "simpy.Environment",
    exchange: Exchange,
    here: list[float],
    there: list[float],
    calls: int,
    ends: list[float],
) -> Generator["simpy.Event", object, None]:
    """Make calls: two events each. `here` and `there` are heaps of when processors are free."""
    receive, client, server = exchange.receive_ns, exchange.client_ns, exchange.server_ns
    received = 0
    for _ in range(calls):
        now = environment.now
        leaves = max(now, here[0]) + received + client
        heapreplace(here, leaves)
        yield environment.timeout(leaves + DELAY_NS - now)
        now = environment.now
        leaves = max(now, there[0]) + server
        heapreplace(there, leaves)
        yield environment.timeout(leaves + DELAY_NS - now)
        received = receive
    ended = max(environment.now, here[0]) + receive
    ends[0] = max(ends[0], ended)
    heapreplace(here, ended)


def measure(calls: int, repeats: int) -> dict[str, object]:
    """Return what both take per call, and how many times as fast as SimPy lrpc was."""
    rounds: list[tuple[RemoteRun, RemoteRun]] = []
    for _ in range(1 + repeats):  # the first warms up
        pair = run_lrpc(calls), run_fewest(calls)
        assert pair[0].end_ns == pair[1].end_ns, f"ends at {pair[0].end_ns} and {pair[1].end_ns} ns"
        rounds.append(pair)
    rounds = rounds[1:]
    return {
        "benchmark": "remote calls in one process",
        "kernel": in_words(),
        "calls": rounds[0][0].calls,
        "end_ns": rounds[0][0].end_ns,
        "us_per_call": {
            "lrpc": round(median(ours.us_per_call for ours, _ in rounds), 2),
            "simpy-fewest": round(median(theirs.us_per_call for _, theirs in rounds), 2),
        },
        "ratio": round(median(theirs.us_per_call / ours.us_per_call for ours, theirs in rounds), 3),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, and print the results as JSON."""
    parser = argparse.ArgumentParser(description="What a call between machines of one process costs.")
    parser.add_argument("--calls", type=int, default=1000, help="calls of each of the ten clients")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args(arguments)
    json.dump(measure(options.calls, options.repeats), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
