"""The event heap of one machine: virtual time in whole nanoseconds, and the order of its events.

Events happen in the order of (time, priority, source, source's sequence number). At equal times,
messages from other machines come first, then timers, then processors by number. Nothing in this key
depends on how virtual time was cut into windows, so a run is the same on any number of actors.

A processor does not return to the event loop after each step. Its clock runs ahead, and the heap is
left alone, while nothing else on its machine is due before that clock. It looks at checkpoints:
before every lock, every upcall and every return to user code, where the order in which processors
act can matter. If something else is due first, the processor puts its own event on the heap and
yields. If the next event is another processor's, control switches directly to that processor's
thread, past the loop.

A processor's events bear the number of its turn. When a processor reschedules itself or releases
its thread, it begins a new turn, which makes its earlier events stale. Stale events stay on the
heap and are ignored when they come up, which costs less than finding them there.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heappushpop
from typing import Final

from greenlet import getcurrent, greenlet

from lrpc.kernel.errors import Panic

FOREVER: Final = 2**62 - 1  # later than any virtual time

# Priorities of events at equal times, the first one first.
ARRIVAL: Final = 0
TIMER: Final = 1
PROCESSOR: Final = 2

Action = Callable[[], None]
# Time in ns, priority, source, the source's sequence number, and what to do. No two events agree in
# the first four, so that the heap never compares actions.
Event = tuple[int, int, int, int, Action]


class Engine:
    """The events of one machine, run in order and strictly below a horizon.

    `limit` is the horizon or the time of the next event, whichever is earlier. A processor whose
    clock is below it need not yield, so that a checkpoint usually costs one comparison.
    """

    def __init__(self) -> None:
        self.now = 0  # the time of the event that began last
        self.horizon = 0
        self.limit = 0
        self.turn = 0  # the sequence number of the event that began last: a processor's turn
        self.loop: greenlet = getcurrent()  # the greenlet in which events run
        self._heap: list[Event] = []
        # The resume that was scheduled last. Often its turn is next, and it never enters the heap.
        self._resume: Event | None = None
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

    def resume(self, time: int, processor: int, turn: int, action: Action) -> None:
        """Schedule `action` at `time`: it resumes a processor, in the turn of that number."""
        if self._resume is not None:
            heappush(self._heap, self._resume)
        self._resume = (time, PROCESSOR, processor, turn, action)
        if time < self.limit:
            self.limit = time

    def arrive(self, time: int, source: int, sequence: int, action: Action) -> None:
        """Schedule the arrival of a message from another machine, which numbers those it sends.

        Raises `Panic` where this machine has already run past `time`.
        """
        if time < self.horizon:
            raise Panic(f"a message from machine {source} is due at {time} ns, but this machine ran to {self.horizon}")
        self._push((time, ARRIVAL, source, sequence, action))

    def first(self, time: int, processor: int) -> bool:
        """Return whether a processor at `time` comes before all events and the horizon."""
        self._settle()
        return self._is_first(time, processor)

    def _is_first(self, time: int, processor: int) -> bool:
        if time >= self.horizon:
            return False
        if not self._heap:
            return True
        top = self._heap[0]
        if time != top[0]:
            return time < top[0]
        return top[1] == PROCESSOR and processor < top[2]

    def yield_turn(self, time: int, processor: int, turn: int, action: Action) -> int:
        """Schedule a processor's turn at `time`, and begin the event that is due first.

        Return the number of the processor that this event resumes: the caller switches to its
        thread, without the loop. Where the first event is no processor's, or not below the horizon,
        return -1 and begin nothing: the caller switches to the loop.
        """
        self._settle()
        event = heappushpop(self._heap, (time, PROCESSOR, processor, turn, action))
        if event[1] == PROCESSOR and event[0] < self.horizon:
            return self._begin(event)
        self._push(event)
        return -1

    def next_processor(self) -> int:
        """Begin the next event if it resumes a processor; return that one's number, or -1."""
        event = self._resume
        if event is not None:
            if self._is_first(event[0], event[2]):
                self._resume = None
                return self._begin(event)
            self._settle()
        heap = self._heap
        if heap and heap[0][1] == PROCESSOR and heap[0][0] < self.horizon:
            return self._begin(heappop(heap))
        return -1

    @property
    def next_time(self) -> int:
        """Return the time of the next event, `FOREVER` if there is none."""
        self._settle()
        return self._heap[0][0] if self._heap else FOREVER

    @property
    def has_events(self) -> bool:
        """Return whether events are scheduled, be it later than any virtual time."""
        return self._resume is not None or bool(self._heap)

    def run(self, horizon: int) -> None:
        """Run all events strictly before `horizon`, or before an earlier `stop_before` time.

        Raises `Panic` in any other greenlet than the one that made the engine.
        """
        if getcurrent() is not self.loop:
            raise Panic("a machine runs in the thread that made it")
        self.horizon = max(horizon, self.horizon)
        heap = self._heap
        self._settle()
        while heap and heap[0][0] < self.horizon:
            event = heappop(heap)
            self._begin(event)
            event[4]()
            self._settle()

    def stop_before(self, time: int) -> None:
        """Lower the horizon to `time`: from then on, something that is not known yet may arrive."""
        self.horizon = min(self.horizon, time)
        self.limit = min(self.limit, time)

    def _settle(self) -> None:
        """Put the resume that was scheduled last among the other events."""
        if self._resume is not None:
            heappush(self._heap, self._resume)
            self._resume = None

    def _begin(self, event: Event) -> int:
        self.now = event[0]
        self.turn = event[3]
        self.limit = min(self.horizon, self._heap[0][0]) if self._heap else self.horizon
        return event[2]

    def _push(self, event: Event) -> None:
        if event[0] < self.limit:
            self.limit = event[0]
        heappush(self._heap, event)
