"""A small cluster whose machines call each other and contend at random, and ways to run it."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from lrpc.cluster.description import Cluster, describe
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.peer import Endpoint, Peer, send_again
from lrpc.cluster.run import digest_of, run_cluster
from lrpc.cluster.scenario import ClusterTable
from lrpc.cluster.station import Station
from lrpc.cluster.synchronisation import Coordinator, Progress
from lrpc.domains.codecs import UInt32, UpTo
from lrpc.domains.domain import Domain, bind
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Findings, Program, Registry, Server
from lrpc.domains.simulated.domain import simulated
from lrpc.kernel.documents import validate
from lrpc.kernel.errors import CallAborted, ProcedureRaised
from lrpc.kernel.simulated.locks import WaitQueue

SECRET = "5ec12e7" * 9
Via = Callable[[int, Endpoint], Endpoint]  # the endpoint at which others reach a station, by its number


class Ledger(Interface):
    """A running total that depends on the order in which amounts are posted to it."""

    def post(self, amount: UInt32) -> UInt32:
        raise NotImplementedError

    def query(self, amount: UInt32) -> UInt32:
        raise NotImplementedError

    def keep(self, us: UInt32) -> None: ...

    def refuse(self, text: Annotated[str, UpTo(40)]) -> None: ...


@dataclass
class LedgerServer(Server, Ledger):
    """Computes, waits, and with `onward` posts to the ledger that it imports as `next`."""

    independent = True

    work_us: float = 30.0
    settle_us: float = 0.0
    onward: bool = False

    def __post_init__(self) -> None:
        self._total = 1

    def start(self) -> None:
        if self.onward:
            self._next = bind(self.domain, Ledger, "next")

    def post(self, amount: int) -> int:
        self.domain.compute(us=self.work_us)
        if self.settle_us:
            self.domain.sleep(us=self.settle_us)
        if self.onward:
            amount = self._next.post(amount)
        self._total = (self._total * 31 + amount) % 2**32
        return self._total

    def query(self, amount: int) -> int:
        self.domain.compute(us=self.work_us)
        return self._total

    def keep(self, us: int) -> None:
        self.domain.sleep(us=us)

    def refuse(self, text: str) -> None:
        raise LookupError(text)

    def findings(self) -> Findings:
        return {"total": self._total}


@dataclass
class Gate(LedgerServer):
    """Keeps each caller until another one posts, or for `us`: its calls depend on each other."""

    independent = False

    def post(self, amount: int) -> int:
        self._kept.wake_all()
        return super().post(amount)

    def keep(self, us: int) -> None:
        kept = self._kept

        def release() -> None:
            self.domain.sleep(us=us)
            kept.wake_all()

        self.domain.spawn(release)
        kept.wait()

    @cached_property
    def _kept(self) -> WaitQueue:
        return WaitQueue(simulated(self.domain).kernel, "another to post")


@dataclass
class Teller(Program):
    """Posts to each ledger it imports in turn; its think time depends on their results."""

    ledgers: str = "drawer relay"  # names of imports
    rounds: int = 6
    think_us: int = 400
    swapped: int = -1  # the round in which it queries before it posts
    kept_us: int = 0  # how long each ledger is asked to keep it

    def run(self, domain: Domain) -> None:
        ledgers = [bind(domain, Ledger, name) for name in self.ledgers.split()]
        chance = domain.random("teller")
        for number in range(self.rounds):
            domain.sleep(us=chance.exponential(self.think_us))
            for ledger in ledgers:
                calls: list[Callable[[int], int]] = [ledger.post, ledger.query]
                if number == self.swapped:
                    calls.reverse()
                for call in calls:
                    call(number)
                if self.kept_us:
                    ledger.keep(self.kept_us)
            domain.compute(us=ledgers[0].query(0) % 64)


@dataclass
class Impatient(Program):
    """Aborts its call to the ledger `slow` after a while, and calls it again afterwards."""

    patience_us: int = 5_000
    kept_us: int = 50_000

    def __post_init__(self) -> None:
        self._seen: list[str] = []

    def run(self, domain: Domain) -> None:
        slow = bind(domain, Ledger, "slow")

        def body() -> None:
            try:
                slow.keep(self.kept_us)
                self._seen.append("returned")
            except CallAborted:
                self._seen.append("aborted")
            slow.query(0)
            self._seen.append("called again")

        own = simulated(domain)
        thread = own.spawn(body, "caller")
        own.sleep(us=self.patience_us)
        own.abort(thread)
        thread.join()

    def findings(self) -> Findings:
        return {"seen": self._seen}


@dataclass
class Provoker(Program):
    """Makes a call that raises at the server, and keeps the error that it gets."""

    caught: bool = True

    def __post_init__(self) -> None:
        self._seen: list[str] = []

    def run(self, domain: Domain) -> None:
        ledger = bind(domain, Ledger, "ledger")
        try:
            ledger.refuse("no such\naccount")
        except ProcedureRaised as error:
            self._seen += [error.kind, error.message]
            if not self.caught:
                raise

    def findings(self) -> Findings:
        return {"seen": self._seen}


@dataclass
class Crash(Program):
    """Ends its process at once, in the middle of a run: an actor's, never that of the tests."""

    spared: int  # the process of the tests

    def run(self, domain: Domain) -> None:
        bind(domain, Ledger, "ledger").post(1)
        if os.getpid() != self.spared:
            os._exit(1)


REGISTRY = Registry(
    servers={"ledger": LedgerServer, "gate": Gate},
    programs={"teller": Teller, "impatient": Impatient, "provoker": Provoker, "crash": Crash},
)


def bank(*, machine: Mapping[str, object] | None = None, teller: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return the tables of a bank and its desks.

    The tellers of a desk post to its drawer and, through a relay, to the ledger of the bank.

    A drawer has fewer A-stacks for its safe than there are tellers. An auditor at the bank calls a
    desk, so that calls between machines go both ways.
    """
    parameters = {"rounds": 3, **(teller or {})}
    return {
        "name": "bank",
        "machines": {
            "bank": {"processors": 2, **(machine or {})},
            "desk": {"processors": 2, "count": 3, **(machine or {})},
            "relay": dict(machine or {}),
        },
        "links": {"delay_us": 60.0, "pairs": [{"between": ["desk2", "relay"], "delay_us": 700.0}]},
        "domains": {
            "vault": {"machine": "bank", "exports": {"ledger": {"server": "ledger"}}},
            "auditor": {
                "machine": "bank",
                "imports": {"drawer": "drawer@desk1"},
                "threads": [{"program": "teller", "parameters": {"ledgers": "drawer"}}],
            },
            "relay": {
                "machine": "relay",
                "imports": {"next": "ledger"},
                "exports": {"relay": {"server": "ledger", "parameters": {"onward": True}}},
            },
            "drawer": {
                "machine": "desk",
                "imports": {"next": "safe@{machine}"},
                "exports": {"drawer@{machine}": {"server": "ledger", "parameters": {"onward": True}}},
            },
            "safe": {
                "machine": "desk",
                "exports": {"safe@{machine}": {"server": "ledger", "parameters": {"settle_us": 2000.0}}},
            },
            "tellers": {
                "machine": "desk",
                "imports": {"drawer": "drawer@{machine}", "relay": "relay"},
                "threads": [{"program": "teller", "count": 7, "parameters": parameters}],
            },
        },
    }


def pair(program: str, alias: str, **parameters: object) -> dict[str, Any]:
    """Return the tables of a program and, on another machine, the ledger it imports as `alias`."""
    thread = {"program": program, "parameters": parameters}
    return {
        "name": "pair",
        "machines": {"client": {}, "server": {}},
        "domains": {
            "ledger": {"machine": "server", "exports": {"ledger": {"server": "ledger"}}},
            "program": {"machine": "client", "imports": {alias: "ledger"}, "threads": [thread]},
        },
    }


def cluster(tables: Mapping[str, object]) -> Cluster:
    """Return the cluster that tables describe, with this module's servers and programs."""
    return describe(validate(ClusterTable, tables, "tables"), REGISTRY, "tables")


def in_memory(described: Cluster, seed: int = 0) -> Sequence[MachineOutcome]:
    """Return what a cluster's machines did, all of them in this thread."""
    return run_cluster(described, seed=seed, actors=0, transport="memory").machines


def digest(described: Cluster, seed: int = 0) -> str:
    """Return the digest of a cluster's run in this thread."""
    return digest_of([(machine.name, machine.digest) for machine in in_memory(described, seed)])


class Joined:
    """Stations in this process, joined by gRPC as actors are, and the coordinator's peers."""

    def __init__(self, described: Cluster, count: int, seed: int, folder: Path, via: Via) -> None:
        self.described = described
        self.seed = seed
        self.folder = folder
        self.via = via
        self.placement = [rank % count for rank in range(len(described.machines))]
        self.incarnations = [0] * count
        self.dead: set[int] = set()
        self.stations = [self._station(number) for number in range(count)]
        self.endpoints = [via(number, station.endpoint) for number, station in enumerate(self.stations)]
        self.peers = [self._peer(number) for number in range(count)]
        self.first = [station.connect(self.endpoints) for station in self.stations]

    def run(self, on_progress: Callable[[Progress], None] = lambda progress: None, *, gather: bool = False) -> Progress:
        """Run all machines to their end; they stay where they are, unless they may `gather`."""
        return Coordinator(self.described, self.peers, self.first, on_progress, self.replace, gather=gather).run()

    def lose(self, number: int) -> None:
        """Stop a station, as if its process had ended."""
        self.dead.add(number)
        self.stations[number].stop()

    def replace(self, lost: Sequence[int], home: Sequence[int]) -> Mapping[int, dict[int, int]]:
        """Make new stations in place of the lost ones, as Ray does with actors."""
        self.placement = list(home)
        for number in lost:
            self.incarnations[number] += 1
            self.peers[number].close()
            self.stations[number] = self._station(number)
            self.endpoints[number] = self.via(number, self.stations[number].endpoint)
            self.peers[number] = self._peer(number)
            self.dead.discard(number)
        for number in lost:
            self.stations[number].connect(self.endpoints)
        return send_again(self.peers, lost, self.incarnations, self.endpoints, home)

    def outcomes(self) -> list[MachineOutcome]:
        """Return what the machines did, in order of their names."""
        outcomes = [outcome for station in self.stations for outcome in station.finish()[0]]
        return sorted(outcomes, key=lambda outcome: outcome.name)

    def digest(self) -> str:
        """Return the digest of what the machines did."""
        return digest_of([(machine.name, machine.digest) for machine in self.outcomes()])

    def stop(self) -> None:
        """Close all peers and stop the stations that are not lost."""
        for peer in self.peers:
            peer.close()
        for number, station in enumerate(self.stations):
            if number not in self.dead:
                station.stop()

    def _station(self, number: int) -> Station:
        return Station(
            self.described,
            self.placement,
            number,
            seed=self.seed,
            secret=SECRET,
            transport="grpc",
            folder=self.folder / str(number),
            incarnation=self.incarnations[number],
        )

    def _peer(self, number: int) -> Peer:
        return Peer(self.endpoints[number], SECRET, lost=lambda: set(self.dead))


@contextmanager
def joined(
    described: Cluster, count: int, seed: int = 0, via: Via = lambda number, endpoint: endpoint
) -> Iterator[Joined]:
    """Yield `count` stations in this process, with machines dealt out to them in turn."""
    with TemporaryDirectory() as folder:
        run = Joined(described, count, seed, Path(folder), via)
        try:
            yield run
        finally:
            run.stop()
