"""Keeps Python's collector of cycles away from what is made to stay.

A trace of a million spans is ten million objects, and 10,000 machines are nearly as many. While
they are made, the collector would walk over all that there is again and again: a fifth of the time
that a replay takes, and a half of the time to set those machines up. As those machines begin to
run, they make so much more that it does so again, for a fifth of the time of their first calls.
"""

import contextlib
import gc
from collections.abc import Iterator
from typing import Final

SELDOM: Final = 100_000  # new objects between collections: ten for each of 10,000 machines


@contextlib.contextmanager
def collector_paused(*, without_cycles: bool = False) -> Iterator[None]:
    """Make no collection within the block.

    Where what it makes is `without_cycles`, later ones pass over it too: it ends with its last
    reference.
    """
    if not gc.isenabled():
        yield
        return
    if without_cycles:
        gc.collect()  # what can go does so now: nothing looks at it later
    gc.disable()
    try:
        yield
        if without_cycles:
            gc.freeze()
    finally:
        gc.enable()


@contextlib.contextmanager
def passed_over() -> Iterator[None]:
    """Let collections within the block pass over what there is as it begins, and come seldom.

    Nothing is passed over where something is already: that stays so after the block. To learn that
    takes as long as a walk over it, so this is for blocks that take much longer.
    """
    often, *others = gc.get_threshold()
    if often:  # else there are none
        gc.set_threshold(max(often, SELDOM), *others)
    frozen = gc.get_freeze_count() > 0
    if not frozen:
        gc.freeze()
    try:
        yield
    finally:
        if not frozen:
            gc.unfreeze()
        gc.set_threshold(often, *others)
