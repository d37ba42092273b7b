"""Chores: what a thread of its own does now and then, for as long as there is something to do."""

import threading
from collections.abc import Callable


class Chore:
    """Does `work` every so many seconds, until `is_left` says that nothing is left to do.

    `is_left` is asked with the `lock` held, and what makes something to do must `begin` with it, so
    that the thread does not end just then. A forked child has no thread, and must make chores anew:
    the parent's may have held the lock.
    """

    def __init__(self, name: str, every_s: float, work: Callable[[], object], is_left: Callable[[], object]) -> None:
        self.lock = threading.Lock()
        self._name, self._every_s = name, every_s
        self._work, self._is_left = work, is_left
        self._runs = False

    def begin(self) -> None:
        """Start the thread unless it runs; call it with the lock."""
        if not self._runs:
            self._runs = True
            threading.Thread(target=self._run, name=self._name, daemon=True).start()

    def _run(self) -> None:
        pause = threading.Event()
        while True:
            pause.wait(self._every_s)
            self._work()
            with self.lock:
                if not self._is_left():
                    self._runs = False
                    return
