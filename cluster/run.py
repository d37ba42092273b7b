"""Runs a cluster: in this process, or on Ray actors, with links in memory or over gRPC; the result is the same."""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol

from lrpc.cluster.actors import Actors, ray_session
from lrpc.cluster.description import Cluster
from lrpc.cluster.group import Group, Report
from lrpc.cluster.link import Peer, new_secret
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.reach import Reach
from lrpc.cluster.station import Links
from lrpc.cluster.station import Station as LocalStation
from lrpc.cluster.synchronisation import Progress, Station, Window, coordinate
from lrpc.kernel.errors import Panic, Refused

MOST_DEFAULT_ACTORS: Final = 8
MOST_ACTORS: Final = 256


@dataclass(frozen=True)
class Outcome:
    """What a run did: its machines in order of their names, and how they were kept in step."""

    machines: Sequence[MachineOutcome]
    actors: int
    links: Links
    progress: Progress

    @property
    def digest(self) -> str:
        """Return the run's digest: BLAKE2b over every machine's name and digest, in order of the names."""
        return digest_of([(machine.name, machine.digest) for machine in self.machines])


def digest_of(machines: Sequence[tuple[str, bytes]]) -> str:
    """Return the digest of a run from its machines' names, in order, and their digests."""
    whole = blake2b(digest_size=32)
    for name, digest in machines:
        encoded = name.encode()
        whole.update(len(encoded).to_bytes(4, "little") + encoded + digest)
    return whole.hexdigest()


class _Runner(Protocol):
    @property
    def stations(self) -> Sequence[Station]:
        """Return what the coordinator drives."""

    @property
    def first(self) -> Sequence[Report]:
        """Return what each station has to do at first."""

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did."""


def choose_actors(cluster: Cluster, actors: int | None, links: Links, address: str | None = None) -> int:
    """Return how many actors a run gets; `Refused` for what cannot be.

    Unless told, one per machine, up to eight, and no more than this computer has processors if they start here.
    """
    if actors == 0 and address is not None:
        raise Refused(f"--address {address}: --actors 0 uses no Ray; leave one of the two out")
    if actors is None:
        most = MOST_DEFAULT_ACTORS if address is not None else min(MOST_DEFAULT_ACTORS, processors_here())
        return 1 if links == "memory" else min(len(cluster.machines), most)
    if not 0 <= actors <= MOST_ACTORS:
        raise Refused(f"--actors {actors}: between 0 and {MOST_ACTORS} are possible")
    if links == "memory" and actors > 1:
        raise Refused(f"--actors {actors}: links in memory join machines of one process; use --links grpc")
    return min(actors, len(cluster.machines))


def processors_here() -> int:
    """Return how many processors this process may use."""
    if sys.version_info >= (3, 13):
        return os.process_cpu_count() or 1
    return os.cpu_count() or 1


def run_cluster(
    cluster: Cluster,
    *,
    seed: int = 0,
    actors: int | None = None,
    links: Links = "grpc",
    address: str | None = None,
    events: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
) -> Outcome:
    """Run a cluster to its end and return what it did.

    `actors` 0 runs in this process, without Ray. `events` is a folder where machines keep their event logs. Raises
    `Refused` before work begins, and `RunFailed` where a thread raised, waits for ever, or a link or actor is lost.
    """
    count = choose_actors(cluster, actors, links, address)
    reach = Reach(cluster)
    if count == 0 and links == "memory":
        runner = _in_memory(cluster, seed, events)
    elif count == 0:
        runner = _in_process(cluster, seed, events)
    else:
        runner = _on_ray(cluster, count, seed, links, address, events)
    with runner as running:
        progress = coordinate(running.stations, running.first, reach, on_progress)
        outcomes = running.finish()
    outcomes.sort(key=lambda outcome: outcome.name)
    return Outcome(outcomes, count, links, progress)


class _Memory:
    """Every machine in this process and this thread."""

    def __init__(self, cluster: Cluster, seed: int, events: Path | None) -> None:
        self._group = Group(cluster, list(range(len(cluster.machines))), seed, events)
        self.stations: Sequence[Station] = [self]
        self.first = [self._group.state()]

    def advance(self, window: Window) -> Report:
        """Run a window."""
        return self._group.advance(window.horizons, self._group.deliver)

    def begin(self, window: Window) -> None:
        """Refuse: there is no other station to wait for."""
        raise Panic("one station alone is never left to itself")

    def end(self) -> Report:
        """Refuse, likewise."""
        raise Panic("one station alone is never left to itself")

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did."""
        return self._group.finish()

    def stop(self) -> None:
        """Close what is open."""
        self._group.close()


@contextmanager
def _in_memory(cluster: Cluster, seed: int, events: Path | None) -> Iterator[_Runner]:
    memory = _Memory(cluster, seed, events)
    try:
        yield memory
    finally:
        memory.stop()


class _Local:
    """Every machine in this process, joined by a gRPC link to itself."""

    def __init__(self, cluster: Cluster, seed: int, events: Path | None) -> None:
        secret = new_secret()
        placement = [0] * len(cluster.machines)
        self.station = LocalStation(cluster, placement, 0, seed=seed, secret=secret, links="grpc", events=events)
        self.peer = Peer(self.station.address, secret)
        self.stations: Sequence[Station] = [self.peer]
        try:
            self.first = [self.station.connect([self.station.address])]
        except BaseException:
            self.stop()
            raise

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did."""
        return self.station.finish()

    def stop(self) -> None:
        """Let go of both ends of the link."""
        self.peer.close()
        self.station.stop()


@contextmanager
def _in_process(cluster: Cluster, seed: int, events: Path | None) -> Iterator[_Runner]:
    local = _Local(cluster, seed, events)
    try:
        yield local
    finally:
        local.stop()


class _Remote:
    """Machines on Ray actors, spread round robin in order of their names."""

    def __init__(self, cluster: Cluster, count: int, seed: int, links: Links, events: Path | None) -> None:
        placement = [rank % count for rank in range(len(cluster.machines))]
        self.actors = Actors(cluster, placement, count, seed=seed, secret=new_secret(), links=links, events=events)
        self.first = self.actors.first
        self.stations: Sequence[Station] = self.actors.peers

    def finish(self) -> list[MachineOutcome]:
        """Return what every machine did."""
        return self.actors.finish()


@contextmanager
def _on_ray(
    cluster: Cluster, count: int, seed: int, links: Links, address: str | None, events: Path | None
) -> Iterator[_Runner]:
    with ray_session(address, count):
        remote = _Remote(cluster, count, seed, links, events)
        try:
            yield remote
        finally:
            remote.actors.stop()
