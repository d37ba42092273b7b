"""How long calls take to simulate here and in other simulators, in the same rounds.

    python -m benchmarks.peers [--calls N] [--repeats R]

Eight cases: those of `benchmarks.simulation`, ten clients that call across machines as in
`benchmarks.remote`, the ring of `benchmarks.rings` and the trace of `benchmarks.traces`. Each
peer's model has the fewest events that give the kernel's virtual times: it moves no bytes, checks
nothing and logs nothing. SimPy and salabim run in this process. SimGrid and ns-3 run as programs
built from the sources beside this module, and are left out where they are not installed; SimGrid's
messages are its mailboxes', and those of ns-3 are UDP packets. A peer without a model of a case is
left out of it.

Every round asserts that all ended at the same virtual time (where clients contend, up to
`LARGEST_DIFFERENCE`; of a trace, that its first spans took as long, up to `OF_TRACES`). What is
compared is processor time of the run, without its set-up; across machines, the kernel's has its
cluster's set-up in it, and of a trace, both have its steps'.
"""

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import remote, rings, simulation, traces
from benchmarks.peers import salabim_models
from benchmarks.peers.built import Built, NotBuilt
from benchmarks.peers.peer import Finished
from lrpc.kernel.compiled import in_words
from lrpc.kernel.simulated.costs import load_cost_model
from lrpc.workloads.traces.read import read_trace
from lrpc.workloads.traces.trace import Trace

KERNEL: Final = "lrpc"
REMOTE: Final = "across machines"
RING: Final = "ring"
TRACE: Final = "trace"
# Of virtual times, as a part of ours: some peers count in seconds, and of a trace the model leaves
# out that processors switch between pods.
SAME: Final = 1e-9
OF_TRACES: Final = 1e-3
Runner = Callable[[], Finished]


@dataclass(frozen=True)
class Rounds:
    """The rounds of one case: what each contender took, in us of processor time a call."""

    case: str
    calls: int
    us: dict[str, list[float]]

    def ratio(self, peer: str) -> float:
        """Return how many times as fast as a peer the kernel was: the median over rounds."""
        return median(theirs / ours for ours, theirs in zip(self.us[KERNEL], self.us[peer], strict=True))


def built(folder: Path) -> tuple[list[Built], list[str]]:
    """Return the peers that can be built here, in a folder, and why others cannot."""
    found, missing = list[Built](), list[str]()
    for name, package in (("simgrid", "libsimgrid-dev"), ("ns3", "libns3-dev")):
        try:
            found.append(Built(name, package, folder))
        except NotBuilt as error:
            missing.append(str(error))
    return found, missing


def locally(case: simulation.Case, calls: int, programs: Sequence[Built]) -> dict[str, Runner]:
    """Return what runs a case of one machine, by contender; each client makes `calls` calls."""
    costs = simulation.costs_without_bus()
    stretches = [stretch[0] for stretch in simulation.stretches_of(case, costs, coarse=True)]
    ours = simulation.runners(case, costs, calls)

    def run(contender: str) -> Runner:
        def finish() -> Finished:
            found = ours[contender]()
            return Finished(found.virtual_ns, found.seconds)

        return finish

    return {
        KERNEL: run("kernel"),
        "simpy": run("simpy-fewest"),
        **_others(lambda peer: peer.calls(case.processors, calls, stretches), programs),
        **_salabim(lambda: salabim_models.calls(case.processors, calls, stretches)),
    }


def across(calls: int, programs: Sequence[Built]) -> dict[str, Runner]:
    """Return what runs clients of another machine, by contender; each makes `calls` calls."""
    exchange = remote.exchange_of(load_cost_model("linux-python"))

    def run(runner: Callable[[int], remote.RemoteRun]) -> Runner:
        def finish() -> Finished:
            found = runner(calls)
            return Finished(found.end_ns, found.seconds)

        return finish

    return {
        KERNEL: run(remote.run_lrpc),
        "simpy": run(remote.run_fewest),
        **_others(lambda peer: peer.remote(remote.CLIENTS, calls, exchange), programs),
        **_salabim(lambda: salabim_models.remote(remote.CLIENTS, calls, exchange)),
    }


def around(rounds: int, programs: Sequence[Built]) -> dict[str, Runner]:
    """Return what runs a ring of machines so many rounds, by contender."""
    costs = load_cost_model(rings.COST_MODEL)
    own, exchange = [rings.own_ns(costs)] * rings.OWN, remote.exchange_of(costs)
    return {
        KERNEL: lambda: rings.run_lrpc(rounds),
        "simpy": lambda: rings.run_fewest(rounds),
        **_others(
            lambda peer: peer.ring(rings.MACHINES, rounds, own, exchange),
            [peer for peer in programs if peer.name == "simgrid"],
        ),
        **_salabim(lambda: salabim_models.ring(rings.MACHINES, rounds, own, exchange)),
    }


def replayed(path: Path) -> dict[str, Runner]:
    """Return what replays the trace of a file, by contender."""
    trace = read_trace(path)

    def run(replay: Callable[[Trace], int]) -> Runner:
        def finish() -> Finished:
            took: list[int] = []
            seconds = simulation.timed(lambda: took.append(replay(trace)))
            return Finished(took[0], seconds)

        return finish

    return {KERNEL: run(traces.replay), "simpy": run(traces.replay_fewest)}


def _others(run: Callable[[Built], Finished], programs: Sequence[Built]) -> dict[str, Runner]:
    def of(peer: Built) -> Runner:
        return lambda: run(peer)

    return {peer.name: of(peer) for peer in programs}


def _salabim(run: Runner) -> dict[str, Runner]:
    return {"salabim": run} if find_spec("salabim") is not None else {}


def measure(case: str, runners: dict[str, Runner], calls: int, repeats: int, apart: float) -> Rounds:
    """Return `repeats` rounds of a case of `calls` calls, whose ends may be `apart` from ours."""
    us: dict[str, list[float]] = {name: [] for name in runners}
    for number in range(1 + repeats):  # the first warms up
        end_ns = 0
        for name, run in runners.items():
            found = run()
            end_ns = end_ns or found.end_ns
            assert abs(found.end_ns / end_ns - 1) <= apart, f"{case}: {name} ends at {found.end_ns}, not at {end_ns} ns"
            if number:
                us[name].append(found.seconds / calls * 1e6)
    return Rounds(case, calls, us)


def measure_all(calls: int, repeats: int) -> tuple[list[Rounds], list[str]]:
    """Return the rounds of all cases, each of `calls` calls in all, and which peers are missing."""
    with TemporaryDirectory() as folder:
        programs, missing = built(Path(folder))
        found = []
        for case in simulation.CASES:
            each = max(1, calls // case.processors)
            apart = SAME if case.processors == 1 else simulation.LARGEST_DIFFERENCE
            found.append(measure(case.name, locally(case, each, programs), each * case.processors, repeats, apart))
        each = max(1, calls // remote.CLIENTS)
        found.append(measure(REMOTE, across(each, programs), each * remote.CLIENTS, repeats, SAME))
        rounds = max(1, calls // rings.calls_of(1))
        found.append(measure(RING, around(rounds, programs), rings.calls_of(rounds), repeats, SAME))
        path = Path(folder, "trace.csv")
        traces.write(path, calls)
        found.append(measure(TRACE, replayed(path), calls, repeats, OF_TRACES))
    return found, missing if find_spec("salabim") else [*missing, "salabim: install the extra bench"]


def table(found: Sequence[Rounds]) -> str:
    """Return the medians, in us of processor time a call, and how many times as fast we were."""
    lines = []
    for rounds in found:
        lines.append(f"{rounds.case}: {rounds.calls:,} {'spans' if rounds.case == TRACE else 'calls'}")
        for name, us in rounds.us.items():
            ratio = "" if name == KERNEL else f"{rounds.ratio(name):6.2f} x"
            lines.append(f"  {name:<10} {median(us):8.2f} µs {ratio}".rstrip())
    return "\n".join(lines)


def summary(found: Sequence[Rounds]) -> dict[str, object]:
    """Return the results for a program; `ratios` are how many times as fast the kernel was."""
    return {
        "benchmark": "peers",
        "kernel": in_words(),
        "us_per_call": {
            rounds.case: {name: round(median(us), 3) for name, us in rounds.us.items()} for rounds in found
        },
        "ratios": {
            rounds.case: {name: round(rounds.ratio(name), 3) for name in rounds.us if name != KERNEL}
            for rounds in found
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table and one line of JSON; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--calls", type=int, default=40_000, help="calls of each run, over all clients")
    parser.add_argument("--repeats", type=int, default=5, help="measured runs of each contender")
    options = parser.parse_args(arguments)
    found, missing = measure_all(options.calls, options.repeats)
    print(table(found))
    for line in missing:
        print(f"left out: {line}", file=sys.stderr)
    print(json.dumps(summary(found)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
