"""What a simulated cluster costs: its machines, its windows and its actors.

    python -m benchmarks.cluster [--only CASE] [--repeats R]

Every case runs on Ray actors, which exchange messages over gRPC. All but one leave machines on
their actors (`--stay` of `lrpc run`):

- machines: 1,000 machines against 10, with equal calls for each machine: wall time per call, and
  memory per machine and per actor;
- memory: an actor's memory at the end of runs of different lengths that log all events;
- actors: as many actors as there are processors against one, in turn, on mostly local calls, beside
  the speed-up that the run on one actor predicted. One cluster has workstations with servers. In
  the other, a ring, any machine may call the next at any time: windows are short there, and more
  actors do not help;
- clients: 100 clients on ten machines, each with one call outstanding, over a link of one
  millisecond: remote calls per second;
- waiting: one client that waits for each of its calls: how many rounds a call takes;
- gathered: the same with more calls, where one actor takes over both machines, beside one where
  they stay;
- hour: one hour of virtual time on 200 machines with twenty events per second each;
- day: five hours of nine workstations and their server, with little to do at any one time.

The results end with what the runs left behind: processes, sockets and files.

Every run asserts what must come out alike: calls, digests, messages. Wall time is never asserted.
"""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, Final

from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.on_ray.session import ray_session
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.kernel.compiled import in_words
from lrpc.kernel.documents import validate
from lrpc.workloads.programs.registry import REGISTRY
from lrpc.workloads.records.pace import predicted_speedup, synchronisation

ACTORS: Final = 2
HOUR_S: Final = 3600
Results = dict[str, object]


def cluster(tables: Mapping[str, object]) -> Cluster:
    """Return the cluster that these tables describe."""
    return describe(validate(ClusterTable, tables, "benchmark"), REGISTRY, "benchmark")


def ring(machines: int, rounds: int, local: int, remote: int, every_us: int = 0) -> Cluster:
    """Return machines in a ring, which call themselves and their neighbour.

    Each makes `local` calls of itself and `remote` calls of its neighbour per round. Before each
    call it waits for a random time with a mean of `every_us` virtual microseconds.
    """
    names = [f"m{number:05d}" for number in range(machines)]
    domains: dict[str, object] = {}
    for number, name in enumerate(names):
        neighbour = names[(number + 1) % machines]
        domains[f"server {name}"] = {"machine": name, "exports": {f"tests@{name}": {"server": "four tests"}}}
        calls = [null_calls("here", local)] + ([null_calls("there", remote)] if remote else [])
        imports = {"here": f"tests@{name}"} | ({"there": f"tests@{neighbour}"} if remote else {})
        thread = {"program": "caller", "parameters": {"calls": calls, "rounds": rounds, "every_us": every_us}}
        domains[f"client {name}"] = {"machine": name, "imports": imports, "threads": [thread]}
    return cluster({"name": "ring", "machines": {name: {} for name in names}, "domains": domains})


def workstations(stations: int, servers: int, rounds: int, local: int, every_us: int = 0) -> Cluster:
    """Return workstations that call themselves `local` times per round, and then a server once.

    Each workstation has one of the servers. It waits before each call as in `ring`.
    """
    places: dict[str, object] = {}
    domains: dict[str, object] = {}
    for number in range(servers):
        places[f"server{number}"] = {}
        domains[f"server{number}"] = {
            "machine": f"server{number}",
            "exports": {f"tests{number}": {"server": "four tests"}},
        }
    for number in range(stations):
        name = f"station{number:02d}"
        places[name] = {}
        domains[f"server {name}"] = {"machine": name, "exports": {f"tests@{name}": {"server": "four tests"}}}
        calls = [null_calls("here", local), null_calls("there", 1)]
        domains[f"client {name}"] = {
            "machine": name,
            "imports": {"here": f"tests@{name}", "there": f"tests{(number + number // servers) % servers}"},
            "threads": [{"program": "caller", "parameters": {"calls": calls, "rounds": rounds, "every_us": every_us}}],
        }
    return cluster({"name": "workstations", "machines": places, "domains": domains})


def clients(machines: int, threads: int, calls: int, delay_us: float) -> Cluster:
    """Return servers on half of the machines, and clients on the other half.

    `threads` clients make `calls` calls each, one at a time, over links of `delay_us`.
    """
    pairs = machines // 2
    places: dict[str, object] = {}
    domains: dict[str, object] = {}
    for number in range(pairs):
        like = {"processors": 8, "cost_model": "linux-python"}  # no network processor: it would be the limit
        places |= {f"c{number}": like, f"s{number}": like}
        thread = {"program": "caller", "count": threads // pairs, "parameters": {"calls": [null_calls("there", calls)]}}
        domains |= {
            f"server {number}": {"machine": f"s{number}", "exports": {f"tests{number}": {"server": "four tests"}}},
            f"client {number}": {
                "machine": f"c{number}",
                "imports": {"there": f"tests{number}"},
                "threads": [thread],
            },
        }
    links = {"delay_us": delay_us, "bandwidth_mbps": 1000.0}
    return cluster({"name": "clients", "links": links, "machines": places, "domains": domains})


def null_calls(to: str, times: int) -> dict[str, object]:
    """Return the table of a caller's Null calls of an import."""
    return {"to": to, "interface": "FourTests", "procedure": "null", "times": times}


def timed(described: Cluster, actors: int, *, gather: bool = False) -> tuple[Outcome, float]:
    """Run a cluster; return its outcome and the wall seconds it took, setting up included."""
    began = perf_counter()
    outcome = run_cluster(described, actors=actors, gather=gather)
    return outcome, perf_counter() - began


def counted(outcome: Outcome, name: str) -> int:
    """Return a count, summed over machines."""
    return sum(machine.counts[name] for machine in outcome.machines)


def case_machines(repeats: int) -> Results:
    """Compare 1,000 machines with 100 and 10."""
    sizes = (10, 100, 1000)
    found: dict[int, list[float]] = {machines: [] for machines in sizes}
    memory: dict[int, list[int]] = {}
    setup: dict[int, float] = {}
    for _ in range(repeats):
        for machines in sizes:
            outcome, wall_s = timed(ring(machines, 50, 40, 2), ACTORS)
            calls = counted(outcome, "cross_domain") + counted(outcome, "cross_machine")
            assert calls == machines * 50 * 42
            found[machines].append(outcome.progress.wall_ns / calls / 1000)
            memory[machines] = [station.memory_bytes for station in outcome.stations]
            setup[machines] = wall_s - outcome.progress.wall_ns / 1e9
    ratio = median(many / few for few, many in zip(found[10], found[1000], strict=True))
    grown = (sum(memory[1000]) - sum(memory[10])) / 990
    return {
        "us_per_call": {machines: round(median(one), 2) for machines, one in found.items()},
        "ratio": round(ratio, 3),
        "setup_s": {machines: round(one, 2) for machines, one in setup.items()},
        "memory_MiB_per_actor": {machines: [one >> 20 for one in each] for machines, each in memory.items()},
        "memory_KiB_per_machine": round(grown / 1024, 1),
    }


def case_memory(repeats: int) -> Results:
    """Compare an actor's memory after runs of different lengths that log all events on disk."""
    del repeats
    found = {}
    for rounds in (100, 400):
        with tempfile.TemporaryDirectory() as folder:
            outcome = run_cluster(ring(100, rounds, 40, 2), actors=ACTORS, events=Path(folder), gather=False)
            logged = sum(file.stat().st_size for file in Path(folder).iterdir())
        calls = counted(outcome, "cross_domain") + counted(outcome, "cross_machine")
        assert calls == 100 * rounds * 42
        found[calls] = {
            "log_MiB": logged >> 20,
            "memory_MiB_per_actor": [round(station.memory_bytes / 2**20, 1) for station in outcome.stations],
        }
    return {"by_calls": found}


def case_actors(repeats: int) -> Results:
    """Compare one actor with more, up to one on each processor, beside what one actor predicted."""
    return {
        "workstations": _more_actors(workstations(256, 64, 6, 500), repeats),  # one call in 501 is remote
        "ring": _more_actors(ring(8, 2, 4000, 1), repeats),
    }


def _more_actors(described: Cluster, repeats: int) -> Results:
    counts = [actors for actors in (1, 2, 4, 8, 16) if actors <= max(2, os.cpu_count() or 1)]
    rounds = [[timed(described, actors)[0] for actors in counts] for _ in range(repeats)]
    assert len({run.digest for runs in rounds for run in runs}) == 1
    walls = {actors: [runs[at].progress.wall_ns for runs in rounds] for at, actors in enumerate(counts)}
    predictions = [predicted_speedup(runs[0].progress) for runs in rounds]
    one = rounds[-1][0]
    local, remote = counted(one, "cross_domain"), counted(one, "cross_machine")
    return {
        "local_calls": local,
        "remote_calls": remote,
        "windows": one.progress.windows,
        "us_per_call": {actors: round(median(found) / (local + remote) / 1000, 3) for actors, found in walls.items()},
        "speedup": {
            actors: round(median(first / wall for first, wall in zip(walls[1], found, strict=True)), 3)
            for actors, found in walls.items()
        },
        "predicted_speedup": {
            actors: round(median(each[actors] for each in predictions), 3) for actors in predictions[0]
        },
    }


def case_clients(repeats: int) -> Results:
    """Measure a hundred clients with one call outstanding each."""
    described = clients(10, 100, 400, 1000.0)
    rates: dict[int, list[float]] = {1: [], 2: []}
    rounds: dict[int, float] = {}
    for _ in range(repeats):
        for actors, found in rates.items():
            outcome, _ = timed(described, actors)
            calls = counted(outcome, "cross_machine")
            assert calls == 100 * 400
            found.append(calls / (outcome.progress.wall_ns / 1e9))
            rounds[actors] = outcome.progress.rounds / calls
    return {
        "remote_calls_per_s": {actors: round(median(found)) for actors, found in rates.items()},
        "rounds_per_call": {actors: round(one, 3) for actors, one in rounds.items()},
    }


def case_waiting(repeats: int) -> Results:
    """Measure one client that waits for each of its calls."""
    described = clients(2, 1, 2000, 1000.0)
    outcomes = [timed(described, ACTORS)[0] for _ in range(repeats)]
    assert {counted(outcome, "cross_machine") for outcome in outcomes} == {2000}
    walls = [outcome.progress.wall_ns / 2000 / 1000 for outcome in outcomes]
    progress = outcomes[-1].progress
    return {"calls": 2000, "windows": progress.windows, "rounds": progress.rounds, "us_per_call": round(median(walls))}


def case_gathered(repeats: int) -> Results:
    """Compare a client that waits for each of its calls where machines may gather and where not."""
    described = clients(2, 1, 10_000, 1000.0)
    pairs = [[timed(described, ACTORS, gather=gather)[0] for gather in (False, True)] for _ in range(repeats)]
    assert len({outcome.digest for pair in pairs for outcome in pair}) == 1
    apart, gathered = ([outcome.progress for outcome in side] for side in zip(*pairs, strict=True))
    return {
        "calls": 10_000,
        "wall_s": {
            name: round(median(one.wall_ns for one in found) / 1e9, 2)
            for name, found in (("apart", apart), ("gathered", gathered))
        },
        "gathered_s": [round((one.gathered_ns or 0) / 1e9, 2) for one in gathered],
        "events_executed_again": [one.again for one in gathered],
    }


def case_hour(repeats: int) -> Results:
    """Simulate one hour of 200 machines with twenty events per second each."""
    each = HOUR_S * 20 // 4  # a local call is four events: two of the thread's, call and return
    del repeats
    return _at_length(ring(200, each // 20, 19, 1, every_us=200_000))


def case_day(repeats: int) -> Results:
    """Simulate five hours of nine workstations and their server.

    Each workstation calls every 0.45 s on average; one call in twenty is of the server.
    """
    del repeats
    return _at_length(workstations(9, 1, 2000, 19, every_us=450_000))


def _at_length(described: Cluster) -> Results:
    outcome, wall_s = timed(described, ACTORS)
    return {
        "virtual_s": round(max(machine.end_ns for machine in outcome.machines) / 1e9),
        "local_calls": counted(outcome, "cross_domain"),
        "remote_calls": counted(outcome, "cross_machine"),
        "wall_s": round(wall_s, 1),
        "synchronisation": synchronisation(outcome),
    }


def left_behind(before: Mapping[str, set[str]]) -> Mapping[str, list[str]]:
    """Return what exists now and did not exist `before`, by kind.

    Ray keeps up to three sockets in a process that has had sessions, however many those were.
    Folders may also be those of other runs at the same time.
    """
    return {kind: sorted(now - before[kind]) for kind, now in traces().items()}


def traces() -> dict[str, set[str]]:
    """Return what a run might leave behind: processes, sockets, folders, files in shared memory.

    Processes and sockets are those of this process alone.
    """
    this = os.getpid()
    children: set[str] = set()
    sockets: set[str] = set()
    for task in Path(f"/proc/{this}/task").glob("*/children"):
        children |= set(task.read_text().split())
    for file in Path(f"/proc/{this}/fd").iterdir():
        with suppress(FileNotFoundError):  # the descriptor of this listing itself
            sockets |= {str(name) for name in (file.readlink(),) if str(name).startswith("socket:")}
    folders = {str(one) for one in Path(tempfile.gettempdir()).glob("lrpc-r*") if one.stat().st_uid == os.getuid()}
    shared = {str(one) for one in Path("/dev/shm").glob("*")}
    return {"processes": children, "sockets": sockets, "folders": folders, "shared_memory": shared}


CASES: Final[Mapping[str, Callable[[int], Results]]] = {
    "machines": case_machines,
    "memory": case_memory,
    "actors": case_actors,
    "clients": case_clients,
    "waiting": case_waiting,
    "gathered": case_gathered,
    "hour": case_hour,
    "day": case_day,
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the cases and print their results as JSON."""
    parser = argparse.ArgumentParser(description="What a simulated cluster costs.")
    parser.add_argument("--only", action="append", choices=list(CASES), help="only this case, repeatable")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args(arguments)
    report: dict[str, Any] = {
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "kernel": in_words(),
        "repeats": options.repeats,
    }
    before = traces()
    with ray_session(None, ACTORS):
        for name in options.only or CASES:
            print(f"{name} …", file=sys.stderr)
            load = os.getloadavg()[0]
            report[name] = CASES[name](options.repeats) | {"load": [round(load, 1), round(os.getloadavg()[0], 1)]}
    report["left_behind"] = left_behind(before)
    json.dump(report, sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()
