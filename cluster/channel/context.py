"""The context of a call on an A-stack, as handlers of gRPC see it."""

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

import grpc

from lrpc.cluster.channel.form import AGENT_KEY, NEVER, Metadata, Metadatum, checked, has_passed, unpack_metadata
from lrpc.cluster.channel.methods import LOOPS_USER_AGENT, USER_AGENT

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.kernel.host.bindings import ServerBinding

_LOG = logging.getLogger("lrpc.channel")
# What gRPC's contexts say of time where a call has no deadline.
NO_DEADLINE_S: Final = 9.223372035e18
_AGENT: Final = Metadatum(AGENT_KEY, USER_AGENT)
_LOOPS_AGENT: Final = Metadatum(AGENT_KEY, LOOPS_USER_AGENT)
_AUTH: Final = {"transport_security_type": [b"insecure"], "security_level": [b"TSI_SECURITY_NONE"]}


class _Fields(NamedTuple):
    method: str
    invocation_metadata: tuple[Metadatum, ...]


class CallDetails(_Fields, grpc.HandlerCallDetails):  # type: ignore[misc]  # as gRPC's own
    """What interceptors and generic handlers are told of a call."""


class Aborted(Exception):
    """What `abort` raises in the handler."""


class ClientFacts:
    """What a call on an A-stack says of its client, the same in contexts of all kinds."""

    _binding: "ServerBinding"
    _packed: bytes = b""  # metadata

    def invocation_metadata(self) -> tuple[Metadatum, ...]:
        """Return the client's metadata, with its user agent before."""
        told = unpack_metadata(self._packed) if self._packed else ()
        if told and told[0].key == AGENT_KEY:
            return told
        return (_LOOPS_AGENT if self._binding.hears else _AGENT, *told)

    def peer(self) -> str:
        """Return what gRPC says of a client over a UNIX socket."""
        return "unix:"

    def peer_identities(self) -> None:
        """Return None: the client is not authenticated to gRPC."""

    def peer_identity_key(self) -> None:
        """Return None: the client is not authenticated to gRPC."""

    def auth_context(self) -> Mapping[str, Iterable[bytes]]:
        """Return what gRPC says of an insecure connection."""
        return dict(_AUTH)


class Context(ClientFacts, grpc.ServicerContext):  # type: ignore[misc]  # as gRPC's own
    """A `grpc.ServicerContext` whose call lies on an A-stack."""

    # Set by few calls: until then the class has them, and a call costs less to begin. The native
    # part makes the context of one without metadata or deadline, and sets only the first two.
    _binding: "ServerBinding"
    _index: int
    deadline_ns = NEVER
    code_set: object = None
    details_set: str | None = None
    initial: Metadata = ()
    trailing: Metadata = ()
    aborted = cancelled = False
    invalid = False  # the initial metadata are
    said = finished = False  # said is what goes with a response, or in its place
    callbacks: list[Callable[[], None]] | None = None
    _initial_sent = False
    _timer: threading.Timer | None = None

    def __init__(self, binding: "ServerBinding", metadata: bytes, deadline_ns: int, index: int) -> None:
        self._binding, self._index = binding, index
        self._packed = metadata
        self.deadline_ns = deadline_ns

    # --- what the client has sent ----------------------------------------------------------------

    def time_remaining(self) -> float:
        """Return the seconds that are left, or a very long time where there is no deadline."""
        if self.deadline_ns < 0:
            return NO_DEADLINE_S
        return max(0.0, (self.deadline_ns - time.monotonic_ns()) / 1e9)

    def is_active(self) -> bool:
        """Return whether the client still waits."""
        if self.finished or self.cancelled or has_passed(self.deadline_ns) or self._binding.native.ended:
            return False
        return self._index not in self._binding.native.aborted()

    # --- what the handler answers ----------------------------------------------------------------

    def send_initial_metadata(self, initial_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Set the initial metadata. Raises `ValueError` the second time."""
        if self._initial_sent:
            raise ValueError("Initial metadata no longer allowed!")
        self._initial_sent = self.said = True
        try:
            self.initial = checked(initial_metadata or ())
        except (ValueError, TypeError):  # the call will end with that, and its handler does not learn of it
            self.invalid = True

    def set_trailing_metadata(self, trailing_metadata: Iterable[tuple[str, str | bytes]]) -> None:
        """Set the trailing metadata."""
        self.trailing = tuple(Metadatum(*one) for one in trailing_metadata or ())
        self.said = True

    def trailing_metadata(self) -> Metadata | None:  # type: ignore[override]  # as gRPC's own
        """Return the trailing metadata that was set."""
        return self.trailing or None

    def set_code(self, code: object) -> None:
        """Set the status code."""
        self.code_set, self.said = code, True

    def metadata_are_right(self) -> bool:
        """Return whether what was set as metadata can be sent."""
        try:
            return not self.invalid and checked(self.trailing) is not None
        except (ValueError, TypeError):
            return False

    def code(self) -> object:
        """Return the status code that was set."""
        return self.code_set

    def set_details(self, details: str | bytes) -> None:
        """Set the status details."""
        self.details_set = (details if isinstance(details, bytes) else details.encode()).decode()
        self.said = True

    def details(self) -> object:
        """Return the details that were set, as gRPC's contexts do: in bytes."""
        return None if self.details_set is None else self.details_set.encode()

    def abort(self, code: object, details: str) -> NoReturn:
        """Raise an exception that ends the call with this status."""
        if code == grpc.StatusCode.OK:
            _LOG.error("abort() called with StatusCode.OK; returning UNKNOWN")
            code, details = grpc.StatusCode.UNKNOWN, ""
        self.code_set = code
        self.set_details(details)
        self.aborted = True
        raise Aborted

    def abort_with_status(self, status: grpc.Status) -> NoReturn:
        """Raise an exception that ends the call with this status and its trailing metadata."""
        self.trailing = tuple(Metadatum(*one) for one in status.trailing_metadata or ())
        self.abort(status.code, status.details)

    def cancel(self) -> bool:
        """Cancel the call: its client gets CANCELLED."""
        self.cancelled = self.said = True
        self.call_back()
        return True

    def set_compression(self, compression: object) -> None:
        """Accept the wish: nothing is compressed on an A-stack."""

    def disable_next_message_compression(self) -> None:
        """Accept the wish: nothing is compressed on an A-stack."""

    # --- its end ---------------------------------------------------------------------------------

    def add_callback(self, callback: Callable[[], None]) -> bool:
        """Call `callback` when the call ends: returned, cancelled, late, or left by its client.

        Returns False, and does not call it, where the call has ended already.
        """
        if not self.is_active():
            return False
        if self.callbacks is None:
            self.callbacks = []
            self._binding.on_end.add(self.call_back)
            self._binding.on_aborted[self._index] = self.call_back
            if self.deadline_ns >= 0:
                self._timer = threading.Timer(self.time_remaining(), self.call_back)
                self._timer.daemon = True
                self._timer.start()
        self.callbacks.append(callback)
        if not self.is_active():  # it ended in between
            self.call_back()
        return True

    def call_back(self) -> None:
        """Call each callback, once."""
        self._binding.on_end.discard(self.call_back)
        if self._binding.on_aborted.get(self._index) == self.call_back:  # not a later call's
            del self._binding.on_aborted[self._index]
        if self._timer is not None:
            self._timer.cancel()
        while self.callbacks:
            with contextlib.suppress(IndexError):  # another thread has taken the last one
                callback = self.callbacks.pop(0)
                try:
                    callback()
                except Exception:
                    _LOG.exception("Exception in callback")
