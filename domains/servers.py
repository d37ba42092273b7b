"""Stock servers: names, windows, a file server, and the cache of its blocks that each workstation keeps."""

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
        """Return the number of a file, the same for the same name."""


class Windows(Interface):
    """A window on the screen."""

    def next_event(self) -> UInt32:
        """Return what the user did next."""

    def draw(self, window: UInt16, text: Annotated[str, UpTo(80)]) -> None:
        """Show a line of text."""


class Files(Interface):
    """Files as numbered blocks."""

    def read(self, file: UInt32, block: UInt32) -> Block:
        """Return a block."""

    def write(self, file: UInt32, block: UInt32, data: Block) -> None:
        """Replace a block."""


@dataclass
class NameServer(Server, Names):
    """Gives every name a number when it first sees it."""

    independent = True

    lookup_us: Duration = 50.0

    def __post_init__(self) -> None:
        """Know no names."""
        self._numbers: dict[str, int] = {}

    def lookup(self, name: str) -> int:
        """Return the number of a name."""
        self.domain.compute(us=self.lookup_us)
        return self._numbers.setdefault(name, len(self._numbers))

    def findings(self) -> Findings:
        """Return how many names there are."""
        return {"names": len(self._numbers)}


@dataclass
class WindowServer(Server, Windows):
    """Draws, and reports events."""

    independent = True

    event_us: Duration = 100.0
    draw_us: Duration = 300.0

    def __post_init__(self) -> None:
        """Have seen nothing."""
        self._events = 0

    def next_event(self) -> int:
        """Return the next event's number."""
        self.domain.compute(us=self.event_us)
        self._events += 1
        return self._events

    def draw(self, window: int, text: str) -> None:
        """Spend what drawing a line takes."""
        self.domain.compute(us=self.draw_us)


class BlockCache:
    """Blocks of files, least recently used first."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._dirty: set[tuple[int, int]] = set()

    def get(self, key: tuple[int, int]) -> bytes | None:
        """Return a block and count it as just used; None where it is not here."""
        data = self._blocks.get(key)
        if data is not None:
            self._blocks.move_to_end(key)
        return data

    def put(self, key: tuple[int, int], data: bytes, *, dirty: bool) -> tuple[tuple[int, int], bytes] | None:
        """Keep a block; return the one that had to go for it, if that has not been written back."""
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
    """Keeps every block, on a disk behind a cache of its own."""

    independent = True

    buffers: Count = 2000  # blocks in memory
    request_us: Duration = 200.0
    disk_us: Duration = 25_000.0

    def __post_init__(self) -> None:
        """Have an empty disk, which reads as zeros."""
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
        """Replace a block in memory; the disk gets it when it has to make room."""
        self._requests += 1
        self.domain.compute(us=self.request_us)
        self._keep((file, block), data, dirty=True)

    def findings(self) -> Findings:
        """Return requests and reads from the disk."""
        return {"requests": self._requests, "disk_reads": self._disk_reads}

    def _keep(self, key: tuple[int, int], data: bytes, *, dirty: bool) -> None:
        victim = self._cache.put(key, data, dirty=dirty)
        if victim is not None:
            self._disk[victim[0]] = victim[1]


@dataclass
class FileCache(Server, Files):
    """A workstation's cache of a file server's blocks, written back when they must make room.

    It imports the server as `server`. What is not here is what sends a call to another machine.
    """

    independent = True

    blocks: Count
    hit_us: Duration = 100.0

    def __post_init__(self) -> None:
        """Be empty."""
        self._cache = BlockCache(self.blocks)
        self._hits = self._misses = self._write_backs = 0

    def start(self) -> None:
        """Bind the file server."""
        self._server = self.domain.bind(Files, "server")

    def read(self, file: int, block: int) -> bytes:
        """Return a block, from here or from the server."""
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
        """Replace a block here; the server gets it later."""
        self.domain.compute(us=self.hit_us)
        self._keep((file, block), data, dirty=True)

    def findings(self) -> Findings:
        """Return hits, misses and blocks written back."""
        return {"hits": self._hits, "misses": self._misses, "write_backs": self._write_backs}

    def _keep(self, key: tuple[int, int], data: bytes, *, dirty: bool) -> None:
        victim = self._cache.put(key, data, dirty=dirty)
        if victim is not None:
            self._write_backs += 1
            self._server.write(*victim[0], victim[1])
