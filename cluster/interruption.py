"""Ctrl-C, SIGTERM, SIGHUP: KeyboardInterrupt, again until the program acts on it, not in a cleanup.

Python drops an exception that is raised in some places, for example in a destructor, and with it
the only KeyboardInterrupt. So the handler sets a timer that raises it again each second. The
program has acted on it when it enters a block of `undisturbed`, in which it releases what it holds.
No KeyboardInterrupt is raised in such a block, so a second Ctrl-C leaves nothing behind.

The native part of Ray answers SIGTERM while it starts. It prints a trace of the stack, has SIGALRM
abort the process three seconds later, and only then passes the signal on. So the handler takes
SIGALRM back whenever a signal comes.

Nor is one raised while the process forks, as Ray does for each process that it starts. Python would
drop it, and with it the rest of a function that is called after a fork: that of `logging` releases
a lock.
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Final

AGAIN_S: Final = 1.0  # until KeyboardInterrupt is raised again
FORK_S: Final = 0.05  # the same, if it came during a fork and was not raised


class _Interruption:
    """The state of an interruption: that a signal came, and that the program acts on it.

    Only the main thread uses it, which gets all signals.
    """

    def __init__(self) -> None:
        self.pressed = False  # a signal came
        self.acknowledged = False  # the program has begun to clean up
        self.undisturbed = 0  # blocks entered, one within another
        self.forking = False

    def handle(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, and again later, unless the program cleans up."""
        self.pressed = True
        signal.signal(signal.SIGALRM, self.handle)
        if not self.acknowledged and not self.undisturbed:
            signal.setitimer(signal.ITIMER_REAL, FORK_S if self.forking else AGAIN_S)
            if not self.forking:
                raise KeyboardInterrupt

    def note_fork(self, forking: bool) -> None:
        """Note whether the main thread is about to fork, or has done so."""
        if threading.current_thread() is threading.main_thread():
            self.forking = forking


_state = _Interruption()


def install_handlers() -> None:
    """Make SIGINT, SIGTERM and SIGHUP, unless ignored, raise KeyboardInterrupt in this process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGALRM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _state.handle)
    before, after = partial(_state.note_fork, True), partial(_state.note_fork, False)
    os.register_at_fork(before=before, after_in_parent=after, after_in_child=after)
    sys.unraisablehook = _report_unless_interrupted


def was_interrupted() -> bool:
    """Return whether a signal came. An error after it may be what a library made of it.

    Pydantic, for one, turns a KeyboardInterrupt that is raised while it builds a class into an
    error of its own.
    """
    return _state.pressed


def _report_unless_interrupted(dropped: "sys.UnraisableHookArgs") -> None:
    """Report an exception that Python drops, except KeyboardInterrupt, which is raised again."""
    if dropped.exc_type is not KeyboardInterrupt:
        sys.__unraisablehook__(dropped)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Run the block, a cleanup, without KeyboardInterrupt, and raise it afterwards.

    It is also raised if it came before the block and was dropped.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.undisturbed += 1
    if _state.pressed:
        _state.acknowledged = True
        signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        _state.undisturbed -= 1
        if _state.pressed and not _state.undisturbed:
            _state.acknowledged = True
            raise KeyboardInterrupt
