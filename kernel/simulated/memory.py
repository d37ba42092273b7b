"""Memory of protection domains: real bytes in regions, and which domain may read or write which of them."""

from bisect import bisect_right
from typing import Final

from lrpc.kernel.errors import AccessFault

PAGE: Final = 512  # bytes, a VAX page
READ: Final = 1
WRITE: Final = 2
POISON: Final = 0xDB  # what freed A-stacks are filled with in debug mode


class Region:
    """Contiguous bytes at an address of the machine."""

    __slots__ = ("base", "bytes", "limit")

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.limit = base + size
        self.bytes = bytearray(size)


class Memory:
    """A machine's memory: gives out regions at addresses that are never used twice."""

    def __init__(self) -> None:
        self._next = PAGE  # nothing is at address 0

    def allocate(self, size: int) -> Region:
        """Return a fresh region of `size` bytes, on a page of its own."""
        region = Region(self._next, size)
        self._next += -(-max(size, 1) // PAGE) * PAGE
        return region


class AddressSpace:
    """What is mapped to one domain, and with which rights."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._rights: dict[Region, int] = {}
        self._bases: list[int] = []
        self._regions: list[Region] = []

    def map(self, region: Region, rights: int) -> None:
        """Map a region with `READ`, `WRITE` or both."""
        if region not in self._rights:
            at = bisect_right(self._bases, region.base)
            self._bases.insert(at, region.base)
            self._regions.insert(at, region)
        self._rights[region] = rights

    def unmap(self, region: Region) -> None:
        """Take a region away."""
        del self._rights[region]
        at = self._regions.index(region)
        del self._regions[at], self._bases[at]

    def access(self, region: Region, right: int) -> bytearray:
        """Return the region's bytes; `AccessFault` where the domain does not have those rights to them."""
        if self._rights.get(region, 0) & right != right:
            raise self._fault(region.base, right)
        return region.bytes

    def load(self, address: int, size: int) -> bytes:
        """Return a copy of `size` bytes at `address`; `AccessFault` where any of them cannot be read."""
        region, offset = self._find(address, size, READ)
        return bytes(region.bytes[offset : offset + size])

    def store(self, address: int, data: bytes) -> None:
        """Write `data` at `address`; `AccessFault`, with nothing written, where any of it cannot be."""
        region, offset = self._find(address, len(data), WRITE)
        region.bytes[offset : offset + len(data)] = data

    def _find(self, address: int, size: int, right: int) -> tuple[Region, int]:
        at = bisect_right(self._bases, address) - 1
        if at < 0 or size < 0 or address + size > self._regions[at].limit:
            raise self._fault(address, right)
        self.access(self._regions[at], right)
        return self._regions[at], address - self._bases[at]

    def _fault(self, address: int, right: int) -> AccessFault:
        what = "read" if right == READ else "write" if right == WRITE else "read and write"
        return AccessFault(f"domain {self.owner}: {what} at address {address:#x}: not mapped to it for that")
