"""The thread pools of servers for threads: their bounds, which hold on both ways together.

gRPC runs handlers on the pool's own threads. On A-stacks they run on workers, so that no call waits
for a thread to be woken. Workers are as many as the pool has threads, have names like theirs, and
run its initializer before their first handler. A permit for each thread of a pool bounds what runs
on both ways, and on all servers that share the pool.
"""

import functools
import logging
import threading
import weakref
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any, Final, Self

_LOG = logging.getLogger("lrpc.channel")
_USUAL_THREADS: Final = 1000


class Pool:
    """What is known of a thread pool; made by `of`, one for each pool."""

    def __init__(self, executor: ThreadPoolExecutor) -> None:
        self.executor = weakref.ref(executor)
        told = vars(executor)
        workers = told.get("_max_workers")
        self.threads = workers if isinstance(workers, int) else _USUAL_THREADS
        self.prefix = f"{told.get('_thread_name_prefix', 'lrpc server')}_"
        self._initializer: Any = told.get("_initializer")
        self._arguments: Any = told.get("_initargs", ())
        self.begins = self._initializer is not None
        self._begun = threading.local()  # whose threads have run the initializer
        self._broken = False  # the initializer has raised
        self._permits: SimpleQueue[None] = SimpleQueue()
        for _ in range(self.threads):
            self._permits.put(None)
        self.take = self._permits.get  # waits until a handler may run
        self.leave = functools.partial(self._permits.put, None)  # lets another run

    @classmethod
    def of(cls, executor: ThreadPoolExecutor) -> Self:
        """Return what is known of a pool, the same to all who share it."""
        with _lock:
            found = _pools.get(executor)
            if found is None:
                found = _pools[executor] = cls(executor)
            return found  # type: ignore[return-value]  # there are no others

    def begin(self) -> bool:
        """Run the initializer once on this thread; return whether it has raised on none."""
        if not self._broken and not getattr(self._begun, "done", False):
            self._begun.done = True
            try:
                self._initializer(*self._arguments)
            except BaseException:
                _LOG.critical("Exception in initializer:", exc_info=True)  # as the pool itself says
                self._broken = True
        return not self._broken


_lock: Final = threading.Lock()
_pools: Final[weakref.WeakKeyDictionary[ThreadPoolExecutor, Pool]] = weakref.WeakKeyDictionary()
