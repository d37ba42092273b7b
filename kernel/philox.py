"""The words of random streams: Philox, a counter-based generator with a fixed definition.

The generator is numpy's, whose raw words are the same in all of its versions. All streams of a
thread share one, which is given a stream's key and place for each lot of words: that takes four
microseconds, where to make a generator takes fifteen, and to keep one for each of a hundred
thousand streams seven kilobytes each.
"""

import threading
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy import uint64
    from numpy.random import Philox
    from numpy.typing import NDArray

_BLOCK: Final = 4  # words that Philox makes at a time, each block from its number


class _Shared(threading.local):
    """The generator of a thread's streams, made for the first of them."""

    philox: "Philox | None" = None


_shared: Final = _Shared()


def random_words(key: tuple[int, int], drawn: int, count: int) -> "NDArray[uint64]":
    """Return the next `count` words of a stream of that key, of which so many have been drawn."""
    philox = _shared.philox
    if philox is None:
        from numpy.random import Philox  # here, since numpy takes a while, and only runs need it

        philox = _shared.philox = Philox()
    blocks, begun = divmod(drawn, _BLOCK)
    state: Any = {  # the tuples in it are taken as the arrays are that are declared
        "bit_generator": "Philox",
        "state": {"counter": (blocks, 0, 0, 0), "key": key},
        "buffer": (0, 0, 0, 0),
        "buffer_pos": _BLOCK,  # nothing is left of a block
        "has_uint32": 0,
        "uinteger": 0,
    }
    philox.state = state
    words: NDArray[uint64] = philox.random_raw(begun + count)
    return words[begun:]
