"""How early each machine can be reached by the others: shortest paths from all machines at once.

This is the inner loop of granting windows. A search from each machine by itself would do, at a cost
that grows with the square of the number of machines. One Dijkstra search from all machines together
suffices, because the answer for a machine leaves out only the paths that begin on that machine
itself. It is therefore enough to follow each set of consequences from its two earliest origins: at
most one of them is the machine asked about.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final

DEAD_END: Final = -1  # the number of consequences of a message that sets off no other

# A message's destination, by rank; the least time to it, in ns; the number of its consequences; and
# whether it is a reply, which comes only to machines that have calls outstanding.
Edge = tuple[int, int, int, bool]


def earliest_arrivals(
    initial: list[list[Edge]], caused: list[list[Edge]], next_ns: Sequence[int], waits: Sequence[bool], until: int
) -> tuple[list[int], list[int]]:
    """Return the earliest times at which other machines' actions can reach each machine.

    Each is at most `until`.

    The second list has the same for calls alone: the bound for a machine that has no reply to wait
    for any more. All times are in ns. `initial` has the messages that each machine may send,
    `caused` those that each numbered set of consequences may send. `next_ns` has the time of each
    machine's next event, and `waits` whether replies to it may come. A message that arrives no
    earlier than the next event of its machine is not followed: that event already bounds what the
    message sets off.
    """
    reached = [until] * len(initial)
    called = [until] * len(initial)
    # A heap of consequences to follow: when, their number, and the machine at the path's origin.
    queue: list[tuple[int, int, int]] = []
    for origin, due in enumerate(next_ns):
        if due < until:
            _arrive(initial[origin], due, origin, next_ns, waits, reached, called, queue)
    first: dict[int, int] = {}  # the origin from which consequences were reached first
    second: set[int] = set()  # consequences that were reached from a second origin as well
    while queue:
        due, number, origin = heappop(queue)
        if number not in first:
            first[number] = origin
        elif first[number] != origin and number not in second:
            second.add(number)
        else:
            continue
        _arrive(caused[number], due, origin, next_ns, waits, reached, called, queue)
    return reached, called


def _arrive(
    edges: list[Edge],
    due: int,
    origin: int,
    next_ns: Sequence[int],
    waits: Sequence[bool],
    reached: list[int],
    called: list[int],
    queue: list[tuple[int, int, int]],
) -> None:
    """Record arrivals that something at `due` can cause, and queue what those set off in turn."""
    for rank, takes, number, reply in edges:
        arrives = due + takes
        if rank == origin or (reply and not waits[rank]):
            continue
        reached[rank] = min(reached[rank], arrives)
        if not reply:
            called[rank] = min(called[rank], arrives)
        if number != DEAD_END and arrives < next_ns[rank]:
            heappush(queue, (arrives, number, origin))
