"""The gRPC link: one server for each process that holds machines, which answers to its own run alone."""

import hmac
import secrets
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

import grpc

from lrpc.cluster.envelope import Envelope, from_wire, to_wire
from lrpc.cluster.group import Report
from lrpc.kernel.documents import one_line
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.simulated.engine import FOREVER
from lrpc.protos import link_pb2
from lrpc.protos.link_pb2_grpc import LinkServicer, LinkStub, add_LinkServicer_to_server

SECRET_KEY: Final = "lrpc-run-secret"  # in the metadata of every request
LARGEST_REQUEST: Final = 64 * 1024 * 1024  # bytes
MOST_MESSAGES: Final = 10_000  # in one batch; what is more goes in another
TIMEOUT_S: Final = 600.0
OPTIONS: Final = [
    ("grpc.max_receive_message_length", LARGEST_REQUEST),
    ("grpc.max_send_message_length", LARGEST_REQUEST),
    ("grpc.so_reuseport", 0),
]

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
R = TypeVar("R", covariant=True)


class Pending(Protocol[R]):
    """A request under way, as generated stubs return it."""

    def result(self) -> R:
        """Wait for the answer; `grpc.RpcError` where there is none."""

    def code(self) -> grpc.StatusCode:
        """Return how it ended."""

    def details(self) -> str:
        """Return why it ended so."""


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

    def advance(self, horizon: int) -> "Future[Report]":
        """Queue a window."""


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
        self._batches: dict[int, int] = {}  # the last sequence taken from each actor

    def Deliver(self, request: link_pb2.Batch, context: grpc.ServicerContext) -> link_pb2.Receipt:  # noqa: N802
        """Take in a batch; one that was taken before is acknowledged and dropped."""
        due = self._batches.get(request.source_actor, 0) + 1
        if request.sequence > due:
            context.abort(
                grpc.StatusCode.OUT_OF_RANGE, f"batch {request.sequence} from {request.source_actor}: {due} is due"
            )
        if request.sequence == due:
            try:
                self._host.deliver([from_wire(message, self._host.machines) for message in request.messages])
            except RunFailed as error:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, str(error))
            self._batches[request.source_actor] = due
        return link_pb2.Receipt(sequence=request.sequence)

    def Advance(self, request: link_pb2.Window, context: grpc.ServicerContext) -> link_pb2.Report:  # noqa: N802
        """Run a window and say what is left to do."""
        try:
            report = self._host.advance(request.horizon_ns).result()
        except RunFailed as error:
            return link_pb2.Report(window=request.number, failure=one_line(str(error)))
        return to_report(report, request.number)


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
        self._batches = 0
        self._windows = 0
        self._deliveries: list[Pending[link_pb2.Receipt]] = []
        self._window: Pending[link_pb2.Report] | None = None

    def send(self, source_actor: int, envelopes: Sequence[Envelope]) -> None:
        """Begin to send a batch, or several where it is large; `settle` waits until they have been taken."""
        for first in range(0, len(envelopes), MOST_MESSAGES):
            self._batches += 1
            messages = to_wire(envelopes[first : first + MOST_MESSAGES])
            batch = link_pb2.Batch(source_actor=source_actor, sequence=self._batches, messages=messages)
            self._settle_all()  # in order: a batch is refused before the one it follows
            self._deliveries.append(self._stub.Deliver.future(batch, timeout=TIMEOUT_S, metadata=self._metadata))

    def settle(self) -> None:
        """Wait until everything sent has been taken."""
        self._settle_all()

    def begin(self, horizon: int) -> None:
        """Begin a window there."""
        self._windows += 1
        window = link_pb2.Window(horizon_ns=horizon, number=self._windows)
        self._window = self._stub.Advance.future(window, timeout=TIMEOUT_S, metadata=self._metadata)

    def end(self) -> Report:
        """Wait for the window's end; `RunFailed` where a machine's thread failed or the link broke."""
        assert self._window is not None
        answer = self._result(self._window)
        if answer.failure:
            raise RunFailed(answer.failure)
        return from_report(answer)

    def close(self) -> None:
        """Give the connection up."""
        self._channel.close()

    def _settle_all(self) -> None:
        while self._deliveries:
            self._result(self._deliveries.pop(0))

    def _result(self, pending: "Pending[R]") -> R:
        try:
            return pending.result()
        except grpc.RpcError:
            raise RunFailed(f"link to {self.address}: {pending.code().name}: {one_line(pending.details())}") from None


def to_report(report: Report, window: int) -> link_pb2.Report:
    """Return a report as a protobuf message."""
    return link_pb2.Report(
        window=window,
        machines=[
            link_pb2.MachineState(machine=rank, next_ns=-1 if due == FOREVER else due)
            for rank, due in report.next_ns.items()
        ],
        sent=[link_pb2.Sent(destination=rank, arrives_ns=due) for rank, due in report.arrivals.items()],
        calls=report.calls,
        messages=report.messages,
    )


def from_report(message: link_pb2.Report) -> Report:
    """Return the report that a protobuf message holds."""
    next_ns = {one.machine: FOREVER if one.next_ns < 0 else one.next_ns for one in message.machines}
    return Report(next_ns, {one.destination: one.arrives_ns for one in message.sent}, message.calls, message.messages)
