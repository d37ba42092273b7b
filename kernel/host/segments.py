"""Segments: the memory that two processes share, and how A-stacks lie in it.

A segment is an anonymous file of memory (memfd), sealed against shrinking, growing and further
seals. Without the first, a peer could cut it off under our feet (SIGBUS); without the last, it
could forbid our writing. Memory is set aside when a segment is made, so that its lack shows then.
"""

import errno
import fcntl
import mmap
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from lrpc.kernel.descriptors import ProcedureDescriptor
from lrpc.kernel.errors import BindingRefused

CONTROL_BYTES: Final = 128  # of one A-stack: transfer.h, Control
_LINE: Final = 64  # A-stacks begin on cache lines
_NO_EXEC: Final = 0x8  # MFD_NOEXEC_SEAL, since Linux 6.3
_SEAL_EXEC: Final = 0x20  # which that sets
_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW
MOST_SEGMENT: Final = 1 << 28
_MOST_ASTACKS: Final = 1 << 16  # of one binding


_COPIES: Final = 8  # of a large value that one call makes on its way, or fewer
_MOST_KEPT: Final = 31 << 20  # glibc keeps no larger blocks
_kept = 0  # bytes, for which that was asked already


def keep_pages(size: int) -> None:
    """Let the allocator keep the pages of as large values as will be copied from now on.

    glibc gives free pages back to Linux, down to twice the largest block that was freed so far. A
    call with values of 1 MiB copies them several times, and would take 1,250 pages anew at each,
    which is most of its time. A block that is allocated, never touched and freed tells glibc of
    larger values to come; others do not mind.
    """
    global _kept
    wanted = min(size * _COPIES, _MOST_KEPT)
    if wanted > _kept:
        _kept = wanted
        bytearray(wanted)


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the A-stacks of a binding lie in its segment.

    Procedures whose A-stacks have the same size share them: they form one group.
    """

    size: int  # of the segment, in bytes
    astacks: list[tuple[int, int, int]]  # (offset, bytes, group) of each
    groups: list[int]  # the group of each procedure

    def as_fields(self) -> dict[str, object]:
        """Return the layout as a message carries it: of each group offset, bytes and number."""
        found = []
        for group in range(max(self.groups, default=-1) + 1):
            own = [one for one in self.astacks if one[2] == group]
            found.append([own[0][0], own[0][1], len(own)])
        return {"size": self.size, "astacks": found, "groups": self.groups}


def read_layout(size: int, astacks: list[object], groups: list[object], procedures: int) -> Layout:
    """Return the layout that a server tells of. Raises `BindingRefused` where it is none."""
    found: list[tuple[int, int, int]] = []
    for group, one in enumerate(astacks):
        if type(one) is not list or len(one) != 3 or not all(type(n) is int and 0 <= n <= MOST_SEGMENT for n in one):
            raise BindingRefused("a layout that is none")
        offset, room, count = one
        if len(found) + count > _MOST_ASTACKS or offset + room * count > size:
            raise BindingRefused("a layout that is larger than its segment")
        found += [(offset + room * n, room, group) for n in range(count)]
    numbers = [one for one in groups if type(one) is int and 0 <= one < len(astacks)]
    if (
        len(numbers) != len(groups)
        or len(groups) != procedures
        or any(one[2] == 0 for one in astacks if type(one) is list)
    ):
        raise BindingRefused("a layout for another interface")
    return Layout(size, found, numbers)


def lay_out(descriptors: Sequence[ProcedureDescriptor]) -> Layout:
    """Return the layout for an interface's procedures.

    Arguments are copied off the A-stack before its procedure runs, so results may overlay them.
    """
    sizes = [_up(max(one.argument_size, one.result_size, 1), _LINE) for one in descriptors]
    numbers = {size: group for group, size in enumerate(dict.fromkeys(sizes))}
    most = dict.fromkeys(numbers, 0)
    for size, one in zip(sizes, descriptors, strict=True):
        most[size] = max(most[size], one.simultaneous)
    if sum(most.values()) > _MOST_ASTACKS:
        raise BindingRefused(
            f"{sum(most.values()):,} A-stacks in a binding; at most {_MOST_ASTACKS:,}: lower simultaneous="
        )
    at = _up(CONTROL_BYTES * sum(most.values()), mmap.PAGESIZE)
    astacks = []
    for size, count in most.items():
        for _ in range(count):
            astacks.append((at, size, numbers[size]))
            at += size
    return Layout(_up(max(at, 1), mmap.PAGESIZE), astacks, [numbers[size] for size in sizes])


def make(size: int) -> int:
    """Return the descriptor of a new segment, with all its memory and its seals.

    Raises `BindingRefused` where the system has no memory or no descriptor left for it.
    """
    flags = os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING
    try:
        try:
            fd = os.memfd_create("lrpc", flags | _NO_EXEC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            fd = os.memfd_create("lrpc", flags)  # an older Linux
        try:
            os.posix_fallocate(fd, 0, size)
            fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
        except OSError:
            os.close(fd)
            raise
    except OSError as error:
        raise BindingRefused(f"a segment of {size:,} bytes cannot be made: {error.strerror}") from None
    return fd


def check(fd: int, size: int) -> None:
    """Raise `BindingRefused` where a peer's segment is not one as `make` makes it."""
    try:
        seals = fcntl.fcntl(fd, fcntl.F_GET_SEALS)
    except OSError:
        raise BindingRefused("the peer's segment is not memory that can be sealed") from None
    found = os.fstat(fd)
    if seals & ~_SEAL_EXEC != _SEALS:
        raise BindingRefused(f"the peer's segment has other seals ({seals:#x})")
    # A file system of huge pages can be sealed too.
    if found.st_blocks * 512 < size:  # touching it would take our memory
        raise BindingRefused(f"the peer's segment of {size:,} bytes has no memory set aside")
    if found.st_size != size or os.fstatvfs(fd).f_bsize != mmap.PAGESIZE or not 0 < size <= MOST_SEGMENT:
        raise BindingRefused(f"the peer's segment has {found.st_size:,} bytes in place of {size:,}")


def region_size(need: int) -> int:
    """Return the size of the out-of-band segment for values of `need` bytes, and some more.

    Values that grow little by little find room for a while: it is one of eight sizes between two
    powers of two.
    """
    return _up(need, max(mmap.PAGESIZE, 1 << max(0, (need - 1).bit_length() - 3)))


def _up(number: int, to: int) -> int:
    return -(-number // to) * to
