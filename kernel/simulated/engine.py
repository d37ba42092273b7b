"""The event heap of one machine: virtual time in integer nanoseconds, and the order of all that happens in it."""

from collections.abc import Callable
from heapq import heapify, heappop, heappush, heappushpop
from typing import Final

from greenlet import getcurrent, greenlet

from lrpc.kernel.errors import Panic

FOREVER: Final = 2**62 - 1  # no virtual time is later

# At equal times messages from other machines come first, then timers, then processors: a rule, not an accident.
ARRIVAL: Final = 0
TIMER: Final = 1
PROCESSOR: Final = 2

Action = Callable[[], None]
# (time, priority, source, the source's sequence, what to do): the first four are never all equal, so no action is
# ever compared, and none of them depends on how time was cut into windows.
Event = tuple[int, int, int, int, Action]


class Engine:
    """Runs events in order, strictly below a horizon.

    A processor that runs on past an event's time must stop at its next checkpoint: `limit` is the earlier of the
    horizon and the next event, so that the usual case costs one comparison.
    """

    def __init__(self) -> None:
        self.now = 0
        self.horizon = 0
        self.limit = 0
        self.turn = 0  # of the processor whose event began last
        self.loop: greenlet = getcurrent()
        self._heap: list[Event] = []
        self._timers = 0

    def schedule(self, time: int, action: Action) -> Event:
        """Do `action` at `time`; returns what `cancel` takes."""
        self._timers += 1
        event = (time, TIMER, 0, self._timers, action)
        self._push(event)
        return event

    def cancel(self, event: Event) -> None:
        """Have an event not be, that is still to come."""
        self._heap.remove(event)
        heapify(self._heap)

    def resume(self, time: int, processor: int, turn: int, action: Action) -> None:
        """Let a processor, by number, go on at `time`; of its turns only the one begun last counts."""
        self._push((time, PROCESSOR, processor, turn, action))

    def arrive(self, time: int, source: int, sequence: int, action: Action) -> None:
        """Take in what another machine sent: it is due at `time`, which this machine must not have passed."""
        if time < self.horizon:
            raise Panic(f"a message from machine {source} is due at {time} ns, but this machine ran to {self.horizon}")
        self._push((time, ARRIVAL, source, sequence, action))

    def first(self, time: int, processor: int) -> bool:
        """Return whether nothing else is due before a processor that stands at `time`."""
        if time >= self.horizon:
            return False
        if not self._heap:
            return True
        top = self._heap[0]
        if time != top[0]:
            return time < top[0]
        return top[1] == PROCESSOR and processor < top[2]

    def yield_turn(self, time: int, processor: int, turn: int, action: Action) -> int:
        """Let a processor go on at `time`; return the number of the one that is due before it, -1 for the loop.

        The event of the other one is off the heap then: whoever asks goes on with it at once, past the loop.
        """
        event = heappushpop(self._heap, (time, PROCESSOR, processor, turn, action))
        if event[1] == PROCESSOR and event[0] < self.horizon:
            return self._begin(event)
        self._push(event)
        return -1

    def next_processor(self) -> int:
        """Return the number of the processor that is due next, as `yield_turn` does."""
        heap = self._heap
        if heap and heap[0][1] == PROCESSOR and heap[0][0] < self.horizon:
            return self._begin(heappop(heap))
        return -1

    @property
    def next_time(self) -> int:
        """Return when the next event is due; `FOREVER` when there is none."""
        return self._heap[0][0] if self._heap else FOREVER

    def run(self, horizon: int) -> None:
        """Do everything that is due strictly before `horizon`, or before a nearer one that shows itself meanwhile."""
        if getcurrent() is not self.loop:
            raise Panic("a machine runs in the thread that made it")
        self.horizon = max(horizon, self.horizon)
        heap = self._heap
        while heap and heap[0][0] < self.horizon:
            event = heappop(heap)
            self._begin(event)
            event[4]()

    def stop_before(self, time: int) -> None:
        """Run no further than `time` for now: something may arrive then."""
        self.horizon = min(self.horizon, time)
        self.limit = min(self.limit, time)

    def _begin(self, event: Event) -> int:
        self.now = event[0]
        self.turn = event[3]
        self.limit = min(self.horizon, self._heap[0][0]) if self._heap else self.horizon
        return event[2]

    def _push(self, event: Event) -> None:
        if event[0] < self.limit:
            self.limit = event[0]
        heappush(self._heap, event)
