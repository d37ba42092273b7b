"""What stubs add to a call of another machine, by the types of the values that they marshal.

Firefly RPC's stubs marshal words by value, arrays of fixed and of variable length, and texts, each
at a rate of its own. A word, and a text, costs on either side: the caller puts it into the packet,
the server takes it out again. An array is copied once, by the caller; the server uses it where the
packet has it.
"""

from collections.abc import Sequence
from struct import Struct
from typing import Final

from lrpc.kernel.descriptors import ARRAY, OPEN_ARRAY, WORDS, ValueShape
from lrpc.kernel.simulated.costs import (
    MARSHAL_ARRAY,
    MARSHAL_ARRAY_BYTE,
    MARSHAL_NIL,
    MARSHAL_OPEN_ARRAY,
    MARSHAL_OPEN_ARRAY_BYTE,
    MARSHAL_TEXT,
    MARSHAL_TEXT_BYTE,
    MARSHAL_WORD,
)
from lrpc.kernel.simulated.processor import Processor

_LENGTH: Final = Struct("<I")  # stands before a value of variable size


class MarshaledValues:
    """What some values are to a stub: words, arrays and texts, and their bytes."""

    __slots__ = ("array_bytes", "arrays", "nils", "open_array_bytes", "open_arrays", "text_bytes", "texts", "words")

    def __init__(self, shapes: Sequence[ValueShape], packed: bytes) -> None:
        self.words = 0
        self.arrays = self.array_bytes = 0
        self.open_arrays = self.open_array_bytes = 0
        self.nils = self.texts = self.text_bytes = 0
        at = 0
        for kind, size in shapes:
            if kind == WORDS:
                self.words += -(-size // 4)
            elif kind == ARRAY:
                self.arrays += 1
                self.array_bytes += size
            else:
                if at + _LENGTH.size > len(packed):
                    break  # malformed: who unpacks it says so
                size = min(int(_LENGTH.unpack_from(packed, at)[0]), len(packed) - at - _LENGTH.size)
                at += _LENGTH.size
                if kind == OPEN_ARRAY:
                    self.open_arrays += 1
                    self.open_array_bytes += size
                elif size:
                    self.texts += 1
                    self.text_bytes += size
                else:
                    self.nils += 1
            at += size


def marshal(processor: Processor, shapes: Sequence[ValueShape], packed: bytes, *, caller: bool) -> int:
    """Spend what a stub adds for packed values of these shapes; return that in ns.

    The `caller` packs arguments and unpacks results, the server the other way round.
    """
    if not shapes or not processor.charges.marshals:
        return 0
    began = processor.clock
    found = MarshaledValues(shapes, packed)
    if found.words:
        processor.spend_copy(MARSHAL_WORD, MARSHAL_WORD, found.words, 0)
    if caller and found.arrays:
        processor.spend_copy(MARSHAL_ARRAY, MARSHAL_ARRAY_BYTE, found.arrays, found.array_bytes)
    if caller and found.open_arrays:
        size = found.open_array_bytes
        processor.spend_copy(MARSHAL_OPEN_ARRAY, MARSHAL_OPEN_ARRAY_BYTE, found.open_arrays, size)
    if found.texts:
        processor.spend_copy(MARSHAL_TEXT, MARSHAL_TEXT_BYTE, found.texts, found.text_bytes)
    if found.nils:
        processor.spend_copy(MARSHAL_NIL, MARSHAL_NIL, found.nils, 0)
    return processor.clock - began
