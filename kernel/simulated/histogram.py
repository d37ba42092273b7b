"""Histograms: counts in buckets whose width is under a hundredth of their value, so they never grow large."""

from collections.abc import Sequence
from typing import Final, NamedTuple

_BITS: Final = 7  # buckets to a power of two: 128


class Route(NamedTuple):
    """Calls that are counted together: who makes them, and what they are made to."""

    client: str  # the calling domain
    server: str | None  # the domain of this machine that exports it; None where another machine does
    export: str
    procedure: str


class Tally:
    """Counts whole numbers, each by itself."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._last = -1  # one often comes several times in a row: then it is counted apart, until another comes
        self._times = 0

    def add(self, value: int) -> None:
        """Count one value, not negative."""
        if value != self._last:
            self._settle()
            self._last = value
        self._times += 1

    @property
    def counts(self) -> dict[int, int]:
        """Return how often each value came."""
        self._settle()
        return self._counts

    def _settle(self) -> None:
        if self._times:
            self._counts[self._last] = self._counts.get(self._last, 0) + self._times
            self._times = 0


class Histogram:
    """Counts whole nanoseconds. Below 256 ns buckets are exact, above they are at most 1/128 wide."""

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.smallest = 0
        self.largest = 0
        self._buckets: dict[int, int] = {}
        self._last = -1  # simulated calls often take equal times: these are counted apart, until another comes
        self._times = 0

    def add(self, value: int) -> None:
        """Count one value, in ns, not negative."""
        self.count += 1
        self.total += value
        if value != self._last:
            self._settle()
            self._last = value
            if value > self.largest:
                self.largest = value
            if value < self.smallest or self.count == 1:
                self.smallest = value
        self._times += 1

    @property
    def buckets(self) -> dict[int, int]:
        """Return how many values fell into each bucket, by its number."""
        self._settle()
        return self._buckets

    def merge(self, other: "Histogram") -> None:
        """Add what `other` has counted."""
        self.smallest = min((one.smallest for one in (self, other) if one.count), default=0)
        self.largest = max(self.largest, other.largest)
        self.count += other.count
        self.total += other.total
        mine = self.buckets
        for bucket, count in other.buckets.items():
            mine[bucket] = mine.get(bucket, 0) + count

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

    def _settle(self) -> None:
        if self._times:
            value = self._last
            shift = value.bit_length() - _BITS - 1
            bucket = value if shift <= 0 else (shift << _BITS) + (value >> shift)
            self._buckets[bucket] = self._buckets.get(bucket, 0) + self._times
            self._times = 0
            self._last = -1


def bounds(bucket: int) -> tuple[int, int]:
    """Return the least value that a bucket counts, and the least that is above all of them, in ns."""
    shift = max(0, (bucket >> _BITS) - 1)
    low = (bucket - (shift << _BITS)) << shift
    return low, low + (1 << shift)


def _middle(bucket: int) -> int:
    low, end = bounds(bucket)
    return low + (end - low) // 2
