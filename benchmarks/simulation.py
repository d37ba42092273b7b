"""How fast the kernel simulates calls, beside a SimPy model of the same path, in the same process.

    python -m benchmarks.simulation [--calls N] [--repeats R]
    python -m benchmarks.simulation --scale     # the kernel alone, null, 10^4 to 10^7 calls

Five cases charge the paper's costs for a null call:

- null: one client on one processor calls by LRPC;
- repeated: the same calls, made as programs make them that say them as data (`caller`);
- contended: four clients on four processors call by message passing. Each has an export of its own,
  so that SRC RPC's global lock is all they share;
- contended, repeated: the same calls, made as in "repeated";
- shared: four clients on four processors call by LRPC through one binding, so that they share its
  queue of A-stacks and that queue's lock.

Four contenders simulate each case. `kernel` is the real kernel with its stubs, on cost model
cvax-firefly without its memory bus, which would be shared as well. `simpy` is a SimPy model with
one timeout per step, and `simpy-coarse` one with a timeout for each stretch between two things that
clients share. `simpy-fewest` has as few events as give the same times: one for a null call alone
(see `simpy_models`). It moves no bytes, checks nothing and cannot be extended by a procedure.

Every run asserts that all contenders simulated the same: calls, linkages, steps and virtual time
(where clients contend, up to `LARGEST_DIFFERENCE`). Speed is never asserted. It is measured in
processor time of this process, so that other programs on the computer do not count.
"""

import argparse
import gc
import json
import platform
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from statistics import median
from time import process_time
from typing import Final

from benchmarks.simpy_models import Model, Stretches, fewest_model, lrpc_model, lrpc_paths, message_model, message_paths
from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import Transfer
from lrpc.domains.interface import Interface, leaf
from lrpc.domains.simulated.binding import bind
from lrpc.domains.simulated.stubs import ClientStub
from lrpc.kernel.peak import peak_bytes
from lrpc.kernel.simulated import engine
from lrpc.kernel.simulated.charges import Charges, Path
from lrpc.kernel.simulated.costs import STEPS, SWITCH, TLB_MISS, CostModel, load_cost_model
from lrpc.kernel.simulated.domain import ProtectionDomain
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.kernel.simulated.kernel import Kernel

COST_MODEL: Final = "cvax-firefly"
SIZES: Final = (10_000, 100_000, 1_000_000, 10_000_000)  # calls, for `--scale`
CONTENDERS: Final = ("kernel", "simpy", "simpy-coarse", "simpy-fewest")
# Of virtual times, as a part of the kernel's: models may pass a lock on in another order.
LARGEST_DIFFERENCE: Final = 0.03


class Nothing(Interface):
    """An interface with one procedure, which does nothing."""

    def null(self) -> None:
        """Do nothing."""


class NothingServer(Nothing):
    """A server of `Nothing`."""

    @leaf
    def null(self) -> None:
        """Do nothing."""


@dataclass(frozen=True)
class Case:
    """A path of a call, and how many processors and bindings it is called on."""

    name: str
    transfer: Transfer
    processors: int
    bindings: int
    null_ns: int  # virtual time of one call while nobody else calls
    paths: Callable[[Charges], list[list[Path]]]  # what a call charges, in stretches
    model: Model
    repeats: bool = False  # calls are made by the client's stub, one after another, not by a loop of Python's


@dataclass(frozen=True)
class MeasuredRun:
    """What one run did, in how much virtual time and in how many seconds of processor time."""

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


CASES: Final = (
    Case("null", "lrpc", 1, 1, 157_000, lrpc_paths, lrpc_model),
    Case("repeated", "lrpc", 1, 1, 157_000, lrpc_paths, lrpc_model, repeats=True),
    Case("contended", "message passing", 4, 4, 464_000, message_paths, message_model),
    Case("contended, repeated", "message passing", 4, 4, 464_000, message_paths, message_model, repeats=True),
    Case("shared", "lrpc", 4, 1, 157_000, lrpc_paths, lrpc_model),
)


# What the models charge, taken from the kernel's own paths


def stretches_of(case: Case, costs: CostModel, *, coarse: bool) -> Stretches:
    """Return the timeouts of one call, in ns.

    There is one per step, or one per stretch if `coarse`.
    """
    misses = iter(misses_of(costs))
    stretches = [_timeouts(paths, costs, misses) for paths in case.paths(Charges(costs))]
    return [[sum(stretch)] for stretch in stretches] if coarse else stretches


def _timeouts(paths: Sequence[Path], costs: CostModel, misses: Iterator[int]) -> list[int]:
    """Return the ns of each step of `paths`, misses added to the switch that they follow."""
    found: list[int] = []
    for step in (step for path in paths for step in path.steps):
        more = next(misses) * costs.ns[TLB_MISS] if step == SWITCH else 0
        found.append(costs.ns[step] + more)
    return found


def misses_of(costs: CostModel) -> tuple[int, int]:
    """Return how many misses follow each of the two switches of a call."""
    tlb = costs.file.tlb
    return tlb.on_call.kernel + tlb.on_call.domain, tlb.on_return.kernel + tlb.on_return.domain


def steps_of(case: Case, costs: CostModel) -> list[int]:
    """Return how often a call charges each step of the cost model, in the order of `STEPS`."""
    found = [0] * len(STEPS)
    for step in (step for paths in case.paths(Charges(costs)) for path in paths for step in path.steps):
        found[step] += 1
    found[TLB_MISS] = sum(misses_of(costs))
    return found


def yields_per_call(case: Case, stretches: Stretches) -> int:
    """Return how often a model's process yields to SimPy in one call."""
    from simpy import Environment

    (process,) = case.model(Environment(), stretches, 1, 1)
    return sum(1 for _ in process)


def fewest(case: Case) -> Case:
    """Return a case with the model that has the fewest events."""
    return replace(case, model=fewest_model)


# Runs


def timed(action: Callable[[], object]) -> float:
    """Return the seconds of processor time that `action` takes, with garbage collection off."""
    gc.collect()
    gc.disable()
    try:
        since = process_time()
        action()
        return process_time() - since
    finally:
        gc.enable()


def run_kernel(case: Case, costs: CostModel, calls: int) -> MeasuredRun:
    """Run a case on the real kernel, with `calls` calls per client.

    Assert that the kernel charged the steps that the models charge.
    """
    kernel = Kernel("simulation", costs, processors=case.processors)
    clients = [_add_client(kernel, case, number) for number in range(case.bindings)]
    for number in range(case.processors):
        _start(*clients[number % case.bindings], calls, repeats=case.repeats)
    seconds = timed(lambda: kernel.run(FOREVER))
    total = kernel.counts.cross_domain
    assert total == calls * case.processors, f"{case.name}: the kernel made {total} calls"
    assert not kernel.waiting(), f"{case.name}: {kernel.waiting()[0]} still waits"
    expected = [count * total for count in steps_of(case, costs)]
    assert kernel.charges.counts() == expected, f"{case.name}: the kernel charged other steps than the models"
    return MeasuredRun(total, kernel.counts.linkages_pushed, max(each.clock for each in kernel.processors), seconds)


def _add_client(kernel: Kernel, case: Case, number: int) -> tuple[ProtectionDomain, Callable[[], object]]:
    export = f"nothing{number}"
    Clerk().export(kernel.domain(f"server{number}"), Nothing, NothingServer(), export)
    client = kernel.domain(f"client{number}")
    return client, bind(client, Nothing, export, case.transfer).null


def _start(client: ProtectionDomain, null: Callable[[], object], calls: int, *, repeats: bool) -> None:
    def body() -> None:
        if repeats:
            assert isinstance(null, ClientStub)
            null.repeat((), calls)
            return
        for _ in range(calls):
            null()

    client.spawn(body)


def run_simpy(case: Case, stretches: Stretches, calls: int) -> MeasuredRun:
    """Run a case in a SimPy model, with `calls` calls per client."""
    from simpy import Environment

    env = Environment(initial_time=0)
    processes = [env.process(steps) for steps in case.model(env, stretches, case.processors, calls)]
    seconds = timed(env.run)
    assert all(process.processed for process in processes), f"{case.name}: a client still waits"
    return MeasuredRun(calls * case.processors, 0, round(env.now), seconds)


def runners(case: Case, costs: CostModel, calls: int) -> dict[str, Callable[[], MeasuredRun]]:
    """Return, by contender, a function that runs a case with `calls` calls per client."""
    fine, coarse = (stretches_of(case, costs, coarse=coarse) for coarse in (False, True))
    return {
        "kernel": lambda: run_kernel(case, costs, calls),
        "simpy": lambda: run_simpy(case, fine, calls),
        "simpy-coarse": lambda: run_simpy(case, coarse, calls),
        "simpy-fewest": lambda: run_simpy(fewest(case), coarse, calls),
    }


def check(case: Case, runs: dict[str, MeasuredRun]) -> None:
    """Assert that all contenders simulated the same."""
    kernel = runs["kernel"]
    assert kernel.linkages == (kernel.calls if case.transfer == "lrpc" else 0), f"{case.name}: linkages pushed"
    for name, run in runs.items():
        assert run.calls == kernel.calls, f"{case.name}: {name} made {run.calls} calls, not {kernel.calls}"
        if case.processors == 1:
            assert run.virtual_ns == run.calls * case.null_ns, f"{case.name}: {name} took {run.virtual_ns} ns"
        apart = abs(run.virtual_ns / kernel.virtual_ns - 1)
        assert apart <= LARGEST_DIFFERENCE, f"{case.name}: {name} is {apart:.1%} from the kernel's virtual time"


def measure(case: Case, costs: CostModel, calls: int, repeats: int) -> list[dict[str, MeasuredRun]]:
    """Return `repeats` rounds of a case, in each of which every contender ran once.

    One more round comes first, to warm up, and is not returned.
    """
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
        """Return the calls that a contender simulated per second, for every round."""
        return [runs[contender].calls_per_second for runs in self.rounds]

    def ratio(self, other: str) -> float:
        """Return how many times as fast as `other` the kernel was.

        It is the median of the rounds' ratios: what slows the computer down slows both sides of a
        round.
        """
        return median(runs["kernel"].calls_per_second / runs[other].calls_per_second for runs in self.rounds)

    def counts(self) -> dict[str, object]:
        """Return what one round did, which is the same in every round and on every computer."""
        runs = self.rounds[0]
        return {
            "calls": runs["kernel"].calls,
            "linkages_pushed": runs["kernel"].linkages,
            "virtual_ns": {name: run.virtual_ns for name, run in runs.items()},
            "yields_per_call": self.yields,
        }


def costs_without_bus() -> CostModel:
    """Return the cost model of all cases."""
    costs = load_cost_model(COST_MODEL)
    return replace(costs, file=costs.file.model_copy(update={"bus": None}))


def measure_all(calls: int, repeats: int) -> list[Result]:
    """Return the results of all cases, with `calls` calls over all clients of each run."""
    costs = costs_without_bus()
    results = []
    for case in CASES:
        yields = {
            "simpy": yields_per_call(case, stretches_of(case, costs, coarse=False)),
            "simpy-coarse": yields_per_call(case, stretches_of(case, costs, coarse=True)),
            "simpy-fewest": len(stretches_of(case, costs, coarse=True)) // 2 if case.processors > 1 else 1,
        }
        results.append(Result(case, measure(case, costs, calls, repeats), yields))
    return results


def table(results: Sequence[Result]) -> str:
    """Return the results as a table for people."""
    head = ("case", "contender", "calls/s", "least", "most", "kernel is", "yields/call", "virtual calls/s")
    form = "{:<19} {:<13} {:>9} {:>9} {:>9} {:>10} {:>12} {:>16}"
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
    """Return the results for a program.

    `ratios` are calls simulated per second, the kernel's over SimPy's.
    """
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
    """Measure null calls on the kernel alone, one size after another; print and return the results.

    These are processor time per call, and the most memory that this process has used so far.
    """
    costs = costs_without_bus()
    case = CASES[0]
    run_kernel(case, costs, sizes[0])  # to warm up
    found = []
    for calls in sizes:
        run = run_kernel(case, costs, calls)
        assert run.virtual_ns == calls * case.null_ns, f"{case.name}: {calls} calls took {run.virtual_ns} ns"
        us, megabytes = run.seconds / calls * 1e6, peak_bytes() / (1 << 20)
        print(f"{calls:>10,} calls: {us:.3f} us a call, at most {megabytes:.0f} MB")
        counts = {"calls": run.calls, "linkages_pushed": run.linkages, "virtual_ns": run.virtual_ns}
        found.append(counts | {"us_per_call": round(us, 3), "peak_mb": round(megabytes)})
    return {"benchmark": "simulation at scale", "sizes": found}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print a table and one line of JSON; return the exit code."""
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
