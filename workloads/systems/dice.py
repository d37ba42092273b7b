"""Random whole numbers for the programs of Table I's systems, from a stream's 32-bit halves: quick where compiled."""

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from lrpc.kernel.random import Stream

LARGEST: Final = 1 << 30  # that a bound or mean may be: products of it and 32 bits stay small numbers where compiled
_MANY: Final = 512


class Dice:
    """Numbers drawn from one stream; the same on every machine, compiled or not."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._halves: list[int] = []

    def half(self) -> int:
        """Return 32 random bits."""
        if not self._halves:
            self._halves = self._stream.halves(_MANY)
        return self._halves.pop()

    def below(self, bound: int) -> int:
        """Return a whole number from 0 to `bound` - 1, each as likely; `bound` is at most `LARGEST`."""
        return self.half() * bound >> 32

    def chance(self, thousandths: int) -> bool:
        """Return true so many times in a thousand."""
        return self.below(1000) < thousandths

    def choose(self, bounds: Sequence[int]) -> int:
        """Return an index with the weights that `bounds`, their running sums, say."""
        return bisect_right(bounds, self.below(bounds[-1]))

    def exponential(self, mean: int) -> int:
        """Return a whole number with an exponential distribution of that mean, by von Neumann's comparisons."""
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
        """Return a count whose mean is so many thousandths: exponential, and rounded by chance."""
        if not thousandths:
            return 0
        return (self.exponential(thousandths) + self.below(1000)) // 1000
