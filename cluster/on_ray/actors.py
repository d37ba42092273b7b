"""Stations as Ray actors: starts them on the nodes of a cluster, and replaces those that are lost.

Actors are shells. Everything that happens in a run is done by `Station`, a plain class that runs
without Ray as well. Ray does only what it is good at: starting, placing and ending processes on the
nodes of a cluster. Windows and messages travel over gRPC (`transport`).

A lost actor is replaced, not restored: no station's state is saved. The new station runs its
machines again from the beginning. It gets the messages that the other stations had sent the lost
one, and so arrives at the same state (`synchronisation`). It may be on any node that is alive by
then. Ray's own restarts are switched off, since the new station needs to know its number of
predecessors and all others need its new address.

A process whose Ray head is lost is ended by Ray after about a minute, without a message. So a
thread watches the head, and the run fails with a message before that.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import LOOPBACK, Transport
from lrpc.cluster.held import WindowReport
from lrpc.cluster.interruption import undisturbed
from lrpc.cluster.journal import TimelineFiles, events_file, timeline_file
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.on_ray.package import users_code_by_value
from lrpc.cluster.on_ray.printed import Lines, PrintedLine, Shown
from lrpc.cluster.on_ray.session import check_reachable, nodes, on_each_node, reason
from lrpc.cluster.peer import Endpoint, Peer, send_again
from lrpc.cluster.station import Station, StationAddress, StationOutcome
from lrpc.kernel.errors import Refused, RunFailed

START_TIMEOUT_S: Final = 120.0
END_TIMEOUT_S: Final = 300.0
ALIVE_TIMEOUT_S: Final = 2.0
CHUNK: Final = 16 * 1024 * 1024  # bytes of a file
# Bytes: an interpreter with Ray and gRPC, without machines.
MEMORY_PER_ACTOR: Final = 160 * 1024 * 1024
MEMORY_PER_MACHINE: Final = 232 * 1024  # bytes: one with two domains (docs/clusters.md)
HEAD_PERIOD_S: Final = 2.0  # between two attempts to reach the head node
CLEAN_TIMEOUT_S: Final = 5.0
PRINTED_TIMEOUT_S: Final = 2.0
STARTS: Final = 3  # attempts to start actors, each on the nodes that are there by then


class _StationActor(Station):
    """A station as a Ray actor.

    With `afar` it serves at its node's address in the Ray cluster, else on loopback only.
    """

    def __init__(self, *arguments: Any, afar: bool, **options: Any) -> None:
        import ray.util

        here: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        super().__init__(*arguments, **options, address=here if afar else LOOPBACK)
        self._lines = Lines(lambda: self.runs)
        sys.stdout, sys.stderr = self._lines.writer("stdout"), self._lines.writer("stderr")

    def printed(self) -> list[PrintedLine]:
        """Return what was printed here since the last time that this was asked."""
        return self._lines.taken()


class Actors:
    """The stations of a run, each in a Ray actor; the coordinator's process owns this object.

    `placement` has the station of each machine, by rank, and `count` is the number of stations.
    With `spread`, stations are dealt out to all nodes of the Ray cluster, else they all stay on
    this node. `events` is the folder here that event logs are copied to, and `timeline` names the
    one for the parts of a timeline; None without. The constructor starts the actors and connects
    them.

    `peers` has the coordinator's end of the transport to each station, and `first` each station's
    first report, both by number. Raises `Refused` where the cluster has too few processors or too
    little memory.
    """

    def __init__(
        self,
        cluster: Cluster,
        placement: list[int],
        count: int,
        *,
        seed: int,
        secret: str,
        transport: Transport,
        folder: Path,
        events: Path | None,
        timeline: TimelineFiles | None,
        spread: bool,
    ) -> None:
        import ray

        self._ranks = {machine.name: rank for rank, machine in enumerate(cluster.machines)}
        self._secret = secret
        self._folder = folder
        self._events = events
        self._timeline = timeline
        self._spread = spread
        self._here = ray.get_runtime_context().get_node_id()
        _check_room(count, len(cluster.machines))
        self._actor = ray.remote(_StationActor)
        with users_code_by_value(cluster):
            self._arguments = (ray.put(cluster), placement)
        self._options = {"seed": seed, "secret": secret, "transport": transport}
        self._handles: dict[int, Any] = {}  # Ray's handles of the actors, by station
        self._addresses: dict[int, StationAddress] = {}
        self._incarnations = [0] * count  # by station: how many of that number were lost
        self.peers: list[Peer] = []
        self._head = _HeadWatch(ray.get_runtime_context().gcs_address)
        self._shown = Shown(self._printed)
        try:
            self._start(range(count))
            self.peers = [self._peer(number) for number in range(count)]
            self.first: list[WindowReport] = self._ask(range(count), "connect", self._endpoints())
        except BaseException:
            with undisturbed():
                self.stop()
            raise

    def replace(self, lost: Sequence[int], home: Sequence[int]) -> Mapping[int, dict[int, int]]:
        """Start replacements for lost stations, and make the others send them their batches again.

        `home` has the station of each machine, by rank. Returns, for each of `lost`, the last batch
        to come from each sender. Raises `RunFailed` where no node is left or Ray cannot start an
        actor, and `Lost` where more stations are lost meanwhile.
        """
        self._head.check()
        self._arguments = (self._arguments[0], list(home))
        for number in lost:
            self._incarnations[number] += 1
        self._start(lost)
        for number in lost:
            self.peers[number].close()
            self.peers[number] = self._peer(number)
        self._ask(lost, "connect", self._endpoints())
        return send_again(self.peers, lost, self._incarnations, self._endpoints(), home)

    def finish(self) -> tuple[list[MachineOutcome], list[StationOutcome]]:
        """End the run: copy the machines' files, and return what machines and stations did.

        Raises `RunFailed` where threads still wait, or an actor does not answer.
        """
        ended: list[tuple[list[MachineOutcome], StationOutcome]] = self._ask(
            range(len(self._handles)), "finish", timeout=END_TIMEOUT_S
        )
        for number, (outcomes, _) in enumerate(ended):
            for rank in (self._ranks[outcome.name] for outcome in outcomes):
                if self._events is not None:
                    self._fetch(events_file(self._events, rank), number)
                if self._timeline is not None:
                    self._fetch(timeline_file(self._timeline.folder, rank), number)
        return [outcome for outcomes, _ in ended for outcome in outcomes], [station for _, station in ended]

    def _printed(self) -> list[PrintedLine]:
        """Return what was printed on the actors that answer in time."""
        import ray

        found = []
        for answer in self._answered("printed", PRINTED_TIMEOUT_S):
            try:
                found += ray.get(answer)
            except ray.exceptions.RayError:  # that actor is lost, with what it printed
                continue
        return found

    def so_far(self, timeout_s: float) -> list[tuple[list[MachineOutcome], StationOutcome]]:
        """Return what machines and stations did so far, of those that answer in `timeout_s`."""
        import ray

        return ray.get(self._answered("so_far", timeout_s))

    def _answered(self, method: str, timeout_s: float) -> list[Any]:
        """Call a method of all stations through Ray; return references to what came in time."""
        import ray

        asked = [getattr(handle, method).remote() for handle in list(self._handles.values())]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=timeout_s) if asked else ([], [])
        return done

    def stop(self) -> None:
        """Close the transport, end the actors, and remove their folders on all nodes."""
        self._shown.stop(last=not self._head.lost)
        self._head.stop()
        for peer in self.peers:
            peer.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._head.lost:  # Ray answers nothing without its head
            return
        for handle in self._handles.values():
            self._kill(handle)
        if self._spread and self._handles:
            folder = str(self._folder)
            try:
                on_each_node(lambda: shutil.rmtree(folder, ignore_errors=True), CLEAN_TIMEOUT_S)
            except Exception:  # the folder is of no use on a node that is lost
                return

    def check(self) -> None:
        """Raise `RunFailed` if Ray's head node is lost."""
        self._head.check()

    def processes(self) -> list[int]:
        """Return the process id of each station, on its own computer."""
        return [self._addresses[number].process for number in range(len(self._addresses))]

    def _nodes(self) -> list[dict[str, Any]]:
        """Return the nodes that may get stations."""
        found = nodes()
        if not self._spread:
            found = [node for node in found if node["NodeID"] == self._here]
        if not found:
            raise RunFailed("Ray: no node is left to run machines on")
        return found

    def _start(self, numbers: Sequence[int]) -> None:
        """Start stations on the live nodes, and note their addresses.

        If an actor is lost meanwhile, as with its node, all of `numbers` are started once more.
        """
        for left in reversed(range(STARTS)):
            where = self._nodes()
            for number in numbers:
                if number in self._handles:
                    self._kill(self._handles[number])
                self._handles[number] = self._start_one(number, where[number % len(where)])
            try:
                self._addresses |= zip(numbers, self._ask(numbers, "address"), strict=True)
                return
            except _ActorLost:
                if not left:
                    raise

    def _start_one(self, number: int, node: Mapping[str, Any]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Hard affinity: with soft affinity, Ray passes over a node that has only just joined, and
        # one node would get all stations.
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actor = self._actor.options(num_cpus=0, max_restarts=0, scheduling_strategy=there)
        incarnation = self._incarnations[number]
        folder = self._folder / f"station-{number}"
        return actor.remote(
            *self._arguments,
            number,
            **self._options,
            folder=folder,
            events=None if self._events is None else folder,
            timeline=None if self._timeline is None else TimelineFiles(folder, self._timeline.bounds),
            afar=self._spread,
            incarnation=incarnation,
        )

    def _peer(self, number: int) -> Peer:
        return Peer(self._addresses[number].endpoint, self._secret, lost=self._lost)

    def _endpoints(self) -> list[Endpoint]:
        return [self._addresses[number].endpoint for number in range(len(self._addresses))]

    def _lost(self) -> set[int]:
        """Return the stations whose actors have ended, as far as Ray knows.

        Raises `RunFailed` if Ray's head node is lost.
        """
        import ray

        self._head.check()
        asked = [self._handles[number].address.remote() for number in range(len(self._handles))]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=ALIVE_TIMEOUT_S)
        lost = set()
        for number, answer in enumerate(asked):
            if answer in ready:
                try:
                    ray.get(answer)
                except ray.exceptions.ActorUnavailableError:  # it may only be slow
                    continue
                except ray.exceptions.RayActorError:
                    lost.add(number)
        return lost

    def _kill(self, handle: Any) -> None:
        import ray

        ray.kill(handle)

    def _fetch(self, path: Path, number: int) -> None:
        """Copy a file of a station to `path` here; in the station's folder it has the same name."""
        with path.open("wb") as file:
            while True:
                data: bytes = self._ask([number], "read_file", path.name, file.tell(), CHUNK)[0]
                file.write(data)
                if len(data) < CHUNK:
                    return

    def _ask(
        self, numbers: Sequence[int], method: str, *arguments: object, timeout: float = START_TIMEOUT_S
    ) -> list[Any]:
        """Call a method of several stations through Ray, all at once, and return the results."""
        import ray

        asked = [getattr(self._handles[number], method).remote(*arguments) for number in numbers]
        try:
            return ray.get(asked, timeout=timeout)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, Refused | RunFailed):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            raise _ActorLost(f"an actor was lost: {reason(error)}") from None
        except ray.exceptions.RayError as error:
            raise RunFailed(f"an actor does not answer: {reason(error)}") from None


class _ActorLost(RunFailed):
    """Raised where an actor's process or node has ended."""


class _HeadWatch:
    """A watch on Ray's head node, by a thread of its own, which tries to reach it again and again.

    Without the head, Ray ends this process about a minute later and without a message. The head
    counts as lost after three failed attempts in a row.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._ended = Event()
        self._lost: str | None = None  # why it is lost; set by the thread, once
        self._thread = Thread(target=self._watch, name="head", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Return whether the head is lost."""
        return self._lost is not None

    def check(self) -> None:
        """Raise `RunFailed` if the head is lost."""
        if self._lost is not None:
            raise RunFailed(f"Ray's head node was lost: {self._lost}")

    def stop(self) -> None:
        """Stop watching."""
        self._ended.set()

    def _watch(self) -> None:
        missed = 0
        while not self._ended.wait(HEAD_PERIOD_S):
            try:
                check_reachable(self._address)
                missed = 0
            except Refused as error:
                missed += 1
                if missed == 3:
                    self._lost = str(error)
                    return


def _check_room(actors: int, machines: int) -> None:
    """Raise `Refused` if the Ray cluster has too few processors or too little memory for a run."""
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    processors = int(there.get("CPU", 0))
    if processors < actors:
        raise Refused(
            f"--actors {actors}: Ray has {processors} processors; ask for fewer actors, or start Ray with more"
        )
    needs = actors * MEMORY_PER_ACTOR + machines * MEMORY_PER_MACHINE
    if there.get("memory", needs) < needs:
        has = int(there["memory"]) >> 20
        raise Refused(
            f"--actors {actors}: {machines} machines need about {needs >> 20} MiB, and Ray has {has}; ask for fewer "
            "actors or machines"
        )
