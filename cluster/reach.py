"""What each machine of a cluster can reach, and how soon: the promises on which synchronisation rests."""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush

from lrpc.cluster.description import Cluster
from lrpc.kernel.simulated.engine import FOREVER


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
        for server, callers in enumerate(cluster.callers):
            for client in callers:
                self._calls[client].append((server, cluster.lookahead_ns(client, server)))
                self._replies[server].append((client, cluster.lookahead_ns(server, client)))

    def return_ns(self, machine: int) -> list[int]:
        """Return, for every machine, the least time from something that happens there to a message at `machine`."""
        backwards: list[list[tuple[int, int]]] = [[] for _ in range(self.machines)]
        for edges in (self._calls, self._replies):
            for source, reached in enumerate(edges):
                for destination, takes in reached:
                    backwards[destination].append((source, takes))
        least = [FOREVER] * self.machines
        queue = [(0, machine)]
        while queue:
            due, rank = heappop(queue)
            for other, takes in backwards[rank]:
                if due + takes < least[other]:
                    least[other] = due + takes
                    heappush(queue, (due + takes, other))
        return least

    def horizons(self, next_ns: Sequence[int], waits: Sequence[bool]) -> list[int]:
        """Return, for each machine, the earliest time at which another's doing can reach it; `FOREVER` for never.

        `next_ns` says when each machine next does anything by itself, messages on their way included; `waits` whether
        it has calls outstanding. Shortest paths from all machines at once; every machine is reached from the two
        origins that are soonest, for one of them may be itself, which does not count.
        """
        reached: list[list[tuple[int, int]]] = [[] for _ in range(self.machines)]  # (when, origin), two at most
        queue = [(due, rank, rank) for rank, due in enumerate(next_ns) if due < FOREVER]
        heapify(queue)
        while queue:
            due, rank, origin = heappop(queue)
            labels = reached[rank]
            if len(labels) == 2 or (labels and labels[0][1] == origin):
                continue
            labels.append((due, origin))
            for other, takes in self._calls[rank]:
                heappush(queue, (due + takes, other, origin))
            for other, takes in self._replies[rank]:
                if waits[other]:
                    heappush(queue, (due + takes, other, origin))
        return [next((due for due, origin in labels if origin != rank), FOREVER) for rank, labels in enumerate(reached)]
