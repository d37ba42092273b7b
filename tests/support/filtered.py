"""A process without some system calls, as under a profile of a container's.

Run Python code there by `python -m tests.support.filtered ERRNO NAME,NAME… CODE`. The exit code is
`CANNOT` where Linux lets this process set no filter.
"""

import ctypes
import platform
import struct
import sys
from typing import Final

CANNOT: Final = 77
# By the machine that `platform` names: numbers of system calls.
NUMBERS: Final = {
    "x86_64": {"futex_waitv": 449, "memfd_create": 319, "pidfd_open": 434, "sched_setaffinity": 203},
    "aarch64": {"futex_waitv": 449, "memfd_create": 279, "pidfd_open": 434, "sched_setaffinity": 122},
}
_ALLOW: Final = 0x7FFF_0000
_ERROR: Final = 0x0005_0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def forbid(names: list[str], error: int) -> bool:
    """Have system calls fail with an error in this process, and in what it starts."""
    known = NUMBERS.get(platform.machine())
    if known is None:
        return False
    steps = [(0x20, 0, 0, 0)]  # load the number of the call
    for place, name in enumerate(names):
        steps.append((0x15, len(names) - place, 0, known[name]))  # equal: to the end
    steps += [(0x06, 0, 0, _ALLOW), (0x06, 0, 0, _ERROR | error)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in steps))
    given = _Program(len(steps), ctypes.addressof(program))
    libc = ctypes.CDLL(None, use_errno=True)
    return not libc.prctl(38, 1, 0, 0, 0) and not libc.prctl(22, 2, ctypes.byref(given), 0, 0)


if __name__ == "__main__":
    if not forbid(sys.argv[2].split(","), int(sys.argv[1])):
        sys.exit(CANNOT)
    exec(sys.argv[3])
