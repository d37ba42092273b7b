"""Files as Table I's systems see them: how large, how often used; and what is kept of them, least recently used."""

from collections import OrderedDict
from collections.abc import Sequence

from lrpc.kernel.random import Stream, zipf_bounds
from lrpc.workloads.systems.dice import Dice

BLOCK_BITS = 12  # of a block's number in a key: no file has more blocks


class FilePopulation:
    """Files of one kind, numbered from `first`, in the order of how often they are used: the n-th 1/n as often.

    `mean_bytes` is the mean of their sizes, which are exponential and the same whoever asks.
    """

    def __init__(self, kind: str, first: int, count: int, mean_bytes: int, block_bytes: int, seed: int) -> None:
        dice = Dice(Stream(seed, "", f"sizes of {kind}"))
        most = 1 << BLOCK_BITS
        self.kind = kind
        self.first = first
        self.blocks = [min(most, 1 + dice.exponential(mean_bytes) // block_bytes) for _ in range(count)]
        self.bounds: Sequence[int] = zipf_bounds(count)

    def __len__(self) -> int:
        return len(self.blocks)

    def size(self, file: int) -> int:
        """Return how many blocks a file has, by its number."""
        return self.blocks[file - self.first]


class LruCache:
    """What a cache keeps, least recently used first: a number for each key, at most `capacity` of them."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._entries: OrderedDict[int, int] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def has(self, key: int, value: int) -> bool:
        """Return whether this very value is kept, count that as a hit or a miss, and the key as just used."""
        if self._entries.get(key, -1) != value:
            self.misses += 1
            return False
        self._entries.move_to_end(key)
        self.hits += 1
        return True

    def peek(self, key: int) -> int:
        """Return the number kept for a key, and count the key as just used; -1 for one that is not here."""
        value = self._entries.get(key, -1)
        if value >= 0:
            self._entries.move_to_end(key)
        return value

    def keep(self, key: int, value: int) -> int:
        """Keep a number for a key; return the key that had to go for it, -1 where none had."""
        if not self.capacity:
            return key
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) <= self.capacity:
            return -1
        return self._entries.popitem(last=False)[0]

    def drop(self, key: int) -> None:
        """Keep nothing for a key."""
        self._entries.pop(key, None)


def block_key(file: int, block: int) -> int:
    """Return the key of a file's block."""
    return file << BLOCK_BITS | block
