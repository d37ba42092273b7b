"""Binds a channel, of either kind: decides which way its calls go, and imports through a door."""

import logging
import os
import sys
import weakref
from typing import Any, Final

import grpc

from lrpc.cluster.channel import decision
from lrpc.cluster.channel.decision import AGENT_OPTIONS, ChannelOptions
from lrpc.cluster.channel.doors import DOORS, INTERFACE, LOCAL_WITHOUT_TLS, passed_on, waits_of
from lrpc.cluster.channel.form import (
    AGENT_KEY,
    MOST_METADATA,
    MOST_RECEIVED,
    SIGNATURE,
    WITHOUT_TLS,
    Ended,
    Metadata,
    Metadatum,
    pack_metadata,
    received,
)
from lrpc.cluster.channel.methods import EXHAUSTED, LOOPS_USER_AGENT, USER_AGENT
from lrpc.kernel.errors import BindingRefused, CallError

_LOG = logging.getLogger("lrpc.channel")
LOG_VARIABLE: Final = "LRPC_CHANNEL_LOG"  # not empty: each decision is written to stderr
AGAIN_NS: Final = 5_000_000_000  # after which it is decided again
SOON_NS: Final = 50_000_000  # likewise after a binding has broken, and twice as long each time
ANSWER_S: Final = 0.2  # that a door may take to answer, before calls go by gRPC
_PLAIN_CREDENTIALS: Final = {"SSLChannelCredentials", "LocalChannelCredentials", "InsecureChannelCredentials"}
MOST_HEAD: Final = 1 << 20  # bytes of metadata and the like that come with a message


class Binder:
    """What a channel needs to bind, and how it has decided last.

    With `notified`, the server sends a message at the end of a call, for an event loop.
    """

    def __init__(
        self,
        target: str,
        options: ChannelOptions | None,
        credentials: grpc.ChannelCredentials | None,  # of a secure channel
        *,
        notified: bool,
    ) -> None:
        self.target = target
        self.decision = decision.Decision(None, "nothing was called yet")
        own = {name: value for name, value in options or () if name.startswith("lrpc.")}
        self._options = passed_on(options) or []
        self._never: str | None = None  # why it takes gRPC whatever its target is
        if credentials is not None:
            self._never = _unfit_credentials(credentials) if own.get(LOCAL_WITHOUT_TLS) else "TLS"
        self._signature = SIGNATURE if credentials is None else WITHOUT_TLS  # a door stands for one kind of port
        self._stopping: weakref.WeakSet[Any] = weakref.WeakSet()  # bindings whose servers take no more calls
        self._pause_ns = AGAIN_NS
        self._where = None if DOORS not in own else str(own[DOORS])
        self._waits, self._notified = waits_of(options), notified
        self.agent = _packed_agent(self._options, LOOPS_USER_AGENT if notified else USER_AGENT)  # with each request
        limits = dict(self._options)
        self.most_sent = _limit(limits.get("grpc.max_send_message_length", -1))
        self.most_received = _limit(limits.get("grpc.max_receive_message_length", 4 << 20))
        soft = _limit(limits.get("grpc.max_metadata_size", MOST_METADATA))
        self._most_metadata = _limit(limits.get("grpc.absolute_max_metadata_size", max(MOST_RECEIVED, soft * 5 // 4)))

    def received(self, code: int, details: str, initial: Metadata, trailing: Metadata) -> Ended:
        """Return how a call ends, as its metadata are within the channel's limits or not.

        Between its two limits, gRPC refuses some by chance; here all of these pass.
        """
        return received(Ended(code, details, initial, trailing), self._most_metadata, EXHAUSTED)

    def leave(self, binding: Any) -> None:
        """Note that the server of a binding takes no more calls; those that run may finish."""
        self._stopping.add(binding)

    def broken(self) -> None:
        """Note that a binding has ended: its server, or another, may soon be back."""
        self._pause_ns = SOON_NS

    def again_ns(self, now_ns: int, *, bound: bool) -> int:
        """Return when to decide again after a decision, which has led to a binding or to none."""
        pause = AGAIN_NS if bound else self._pause_ns
        self._pause_ns = min(2 * pause, AGAIN_NS)
        return now_ns + pause

    def _holds(self, held: Any, found: decision.Decision) -> bool:
        """Return whether a binding is still what the decision says."""
        right = found.door == held.name and found.user == held.sender.uid
        return right and not held.native.ended and held not in self._stopping

    def bind(self, held: Any) -> Any:
        """Decide; return `held` where it is still right, or a new binding, or None for gRPC.

        A binding is a `lrpc.kernel.host.client.ClientBinding`. This may take as long as a door
        takes to answer.
        """
        from lrpc.kernel.host.client import ClientBinding
        from lrpc.kernel.host.doors import doors_at, listed_users

        found = decision.Decision(None, self._never or "")
        if self._never is None:
            found = decision.decide(self.target, self._options, listed_users(self._where))
        before = held
        if held is not None and not self._holds(held, found):
            held = None
        if held is None and found.door is not None:
            try:
                doors = doors_at(self._where)
                try:
                    signatures = (self._signature,)
                    held = ClientBinding(
                        doors, found.door, INTERFACE, signatures, self._waits, self._notified, ANSWER_S
                    )
                    held.largest = min(held.largest, max(self.most_sent, self.most_received) + MOST_HEAD)
                finally:
                    doors.close()
                if found.user != held.sender.uid:
                    held.close()
                    raise BindingRefused(f"the door is of user {held.sender.uid}, the socket of user {found.user}")
            except (CallError, OSError) as error:
                held, found = None, decision.Decision(None, str(error))
        if found != self.decision or held is not before:
            _tell(self.target, found)
        self.decision = found
        return held


class StreamsBeside:
    """The stubs of streams, which a channel of either kind takes from gRPC's channel beside it."""

    beside: Any

    def unary_stream(self, *arguments: Any, **named: Any) -> Any:
        """Return gRPC's own stub."""
        return self.beside.unary_stream(*arguments, **named)

    def stream_unary(self, *arguments: Any, **named: Any) -> Any:
        """Return gRPC's own stub."""
        return self.beside.stream_unary(*arguments, **named)

    def stream_stream(self, *arguments: Any, **named: Any) -> Any:
        """Return gRPC's own stub."""
        return self.beside.stream_stream(*arguments, **named)


def _packed_agent(options: ChannelOptions, usual: str) -> bytes:
    """Return the user agent as packed metadata; nothing where it is the usual one."""
    before, after = ([str(value) for name, value in options if name == one] for one in AGENT_OPTIONS)
    return pack_metadata((Metadatum(AGENT_KEY, " ".join((*before, usual, *after))),)) if before or after else b""


def _unfit_credentials(credentials: grpc.ChannelCredentials) -> str | None:
    """Return why credentials take gRPC whatever the options say; None where they do not.

    Call credentials may be part of a channel's, and gRPC alone can send them. Nothing public tells,
    so only those are fit whose kind, by its name, has none.
    """
    kinds = {type(one).__name__ for one in vars(credentials).values()}
    return None if kinds and kinds <= _PLAIN_CREDENTIALS else "credentials that may have call credentials"


def _limit(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 1 << 30


def _tell(target: str, found: decision.Decision) -> None:
    path = "gRPC" if found.door is None else "A-stack"
    _LOG.info("%s: %s: %s", target, path, found.reason)
    if os.environ.get(LOG_VARIABLE):
        print(f"lrpc: channel to {target}: {path}: {found.reason}", file=sys.stderr, flush=True)
