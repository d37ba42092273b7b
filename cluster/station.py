"""A process's share of a run: its machines on one engine thread, and its end of the links. Ray wraps it elsewhere."""

import os
import resource
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

from lrpc.cluster.certificates import is_loopback, make_identity
from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.group import Group, WindowReport, events_file
from lrpc.cluster.journal import Journal
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.peer import Endpoint, Peer
from lrpc.cluster.relay import Relay
from lrpc.cluster.standing import SLOW_WINDOW_S, Horizons, Standing
from lrpc.cluster.transport import TransportServer
from lrpc.kernel.errors import Panic, RunFailed
from lrpc.protos import transport_pb2

Transport = Literal["grpc", "memory"]
T = TypeVar("T")
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True)
class StationAddress:
    """Where a station is."""

    endpoint: Endpoint
    process: int
    folder: Path  # on its own computer: journals and event logs


@dataclass(frozen=True)
class StationOutcome:
    """What a station's link and process came to."""

    strangers: int  # requests that came without the run's secret
    retries: int  # of what was asked of others while a link was down
    duplicates: int  # messages that came again
    memory_bytes: int  # of the process, at most


class Station:
    """Runs some machines of a cluster.

    Greenlets cannot change threads, so one thread makes and runs the machines; everything else puts things
    in its queue. With `links` "grpc" every message to another station crosses a socket, and where there is no other,
    every message to another machine does.
    `folder` is where it keeps what it sends to other stations, and with `events` its machines' logs.
    """

    def __init__(
        self,
        cluster: Cluster,
        placement: list[int],
        number: int,
        *,
        seed: int,
        secret: str,
        links: Transport,
        folder: Path,
        events: bool = False,
        address: str = LOOPBACK,
        incarnation: int = 0,
    ) -> None:
        self.machines = len(cluster.machines)
        self._placement = placement  # the station of each machine, by rank
        self._number = number
        self._secret = secret
        self._links = links
        self._folder = folder
        self._incarnation = incarnation  # how often a process in this place was lost before
        self._peers: dict[int, Peer] = {}
        self._journals: dict[int, Journal] = {}
        self._batches: dict[int, int] = {}  # sent in this window, by station
        self._bytes = 0
        self._engine = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        ranks = [rank for rank, station in enumerate(placement) if station == number]
        self._make_group = lambda: Group(cluster, ranks, seed, folder if events else None)
        self._group: Group
        self._relay: Relay
        self._open = ExitStack()
        identity = None if is_loopback(address) else make_identity(address)
        self._server = TransportServer(self, secret, address, identity)
        self.endpoint = Endpoint(self._server.address, b"" if identity is None else identity.certificate)

    def place(self) -> StationAddress:
        """Return where this station is."""
        return StationAddress(self.endpoint, os.getpid(), self._folder)

    @property
    def strangers(self) -> int:
        """Return how many requests came without the run's secret."""
        return self._server.strangers

    def connect(self, endpoints: Sequence[Endpoint]) -> WindowReport:
        """Learn where the stations are, in order of their numbers, make the machines, and return what there is to do.

        Not when this is made: what an actor's making raises, Ray does not hand on. Raises `Refused` as `Machine.of`.
        """
        for number, endpoint in enumerate(endpoints):
            if number != self._number:  # what it sends itself is lost with itself, and made again
                self._journals[number] = Journal(self._folder / f"to-{number}.{self._incarnation}.journal")
            self._peers[number] = self._peer(number, endpoint)
        self._group = self._do(self._make_group).result()
        self._open.callback(self._group.close)
        like = Standing(self._group.reach, self._placement, len(endpoints))
        mailbox = self._server.mailbox
        self._relay = Relay(self._number, self._incarnation, self._group, mailbox, self._peers, like)
        return self._do(self._group.state).result()

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Queue what came for machines of this station; the next window takes it in."""
        self._group.arrived.append(envelopes)

    def advance(self, horizons: Horizons, *, everything: bool = False) -> WindowReport:
        """Run a window behind what was delivered before, and wait for its end."""
        return self._do(lambda: self._advance(horizons, everything)).result()

    def lead(self, standing: transport_pb2.Standing) -> transport_pb2.Standing:
        """Run windows, and have others run them, while no two stations have anything to do."""
        return self._do(lambda: self._relay.lead(standing, round(SLOW_WINDOW_S * 1e9))).result()

    def relay(self, baton: transport_pb2.Baton) -> transport_pb2.Baton:
        """Do so in another's place."""
        try:
            return self._do(lambda: self._relay.take_over(baton)).result()
        except RunFailed as error:
            return transport_pb2.Baton(failure=str(error))

    def abandon(self) -> None:
        """Wait for no other station any more, and send by itself what was enclosed in what is abandoned."""
        self._server.mailbox.abandon(True)
        self._do(lambda: None).result()
        self._server.mailbox.abandon(False)
        for peer in self._peers.values():
            peer.send_enclosed()

    def beat(self) -> tuple[int, str]:
        """Return how many events were logged, and which machine runs, and when."""
        return self._group.beat()

    def reconnect(self, actor: int, address: str, certificate: bytes) -> int:
        """Send another in a lost one's place all that was sent to that; return the last batch's sequence."""
        return self._do(lambda: self._reconnect(actor, Endpoint(address, certificate))).result()

    def outcomes(self) -> list[MachineOutcome]:
        """Return what the machines did so far."""
        return self._do(self._group.outcomes).result()

    def finish(self) -> tuple[list[MachineOutcome], StationOutcome]:
        """Return what the machines did, and what that took; `RunFailed` where threads still wait."""
        machines = self._do(self._group.finish).result()
        retries = sum(peer.retries for peer in self._peers.values())
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return machines, StationOutcome(self.strangers, retries, self._group.duplicates, memory)

    def read_events(self, rank: int, at: int, most: int) -> bytes:
        """Return up to `most` bytes of a machine's event log, from `at` on."""
        with events_file(self._folder, rank).open("rb") as file:
            file.seek(at)
            return file.read(most)

    def stop(self) -> None:
        """Serve no more and let go of every connection."""
        for peer in self._peers.values():
            peer.close()
        self._server.stop()
        self._engine.shutdown()
        for journal in self._journals.values():
            journal.close()
        self._open.close()

    def _peer(self, number: int, endpoint: Endpoint) -> Peer:
        return Peer(endpoint, self._secret, incarnation=self._incarnation, journal=self._journals.get(number))

    def _reconnect(self, actor: int, endpoint: Endpoint) -> int:
        old = self._peers[actor]
        old.close()
        peer = self._peers[actor] = self._peer(actor, endpoint)
        peer.send_again(old.batches)
        return old.batches

    def _advance(self, horizons: Horizons, everything: bool) -> WindowReport:
        self._batches = {}
        self._bytes = 0
        report = self._group.advance(horizons, self._send)
        if everything:
            report = self._group.state()
            self._batches = {number: peer.batches for number, peer in self._peers.items() if peer.batches}
        report.batches = self._batches
        report.bytes = self._bytes
        return report

    def _send(self, envelopes: list[Envelope]) -> None:
        if self._links == "memory":
            self._group.deliver(envelopes)
            return
        batches: dict[int, list[Envelope]] = {}
        for envelope in envelopes:
            batches.setdefault(self._placement[envelope.destination], []).append(envelope)
        for number, batch in batches.items():
            if number == self._number and len(self._peers) > 1:
                self._group.deliver(batch)
                continue
            self._batches[number], size = self._peers[number].send(self._number, batch)
            self._bytes += size

    def _do(self, work: Callable[[], T]) -> "Future[T]":
        def guarded() -> T:
            try:
                return work()
            except Panic as panic:
                traceback.print_exc()
                raise RunFailed(f"broken invariant: {panic}") from None

        return self._engine.submit(guarded)
