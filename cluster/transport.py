"""The gRPC link's serving end: one for each process that holds machines, which answers to its own run alone."""

import hmac
import secrets
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition, Lock
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import grpc

from lrpc.cluster.certificates import Identity
from lrpc.cluster.envelope import Envelope, from_wire
from lrpc.cluster.group import WindowReport
from lrpc.cluster.messages import horizons_of, to_report
from lrpc.cluster.standing import Horizons
from lrpc.kernel.documents import one_line
from lrpc.kernel.errors import RunFailed
from lrpc.protos import transport_pb2
from lrpc.protos.transport_pb2_grpc import TransportServicer, add_TransportServicer_to_server

SECRET_KEY: Final = "lrpc-run-secret"  # in the metadata of every request
LARGEST_REQUEST: Final = 64 * 1024 * 1024  # bytes
MOST_MESSAGES: Final = 10_000  # in one batch; what is more goes in another
MISSING_S: Final = 1.0  # for batches that must have come; then one sees whether who sends them is still there
OPTIONS: Final = [
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    ("grpc.max_send_message_length", LARGEST_REQUEST),
    ("grpc.so_reuseport", 0),
    ("grpc.enable_http_proxy", 0),  # a link goes straight to its peer, whatever the environment says
]

A = TypeVar("A")

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]


def new_secret() -> str:
    """Return a secret for one run."""
    return secrets.token_hex(32)


class Host(Protocol):
    """What a link server needs of the process it serves."""

    @property
    def machines(self) -> int:
        """Return how many machines the whole cluster has."""

    def deliver(self, envelopes: list[Envelope]) -> None:
        """Queue what another process sent; returns at once."""

    def advance(self, horizons: Horizons, *, everything: bool) -> WindowReport:
        """Run a window behind what was delivered before, and wait for its end."""

    def lead(self, standing: transport_pb2.Standing) -> transport_pb2.Standing:
        """Run windows while no two stations have anything to do, and wait for the end of that."""

    def relay(self, baton: transport_pb2.Baton) -> transport_pb2.Baton:
        """Do likewise in another's place; its batch has not been taken in yet."""

    def abandon(self) -> None:
        """Wait for no other station any more; return when nothing runs."""

    def beat(self) -> tuple[int, str]:
        """Return how many events were logged so far, and which machine runs, and when."""

    def reconnect(self, actor: int, address: str, certificate: bytes) -> int:
        """Send another in a lost one's place all that was sent to that; return the last batch's sequence."""


class _Secret(grpc.ServerInterceptor):
    """Turns away whoever does not know the run's secret, and counts them."""

    def __init__(self, secret: str) -> None:
        self._secret = secret.encode()
        self.strangers = 0
        self._refusal: Handler = grpc.unary_unary_rpc_method_handler(self._refuse)

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

    def _refuse(self, request: object, context: grpc.ServicerContext) -> None:
        context.abort(grpc.StatusCode.UNAUTHENTICATED, "this link answers to its own run alone")


class Mailbox:
    """What has come from other stations: each batch is taken once, and in order."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._arrival = Condition()  # its lock owns all that follows
        self._batches: dict[int, int] = {}  # the last sequence taken from each station
        self._incarnations: dict[int, int] = {}  # of each
        self._abandoned = False

    def take(self, batch: transport_pb2.Batch) -> int:
        """Take a batch in, unless that has been done or it is from a lost station.

        Returns 0, or the sequence that is due before it. Raises `RunFailed` where no station sends such a batch.
        """
        if len(batch.messages) > MOST_MESSAGES:
            raise RunFailed(f"link: a batch of {len(batch.messages)} messages: at most {MOST_MESSAGES} are taken")
        envelopes = [from_wire(message, self._host.machines) for message in batch.messages]
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

    def expect(self, actor: int, incarnation: int) -> None:
        """Take nothing more from a lost station, and everything from its successor."""
        with self._arrival:
            self._expect(actor, incarnation)

    def knows(self, actor: int, incarnation: int) -> bool:
        """Return whether a station of that incarnation has not been lost, as far as is known here."""
        with self._arrival:
            return incarnation >= self._incarnations.get(actor, 0)

    def await_batches(self, due: Mapping[int, int], patience_s: float) -> list[int]:
        """Wait until batches, by sender, have come; return whose have not, when patience is over or waiting is."""

        def missing() -> list[int]:
            return [actor for actor, sequence in due.items() if self._batches.get(actor, 0) < sequence]

        with self._arrival:
            self._arrival.wait_for(lambda: self._abandoned or not missing(), patience_s)
            return missing()

    def abandon(self, abandoned: bool) -> None:
        """Have nobody wait here, or wait again."""
        with self._arrival:
            self._abandoned = abandoned
            self._arrival.notify_all()

    @property
    def abandoned(self) -> bool:
        """Return whether nobody is to wait."""
        return self._abandoned

    def _expect(self, actor: int, incarnation: int) -> None:
        if incarnation > self._incarnations.get(actor, 0):
            self._incarnations[actor] = incarnation
            self._batches[actor] = 0


class _Once:
    """Does what is asked for once, however often it is asked; by the number of the request."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._number = 0
        self._answer: Future[Any] = Future()

    def answer(self, number: int, work: Callable[[], A], context: grpc.ServicerContext) -> A:
        """Return what `work` returns, or returned when it was asked for first; ask again for a late answer."""
        with self._lock:
            first = number > self._number
            if number < self._number:
                context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"request {number} is over")
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
            context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "it goes on")


class _Service(TransportServicer):
    """Checks what comes and has the station do it."""

    def __init__(self, host: Host, mailbox: Mailbox) -> None:
        self._host = host
        self._mailbox = mailbox
        self._windows = _Once()
        self._batons: dict[tuple[int, int], _Once] = {}  # by sender and its incarnation
        self._lock = Lock()

    def Deliver(self, request: transport_pb2.Batch, context: grpc.ServicerContext) -> transport_pb2.Receipt:  # noqa: N802
        """Take in a batch; one that was taken before, or is from a lost station, is acknowledged and dropped."""
        try:
            due = self._mailbox.take(request)
        except RunFailed as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        if due:
            place = f"batch {request.sequence} from actor {request.source_actor}"
            context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{place}: {due} is due")
        return transport_pb2.Receipt(sequence=request.sequence)

    def Advance(self, request: transport_pb2.Window, context: grpc.ServicerContext) -> transport_pb2.Report:  # noqa: N802
        """Run a window, if what must have come has, and say what is left to do."""
        return self._windows.answer(request.number, lambda: self._run(request), context)

    def Relay(self, request: transport_pb2.Baton, context: grpc.ServicerContext) -> transport_pb2.Baton:  # noqa: N802
        """Run windows, and have others run them, until it is the sender's turn again."""
        if not self._mailbox.knows(request.sender, request.incarnation):
            context.abort(grpc.StatusCode.FAILED_PRECONDITION, f"station {request.sender} was lost")
        with self._lock:
            batons = self._batons.setdefault((request.sender, request.incarnation), _Once())
        return batons.answer(request.number, lambda: self._host.relay(request), context)

    def Abandon(self, request: transport_pb2.Asked, context: grpc.ServicerContext) -> transport_pb2.Asked:  # noqa: N802
        """Wait for no other any more."""
        self._host.abandon()
        return request

    def Pulse(self, request: transport_pb2.Asked, context: grpc.ServicerContext) -> transport_pb2.Beat:  # noqa: N802
        """Say how far the machines have come."""
        events, place = self._host.beat()
        return transport_pb2.Beat(events=events, place=place)

    def Reconnect(self, request: transport_pb2.Successor, context: grpc.ServicerContext) -> transport_pb2.Sequence:  # noqa: N802
        """Forget a lost station, and begin to send its successor what that was sent."""
        self._mailbox.expect(request.actor, request.incarnation)
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
            if request.HasField("standing"):
                return transport_pb2.Report(window=request.number, standing=self._host.lead(request.standing))
            report = self._host.advance(horizons_of(request), everything=request.everything)
        except RunFailed as error:
            return transport_pb2.Report(window=request.number, failure=one_line(str(error)))
        return to_report(report, request.number)


class TransportServer:
    """Serves one process's end of all links on a port of its own, encrypted where it has an identity for that."""

    def __init__(self, host: Host, secret: str, address: str = "127.0.0.1", identity: Identity | None = None) -> None:
        self.mailbox = Mailbox(host)
        self._secret = _Secret(secret)
        self._pool = ThreadPoolExecutor(max_workers=6, thread_name_prefix="link")
        self._server = grpc.server(self._pool, interceptors=[self._secret], options=OPTIONS)
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
        """Serve no more."""
        self._server.stop(grace=None).wait()
        self._pool.shutdown()
