"""Histograms of latencies, which stay small however much they count.

Buckets are less than a hundredth as wide as their values. Histograms are made here because every
simulated call adds to one: a library's call would cost more than the call that it counts. Simulated
calls often take equal times: a run of equal values is counted apart, and enters its bucket when
another value comes or the counts are read.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

_BITS: Final = 7  # buckets to a power of two: 128


class Route(NamedTuple):
    """The calls that one latency histogram counts: who makes them, and what they call."""

    client: str  # the calling domain
    server: str | None  # the domain of this machine that exports it; None if another machine does
    export: str
    procedure: str


class Tally:
    """Counts of whole numbers, each number by itself."""

    def __init__(self) -> None:
        self._counts: dict[int, int] = {}
        self._last = -1  # the value of the present run, and how often it has come
        self._times = 0

    def add(self, value: int) -> None:
        """Count one value, which must not be negative."""
        if value != self._last:
            self._end_run()
            self._last = value
        self._times += 1

    @property
    def counts(self) -> dict[int, int]:
        """Return how often each value was added."""
        self._end_run()
        return self._counts

    def _end_run(self) -> None:
        if self._times:
            self._counts[self._last] = self._counts.get(self._last, 0) + self._times
            self._times = 0


class Histogram:
    """Counts of whole nanoseconds, in buckets.

    Below 256 ns each value has its own bucket; above, a bucket is at most 1/128 as wide as its
    values.
    """

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.smallest = 0
        self.largest = 0
        self._buckets: dict[int, int] = {}
        self._last = -1  # the value of the present run, and how often it has come
        self._times = 0

    def add(self, value: int) -> None:
        """Count one value, in ns, which must not be negative."""
        self.count += 1
        self.total += value
        if value != self._last:
            self._end_run()
            self._last = value
            if value > self.largest:
                self.largest = value
            if value < self.smallest or self.count == 1:
                self.smallest = value
        self._times += 1

    @property
    def buckets(self) -> dict[int, int]:
        """Return how many values fell into each bucket, by the bucket's number; see `bounds`."""
        self._end_run()
        return self._buckets

    def merge(self, other: "Histogram") -> None:
        """Add the values that `other` has counted."""
        self.smallest = min((one.smallest for one in (self, other) if one.count), default=0)
        self.largest = max(self.largest, other.largest)
        self.count += other.count
        self.total += other.total
        mine = self.buckets
        for bucket, count in other.buckets.items():
            mine[bucket] = mine.get(bucket, 0) + count

    def quantiles(self, shares: Sequence[float]) -> list[int]:
        """Return the quantiles for rising `shares`, each from 0 to 1, in ns.

        A quantile is the middle of the bucket that it falls in, but never outside what was counted;
        that of 1 is the largest value itself. An empty histogram returns zeros.
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

    def _end_run(self) -> None:
        if self._times:
            value = self._last
            shift = value.bit_length() - _BITS - 1
            bucket = value if shift <= 0 else (shift << _BITS) + (value >> shift)
            self._buckets[bucket] = self._buckets.get(bucket, 0) + self._times
            self._times = 0
            self._last = -1


def bounds(bucket: int) -> tuple[int, int]:
    """Return a bucket's lower bound (inclusive) and upper bound (exclusive), in ns."""
    shift = max(0, (bucket >> _BITS) - 1)
    low = (bucket - (shift << _BITS)) << shift
    return low, low + (1 << shift)


def _middle(bucket: int) -> int:
    low, end = bounds(bucket)
    return low + (end - low) // 2
