"""Injects faults into real runs, at random times, and judges how each run ends.

    python -m benchmarks.faults [--seed S] [--each N] [--only KIND]

Faults are injected into runs whose transport is gRPC. The kinds of faults are:

- killed: an actor's process gets SIGKILL;
- slow: an actor's process is stopped for a while (SIGSTOP, then SIGCONT);
- cut: the connections to an actor let nothing through for a while;
- severed: the connections to an actor let nothing through ever again; patience is shortened from a
  minute to seconds;
- node: everything on a Ray worker node, in a network namespace of its own, is killed;
- disk: the file system of event logs, journals and the record becomes full, sooner or later.

A run must end as "same" or as "named". "same" is the digest of a run without faults, with no event
executed again unless something was lost. "named" is one line that names what was lost, exit code 3
and, if there is a record, an incomplete one. Any other ending, a missed deadline included, is
reported as it is and makes the exit code 1. The summary is JSON.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from lrpc.cluster import peer, synchronisation
from lrpc.cluster.description import Cluster, read_cluster
from lrpc.cluster.on_ray import actors
from lrpc.cluster.on_ray.session import ray_session
from lrpc.cluster.peer import Endpoint
from lrpc.cluster.run import Outcome, run_cluster
from lrpc.cluster.synchronisation import Progress
from lrpc.kernel.errors import RunFailed
from lrpc.workloads.programs.registry import REGISTRY
from tests.support.clusters import bank, cluster
from tests.support.command import office
from tests.support.fuzzing import bounded
from tests.support.nodes import BIN, Nodes, ended, permitted, two_nodes
from tests.support.proxies import Proxy

ACTORS: Final = 2
DEADLINE_S: Final = 240.0  # for one run: far more than it needs
PATIENCE_S: Final = 4.0  # instead of a minute, where transports stay cut
PLACE: Final = re.compile(r"machine .+, at \d+\.\d{3} µs: .")
NODE_ACTIONS: Final = 3000
Ending = str  # "same", "named", or what went wrong


@dataclass(frozen=True)
class Subject:
    """A cluster that faults are injected into, and what it does without them."""

    described: Cluster
    digest: str
    events: int  # executed by all machines
    windows: int


class Cuttable(actors.Actors):
    """Actors that others and the coordinator reach through proxies, which can be cut."""

    made: "Cuttable"

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.proxies: dict[str, Proxy] = {}
        Cuttable.made = self
        super().__init__(*arguments, **options)

    def _endpoints(self) -> list[Endpoint]:
        return [self._through(endpoint) for endpoint in super()._endpoints()]

    def _peer(self, number: int) -> peer.Peer:
        return peer.Peer(self._endpoints()[number], self._secret, lost=self._lost)

    def _through(self, endpoint: Endpoint) -> Endpoint:
        if endpoint.address not in self.proxies:
            self.proxies[endpoint.address] = Proxy(endpoint)
        return self.proxies[endpoint.address].endpoint

    def stop(self) -> None:
        """Stop the actors and close the proxies."""
        super().stop()
        for proxy in self.proxies.values():
            proxy.close()


def subject() -> Subject:
    """Return a bank with busy tellers, and what it does without faults."""
    described = cluster(bank(teller={"rounds": 12}))
    without = run_cluster(described, actors=ACTORS, gather=False)
    alone = run_cluster(described, actors=0, transport="memory")
    assert without.digest == alone.digest
    return Subject(described, alone.digest, executed(without), without.progress.windows)


def executed(outcome: Outcome) -> int:
    """Return how many events all machines executed.

    Those that were executed again in place of a lost station count once.
    """
    return sum(sum(machine.counts.values()) for machine in outcome.machines)


def injected(faulty: Subject, chance: random.Random, fault: Callable[[Sequence[int]], None]) -> Ending:
    """Run with a fault at a random time; return how the run ended."""
    at = chance.randrange(1, faulty.windows)
    left = [fault]

    def inject(progress: Progress, processes: Sequence[int]) -> None:
        if left and progress.windows >= at:
            left.pop()(processes)

    try:
        with bounded("a run", DEADLINE_S, TimeoutError):
            outcome = run_cluster(faulty.described, actors=ACTORS, on_window=inject, gather=False)
    except RunFailed as error:
        return "named" if PLACE.match(str(error)) and "\n" not in str(error) else f"said {error}"
    except TimeoutError:
        return f"hung for {DEADLINE_S:g} s"
    if left:
        return "ended before the fault"
    if outcome.digest != faulty.digest or executed(outcome) != faulty.events:
        return f"digest {outcome.digest}, {executed(outcome)} of {faulty.events} events"
    if not outcome.progress.losses and outcome.progress.again:
        return f"{outcome.progress.again} events executed again, though nothing was lost"
    return "same"


def killed(faulty: Subject, chance: random.Random) -> Ending:
    """Kill an actor."""
    number = chance.randrange(ACTORS)
    return injected(faulty, chance, lambda processes: os.kill(processes[number], signal.SIGKILL))


def slow(faulty: Subject, chance: random.Random) -> Ending:
    """Stop an actor for a while, which may be shorter or longer than one attempt to ask it."""
    number, rest_s = chance.randrange(ACTORS), chance.uniform(0.2, 8.0)

    def stop_for_a_while(processes: Sequence[int]) -> None:
        os.kill(processes[number], signal.SIGSTOP)
        threading.Timer(rest_s, os.kill, (processes[number], signal.SIGCONT)).start()

    return injected(faulty, chance, stop_for_a_while)


@contextmanager
def cuttable(patience_s: float | None = None) -> Iterator[None]:
    """Make the connections of runs in the block cuttable.

    `patience_s` shortens how long a run waits for a connection that is down, also in the actors.
    """
    instead: list[tuple[object, str, object]] = [(actors, "Actors", Cuttable)]
    if patience_s is not None:
        instead += [(module, "PATIENCE_S", patience_s) for module in (peer, synchronisation)]
        instead += [(actors, "_StationActor", _impatient_actor(patience_s))]
    before = [(module, name, getattr(module, name)) for module, name, _ in instead]
    for module, name, value in instead:
        setattr(module, name, value)
    try:
        yield
    finally:
        for module, name, value in before:
            setattr(module, name, value)


def _impatient_actor(patience_s: float) -> type[actors._StationActor]:
    """Return a class of actors with little patience; Ray sends it to them by value."""

    class Impatient(actors._StationActor):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            from lrpc.cluster import peer as peers

            vars(peers)["PATIENCE_S"] = patience_s
            super().__init__(*arguments, **options)

    return Impatient


def cut(faulty: Subject, chance: random.Random) -> Ending:
    """Cut the connections to an actor, and restore them after a while."""
    number, rest_s = chance.randrange(ACTORS), chance.uniform(0.05, 4.0)

    def cut_for_a_while(processes: Sequence[int]) -> None:
        proxy = list(Cuttable.made.proxies.values())[number]
        proxy.cut()
        threading.Timer(rest_s, proxy.restore).start()

    with cuttable():
        return injected(faulty, chance, cut_for_a_while)


def severed(faulty: Subject, chance: random.Random) -> Ending:
    """Cut the connections to an actor for good."""
    number = chance.randrange(ACTORS)
    with cuttable(PATIENCE_S):
        return injected(faulty, chance, lambda processes: list(Cuttable.made.proxies.values())[number].cut())


class OnNodes:
    """Runs on two nodes, of which the one without Ray's head is lost."""

    def __init__(self, nodes: Nodes, folder: Path) -> None:
        self._nodes = nodes
        self._folder = folder
        self._scenario = office(folder, actions=NODE_ACTIONS)
        self._digest = run_cluster(read_cluster(self._scenario, REGISTRY), actors=0, transport="memory").digest

    def __call__(self, faulty: Subject, chance: random.Random) -> Ending:
        """Lose the node at a random time after the run has begun."""
        self._nodes.restart_lost()
        out = self._folder / f"run-{chance.randrange(10**9)}"
        with self._nodes.lrpc(0, "run", self._scenario, "--actors", ACTORS, "--out", out) as lrpc:
            while not out.exists() and lrpc.poll() is None:
                threading.Event().wait(0.02)
            threading.Event().wait(chance.uniform(0.0, 1.5))
            self._nodes.lose(1)
            try:
                code, _, err = ended(lrpc, DEADLINE_S)
            except subprocess.TimeoutExpired:
                return f"hung for {DEADLINE_S:g} s"
        return judge(out, code, err, self._digest)


def judge(out: Path, code: int, err: str, digest: str) -> Ending:
    """Return how a command ended, from its exit code, its error output and its record."""
    try:
        record = json.loads((out / "record.json").read_text())
    except OSError:
        record = {"status": "none"}
    if code == 0 and record.get("digest") == digest and not err:
        return "same"
    if code == 3 and len(err.splitlines()) == 1 and record["status"] in ("incomplete", "none"):
        return "named"
    return f"exit code {code}, record {record['status']}, said {err!r}"


class OnSmallDisks:
    """Runs whose event logs, journals and record are on a file system that fills up."""

    def __init__(self, folder: Path) -> None:
        self._scenario = office(folder, actions=400)
        self._digest = run_cluster(read_cluster(self._scenario, REGISTRY), actors=0, transport="memory").digest

    def __call__(self, faulty: Subject, chance: random.Random) -> Ending:
        """Run on a disk of random size, which may be too small for the logs or for the record."""
        with small_disk(chance.randrange(16, 1400) * 1024) as (disk, limits):
            out, scratch = disk / "run", disk / "scratch-of-this-run"
            try:
                scratch.mkdir()
            except OSError:
                return "named"
            line: list[str | Path] = [BIN / "lrpc", "run", self._scenario, "--out", out, "--events", disk / "log"]
            line += limits.arguments
            variables = os.environ | {"TMPDIR": str(scratch)}
            try:
                said = subprocess.run(
                    line,
                    capture_output=True,
                    text=True,
                    check=False,
                    timeout=DEADLINE_S,
                    env=variables,
                    preexec_fn=limits.apply,
                )
            except subprocess.TimeoutExpired:
                return f"hung for {DEADLINE_S:g} s"
            if said.returncode == 2 and "cannot be written" in said.stderr and not out.exists():
                return "named"  # refused before work began
            return judge(out, said.returncode, said.stderr, self._digest)


@dataclass(frozen=True)
class Limits:
    """How a run is kept within its disk."""

    arguments: Sequence[str]
    bytes: int | None = None  # limit of each file, if no file system could be mounted

    def apply(self) -> None:
        """Limit the size of files of this process."""
        import resource

        if self.bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.bytes, self.bytes))


@contextmanager
def small_disk(size: int) -> Iterator[tuple[Path, Limits]]:
    """Yield a folder on a file system of `size` bytes, and the limits of a run on it.

    If none can be mounted, every file of the run is limited to that size instead.
    """
    folder = Path(tempfile.mkdtemp(prefix="lrpc-faults-"))
    mounted = os.geteuid() == 0 and not _quietly("mount", "-t", "tmpfs", "-o", f"size={size}", "lrpc", folder)
    try:
        if mounted:
            yield folder, Limits(("--actors", str(ACTORS)))
        else:
            yield folder, Limits(("--actors", "0"), size)
    finally:
        if mounted:
            _quietly("umount", folder)
        shutil.rmtree(folder, ignore_errors=True)


def _quietly(*line: object) -> int:
    try:
        return subprocess.run([str(word) for word in line], capture_output=True, check=False).returncode
    except OSError:
        return 1


IN_PROCESS: Final = {"killed": killed, "slow": slow, "cut": cut, "severed": severed}
KINDS: Final = (*IN_PROCESS, "node", "disk")


def carry_out(kinds: Sequence[str], each: int, seed: int, folder: Path) -> dict[str, Counter[Ending]]:
    """Inject `each` faults of each kind; return how often runs ended in which way."""
    found: dict[str, Counter[Ending]] = {}

    def inject(kind: str, one: Callable[[Subject, random.Random], Ending], faulty: Subject) -> None:
        for number in range(each):
            ending = one(faulty, random.Random(f"{seed} {kind} {number}"))
            print(f"{kind} {number}: {ending}", file=sys.stderr, flush=True)
            found.setdefault(kind, Counter())[ending] += 1

    with ray_session(None, ACTORS):
        faulty = subject()
        for kind in kinds:
            if kind in IN_PROCESS:
                inject(kind, IN_PROCESS[kind], faulty)
    if "node" in kinds and permitted():
        with two_nodes() as nodes:
            inject("node", OnNodes(nodes, folder), faulty)
    if "disk" in kinds:
        inject("disk", OnSmallDisks(folder), faulty)
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Inject faults, print how runs ended as JSON, and return the exit code."""
    parser = argparse.ArgumentParser(description="Inject faults into real runs, at random times.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--each", type=int, default=20, help="faults of each kind")
    parser.add_argument("--only", action="append", choices=KINDS, help="only this kind, repeatable")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="lrpc-faults-") as folder, suppress(BrokenPipeError):
        found = carry_out(options.only or KINDS, options.each, options.seed, Path(folder))
    wrong = sum(times for endings in found.values() for ending, times in endings.items() if len(ending.split()) > 1)
    print(json.dumps({"seed": options.seed, "each": options.each, "wrong": wrong, "endings": found}))
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
