"""Windows without a coordinator: while just one station has anything to do, it runs, and then hands over to the next.

A client that waits for each of its calls, and the server that it calls, so need one round trip for a call.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Final

from lrpc.cluster.envelope import Envelope
from lrpc.cluster.group import Group
from lrpc.cluster.messages import from_standing, to_standing
from lrpc.cluster.peer import Peer
from lrpc.cluster.standing import Horizons, Standing
from lrpc.cluster.transport import MOST_MESSAGES, Mailbox
from lrpc.kernel.errors import RunFailed
from lrpc.protos import transport_pb2

WAIT_S: Final = 60.0  # for batches that have been sent


class Relay:
    """One station's part in it. All of it runs in the station's engine thread."""

    def __init__(
        self,
        number: int,
        incarnation: int,
        group: Group,
        mailbox: Mailbox,
        peers: Mapping[int, Peer],
        like: Standing,
    ) -> None:
        self._number = number
        self._incarnation = incarnation
        self._group = group
        self._mailbox = mailbox
        self._peers = peers
        self._like = like
        self._held: dict[int, list[Envelope]] = {}  # that nobody needs before it runs, by station

    def lead(self, message: transport_pb2.Standing, budget_ns: int) -> transport_pb2.Standing:
        """Run windows, and have others run them, and return what came of it all."""
        standing = self._run(from_standing(message, self._like), (), budget_ns)
        self._send_held(standing)
        return to_standing(standing)

    def take_over(self, baton: transport_pb2.Baton) -> transport_pb2.Baton:
        """Do so in another's place, until it is the turn of one of those that wait; what that gets comes along."""
        if baton.HasField("batch"):
            self._take(baton.batch)
        standing = self._run(from_standing(baton.standing, self._like), tuple(baton.path), baton.budget_ns)
        back = transport_pb2.Baton(sender=self._number)
        self._enclose(back, baton.sender, standing)
        self._send_held(standing)
        back.standing.CopyFrom(to_standing(standing))
        return back

    def _run(self, standing: Standing, path: Sequence[int], budget_ns: int) -> Standing:
        ends = time.monotonic_ns() + budget_ns
        while (left := ends - time.monotonic_ns()) > 0:
            granted = standing.grant()
            if len(granted) != 1:
                break
            ((number, horizons),) = granted.items()
            if number == self._number:
                self._run_window(standing, horizons)
            elif number in path:
                break
            else:
                standing = self._hand_over(standing, number, path, left)
        return standing

    def _run_window(self, standing: Standing, horizons: Horizons) -> None:
        began = time.monotonic()
        due = standing.take_due(self._number)
        missing = self._mailbox.await_batches(due, WAIT_S) if due else []
        if missing:
            standing.require(self._number, due)
            raise RunFailed(f"link: what station {missing[0]} sent to station {self._number} did not arrive")
        report = self._group.advance(horizons, self._hold)
        if self._number in self._held:  # there is no other station: what it sends itself crosses a socket
            self._send(standing, self._number)
        standing.take_in({self._number: report})
        standing.sums.add_window([report])
        standing.adapt(time.monotonic() - began)

    def _hand_over(self, standing: Standing, number: int, path: Sequence[int], left_ns: int) -> Standing:
        baton = transport_pb2.Baton(
            sender=self._number,
            incarnation=self._incarnation,
            path=[*path, self._number],
            budget_ns=left_ns,
        )
        self._enclose(baton, number, standing)
        self._send_held(standing)
        baton.standing.CopyFrom(to_standing(standing))
        back = self._peers[number].relay(baton, lambda: self._mailbox.abandoned)
        if back.failure:
            raise RunFailed(back.failure)
        if back.HasField("batch"):
            self._take(back.batch)
        standing = from_standing(back.standing, self._like)
        standing.sums.rounds += 1
        return standing

    def _take(self, batch: transport_pb2.Batch) -> None:
        """Take a batch in, after those that were sent before it."""
        self._mailbox.await_batches({batch.source_actor: batch.sequence - 1}, WAIT_S)
        if self._mailbox.take(batch):
            raise RunFailed(f"link: what station {batch.source_actor} sent before did not arrive")

    def _enclose(self, baton: transport_pb2.Baton, number: int, standing: Standing) -> None:
        envelopes = self._held.get(number, [])
        if 0 < len(envelopes) <= MOST_MESSAGES:
            del self._held[number]
            batch = self._peers[number].enclose(self._number, envelopes)
            baton.batch.CopyFrom(batch)
            standing.sums.bytes += batch.ByteSize()

    def _hold(self, envelopes: list[Envelope]) -> None:
        for envelope in envelopes:
            self._held.setdefault(self._like.home[envelope.destination], []).append(envelope)
        if len(self._peers) > 1:
            self._group.deliver(self._held.pop(self._number, []))

    def _send_held(self, standing: Standing) -> None:
        for number in list(self._held):
            self._send(standing, number)

    def _send(self, standing: Standing, number: int) -> None:
        last, size = self._peers[number].send(self._number, self._held.pop(number))
        standing.due[number][self._number] = last
        standing.sums.bytes += size
