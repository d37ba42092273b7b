"""Runs what a reader's callback has made ready at once, rather than in the loop's next iteration.

A callback that settles a future, or makes a task, only puts what goes on then into the loop's
queue. The loop would ask the system for events before it comes to that: a system call, and more
code than many a handler has. Where nothing stood in the queue as the callback began, what it has
added would run next anyway, in the same order: the loop puts events and timers that it learns of
behind what is ready. They come as if they had happened a moment later.
"""

import asyncio
from collections import deque


class Turns:
    """The queue of a loop, where that is one of asyncio's own; of others nothing is known.

    Call `begin` first of all in a callback that the loop itself calls, and `run` last.
    """

    __slots__ = ("_loop", "_queue")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        queue: object = getattr(loop, "_ready", None)
        iterates: object = getattr(type(loop), "_run_once", None)
        is_own = iterates is getattr(asyncio.BaseEventLoop, "_run_once", loop)
        self._queue: deque[asyncio.Handle] | None = queue if is_own and isinstance(queue, deque) else None

    def begin(self) -> bool:
        """Return whether nothing is ready that has its turn before what this callback adds."""
        return self._queue is not None and not self._queue

    def run(self) -> None:
        """Run what is ready, but not what that adds; nothing in a loop that debugs or stops."""
        queue = self._queue
        if not queue or self._loop.get_debug() or getattr(self._loop, "_stopping", True):
            return
        for _ in range(len(queue)):
            handle = queue.popleft()
            if not handle.cancelled():
                handle._run()
