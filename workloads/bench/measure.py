"""Measures all peers in one run, interleaved, so that what disturbs one disturbs the others too.

A run is rounds; in each, every peer makes a share of its calls of every test, back to back and
paced, and the floor is measured beside them: two C loops that hand a word to and fro, which is the
least that any call can take here. A round whose floor was disturbed is repeated.
"""

import contextlib
import mmap
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final

from lrpc.kernel.errors import RunFailed
from lrpc.workloads.bench.peers import BESIDE, AwaitedCall, BenchPeer, Call, Client

MOST_REPEATS: Final = 5
FLOOR_CALLS: Final = 400
PACES: Final = (100, 1000)  # calls a second
COMPUTING: Final = ", server computes"
NO_CALL: Final = "in one process"


@dataclass(frozen=True)
class Effort:
    """How much to measure: calls of a test in a round, by their size, and rounds."""

    rounds: int
    calls: int
    large_calls: int
    paced_calls: int
    computing_calls: int  # while the server computes, when a call takes milliseconds
    clients_s: float  # for each number of clients
    pairs: int  # of calls by the channel and by gRPC, in turn


QUICK: Final = Effort(rounds=2, calls=200, large_calls=12, paced_calls=12, computing_calls=15, clients_s=0.3, pairs=40)
FULL: Final = Effort(
    rounds=5, calls=2000, large_calls=150, paced_calls=60, computing_calls=400, clients_s=3.0, pairs=1000
)


@dataclass(frozen=True)
class BenchCell:
    """What one peer took for one test in one mode. Times are in microseconds."""

    peer: str
    test: str
    mode: str  # "spin", "sleep", "paced 100" or "paced 1000"; the first two and COMPUTING; or NO_CALL
    median_us: float
    p99_us: float
    cpu_us: float | None  # processor time of client and server, a call
    ratio: float | None  # the median of gRPC over a UNIX socket, divided by this one


@dataclass
class Samples:
    """The times of one peer, test and mode."""

    times_ns: list[int] = field(default_factory=list)
    cpu_ns: int = 0


@dataclass
class BenchTimes:
    """Everything that was measured."""

    samples: dict[tuple[str, str, str], Samples] = field(default_factory=dict)
    repeated: int = 0  # rounds that were disturbed, and repeated
    disturbed: bool = False  # the last repeat was disturbed too

    def add(self, key: tuple[str, str, str], times: Sequence[int], cpu_ns: int = 0) -> None:
        """Add the times of some calls."""
        samples = self.samples.setdefault(key, Samples())
        samples.times_ns.extend(times)
        samples.cpu_ns += cpu_ns

    def cells(self) -> list[BenchCell]:
        """Return the medians, and what each is beside gRPC's."""
        medians = {key: median(one.times_ns) / 1000 for key, one in self.samples.items()}
        beside = {(test, mode): us for (peer, test, mode), us in medians.items() if peer == BESIDE}
        found = []
        for (peer, test, mode), one in self.samples.items():
            own = medians[peer, test, mode]
            other = beside.get((test, "sleep" if mode == NO_CALL else mode.replace("spin", "sleep")))
            cpu = one.cpu_ns / len(one.times_ns) / 1000 if one.cpu_ns else None
            p99 = sorted(one.times_ns)[int(len(one.times_ns) * 0.99)] / 1000
            ratio = None if other is None or peer == FLOOR else other / own
            found.append(BenchCell(peer, test, mode, own, p99, cpu, ratio))
        return found


FLOOR: Final = "C floor"
ALONE: Final = "messages alone"  # what gRPC's stubs and servicers do with messages, in one process


def measure(peers: Sequence[BenchPeer], tests: Sequence[str], effort: Effort, say: Callable[[str], None]) -> BenchTimes:
    """Measure peers that are installed. `say` is told what is being measured.

    Raises `RunFailed` where a peer's server does not start or answers wrongly.
    """
    found = BenchTimes()
    with contextlib.ExitStack() as stack:
        say("starting servers")
        of_server = {peer.server: peer for peer in peers}  # one for both ways to call gRPC
        with ThreadPoolExecutor() as pool:  # side by side: they mostly import
            started = pool.map(lambda peer: stack.enter_context(peer.serving()), of_server.values())
            at = dict(zip(of_server, started, strict=True))
        clients = [(peer, stack.enter_context(peer.connected(*at[peer.server]))) for peer in peers]
        done = 0
        while done < effort.rounds:
            round_found = BenchTimes()
            disturbed = _floors(round_found)
            if "Add" in tests and any(peer.server.startswith("lrpc channel") for peer in peers):
                _alone(round_found, effort)
            for peer, client in clients:
                say(f"round {done + 1} of {effort.rounds}: {peer.name}")
                _one_peer(round_found, peer, client, tests, effort)
            if disturbed and found.repeated < MOST_REPEATS:
                found.repeated += 1
                continue
            found.disturbed = found.disturbed or disturbed
            for key, one in round_found.samples.items():
                found.add(key, one.times_ns, one.cpu_ns)
            done += 1
    return found


def computing(found: BenchTimes, peer: BenchPeer, calls: int) -> None:
    """Measure Add by one peer while another thread of its server computes in Python.

    Before a worker can run a procedure it needs the interpreter's lock, which a thread that
    computes gives up every 5 ms (`sys.setswitchinterval`), whoever has carried the call.
    """
    with peer.serving(computes=True) as (folder, pid), peer.connected(folder, pid) as client:
        found.add((peer.name, "Add", peer.mode + COMPUTING), _time(client.calls["Add"], calls))


def _one_peer(found: BenchTimes, peer: BenchPeer, client: Client, tests: Sequence[str], effort: Effort) -> None:
    tests = [one for one in tests if one in peer.measured]
    for test in tests:
        call = client.calls[test]
        large = test.endswith("iB")
        count = effort.large_calls if large else effort.calls
        _time(call, count // 10)
        before = _processor_ns(client.server)
        times = _time(call, count)
        found.add((peer.name, test, peer.mode), times, _processor_ns(client.server) - before)
    if "Add" in tests:
        for pace in PACES:
            count = min(effort.paced_calls, pace)
            before = _processor_ns(client.server)
            times = _time(client.calls["Add"], count, 1 / pace)
            found.add((peer.name, "Add", f"paced {pace}"), times, _processor_ns(client.server) - before)


def _alone(found: BenchTimes, effort: Effort) -> None:
    """Measure what the messages of Add take: no call by gRPC's stubs can take less."""
    from lrpc.workloads.bench.service import messages_alone

    _time(messages_alone, effort.calls // 10)
    found.add((ALONE, "Add", NO_CALL), _time(messages_alone, effort.calls))
    for pace in PACES:
        count = min(effort.paced_calls, pace)
        found.add((ALONE, "Add", f"paced {pace}"), _time(messages_alone, count, 1 / pace))


def _time(call: Call, count: int, gap_s: float = 0.0) -> list[int]:
    """Return what each call takes, in nanoseconds; there is a gap before each."""
    if isinstance(call, AwaitedCall):
        return call.times(count, gap_s)
    clock = time.perf_counter_ns
    times = [0] * count
    for n in range(count):
        if gap_s:
            time.sleep(gap_s)
        start = clock()
        call()
        times[n] = clock() - start
    return times


def _processor_ns(server: int) -> int:
    """Return the processor time of this process and a server, in nanoseconds."""
    total = time.process_time_ns()
    with contextlib.suppress(OSError, ValueError):
        for task in os.scandir(f"/proc/{server}/task"):
            total += int(Path(task.path, "schedstat").read_text().split()[0])
    return total


def _floors(found: BenchTimes) -> bool:
    """Measure the floor, spinning and sleeping; return whether it was disturbed."""
    disturbed = False
    usable = sorted(os.sched_getaffinity(0))
    for mode, places in (("spin", (usable[0], usable[-1])), ("sleep", (usable[0], usable[0]))):
        if mode == "spin" and len(usable) < 2:
            continue
        times = sorted(_floor(mode == "spin", *places))
        found.add((FLOOR, "Null", mode), times)
        p99 = times[int(len(times) * 0.99)]
        disturbed = disturbed or p99 > (20_000 if mode == "spin" else 5 * median(times))
    return disturbed


def _floor(spins: bool, here: int, there: int) -> list[int]:
    from lrpc.kernel.host import native

    memory = mmap.mmap(-1, mmap.PAGESIZE)
    child = os.fork()
    if child == 0:
        try:
            native.floor(memory, True, FLOOR_CALLS, spins, there)
        finally:
            os._exit(0)
    try:
        return native.floor(memory, False, FLOOR_CALLS, spins, here)[FLOOR_CALLS // 10 :]
    finally:
        os.waitpid(child, 0)
        memory.close()


@dataclass(frozen=True)
class Shared:
    """What several clients got of one server."""

    peer: str
    clients: int
    calls_per_s: float
    least_of_mean: float  # the least served client's calls, divided by the mean
    are: str = "processes"  # or threads of one process


def share(peer: BenchPeer, counts: Sequence[int], seconds: float) -> list[Shared]:
    """Run client processes that call Add back to back, and count what each gets.

    Raises `RunFailed` where a client fails.
    """
    found = []
    with peer.serving() as (folder, pid):
        for clients in counts:
            ends = [_client(peer, folder, pid, seconds) for _ in range(clients)]
            calls = []
            for child, reading in ends:
                with os.fdopen(reading) as file:
                    text = file.read()
                os.waitpid(child, 0)
                if not text:
                    raise RunFailed(f"{peer.name}: one of {clients} clients failed")
                calls.append(int(text))
            found.append(_shared(peer, calls, seconds, "processes"))
    return found


def share_threads(peer: BenchPeer, counts: Sequence[int], seconds: float) -> list[Shared]:
    """Run threads of one client that call Add back to back, and count what each gets."""
    found = []
    with peer.serving() as (folder, pid), peer.connected(folder, pid) as client:
        call = client.calls["Add"]

        def count(begin: threading.Barrier) -> int:
            begin.wait()
            made, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                call()
                made += 1
            return made

        for threads in counts:
            with ThreadPoolExecutor(threads) as pool:
                calls = list(pool.map(count, [threading.Barrier(threads)] * threads))
            found.append(_shared(peer, calls, seconds, "threads"))
    return found


def _shared(peer: BenchPeer, calls: Sequence[int], seconds: float, are: str) -> Shared:
    mean = sum(calls) / len(calls)
    return Shared(peer.name, len(calls), sum(calls) / seconds, min(calls) / mean if mean else 0.0, are)


def _client(peer: BenchPeer, folder: Path, server: int, seconds: float) -> tuple[int, int]:
    """Fork a client; return its process and a pipe on which it writes how many calls it made."""
    reading, writing = os.pipe()
    child = os.fork()
    if child:
        os.close(writing)
        return child, reading
    try:
        os.close(reading)
        with peer.connected(folder, server) as client:
            call = client.calls["Add"]
            begin = time.monotonic() + 0.2  # when all are connected
            while time.monotonic() < begin:
                call()
            made, end = 0, time.monotonic() + seconds
            while time.monotonic() < end:
                call()
                made += 1
        os.write(writing, str(made).encode())
    finally:
        os._exit(0)


def modes_of(samples: Mapping[tuple[str, str, str], Samples]) -> Iterator[str]:
    """Yield each mode once, in the order in which it was measured."""
    yield from dict.fromkeys(mode for _, _, mode in samples)
