"""A server's methods: who handles them, and how many calls may run."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import grpc

from lrpc.cluster.channel.form import pack_reply

CODES: Final = {code: code.value[0] for code in grpc.StatusCode}
CANCELLED, UNKNOWN, LATE, EXHAUSTED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE = 1, 2, 4, 8, 12, 13, 14
USER_AGENT: Final = f"grpc-python/{grpc.__version__}"
LOOPS_USER_AGENT: Final = f"grpc-python-asyncio/{grpc.__version__}"
LIMIT_TEXT: Final = "Concurrent RPC limit exceeded!"
INVALID_TEXT: Final = "Invalid metadata"
STOPPING_TEXT: Final = "the server is stopping"
# In place of any reply that comes after the deadline: its client may not have looked at the clock.
LATE_REPLY: Final = pack_reply(LATE, "Deadline Exceeded", (), (), b"")
Handler = Any  # grpc.RpcMethodHandler of whatever messages


@dataclass
class Methods:
    """What is registered with a server, and the bounds that hold on both ways together."""

    interceptors: Sequence[Any] = ()
    registered: dict[str, Handler] = field(default_factory=dict)
    generic: list[Any] = field(default_factory=list)
    most_concurrent: int | None = None
    running: int = 0  # on either path, where `most_concurrent` bounds them
    grpc_calls: int = 0  # that came by gRPC, streams as well
    lock: threading.Lock = field(default_factory=threading.Lock)
    stopping: bool = False
    largest: int = 4 << 20  # bytes of a request
    most_sent: int = 1 << 30  # bytes of a response

    def register(self, service: str, handlers: dict[str, Handler]) -> None:
        """Register the handlers of a service by the names of its methods."""
        for name, handler in handlers.items():
            self.registered[f"/{service}/{name}"] = handler

    def handler_of(self, method: str, details: grpc.HandlerCallDetails) -> Handler:
        """Return the handler of a method; None where there is none."""
        handler = self.registered.get(method)
        if handler is not None:
            return handler
        return next((one for generic in self.generic if (one := generic.service(details)) is not None), None)

    def too_large(self, message: bytes) -> str | None:
        """Return what gRPC says of a request that is too large; None where it is not."""
        if len(message) <= self.largest:
            return None
        return f"SERVER: Received message larger than max ({len(message)} vs. {self.largest})"

    def too_long(self, message: bytes) -> str | None:
        """Return what gRPC says of a response that is too large; None where it is not."""
        if len(message) <= self.most_sent:
            return None
        return f"SERVER: Sent message larger than max ({len(message)} vs. {self.most_sent})"

    def enter(self) -> bool:
        """Count a call, on either way; return False where it is one too many."""
        if self.most_concurrent is None:
            return True
        with self.lock:
            if self.running >= self.most_concurrent:
                return False
            self.running += 1
            return True

    def leave(self) -> None:
        """Count a call no more."""
        if self.most_concurrent is not None:
            with self.lock:
                self.running -= 1
