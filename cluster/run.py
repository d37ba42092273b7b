"""Runs a cluster: in this process or on Ray actors, with the same result however it is run.

There are three ways to run one, each a `_Runner`:

- `_Memory`: every machine in one thread of this process, in one order of events.
- `_Local`: every machine in this process as well, but in a `Station` whose messages travel over
  gRPC back to itself.
- `_Remote`: stations on Ray actors, on this computer or on many. A single actor may do without a
  transport between its machines.

A coordinator cuts a run of stations into windows, and where it cuts shows in no result
(`synchronisation`). So a run has one digest: that of a run on a cluster of computers can be
checked on a laptop, and that of a compiled run by interpreted modules. The digest covers every
event of every machine, in the order of machines' names and not of stations.
"""

import os
import socket
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from lrpc.cluster.actors import choose_actors
from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import LOOPBACK, Transport
from lrpc.cluster.group import Group
from lrpc.cluster.held import WindowReport
from lrpc.cluster.interruption import undisturbed
from lrpc.cluster.journal import TimelineFiles
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.synchronisation import Coordinator, InOrder, Progress, Window
from lrpc.cluster.synchronisation_state import SynchronisationState
from lrpc.kernel.errors import Panic, Refused, RunFailed

# gRPC, Ray and certificates take longer to import than a small run: only runs that use them do.
if TYPE_CHECKING:
    from lrpc.cluster.station import StationOutcome

LOOPBACK_TIMEOUT_S: Final = 2.0
PARTIAL_TIMEOUT_S: Final = 1.0  # for the outcomes of a run that is interrupted or fails


@dataclass(frozen=True)
class Outcome:
    """The outcome of a run: of its machines, in order of their names, and of its synchronisation.

    The outcome of a run that did not complete may lack machines and stations.
    """

    machines: Sequence[MachineOutcome]
    actors: int  # 0 for this process
    transport: Transport
    progress: Progress
    stations: Sequence["StationOutcome"] = ()

    @property
    def digest(self) -> str:
        """Return the run's digest, over the names and digests of all machines."""
        return digest_of([(machine.name, machine.digest) for machine in self.machines])


def digest_of(machines: Sequence[tuple[str, bytes]]) -> str:
    """Return the digest of a run: BLAKE2b, 32 bytes, as text.

    `machines` has each machine's name and digest, in order of names. Each name is preceded by its
    length.
    """
    whole = blake2b(digest_size=32)
    for name, digest in machines:
        encoded = name.encode()
        whole.update(len(encoded).to_bytes(4, "little") + encoded + digest)
    return whole.hexdigest()


class _Runner(Protocol):
    """The stations of a run, started in one of the ways to run it."""

    def driver(self, cluster: Cluster, on_progress: Callable[[Progress], None]) -> InOrder | Coordinator:
        """Return what runs the machines to their end."""

    def check(self) -> None:
        """Raise `RunFailed` if anything that the whole run depends on is lost."""

    def processes(self) -> Sequence[int]:
        """Return the process id of each actor; nothing without actors."""

    def finish(self) -> tuple[list[MachineOutcome], list["StationOutcome"]]:
        """End the run, and return what machines and stations did."""

    def so_far(self) -> tuple[list[MachineOutcome], list["StationOutcome"]]:
        """Return what was done so far, without stations that do not answer soon."""


def check_loopback() -> None:
    """Raise `Refused` unless processes of this computer can connect to each other on loopback.

    Links and Ray use 127.0.0.1, and would try to reach it for minutes.
    """
    try:
        with socket.create_server((LOOPBACK, 0)) as server:
            socket.create_connection(server.getsockname(), LOOPBACK_TIMEOUT_S).close()
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        bring_up = "bring it up (ip link set lo up)"
        raise Refused(
            f"loopback, {LOOPBACK}: {reason}; {bring_up}, or run in this process with --actors 0 --links memory"
        ) from None


def run_cluster(
    cluster: Cluster,
    *,
    seed: int = 0,
    actors: int | None = None,
    transport: Transport = "grpc",
    address: str | None = None,
    events: Path | None = None,
    timeline: TimelineFiles | None = None,
    on_progress: Callable[[Progress], None] = lambda progress: None,
    on_window: Callable[[Progress, Sequence[int]], None] = lambda progress, processes: None,
    on_partial: Callable[[Outcome], None] = lambda outcome: None,
    windows: bool = False,
    gather: bool = True,
) -> Outcome:
    """Run a cluster to its end and return the outcome.

    With `actors` 0 it runs in this process, without Ray. `transport` says how machines exchange
    messages: over gRPC, or in memory where all are in one process. `address` is host:port of an
    existing Ray cluster. `events` is a folder for the machines' event logs, and `timeline` names
    one for their parts of a timeline.

    `on_progress` is called as windows end. So is `on_window`, with the process ids of the actors,
    for faults to be injected. If the run ends early, `on_partial` first gets what was measured.

    With `windows`, machines in memory run in windows as they would on actors, which takes longer.
    The sums of the progress then say how long actors would take. Where keeping actors in step takes
    much longer than the machines run, one actor takes over all machines; not without `gather`.

    Raises `Refused` before any work begins. Raises `RunFailed` where a thread raised an error or
    waits for ever, and where the transport is down or an actor is lost for good.
    """
    count = choose_actors(cluster, actors, transport, address)
    if address is None and (count or transport == "grpc"):
        check_loopback()
    if count == 0 and transport == "memory":
        runner = _in_memory(cluster, seed, events, timeline, windows)
    elif count == 0:
        runner = _in_process(cluster, seed, events, timeline)
    else:
        runner = _on_ray(cluster, count, seed, transport, address, events, timeline, gather)

    with runner as running:

        def show(progress: Progress) -> None:
            running.check()
            on_progress(progress)
            on_window(progress, running.processes())

        driver = running.driver(cluster, show)
        try:
            progress = driver.run()
            outcomes, stations = running.finish()
        except (KeyboardInterrupt, RunFailed):
            with undisturbed():
                machines, counted = running.so_far()
                machines.sort(key=lambda machine: machine.name)
                on_partial(Outcome(machines, count, transport, driver.progress, counted))
            raise
    outcomes.sort(key=lambda outcome: outcome.name)
    return Outcome(outcomes, count, transport, progress, stations)


class _Memory:
    """A runner with every machine in this thread, in one order of events."""

    _apart = False

    def __init__(self, cluster: Cluster, seed: int, events: Path | None, timeline: TimelineFiles | None = None) -> None:
        ranks = list(range(len(cluster.machines)))
        self._group = Group(cluster, ranks, seed, events, timeline, apart=self._apart)

    def driver(self, cluster: Cluster, on_progress: Callable[[Progress], None]) -> InOrder | Coordinator:
        """Return what runs the machines to their end."""
        return InOrder(self._group, on_progress)

    def check(self) -> None:
        """Do nothing: the run depends on this process only."""

    def processes(self) -> Sequence[int]:
        """Return nothing: there are no actors."""
        return ()

    def finish(self) -> tuple[list[MachineOutcome], list["StationOutcome"]]:
        """End the run, and return what the machines did."""
        return self._group.finish(), []

    def so_far(self) -> tuple[list[MachineOutcome], list["StationOutcome"]]:
        """Return what the machines did so far."""
        return self._group.outcomes(), []

    def stop(self) -> None:
        """Close the event logs."""
        self._group.close()


class _Windows(_Memory):
    """A runner with every machine in this thread, in windows as if actors held them.

    It is its own only station. The sums of its progress predict how long actors would take.
    """

    _apart = True

    def driver(self, cluster: Cluster, on_progress: Callable[[Progress], None]) -> InOrder | Coordinator:
        """Return what runs the machines to their end."""
        return Coordinator(cluster, [self], [self._group.state()], on_progress)

    def advance(self, window: Window) -> WindowReport:
        """Run a window and return its report."""
        return self._group.advance(window.horizons, self._group.deliver)

    def begin(self, window: Window) -> None:
        """Raise `Panic`: the coordinator begins windows only where several stations run at once."""
        raise Panic("a window was begun on the only station")

    def end(self) -> WindowReport:
        """Raise `Panic`, for the reason given at `begin`."""
        raise Panic("a window was begun on the only station")

    def lead(self, state: SynchronisationState) -> bool:
        """Return False: leading saves round trips to the coordinator, and there are none."""
        return False

    def probe(self) -> None:
        """Do nothing: the station cannot be lost without this process."""


@contextmanager
def _in_memory(
    cluster: Cluster, seed: int, events: Path | None, timeline: TimelineFiles | None, windows: bool
) -> Iterator[_Runner]:
    memory = (_Windows if windows else _Memory)(cluster, seed, events, timeline)
    try:
        yield memory
    finally:
        memory.stop()


class _Local:
    """A runner with one station in this process, to which all messages travel over gRPC."""

    def __init__(self, cluster: Cluster, seed: int, events: Path | None, timeline: TimelineFiles | None) -> None:
        from lrpc.cluster.peer import Peer
        from lrpc.cluster.station import Station
        from lrpc.cluster.transport import new_secret

        secret = new_secret()
        placement = [0] * len(cluster.machines)
        self.station = Station(
            cluster,
            placement,
            0,
            seed=seed,
            secret=secret,
            transport="grpc",
            folder=Path(),  # a station alone keeps no batches
            events=events,
            timeline=timeline,
        )
        self.peer = Peer(self.station.endpoint, secret)
        try:
            self.first = [self.station.connect([self.station.endpoint])]
        except BaseException:
            self.stop()
            raise

    def driver(self, cluster: Cluster, on_progress: Callable[[Progress], None]) -> InOrder | Coordinator:
        """Return what runs the machines to their end."""
        return Coordinator(cluster, [self.peer], self.first, on_progress)

    def check(self) -> None:
        """Do nothing: the run depends on this process only."""

    def processes(self) -> Sequence[int]:
        """Return nothing: there are no actors."""
        return ()

    def finish(self) -> tuple[list[MachineOutcome], list["StationOutcome"]]:
        """End the run, and return what the machines and the station did."""
        machines, station = self.station.finish()
        return machines, [station]

    def so_far(self) -> tuple[list[MachineOutcome], list["StationOutcome"]]:
        """Return what the machines and the station did so far."""
        machines, station = self.station.so_far()
        return machines, [station]

    def stop(self) -> None:
        """Close both ends of the transport."""
        self.peer.close()
        self.station.stop()


@contextmanager
def _in_process(cluster: Cluster, seed: int, events: Path | None, timeline: TimelineFiles | None) -> Iterator[_Runner]:
    local = _Local(cluster, seed, events, timeline)
    try:
        yield local
    finally:
        local.stop()


class _Remote:
    """A runner with stations on Ray actors.

    Machines are dealt out to the stations in turn, in order of their names.
    """

    def __init__(
        self,
        cluster: Cluster,
        count: int,
        seed: int,
        transport: Transport,
        folder: Path,
        events: Path | None,
        timeline: TimelineFiles | None,
        spread: bool,
        gather: bool,
    ) -> None:
        from lrpc.cluster.on_ray.actors import Actors
        from lrpc.cluster.transport import new_secret

        placement = [rank % count for rank in range(len(cluster.machines))]
        self.actors = Actors(
            cluster,
            placement,
            count,
            seed=seed,
            secret=new_secret(),
            transport=transport,
            folder=folder,
            events=events,
            timeline=timeline,
            spread=spread,
        )
        self._transport: Transport = transport
        self._gather = gather
        self.check = self.actors.check
        self.processes = self.actors.processes
        self.finish = self.actors.finish

    def driver(self, cluster: Cluster, on_progress: Callable[[Progress], None]) -> InOrder | Coordinator:
        """Return what runs the machines to their end.

        The actors put the replacement of a lost station in its place.
        """
        return Coordinator(
            cluster,
            self.actors.peers,
            self.actors.first,
            on_progress,
            self.actors.replace,
            transport=self._transport,
            gather=self._gather,
        )

    def so_far(self) -> tuple[list[MachineOutcome], list["StationOutcome"]]:
        """Return what was done so far, without stations that do not answer in time."""
        try:
            found = self.actors.so_far(PARTIAL_TIMEOUT_S)
        except Exception:  # the error that ended the run is being raised already
            return [], []
        return [machine for machines, _ in found for machine in machines], [station for _, station in found]


@contextmanager
def _on_ray(
    cluster: Cluster,
    count: int,
    seed: int,
    transport: Transport,
    address: str | None,
    events: Path | None,
    timeline: TimelineFiles | None,
    gather: bool,
) -> Iterator[_Runner]:
    from lrpc.cluster.on_ray.session import ray_session

    folder = Path(tempfile.gettempdir()) / f"lrpc-run-{uuid.uuid4().hex}"
    with ray_session(address, count):
        remote = _Remote(cluster, count, seed, transport, folder, events, timeline, address is not None, gather)
        try:
            yield remote
        finally:
            with undisturbed():
                remote.actors.stop()
