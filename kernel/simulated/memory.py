"""Memory of protection domains, the rights to it, the pages in a translation buffer, and copy E.

Misses of a translation buffer are pages. A switch of contexts flushes a processor's buffer. The
pages that the path then touches, the kernel's and the domain's, are a fixed set, and those of them
that the buffer lacks are the misses. After a flush all are missing, so the usual case needs no set
operation. With tagged entries nothing is flushed, and where no context is switched nothing is
missed.

By copy E of Table III a server's stub has its private arguments on the server's stack: those that a
client must not change during the call, or that the server's language finds nowhere else. The
procedure gets them from there. Where the copy was not made, it gets garbage.
"""

from bisect import bisect_right
from functools import lru_cache
from typing import Final

from lrpc.kernel.descriptors import ProcedureDescriptor
from lrpc.kernel.errors import AccessFault

PAGE: Final = 512  # bytes, a VAX page
READ: Final = 1
WRITE: Final = 2
POISON: Final = 0xDB  # fills freed A-stacks in debug mode
POISONED: Final = bytes([POISON])  # a byte of what was not copied


_NO_PAGES: Final[frozenset[int]] = frozenset()


@lru_cache(maxsize=4096)
def alike(pages: frozenset[int]) -> frozenset[int]:
    """Return the same set for all machines of this process that have pages of these numbers."""
    return pages


class Region:
    """Contiguous bytes at an address of the machine."""

    __slots__ = ("base", "bytes", "limit")

    def __init__(self, base: int, size: int) -> None:
        self.base = base
        self.limit = base + size
        self.bytes = bytearray(size)


class PhysicalMemory:
    """A machine's memory, which allocates regions at addresses that are never used twice."""

    def __init__(self) -> None:
        self._next = PAGE  # nothing is at address 0
        self._pages = 0

    def allocate(self, size: int) -> Region:
        """Return a fresh region of `size` bytes, beginning on a page of its own."""
        region = Region(self._next, size)
        self._next += -(-max(size, 1) // PAGE) * PAGE
        return region

    def pages(self, count: int) -> frozenset[int]:
        """Return `count` fresh page numbers, for code and data whose bytes are not simulated."""
        first = self._pages
        self._pages += count
        return alike(frozenset(range(first, first + count)))


class TranslationBuffer:
    """The pages whose translations a processor holds, by number; a switch of contexts flushes them.

    It has room for all pages that one call touches. If its entries are tagged with their context,
    nothing is flushed.
    """

    def __init__(self, *, tagged: bool) -> None:
        self.tagged = tagged
        self._held: frozenset[int] = _NO_PAGES
        # What it held as it last had all of two sets of pages, and these: compared once.
        self._enough: frozenset[int] | None = None
        self._first = self._then = _NO_PAGES

    def switch(self) -> None:
        """Enter another context, which flushes the buffer unless its entries are tagged."""
        if not self.tagged:
            self._held = _NO_PAGES

    def holds_again(self, first: frozenset[int], then: frozenset[int]) -> bool:
        """Return whether it holds now what it would hold if `first` were touched, and then `then`.

        Each is touched right after a switch of contexts.
        """
        held = self._held
        if not self.tagged:
            return held is then
        if held is not self._enough or then is not self._then or first is not self._first:
            if not (first <= held and then <= held):
                return False
            self._enough, self._first, self._then = held, first, then
        return True

    def touch(self, pages: frozenset[int]) -> int:
        """Hold `pages` from now on, and return how many of them were missing."""
        held = self._held
        if held is pages:
            return 0
        if held is _NO_PAGES:  # the usual case, just after a flush
            self._held = pages
            return len(pages)
        missing = pages - held
        if missing:
            self._held = held | missing
        return len(missing)


class AddressSpace:
    """The regions that are mapped to one domain, and its rights to them."""

    def __init__(self, owner: str) -> None:
        self.owner = owner
        self._rights: dict[Region, int] = {}
        # The region looked up last, and the rights to it: accesses often repeat it.
        self._last: Region | None = None
        self._last_rights = 0
        # Sorted by address, so that an address is found by bisection.
        self._bases: list[int] = []
        self._regions: list[Region] = []

    def map(self, region: Region, rights: int) -> None:
        """Map a region with `READ`, `WRITE` or both; if it is mapped, replace its rights."""
        self._last = None
        if region not in self._rights:
            at = bisect_right(self._bases, region.base)
            self._bases.insert(at, region.base)
            self._regions.insert(at, region)
        self._rights[region] = rights

    def unmap(self, region: Region) -> None:
        """Unmap a region."""
        self._last = None
        del self._rights[region]
        at = bisect_right(self._bases, region.base) - 1
        del self._regions[at], self._bases[at]

    def access(self, region: Region, right: int) -> bytearray:
        """Return the region's bytes.

        Raises `AccessFault` where the domain lacks the right to them.
        """
        if region is not self._last:
            self._last = region
            self._last_rights = self._rights.get(region, 0)
        if self._last_rights & right != right:
            raise self._fault(region.base, right)
        return region.bytes

    def load(self, address: int, size: int) -> bytes:
        """Return a copy of `size` bytes at `address`.

        Raises `AccessFault` unless all can be read.
        """
        region, offset = self._find(address, size, READ)
        return bytes(region.bytes[offset : offset + size])

    def store(self, address: int, data: bytes) -> None:
        """Write `data` at `address`.

        Raises `AccessFault`, and writes nothing, unless all can be written.
        """
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


def copy_private(descriptor: ProcedureDescriptor, packed: bytes | bytearray) -> bytes:
    """Make copy E: return what is on the server's stack then, the private arguments of `packed`.

    Each lies where it does in `packed`.
    """
    stack = bytearray(len(packed))
    for at, size in descriptor.private_spans(packed, 0):
        stack[at : at + size] = packed[at : at + size]
    return bytes(stack)


def beside(descriptor: ProcedureDescriptor, packed: bytes | bytearray, stack: bytes) -> bytes:
    """Return packed arguments as the server's stub finds them: the private ones from its stack.

    Where copy E was not made, and the stack is empty, those are garbage.
    """
    found = bytearray(packed)
    stack = stack or POISONED * len(found)
    for at, size in descriptor.private_spans(packed, 0):
        found[at : at + size] = stack[at : at + size]
    return bytes(found)
