"""The file server of Table I's systems: files as numbered blocks, on a disk behind an LRU cache.

The server stores versions and no contents. Which calls its clients make depends only on whether
their copies are out of date, and a version that changes with every write shows that.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field

from lrpc.domains.codecs import UInt32, UpTo
from lrpc.domains.interface import Interface
from lrpc.domains.residents import Duration, Findings, Server
from lrpc.workloads.systems.files import LruCache, block_key
from lrpc.workloads.systems.people import Number

LARGEST_BLOCK: Final = 8192
StoredBlock = Annotated[bytes, UpTo(LARGEST_BLOCK)]


class Storage(Interface):
    """The procedures of the file server, as `unix.FileService` defines them for clients."""

    def lookup(self, file: UInt32) -> UInt32:
        """Look up a file by its name; return its version."""

    def attributes(self, file: UInt32) -> UInt32:
        """Return a file's version."""

    def read(self, file: UInt32, block: UInt32) -> StoredBlock:
        """Return a block."""

    def write(self, file: UInt32, block: UInt32, data: StoredBlock) -> UInt32:
        """Replace a block; return the file's version."""

    def create(self, file: UInt32) -> UInt32:
        """Create a file; return its version."""

    def remove(self, file: UInt32) -> UInt32:
        """Remove a file; return the version that another file of its name would have."""


@dataclass
class StorageServer(Server, Storage):
    """A file server with `blocks` blocks of memory.

    A read takes `disk_us` if the block is not in memory; a write always does. Every request takes
    `request_us` of computation.
    """

    independent = True

    blocks: Number = 500
    block_bytes: Annotated[int, Field(ge=1, le=LARGEST_BLOCK)] = LARGEST_BLOCK
    request_us: Duration = 500.0
    disk_us: Duration = 25_000.0

    def __post_init__(self) -> None:
        """Start with all files at version 0 and nothing in memory."""
        self._versions: dict[int, int] = {}
        self._kept = LruCache(self.blocks)
        self._requests = dict.fromkeys((one.name for one in Storage.procedures), 0)
        self._block = bytes(self.block_bytes)

    def lookup(self, file: int) -> int:
        """Look up a file by its name; return its version."""
        self._begin("lookup")
        return self._versions.get(file, 0)

    def attributes(self, file: int) -> int:
        """Return a file's version."""
        self._begin("attributes")
        return self._versions.get(file, 0)

    def read(self, file: int, block: int) -> bytes:
        """Return a block, from memory or from the disk."""
        self._begin("read")
        key = block_key(file, block)
        if not self._kept.has(key, 0):
            self.domain.sleep(us=self.disk_us)
            self._kept.keep(key, 0)
        return self._block

    def write(self, file: int, block: int, data: bytes) -> int:
        """Write a block to the disk before the reply, and keep it in memory."""
        self._begin("write")
        self.domain.sleep(us=self.disk_us)
        self._kept.keep(block_key(file, block), 0)
        return self._change(file)

    def create(self, file: int) -> int:
        """Create a file; return its version."""
        self._begin("create")
        return self._change(file)

    def remove(self, file: int) -> int:
        """Remove a file; return the version that another file of its name would have."""
        self._begin("remove")
        return self._change(file)

    def findings(self) -> Findings:
        """Return the number of requests by procedure, and the hits and misses of its memory."""
        return {**self._requests, "hits": self._kept.hits, "misses": self._kept.misses}

    def _begin(self, procedure: str) -> None:
        self._requests[procedure] += 1
        self.domain.compute(us=self.request_us)

    def _change(self, file: int) -> int:
        version = self._versions[file] = self._versions.get(file, 0) + 1
        return version
