"""The gRPC link's asking end: what a coordinator asks of stations, and what these send each other."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from threading import Event
from typing import Final, NoReturn, Protocol, TypeVar

import grpc

from lrpc.cluster.envelope import Envelope, to_wire
from lrpc.cluster.group import WindowReport
from lrpc.cluster.journal import Journal
from lrpc.cluster.messages import from_report, from_standing, to_standing, to_times
from lrpc.cluster.standing import Standing
from lrpc.cluster.synchronisation import PATIENCE_S, Lost, TransportDown, Window
from lrpc.cluster.transport import LARGEST_REQUEST, MOST_MESSAGES, OPTIONS, SECRET_KEY
from lrpc.kernel.documents import one_line
from lrpc.kernel.errors import RunFailed
from lrpc.protos import transport_pb2
from lrpc.protos.transport_pb2_grpc import TransportStub

LARGEST_BATCH: Final = LARGEST_REQUEST // 2  # bytes of messages, but for one that is larger by itself
PULSE_S: Final = 5.0  # for one attempt; after that one asks whether the other is there and gets anywhere
RELAY_S: Final = 1.0  # for one attempt to hand over; after that one sees whether it is still wanted
STALL_S: Final = 300.0  # without a single event, though the other answers
FIRST_PAUSE_S: Final = 0.05  # between attempts
LONGEST_PAUSE_S: Final = 1.0
RECONNECT: Final = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
# What may pass: the link is down for a moment, or an answer takes its time. Everything is asked so that it may be
# asked again.
PASSING: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
T = TypeVar("T")
Q = TypeVar("Q", contravariant=True)
A = TypeVar("A", covariant=True)


class _Method(Protocol[Q, A]):
    def __call__(
        self, request: Q, timeout: float | None = None, metadata: tuple[tuple[str, str], ...] | None = None
    ) -> A: ...


@dataclass(frozen=True)
class Endpoint:
    """Where a station's link is, as host:port, and the certificate it is known by; empty where it is not encrypted."""

    address: str
    certificate: bytes = b""


class Peer:
    """Another process, or this one, as the far end of a link.

    A link that is down is tried again for `PATIENCE_S`; then, and where the other end refuses, `RunFailed` says so.
    Where `lost` names stations whose processes have ended, while there is no answer, `Lost` does.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        secret: str,
        *,
        incarnation: int = 0,
        journal: Journal | None = None,
        lost: Callable[[], Collection[int]] = lambda: (),
    ) -> None:
        self.address = endpoint.address
        options = [*OPTIONS, *RECONNECT]
        if endpoint.certificate:
            credentials = grpc.ssl_channel_credentials(endpoint.certificate)
            self._channel = grpc.secure_channel(endpoint.address, credentials, options=options)
        else:
            self._channel = grpc.insecure_channel(endpoint.address, options=options)
        self._stub = TransportStub(self._channel)
        self._metadata = ((SECRET_KEY, secret),)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="peer")  # sends in order
        self._incarnation = incarnation  # of the process that sends
        self._journal = journal
        self._lost = lost
        self._closed = Event()
        self._batches = 0
        self._enclosed: transport_pb2.Batch | None = None
        self._windows = 0
        self._relayed = 0
        self._sent: deque[Future[None]] = deque()
        self._window: Future[WindowReport] | None = None
        self.retries = 0

    def send(self, source_actor: int, envelopes: Sequence[Envelope]) -> tuple[int, int]:
        """Begin to send a batch, or several where it is large; return the last one's sequence, and their bytes."""
        self._raise_what_failed()
        size = 0
        for messages in _batches(envelopes):
            batch = self._batch(source_actor, messages)
            size += batch.ByteSize()
            self._sent.append(self._thread.submit(self._deliver, batch))
        return self._batches, size

    def enclose(self, source_actor: int, envelopes: Sequence[Envelope]) -> transport_pb2.Batch:
        """Return a batch to be delivered within something else; it is kept, to be sent again should that get lost."""
        self._enclosed = self._batch(source_actor, to_wire(envelopes))
        return self._enclosed

    def send_again(self, last: int) -> None:
        """Begin to send all that the journal holds, `last` batches, to another in a lost one's place."""
        assert self._journal is not None
        self._batches = last
        self._sent.append(self._thread.submit(self._deliver_all, self._journal.batches()))

    def send_enclosed(self) -> None:
        """Begin to send by itself what was enclosed last, which may have got lost."""
        if self._enclosed is not None:
            self._sent.append(self._thread.submit(self._deliver, self._enclosed))
            self._enclosed = None

    @property
    def batches(self) -> int:
        """Return the last batch's sequence."""
        return self._batches

    def advance(self, window: Window) -> WindowReport:
        """Run a window there; `RunFailed` where a machine's thread failed or the link broke, `Lost` where nobody is."""
        self._windows += 1
        request = transport_pb2.Window(
            horizons=to_times({rank: ends[0] for rank, ends in window.horizons.items()}),
            afterwards=[ends[1] for ends in window.horizons.values()],
            number=self._windows,
            due=[transport_pb2.Sequence(actor=actor, sequence=last) for actor, last in window.due.items()],
            everything=window.everything,
        )
        return from_report(self._window_of(request))

    def lead(self, standing: Standing) -> bool:
        """Have the station run windows, and hand over, while no two have anything to do; note what came of it."""
        self._windows += 1
        request = transport_pb2.Window(number=self._windows, standing=to_standing(standing))
        answer = self._window_of(request)
        standing.become(from_standing(answer.standing, standing))
        return True

    def relay(self, baton: transport_pb2.Baton, abandoned: Callable[[], bool]) -> transport_pb2.Baton:
        """Hand over, and get it back; `RunFailed` where that failed there, or is abandoned here."""
        self._relayed += 1
        baton.number = self._relayed
        return self._ask(self._stub.Relay, baton, RELAY_S, abandoned)

    def abandon(self) -> None:
        """Have a station wait for no other."""
        self._ask(self._stub.Abandon, transport_pb2.Asked())

    def begin(self, window: Window) -> None:
        """Begin a window there."""
        self._window = self._thread.submit(self.advance, window)

    def end(self) -> WindowReport:
        """Wait for the end of the window that was begun."""
        assert self._window is not None
        return self._window.result()

    def probe(self) -> None:
        """Raise `Lost` where the process there has ended."""
        lost = self._lost() if self.pulse() is None else ()
        if lost:
            raise Lost(f"link to {self.address}: nobody is there", lost)

    def reconnect(self, actor: int, incarnation: int, endpoint: Endpoint) -> int:
        """Have a station send a lost one's successor all it sent before; return the last batch's sequence."""
        request = transport_pb2.Successor(
            actor=actor, incarnation=incarnation, address=endpoint.address, certificate=endpoint.certificate
        )
        return self._ask(self._stub.Reconnect, request).sequence

    def pulse(self) -> tuple[int, str] | None:
        """Return how many events were logged there, and which machine runs; None where there is no answer."""
        try:
            beat = self._stub.Pulse(transport_pb2.Asked(), timeout=PULSE_S, metadata=self._metadata)
        except (grpc.RpcError, ValueError):
            return None
        return beat.events, beat.place

    def close(self) -> None:
        """Give the connection up."""
        self._closed.set()
        self._channel.close()
        self._thread.shutdown(cancel_futures=True)

    def _raise_what_failed(self) -> None:
        while self._sent and self._sent[0].done():
            self._sent.popleft().result()

    def _deliver(self, batch: transport_pb2.Batch) -> None:
        self._ask(self._stub.Deliver, batch)

    def _deliver_all(self, batches: Iterator[transport_pb2.Batch]) -> None:
        for batch in batches:
            self._deliver(batch)

    def _window_of(self, request: transport_pb2.Window) -> transport_pb2.Report:
        answer = self._ask(self._stub.Advance, request)
        if answer.failure:
            raise RunFailed(answer.failure)
        return answer

    def _batch(self, source_actor: int, messages: Sequence[transport_pb2.Message]) -> transport_pb2.Batch:
        """Return the next batch, which the journal has."""
        self._batches += 1
        batch = transport_pb2.Batch(
            source_actor=source_actor, sequence=self._batches, messages=messages, incarnation=self._incarnation
        )
        if self._journal is not None:
            self._journal.add(batch)
        return batch

    def _ask(
        self,
        method: "_Method[Q, A]",
        request: Q,
        attempt_s: float | None = None,
        abandoned: Callable[[], bool] = lambda: False,
    ) -> A:
        """Ask until there is an answer, or no hope of one, or it is abandoned."""
        watch = _Watch(self)
        while True:
            try:
                return method(request, timeout=attempt_s or PULSE_S, metadata=self._metadata)
            except grpc.RpcError as error:
                code, details = _status(error)
                reason = f"{code.name}: {details}"
                if code not in PASSING or self._closed.is_set():
                    self._fail(reason)
            except ValueError as error:  # the channel was closed meanwhile
                self._fail(str(error))
            self.retries += 1
            if abandoned():
                self._fail("abandoned")
            watch.check(reason, late=code is grpc.StatusCode.DEADLINE_EXCEEDED)

    def _fail(self, reason: str) -> NoReturn:
        raise RunFailed(f"link to {self.address}: {one_line(reason)}") from None


def _status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str | None]:
    if not isinstance(error, grpc.Call):
        raise error
    return error.code(), error.details()


def send_again(
    peers: Sequence[Peer], lost: Sequence[int], incarnations: Sequence[int], endpoints: Sequence[Endpoint]
) -> dict[int, dict[int, int]]:
    """Have stations send again, to those made anew in lost ones' places, what they had sent to these.

    Returns for each of these the last batch that comes, by sender. Raises `Lost` for others that are lost as well.
    """
    others = [other for other in range(len(peers)) if other not in lost]
    for other in others:
        peers[other].abandon()
    return {
        number: {other: peers[other].reconnect(number, incarnations[number], endpoints[number]) for other in others}
        for number in lost
    }


class _Watch:
    """Watches one request that is not answered yet: whether anybody is there, and gets anywhere."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._heard = self._moved = time.monotonic()
        self._beat: tuple[int, str] | None = None
        self._pause = FIRST_PAUSE_S

    def check(self, reason: str, *, late: bool) -> None:
        """Return after a while if it is worth asking again; else raise `RunFailed`, or `Lost`."""
        peer = self._peer
        lost = peer._lost()
        if lost:
            raise Lost(f"link to {peer.address}: {one_line(reason)}", lost)
        beat = peer.pulse() if late else None
        now = time.monotonic()
        if beat is not None:
            self._heard = now
            if beat != self._beat:
                self._beat, self._moved = beat, now
            elif now - self._moved > STALL_S:
                raise RunFailed(f"{beat[1]}: gets nowhere: not one event in {STALL_S:g} s")
            return
        if now - self._heard > PATIENCE_S:
            raise TransportDown(f"link to {peer.address}: no answer for {PATIENCE_S:g} s: {one_line(reason)}")
        peer._closed.wait(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)


def _batches(envelopes: Sequence[Envelope]) -> Iterator[list[transport_pb2.Message]]:
    batch: list[transport_pb2.Message] = []
    size = 0
    for message in to_wire(envelopes):
        takes = message.ByteSize()
        if batch and (len(batch) == MOST_MESSAGES or size + takes > LARGEST_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += takes
    if batch:
        yield batch
