"""What each machine of a cluster can reach, and how soon: the promises on which synchronisation rests."""

from collections.abc import Collection, Sequence
from heapq import heappop, heappush

from lrpc.cluster.causes import Causes, Hop
from lrpc.cluster.description import Cluster
from lrpc.cluster.paths import NOWHERE, Edge, soonest
from lrpc.kernel.simulated.engine import FOREVER


class Reach:
    """Which machines can reach which, and how soon: what promises are derived from.

    Calls come only from machines that import something; replies only to machines with calls outstanding; and what
    arrives sets off no more than `Causes` says. So a machine that nobody calls runs on to its own next call, and a
    server waits for those who may call it. What a machine itself sets off can come back to it no sooner than
    `return_ns` after it arrived there: it sees to that as it sends.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.machines = len(cluster.machines)
        self._causes = Causes(cluster)
        self._cluster = cluster
        self._numbers: dict[tuple[int, frozenset[Hop]], int] = {}  # of what messages set off, by machine
        self._known: dict[Hop, int] = {}
        self._begin = [self._edges(rank, self._causes.begun_by(rank)) for rank in range(self.machines)]
        self._follow: list[list[Edge]] = []  # by these numbers
        while len(self._follow) < len(self._numbers):
            for rank, hops in list(self._numbers)[len(self._follow) :]:
                self._follow.append(self._edges(rank, hops))
        self._least = min((edge[1] for edges in self._begin for edge in edges), default=FOREVER)

    def return_ns(self, machine: int, other: int) -> int:
        """Return the least time from something that happens on `other` to a message at `machine`; at most `FOREVER`."""
        direct = FOREVER
        for rank, takes, _, _ in self._begin[other]:
            if rank == machine:
                direct = min(direct, takes)
        if direct <= 2 * self._least:  # no way that leads over a third machine is shorter
            return direct
        least = {other: 0}
        queue = [(0, other)]
        while queue and queue[0][0] < direct:
            due, rank = heappop(queue)
            for near, takes, _, _ in self._begin[rank]:
                reached = due + takes
                if near == machine:
                    direct = min(direct, reached)
                elif reached < least.get(near, direct):
                    least[near] = reached
                    heappush(queue, (reached, near))
        return direct

    def horizons(
        self, next_ns: Sequence[int], waits: Sequence[bool], until: int = FOREVER
    ) -> tuple[list[int], list[int]]:
        """Return, for each machine, the earliest time at which another's doing can reach it; `until` for no sooner.

        And likewise for each by calls alone, once it has no reply to wait for any more. `next_ns` says when each
        machine next does anything by itself, messages on their way included; `waits` whether replies may come to it.
        """
        return soonest(self._begin, self._follow, next_ns, waits, until)

    def _edges(self, source: int, hops: Collection[Hop]) -> list[Edge]:
        """Return the ways that messages take from a machine, and see that what these set off has a number."""
        edges: set[Edge] = set()
        for hop in hops:
            rank = hop.to[0]
            edges.add((rank, self._cluster.lookahead_ns(source, rank), self._number(hop), hop.reply))
        return sorted(edges)

    def _number(self, hop: Hop) -> int:
        """Return the number of what a message sets off; what is the same on one machine has the same number."""
        if hop not in self._known:
            hops = frozenset(self._causes.follow(hop))
            key = hop.to[0], hops
            self._known[hop] = self._numbers.setdefault(key, len(self._numbers)) if hops else NOWHERE
        return self._known[hop]
