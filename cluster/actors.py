"""Stations wrapped as Ray actors: Ray starts, stops and replaces them on its nodes, gRPC does the rest."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from threading import Event, Thread
from typing import Any, Final

from lrpc.cluster.description import Cluster
from lrpc.cluster.group import WindowReport, events_file
from lrpc.cluster.interruption import undisturbed
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.package import users_code_by_value
from lrpc.cluster.peer import Endpoint, Peer, send_again
from lrpc.cluster.session import check_reachable, nodes, on_each_node, reason
from lrpc.cluster.station import LOOPBACK, Station, StationAddress, StationOutcome, Transport
from lrpc.kernel.errors import Refused, RunFailed

START_TIMEOUT_S: Final = 120.0
END_TIMEOUT_S: Final = 300.0
ALIVE_TIMEOUT_S: Final = 2.0
CHUNK: Final = 16 * 1024 * 1024  # bytes of an event log
MEMORY_PER_ACTOR: Final = 160 * 1024 * 1024  # bytes: an interpreter with Ray and gRPC, before its machines
MEMORY_PER_MACHINE: Final = 232 * 1024  # bytes: one with two domains (docs/clusters.md)
HEAD_PERIOD_S: Final = 2.0
CLEAN_TIMEOUT_S: Final = 5.0
STARTS: Final = 3  # attempts to start actors, each on the nodes that are there by then


class _Seat(Station):
    """A station as an actor: if others are to reach it from afar, at the address that its node has for Ray."""

    def __init__(self, *arguments: Any, afar: bool, **options: Any) -> None:
        import ray.util

        here: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
        super().__init__(*arguments, **options, address=here if afar else LOOPBACK)


class Actors:
    """The stations of a run on Ray actors. With `spread` they are dealt out to the cluster's nodes, else stay on this.

    `peers` are the coordinator's ends of their links, by the stations' numbers.
    """

    def __init__(
        self,
        cluster: Cluster,
        placement: list[int],
        count: int,
        *,
        seed: int,
        secret: str,
        links: Transport,
        folder: Path,
        events: Path | None,
        spread: bool,
    ) -> None:
        import ray

        self._placement = placement
        self._secret = secret
        self._folder = folder
        self._events = events
        self._spread = spread
        self._here = ray.get_runtime_context().get_node_id()
        _check_room(count, len(cluster.machines))
        self._actor = ray.remote(_Seat)
        with users_code_by_value(cluster):
            self._arguments = (ray.put(cluster), placement)
        self._options = {"seed": seed, "secret": secret, "links": links, "events": events is not None}
        self._handles: dict[int, Any] = {}
        self._places: dict[int, StationAddress] = {}
        self._incarnations = [0] * count
        self.peers: list[Peer] = []
        self._head = _Head(ray.get_runtime_context().gcs_address)
        try:
            self._start(range(count))
            self.peers = [self._peer(number) for number in range(count)]
            self.first: list[WindowReport] = self._ask(range(count), "connect", self._endpoints())
        except BaseException:
            with undisturbed():
                self.stop()
            raise

    def replace(self, lost: Sequence[int]) -> Mapping[int, dict[int, int]]:
        """Start lost stations anew, where there is a node for them, and have the others send them again what they sent.

        Returns for each which batches, by sender, are to come. Raises `RunFailed` where Ray cannot start them, and
        `Lost` for others that are lost as well.
        """
        self._head.check()
        for number in lost:
            self._incarnations[number] += 1
        self._start(lost)
        for number in lost:
            self.peers[number].close()
            self.peers[number] = self._peer(number)
        self._ask(lost, "connect", self._endpoints())
        return send_again(self.peers, lost, self._incarnations, self._endpoints())

    def finish(self) -> tuple[list[MachineOutcome], list[StationOutcome]]:
        """Return what every machine did, and every station; event logs have been fetched where they are wanted."""
        ended: list[tuple[list[MachineOutcome], StationOutcome]] = self._ask(
            range(len(self._handles)), "finish", timeout=END_TIMEOUT_S
        )
        if self._events is not None:
            for rank, number in enumerate(self._placement):
                self._fetch_events(self._events, rank, number)
        return [outcome for outcomes, _ in ended for outcome in outcomes], [station for _, station in ended]

    def outcomes(self, timeout_s: float) -> list[MachineOutcome]:
        """Return what the machines did so far, of those stations that say so in time."""
        import ray

        asked = [handle.outcomes.remote() for handle in self._handles.values()]
        done, _ = ray.wait(asked, num_returns=len(asked), timeout=timeout_s)
        return [outcome for outcomes in ray.get(done) for outcome in outcomes]

    def stop(self) -> None:
        """Let go of the links, end the actors, and remove what they kept on disk."""
        self._head.stop()
        for peer in self.peers:
            peer.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._head.lost:
            return
        for handle in self._handles.values():
            self._kill(handle)
        if self._spread and self._handles:
            folder = str(self._folder)
            try:
                on_each_node(lambda: shutil.rmtree(folder, ignore_errors=True), CLEAN_TIMEOUT_S)
            except Exception:  # a node that is gone has taken its disk along
                return

    def check(self) -> None:
        """Raise `RunFailed` where Ray's head is lost."""
        self._head.check()

    def processes(self) -> list[int]:
        """Return the process of each station, on its own computer."""
        return [self._places[number].process for number in range(len(self._places))]

    def _nodes(self) -> list[dict[str, Any]]:
        found = nodes()
        if not self._spread:
            found = [node for node in found if node["NodeID"] == self._here]
        if not found:
            raise RunFailed("Ray: no node is left that could hold a machine")
        return found

    def _start(self, numbers: Sequence[int]) -> None:
        """Start stations on the nodes there are, and learn where they are; again where a node is lost meanwhile."""
        for left in reversed(range(STARTS)):
            where = self._nodes()
            for number in numbers:
                if number in self._handles:
                    self._kill(self._handles[number])
                self._handles[number] = self._start_one(number, where[number % len(where)])
            try:
                self._places |= zip(numbers, self._ask(numbers, "place"), strict=True)
                return
            except _ActorLost:
                if not left:
                    raise

    def _start_one(self, number: int, node: Mapping[str, Any]) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # Not softly: a node that has joined just now would be passed over, and one node hold everything.
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        actor = self._actor.options(num_cpus=0, max_restarts=0, scheduling_strategy=there)
        incarnation = self._incarnations[number]
        folder = self._folder / f"station-{number}"
        return actor.remote(
            *self._arguments, number, **self._options, folder=folder, afar=self._spread, incarnation=incarnation
        )

    def _peer(self, number: int) -> Peer:
        return Peer(self._places[number].endpoint, self._secret, lost=self._lost)

    def _endpoints(self) -> list[Endpoint]:
        return [self._places[number].endpoint for number in range(len(self._places))]

    def _lost(self) -> set[int]:
        """Return the stations whose actors have ended, as far as Ray knows; `RunFailed` where Ray's head is lost."""
        import ray

        self._head.check()
        asked = [self._handles[number].place.remote() for number in range(len(self._handles))]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=ALIVE_TIMEOUT_S)
        lost = set()
        for number, answer in enumerate(asked):
            if answer in ready:
                try:
                    ray.get(answer)
                except ray.exceptions.ActorUnavailableError:
                    continue
                except ray.exceptions.RayActorError:
                    lost.add(number)
        return lost

    def _kill(self, handle: Any) -> None:
        import ray

        ray.kill(handle)

    def _fetch_events(self, folder: Path, rank: int, number: int) -> None:
        with events_file(folder, rank).open("wb") as file:
            while True:
                data: bytes = self._ask([number], "read_events", rank, file.tell(), CHUNK)[0]
                file.write(data)
                if len(data) < CHUNK:
                    return

    def _ask(
        self, numbers: Sequence[int], method: str, *arguments: object, timeout: float = START_TIMEOUT_S
    ) -> list[Any]:
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
    """An actor's process or node has ended."""


class _Head:
    """Watches whether Ray's head still answers: without it Ray ends this process, a minute later and with no word."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._ended = Event()
        self._lost: str | None = None  # why
        self._thread = Thread(target=self._watch, name="head", daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Return whether it does not."""
        return self._lost is not None

    def check(self) -> None:
        """Raise `RunFailed` where the head is lost."""
        if self._lost is not None:
            raise RunFailed(f"Ray's head node was lost: {self._lost}")

    def stop(self) -> None:
        """Watch no more."""
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
    """Raise `Refused` where the cluster has too few processors or too little memory for a run."""
    import ray

    there: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    processors = int(there.get("CPU", 0))
    if processors < actors:
        raise Refused(f"--actors {actors}: Ray has {processors} processors; ask for fewer, or start Ray with more")
    needs = actors * MEMORY_PER_ACTOR + machines * MEMORY_PER_MACHINE
    if there.get("memory", needs) < needs:
        has = int(there["memory"]) >> 20
        raise Refused(
            f"--actors {actors}: {machines} machines need about {needs >> 20} MiB; Ray has {has}; ask for fewer"
        )
