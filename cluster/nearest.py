"""One order of events: which machine has the next, and what bounds those that run before others.

A machine that shares a thread with others may run until the next event of another could reach it.
With one bound for all of them, the earliest event and the least time of a message from there, each
runs for about that time at once. Of many machines, each has then lost its place in the processor's
caches by its next turn, and to find it again takes as long as what it does in a turn. But few
machines can call one another. Those that can reach a machine soonest are found once; it may run
until the next event of one of these could reach it, or that of any other machine from further
away. So a machine whose callers are far ahead, or wait for a reply, runs for long.

They also say who holds a machine up. Where that one runs next, rather than the earliest of all,
some tens of machines go far ahead of the others, and are read from memory once for many turns
(`Group`). In space and time they cover a triangle: those at its edge are held up by machines that
have not run yet, those next to these can run as far as these, and a message, allow, and so on.
Meanwhile their next events are in a heap of their own (`Order`), which is small and so in the
caches too: each look at a heap of 10,000 machines reads memory in a dozen places.

What follows from what is as in `paths`, searched from its end. No machine is known to wait, so that
replies on the way always count.
"""

from collections.abc import Sequence
from heapq import heappop, heappush
from typing import Final

from lrpc.cluster.paths import DEAD_END, Edge
from lrpc.kernel.simulated.engine import FOREVER

# The most messages that a search follows: looking at a machine's bound takes time for each. What
# more can send to bound a machine about as the earliest of all does.
MOST_FOLLOWED: Final = 16
NOBODY: Final = -1  # in place of a machine's rank
# The most entries in the heap of all machines, for each, until those that do not count are dropped.
MOST_ENTRIES: Final = 4
# Compiled code looks up another module's function at each call, unless it has it as a constant.
_push: Final = heappush
_pop: Final = heappop

# The last message of a way, or one before it: how long it takes at least, in ns, and what sends it:
# a machine, by rank, or `~number` for the consequences of that number.
Way = tuple[int, int]


class Nearest:
    """The machines that can reach one soonest, and how soon, in ns; `rest` is for all others."""

    def __init__(self, ranks: list[int], takes: list[int], rest: int) -> None:
        self.ranks = ranks
        self.takes = takes
        self.rest = rest

    def bound(self, due: list[int], others: int, most: int) -> int:
        """Return when something that is due elsewhere can reach the machine, at most `most`.

        `due` has the time of each machine's next event, by rank, and `others` is not later than
        that of any other machine.
        """
        takes = self.takes
        # No sum is made that would be later than any virtual time: compiled code is slow at those.
        if others < most - self.rest:
            most = others + self.rest
        for number, rank in enumerate(self.ranks):
            when, after = due[rank], takes[number]
            if when < most - after:
                most = when + after
        return most

    def holder(self, due: list[int], end: int) -> int:
        """Return which of these, by rank, is due so early that it can reach the machine at `end`.

        `NOBODY` where it is others that can, or none.
        """
        takes = self.takes
        for number, rank in enumerate(self.ranks):
            if due[rank] <= end - takes[number]:
                return rank
        return NOBODY


class Order:
    """The next event of each machine, and which of them is the earliest.

    An entry of a heap is an event's time, shifted by the bits of a rank, and the machine's rank.
    Python looks for signals in a product of large numbers, and compiled code cannot end it then.
    Each machine that has a next event, and is not taken, has an entry with its time; all others are
    left out as they come up, or where they have become many.
    """

    def __init__(self, machines: int) -> None:
        self.due = [FOREVER] * machines  # the time of each one's next event, by rank, in ns
        self._bits = machines.bit_length()
        self._all: list[int] = []
        self._lately: list[int] = []  # entries since an event was taken last: a heap too

    def put(self, rank: int, due: int) -> None:
        """Note when a machine's next event is due: `FOREVER` where it has none."""
        self.due[rank] = due
        if due < FOREVER:
            _push(self._lately, due << self._bits | rank)

    def take(self, until: int) -> int:
        """Return the rank of the machine with the earliest event of all, to `put` it back later.

        `NOBODY` where none is due before `until`.
        """
        for entry in self._lately:
            if self._holds(entry):
                _push(self._all, entry)
        self._lately.clear()
        if len(self._all) > MOST_ENTRIES * len(self.due):
            self._all = sorted({entry for entry in self._all if self._holds(entry)})
        due = self._first(self._all)
        return _pop(self._all) - (due << self._bits) if due < until else NOBODY

    @property
    def earliest(self) -> int:
        """Return the time of the earliest event of all, in ns; `FOREVER` where there is none.

        That of a machine which was taken, and not put back, does not count.
        """
        return min(self._first(self._all), self._first(self._lately))

    def _first(self, heap: list[int]) -> int:
        while heap:
            if self._holds(heap[0]):
                return heap[0] >> self._bits
            _pop(heap)
        return FOREVER

    def _holds(self, entry: int) -> bool:
        """Return whether an entry has the time of its machine's next event."""
        due = entry >> self._bits
        return due == self.due[entry - (due << self._bits)]


class Ways:
    """The messages that machines and consequences may send, by where they go."""

    def __init__(
        self, machines: int, initial: Sequence[Sequence[Edge]], caused: Sequence[Sequence[Edge]], places: list[int]
    ) -> None:
        self._places = places
        self._to: list[list[Way]] = [[] for _ in range(machines)]
        self._calls_to: list[list[Way]] = [[] for _ in range(machines)]
        self._before: list[list[Way]] = [[] for _ in caused]  # by the numbers of consequences
        for rank, edges in enumerate(initial):
            self._add(edges, rank)
        for number, edges in enumerate(caused):
            self._add(edges, ~number)

    def nearest(self, machine: int) -> tuple[Nearest, Nearest]:
        """Return what can reach a machine soonest, and what can by a call."""
        return self._search(machine, self._to[machine]), self._search(machine, self._calls_to[machine])

    def _add(self, edges: Sequence[Edge], begins: int) -> None:
        for rank, takes, number, reply in edges:
            way = takes, begins
            _note(self._to[rank], way)
            if not reply:
                _note(self._calls_to[rank], way)
            if number != DEAD_END:
                _note(self._before[number], way)

    def _search(self, machine: int, ways: list[Way]) -> Nearest:
        """Follow messages back from a machine, the shortest ways first."""
        least: dict[int, int] = {}
        rest = FOREVER
        followed = due = 0
        queue: list[Way] = []
        done: set[int] = set()
        while True:
            followed += len(ways)
            if followed > MOST_FOLLOWED:
                rest = min(rest, due + min(ways)[0])
            else:
                for takes, begins in ways:
                    heappush(queue, (due + takes, begins))
            ways = []
            while queue and queue[0][0] < rest and not ways:
                due, begins = heappop(queue)
                if begins in done:
                    continue
                done.add(begins)
                if begins < 0:
                    # What goes through the machine itself reaches it earlier.
                    ways = self._before[~begins] if self._places[~begins] != machine else []
                elif begins != machine:  # it stops by itself before what it sends can come back
                    least[begins] = due
            if not ways:
                return Nearest(list(least), list(least.values()), rest)


def _note(ways: list[Way], way: Way) -> None:
    """Add a way, unless it is there; of more than `MOST_FOLLOWED`, only the shortest matters."""
    if not ways:
        ways.append(way)
    elif len(ways) > MOST_FOLLOWED:
        if way < ways[0]:
            ways[0] = way
    elif ways[-1] != way:  # what one sends to a place comes in a row
        ways.append(way)
