"""What each machine of a cluster can reach, and how soon: the promises on which synchronisation rests."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from lrpc.cluster.description import Cluster
from lrpc.kernel.simulated.engine import FOREVER

_SHIFT: Final = 20  # bits of a rank in a queue's entries, which are whole numbers: (time << shift | rank)
_RANKS: Final = (1 << _SHIFT) - 1


class Reach:
    """Which machines can reach which, and how soon: what promises are derived from.

    Calls come only from machines that import something; replies only to machines with calls outstanding. So a machine
    that nobody calls runs on to its own next call, and a server waits for those who may call it. What a machine
    itself sets off can come back to it no sooner than `return_ns` after it arrived there: it sees to that as it sends.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.machines = len(cluster.machines)
        # For each machine, those it can send to: by a call, and by a reply; and the least time that takes, in ns.
        self._calls: list[list[tuple[int, int]]] = [[] for _ in cluster.machines]
        self._replies: list[list[tuple[int, int]]] = [[] for _ in cluster.machines]
        self._least = FOREVER  # of all of these times
        for server, callers in enumerate(cluster.callers):
            for client in callers:
                there, back = cluster.lookahead_ns(client, server), cluster.lookahead_ns(server, client)
                self._calls[client].append((server, there))
                self._replies[server].append((client, back))
                self._least = min(self._least, there, back)

    def return_ns(self, machine: int, other: int) -> int:
        """Return the least time from something that happens on `other` to a message at `machine`; at most `FOREVER`."""
        direct = FOREVER
        for edges in (self._calls[other], self._replies[other]):
            for rank, takes in edges:
                if rank == machine:
                    direct = min(direct, takes)
        if direct <= 2 * self._least:  # no way that leads over a third machine is shorter
            return direct
        least = {other: 0}
        queue = [(0, other)]
        while queue and queue[0][0] < direct:
            due, rank = heappop(queue)
            for edges in (self._calls[rank], self._replies[rank]):
                for near, takes in edges:
                    reached = due + takes
                    if near == machine:
                        direct = min(direct, reached)
                    elif reached < least.get(near, direct):
                        least[near] = reached
                        heappush(queue, (reached, near))
        return direct

    def horizons(self, next_ns: Sequence[int], waits: Sequence[bool], until: int = FOREVER) -> list[int]:
        """Return, for each machine, the earliest time at which another's doing can reach it; `until` for no sooner.

        `next_ns` says when each machine next does anything by itself, messages on their way included; `waits` whether
        it has calls outstanding. Shortest paths from all machines at once; every machine is reached from the two
        origins that are soonest, for one of them may be itself, which does not count.
        """
        first = [until] * self.machines  # when each is reached first, and by whose doing
        origin = [-1] * self.machines
        second = [until] * self.machines  # and when by another's
        queue: list[tuple[int, int]] = [(due << _SHIFT | rank, rank) for rank, due in enumerate(next_ns) if due < until]
        heapify(queue)
        while queue:
            entry, begun_by = heappop(queue)
            due, rank = entry >> _SHIFT, entry & _RANKS
            if origin[rank] < 0:
                first[rank], origin[rank] = due, begun_by
            elif origin[rank] != begun_by and second[rank] == until:
                second[rank] = due
            else:
                continue
            for edges, replies in ((self._calls[rank], False), (self._replies[rank], True)):
                for other, takes in edges:
                    reached = due + takes
                    if reached < second[other] and origin[other] != begun_by and (not replies or waits[other]):
                        heappush(queue, (reached << _SHIFT | other, begun_by))
        return [second[rank] if origin[rank] == rank else first[rank] for rank in range(self.machines)]
