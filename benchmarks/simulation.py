"""How fast the kernel simulates calls, beside a SimPy model of the same path, in the same process.

    python -m benchmarks.simulation [--calls N] [--repeats R]
    python -m benchmarks.simulation --scale     # the kernel alone, null, from 10,000 to 10,000,000 calls

Three cases, which charge the paper's costs for a null call:

- null: one client on one processor calls by LRPC;
- contended: four clients on four processors call by message passing, each with an export of its own, so that SRC
  RPC's one global lock is all they share;
- shared: four clients on four processors call by LRPC through one binding, whose A-stacks are one queue with a lock.

`kernel` is the real kernel with its stubs, cost model cvax-firefly without its memory bus, which would be something
else to share. `simpy` charges what the kernel charges, in the same order, as one timeout per step; a switch's TLB
misses are part of the switch. It takes an A-stack from a `simpy.Store` and puts it back, and holds a `simpy.Resource`
where the kernel holds a lock that others want. It moves no bytes, checks nothing and logs nothing, and one process is
client and server at once: less work than the kernel does. `simpy-coarse` merges the timeouts between two such points
into one: the least that a model of this path can do and keep them.

What must come out alike is asserted on every run: calls, linkages, steps and virtual time. How long it took never is.
That is the processor time of this process, so that what else a computer does meanwhile is not counted.
"""

import argparse
import gc
import json
import platform
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from resource import RUSAGE_SELF, getrusage
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Final

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface
from lrpc.domains.simulated.binding import bind
from lrpc.kernel.descriptors import SIMULTANEOUS_CALLS
from lrpc.kernel.simulated import engine
from lrpc.kernel.simulated.charges import Charges, Path
from lrpc.kernel.simulated.costs import STEPS, SWITCH, TLB_MISS, CostModel, load_cost_model
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel

if TYPE_CHECKING:
    import simpy

COST_MODEL: Final = "cvax-firefly"
SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)  # calls, of `--scale`
CONTENDERS: Final = ("kernel", "simpy", "simpy-coarse")
MOST_APART: Final = 0.03  # of virtual throughput: the models may hand the lock on in another order

Stretches = Sequence[Sequence[int]]  # ns of timeouts, cut where the path meets what others share
SimpySteps = Generator["simpy.Event", object, None]
Model = Callable[["simpy.Environment", Stretches, int, int], list[SimpySteps]]


class Nothing(Interface):
    """What is called."""

    def null(self) -> None:
        """Do nothing."""


class SimpyServer(Nothing):
    """Who is called."""

    def null(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Case:
    """A path, and on how many processors it is called."""

    name: str
    transfer: Transfer
    processors: int
    bindings: int
    null_ns: int  # of virtual time that one call takes when nobody else calls
    paths: Callable[[Charges], list[list[Path]]]  # what a call charges, in order, cut as `Stretches` are
    model: Model


@dataclass(frozen=True)
class MeasuredRun:
    """One measured run: what was done, in how much virtual and processor time."""

    calls: int
    linkages: int
    virtual_ns: int
    seconds: float

    @property
    def calls_per_second(self) -> float:
        """Return simulated calls per second of processor time."""
        return self.calls / self.seconds

    @property
    def virtual_calls_per_second(self) -> float:
        """Return calls per second of virtual time."""
        return self.calls / self.virtual_ns * 1e9


# The SimPy models


def lrpc_paths(charges: Charges) -> list[list[Path]]:
    """Return what an LRPC Null charges: before the A-stack queue, under its lock, with an A-stack, under the lock."""
    held = [charges.call, charges.switch, charges.server_stub, charges.leave, charges.switch]
    return [[charges.client_stub], [charges.astack_queue], held, [charges.astack_queue]]


def lrpc_model(env: "simpy.Environment", stretches: Stretches, clients: int, calls: int) -> list[SimpySteps]:
    """Return one process for each client, which share the A-stacks of one binding, and their lock where they meet."""
    from simpy import Resource, Store

    astacks = Store(env)
    astacks.items.extend(range(SIMULTANEOUS_CALLS))
    if clients == 1:
        return [_lrpc_client(env, astacks, stretches, calls)]
    lock = Resource(env)
    return [_lrpc_client_among_others(env, astacks, lock, stretches, calls) for _ in range(clients)]


def _lrpc_client(env: "simpy.Environment", astacks: "simpy.Store", stretches: Stretches, calls: int) -> SimpySteps:
    before, queue, held, unqueue = stretches
    for _ in range(calls):
        for ns in (*before, *queue):
            yield env.timeout(ns)
        astack = yield astacks.get()
        for ns in (*held, *unqueue):
            yield env.timeout(ns)
        yield astacks.put(astack)


def _lrpc_client_among_others(
    env: "simpy.Environment", astacks: "simpy.Store", lock: "simpy.Resource", stretches: Stretches, calls: int
) -> SimpySteps:
    before, queue, held, unqueue = stretches
    for _ in range(calls):
        for ns in before:
            yield env.timeout(ns)
        with lock.request() as mine:
            yield mine
            for ns in queue:
                yield env.timeout(ns)
            astack = yield astacks.get()
        for ns in held:
            yield env.timeout(ns)
        with lock.request() as mine:
            yield mine
            for ns in unqueue:
                yield env.timeout(ns)
            yield astacks.put(astack)


def message_paths(charges: Charges) -> list[list[Path]]:
    """Return what a Null by message charges: outside and under the lock, in turn, and the switch that is left."""
    there = [charges.message_client_stub, charges.trap]
    back = [charges.switch, charges.message_dispatch, charges.trap]
    return [there, [charges.message_transfer], back, [charges.message_transfer], [charges.switch]]


def message_model(env: "simpy.Environment", stretches: Stretches, clients: int, calls: int) -> list[SimpySteps]:
    """Return one process for each client, which share one lock."""
    from simpy import Resource

    lock = Resource(env)
    return [_message_client(env, lock, stretches, calls) for _ in range(clients)]


def _message_client(env: "simpy.Environment", lock: "simpy.Resource", stretches: Stretches, calls: int) -> SimpySteps:
    there, sent, back, replied, rest = stretches
    legs = ((there, sent), (back, replied))
    for _ in range(calls):
        for outside, under_lock in legs:
            for ns in outside:
                yield env.timeout(ns)
            with lock.request() as held:
                yield held
                for ns in under_lock:
                    yield env.timeout(ns)
        for ns in rest:
            yield env.timeout(ns)


CASES: Final = (
    Case("null", "lrpc", 1, 1, 157_000, lrpc_paths, lrpc_model),
    Case("contended", "message passing", 4, 4, 464_000, message_paths, message_model),
    Case("shared", "lrpc", 4, 1, 157_000, lrpc_paths, lrpc_model),
)


# What the models charge, read off the kernel


def stretches_of(case: Case, costs: CostModel, *, coarse: bool) -> Stretches:
    """Return the timeouts of one call: one per step, or one per stretch where `coarse`."""
    misses = iter(misses_of(costs))
    stretches = [_timeouts(paths, costs, misses) for paths in case.paths(Charges(costs))]
    return [[sum(stretch)] for stretch in stretches] if coarse else stretches


def _timeouts(paths: Sequence[Path], costs: CostModel, misses: Iterator[int]) -> list[int]:
    """Return the ns of each step of `paths`; the misses after a switch are part of it."""
    found: list[int] = []
    for step in (step for path in paths for step in path.steps):
        more = next(misses) * costs.ns[TLB_MISS] if step == SWITCH else 0
        found.append(costs.ns[step] + more)
    return found


def misses_of(costs: CostModel) -> tuple[int, int]:
    """Return the misses after the two switches of a call."""
    tlb = costs.file.tlb
    return tlb.on_call.kernel + tlb.on_call.domain, tlb.on_return.kernel + tlb.on_return.domain


def steps_of(case: Case, costs: CostModel) -> list[int]:
    """Return how often a call charges each step, by step number, as `paths` have it."""
    found = [0] * len(STEPS)
    for step in (step for paths in case.paths(Charges(costs)) for path in paths for step in path.steps):
        found[step] += 1
    found[TLB_MISS] = sum(misses_of(costs))
    return found


def yields_per_call(case: Case, stretches: Stretches) -> int:
    """Return how often a model's process yields in one call."""
    from simpy import Environment

    (process,) = case.model(Environment(), stretches, 1, 1)
    return sum(1 for _ in process)


# Runs


def timed(action: Callable[[], object]) -> float:
    """Return the seconds of processor time that `action` takes, without collections of garbage in between."""
    gc.collect()
    gc.disable()
    try:
        since = process_time()
        action()
        return process_time() - since
    finally:
        gc.enable()


def run_kernel(case: Case, costs: CostModel, calls: int) -> MeasuredRun:
    """Let every client make `calls` calls on the real kernel; assert that they charged what the models charge."""
    kernel = Kernel("simulation", costs, processors=case.processors)
    clients = [_add_client(kernel, case, number) for number in range(case.bindings)]
    for number in range(case.processors):
        _start(*clients[number % case.bindings], calls)
    seconds = timed(lambda: kernel.run(FOREVER))
    total = kernel.counts.cross_domain
    assert total == calls * case.processors, f"{case.name}: the kernel made {total} calls"
    assert not kernel.waiting(), f"{case.name}: {kernel.waiting()[0]} still waits"
    expected = [count * total for count in steps_of(case, costs)]
    assert kernel.charges.counts() == expected, f"{case.name}: the kernel charged other steps than the models"
    return MeasuredRun(total, kernel.counts.linkages_pushed, max(each.clock for each in kernel.processors), seconds)


def _add_client(kernel: Kernel, case: Case, number: int) -> tuple[ProtectionDomain, Callable[[], None]]:
    export = f"nothing{number}"
    Clerk().export(kernel.domain(f"server{number}"), Nothing, SimpyServer(), export)
    client = kernel.domain(f"client{number}")
    return client, bind(client, Nothing, export, case.transfer).null


def _start(client: ProtectionDomain, null: Callable[[], None], calls: int) -> None:
    def body() -> None:
        for _ in range(calls):
            null()

    client.spawn(body)


def run_simpy(case: Case, stretches: Stretches, calls: int) -> MeasuredRun:
    """Let every client make `calls` calls in a SimPy model."""
    from simpy import Environment

    env = Environment(initial_time=0)
    processes = [env.process(steps) for steps in case.model(env, stretches, case.processors, calls)]
    seconds = timed(env.run)
    assert all(process.processed for process in processes), f"{case.name}: a client still waits"
    return MeasuredRun(calls * case.processors, 0, round(env.now), seconds)


def runners(case: Case, costs: CostModel, calls: int) -> dict[str, Callable[[], MeasuredRun]]:
    """Return how each contender simulates a case."""
    fine, coarse = (stretches_of(case, costs, coarse=coarse) for coarse in (False, True))
    return {
        "kernel": lambda: run_kernel(case, costs, calls),
        "simpy": lambda: run_simpy(case, fine, calls),
        "simpy-coarse": lambda: run_simpy(case, coarse, calls),
    }


def check(case: Case, runs: dict[str, MeasuredRun]) -> None:
    """Assert that the contenders simulated the same."""
    kernel = runs["kernel"]
    assert kernel.linkages == (kernel.calls if case.transfer == "lrpc" else 0), f"{case.name}: linkages pushed"
    for name, run in runs.items():
        assert run.calls == kernel.calls, f"{case.name}: {name} made {run.calls} calls, not {kernel.calls}"
        if case.processors == 1:
            assert run.virtual_ns == run.calls * case.null_ns, f"{case.name}: {name} took {run.virtual_ns} ns"
        apart = abs(run.virtual_ns / kernel.virtual_ns - 1)
        assert apart <= MOST_APART, f"{case.name}: {name} is {apart:.1%} from the kernel's virtual time"


def measure(case: Case, costs: CostModel, calls: int, repeats: int) -> list[dict[str, MeasuredRun]]:
    """Return `repeats` rounds, in each of which every contender ran once, after one round that warms up."""
    run_by_name = runners(case, costs, max(1, calls // case.processors))
    rounds = []
    for _ in range(1 + repeats):
        rounds.append({name: run() for name, run in run_by_name.items()})
        check(case, rounds[-1])
    return rounds[1:]


# Reports


@dataclass(frozen=True)
class Result:
    """All rounds of a case, and how often each model yields in a call."""

    case: Case
    rounds: list[dict[str, MeasuredRun]]
    yields: dict[str, int]

    def speeds(self, contender: str) -> list[float]:
        """Return simulated calls per second of every round."""
        return [runs[contender].calls_per_second for runs in self.rounds]

    def ratio(self, other: str) -> float:
        """Return how many times as fast as `other` the kernel was: the median of the rounds' own ratios."""
        return median(runs["kernel"].calls_per_second / runs[other].calls_per_second for runs in self.rounds)

    def counts(self) -> dict[str, object]:
        """Return what one round did: the same in every round and on every computer."""
        runs = self.rounds[0]
        return {
            "calls": runs["kernel"].calls,
            "linkages_pushed": runs["kernel"].linkages,
            "virtual_ns": {name: run.virtual_ns for name, run in runs.items()},
            "yields_per_call": self.yields,
        }


def costs_without_bus() -> CostModel:
    """Return what the cases charge."""
    costs = load_cost_model(COST_MODEL)
    return replace(costs, file=costs.file.model_copy(update={"bus": None}))


def measure_all(calls: int, repeats: int) -> list[Result]:
    """Measure every case."""
    costs = costs_without_bus()
    results = []
    for case in CASES:
        yields = {
            "simpy": yields_per_call(case, stretches_of(case, costs, coarse=False)),
            "simpy-coarse": yields_per_call(case, stretches_of(case, costs, coarse=True)),
        }
        results.append(Result(case, measure(case, costs, calls, repeats), yields))
    return results


def table(results: Sequence[Result]) -> str:
    """Return the figures for a reader."""
    head = ("case", "contender", "calls/s", "least", "most", "kernel is", "yields/call", "virtual calls/s")
    form = "{:<10} {:<13} {:>9} {:>9} {:>9} {:>10} {:>12} {:>16}"
    lines = [form.format(*head)]
    for result in results:
        for name in CONTENDERS:
            speeds = result.speeds(name)
            of_kernel = name == "kernel"
            lines.append(
                form.format(
                    result.case.name,
                    name,
                    *(f"{speed:,.0f}" for speed in (median(speeds), min(speeds), max(speeds))),
                    "" if of_kernel else f"{result.ratio(name):.2f} x",
                    "" if of_kernel else result.yields[name],
                    f"{result.rounds[0][name].virtual_calls_per_second:,.1f}",
                )
            )
    return "\n".join(lines)


def summary(results: Sequence[Result]) -> dict[str, object]:
    """Return the figures for a program; `ratios` are of simulated calls per second, kernel over SimPy."""
    return {
        "benchmark": "simulation",
        "ratios": {
            result.case.name + other.removeprefix("simpy"): round(result.ratio(other), 3)
            for result in results
            for other in CONTENDERS[1:]
        },
        "counts": {result.case.name: result.counts() for result in results},
        "medians": {
            result.case.name: {name: round(median(result.speeds(name))) for name in CONTENDERS} for result in results
        },
        "interpreted": engine.__file__.endswith(".py"),
        "python": platform.python_version(),
    }


def scale(sizes: Sequence[int]) -> dict[str, object]:
    """Make so many null calls on the kernel alone, size after size; print and return what each came to.

    That is processor time per call, and the most memory that this process has had until then.
    """
    costs = costs_without_bus()
    case = CASES[0]
    run_kernel(case, costs, sizes[0])  # warms up
    found = []
    for calls in sizes:
        run = run_kernel(case, costs, calls)
        assert run.virtual_ns == calls * case.null_ns, f"{case.name}: {calls} calls took {run.virtual_ns} ns"
        us, megabytes = run.seconds / calls * 1e6, getrusage(RUSAGE_SELF).ru_maxrss / 1024
        print(f"{calls:>10,} calls: {us:.3f} us a call, at most {megabytes:.0f} MB")
        counts = {"calls": run.calls, "linkages_pushed": run.linkages, "virtual_ns": run.virtual_ns}
        found.append(counts | {"us_per_call": round(us, 3), "peak_mb": round(megabytes)})
    return {"benchmark": "simulation at scale", "sizes": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table and one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--calls", type=_positive, default=20_000, help="calls of each run, over all clients")
    parser.add_argument("--repeats", type=_positive, default=7, help="measured runs of each contender")
    parser.add_argument("--scale", action="store_true", help="measure the kernel alone at 10^4 to 10^7 calls")
    options = parser.parse_args(arguments)
    if options.scale:
        print(json.dumps(scale(SIZES)))
        return 0
    if find_spec("simpy") is None:
        print("SimPy is missing; install the test extra: python -m pip install -e '.[test]'", file=sys.stderr)
        return 2
    results = measure_all(options.calls, options.repeats)
    print(table(results))
    print(json.dumps(summary(results)))
    return 0


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} is not a whole number from 1")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
