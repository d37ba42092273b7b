"""Peers that keep no rule: they write anything anywhere in the memory that they share."""

import contextlib
import mmap
import os
import random
import socket
import struct
from pathlib import Path

from lrpc.kernel.host import messages, native, segments
from tests.support.host import Shop

SIGNATURES = [one.signature for one in Shop.procedures]
HOLE = 0x02 | 0x01  # FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE


class RawClient:
    """A client that holds its segment in its hands."""

    def __init__(self, folder: Path) -> None:
        self.door = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.door.settimeout(10)
        self.door.connect(str(folder / "shop"))
        hello = {"lrpc": 1, "want": "binding", "interface": "Shop", "signatures": SIGNATURES}
        messages.send(self.door, hello)
        message = messages.receive(self.door)
        assert message is not None
        bound = message.get("bound", dict)
        self.size: int = bound["size"]
        layout = segments.read_layout(self.size, bound["astacks"], bound["groups"], len(SIGNATURES))
        self.astacks, self.groups = layout.astacks, layout.groups
        self.segment = os.dup(message.descriptors[0])
        message.close()
        self.memory = mmap.mmap(self.segment, self.size)
        self.native = native.Binding(self.segment, self.size, self.astacks, self.door.fileno(), -1, -1, 1, False)

    def control(self, index: int) -> tuple[int, ...]:
        """Return the words of an A-stack's control block."""
        return struct.unpack_from("<32I", self.memory, index * segments.CONTROL_BYTES)

    def write(self, index: int, number: int, value: int) -> None:
        """Write one word of an A-stack's control block."""
        struct.pack_into("<I", self.memory, index * segments.CONTROL_BYTES + 4 * number, value & 0xFFFF_FFFF)

    def mutate(self, chance: random.Random) -> None:
        """Do one wrong thing to the segment."""
        index = chance.randrange(len(self.astacks))
        what = chance.randrange(8)
        if what < 3:  # a plausible word: a phase, and a number near the right one
            number = (self.control(index)[0] >> 8) + chance.randrange(-1, 3)
            self.write(index, 0, number << 8 | chance.randrange(128))
        elif what < 5:
            self.write(
                index, chance.randrange(32), chance.choice([0, 1, 2, 7, 2**31, 2**32 - 1, chance.getrandbits(32)])
            )
        elif what < 6:
            at = chance.randrange(self.size)
            self.memory[at : at + 8] = chance.randbytes(min(8, self.size - at))
        elif what < 7:
            with contextlib.suppress(OSError):
                attach, detach = b'{"attach": 0, "size": 4096}', b'{"detach": 0, "turn": 1}'
                self.door.send(chance.choice([b"b", b"", b"{", attach, detach, chance.randbytes(20)]))
        else:
            os.posix_fadvise(self.segment, 0, 0, 0)
            punch(self.segment, chance.randrange(self.size // 4096) * 4096, 4096)

    def close(self) -> None:
        """Let go of everything."""
        self.native.end()
        self.memory.close()
        os.close(self.segment)
        self.door.close()


def punch(fd: int, offset: int, size: int) -> None:
    """Punch a hole in a memory file: its pages read as zero."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    libc.fallocate(fd, HOLE, offset, size)
