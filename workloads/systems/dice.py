"""Draws random whole numbers for the activity of Table I's systems.

All samples are computed with integers from the 32-bit halves of a stream's words: they are the same
on every machine, and mypyc compiles them to fast code. Processes draw so often that this matters.
"""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from lrpc.kernel.random import Stream

# The largest bound or mean. Its products with 32 bits still fit a machine word in compiled code.
LARGEST: Final = 1 << 30
_MANY: Final = 512  # halves fetched from the stream at once


class Dice:
    """A source of random numbers on one stream; the same on every machine, compiled or not."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._halves: list[int] = []

    def half(self) -> int:
        """Return 32 random bits."""
        if not self._halves:
            self._halves = self._stream.halves(_MANY)
        return self._halves.pop()

    def below(self, bound: int) -> int:
        """Return a uniform whole number from 0 to `bound` - 1; `bound` is at most `LARGEST`."""
        return self.half() * bound >> 32

    def chance(self, thousandths: int) -> bool:
        """Return True with a chance of `thousandths` in a thousand."""
        return self.below(1000) < thousandths

    def choose(self, bounds: Sequence[int]) -> int:
        """Return a random index; `bounds` are the running sums of the indices' weights."""
        return bisect_right(bounds, self.below(bounds[-1]))

    def exponential(self, mean: int) -> int:
        """Return an exponential whole number with the given mean, by von Neumann's comparisons.

        That method works with whole numbers alone and needs no logarithm.
        """
        whole = 0
        while True:
            first = last = self.half()
            falling = 1
            while True:
                following = self.half()
                if following >= last:
                    break
                last = following
                falling += 1
            if falling % 2:
                return whole * mean + (first * mean >> 32)
            whole += 1

    def about(self, thousandths: int) -> int:
        """Return an exponential count whose mean is `thousandths` / 1000, rounded at random."""
        if not thousandths:
            return 0
        return (self.exponential(thousandths) + self.below(1000)) // 1000
