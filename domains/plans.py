"""Copy plans: how a procedure's arguments and results are packed, checked and copied, worked out once per procedure."""

import struct
import typing
from collections.abc import Sequence
from dataclasses import dataclass

from lrpc.domains.codecs import (
    LENGTH_SIZE,
    REFERENCE_SIZE,
    Check,
    Codec,
    FixedBytes,
    Reference,
    length_prefix,
    read_length,
    room,
)
from lrpc.kernel.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class ValuePlan:
    """One parameter or result."""

    name: str
    codec: Codec
    immutable: bool = False
    check: Check | None = None
    by_reference: bool = False  # then `codec` is the referent's

    @property
    def private(self) -> bool:
        """Return whether the server relies on it not changing, so that its stub copies it off the A-stack."""
        return self.immutable or self.check is not None

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the fields: a compiled frozen class cannot be filled in later."""
        return ValuePlan, (self.name, self.codec, self.immutable, self.check, self.by_reference)


class CopyPlan:
    """Arguments or results of a procedure: the values in order, and the quick way where all have a fixed size."""

    def __init__(self, procedure: str, values: Sequence[ValuePlan]) -> None:
        self.procedure = procedure
        self.values = tuple(values)
        self.count = len(self.values)
        self.size = sum(room(value.codec) for value in self.values)  # bytes on an A-stack
        self.largest = sum(value.codec.size for value in self.values)  # bytes, at most, out of band or not
        formats = [value.codec.format for value in self.values]
        fixed = [one for one in formats if one is not None]
        self.packer = struct.Struct("<" + "".join(fixed)) if len(fixed) == len(formats) else None
        self._checks = tuple(value.codec.check for value in self.values)
        self._kinds = tuple(getattr(value.codec, "kind", bytes) for value in self.values)
        self._sized = [(n, one.codec.size) for n, one in enumerate(self.values) if isinstance(one.codec, FixedBytes)]
        self.references = [n for n, one in enumerate(self.values) if one.by_reference]
        self._server_checks = [(n, one.check) for n, one in enumerate(self.values) if one.check is not None]
        self.plain = not self.references and not self._server_checks  # values are passed as they are

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as what the plan is made from: a compiled `struct` format cannot be pickled."""
        return CopyPlan, (self.procedure, self.values)

    def referents(self, values: Sequence[object]) -> list[object]:
        """Return the values that the caller gave, with what references refer to in their place."""
        found = list(values)
        for number in self.references:
            if number < len(found):
                reference = found[number]
                if not isinstance(reference, Reference):
                    name = self.values[number].name
                    raise ArgumentError(f"{self.procedure}: {name}: takes a Reference, not {type(reference).__name__}")
                found[number] = reference.value
        return found

    def delivered(self, values: Sequence[object]) -> list[object]:
        """Return values as the server procedure gets them: checked, and by references of its own."""
        for number, check in self._server_checks:
            if not check.holds(values[number]):
                name = self.values[number].name
                raise ArgumentError(f"{self.procedure}: {name}: {values[number]!r}: must be {check.text}")
        found = list(values)
        for number in self.references:
            found[number] = Reference(found[number])
        return found

    def pack(self, values: Sequence[object]) -> bytes:
        """Return the values packed one behind the other; `ArgumentError` names the first that is wrong."""
        if not self.count and not values:
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
        return b"".join(_pack(one.codec, value) for one, value in zip(self.values, values, strict=True))

    def packed_size(self, values: Sequence[object]) -> int:
        """Return how many bytes these values take when packed."""
        return self.size if self.packer is not None else len(self._pack_each(values))

    def private_count(self, *, everything: bool) -> int:
        """Return how many values the server stub copies to its E-stack, all where `everything` goes there.

        Of those by reference that are not copied it makes a reference there, which counts as a value as well.
        """
        return sum(everything or value.private or value.by_reference for value in self.values)

    def private_bytes(self, buffer: bytes | bytearray, at: int, *, everything: bool) -> int:
        """Return how many bytes those take, lengths included, of the values that lie in `buffer` from `at` on."""
        total = 0
        for value in self.values:
            size = value.codec.size
            if value.codec.format is None:
                if at + LENGTH_SIZE > len(buffer):
                    break
                size = min(size, LENGTH_SIZE + read_length(buffer, at))
            if everything or value.private:
                total += size
            elif value.by_reference:
                total += REFERENCE_SIZE
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
            codec = value.codec
            size = codec.size
            if codec.format is None:
                size = read_length(buffer, at)
                at += LENGTH_SIZE
                if size > codec.size - LENGTH_SIZE:
                    raise ArgumentError(f"{self.procedure}: {value.name}: a length of {size} bytes")
            if at + size > len(buffer):
                raise ArgumentError(f"{self.procedure}: {value.name}: the values end early")
            try:
                values.append(codec.decode(bytes(buffer[at : at + size])))
            except ArgumentError as error:
                raise ArgumentError(f"{self.procedure}: {value.name}: {error}") from None
            at += size
        return tuple(values)


def _pack(codec: Codec, value: object) -> bytes:
    data = codec.encode(value)
    return data if codec.format is not None else length_prefix(len(data)) + data
