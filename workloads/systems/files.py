"""The files of Table I's systems, with sizes and popularity, and the LRU cache that keeps them.

A cache entry is a number for a key, such as the generation of the file whose block is kept. A key
whose number is out of date counts as a miss. So all blocks of a file become invalid at once by a
change of its generation, without a search through the cache; the stale entries age out.
"""

from collections import OrderedDict
from collections.abc import Sequence

from lrpc.kernel.random import Stream, zipf_bounds
from lrpc.workloads.systems.dice import Dice

BLOCK_BITS = 12  # bits of a block's number in a cache key: the most blocks of a file are 2 ** 12


class FilePopulation:
    """The files of one kind, numbered from `first` in order of popularity.

    The n-th is used 1/n as often as the first. Sizes are exponential with mean `mean_bytes`. They
    depend on the seed and the kind alone, so that all machines agree on the sizes of shared files.
    """

    def __init__(self, kind: str, first: int, count: int, mean_bytes: int, block_bytes: int, seed: int) -> None:
        dice = Dice(Stream(seed, "", f"sizes of {kind}"))
        most = 1 << BLOCK_BITS
        self.kind = kind
        self.first = first
        self.bytes = [dice.exponential(mean_bytes) for _ in range(count)]
        self.blocks = [min(most, 1 + size // block_bytes) for size in self.bytes]
        self.bounds: Sequence[int] = zipf_bounds(count)

    def __len__(self) -> int:
        return len(self.blocks)

    @property
    def numbers(self) -> range:
        """Return the numbers of all its files."""
        return range(self.first, self.first + len(self.blocks))

    def size(self, file: int) -> int:
        """Return the size in blocks of the file with the given number."""
        return self.blocks[file - self.first]


class LruCache:
    """An LRU cache of at most `capacity` keys, with a number (from 0) kept for each key."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def has(self, key: int, value: int) -> bool:
        """Return whether the key is kept with this value, and count a hit or a miss.

        A hit makes the key the most recently used.
        """
        if self._entries.get(key, -1) != value:
            self.misses += 1
            return False
        self._entries.move_to_end(key)
        self.hits += 1
        return True

    def peek(self, key: int) -> int:
        """Return the number kept for a key, or -1; a key found becomes the most recently used.

        Unlike `has`, this counts neither a hit nor a miss.
        """
        value = self._entries.get(key, -1)
        if value >= 0:
            self._entries.move_to_end(key)
        return value

    def keep(self, key: int, value: int) -> int:
        """Keep a number for a key; return the key that was evicted for it, or -1.

        With capacity 0 nothing is kept, and the key itself is returned.
        """
        if not self.capacity:
            return key
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) <= self.capacity:
            return -1
        return self._entries.popitem(last=False)[0]

    def drop(self, key: int) -> None:
        """Remove a key, if it is kept."""
        self._entries.pop(key, None)


def block_key(file: int, block: int) -> int:
    """Return the cache key of a file's block."""
    return file << BLOCK_BITS | block
