"""Latency histograms: counts in buckets whose width is under a hundredth of their value, so they never grow large."""

from collections.abc import Sequence
from typing import Final

_BITS: Final = 7  # buckets to a power of two: 128


class Histogram:
    """Counts whole nanoseconds. Below 256 ns buckets are exact, above they are at most 1/128 wide."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.smallest = 0
        self.largest = 0
        self.buckets: dict[int, int] = {}

    def add(self, value: int) -> None:
        """Count one value, in ns, not negative."""
        if value > self.largest:
            self.largest = value
        if value < self.smallest or not self.count:
            self.smallest = value
        self.count += 1
        self.total += value
        shift = value.bit_length() - _BITS - 1
        bucket = value if shift <= 0 else (shift << _BITS) + (value >> shift)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def merge(self, other: "Histogram") -> None:
        """Add what `other` has counted."""
        self.smallest = min((one.smallest for one in (self, other) if one.count), default=0)
        self.largest = max(self.largest, other.largest)
        self.count += other.count
        self.total += other.total
        for bucket, count in other.buckets.items():
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    def quantiles(self, shares: Sequence[float]) -> list[int]:
        """Return, for each of the rising `shares` of 1, the middle of the bucket it falls in, in ns; 0 when empty.

        No quantile is outside what was counted, and that of 1 is the largest value itself.
        """
        found: list[int] = []
        seen = 0
        ordered = sorted(self.buckets.items())
        at = -1
        for share in shares:
            while at < len(ordered) - 1 and (at < 0 or seen < share * self.count):
                at += 1
                seen += ordered[at][1]
            middle = _middle(ordered[at][0]) if ordered else 0
            found.append(self.largest if share >= 1 else min(max(middle, self.smallest), self.largest))
        return found


def _middle(bucket: int) -> int:
    shift = (bucket >> _BITS) - 1
    if shift <= 0:
        return bucket
    low = (bucket - (shift << _BITS)) << shift
    return low + (1 << shift) // 2
