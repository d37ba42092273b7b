"""Peers that keep no rule: they write anything anywhere in the memory that they share."""

import contextlib
import ctypes
import mmap
import os
import platform
import random
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

from lrpc.kernel.host import messages, native, segments
from lrpc.kernel.host.bindings import ServerBinding
from tests.support.host import Shop

SIGNATURES = [one.signature for one in Shop.procedures]
FUTEX = {"x86_64": 202}.get(platform.machine(), 98)  # the number of the system call
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
        """Do one wrong thing to the segment, or at the door."""
        mutate(self.memory, self.segment, len(self.astacks), self._say, chance)

    def _say(self, chance: random.Random) -> None:
        attach, detach = b'{"attach": 0, "size": 4096}', b'{"detach": 0, "turn": 1}'
        self.door.send(chance.choice([b"b", b"", b"{", attach, detach, chance.randbytes(20)]))

    def close(self) -> None:
        """Let go of everything."""
        self.native.end()
        self.memory.close()
        os.close(self.segment)
        self.door.close()


def mutate(
    memory: mmap.mmap, segment: int, astacks: int, say: Callable[[random.Random], None], chance: random.Random
) -> None:
    """Do one wrong thing to a segment, or say something wrong."""
    at = chance.randrange(astacks) * segments.CONTROL_BYTES
    what = chance.randrange(9)
    if what < 3:  # a plausible word: a phase, and a number near the right one
        number = (struct.unpack_from("<I", memory, at)[0] >> 8) + chance.randrange(-1, 3)
        _write(memory, at, number << 8 | chance.randrange(128))
    elif what < 5:
        value = chance.choice([0, 1, 2, 7, 2**31, 2**32 - 1, chance.getrandbits(32)])
        _write(memory, at + 4 * chance.randrange(32), value)
    elif what < 6:
        at = chance.randrange(len(memory))
        memory[at : at + 8] = chance.randbytes(min(8, len(memory) - at))
    elif what < 7:
        with contextlib.suppress(OSError):
            say(chance)
    elif what < 8:  # whoever sleeps on this word sleeps on another one
        requeue(memory, at, chance.randrange(len(memory) // 4) * 4, chance.randrange(2))
    else:
        os.posix_fadvise(segment, 0, 0, 0)
        punch(segment, chance.randrange(len(memory) // 4096) * 4096, 4096)


def _write(memory: mmap.mmap, at: int, value: int) -> None:
    struct.pack_into("<I", memory, at, value & 0xFFFF_FFFF)


def requeue(memory: mmap.mmap, at: int, to: int, woken: int = 0) -> None:
    """Move all that sleep on one word of a segment to another, and wake some."""
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    ctypes.CDLL(None).syscall(
        FUTEX, ctypes.c_void_p(start + at), 3, woken, ctypes.c_void_p(1000), ctypes.c_void_p(start + to), 0
    )


def spoil(binding: ServerBinding, chance: random.Random) -> None:
    """Be a server that keeps no rule, until its client has gone."""
    segment = os.dup(binding.segment)
    with mmap.mmap(segment, binding.layout.size) as memory, socket.socket(fileno=os.dup(binding.door.fileno())) as door:
        door.setblocking(False)

        def say(chance: random.Random) -> None:
            turn = chance.randrange(1, 4)
            answers: list[object] = [{"attached": True, "turn": turn}, {"refused": 7, "turn": turn}]
            answers += [{"early": [0, 1, ""]}, {"early": [[]]}, {"attached": False, "turn": turn}, {"turn": None}, []]
            if chance.random() < 0.3:
                door.send(chance.choice([b"", b"{", b"b", chance.randbytes(20)]))
            else:
                messages.send(door, chance.choice(answers))  # type: ignore[arg-type]  # a list is one of the wrongs

        pause, pace = threading.Event(), chance.choice([0.0005, 0.005, 0.05])
        while not binding.native.ended:
            for _ in range(chance.randrange(4)):
                mutate(memory, segment, len(binding.layout.astacks), say, chance)
            pause.wait(chance.random() * pace)  # in between calls come through
    os.close(segment)


def punch(fd: int, offset: int, size: int) -> None:
    """Punch a hole in a memory file: its pages read as zero."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_long, ctypes.c_long]
    libc.fallocate(fd, HOLE, offset, size)
