"""Random streams: one for each (seed, machine, purpose), with samples computed in integers.

The same seed must give the same run anywhere and for good. The raw words therefore come from
Philox, a generator with a fixed definition, and the samples are made from them here, in integer
arithmetic. A library's distributions may change between its versions, so none is used.

Words have 64 bits without a sign. They are read less 2**63, which is in the same order: so compiled
code compares them as what the processor compares. Products are made of their halves, which fit it
too. Larger numbers are left to `mul`, which takes longer: a product that compiled code writes out
as such a number ends the process where a Ctrl-C comes meanwhile.
"""

from __future__ import annotations

from bisect import bisect_right
from hashlib import blake2b
from itertools import accumulate
from operator import mul
from struct import unpack
from typing import TYPE_CHECKING, Final

from librt.strings import read_i64_le

from lrpc.kernel.philox import random_words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_extensions import i64  # a native number, where this is compiled
    from numpy import uint64
    from numpy.typing import NDArray

# Words generated at a time: few at first, since most streams of a large cluster are asked for few.
_FEWEST: Final = 4
_MOST: Final = 64
_BYTES: Final = 8  # of a word
_MIDDLE: Final = 1 << 63  # what words are read less
_SIGN: Final = -(1 << 63)  # the bit that does so
_LARGEST: Final = 1 << 31  # a mean whose products with 32 bits fit a signed word
_WIDEST: Final = 1 << 32  # a bound whose products with 16 bits do, twice over


class Stream:
    """A stream of random 64-bit words, and samples made from them."""

    def __init__(self, seed: int, machine: str, purpose: str) -> None:
        name = f"{seed}\0{machine}\0{purpose}".encode()
        self._key: tuple[int, int] = unpack("<QQ", blake2b(name, digest_size=16).digest())
        self._drawn = 0  # words, with those generated ahead
        self._words = b""  # generated ahead
        self._at: i64 = 0  # where the next one is in these
        self._ahead = _FEWEST

    def word(self) -> int:
        """Return 64 random bits."""
        signed: int = self._next()
        return signed + _MIDDLE

    def halves(self, count: int) -> list[int]:
        """Return the upper 32 bits of each of the next `count` words.

        The words that `word` has generated ahead, and not yet returned, are not among them.
        """
        halves: list[int] = (self._draw(count) >> 32).tolist()
        return halves

    def _draw(self, count: int) -> NDArray[uint64]:
        """Return the next `count` words, as they are generated."""
        words = random_words(self._key, self._drawn, count)
        self._drawn += count
        return words

    def _next(self) -> i64:
        """Return the next word, less 2**63."""
        at = self._at
        if at == len(self._words):
            self._words = self._draw(self._ahead).astype("<u8", copy=False).tobytes()
            self._ahead = min(4 * self._ahead, _MOST)
            at = 0
        self._at = at + _BYTES
        return read_i64_le(self._words, at) ^ _SIGN

    def below(self, bound: int) -> int:
        """Return a random whole number from 0 to `bound` - 1; `bound` is at most 2**32."""
        half = (self._next() >> 32) + _LARGEST
        if not 0 <= bound <= _WIDEST:
            large: int = half
            product: int = mul(large, bound)
            return product >> 32
        whole: i64 = bound
        return ((half >> 16) * whole + ((half & 0xFFFF) * whole >> 16)) >> 16

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
        length before it adds one to the whole part.
        """
        whole: i64 = 0
        while True:
            first = self._next()
            last = first
            odd = True  # the words in the run so far
            following = self._next()
            while following < last:
                last = following
                odd = not odd
                following = self._next()
            if odd:
                return _times(whole, first, mean)
            whole += 1

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle or copy as the stream that goes on from here."""
        at: int = self._at
        return _resumed, (self._key, self._drawn, self._words[at:], self._ahead)


def _resumed(key: tuple[int, int], drawn: int, words: bytes, ahead: int) -> Stream:
    stream = Stream(0, "", "")
    stream._key, stream._drawn, stream._words, stream._ahead = key, drawn, words, ahead
    return stream


def _times(whole: i64, signed: i64, mean: int) -> int:
    """Return `mean` times a number: a whole one, and a word as a fraction of 2**64, less 2**63."""
    if not 0 <= mean < _LARGEST:
        above: int = whole
        word: int = signed
        product: int = mul((above << 64) + word + _MIDDLE, mean)
        return product >> 64
    short: i64 = mean
    upper = (signed >> 32) + _LARGEST
    return whole * short + ((upper * short + ((signed & 0xFFFFFFFF) * short >> 32)) >> 32)


def zipf_bounds(count: int, unevenness: float = 1.0, largest: int = 1_000_000) -> list[int]:
    """Return running sums, for `choose`, of the weights 1, 1/2, 1/3, …, 1/`count`.

    Each is to the power of `unevenness`. Weights are multiples of the `largest`, rounded down, and
    at least 1.
    """
    return list(accumulate(max(1, int(largest / rank**unevenness)) for rank in range(1, count + 1)))
