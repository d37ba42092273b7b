"""Windows without a coordinator, as long as only one station at a time has anything to do.

A client that waits for each of its calls and the server that it calls have work in turn. With a
coordinator, each of their windows would cost it a round trip to a station: to run the client, to
run the server, to run the client again. Instead the coordinator lets the only station that has work
lead. It gives it the synchronisation state, by which the leader grants windows to its own machines.
When another station is the only one with work, the leader hands a token over to that one, with the
state and the messages for it, and waits. The token returns when it is the leader's turn again,
again with messages, so that a call between two stations takes one round trip. It also returns when
several stations have work at once, when nobody has, when the time budget is used up, or when the
run fails.

`Token.path` lists the stations that wait to get a token back. A station on the path is never handed
another one: it gets its turn when the token returns to it.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from lrpc.cluster.envelope import Envelope
from lrpc.cluster.group import Group
from lrpc.cluster.messages import from_raised_at, read_state, to_state
from lrpc.cluster.peer import Peer
from lrpc.cluster.synchronisation_state import Horizons, SynchronisationState
from lrpc.cluster.transport import MOST_MESSAGES, Mailbox
from lrpc.kernel.errors import RunFailed
from lrpc.protos import transport_pb2

WAIT_S: Final = 60.0  # for batches that other stations have sent


class Relay:
    """One station's part in windows without a coordinator.

    All of it runs in the station's engine thread.
    """

    def __init__(
        self,
        number: int,
        incarnation: int,
        group: Group,
        mailbox: Mailbox,
        peers: Mapping[int, Peer],
        state: SynchronisationState,
    ) -> None:
        self._number = number
        self._incarnation = incarnation
        self._group = group
        self._mailbox = mailbox
        self._peers = peers
        self._state = state  # up to date while this station grants windows
        # Messages not sent yet, by station: no station needs them before it runs.
        self._held: dict[int, list[Envelope]] = {}

    def gather(self, station: int) -> None:
        """Take into account that one station holds all machines from now on.

        Raises `RunFailed` where that cannot be.
        """
        if station not in self._peers or self._state.gathered_on not in (None, station):
            raise RunFailed(f"transport: station {self._number} cannot leave all machines to station {station}")
        self._state.gather(station)

    def lead(self, message: transport_pb2.SynchronisationState, budget_ns: int) -> transport_pb2.SynchronisationState:
        """Run windows, and hand over to other stations, for at most `budget_ns` of wall time.

        Returns the synchronisation state afterwards. Raises `RunFailed` where a machine fails or a
        batch does not arrive.
        """
        read_state(message, self._state)
        self._run((), budget_ns)
        self._send_held()
        return to_state(self._state)

    def take_over(self, token: transport_pb2.Token) -> transport_pb2.Token:
        """Run windows for the station that handed over, until it is the turn of one that waits.

        Returns the token with the synchronisation state and the messages for the sender. Raises the
        errors of `lead`.
        """
        self._accept(token)
        self._run(token.path, token.budget_ns)
        batch = self._enclosed(token.sender)
        self._send_held()
        return transport_pb2.Token(sender=self._number, batch=batch, state=to_state(self._state))

    def _run(self, path: Sequence[int], budget_ns: int) -> None:
        """Run windows until more than one station has work, one on the path has, or time is up."""
        state = self._state
        ends = time.monotonic_ns() + budget_ns
        while (left := ends - time.monotonic_ns()) > 0:
            granted = state.grant()
            if len(granted) != 1:
                break
            ((number, horizons),) = granted.items()
            if number == self._number:
                self._run_window(horizons)
            elif number in path:
                break
            else:
                self._hand_over(number, path, left)

    def _run_window(self, horizons: Horizons) -> None:
        """Run a window of this station's machines and apply its report."""
        state = self._state
        began = time.monotonic()
        due = state.pop_due(self._number)
        missing = self._mailbox.await_batches(due, WAIT_S) if due else []
        if missing:
            state.require(self._number, due)
            raise RunFailed(f"transport: a batch from station {missing[0]} to station {self._number} did not arrive")
        report = self._group.advance(horizons, self._hold)
        if self._number in self._held:  # with no other station, even these cross a socket
            self._send(self._number)
        state.apply({self._number: report})
        state.sums.add_window([report])
        state.adapt(time.monotonic() - began)

    def _hand_over(self, number: int, path: Sequence[int], left_ns: int) -> None:
        """Give another station its turn, and wait for the token to come back."""
        batch = self._enclosed(number)
        self._send_held()
        token = transport_pb2.Token(
            sender=self._number,
            incarnation=self._incarnation,
            path=[*path, self._number],
            batch=batch,
            state=to_state(self._state),
            budget_ns=left_ns,
        )
        back = self._peers[number].relay(token, lambda: self._mailbox.abandoned)
        if back.failure:
            raise RunFailed(back.failure, from_raised_at(back.raised_at))
        self._accept(back)
        self._state.sums.rounds += 1

    def _accept(self, token: transport_pb2.Token) -> None:
        """Take the state in a token, and the batch, if any, after those that were sent before."""
        if token.HasField("batch"):
            batch = token.batch
            self._mailbox.await_batches({batch.source_actor: batch.sequence - 1}, WAIT_S)
            if self._mailbox.take(batch):
                raise RunFailed(f"transport: an earlier batch from station {batch.source_actor} did not arrive")
        read_state(token.state, self._state)

    def _enclosed(self, number: int) -> transport_pb2.Batch | None:
        """Return the messages held for a station, for a token: that saves a request for them.

        Returns None where there are none, or too many.
        """
        if not 0 < len(self._held.get(number, [])) <= MOST_MESSAGES:
            return None
        batch = self._peers[number].enclose(self._number, self._held.pop(number))
        self._state.sums.bytes += batch.ByteSize()
        return batch

    def _hold(self, envelopes: list[Envelope]) -> None:
        """Hold messages back, by destination, until a station that needs them runs.

        There are none for this station's own machines, unless it is the only station: then even
        those cross a socket.
        """
        for envelope in envelopes:
            self._held.setdefault(self._state.home[envelope.destination], []).append(envelope)

    def _send_held(self) -> None:
        for number in list(self._held):
            self._send(number)

    def _send(self, number: int) -> None:
        last, size = self._peers[number].send(self._number, self._held.pop(number))
        self._state.due[number][self._number] = last
        self._state.sums.bytes += size
