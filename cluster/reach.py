"""Promises: how early machines can reach each other. Synchronisation rests on them.

A promise is the earliest time at which anything that another machine does can reach this one. It
rests on three facts. Calls come only from machines that import something, and the description
declares all imports. Replies come only to machines with calls outstanding. And what arrives sets
off no more than its domain leads to (`causes`). So a machine that no other calls runs on to its
own next call, and a server runs to its clients' next possible request. Stretches of time in which
nothing happens are skipped.

The least time from an event to the arrival of a message that it sends is the lookahead: what the
cost model says the sender spends between its last checkpoint and the message's leaving, and the
link's delay. On an Ethernet it is one of the two, since the wire's queue is on the hub (`links`).

What a machine sets off itself can come back to it, and the same holds for the machines of one
group, which run in one order of events. Promises ignore these consequences. Otherwise no
machine could run further than one round trip past its next event. Instead a machine stops by itself
as it sends: `return_ns` says how soon after a message's arrival an answer, by whatever way, can be
back.
"""

from collections.abc import Collection, Sequence
from heapq import heappop, heappush

from lrpc.cluster.causes import Causes, Hop
from lrpc.cluster.description import Cluster
from lrpc.cluster.nearest import Nearest, Ways
from lrpc.cluster.paths import DEAD_END, Edge, earliest_arrivals
from lrpc.kernel.simulated.engine import FOREVER


class Reach:
    """The promises of a cluster's machines: how early each can be reached by the others."""

    def __init__(self, cluster: Cluster) -> None:
        self.machines = len(cluster.machines)
        self._causes = Causes(cluster)
        self._cluster = cluster
        # Numbers of sets of consequences: what a message may set off on a machine. Many messages
        # have the same ones, which are then followed once.
        self._numbers: dict[tuple[int, frozenset[Hop]], int] = {}
        self._known: dict[Hop, int] = {}
        self._initial = [self._edges(rank, self._causes.initial(rank)) for rank in range(self.machines)]
        self._caused: list[list[Edge]] = []  # by the numbers of consequences
        while len(self._caused) < len(self._numbers):
            for rank, hops in list(self._numbers)[len(self._caused) :]:
                self._caused.append(self._edges(rank, hops))
        self._places = [rank for rank, _ in self._numbers]  # likewise
        self._ways: Ways | None = None  # as `nearest` has found it
        self._direct: dict[int, dict[int, int]] = {}  # a cache of `_direct_ns`
        self._least = min((edge[1] for edges in self._initial for edge in edges), default=FOREVER)

    def nearest(self, machine: int) -> tuple[Nearest, Nearest]:
        """Return which machines can reach one soonest, and which can by a call."""
        if self._ways is None:
            self._ways = Ways(self.machines, self._initial, self._caused, self._places)
        return self._ways.nearest(machine)

    def return_ns(self, machine: int, other: int) -> int:
        """Return the least time, in ns, from an event on `other` to a message at `machine`.

        The shortest way may lead over other machines. The result is `FOREVER` where there is no
        way.
        """
        direct = self._direct_ns(other).get(machine, FOREVER)
        if direct <= 2 * self._least:  # no way over a third machine is shorter
            return direct
        return self._shortest_ns({machine}, other, direct)

    def comes_back_ns(self, machines: Collection[int], other: int) -> int:
        """Return the least time, in ns, from an event on `other` to a message at any of `machines`.

        The result is `FOREVER` where there is no way.
        """
        return self._shortest_ns(machines, other, FOREVER)

    def _shortest_ns(self, machines: Collection[int], other: int, most: int) -> int:
        """Return the length of the shortest way from `other` to any of `machines`, up to `most`."""
        least = {other: 0}
        queue = [(0, other)]
        while queue and queue[0][0] < most:
            due, rank = heappop(queue)
            for near, takes in self._direct_ns(rank).items():
                reached = due + takes
                if near in machines:
                    most = min(most, reached)
                elif reached < least.get(near, most):
                    least[near] = reached
                    heappush(queue, (reached, near))
        return most

    def _direct_ns(self, source: int) -> dict[int, int]:
        """Return the least times from an event on a machine to its messages at each other."""
        if source not in self._direct:
            least: dict[int, int] = {}
            for rank, takes, _, _ in self._initial[source]:
                least[rank] = min(takes, least.get(rank, takes))
            self._direct[source] = least
        return self._direct[source]

    def horizons(
        self,
        next_ns: Sequence[int],
        waits: Sequence[bool],
        until: int = FOREVER,
        home: Sequence[int] | None = None,
    ) -> tuple[list[int], list[int]]:
        """Return the earliest time, in ns, at which another machine's actions can reach each one.

        With `home`, which has the group of each machine, another is one of another group.

        The second list has the same for calls alone, which is the bound once a machine has no reply
        to wait for any more. Both have `until` where nothing comes before that. `next_ns` has the
        time of each machine's next event of its own, where a message on its way to the machine
        counts as one; `waits` whether replies to it may come.
        """
        groups = list(home or range(self.machines))
        return earliest_arrivals(self._initial, self._caused, self._places, next_ns, waits, until, groups)

    def _edges(self, source: int, hops: Collection[Hop]) -> list[Edge]:
        """Return the paths of these messages from a machine, and number their consequences."""
        edges: set[Edge] = set()
        for hop in hops:
            rank = hop.to[0]
            edges.add((rank, self._cluster.lookahead_ns(source, rank), self._number(hop), hop.reply))
        return sorted(edges)

    def _number(self, hop: Hop) -> int:
        """Return the number of a message's consequences.

        Messages to one machine that set off the same messages share a number.
        """
        if hop not in self._known:
            hops = frozenset(self._causes.caused_by(hop))
            key = hop.to[0], hops
            self._known[hop] = self._numbers.setdefault(key, len(self._numbers)) if hops else DEAD_END
        return self._known[hop]
