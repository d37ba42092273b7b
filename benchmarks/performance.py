"""Remakes the tables of docs/performance.md, from runs on this computer.

    python -m benchmarks.performance [--quick]

Each table stands in the page between two comments with its name; what stands there is replaced, and
nothing else. All figures are processor time of one process. Runs whose memory is told have a
process to themselves.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from benchmarks import simulation, traces
from benchmarks.cluster import ring
from benchmarks.peers import __main__ as peers
from lrpc.cluster.group import Group
from lrpc.cluster.synchronisation import InOrder
from lrpc.kernel.peak import peak_bytes
from lrpc.workloads.traces.read import read_trace

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "performance.md"
NAMES: Final = {"simpy": "SimPy", "simgrid": "SimGrid", "ns3": "ns-3", "salabim": "salabim"}
MACHINES: Final = (10, 100, 1_000, 10_000)
SPANS: Final = (1_000, 10_000, 100_000)
ROUNDS: Final = 10  # of each machine
OWN: Final = 10  # calls of each machine of its own server, for each of its neighbour's


# The columns of what grows, each with its digits after the point, in the order of what is measured.
HEADS: Final = {
    "calls": {"µs a call": 2, "memory at most, MB": 0},
    "machines": {"described and set up, s": 2, "µs a call": 1, "memory at most, MB": 0},
    "spans": {"csv.reader and a dictionary, µs a span": 1, "read, µs": 1, "replayed, µs": 1},
}


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table of Markdown, numbers to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def beside_peers(calls: int, repeats: int) -> str:
    """Return what a call takes here, and how many times as long in each peer."""
    found, missing = peers.measure_all(calls, repeats)
    for line in missing:
        print(f"left out: {line}", file=sys.stderr)
    names = [name for name in NAMES if any(name in rounds.us for rounds in found)]
    rows = []
    for rounds in found:
        ours = f"{median(rounds.us[peers.KERNEL]):.2f}"
        rows.append([rounds.case, ours, *(f"{rounds.ratio(name):.2f}" if name in rounds.us else "-" for name in names)])
    return markdown(["case", "lrpc, µs a call", *(f"{NAMES[name]}, times as long" for name in names)], rows)


def grown(what: str, sizes: Sequence[int]) -> str:
    """Return what runs of `what` take at each size, as a table."""
    heads = HEADS[what]
    rows = []
    for size in sizes:
        told = zip(_apart(what, size), heads.values(), strict=True)
        rows.append([f"{size:,}", *(f"{value:,.{digits}f}" for value, digits in told)])
    return markdown([what, *heads], rows)


def _apart(what: str, size: int) -> list[float]:
    """Return what a process of its own measured."""
    command = [sys.executable, "-m", "benchmarks.performance", "--one", what, str(size)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=PAGE.parents[1])
    found: list[float] = json.loads(ran.stdout.splitlines()[-1])
    return found


def _megabytes() -> float:
    return peak_bytes() / (1 << 20)


def _calls(calls: int) -> list[float]:
    run = simulation.run_kernel(simulation.CASES[0], simulation.costs_without_bus(), calls)
    return [run.seconds / calls * 1e6, _megabytes()]


def _machines(machines: int) -> list[float]:
    began = time.process_time()
    group = Group(ring(machines, ROUNDS, OWN, 1), list(range(machines)), 0, None)
    is_set_up = time.process_time()
    InOrder(group, lambda progress: None).run()
    group.finish()
    took_s = time.process_time() - is_set_up
    return [is_set_up - began, took_s / (machines * ROUNDS * (OWN + 1)) * 1e6, _megabytes()]


def _spans(spans: int) -> list[float]:
    def us(work: Callable[[], object]) -> float:
        began = time.process_time()
        work()
        return (time.process_time() - began) / spans * 1e6

    with TemporaryDirectory() as folder:
        path = Path(folder, "trace.csv")
        traces.write(path, spans)
        least, reading = us(lambda: traces.least(path)), us(lambda: read_trace(path))
        trace = read_trace(path)
    return [least, reading, us(lambda: traces.replay(trace))]


ONE: Final = {"calls": _calls, "machines": _machines, "spans": _spans}
WARM_UP: Final = {"calls": 1_000, "machines": 2, "spans": 210}


def replaced(text: str, tables: dict[str, str]) -> str:
    """Return a page with each table in its place. Raises `KeyError` for one that has none."""
    for name, table in tables.items():
        begin, end = f"<!-- table: {name} -->", f"<!-- end: {name} -->"
        if begin not in text or end not in text:
            raise KeyError(f"{PAGE.name} has no place for the table {name}")
        text = re.sub(
            f"{re.escape(begin)}.*?{re.escape(end)}",
            lambda _, put=f"{begin}\n\n{table}\n\n{end}": put,  # type: ignore[misc]
            text,
            flags=re.DOTALL,
        )
    return text


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all, and put the tables into the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.performance", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, printed and not put into the page")
    parser.add_argument("--one", nargs=2, metavar=("WHAT", "SIZE"), help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        what, size = options.one
        ONE[what](WARM_UP[what])
        print(json.dumps(ONE[what](int(size))))
        return
    last = -1 if options.quick else None
    tables = {
        "peers": beside_peers(4_000 if options.quick else 40_000, 3 if options.quick else 9),
        "calls": grown("calls", simulation.SIZES[:last]),
        "machines": grown("machines", MACHINES[:last]),
        "spans": grown("spans", SPANS[:last]),
    }
    for table in tables.values():
        print(f"{table}\n")
    if not options.quick:
        PAGE.write_text(replaced(PAGE.read_text(encoding="utf-8"), tables), encoding="utf-8")


if __name__ == "__main__":
    main()
