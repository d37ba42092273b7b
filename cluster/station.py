"""A station: one process's share of a run, that is its machines and its end of the transport.

A station is a plain class. Run in one process, there is one; on a cluster, a Ray actor wraps it,
and Ray only starts and stops it (`actors`). Windows and messages travel over gRPC, so a station
does not know where the others are.

Greenlets cannot change threads, so one engine thread makes the machines and runs them. All other
threads, those of gRPC and Ray, put work into its queue and wait.
"""

import os
import traceback
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from lrpc.cluster.certificates import is_loopback, make_identity
from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import LOOPBACK, Envelope, Transport
from lrpc.cluster.group import Group
from lrpc.cluster.held import WindowReport
from lrpc.cluster.journal import Journal, TimelineFiles
from lrpc.cluster.machine import MachineOutcome
from lrpc.cluster.messages import from_protobuf, to_raised_at
from lrpc.cluster.peer import Endpoint, Peer
from lrpc.cluster.relay import Relay
from lrpc.cluster.synchronisation_state import SLOW_WINDOW_S, Horizons, SynchronisationState, runs_in_order
from lrpc.cluster.transport import TransportServer
from lrpc.kernel.errors import Panic, RunFailed
from lrpc.kernel.peak import peak_bytes
from lrpc.protos import transport_pb2

T = TypeVar("T")


@dataclass(frozen=True)
class StationAddress:
    """Where a station can be found."""

    endpoint: Endpoint
    process: int
    folder: Path  # on its own computer, with journals and event logs


@dataclass(frozen=True)
class StationOutcome:
    """What a station's transport and process counted in a run."""

    strangers: int  # requests that came without the run's secret
    retries: int  # of requests to others, while the transport was down or an answer was late
    duplicates: int  # messages that arrived again and were dropped
    memory_bytes: int  # the most that its process had resident


class Station:
    """Runs some machines of a cluster.

    `placement` has the station of each machine, by rank, and `number` is this station's. With
    `transport` "grpc", each message to another station crosses a socket, and if there is only this
    station, each message to another machine does; with "memory" none does. `folder` is where it
    keeps the batches it sends to other stations. `events` is a folder for its machines' event logs,
    and `timeline` names one for their parts of a timeline.
    """

    def __init__(
        self,
        cluster: Cluster,
        placement: list[int],
        number: int,
        *,
        seed: int,
        secret: str,
        transport: Transport,
        folder: Path,
        events: Path | None = None,
        timeline: TimelineFiles | None = None,
        address: str = LOOPBACK,
        incarnation: int = 0,
    ) -> None:
        self.machines = len(cluster.machines)
        self._placement = placement  # the station of each machine, by rank
        self._number = number
        self._secret = secret
        self._transport = transport
        self._folder = folder
        self._incarnation = incarnation  # how many stations of this number were lost before
        self._peers: dict[int, Peer] = {}
        self._journals: dict[int, Journal] = {}
        self._batches: dict[int, int] = {}  # sent in this window, by station
        self._bytes = 0
        self._engine = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        ranks = [rank for rank, station in enumerate(placement) if station == number]
        self._make_group = lambda: Group(cluster, ranks, seed, events, timeline, apart=not self._in_order)
        self._group: Group
        self._relay: Relay
        self._open = ExitStack()
        identity = None if is_loopback(address) else make_identity(address)
        self._server = TransportServer(self, secret, address, identity, max(placement))
        self.endpoint = Endpoint(self._server.address, b"" if identity is None else identity.certificate)

    def address(self) -> StationAddress:
        """Return where this station can be found."""
        return StationAddress(self.endpoint, os.getpid(), self._folder)

    @property
    def _in_order(self) -> bool:
        """Return whether its machines run in one order of events, without a socket between them."""
        return runs_in_order(self._transport, len(self._peers))

    @property
    def strangers(self) -> int:
        """Return how many requests came without the run's secret."""
        return self._server.strangers

    def connect(self, endpoints: Sequence[Endpoint]) -> WindowReport:
        """Connect to all stations, in order of their numbers; make the machines; report on them.

        This is not done by the constructor, since Ray does not pass on what an actor's constructor
        raises. Raises `Refused` for the reasons of `Machine.of`.
        """
        for number, endpoint in enumerate(endpoints):
            if number != self._number:  # messages to itself are made again by its replacement
                self._journals[number] = Journal(self._folder / f"to-{number}.{self._incarnation}.journal")
            self._peers[number] = self._peer(number, endpoint)
        self._group = self._do(self._make_group).result()
        self._open.callback(self._group.close)
        state = SynchronisationState(self._group.reach, self._placement, len(endpoints), in_order=self._in_order)
        mailbox = self._server.mailbox
        self._relay = Relay(self._number, self._incarnation, self._group, mailbox, self._peers, state)
        return self._do(self._group.state).result()

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Queue messages for machines of this station until its next window."""
        self._group.arrived.append(envelopes)

    def advance(self, horizons: Horizons, *, everything: bool = False, gathered_on: int | None = None) -> WindowReport:
        """Run a window after the messages delivered so far; return its report.

        If all machines are `gathered_on` a station, it first takes them over, or gives up its own.
        """
        return self._do(lambda: self._advance(horizons, everything, gathered_on)).result()

    def lead(self, state: transport_pb2.SynchronisationState) -> transport_pb2.SynchronisationState:
        """Run windows without the coordinator while one station at a time has work."""
        return self._do(lambda: self._relay.lead(state, round(SLOW_WINDOW_S * 1e9))).result()

    def relay(self, token: transport_pb2.Token) -> transport_pb2.Token:
        """Run windows in place of the station that sends the token; return the token.

        Where that fails, the returned token says why.
        """
        try:
            return self._do(lambda: self._relay.take_over(token)).result()
        except RunFailed as error:
            return transport_pb2.Token(failure=str(error), raised_at=to_raised_at(error.raised_at))

    def abandon(self) -> None:
        """Give up all waiting for other stations, since one was lost; return when nothing runs.

        Batches that were enclosed in requests to others may be lost with these, and are sent again
        by themselves.
        """
        self._server.mailbox.abandon(True)
        self._do(lambda: None).result()
        self._server.mailbox.abandon(False)
        for peer in self._peers.values():
            peer.send_enclosed()

    @property
    def runs(self) -> str:
        """Return the name of the machine that runs, or which station this is while none does."""
        group = getattr(self, "_group", None)
        return (group.runs if group is not None else "") or f"station {self._number}"

    def beat(self) -> tuple[int, str]:
        """Return how many events were logged, and which machine runs at what virtual time."""
        return self._group.beat()

    def reconnect(self, actor: int, address: str, certificate: bytes) -> int:
        """Replace a lost station by another, and send it all batches that the lost one was sent.

        Returns the sequence of the last of them.
        """
        return self._do(lambda: self._reconnect(actor, Endpoint(address, certificate))).result()

    def so_far(self) -> tuple[list[MachineOutcome], StationOutcome]:
        """Return what the machines did and what the station counted so far."""
        return self._do(self._group.outcomes).result(), self._counted()

    def finish(self) -> tuple[list[MachineOutcome], StationOutcome]:
        """Return the same at the end of the run.

        Raises `RunFailed` where threads still wait.
        """
        return self._do(self._group.finish).result(), self._counted()

    def read_file(self, name: str, at: int, most: int) -> bytes:
        """Return up to `most` bytes of a file in the station's folder, beginning at byte `at`."""
        with (self._folder / name).open("rb") as file:
            file.seek(at)
            return file.read(most)

    def stop(self) -> None:
        """Close the transport and all files."""
        for peer in self._peers.values():
            peer.close()
        self._server.stop()
        self._engine.shutdown()
        for journal in self._journals.values():
            journal.close()
        self._open.close()

    def _counted(self) -> StationOutcome:
        retries = sum(peer.retries for peer in self._peers.values())
        return StationOutcome(self.strangers, retries, self._group.duplicates, peak_bytes())

    def _peer(self, number: int, endpoint: Endpoint) -> Peer:
        taken = self._server.mailbox.has_taken if number == self._number else None
        journal = self._journals.get(number)
        return Peer(endpoint, self._secret, incarnation=self._incarnation, journal=journal, taken=taken)

    def _reconnect(self, actor: int, endpoint: Endpoint) -> int:
        old = self._peers[actor]
        old.close()
        peer = self._peers[actor] = self._peer(actor, endpoint)
        peer.send_again(old.batches)
        return old.batches

    def _advance(self, horizons: Horizons, everything: bool, gathered_on: int | None) -> WindowReport:
        self._batches = {}
        self._bytes = 0
        if gathered_on is not None:
            self._gather(gathered_on)
        report = self._group.advance(horizons, self._send)
        if everything:
            report = self._group.state()
            if gathered_on is None:  # otherwise nobody needs what was sent
                self._batches = {number: peer.batches for number, peer in self._peers.items() if peer.batches}
        report.batches = self._batches
        report.bytes = self._bytes
        return report

    def _gather(self, number: int) -> None:
        """Take over all machines if this is the station of that number, else give up those here."""
        self._relay.gather(number)
        if number != self._number:
            self._group.release()
            return
        self._group.adopt(
            from_protobuf(message, self.machines)
            for journal in self._journals.values()
            for batch in journal.batches()
            for message in batch.messages
        )

    def _send(self, envelopes: list[Envelope]) -> None:
        """Send messages to the stations of their destinations, one batch for each."""
        batches: dict[int, list[Envelope]] = {}
        for envelope in envelopes:
            batches.setdefault(self._placement[envelope.destination], []).append(envelope)
        for number, batch in batches.items():
            self._batches[number], size = self._peers[number].send(self._number, batch)
            self._bytes += size

    def _do(self, work: Callable[[], T]) -> "Future[T]":
        """Run `work` in the engine thread.

        A `Panic` becomes a `RunFailed`, which can be reported to the coordinator.
        """

        def guarded() -> T:
            try:
                return work()
            except Panic as panic:
                traceback.print_exc()
                raise RunFailed(f"broken invariant: {panic}") from None

        return self._engine.submit(guarded)
