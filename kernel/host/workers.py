"""Workers: the threads that run a server's procedures, each with its E-stack.

A worker stays with the A-stack that it served last, and waits on its word. Since a client takes
A-stacks in LIFO order, the same worker is warm for the next call, and no dispatcher stands between.
A call on an A-stack that nobody attends is given to a free worker, or a new one. Where there are as
many as allowed, the one that has been idle for longest is reclaimed from its A-stack. A worker that
spins goes over to A-stacks that others lend it (lending.h), so Python's part asks it which it left.

A worker in a procedure cannot be reclaimed. So a client process gets another one only while it has
less than `SHARE` times as many as run no procedure for others: it has three in four of them at
most, the next process three in four of the rest, and so on.
"""

import itertools
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Protocol

from lrpc.kernel.descriptors import Entry
from lrpc.kernel.host import kept, native

# Kinds of replies; native.c has 0 (results) and 1 (no room).
RESULTS: Final = 0
WRONG_ARGUMENT: Final = 2  # the text of an `ArgumentError`
RAISED: Final = 3  # what the procedure raised, as `errors.as_reply` writes it
NO_SUCH_PROCEDURE: Final = 4

IDLE_S: Final = 10.0
SHARE: Final = 3  # times the workers that are left: as many may attend one process
_LARGE: Final = 64 * 1024  # bytes of results that a worker does not hold while it idles
_LINGER_MS: Final = 100  # for which it stays with its A-stack at least, where they are to be collected
# Turns an exception of a procedure into the kind and the bytes of a reply; raises none.
OnError = Callable[[BaseException], tuple[int, bytes]]


class Served(Protocol):
    """A binding, as the workers see it."""

    native: native.Binding
    entries: Sequence[Entry]
    owner: int  # which process it is


class Attends(Protocol):
    """What takes the calls of a server's bindings."""

    listens: bool  # to the doors of bindings, in the dispatcher's place

    @property
    def count(self) -> int:
        """Return how many calls it could run at a time, or runs."""

    @property
    def busy(self) -> bool:
        """Return whether a procedure runs."""

    def attend(self, binding: Any) -> None:
        """Take each call of a binding that nobody attends."""

    def drain(self, seconds: float) -> None:
        """Wait until no procedure runs, for at most so long."""

    def close(self) -> None:
        """Take no more calls."""

    def join(self, seconds: float) -> bool:
        """Wait until all has ended; return whether it has, within the time."""


class Workers:
    """The workers of one domain.

    `most` bounds their number; workers that are stuck in a procedure count. `idle_s` is how long
    one waits for a call, with or without an A-stack, before its thread ends. `on_end` is called for
    a binding that has ended under a worker. Threads are called `name` and the least number that no
    other has. Unless they are `fair` to processes, calls get workers in the order that they come.
    """

    listens = False

    def __init__(
        self,
        name: str,
        on_error: OnError,
        on_end: Callable[["Served"], None],
        most: int = 64,
        idle_s: float = IDLE_S,
        *,
        fair: bool = True,
    ) -> None:
        self.name, self.most, self._fair = name, most, fair
        self._on_error, self._on_end = on_error, on_end
        self._idle_s = idle_s
        self._lock = threading.Condition()
        self._pending: deque[tuple[Served, int]] = deque()
        self._workers: set[_Worker] = set()
        self._waiting = 0  # workers without an A-stack
        self._closed = False

    @property
    def count(self) -> int:
        """Return how many workers there are."""
        return len(self._workers)

    def attend(self, binding: Served) -> None:
        """Give each call of a binding that nobody attends to a worker."""
        with self._lock:
            if self._closed:
                return
            queued = set(self._pending)
            for index in binding.native.unattended():
                if (binding, index) not in queued:
                    self._pending.append((binding, index))
                    self._provide(binding)
        if binding.native.ended:
            self._on_end(binding)

    def _provide(self, binding: Served) -> None:
        """Find a worker for a call that has just begun to wait for one."""
        idle = [one for one in self._workers if one.owner and not one.native.busy and not one.dismissed]
        if not self._may_have(binding.owner, None):
            idle = [one for one in idle if one.owner == binding.owner]
        elif self._waiting >= sum(1 for _ in self._fit()):
            self._lock.notify()
            return
        elif len(self._workers) < self.most:
            numbers = {one.number for one in self._workers}
            worker = _Worker(self, next(n for n in itertools.count() if n not in numbers))
            self._workers.add(worker)
            worker.thread.start()
            return
        if idle:
            oldest = min(idle, key=_Worker.idles)
            oldest.dismissed = True
            oldest.native.dismiss()
        # Else all are in procedures; the first that returns takes the call.

    def _may_have(self, owner: int, without: "_Worker | None") -> bool:
        """Return whether a process gets another worker, where one is free or can be reclaimed."""
        if not self._fair:
            return True
        others = [one for one in self._workers if one.owner and one is not without]
        own = sum(one.owner == owner for one in others)
        busy = sum(one.owner != owner and one.native.busy for one in others)
        return not own or own < SHARE * (self.most - own - busy)

    def _first(self, without: "_Worker | None" = None) -> tuple[Served, int] | None:
        """Return the first A-stack in the queue whose process gets another worker."""
        return next(self._fit(without), None)

    def _fit(self, without: "_Worker | None" = None) -> Iterator[tuple[Served, int]]:
        may: dict[int, bool] = {}
        for one in self._pending:
            owner = one[0].owner
            if owner not in may:
                may[owner] = self._may_have(owner, without)
            if may[owner]:
                yield one

    def wanted(self, worker: "_Worker") -> bool:
        """Return whether a call in the queue would get this worker, if it left its A-stack."""
        with self._lock:
            return self._first(without=worker) is not None

    def next(self, worker: "_Worker") -> tuple[Served, int] | None:
        """Return an A-stack to attend; None where the worker is to end."""
        with self._lock:
            worker.given = 0
            if worker.dismissed:
                worker.dismissed = False
                worker.native.welcome()
            self._waiting += 1
            self._lock.wait_for(lambda: self._closed or self._first() is not None, self._idle_s)
            self._waiting -= 1
            if not self._closed and (found := self._first()) is not None:
                self._pending.remove(found)
                worker.given, worker.given_ns = found[0].owner, native.now_ns()
                return found
            self._workers.discard(worker)
            return None

    @property
    def busy(self) -> bool:
        """Return whether a procedure runs."""
        return any(one.native.busy for one in list(self._workers))

    def add(self, more: int) -> None:
        """Allow so many more workers, and make those that calls wait for."""
        with self._lock:
            self.most += more
            for binding, _ in list(self._pending)[:more]:
                self._provide(binding)

    def drain(self, seconds: float) -> None:
        """Wait until no procedure runs, for at most so long."""
        end = native.now_ns() + int(seconds * 1e9)
        with self._lock:
            while self.busy and native.now_ns() < end:
                self._lock.wait(0.005)

    def close(self) -> None:
        """Dismiss all workers; those in a procedure leave when it returns."""
        with self._lock:
            self._closed = True
            self._pending.clear()
            for worker in self._workers:
                worker.native.dismiss()
            self._lock.notify_all()

    def join(self, seconds: float) -> bool:
        """Wait until all workers have ended; return whether they have, within the time."""
        deadline = native.now_ns() + int(seconds * 1e9)
        for worker in list(self._workers):
            if worker.thread is not threading.current_thread():
                worker.thread.join(max(0.0, (deadline - native.now_ns()) / 1e9))
        return all(not worker.thread.is_alive() for worker in list(self._workers))

    def run(self, worker: "_Worker") -> None:
        """Serve calls on a worker's thread, until it is to end."""
        try:
            self._serve(worker)
        finally:
            with self._lock:
                self._workers.discard(worker)

    def _serve(self, worker: "_Worker") -> None:
        idle_ms = int(self._idle_s * 1000)
        own, pending, on_error = worker.native, self._pending, self._on_error
        while (work := self.next(worker)) is not None:
            binding, index = work
            took = own.attach(binding.native, index, idle_ms, binding.entries, on_error, pending, _LARGE, binding)
            worker.given = 0
            del binding, work  # it may end while this worker is with another, and its memory is to go then
            answer = own.await_call(idle_ms) if took else None
            while answer is not None:
                kind, result = answer
                answer = None
                if len(result) < _LARGE:
                    stay = not worker.dismissed and not (pending and self.wanted(worker))
                    answer = own.reply(kind, result, stay, idle_ms)
                    continue
                fits = kept.await_room(own, len(result))
                stay = not worker.dismissed and not (fits and pending and self.wanted(worker))
                stays = own.answer(kind, result, stay)
                result = b""
                if not stays:
                    break
                found = True if fits else own.linger(_LINGER_MS)
                answer = own.await_call(0 if pending and not fits else idle_ms) if found is True else found
            # A call that came while this worker was leaving rang a bell that found it still there.
            self.attend(own.pop_left())


class _Worker:
    """One worker, as the pool keeps it."""

    def __init__(self, pool: Workers, number: int) -> None:
        self.number = number
        self.native = native.Worker()
        self.given = 0  # whose A-stack it has been given last
        self.dismissed = False
        self.given_ns = 0  # when it was given its A-stack
        self.thread = threading.Thread(target=pool.run, args=(self,), name=f"{pool.name}{number}", daemon=True)

    @property
    def owner(self) -> int:
        """Return whose A-stack it attends; 0 for none."""
        return self.native.owner or self.given

    def idles(self) -> tuple[bool, int]:
        """Return what is least for one that has idled longest; one about to begin comes last."""
        return self.given_ns > self.native.since_ns, self.native.since_ns
