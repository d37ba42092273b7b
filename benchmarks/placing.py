"""Measures how far placements of drawn graphs are from their bounds.

A graph is of services that call two others each, or of such of which few are called by many, and
many by few. Loads differ by as much, and a machine may hold 1.2 fair shares. Prints a row for each:
what crosses, the bound, the gap between them as a share of what crosses, and processor time.

`python -m benchmarks.placing --seconds 60` gives each search so many seconds; `--services 200`
measures that number alone.
"""

import argparse
import os
import random
import time
from typing import Final

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the command `lrpc` does

from lrpc.workloads.placing.partition import SearchLimits, fitting, solve
from lrpc.workloads.placing.problem import Problem

MACHINES: Final = {200: (4, 8), 1_000: (10,)}  # by the number of services
SEEDS: Final = {200: (0, 1), 1_000: (0,)}
NODES: Final = 20_000


def even(seed: int, services: int, machines: int) -> Problem:
    """Return a graph of services of which each calls two that were drawn before."""
    chance = random.Random(seed)
    loads = [chance.randint(0, 30) ** 2 for _ in range(services)]
    weights: dict[tuple[int, int], int] = {}
    for other in range(1, services):
        for one in chance.sample(range(other), min(other, 2)):
            weights[one, other] = chance.randint(1, 50)
    return _capped(loads, weights, machines)


def skewed(seed: int, services: int, machines: int) -> Problem:
    """Return a graph of services that call others the more, the more these are called already."""
    chance = random.Random(seed)
    ends, weights = [0], dict[tuple[int, int], int]()
    for other in range(1, services):
        for one in sorted({chance.choice(ends) for _ in range(1 + int(chance.expovariate(0.7)))}):
            weights[one, other] = 1 + int(chance.paretovariate(1.2) * 5)
            ends.append(one)
        ends.append(other)
    return _capped([1 + int(100 * chance.lognormvariate(0, 1)) for _ in range(services)], weights, machines)


def _capped(loads: list[int], weights: dict[tuple[int, int], int], machines: int) -> Problem:
    return Problem(loads, weights, machines, max(*loads, 12 * sum(loads) // (10 * machines)))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--services", type=int, choices=tuple(MACHINES))
    given = parser.parse_args()
    print("| graph | services | machines | crosses | at least | gap, % | processor time, s | seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for services in MACHINES if given.services is None else [given.services]:
        for draw in (even, skewed):
            for machines in MACHINES[services]:
                for seed in SEEDS[services]:
                    problem, limits = draw(seed, services, machines), SearchLimits(NODES, given.seconds)
                    took, began = time.process_time(), time.monotonic()
                    found = solve(problem, [fitting(problem, limits)], limits)
                    took, lasted = time.process_time() - took, time.monotonic() - began
                    gap = 100 * (1 - found.at_least / found.crossing)
                    figures = f"{found.crossing:,} | {found.at_least:,} | {gap:.1f} | {took:.1f} | {lasted:.1f}"
                    print(f"| {draw.__name__} | {services:,} | {machines} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
