"""Measures what reading, understanding and replaying a trace costs, beside the least possible.

The least is `csv.reader` and a dictionary from identifiers to rows, by which parents are found.

    python -m benchmarks.traces [SPANS]

Prints processor time a span and peak memory, and the ratio of each step to that least.
"""

import csv
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from lrpc.cluster.run import run_cluster
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads.replay.placement import place
from lrpc.workloads.replay.replay import replay_cluster
from lrpc.workloads.replay.steps import activity
from lrpc.workloads.traces.formats.csv_rows import COLUMNS
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.trace import Trace

SPANS: Final = 100_000
PODS: Final = 60
CALLS: Final = 10  # of each trace's first span, each with two views
MACHINES: Final = 4
T = TypeVar("T")


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


def replay(trace: Trace) -> None:
    """Replay a trace on a few machines of this process."""
    placed = place(trace.pods, MACHINES, "spread")
    costs = load_cost_model("linux-python")
    cluster = replay_cluster(
        "traces", trace, activity(trace), placed, MACHINES, costs=costs, link_delay_us=50.0, link_mbps=10_000.0
    )
    run_cluster(cluster, actors=0, transport="memory")


def timed(what: str, count: int, base_us: float | None, work: Callable[[], T]) -> tuple[T, float]:
    """Do a piece of work, and print and return what it took: processor time a span, in us."""
    begin = time.process_time()
    result = work()
    us = (time.process_time() - begin) / count * 1e6
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
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
