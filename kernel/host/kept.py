"""Results that found no room, kept until their clients have made some; but not for long.

They are the server's memory, outside of what a segment costs its user. So there is a bound on what
is kept, in all and for each client process: a few workers wait for room there, and then let go
of what they have. What is not collected in time is dropped, by a thread that all bindings of this
process share. It ends where nothing is kept.
"""

import os
import threading
from typing import Final

from lrpc.kernel.host import native
from lrpc.kernel.host.chores import Chore

KEPT_S: Final = 5.0  # within which a client collects; as long as it waits for a segment to be taken
MOST_KEPT: Final = 512 << 20  # bytes, for all clients of this process
MOST_KEPT_FOR_ONE: Final = 128 << 20  # likewise, for one client process; or a single result
MOST_WAITING: Final = 384 << 20  # bytes of results whose workers wait for room
_LOOK_S: Final = 0.002  # after which a worker looks for room again
FITS: Final = 2  # what `native.Worker.takes` returns where results find room


class _Waiting:
    """What workers hold while they wait for room."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bytes = 0

    def await_room(self, worker: native.Worker, size: int) -> bool:
        takes = worker.takes(size)
        if takes or not self._add(size):
            return takes == FITS
        pause, until = threading.Event(), native.now_ns() + int(KEPT_S * 1e9)
        while not (takes := worker.takes(size)) and native.now_ns() < until:
            pause.wait(_LOOK_S)
        self._add(-size)
        return takes == FITS

    def _add(self, size: int) -> bool:
        with self._lock:
            fits = self._bytes + size <= MOST_WAITING
            self._bytes += size if fits else 0
            return fits


def _dropping() -> Chore:
    return Chore("lrpc drops", KEPT_S / 5, lambda: None, lambda: native.drop_kept(native.now_ns() - int(KEPT_S * 1e9)))


_kept = _dropping()
_waiting = _Waiting()


def await_room(worker: native.Worker, size: int) -> bool:
    """Wait until results of so many bytes find room, or would be kept; not for long.

    Returns whether they find room: then their client does not have to collect them.
    """
    return _waiting.await_room(worker, size)


def _watch() -> None:
    with _kept.lock:
        _kept.begin()


def _forget() -> None:
    global _kept, _waiting
    _kept, _waiting = _dropping(), _Waiting()  # the threads stayed with the parent, and may have held a lock


native.keep_results(MOST_KEPT, MOST_KEPT_FOR_ONE, _watch)
os.register_at_fork(after_in_child=_forget)
