"""Copy E of Table III: the server's stub copies its private arguments to the server's stack.

Private are those that a client must not change during the call, or that the server's language finds
nowhere else. The procedure gets them from the stack. Where the copy was not made, it gets garbage.
"""

from typing import Final

from lrpc.kernel.descriptors import ProcedureDescriptor
from lrpc.kernel.simulated.memory import POISON

POISONED: Final = bytes([POISON])  # a byte of what was not copied


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
