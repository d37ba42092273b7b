"""How early each machine can be reached by the others: shortest paths from all machines at once.

This is the inner loop of granting windows. A search from each machine by itself would do, at a cost
that grows with the square of the number of machines. One Dijkstra search from all machines together
suffices, because the answer for a machine leaves out only the paths that begin in its own group of
machines. It is therefore enough to follow each set of consequences from its two earliest origins,
of different groups: at most one of them is the group asked about.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final

DEAD_END: Final = -1  # the number of consequences of a message that sets off no other

# A message's destination, by rank; the least time to it, in ns; the number of its consequences; and
# whether it is a reply, which comes only to machines that have calls outstanding.
Edge = tuple[int, int, int, bool]


def earliest_arrivals(
    initial: list[list[Edge]],
    caused: list[list[Edge]],
    places: list[int],
    next_ns: Sequence[int],
    waits: Sequence[bool],
    until: int,
    home: list[int],
) -> tuple[list[int], list[int]]:
    """Return the earliest times at which actions of other groups can reach each machine.

    Each is at most `until`. `home` has each machine's group, which may be of it alone.

    The second list has the same for calls alone: the bound for a machine that has no reply to wait
    for any more. All times are in ns. `initial` has the messages that each machine may send,
    `caused` those that each numbered set of consequences may send, and `places` the machines of
    these. `next_ns` has the time of each machine's next event, and `waits` whether replies to it
    may come. A message that arrives no earlier than the next event of its machine is not followed:
    that event already bounds what the message sets off, but for other machines of the same group.
    A machine may begin to wait for one of its own group before the next window, so that replies
    within a group always count.
    """
    search = _Search(next_ns, waits, until, home)
    for source, due in enumerate(next_ns):
        if due < until:
            search.arrive(initial[source], due, source, home[source])
    queue = search.queue
    first: dict[int, int] = {}  # the group from which consequences were reached first
    second: set[int] = set()  # consequences that were reached from a second group as well
    while queue:
        due, number, origin = heappop(queue)
        known = first.get(number)
        if known is None:
            first[number] = origin
        elif known != origin and number not in second:
            second.add(number)
        else:
            continue
        search.arrive(caused[number], due, places[number], origin)
    return search.reached, search.called


class _Search:
    """What a search has found so far, and what it has yet to follow."""

    def __init__(self, next_ns: Sequence[int], waits: Sequence[bool], until: int, home: list[int]) -> None:
        self._next_ns = list(next_ns)
        self._waits = list(waits)
        self._home = home
        machines = len(home)
        members = [0] * machines
        for group in home:
            members[group] += 1
        self._shares = [members[group] > 1 for group in home]
        self.reached = [until] * machines
        self.called = [until] * machines
        # A heap of consequences to follow: when, their number, and the group at the path's origin.
        self.queue: list[tuple[int, int, int]] = []

    def arrive(self, edges: list[Edge], due: int, source: int, origin: int) -> None:
        """Record arrivals that something at `due` can cause, and queue what those set off."""
        home = self._home
        group = home[source]
        for rank, takes, number, reply in edges:
            to = home[rank]
            if reply and to != group and not self._waits[rank]:
                continue
            arrives = due + takes
            if to != origin:
                if arrives < self.reached[rank]:
                    self.reached[rank] = arrives
                if not reply and arrives < self.called[rank]:
                    self.called[rank] = arrives
            if number != DEAD_END and (arrives < self._next_ns[rank] or (to != origin and self._shares[rank])):
                heappush(self.queue, (arrives, number, origin))
