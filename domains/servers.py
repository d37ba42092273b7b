"""Ready-made servers: names, windows, files, and a workstation's cache of file blocks."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Annotated, Final

from lrpc.domains.codecs import FixedBytes, UInt16, UInt32, UpTo
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Count, Duration, Findings, Server

BLOCK_BYTES: Final = 1024
Block = Annotated[bytes, FixedBytes(BLOCK_BYTES)]


class Names(Interface):
    """Names of files, and the numbers they stand for."""

    def lookup(self, name: Annotated[str, UpTo(64)]) -> UInt32:
        """Return the number of a file: the same one each time for the same name."""


class Windows(Interface):
    """Windows on a screen, and what the user does in them."""

    def next_event(self) -> UInt32:
        """Return the number of the user's next action."""

    def draw(self, window: UInt16, text: Annotated[str, UpTo(80)]) -> None:
        """Show a line of text in a window."""


class Files(Interface):
    """Files of numbered blocks of 1,024 bytes."""

    def read(self, file: UInt32, block: UInt32) -> Block:
        """Return a block."""

    def write(self, file: UInt32, block: UInt32, data: Block) -> None:
        """Replace a block."""


@dataclass
class NameServer(Server, Names):
    """Gives a name its number when it is first looked up."""

    independent = True

    lookup_us: Duration = 50.0

    def __post_init__(self) -> None:
        """Start without names."""
        self._numbers: dict[str, int] = {}

    def lookup(self, name: str) -> int:
        """Return the number of a name."""
        self.domain.compute(us=self.lookup_us)
        return self._numbers.setdefault(name, len(self._numbers))

    def findings(self) -> Findings:
        """Return how many names have numbers."""
        return {"names": len(self._numbers)}


@dataclass
class WindowServer(Server, Windows):
    """Draws lines of text, and reports what the user does."""

    independent = True

    event_us: Duration = 100.0
    draw_us: Duration = 300.0

    def __post_init__(self) -> None:
        """Start at the first event."""
        self._events = 0

    def next_event(self) -> int:
        """Return the number of the next event."""
        self.domain.compute(us=self.event_us)
        self._events += 1
        return self._events

    def draw(self, window: int, text: str) -> None:
        """Spend the time that drawing a line takes."""
        self.domain.compute(us=self.draw_us)


class BlockCache:
    """An LRU cache of file blocks, by file and block number; its owner writes dirty blocks back."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._dirty: set[tuple[int, int]] = set()

    def get(self, key: tuple[int, int]) -> bytes | None:
        """Return a block and mark it as used last; None where it is not cached."""
        data = self._blocks.get(key)
        if data is not None:
            self._blocks.move_to_end(key)
        return data

    def put(self, key: tuple[int, int], data: bytes, *, dirty: bool) -> tuple[tuple[int, int], bytes] | None:
        """Cache a block; return the block evicted for it, with its key, if that is dirty."""
        self._blocks[key] = data
        self._blocks.move_to_end(key)
        if dirty:
            self._dirty.add(key)
        if len(self._blocks) <= self._capacity:
            return None
        victim, old = self._blocks.popitem(last=False)
        if victim not in self._dirty:
            return None
        self._dirty.discard(victim)
        return victim, old


@dataclass
class FileServer(Server, Files):
    """Stores all blocks on a disk, behind a cache in its memory that is written back."""

    independent = True

    buffers: Count = 2000  # blocks cached in memory
    request_us: Duration = 200.0
    disk_us: Duration = 25_000.0

    def __post_init__(self) -> None:
        """Start with an empty disk, whose blocks read as zeros."""
        self._disk: dict[tuple[int, int], bytes] = {}
        self._cache = BlockCache(self.buffers)
        self._requests = self._disk_reads = 0

    def read(self, file: int, block: int) -> bytes:
        """Return a block, from memory or from the disk."""
        self._requests += 1
        self.domain.compute(us=self.request_us)
        data = self._cache.get((file, block))
        if data is None:
            self._disk_reads += 1
            self.domain.sleep(us=self.disk_us)
            data = self._disk.get((file, block), bytes(BLOCK_BYTES))
            self._keep((file, block), data, dirty=False)
        return data

    def write(self, file: int, block: int, data: bytes) -> None:
        """Replace a block in memory; it reaches the disk when it is evicted."""
        self._requests += 1
        self.domain.compute(us=self.request_us)
        self._keep((file, block), data, dirty=True)

    def findings(self) -> Findings:
        """Return the number of requests and of reads from the disk."""
        return {"requests": self._requests, "disk_reads": self._disk_reads}

    def _keep(self, key: tuple[int, int], data: bytes, *, dirty: bool) -> None:
        victim = self._cache.put(key, data, dirty=dirty)
        if victim is not None:
            self._disk[victim[0]] = victim[1]


@dataclass
class FileCache(Server, Files):
    """A workstation's cache of a file server's blocks, written back as they are evicted.

    It imports the file server as `server`, on another machine: a miss is a cross-machine call.
    """

    independent = True

    blocks: Count
    hit_us: Duration = 100.0

    def __post_init__(self) -> None:
        """Start with an empty cache."""
        self._cache = BlockCache(self.blocks)
        self._hits = self._misses = self._write_backs = 0

    def start(self) -> None:
        """Bind the file server."""
        self._server = self.domain.bind(Files, "server")

    def read(self, file: int, block: int) -> bytes:
        """Return a block, from the cache or from the file server."""
        self.domain.compute(us=self.hit_us)
        data = self._cache.get((file, block))
        if data is not None:
            self._hits += 1
            return data
        self._misses += 1
        data = self._server.read(file, block)
        self._keep((file, block), data, dirty=False)
        return data

    def write(self, file: int, block: int, data: bytes) -> None:
        """Replace a block in the cache; it reaches the file server when it is evicted."""
        self.domain.compute(us=self.hit_us)
        self._keep((file, block), data, dirty=True)

    def findings(self) -> Findings:
        """Return the number of hits, misses and blocks written back."""
        return {"hits": self._hits, "misses": self._misses, "write_backs": self._write_backs}

    def _keep(self, key: tuple[int, int], data: bytes, *, dirty: bool) -> None:
        victim = self._cache.put(key, data, dirty=dirty)
        if victim is not None:
            self._write_backs += 1
            self._server.write(*victim[0], victim[1])
