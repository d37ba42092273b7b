"""A process's share of a run: its machines on one engine thread, and its end of the links. Ray wraps it elsewhere."""

import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Literal, TypeVar

from lrpc.cluster.description import Cluster
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.group import Group, Report
from lrpc.cluster.link import LinkServer, Peer
from lrpc.cluster.machine import MachineOutcome
from lrpc.kernel.errors import Panic, RunFailed

Links = Literal["grpc", "memory"]
T = TypeVar("T")


class Station:
    """Runs some machines of a cluster.

    Greenlets cannot change threads, so one thread makes and runs the machines; everything else puts things
    in its queue. With `links` "grpc" every message between machines crosses a socket, also within this station.
    """

    def __init__(
        self,
        cluster: Cluster,
        placement: list[int],
        number: int,
        *,
        seed: int,
        secret: str,
        links: Links,
        events: Path | None = None,
        address: str = "127.0.0.1",
    ) -> None:
        self.machines = len(cluster.machines)
        self._placement = placement  # the station of each machine, by rank
        self._number = number
        self._secret = secret
        self._links = links
        self._peers: dict[int, Peer] = {}
        self._batches: dict[int, int] = {}  # sent in this window, by station
        self._engine = ThreadPoolExecutor(max_workers=1, thread_name_prefix="engine")
        ranks = [rank for rank, station in enumerate(placement) if station == number]
        self._make_group = lambda: Group(cluster, ranks, seed, events)
        self._group: Group
        self._open = ExitStack()
        self._server = LinkServer(self, secret, address)

    @property
    def address(self) -> str:
        """Return where this station's link server listens, as host:port."""
        return self._server.address

    @property
    def strangers(self) -> int:
        """Return how many requests came without the run's secret."""
        return self._server.strangers

    def get_address(self) -> str:
        """Return the address, as a method: attributes of actors cannot be asked for."""
        return self.address

    def connect(self, addresses: list[str]) -> Report:
        """Learn where the stations are, in order of their numbers, make the machines, and return what there is to do.

        Not when this is made: what an actor's making raises, Ray does not hand on. Raises `Refused` as `Machine.of`.
        """
        self._peers = {number: Peer(address, self._secret) for number, address in enumerate(addresses)}
        self._group = self._do(self._make_group).result()
        self._open.callback(self._group.close)
        return self._do(self._group.state).result()

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Queue what came for machines of this station. A failure shows at the next window, which follows it."""
        self._do(lambda: self._group.deliver(envelopes)).add_done_callback(_keep(self))

    def advance(self, horizons: Mapping[int, int]) -> Report:
        """Queue a window behind what was delivered before, and wait for its end."""
        return self._do(lambda: self._advance(horizons)).result()

    def finish(self) -> list[MachineOutcome]:
        """Return what the machines did; `RunFailed` where threads still wait."""
        return self._do(self._group.finish).result()

    def stop(self) -> None:
        """Serve no more and let go of every connection."""
        for peer in self._peers.values():
            peer.close()
        self._server.stop()
        self._engine.shutdown()
        self._open.close()

    failure: RunFailed | None = None  # of a delivery, for the window that follows

    def _advance(self, horizons: Mapping[int, int]) -> Report:
        self._batches = {}
        report = self._group.advance(horizons, self._send)
        report.batches = self._batches
        return report

    def _send(self, envelopes: list[Envelope]) -> None:
        if self._links == "memory":
            self._group.deliver(envelopes)
            return
        batches: dict[int, list[Envelope]] = {}
        for envelope in envelopes:
            batches.setdefault(self._placement[envelope.destination], []).append(envelope)
        for number, batch in batches.items():
            self._batches[number] = self._peers[number].send(self._number, batch)

    def _do(self, work: Callable[[], T]) -> "Future[T]":
        def guarded() -> T:
            if self.failure is not None:
                raise self.failure
            try:
                return work()
            except Panic as panic:
                traceback.print_exc()
                raise RunFailed(f"broken invariant: {panic}") from None

        return self._engine.submit(guarded)


def _keep(station: Station) -> Callable[["Future[None]"], None]:
    def keep(future: "Future[None]") -> None:
        error = future.exception()
        if isinstance(error, RunFailed):
            station.failure = error

    return keep
