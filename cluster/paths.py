"""How soon each machine of a cluster is reached by what others do: shortest paths from all of them at once."""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final

NOWHERE: Final = -1  # where a message goes that sets off no other

# A machine's rank, the least time to it in ns, the number of what a message there may set off, and whether it is one
# that comes only to machines with calls outstanding.
Edge = tuple[int, int, int, bool]


def soonest(
    begin: list[list[Edge]], follow: list[list[Edge]], next_ns: Sequence[int], waits: Sequence[bool], until: int
) -> tuple[list[int], list[int]]:
    """Return, for each machine, when it is reached first because of something on another; `until` for no sooner.

    And likewise when by a call: what may reach one that has no reply to wait for any more. `begin` says which messages
    each machine may send, `follow` which those may set off, by number. What arrives no sooner than its machine does
    something by itself sets off nothing that this does not. Everything else is followed from the two origins that are
    soonest, for one of them may be the machine in question itself, which does not count.
    """
    reached = [until] * len(begin)
    called = [until] * len(begin)
    queue: list[tuple[int, int, int]] = []  # when, the number of what is set off, and whose doing that is
    for origin, due in enumerate(next_ns):
        if due < until:
            _arrive(begin[origin], due, origin, next_ns, waits, reached, called, queue)
    first: dict[int, int] = {}  # by whose doing something was set off first
    second: set[int] = set()  # what was set off by another's as well
    while queue:
        due, number, origin = heappop(queue)
        if number not in first:
            first[number] = origin
        elif first[number] != origin and number not in second:
            second.add(number)
        else:
            continue
        _arrive(follow[number], due, origin, next_ns, waits, reached, called, queue)
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
    """Note what arrives where because of something at `due`, and what is to be followed from there."""
    for rank, takes, number, reply in edges:
        arrives = due + takes
        if rank == origin or (reply and not waits[rank]):
            continue
        reached[rank] = min(reached[rank], arrives)
        if not reply:
            called[rank] = min(called[rank], arrives)
        if number != NOWHERE and arrives < next_ns[rank]:
            heappush(queue, (arrives, number, origin))
