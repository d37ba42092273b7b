"""Runs a cluster: in this process, or on Ray actors, with links in memory or over gRPC; the result is the same."""

import os
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Final, Protocol

from lrpc.cluster.actors import Actors
from lrpc.cluster.description import Cluster
from lrpc.cluster.group import Group, WindowReport
from lrpc.cluster.interruption import undisturbed
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.peer import Peer
from lrpc.cluster.session import ray_session
from lrpc.cluster.standing import SynchronisationState
from lrpc.cluster.station import Station, StationOutcome, Transport
from lrpc.cluster.synchronisation import Coordinator, DrivenStation, Progress, Window, nobody_replaces
from lrpc.cluster.transport import new_secret
from lrpc.kernel.errors import Panic, Refused, RunFailed

MOST_DEFAULT_ACTORS: Final = 8
MOST_ACTORS: Final = 256
PARTIAL_TIMEOUT_S: Final = 1.0  # for what was measured until a run was interrupted


@dataclass(frozen=True)
class Outcome:
    """What a run did: its machines in order of their names, and how they were kept in step.

    Of a run that did not come to its end, what had been measured until then: a machine may be missing.
    """

    machines: Sequence[MachineOutcome]
    actors: int
    links: Transport
    progress: Progress
    stations: Sequence[StationOutcome] = ()

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
    def stations(self) -> Sequence[DrivenStation]:
        """Return what the coordinator drives; a lost one's place is taken by another."""

    @property
    def first(self) -> Sequence[WindowReport]:
        """Return what each station has to do at first."""

    def replace(self, lost: Sequence[int]) -> Mapping[int, dict[int, int]]:
        """Make lost stations anew, by number; `RunFailed` where that cannot be."""

    def check(self) -> None:
        """Raise `RunFailed` where what the run stands on is lost."""

    def processes(self) -> Sequence[int]:
        """Return the process of each actor, none where there are no actors."""

    def finish(self) -> tuple[list[MachineOutcome], list[StationOutcome]]:
        """Return what every machine did, and every station."""

    def outcomes(self) -> list[MachineOutcome]:
        """Return what machines did so far, as far as that is to be had at once."""


def choose_actors(cluster: Cluster, actors: int | None, links: Transport, address: str | None = None) -> int:
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
    links: Transport = "grpc",
    address: str | None = None,
    events: Path | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_window: Callable[[Progress, Sequence[int]], None] = lambda progress, processes: None,
    on_partial: Callable[[Outcome], None] = lambda outcome: None,
) -> Outcome:
    """Run a cluster to its end and return what it did.

    `actors` 0 runs in this process, without Ray. `events` is a folder where machines keep their event logs. Raises
    `Refused` before work begins, and `RunFailed` where a thread raised, waits for ever, or a link or actor is lost for
    good; then, and when it is interrupted, `on_partial` is first given what had been measured. `on_window` is told the
    processes of the actors as well, for those who inject faults.
    """
    count = choose_actors(cluster, actors, links, address)
    if count == 0 and links == "memory":
        runner = _in_memory(cluster, seed, events)
    elif count == 0:
        runner = _in_process(cluster, seed, events)
    else:
        runner = _on_ray(cluster, count, seed, links, address, events)

    with runner as running:

        def show(progress: Progress) -> None:
            running.check()
            on_progress(progress)
            on_window(progress, running.processes())

        coordinator = Coordinator(cluster, running.stations, running.first, show, running.replace)
        try:
            progress = coordinator.run()
            outcomes, stations = running.finish()
        except (KeyboardInterrupt, RunFailed):
            with undisturbed():
                machines = sorted(running.outcomes(), key=lambda machine: machine.name)
                on_partial(Outcome(machines, count, links, coordinator.progress))
            raise
    outcomes.sort(key=lambda outcome: outcome.name)
    return Outcome(outcomes, count, links, progress, stations)


class _Memory:
    """Every machine in this process and this thread."""

    def __init__(self, cluster: Cluster, seed: int, events: Path | None) -> None:
        self._group = Group(cluster, list(range(len(cluster.machines))), seed, events)
        self.stations: Sequence[DrivenStation] = [self]
        self.first = [self._group.state()]

    def advance(self, window: Window) -> WindowReport:
        """Run a window."""
        return self._group.advance(window.horizons, self._group.deliver)

    def begin(self, window: Window) -> None:
        """Refuse: there is no other station to wait for."""
        raise Panic("one station alone is never left to itself")

    def end(self) -> WindowReport:
        """Refuse, likewise."""
        raise Panic("one station alone is never left to itself")

    def lead(self, standing: SynchronisationState) -> bool:
        """Refuse: there is nobody to spare a round trip to."""
        return False

    def probe(self) -> None:
        """Do nothing: it is there."""

    def replace(self, lost: Sequence[int]) -> Mapping[int, dict[int, int]]:
        """Refuse: none is lost without this process."""
        return nobody_replaces(lost)

    def check(self) -> None:
        """Do nothing: this process is all that it stands on."""

    def processes(self) -> Sequence[int]:
        """Return none."""
        return ()

    def finish(self) -> tuple[list[MachineOutcome], list[StationOutcome]]:
        """Return what every machine did."""
        return self._group.finish(), []

    def outcomes(self) -> list[MachineOutcome]:
        """Return what every machine did so far."""
        return self._group.outcomes()

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

    def __init__(self, cluster: Cluster, seed: int, folder: Path, events: bool) -> None:
        secret = new_secret()
        placement = [0] * len(cluster.machines)
        self.station = Station(
            cluster, placement, 0, seed=seed, secret=secret, links="grpc", folder=folder, events=events
        )
        self.peer = Peer(self.station.endpoint, secret)
        self.stations: Sequence[DrivenStation] = [self.peer]
        try:
            self.first = [self.station.connect([self.station.endpoint])]
        except BaseException:
            self.stop()
            raise

    def replace(self, lost: Sequence[int]) -> Mapping[int, dict[int, int]]:
        """Refuse: none is lost without this process."""
        return nobody_replaces(lost)

    def check(self) -> None:
        """Do nothing: this process is all that it stands on."""

    def processes(self) -> Sequence[int]:
        """Return none."""
        return ()

    def finish(self) -> tuple[list[MachineOutcome], list[StationOutcome]]:
        """Return what every machine did."""
        machines, station = self.station.finish()
        return machines, [station]

    def outcomes(self) -> list[MachineOutcome]:
        """Return what every machine did so far."""
        return self.station.outcomes()

    def stop(self) -> None:
        """Let go of both ends of the link."""
        self.peer.close()
        self.station.stop()


@contextmanager
def _in_process(cluster: Cluster, seed: int, events: Path | None) -> Iterator[_Runner]:
    local = _Local(cluster, seed, events or Path(), events is not None)
    try:
        yield local
    finally:
        local.stop()


class _Remote:
    """Machines on Ray actors, spread round robin in order of their names."""

    def __init__(
        self, cluster: Cluster, count: int, seed: int, links: Transport, folder: Path, events: Path | None, spread: bool
    ) -> None:
        placement = [rank % count for rank in range(len(cluster.machines))]
        self.actors = Actors(
            cluster,
            placement,
            count,
            seed=seed,
            secret=new_secret(),
            links=links,
            folder=folder,
            events=events,
            spread=spread,
        )
        self.first = self.actors.first
        self.stations: Sequence[DrivenStation] = self.actors.peers
        self.replace = self.actors.replace
        self.check = self.actors.check
        self.processes = self.actors.processes
        self.finish = self.actors.finish

    def outcomes(self) -> list[MachineOutcome]:
        """Return what machines did so far, of those stations that say so at once."""
        try:
            return self.actors.outcomes(PARTIAL_TIMEOUT_S)
        except Exception:  # what went wrong is on its way already
            return []


@contextmanager
def _on_ray(
    cluster: Cluster, count: int, seed: int, links: Transport, address: str | None, events: Path | None
) -> Iterator[_Runner]:
    folder = Path(tempfile.gettempdir()) / f"lrpc-run-{uuid.uuid4().hex}"
    with ray_session(address, count):
        remote = _Remote(cluster, count, seed, links, folder, events, address is not None)
        try:
            yield remote
        finally:
            with undisturbed():
                remote.actors.stop()
