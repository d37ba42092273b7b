"""Gives back out-of-band segments that no call has used for a while.

A segment stays with its A-stack, since the next call is likely to be as large as the last one.
Where none comes, a thread that all bindings of this process share takes the A-stack off its queue,
and tells the server; once that has let go, the memory is the system's again. The thread ends where
nothing is left to give back.
"""

import os
import weakref
from typing import TYPE_CHECKING, Final

from lrpc.kernel.host.chores import Chore

if TYPE_CHECKING:
    from lrpc.kernel.host.client import ClientBinding

IDLE_S: Final = 2.0  # without a call that uses it


class _Spares:
    def __init__(self) -> None:
        self._bindings: weakref.WeakSet[ClientBinding] = weakref.WeakSet()
        self._chore = Chore("lrpc gives back", IDLE_S / 2, self._give_back, lambda: self._bindings)

    def watch(self, binding: "ClientBinding") -> None:
        with self._chore.lock:
            self._bindings.add(binding)
            self._chore.begin()

    def give_all(self) -> None:
        for one in list(self._bindings):
            one.give_back(0)

    def _give_back(self) -> None:
        for one in list(self._bindings):
            if not one.give_back(int(IDLE_S * 1e9)):
                with self._chore.lock:
                    if not one.holds_regions:  # it may have got one meanwhile
                        self._bindings.discard(one)


_spares = _Spares()


def watch(binding: "ClientBinding") -> None:
    """Give back the segments of a binding once they are not used."""
    _spares.watch(binding)


def give_all() -> None:
    """Give back all segments of this process that no call uses now."""
    _spares.give_all()


def _forget() -> None:
    global _spares
    _spares = _Spares()  # the thread stayed with the parent, and may have held the lock


os.register_at_fork(after_in_child=_forget)
