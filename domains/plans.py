"""Copy plans: how a procedure's arguments and results are packed, checked and copied, worked out once per procedure."""

import struct
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from lrpc.domains.wires import LENGTH_SIZE, FixedBytes, Wire, length_prefix, read_length
from lrpc.kernel.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class Value:
    """One parameter or result."""

    name: str
    wire: Wire
    immutable: bool = False


class ValueList:
    """Arguments or results of a procedure: the values in order, and the quick way where all have a fixed size."""

    def __init__(self, procedure: str, values: Sequence[Value]) -> None:
        self.procedure = procedure
        self.values = tuple(values)
        self.count = len(self.values)
        self.size = sum(value.wire.size for value in self.values)  # bytes, at most
        formats = [value.wire.format for value in self.values]
        fixed = [one for one in formats if one is not None]
        self.packer = struct.Struct("<" + "".join(fixed)) if len(fixed) == len(formats) else None
        self._checks = tuple(value.wire.check for value in self.values)
        self._kinds = tuple(getattr(value.wire, "kind", bytes) for value in self.values)
        self._sized = [(n, one.wire.size) for n, one in enumerate(self.values) if isinstance(one.wire, FixedBytes)]
        immutable = [value for value in self.values if value.immutable]
        self.immutable_count = len(immutable)

    def pack(self, values: Sequence[object]) -> bytes:
        """Return the values packed one behind the other; `ArgumentError` names the first that is wrong."""
        if not values and not self.count:
            return b""
        if self.packer is not None and tuple(map(type, values)) == self._kinds and self._sizes_fit(values):
            try:
                return self.packer.pack(*values)
            except (struct.error, OverflowError):
                pass  # the checks below name the value that does not fit
        return self._pack_each(values)

    def _sizes_fit(self, values: Sequence[object]) -> bool:
        return not self._sized or all(len(typing.cast(bytes, values[n])) == size for n, size in self._sized)

    def _pack_each(self, values: Sequence[object]) -> bytes:
        if len(values) != self.count:
            raise ArgumentError(f"{self.procedure}: takes {self.count} values, not {len(values)}")
        for number, check in enumerate(self._checks):
            problem = check(values[number])
            if problem is not None:
                raise ArgumentError(f"{self.procedure}: {self.values[number].name}: {problem}")
        return b"".join(_pack(one.wire, value) for one, value in zip(self.values, values, strict=True))

    def packed_size(self, values: Sequence[object]) -> int:
        """Return how many bytes these values take when packed."""
        return self.size if self.packer is not None else len(self._pack_each(values))

    def immutable_bytes(self, buffer: bytearray, at: int) -> int:
        """Return how many bytes the immutable values take that lie in `buffer` from `at` on, lengths included."""
        total = 0
        for value in self.values:
            size = value.wire.size
            if value.wire.format is None:
                if at + LENGTH_SIZE > len(buffer):
                    break
                size = min(size, LENGTH_SIZE + read_length(buffer, at))
            total += size if value.immutable else 0
            at += size
        return total

    def unpack(self, buffer: bytes | bytearray, at: int) -> tuple[object, ...]:
        """Return the values that lie in `buffer` from `at` on, as copies.

        `ArgumentError` where they are malformed: who wrote them need not have used `pack`.
        """
        if not self.count:
            return ()
        try:
            if self.packer is not None:
                return self.packer.unpack_from(buffer, at)
            return self._unpack_each(buffer, at)
        except struct.error:
            raise ArgumentError(f"{self.procedure}: the values end early") from None

    def _unpack_each(self, buffer: bytes | bytearray, at: int) -> tuple[object, ...]:
        values: list[object] = []
        for value in self.values:
            wire = value.wire
            size = wire.size
            if wire.format is None:
                size = read_length(buffer, at)
                at += LENGTH_SIZE
                if size > wire.size - LENGTH_SIZE:
                    raise ArgumentError(f"{self.procedure}: {value.name}: a length of {size} bytes")
            if at + size > len(buffer):
                raise ArgumentError(f"{self.procedure}: {value.name}: the values end early")
            try:
                values.append(wire.decode(bytes(buffer[at : at + size])))
            except ArgumentError as error:
                raise ArgumentError(f"{self.procedure}: {value.name}: {error}") from None
            at += size
        return tuple(values)


def _pack(wire: Wire, value: object) -> bytes:
    data = wire.encode(value)
    return data if wire.format is not None else length_prefix(len(data)) + data
