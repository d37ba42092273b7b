"""The asking end of the transport: requests of the coordinator to stations, and between stations.

A request whose answer does not come is sent again, as all requests may be (`transport`). Three
things can be wrong. The process at the other end may have ended: `lost` says so, and `Lost` is
raised, so that the station is replaced. The transport may be down: it is tried again for
`PATIENCE_S`. Or the other end takes long: then its pulse shows whether events are still logged
there, and only a station that makes no progress for `STALL_S` fails the run.
"""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Event
from typing import Final, Generic, NoReturn, Protocol, TypeAlias, TypeVar

import grpc

from lrpc.cluster.envelope import Envelope
from lrpc.cluster.held import WindowReport
from lrpc.cluster.journal import Journal
from lrpc.cluster.messages import from_raised_at, from_report, read_state, to_protobuf, to_state, to_times
from lrpc.cluster.synchronisation import PATIENCE_S, Lost, TransportDown, Window
from lrpc.cluster.synchronisation_state import SynchronisationState
from lrpc.cluster.transport import LARGEST_REQUEST, MOST_MESSAGES, OPTIONS, SECRET_KEY
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.text import one_line
from lrpc.protos import transport_pb2
from lrpc.protos.transport_pb2_grpc import TransportStub

# Bytes of messages in a batch; one message alone may be larger.
LARGEST_BATCH: Final = LARGEST_REQUEST // 2
# For one attempt of a request. After that the other end's pulse is taken.
PULSE_S: Final = 5.0
# The least time for one attempt to hand a token over; twice that is the most. After that it is
# checked whether that was abandoned.
RELAY_S: Final = 1.0
# Without a single event logged there, though the other end answers.
STALL_S: Final = 300.0
FIRST_PAUSE_S: Final = 0.05  # between attempts
LONGEST_PAUSE_S: Final = 1.0
RECONNECT: Final = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1000),
    ("grpc.max_reconnect_backoff_ms", 1000),
]
# Codes after which a request is sent again: the transport may be down only for a moment, or the
# answer be late.
PASSING: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED)
T = TypeVar("T")
Q = TypeVar("Q", contravariant=True)
A = TypeVar("A", covariant=True)
SentOn = TypeVar("SentOn")  # a stream
AnswerOn = TypeVar("AnswerOn")
_Metadata: TypeAlias = tuple[tuple[str, str], ...]


class _Method(Protocol[Q, A]):
    def __call__(self, request: Q, timeout: float | None = None, metadata: _Metadata | None = None) -> A: ...


class _Streaming(Protocol[Q, A]):
    def __call__(
        self, requests: Iterator[Q], /, timeout: float | None = None, metadata: _Metadata | None = None
    ) -> Iterator[A]: ...


@dataclass(frozen=True)
class Endpoint:
    """Where a station serves, as host:port, and its certificate, empty without encryption."""

    address: str
    certificate: bytes = b""


class Peer:
    """Another process, or this one, at the far end of the transport.

    Methods raise `RunFailed` where the other end refuses, or does not answer for too long. While
    there is no answer they ask `lost`, and raise `Lost` where it names stations whose processes
    have ended. Batches are sent by a thread of the peer's own, in order; what fails there is raised
    by the next `send`. With a journal, every batch is written there first.

    With `taken` the far end is the station itself, which can do nothing before it has its batches.
    `taken` waits for one and returns whether it came. So no thread is woken to send it, and none to
    acknowledge it, which saves a third of the work.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        secret: str,
        *,
        incarnation: int = 0,
        journal: Journal | None = None,
        lost: Callable[[], Collection[int]] = lambda: (),
        taken: Callable[[transport_pb2.Batch], bool] | None = None,
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
        # One thread, so that batches are sent in order.
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="peer")
        self._incarnation = incarnation  # of the station that sends
        self._journal = journal
        self._lost = lost
        self._taken = taken
        self._closed = Event()
        self._batches = 0
        self._enclosed: transport_pb2.Batch | None = None
        self._windows = 0
        self._relayed = 0
        self._tokens = _Stream(self._stub.Relay)
        self._deliveries = _Stream(self._stub.Deliver)
        self._sent: deque[Future[None]] = deque()
        self._window: Future[WindowReport] | None = None
        self.retries = 0

    def send(self, source_actor: int, envelopes: Sequence[Envelope]) -> tuple[int, int]:
        """Begin to send messages as one batch, or as several where they are many or large.

        What goes to the sender itself has arrived when this returns. Returns the sequence of the
        last batch and the bytes of all of them.
        """
        self._raise_failures()
        size = 0
        for messages in _batches(envelopes):
            batch = self._batch(source_actor, messages)
            size += batch.ByteSize()
            if self._taken is None:
                self._sent.append(self._thread.submit(self._deliver, batch))
            else:
                self._ask(self._deliver_here, batch)
        return self._batches, size

    def enclose(self, source_actor: int, envelopes: Sequence[Envelope]) -> transport_pb2.Batch:
        """Return a batch to be delivered within another request.

        It is kept until the next one, to be sent by itself should that request be lost.
        """
        self._enclosed = self._batch(source_actor, to_protobuf(envelopes))
        return self._enclosed

    def send_again(self, last: int) -> None:
        """Begin to send all `last` batches in the journal, to the replacement of a lost station."""
        assert self._journal is not None
        self._batches = last
        self._sent.append(self._thread.submit(self._deliver_all, self._journal.batches()))

    def send_enclosed(self) -> None:
        """Begin to send the batch enclosed last by itself, since it may have been lost."""
        if self._enclosed is not None:
            self._sent.append(self._thread.submit(self._deliver, self._enclosed))
            self._enclosed = None

    @property
    def batches(self) -> int:
        """Return the sequence of the last batch."""
        return self._batches

    def advance(self, window: Window) -> WindowReport:
        """Run a window there and return its report."""
        self._windows += 1
        request = transport_pb2.Window(
            horizons=to_times({rank: ends[0] for rank, ends in window.horizons.items()}),
            afterwards=[ends[1] for ends in window.horizons.values()],
            number=self._windows,
            due=[transport_pb2.Sequence(actor=actor, sequence=last) for actor, last in window.due.items()],
            everything=window.everything,
            gathered_on=window.gathered_on,
        )
        return from_report(self._request_report(request))

    def lead(self, state: SynchronisationState) -> bool:
        """Let the station run windows without the coordinator; update `state` afterwards."""
        self._windows += 1
        request = transport_pb2.Window(number=self._windows, state=to_state(state))
        answer = self._request_report(request)
        read_state(answer.state, state)
        return True

    def relay(self, token: transport_pb2.Token, abandoned: Callable[[], bool]) -> transport_pb2.Token:
        """Hand a token over and wait for it to come back.

        Raises `RunFailed` where that is abandoned meanwhile.
        """
        self._relayed += 1
        token.number = self._relayed
        return self._ask(self._tokens, token, RELAY_S, abandoned)

    def abandon(self) -> None:
        """Make a station give up all waiting for others."""
        self._ask(self._stub.Abandon, transport_pb2.Asked())

    def begin(self, window: Window) -> None:
        """Begin a window there."""
        self._window = self._thread.submit(self.advance, window)

    def end(self) -> WindowReport:
        """Wait for the end of the window that `begin` began, and return its report."""
        assert self._window is not None
        return self._window.result()

    def probe(self) -> None:
        """Return if the process there has not ended; raise `Lost` otherwise."""
        lost = self._lost() if self.pulse() is None else ()
        if lost:
            raise Lost(f"transport to {self.address}: its process has ended", lost)

    def reconnect(self, actor: int, incarnation: int, endpoint: Endpoint) -> int:
        """Make a station send the successor of a lost one all batches it had sent to that.

        Returns the sequence of the last of them.
        """
        request = transport_pb2.Successor(
            actor=actor, incarnation=incarnation, address=endpoint.address, certificate=endpoint.certificate
        )
        return self._ask(self._stub.Reconnect, request).sequence

    def pulse(self) -> tuple[int, str] | None:
        """Return how many events were logged there, and which machine runs; None for no answer."""
        try:
            beat = self._stub.Pulse(transport_pb2.Asked(), timeout=PULSE_S, metadata=self._metadata)
        except (grpc.RpcError, ValueError):
            return None
        return beat.events, beat.place

    def close(self) -> None:
        """Close the connection; requests in progress fail."""
        self._closed.set()
        self._tokens.close()
        self._deliveries.close()
        self._channel.close()
        self._thread.shutdown(cancel_futures=True)

    def _raise_failures(self) -> None:
        while self._sent and self._sent[0].done():
            self._sent.popleft().result()

    def _deliver(self, batch: transport_pb2.Batch) -> None:
        self._ask(self._deliveries, batch)

    def _deliver_here(
        self, request: transport_pb2.Batch, timeout: float | None = None, metadata: _Metadata | None = None
    ) -> transport_pb2.Receipt:
        """Deliver a silent batch to this station; where it does not come, ask for a receipt."""
        assert self._taken is not None
        self._deliveries.put(request, timeout, metadata)
        if self._taken(request):
            return transport_pb2.Receipt(sequence=request.sequence)
        again = transport_pb2.Batch()
        again.CopyFrom(request)
        again.silent = False
        return self._deliveries(again, timeout, metadata)

    def _deliver_all(self, batches: Iterator[transport_pb2.Batch]) -> None:
        for batch in batches:
            self._deliver(batch)

    def _request_report(self, request: transport_pb2.Window) -> transport_pb2.Report:
        answer = self._ask(self._stub.Advance, request)
        if answer.failure:
            raise RunFailed(answer.failure, from_raised_at(answer.raised_at))
        return answer

    def _batch(self, source_actor: int, messages: Sequence[transport_pb2.Message]) -> transport_pb2.Batch:
        """Return the next batch, after writing it to the journal."""
        self._batches += 1
        batch = transport_pb2.Batch(
            source_actor=source_actor,
            sequence=self._batches,
            messages=messages,
            incarnation=self._incarnation,
            silent=self._taken is not None,
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
        """Send a request until it is answered, cannot be answered, or `abandoned` returns true."""
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
        raise RunFailed(f"transport to {self.address}: {one_line(reason)}") from None


class _Stream(Generic[SentOn, AnswerOn]):
    """Sends requests on one stream, each when the last one was answered.

    That takes half as long as a call of gRPC's for each. All of a stream has one deadline. So a new
    one is begun for a request to which the last one would not give the time of an attempt.
    """

    def __init__(self, method: _Streaming[SentOn, AnswerOn]) -> None:
        self._method = method
        self._waiting: SimpleQueue[SentOn | None] = SimpleQueue()
        self._answers: Iterator[AnswerOn] = iter(())
        self._takes_until = 0.0  # requests, in seconds of `time.monotonic`

    def __call__(self, request: SentOn, timeout: float | None = None, metadata: _Metadata | None = None) -> AnswerOn:
        """Send a request; return its answer."""
        self.put(request, timeout, metadata)
        try:
            answer = next(self._answers, None)
            if answer is None:  # another thread was ahead of the request
                raise ValueError("the stream was closed")
            return answer
        except BaseException:
            self.close()
            raise

    def put(self, request: SentOn, timeout: float | None = None, metadata: _Metadata | None = None) -> None:
        """Begin to send a request."""
        now, attempt_s = time.monotonic(), timeout or PULSE_S
        if now > self._takes_until:
            self.close()
            self._waiting = SimpleQueue()
            self._answers = self._method(iter(self._waiting.get, None), timeout=2 * attempt_s, metadata=metadata)
            self._takes_until = now + attempt_s
        self._waiting.put(request)

    def close(self) -> None:
        """End the stream."""
        self._waiting.put(None)
        self._takes_until = 0.0


def _status(error: grpc.RpcError) -> tuple[grpc.StatusCode, str | None]:
    if not isinstance(error, grpc.Call):
        raise error
    return error.code(), error.details()


def send_again(
    peers: Sequence[Peer],
    lost: Sequence[int],
    incarnations: Sequence[int],
    endpoints: Sequence[Endpoint],
    home: Sequence[int],
) -> dict[int, dict[int, int]]:
    """Make all other stations send their earlier batches to the replacements of lost ones.

    Nothing is sent where all machines are at `home` at one station, which makes all messages.
    Returns the sequence of the last batch of each sender, by replaced station and sender. Raises
    `Lost` where other stations are lost as well.
    """
    if len(set(home)) == 1:
        return {number: {} for number in lost}
    others = [other for other in range(len(peers)) if other not in lost]
    for other in others:
        peers[other].abandon()
    return {
        number: {other: peers[other].reconnect(number, incarnations[number], endpoints[number]) for other in others}
        for number in lost
    }


class _Watch:
    """Watches one unanswered request: whether the other end is there, and makes progress."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._heard = self._moved = time.monotonic()
        self._beat: tuple[int, str] | None = None
        self._pause = FIRST_PAUSE_S

    def check(self, reason: str, *, late: bool) -> None:
        """Return after a pause where it makes sense to ask again.

        Raises `RunFailed` or `Lost` otherwise.
        """
        peer = self._peer
        lost = peer._lost()
        if lost:
            raise Lost(f"transport to {peer.address}: {one_line(reason)}", lost)
        beat = peer.pulse() if late else None
        now = time.monotonic()
        if beat is not None:
            self._heard = now
            if beat != self._beat:
                self._beat, self._moved = beat, now
            elif now - self._moved > STALL_S:
                raise RunFailed(f"{beat[1]}: no progress: not one event in {STALL_S:g} s")
            return
        if now - self._heard > PATIENCE_S:
            raise TransportDown(f"transport to {peer.address}: no answer for {PATIENCE_S:g} s: {one_line(reason)}")
        peer._closed.wait(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE_S)


def _batches(envelopes: Sequence[Envelope]) -> Iterator[list[transport_pb2.Message]]:
    batch: list[transport_pb2.Message] = []
    size = 0
    for message in to_protobuf(envelopes):
        takes = message.ByteSize()
        if batch and (len(batch) == MOST_MESSAGES or size + takes > LARGEST_BATCH):
            yield batch
            batch, size = [], 0
        batch.append(message)
        size += takes
    if batch:
        yield batch
