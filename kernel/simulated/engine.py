"""The event heap of one machine: virtual time in whole nanoseconds, and the order of its events.

Events happen in the order of (time, priority, source, source's sequence number). At equal times,
messages from other machines come first, then timers, then the turns of processors, by number.
Nothing in this key depends on how virtual time was cut into windows, so a run is the same on any
number of actors.

A processor does not return to the event loop after each step. Its clock runs ahead, and the heap is
left alone, while nothing else on its machine is due before that clock. It looks at checkpoints:
before every lock, every upcall and every return to user code, where the order in which processors
act can matter. If something else is due first, the processor schedules its own turn and yields. If
the next event is another processor's turn, control switches directly to that processor's thread,
past the loop.

Turns are not on the heap. They form a list in their order, which is short, since a processor has
one turn at most; that takes a tenth of the time of the heap.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from greenlet import getcurrent, greenlet

from lrpc.kernel.errors import Panic

FOREVER: Final = 2**62 - 1  # later than any virtual time

# Priorities of events at equal times, the first one first; turns come after both.
ARRIVAL: Final = 0
TIMER: Final = 1

Action = Callable[[], None]
# Time in ns, priority, source, the source's sequence number, and what to do. No two events agree in
# the first four, so that the heap never compares actions.
Event = tuple[int, int, int, int, Action]


class Turn:
    """A processor's turn: when the processor resumes next, if it does, and how."""

    def __init__(self, processor: int, action: Action) -> None:
        self.processor = processor  # its number
        self.action = action
        self.time = FOREVER  # in ns; while it is not scheduled, that of the last time
        self.scheduled = False
        self.next: Turn | None = None  # the one scheduled after it

    def precedes(self, time: int, processor: int) -> bool:
        """Return whether it comes before a processor that resumes at `time`."""
        return self.time < time or (self.time == time and self.processor < processor)


class Engine:
    """The events of one machine, run in order and strictly below a horizon.

    `limit` is not past the horizon, nor past the time of the next event. A processor whose clock is
    below it need not yield, so that a checkpoint usually costs one comparison.
    """

    def __init__(self) -> None:
        self.now = 0  # the time of the event that began last
        self.horizon = 0
        self.limit = 0
        self.loop: greenlet = getcurrent()  # the greenlet in which events run
        self._heap: list[Event] = []
        self._heap_time = FOREVER  # of the heap's first event
        self._turn: Turn | None = None  # the first that is scheduled
        self._timers = 0  # scheduled so far: their sequence numbers

    def schedule(self, time: int, action: Action) -> Event:
        """Schedule `action` at `time`, in ns, and return the event, which `cancel` takes."""
        self._timers += 1
        event = (time, TIMER, 0, self._timers, action)
        self._push(event)
        return event

    def cancel(self, event: Event) -> None:
        """Cancel an event that has not happened yet."""
        self._heap.remove(event)
        heapify(self._heap)
        self._find_time()

    def resume(self, turn: Turn, time: int) -> None:
        """Schedule a processor's turn at `time`, in ns, in place of when it was due."""
        self.withdraw(turn)
        turn.time = time
        turn.scheduled = True
        if time < self.limit:
            self.limit = time
        before, after = None, self._turn
        while after is not None and after.precedes(time, turn.processor):
            before, after = after, after.next
        turn.next = after
        if before is None:
            self._turn = turn
        else:
            before.next = turn

    def withdraw(self, turn: Turn) -> None:
        """Take a turn back that has not come yet; does nothing if it is not scheduled."""
        if not turn.scheduled:
            return
        turn.scheduled = False
        one = self._turn
        if one is turn:
            self._turn = turn.next
            return
        while one is not None:
            if one.next is turn:
                one.next = turn.next
                return
            one = one.next

    def arrive(self, time: int, source: int, sequence: int, action: Action) -> None:
        """Schedule the arrival of a message from another machine, which numbers those it sends.

        Raises `Panic` where this machine has already run past `time`.
        """
        if time < self.horizon:
            raise Panic(f"a message from machine {source} is due at {time} ns, but this machine ran to {self.horizon}")
        self.follow(time, source, sequence, action)

    def follow(self, time: int, source: int, sequence: int, action: Action) -> None:
        """Schedule an arrival that was known before this machine ran so far."""
        self._push((time, ARRIVAL, source, sequence, action))

    def first(self, time: int, processor: int) -> bool:
        """Return whether a processor at `time` comes before all events and the horizon."""
        turn = self._turn
        if time >= self.horizon or time >= self._heap_time:
            return False
        return turn is None or not turn.precedes(time, processor)

    def next_turn(self) -> Turn | None:
        """Begin the next event if it is a processor's turn, and return that.

        The caller switches to the processor's thread, without the loop. Where the first event is no
        turn, or not below the horizon, this returns None and begins nothing: the caller switches to
        the loop.
        """
        turn = self._turn
        if turn is None or turn.time >= self._heap_time or turn.time >= self.horizon:
            return None
        self._turn = turn.next
        turn.scheduled = False
        self._begin(turn.time)
        return turn

    @property
    def next_time(self) -> int:
        """Return the time of the next event, `FOREVER` if there is none."""
        turn = self._turn
        return self._heap_time if turn is None or self._heap_time < turn.time else turn.time

    @property
    def has_events(self) -> bool:
        """Return whether events are scheduled, be it later than any virtual time."""
        return self._turn is not None or bool(self._heap)

    def run(self, horizon: int) -> None:
        """Run all events strictly before `horizon`, or before an earlier `stop_before` time.

        Raises `Panic` in any other greenlet than the one that made the engine.
        """
        if getcurrent() is not self.loop:
            raise Panic("a machine runs in the thread that made it")
        self.horizon = max(horizon, self.horizon)
        while True:
            turn = self.next_turn()
            if turn is not None:
                turn.action()
            elif self._heap_time < self.horizon:
                event = heappop(self._heap)
                self._find_time()
                self._begin(event[0])
                event[4]()
            else:
                return

    def stop_before(self, time: int) -> None:
        """Lower the horizon to `time`: from then on, something that is not known yet may arrive."""
        self.horizon = min(self.horizon, time)
        self.limit = min(self.limit, time)

    def _begin(self, time: int) -> None:
        self.now = time
        limit = self.horizon
        if self._heap_time < limit:
            limit = self._heap_time
        turn = self._turn
        if turn is not None and turn.time < limit:
            limit = turn.time
        self.limit = limit

    def _push(self, event: Event) -> None:
        time = event[0]
        if time < self.limit:
            self.limit = time
        if time < self._heap_time:
            self._heap_time = time
        heappush(self._heap, event)

    def _find_time(self) -> None:
        self._heap_time = self._heap[0][0] if self._heap else FOREVER
