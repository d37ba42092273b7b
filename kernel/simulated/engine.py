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
one turn at most; that takes a tenth of the time of the heap. So do arrivals from other machines, of
which each sends one at a time (`Arrival`), as long as these are few; others go to the heap.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Final

from greenlet import getcurrent, greenlet

from lrpc.kernel.errors import Panic

FOREVER: Final = 2**62 - 1  # later than any virtual time
MOST_LISTED: Final = 8  # arrivals that are not on the heap: a longer list would take longer than that
# Compiled code looks up another module's function at each call, unless it has it as a constant.
_push: Final = heappush
_pop: Final = heappop

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

    def come(self) -> None:
        """Resume the processor."""
        self.action()


class Arrival:
    """The next of the messages that come from one source: when it comes, and how it is received."""

    def __init__(self, source: int, action: Action) -> None:
        self.source = source
        self.action = action
        self.time = FOREVER  # in ns
        self.sequence = 0
        self.after: Arrival | None = None  # the one that comes after it, of those listed

    def precedes(self, time: int, priority: int, source: int, sequence: int) -> bool:
        """Return whether it comes before an event with such a key."""
        if self.time != time:
            return self.time < time
        if priority != ARRIVAL:
            return True
        return self.source < source or (self.source == source and self.sequence < sequence)

    def come(self) -> None:
        """Receive the message."""
        self.action()


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
        self._arrival: Arrival | None = None  # the first of those listed
        self._listed = 0
        self._event_time = FOREVER  # of the first event on the heap, or arrival of those listed
        self._turn: Turn | None = None  # the first that is scheduled
        self._last: Turn | None = None  # the last, while any is
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
        if turn.scheduled:
            self.withdraw(turn)
        turn.time = time
        turn.scheduled = True
        if time < self.limit:
            self.limit = time
        processor = turn.processor
        after, last = self._turn, self._last
        if after is None or last is None:
            turn.next = None
            self._turn = self._last = turn
            return
        if last.precedes(time, processor):  # the usual case
            turn.next = None
            last.next = self._last = turn
            return
        before: Turn | None = None
        while after is not None and after.precedes(time, processor):
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
                if turn is self._last:
                    self._last = one
                return
            one = one.next

    def arrive(self, time: int, source: int, sequence: int, action: Action) -> None:
        """Schedule the arrival of a message from another machine, which numbers those it sends.

        Raises `Panic` where this machine has already run past `time`.
        """
        self.require_future(time, source)
        self._push((time, ARRIVAL, source, sequence, action))

    def require_future(self, time: int, source: int) -> None:
        """Raise `Panic` where this machine has already run past `time`."""
        if time < self.horizon:
            raise Panic(f"a message from machine {source} is due at {time} ns, but this machine ran to {self.horizon}")

    def follow(self, arrival: Arrival) -> None:
        """Schedule an arrival that is not scheduled; its message may have been known for long."""
        time = arrival.time
        if self._listed == MOST_LISTED:
            self._push((time, ARRIVAL, arrival.source, arrival.sequence, arrival.come))
            return
        self._note_time(time)
        self._listed += 1
        before, after = None, self._arrival
        while after is not None and after.precedes(time, ARRIVAL, arrival.source, arrival.sequence):
            before, after = after, after.after
        arrival.after = after
        if before is None:
            self._arrival = arrival
        else:
            before.after = arrival

    def first(self, time: int, processor: int) -> bool:
        """Return whether a processor at `time` comes before all events and the horizon."""
        turn = self._turn
        if time >= self.horizon or time >= self._event_time:
            return False
        return turn is None or not turn.precedes(time, processor)

    def next_turn(self) -> Turn | None:
        """Begin the next event if it is a processor's turn, and return that.

        The caller switches to the processor's thread, without the loop. Where the first event is no
        turn, or not below the horizon, this returns None and begins nothing: the caller switches to
        the loop.
        """
        turn = self._turn
        if turn is None or turn.time >= self._event_time or turn.time >= self.horizon:
            return None
        self._turn = turn.next
        turn.scheduled = False
        self._begin(turn.time)
        return turn

    @property
    def next_time(self) -> int:
        """Return the time of the next event, `FOREVER` if there is none."""
        turn = self._turn
        return self._event_time if turn is None or self._event_time < turn.time else turn.time

    @property
    def has_events(self) -> bool:
        """Return whether events are scheduled, be it later than any virtual time."""
        return self._turn is not None or self._arrival is not None or bool(self._heap)

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
                turn.come()
            elif self._event_time < self.horizon:
                self._happen()
            else:
                return

    def stop_before(self, time: int) -> None:
        """Lower the horizon to `time`: from then on, something that is not known yet may arrive."""
        self.horizon = min(self.horizon, time)
        self.limit = min(self.limit, time)

    def _happen(self) -> None:
        """Let the first event happen, which is no turn."""
        heap, arrival = self._heap, self._arrival
        if arrival is not None:
            first = heap[0] if heap else None
            if first is None or arrival.precedes(first[0], first[1], first[2], first[3]):
                self._arrival, arrival.after = arrival.after, None
                self._listed -= 1
                self._find_time()
                self._begin(arrival.time)
                arrival.come()
                return
        event = _pop(heap)
        self._find_time()
        self._begin(event[0])
        event[4]()

    def _begin(self, time: int) -> None:
        self.now = time
        limit = self.horizon
        if self._event_time < limit:
            limit = self._event_time
        turn = self._turn
        if turn is not None and turn.time < limit:
            limit = turn.time
        self.limit = limit

    def _push(self, event: Event) -> None:
        self._note_time(event[0])
        _push(self._heap, event)

    def _note_time(self, time: int) -> None:
        if time < self.limit:
            self.limit = time
        if time < self._event_time:
            self._event_time = time

    def _find_time(self) -> None:
        time = FOREVER if self._arrival is None else self._arrival.time
        if self._heap:
            first = self._heap[0][0]
            if first < time:
                time = first
        self._event_time = time
