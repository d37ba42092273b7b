"""Random streams: one for each (seed, machine, purpose), with samples computed in integers.

The same seed must give the same run anywhere and for good. The raw words therefore come from
Philox, a counter-based generator with a fixed definition, and the samples are made from them here,
in integer arithmetic. A library's distributions may change between its versions, so none is used.

All streams of a thread share one generator, which is given a stream's key and place for each few
words: that takes half a microsecond, where to make a generator takes fifteen, and to keep one for
each of a hundred thousand streams seven kilobytes each.
"""

import threading
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from struct import unpack
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from numpy import uint64
    from numpy.random import Philox
    from numpy.typing import NDArray

# Words generated at a time: few at first, since most streams of a large cluster are asked for few.
_FEWEST: Final = 4
_MOST: Final = 64
_BLOCK: Final = 4  # words that Philox makes at a time, each block from its number


class _Shared(threading.local):
    """The generator of a thread's streams, made for the first of them."""

    philox: "Philox | None" = None


_shared: Final = _Shared()


class Stream:
    """A stream of random 64-bit words, and samples made from them."""

    def __init__(self, seed: int, machine: str, purpose: str) -> None:
        name = f"{seed}\0{machine}\0{purpose}".encode()
        self._key = unpack("<QQ", blake2b(name, digest_size=16).digest())
        self._drawn = 0  # words, with those generated ahead
        self._words = array("Q")  # generated ahead, the next one last; a list of them takes four times as much
        self._ahead = _FEWEST

    def word(self) -> int:
        """Return 64 random bits."""
        return (self._words or self._more()).pop()

    def halves(self, count: int) -> list[int]:
        """Return the upper 32 bits of each of the next `count` words.

        The words that `word` has generated ahead, and not yet returned, are not among them.
        """
        halves: list[int] = (self._draw(count) >> 32).tolist()
        return halves

    def _more(self) -> "array[int]":
        """Generate words ahead, where there are none, and return them."""
        self._words = array("Q", self._draw(self._ahead).tobytes())
        self._words.reverse()
        self._ahead = min(4 * self._ahead, _MOST)
        return self._words

    def _draw(self, count: int) -> "NDArray[uint64]":
        """Return the next `count` words."""
        philox = _shared.philox
        if philox is None:
            from numpy.random import Philox  # here, since numpy takes a while, and only runs need it

            philox = _shared.philox = Philox()
        blocks, begun = divmod(self._drawn, _BLOCK)
        state: Any = {  # the tuples in it are taken as the arrays are that are declared
            "bit_generator": "Philox",
            "state": {"counter": (blocks, 0, 0, 0), "key": self._key},
            "buffer": (0, 0, 0, 0),
            "buffer_pos": _BLOCK,  # nothing is left of a block
            "has_uint32": 0,
            "uinteger": 0,
        }
        philox.state = state
        self._drawn += count
        words: NDArray[uint64] = philox.random_raw(begun + count)
        return words[begun:]

    def below(self, bound: int) -> int:
        """Return a random whole number from 0 to `bound` - 1; `bound` is at most 2**32."""
        return (self.word() >> 32) * bound >> 32

    def chance(self, parts: int, whole: int) -> bool:
        """Return True with probability `parts` / `whole`; `whole` is at most 2**32."""
        return self.below(whole) < parts

    def choose(self, bounds: Sequence[int]) -> int:
        """Return a random index into `bounds`, the running sums of the indexes' weights."""
        return bisect_right(bounds, self.below(bounds[-1]))

    def exponential(self, mean: int) -> int:
        """Return an exponentially distributed whole number of that mean, by von Neumann's method.

        It compares uniform words and needs no logarithm. Each round draws a run of falling words. A
        run of odd length ends the sample, with its first word as the fraction; every run of even
        length before it adds one to the whole part. Words are taken as `word` takes them, since to
        call it takes as long as that.
        """
        whole = 0
        while True:
            first = last = (self._words or self._more()).pop()
            falling = 1
            while (following := (self._words or self._more()).pop()) < last:
                last = following
                falling += 1
            if falling % 2:
                return whole * mean + (first * mean >> 64)
            whole += 1


def zipf_bounds(count: int, unevenness: float = 1.0, largest: int = 1_000_000) -> list[int]:
    """Return running sums, for `choose`, of the weights 1, 1/2, 1/3, …, 1/`count`.

    Each is to the power of `unevenness`. Weights are multiples of the `largest`, rounded down, and
    at least 1.
    """
    return list(accumulate(max(1, int(largest / rank**unevenness)) for rank in range(1, count + 1)))
