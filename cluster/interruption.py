"""Ctrl-C: raised again until it is heeded, for Python drops what is raised in some places, and then not any more."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

AGAIN_S: Final = 1.0


class _Interruption:
    """Whether this process is to end, and whether it is at that already. Signals come in the main thread alone."""

    def __init__(self) -> None:
        self.pressed = False
        self.heeded = False
        self.undisturbed = 0  # blocks, one in another

    def come(self, number: int, frame: FrameType | None) -> None:
        """Raise KeyboardInterrupt, unless that would disturb."""
        self.pressed = True
        if not self.heeded and not self.undisturbed:
            signal.setitimer(signal.ITIMER_REAL, AGAIN_S)
            raise KeyboardInterrupt


_state = _Interruption()


def heed() -> None:
    """Have SIGINT, unless it is ignored, and SIGTERM end this process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _state.come)


@contextmanager
def undisturbed() -> Iterator[None]:
    """Let go of something in the block; KeyboardInterrupt comes behind it, also if it was dropped before."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _state.undisturbed += 1
    if _state.pressed:
        _state.heeded = True
        signal.setitimer(signal.ITIMER_REAL, 0)
    try:
        yield
    finally:
        _state.undisturbed -= 1
        if _state.pressed and not _state.undisturbed:
            _state.heeded = True
            raise KeyboardInterrupt
