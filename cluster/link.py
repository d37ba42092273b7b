"""The gRPC link: one server for each process that holds machines, which answers to its own run alone."""

import hmac
import secrets
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Condition
from typing import TYPE_CHECKING, Any, Final, Protocol

import grpc

from lrpc.cluster.envelope import Envelope, from_wire, to_wire
from lrpc.cluster.group import Report
from lrpc.cluster.synchronisation import Window
from lrpc.kernel.documents import one_line
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.protos import link_pb2
from lrpc.protos.link_pb2_grpc import LinkServicer, LinkStub, add_LinkServicer_to_server

SECRET_KEY: Final = "lrpc-run-secret"  # in the metadata of every request
LARGEST_REQUEST: Final = 64 * 1024 * 1024  # bytes
MOST_MESSAGES: Final = 10_000  # in one batch; what is more goes in another
LARGEST_BATCH: Final = LARGEST_REQUEST // 2  # bytes of messages, but for one that is larger by itself
TIMEOUT_S: Final = 300.0  # for one window; it ends sooner by far, or never
OPTIONS: Final = [
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    ("grpc.max_send_message_length", LARGEST_REQUEST),
    ("grpc.so_reuseport", 0),
]

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

    def advance(self, horizons: Mapping[int, int]) -> Report:
        """Queue a window behind what was delivered before, and wait for its end."""


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


class _Service(LinkServicer):
    """Checks what comes and puts it in the queue of the thread that runs the machines."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._arrival = Condition()
        self._batches: dict[int, int] = {}  # the last sequence taken from each actor; owned by the condition's lock

    def Deliver(self, request: link_pb2.Batch, context: grpc.ServicerContext) -> link_pb2.Receipt:  # noqa: N802
        """Take in a batch; one that was taken before is acknowledged and dropped."""
        try:
            envelopes = [from_wire(message, self._host.machines) for message in request.messages]
        except RunFailed as error:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
        with self._arrival:
            due = self._batches.get(request.source_actor, 0) + 1
            if request.sequence > due:
                place = f"batch {request.sequence} from actor {request.source_actor}"
                context.abort(grpc.StatusCode.OUT_OF_RANGE, f"{place}: {due} is due")
            if request.sequence == due:
                self._host.deliver(envelopes)
                self._batches[request.source_actor] = due
                self._arrival.notify_all()
        return link_pb2.Receipt(sequence=request.sequence)

    def Advance(self, request: link_pb2.Window, context: grpc.ServicerContext) -> link_pb2.Report:  # noqa: N802
        """Wait for what must have come, run a window, and say what is left to do."""
        try:
            self._await(request)
            report = self._host.advance({one.machine: one.horizon_ns for one in request.horizons})
        except RunFailed as error:
            return link_pb2.Report(window=request.number, failure=one_line(str(error)))
        return to_report(report, request.number)

    def _await(self, request: link_pb2.Window) -> None:
        def all_came() -> bool:
            return all(self._batches.get(one.actor, 0) >= one.sequence for one in request.due)

        with self._arrival:
            if not self._arrival.wait_for(all_came, TIMEOUT_S):
                late = next(one for one in request.due if self._batches.get(one.actor, 0) < one.sequence)
                what = f"batch {late.sequence} from actor {late.actor}"
                raise RunFailed(f"link: {what} did not come within {TIMEOUT_S:g} s")


class LinkServer:
    """Serves one process's end of all links on a port of its own."""

    def __init__(self, host: Host, secret: str, address: str = "127.0.0.1") -> None:
        self._secret = _Secret(secret)
        self._pool = ThreadPoolExecutor(max_workers=4, thread_name_prefix="link")
        self._server = grpc.server(self._pool, interceptors=[self._secret], options=OPTIONS)
        add_LinkServicer_to_server(_Service(host), self._server)
        port = self._server.add_insecure_port(f"{address}:0")
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


class Peer:
    """Another process, or this one, as the far end of a link. Errors of the link are `RunFailed`."""

    def __init__(self, address: str, secret: str) -> None:
        self.address = address
        self._channel = grpc.insecure_channel(address, options=OPTIONS)
        self._stub = LinkStub(self._channel)
        self._metadata = ((SECRET_KEY, secret),)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="peer")  # sends in order
        self._batches = 0
        self._windows = 0
        self._sent: deque[Future[None]] = deque()
        self._window: Future[Report] | None = None

    def send(self, source_actor: int, envelopes: Sequence[Envelope]) -> int:
        """Begin to send a batch, or several where it is large; return the last one's sequence."""
        while self._sent and self._sent[0].done():
            self._sent.popleft().result()
        for messages in _batches(envelopes):
            self._batches += 1
            batch = link_pb2.Batch(source_actor=source_actor, sequence=self._batches, messages=messages)
            self._sent.append(self._thread.submit(self._deliver, batch))
        return self._batches

    def advance(self, window: Window) -> Report:
        """Run a window there; `RunFailed` where a machine's thread failed or the link broke."""
        self._windows += 1
        request = link_pb2.Window(
            horizons=[link_pb2.Horizon(machine=rank, horizon_ns=end) for rank, end in window.horizons.items()],
            number=self._windows,
            due=[link_pb2.Sequence(actor=actor, sequence=last) for actor, last in window.due.items()],
        )
        with self._failures():
            answer: link_pb2.Report = self._stub.Advance(request, timeout=TIMEOUT_S, metadata=self._metadata)
        if answer.failure:
            raise RunFailed(answer.failure)
        return from_report(answer)

    def begin(self, window: Window) -> None:
        """Begin a window there."""
        self._window = self._thread.submit(self.advance, window)

    def end(self) -> Report:
        """Wait for the end of the window that was begun."""
        assert self._window is not None
        return self._window.result()

    def close(self) -> None:
        """Give the connection up."""
        self._channel.close()
        self._thread.shutdown()

    def _deliver(self, batch: link_pb2.Batch) -> None:
        with self._failures():
            self._stub.Deliver(batch, timeout=TIMEOUT_S, metadata=self._metadata)

    @contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (grpc.RpcError, ValueError) as error:  # ValueError: the channel was closed meanwhile
            code = f"{error.code().name}: {error.details()}" if isinstance(error, grpc.Call) else str(error)
            raise RunFailed(f"link to {self.address}: {one_line(code)}") from None


def _batches(envelopes: Sequence[Envelope]) -> Iterator[list[link_pb2.Message]]:
    batch: list[link_pb2.Message] = []
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


def to_report(report: Report, window: int) -> link_pb2.Report:
    """Return a report as a protobuf message."""
    return link_pb2.Report(
        window=window,
        machines=[
            link_pb2.MachineState(machine=rank, next_ns=-1 if due == FOREVER else due, waits=rank in report.waits)
            for rank, due in report.next_ns.items()
        ],
        sent=[link_pb2.Sent(destination=rank, arrives_ns=due) for rank, due in report.arrivals.items()],
        calls=report.calls,
        messages=report.messages,
        batches=[link_pb2.Sequence(actor=number, sequence=last) for number, last in report.batches.items()],
    )


def from_report(message: link_pb2.Report) -> Report:
    """Return the report that a protobuf message holds."""
    return Report(
        {one.machine: FOREVER if one.next_ns < 0 else one.next_ns for one in message.machines},
        {one.machine for one in message.machines if one.waits},
        {one.destination: one.arrives_ns for one in message.sent},
        message.calls,
        message.messages,
        {one.actor: one.sequence for one in message.batches},
    )
