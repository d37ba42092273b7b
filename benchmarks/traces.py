"""Measures what reading, understanding and replaying a trace costs, beside the least possible.

The least is `csv.reader` and a dictionary from identifiers to rows, by which parents are found.

    python -m benchmarks.traces [SPANS]

Prints processor time a span and peak memory, and the ratio of each step to that least.
"""

import csv
import random
import sys
import tempfile
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from benchmarks.remote import exchange_of
from benchmarks.rings import own_ns
from lrpc.cluster.run import run_cluster
from lrpc.kernel.peak import peak_bytes
from lrpc.kernel.simulated.costs import COPY_BYTE, COPY_VALUE, NETWORK_BYTE, load_cost_model
from lrpc.workloads.replay.placement import place
from lrpc.workloads.replay.replay import DURATIONS, replay_cluster
from lrpc.workloads.replay.steps import Activity, activity
from lrpc.workloads.replay.tape import COMPUTE, DO, END, WAIT
from lrpc.workloads.traces.formats.csv_rows import COLUMNS
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.trace import Trace

SPANS: Final = 100_000
PODS: Final = 60
CALLS: Final = 10  # of each trace's first span, each with two views
MACHINES: Final = 4
DELAY_US: Final = 50.0  # of a link
MBPS: Final = 10_000.0
T = TypeVar("T")

if TYPE_CHECKING:
    import simpy


def write(path: Path, spans: int) -> None:
    """Write a trace of this many spans: first spans, each with its calls, one after another."""
    chance = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        file.write(",".join(COLUMNS) + "\n")
        for number in range(spans // (1 + 2 * CALLS)):
            trace, root, pod = f"{chance.getrandbits(128):032x}", f"{chance.getrandbits(64):016x}", number % PODS
            begin = 1_700_000_000_000_000_000 + number * 2_000_000
            at = begin + 50_000
            rows = []
            for call in range(CALLS):
                client, server = (f"{chance.getrandbits(64):016x}" for _ in range(2))
                end = at + chance.randrange(500_000, 1_500_000)
                rows.append(f"{trace},{client},{root},pod-{pod},call,{at},{end}\n")
                callee = (pod * 7 + call) % PODS
                rows.append(f"{trace},{server},{client},pod-{callee},do,{at + 100_000},{end - 100_000}\n")
                at = end + 20_000
            file.write(f"{trace},{root},root,pod-{pod},GET /{pod % 7},{begin},{at}\n{''.join(rows)}")


def least(path: Path) -> int:
    """Do the least that could be done with a trace: find the parent of every row."""
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.reader(file)
        next(reader)
        rows = {(row[0], row[1]): row for row in reader}
    return sum((row[0], row[2]) in rows for row in rows.values())


def replay(trace: Trace) -> int:
    """Replay a trace on a few machines of this process; return what its first spans took, in ns."""
    placed = place(trace.pods, MACHINES, "spread")
    costs = load_cost_model("linux-python")
    cluster = replay_cluster(
        "traces", trace, activity(trace), placed, MACHINES, costs=costs, link_delay_us=DELAY_US, link_mbps=MBPS
    )
    outcome = run_cluster(cluster, actors=0, transport="memory")
    took = 0
    for found in (one for machine in outcome.machines for one in machine.findings.values()):
        durations = found.get(DURATIONS, {})
        assert isinstance(durations, dict)
        took += sum(durations.values())
    return took


class FewestReplay:
    """The same in a SimPy model: a process for each trace, and no processor to wait for.

    It has an event for what a span computes between calls, and for a call one on the same machine,
    or two across machines.
    """

    def __init__(self, environment: "simpy.Environment", trace: Trace, steps: Activity) -> None:
        costs = load_cost_model("linux-python")
        exchange = exchange_of(costs)
        carried = 4 * costs.ps[NETWORK_BYTE] // 1000  # a span's number, on either side
        link_ns = round(DELAY_US * 1000) + round(4 * 8000 / MBPS)
        self.took_ns = 0
        self._environment = environment
        self._activity = steps
        self._places = place(trace.pods, MACHINES, "spread")
        self._within_ns = costs.ns[0]  # a call of the pod's own procedure
        self._own_ns = own_ns(costs) + (2 * costs.ps[COPY_VALUE] + 8 * costs.ps[COPY_BYTE]) // 1000
        self._there_ns = exchange.client_ns + link_ns + exchange.receive_ns + carried * 2
        self._served_ns = exchange.server_ns - exchange.receive_ns
        self._back_ns = link_ns + exchange.receive_ns + carried * 2

    def root(self, begins_ns: int, span: int) -> Generator["simpy.Event", object, None]:
        """Begin a trace at its recorded time, and run it."""
        yield self._environment.timeout(begins_ns)
        yield from self._run(self._activity.pods[span], self._activity.steps.place(span))
        self.took_ns += round(self._environment.now) - begins_ns

    def _run(self, pod: str, at: int) -> Generator["simpy.Event", object, None]:
        tape, timeout = self._activity.steps, self._environment.timeout
        while (code := tape.codes[at]) != END:
            number = tape.numbers[at]
            at += 1
            if code in (COMPUTE, WAIT):
                yield timeout(number)
                continue
            assert code == DO, "a trace without forks"
            server = self._activity.calls.get(number, number)
            callee = self._activity.pods[server]
            there = tape.place(server)
            if callee == pod:
                yield timeout(self._within_ns)
                yield from self._run(callee, there)
            elif self._places[callee] == self._places[pod]:
                yield timeout(self._own_ns)
                yield from self._run(callee, there)
            else:
                yield timeout(self._there_ns + self._served_ns)
                yield from self._run(callee, there)
                yield timeout(self._back_ns)


def replay_fewest(trace: Trace) -> int:
    """Replay a trace in SimPy; return what its first spans took, in ns."""
    from simpy import Environment

    environment = Environment(initial_time=0)
    steps = activity(trace)
    model = FewestReplay(environment, trace, steps)
    for roots in steps.roots.values():
        for begins_ns, root in roots:
            environment.process(model.root(begins_ns, root))
    environment.run()
    return model.took_ns


def timed(what: str, count: int, base_us: float | None, work: Callable[[], T]) -> tuple[T, float]:
    """Do a piece of work, and print and return what it took: processor time a span, in us."""
    begin = time.process_time()
    result = work()
    us = (time.process_time() - begin) / count * 1e6
    peak = peak_bytes() >> 20
    ratio = "" if base_us is None else f"{us / base_us:8.1f} times the least"
    print(f"{what:28} {us:8.2f} us a span, peak {peak:6,} MiB {ratio}")
    return result, us


def main(spans: int = SPANS) -> None:
    """Measure each step on one trace."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "trace.csv")
        write(path, spans)
        _, base_us = timed("the least", spans, None, lambda: least(path))
        trace, _ = timed("read", spans, base_us, lambda: read_trace(path))
    timed("steps", spans, base_us, lambda: activity(trace))
    timed(f"steps, and {MACHINES} machines", spans, base_us, lambda: replay(trace))


if __name__ == "__main__":
    main(*(int(text) for text in sys.argv[1:2]))
