"""Random streams: raw words of a counter-based generator, one per (seed, machine, purpose), sampled in integers."""

from bisect import bisect_right
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from typing import Final

from numpy.random import Philox

_BLOCK: Final = 256


class Stream:
    """A stream of 64-bit words. The samples are made by this code alone, so that they never change with a library."""

    def __init__(self, seed: int, machine: str, purpose: str) -> None:
        name = f"{seed}\0{machine}\0{purpose}".encode()
        key = int.from_bytes(blake2b(name, digest_size=16).digest(), "little")
        self._generator = Philox(key=key)
        self._words: list[int] = []

    def word(self) -> int:
        """Return 64 random bits."""
        if not self._words:
            self._words = self._generator.random_raw(_BLOCK).tolist()
            self._words.reverse()
        return self._words.pop()

    def halves(self, count: int) -> list[int]:
        """Return the upper 32 bits of the next `count` words, but for those that `word` has taken in already."""
        halves: list[int] = (self._generator.random_raw(count) >> 32).tolist()
        return halves

    def below(self, bound: int) -> int:
        """Return a whole number from 0 to `bound` - 1, each as likely; `bound` is at most 2**32."""
        return (self.word() >> 32) * bound >> 32

    def chance(self, parts: int, whole: int) -> bool:
        """Return true with probability `parts` / `whole`."""
        return self.below(whole) < parts

    def choose(self, bounds: Sequence[int]) -> int:
        """Return an index with the weights that `bounds`, their running sums, say."""
        return bisect_right(bounds, self.below(bounds[-1]))

    def exponential(self, mean: int) -> int:
        """Return a whole number with an exponential distribution of that mean, by von Neumann's comparisons.

        Runs of falling uniform words give the fraction, the number of runs rejected the whole part: no logarithm.
        """
        whole = 0
        while True:
            first = last = self.word()
            falling = 1
            while (following := self.word()) < last:
                last = following
                falling += 1
            if falling % 2:
                return whole * mean + (first * mean >> 64)
            whole += 1


def zipf_bounds(count: int) -> list[int]:
    """Return running sums of weights 1, 1/2, 1/3, …, 1/`count`, in millionths, at least 1 each."""
    return list(accumulate(max(1, 1_000_000 // rank) for rank in range(1, count + 1)))
