"""The file servers of Table I's systems: whole files as numbered blocks, on a disk behind a cache in memory."""

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
    """A file server's procedures: see `unix.FileService`."""

    def lookup(self, file: UInt32) -> UInt32:
        """Return a file's version, by its name."""

    def attributes(self, file: UInt32) -> UInt32:
        """Return a file's version."""

    def read(self, file: UInt32, block: UInt32) -> StoredBlock:
        """Return a block."""

    def write(self, file: UInt32, block: UInt32, data: StoredBlock) -> UInt32:
        """Replace a block; return the file's version."""

    def create(self, file: UInt32) -> UInt32:
        """Make a file; return its version."""

    def remove(self, file: UInt32) -> UInt32:
        """Remove a file; return the version that another of its name would have."""


@dataclass
class StorageServer(Server, Storage):
    """Keeps files, as versions: what is in them decides nothing. Blocks come from memory or the disk."""

    independent = True

    blocks: Number = 500  # in memory
    block_bytes: Annotated[int, Field(ge=1, le=LARGEST_BLOCK)] = LARGEST_BLOCK
    request_us: Duration = 500.0
    disk_us: Duration = 25_000.0

    def __post_init__(self) -> None:
        """Have files that nobody has written to."""
        self._versions: dict[int, int] = {}
        self._kept = LruCache(self.blocks)
        self._requests = dict.fromkeys((one.name for one in Storage.procedures), 0)
        self._block = bytes(self.block_bytes)

    def lookup(self, file: int) -> int:
        """Find a file's name."""
        self._begin("lookup")
        return self._versions.get(file, 0)

    def attributes(self, file: int) -> int:
        """Look a file's attributes up."""
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
        """Write a block to the disk, before it is acknowledged, and keep it."""
        self._begin("write")
        self.domain.sleep(us=self.disk_us)
        self._kept.keep(block_key(file, block), 0)
        return self._change(file)

    def create(self, file: int) -> int:
        """Make a file."""
        self._begin("create")
        return self._change(file)

    def remove(self, file: int) -> int:
        """Remove a file."""
        self._begin("remove")
        return self._change(file)

    def findings(self) -> Findings:
        """Return requests by procedure, and how its memory served."""
        return {**self._requests, "hits": self._kept.hits, "misses": self._kept.misses}

    def _begin(self, procedure: str) -> None:
        self._requests[procedure] += 1
        self.domain.compute(us=self.request_us)

    def _change(self, file: int) -> int:
        version = self._versions[file] = self._versions.get(file, 0) + 1
        return version
