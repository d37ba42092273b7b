"""The serving end of the transport: gRPC connections that carry messages, windows and tokens.

Every process that holds machines serves one port. It answers only requests that carry the secret of
its run, and treats what comes as hostile until it has been checked.

Requests may be sent again, since a connection may fail when its answer is on the way. So every
request may be repeated without harm. Each pair of stations has its batches numbered: a batch is
taken once, in order, and acknowledged each time it comes. Windows and tokens are numbered too: a
repeated request waits for the answer of the first one. A batch may still be on its way when its
sender has reported its window. So the next window of its receiver says which batches must have
arrived first.
"""

import hmac
import secrets
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from threading import Condition, Event, Lock
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import grpc
from google.protobuf.message import DecodeError

from lrpc.cluster.certificates import Identity
from lrpc.cluster.envelope import Envelope
from lrpc.cluster.held import WindowReport
from lrpc.cluster.messages import from_protobuf, horizons_of, to_raised_at, to_report
from lrpc.cluster.synchronisation_state import Horizons
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.text import one_line
from lrpc.protos import transport_pb2
from lrpc.protos.transport_pb2_grpc import TransportServicer, add_TransportServicer_to_server

SECRET_KEY: Final = "lrpc-run-secret"  # in the metadata of every request
LARGEST_REQUEST: Final = 64 * 1024 * 1024  # bytes
MOST_MESSAGES: Final = 10_000  # in one batch; more messages make another batch
# How long a window waits for the batches it needs, before the coordinator checks their senders.
MISSING_S: Final = 1.0
OPTIONS: Final = [
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    ("grpc.max_send_message_length", LARGEST_REQUEST),
    ("grpc.so_reuseport", 0),
    ("grpc.enable_http_proxy", 0),  # straight to the peer, whatever the environment says
]

# What strangers can have of a station: connections, and streams on each; how long one may take to
# become an HTTP/2 client, and keep a connection without a request; and refusals in a second, after
# which they wait. So the most that wait are CONNECTIONS times STREAMS, and they hold one thread,
# which serves nobody else. A station's own peers, at most 256, have one connection each, and rarely
# more than three requests in progress.
CONNECTIONS: Final = 512
STREAMS: Final = 16
REFUSALS_A_SECOND: Final = 20
SERVER_OPTIONS: Final = [
    *OPTIONS,
    ("grpc.max_allowed_incoming_connections", CONNECTIONS),
    ("grpc.max_concurrent_streams", STREAMS),
    ("grpc.max_metadata_size", 8192),
    ("grpc.absolute_max_metadata_size", 8192),
    ("grpc.server_handshake_timeout_ms", 5000),
    ("grpc.max_connection_idle_ms", 60_000),
]

A = TypeVar("A")

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]


def new_secret() -> str:
    """Return a secret for one run: 32 random bytes as text."""
    return secrets.token_hex(32)


class Host(Protocol):
    """The station that a transport server serves."""

    @property
    def machines(self) -> int:
        """Return how many machines the whole cluster has."""

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Queue the messages of another station; return at once."""

    def advance(self, horizons: Horizons, *, everything: bool, gathered_on: int | None) -> WindowReport:
        """Run a window after all messages delivered so far; return its report.

        Before that, unless it is None, the station `gathered_on` takes over all machines, and any
        other gives up its own.
        """

    def lead(self, state: transport_pb2.SynchronisationState) -> transport_pb2.SynchronisationState:
        """Run windows without the coordinator while one station at a time has work.

        Returns the synchronisation state afterwards.
        """

    def relay(self, token: transport_pb2.Token) -> transport_pb2.Token:
        """Run windows in place of the station that sends the token; return the token.

        The batch in the token has not been accepted yet.
        """

    def abandon(self) -> None:
        """Give up all waiting for other stations; return when nothing runs."""

    def beat(self) -> tuple[int, str]:
        """Return how many events were logged, and which machine runs at what virtual time."""

    def reconnect(self, actor: int, address: str, certificate: bytes) -> int:
        """Send the replacement of a lost station all batches that the lost one was sent.

        Returns the sequence of the last of them.
        """


class _Secret(grpc.ServerInterceptor):
    """Refuses and counts requests that do not carry the run's secret.

    They are refused by a thread of their own, as soon as their headers are there. It is a stream of
    requests that is refused, whatever was called: gRPC begins that without waiting for a body.
    """

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.strangers = 0
        self._second = 0.0  # when the current second of refusals began
        self._refused = 0  # in that second
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="refusal")
        self._ended = Event()

        def refuse(request: object, context: grpc.ServicerContext) -> None:
            if context.is_active():
                self._pace()
            context.abort(grpc.StatusCode.UNAUTHENTICATED, "this station answers only requests of its own run")

        refuse.experimental_thread_pool = self._thread  # type: ignore[attr-defined]  # as gRPC finds it
        self._refusal: Handler = grpc.stream_unary_rpc_method_handler(refuse)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Let a request pass that carries the secret."""
        for key, value in handler_call_details.invocation_metadata or ():
            given = value if isinstance(value, bytes) else value.encode()
            if key == SECRET_KEY and hmac.compare_digest(given, self._secret):
                return continuation(handler_call_details)
        self.strangers += 1
        return self._refusal

    def stop(self) -> None:
        """Refuse what still waits at once, and end the thread."""
        self._ended.set()
        self._thread.shutdown()

    def _pace(self) -> None:
        """Wait for the next second where this one's refusals are used up."""
        now = monotonic()
        if now - self._second >= 1:
            self._second, self._refused = now, 0
        elif self._refused >= REFUSALS_A_SECOND:
            self._ended.wait(self._second + 1 - now)
            self._second, self._refused = monotonic(), 0
        self._refused += 1


class _Reader(grpc.ServerInterceptor):
    """Reads the requests of a stream, and rejects what is no message.

    Where gRPC reads them, it may answer such a request twice. Then it waits for ever to have sent
    the second answer, when the server stops.
    """

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], "Handler | None"],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> "Handler | None":
        """Read the requests of a stream before the service's own handler takes them."""
        handler = continuation(handler_call_details)
        if handler is None or handler.stream_stream is None:
            return handler
        serve, parse = handler.stream_stream, handler.request_deserializer
        assert parse is not None

        def read(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[object]:
            for data in requests:
                try:
                    yield parse(data)
                except DecodeError:
                    context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"{len(data)} bytes that are no message")

        return grpc.stream_stream_rpc_method_handler(
            lambda requests, context: serve(read(requests, context), context),
            response_serializer=handler.response_serializer,
        )


class Mailbox:
    """What has arrived from other stations: each batch is taken once, and in order.

    Threads of gRPC deliver to it, and the station's engine thread waits for batches in it.
    """

    def __init__(self, host: Host) -> None:
        self._host = host
        self._arrival = Condition()  # its lock guards all fields below
        self._batches: dict[int, int] = {}  # sequence of the last batch taken, by station
        self._incarnations: dict[int, int] = {}  # the latest known, by station
        self._abandoned = False

    def take(self, batch: transport_pb2.Batch) -> int:
        """Take a batch, unless it was taken before or comes from a lost station.

        Returns 0, or the sequence of the batch that must come before it. Raises `RunFailed` for a
        batch that no station can have sent.
        """
        if len(batch.messages) > MOST_MESSAGES:
            raise RunFailed(f"transport: a batch of {len(batch.messages)} messages: at most {MOST_MESSAGES} are taken")
        envelopes = [from_protobuf(message, self._host.machines) for message in batch.messages]
        actor = batch.source_actor
        with self._arrival:
            if batch.incarnation < self._incarnations.get(actor, 0):
                return 0
            self._expect(actor, batch.incarnation)
            due = self._batches.get(actor, 0) + 1
            if batch.sequence > due:
                return due
            if batch.sequence == due:
                self._host.deliver(envelopes)
                self._batches[actor] = due
                self._arrival.notify_all()
        return 0

    def expect_successor(self, actor: int, incarnation: int) -> None:
        """Reject batches of a lost station; accept its successor's from the first one."""
        with self._arrival:
            self._expect(actor, incarnation)

    def is_current(self, actor: int, incarnation: int) -> bool:
        """Return whether this incarnation of a station is not known to be lost."""
        with self._arrival:
            return incarnation >= self._incarnations.get(actor, 0)

    def await_batches(self, due: Mapping[int, int], patience_s: float) -> list[int]:
        """Wait until batches, by sender, have arrived.

        Returns the senders whose batches are still missing after `patience_s` seconds, or when
        waiting is abandoned.
        """

        def missing() -> list[int]:
            return [actor for actor, sequence in due.items() if self._batches.get(actor, 0) < sequence]

        with self._arrival:
            self._arrival.wait_for(lambda: self._abandoned or not missing(), patience_s)
            return missing()

    def has_taken(self, batch: transport_pb2.Batch) -> bool:
        """Return whether a batch was taken, before too long or before waiting is abandoned."""
        return not self.await_batches({batch.source_actor: batch.sequence}, MISSING_S)

    def abandon(self, abandoned: bool) -> None:
        """End all waits and refuse new ones, or allow waiting again."""
        with self._arrival:
            self._abandoned = abandoned
            self._arrival.notify_all()

    @property
    def abandoned(self) -> bool:
        """Return whether waiting is not allowed."""
        return self._abandoned

    def _expect(self, actor: int, incarnation: int) -> None:
        if incarnation > self._incarnations.get(actor, 0):
            self._incarnations[actor] = incarnation
            self._batches[actor] = 0


class _Once:
    """Executes a request once, however often it is sent, by the request's number."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._number = 0
        self._answer: Future[Any] = Future()

    def answer(self, number: int, work: Callable[[], A], context: grpc.ServicerContext) -> A:
        """Return the result of `work`, or of its first execution for this request.

        Aborts the request with DEADLINE_EXCEEDED where the result is not there in time: the caller
        then sends it again.
        """
        with self._lock:
            first = number > self._number
            if number < self._number:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"request {number}: a later one was made")
            if first:
                self._number = number
                self._answer = Future()
            answer: Future[A] = self._answer
        if first:
            try:
                answer.set_result(work())
            except BaseException as error:
                answer.set_exception(error)
        try:
            return answer.result(context.time_remaining())
        except TimeoutError:
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "still running")


class _Service(TransportServicer):
    """The gRPC service: checks requests and passes them to the station."""

    def __init__(self, host: Host, mailbox: Mailbox) -> None:
        self._host = host
        self._mailbox = mailbox
        self._windows = _Once()
        self._tokens: defaultdict[tuple[int, int], _Once] = defaultdict(_Once)  # by sender and its incarnation
        self._lock = Lock()

    def Deliver(  # noqa: N802
        self, requests: Iterator[transport_pb2.Batch], context: grpc.ServicerContext
    ) -> Iterator[transport_pb2.Receipt]:
        """Take each batch; drop and acknowledge one taken before, or from a lost station.

        A silent batch is not acknowledged.
        """
        for batch in requests:
            try:
                due = self._mailbox.take(batch)
            except RunFailed as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            if due:
                place = f"batch {batch.sequence} from actor {batch.source_actor}"
                context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{place} came before batch {due}")
            if not batch.silent:
                yield transport_pb2.Receipt(sequence=batch.sequence)

    def Advance(self, request: transport_pb2.Window, context: grpc.ServicerContext) -> transport_pb2.Report:  # noqa: N802
        """Run a window, if the batches that it needs have arrived, and report."""
        return self._windows.answer(request.number, lambda: self._run(request), context)

    def Relay(  # noqa: N802
        self, requests: Iterator[transport_pb2.Token], context: grpc.ServicerContext
    ) -> Iterator[transport_pb2.Token]:
        """For each token, run windows until it is the sender's turn again, and return the token."""
        for token in requests:
            if not self._mailbox.is_current(token.sender, token.incarnation):
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"station {token.sender} was lost")
            with self._lock:
                tokens = self._tokens[token.sender, token.incarnation]
            yield tokens.answer(token.number, partial(self._host.relay, token), context)

    def Abandon(self, request: transport_pb2.Asked, context: grpc.ServicerContext) -> transport_pb2.Asked:  # noqa: N802
        """Give up all waiting for other stations."""
        self._host.abandon()
        return request

    def Pulse(self, request: transport_pb2.Asked, context: grpc.ServicerContext) -> transport_pb2.Beat:  # noqa: N802
        """Return how far the machines are."""
        events, place = self._host.beat()
        return transport_pb2.Beat(events=events, place=place)

    def Reconnect(self, request: transport_pb2.Successor, context: grpc.ServicerContext) -> transport_pb2.Sequence:  # noqa: N802
        """Drop what comes from a lost station; begin to send its successor all earlier batches."""
        self._mailbox.expect_successor(request.actor, request.incarnation)
        try:
            last = self._host.reconnect(request.actor, request.address, request.certificate)
        except RunFailed as error:
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, one_line(str(error)))
        return transport_pb2.Sequence(actor=request.actor, sequence=last)

    def _run(self, request: transport_pb2.Window) -> transport_pb2.Report:
        missing = self._mailbox.await_batches({one.actor: one.sequence for one in request.due}, MISSING_S)
        if missing:
            return transport_pb2.Report(window=request.number, missing=missing)
        try:
            if request.HasField("state"):
                return transport_pb2.Report(window=request.number, state=self._host.lead(request.state))
            gathered_on = request.gathered_on if request.HasField("gathered_on") else None
            report = self._host.advance(horizons_of(request), everything=request.everything, gathered_on=gathered_on)
        except RunFailed as error:
            failure, raised_at = one_line(str(error)), to_raised_at(error.raised_at)
            return transport_pb2.Report(window=request.number, failure=failure, raised_at=raised_at)
        return to_report(report, request.number)


class TransportServer:
    """Serves one process's end of the transport on a port of its own.

    Connections are encrypted if an identity is given. Each of `others` may hold two threads, which
    wait for its batches and its tokens, and the process itself one.
    """

    def __init__(
        self, host: Host, secret: str, address: str = "127.0.0.1", identity: Identity | None = None, others: int = 0
    ) -> None:
        self.mailbox = Mailbox(host)
        self._secret = _Secret(secret)
        self._pool = ThreadPoolExecutor(max_workers=7 + 2 * others, thread_name_prefix="transport")
        self._server = grpc.server(self._pool, interceptors=[self._secret, _Reader()], options=SERVER_OPTIONS)
        add_TransportServicer_to_server(_Service(host, self.mailbox), self._server)
        if identity is None:
            port = self._server.add_insecure_port(f"{address}:0")
        else:
            credentials = grpc.ssl_server_credentials([(identity.key, identity.certificate)])
            port = self._server.add_secure_port(f"{address}:0", credentials)
        self.address = f"{address}:{port}"
        self._server.start()

    @property
    def strangers(self) -> int:
        """Return how many requests came without the run's secret."""
        return self._secret.strangers

    def stop(self) -> None:
        """Stop serving; requests in progress are cancelled."""
        ended = self._server.stop(grace=None)
        self._secret.stop()
        ended.wait()
        self._pool.shutdown()
