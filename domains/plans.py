"""Copy plans: how the arguments or results of a procedure are packed, checked and copied.

A plan is worked out once for each procedure. Where all values have a fixed size, one precompiled
`struct` packs them all; where texts or bytes of variable size stand between them, one packs each
run up to such a value, with its length. The checks of single values run only where that fails, to
name the value that is wrong. That keeps the usual call fast without losing the error message. A
plan also says what a
server stub must copy off the A-stack: most arguments can stay there and be read in place, which is
what LRPC saves over messages (Table III of the paper).
"""

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
    InPlace,
    Mutable,
    Place,
    Reference,
    Referent,
    Scalar,
    UpTo,
    length_prefix,
    read_length,
    room,
)
from lrpc.kernel.descriptors import ARRAY, OPEN_ARRAY, TEXT, WORDS, ValueShape
from lrpc.kernel.errors import ArgumentError


@dataclass(frozen=True, slots=True)
class ValuePlan:
    """One parameter or result: its name, its codec, and how the server stub treats it."""

    name: str
    codec: Codec
    immutable: bool = False
    check: Check | None = None
    by_reference: bool = False  # `codec` is then the referent's
    mutable: bool = False  # the procedure reads it where it lies

    @property
    def private(self) -> bool:
        """Return whether the server stub must copy the value off the A-stack before it is used.

        The server relies on its value, which the client could otherwise change during the call.
        """
        return self.immutable or self.check is not None

    @property
    def shape(self) -> ValueShape:
        """Return what a stub marshals for another machine: words, an array or a text.

        A codec of one's own is an array, and so is a protobuf message.
        """
        codec = self.codec
        if isinstance(codec, Scalar):
            return WORDS, codec.size
        if codec.format is not None:
            return ARRAY, codec.size
        return (TEXT if getattr(codec, "kind", bytes) is str else OPEN_ARRAY), 0

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as the fields: a compiled frozen class cannot be filled in later."""
        return ValuePlan, (self.name, self.codec, self.immutable, self.check, self.by_reference, self.mutable)


class FixedRun:
    """Values of fixed size that follow each other, and the value of variable size behind them."""

    def __init__(self, values: Sequence[ValuePlan], first: int, last: int) -> None:
        self.first = first
        self.last = last  # the value of variable size; beyond the values, if there is none
        self.codec = values[last].codec if last < len(values) else None
        formats = [value.codec.format or "" for value in values[first:last]]
        self.packer = struct.Struct("<" + "".join(formats) + ("" if self.codec is None else "I"))
        self.bytes = self.packer.size
        self.most = 0 if self.codec is None else self.codec.size - LENGTH_SIZE
        self.raw = type(self.codec) is UpTo and self.codec.kind is bytes  # its bytes are the value


def runs_of(values: Sequence[ValuePlan]) -> list[FixedRun]:
    """Return the values of a plan as runs."""
    varying = [number for number, value in enumerate(values) if value.codec.format is None]
    first = [0, *(number + 1 for number in varying)]
    return [FixedRun(values, *ends) for ends in zip(first, [*varying, len(values)], strict=True)]


class CopyPlan:
    """The arguments, or the results, of one procedure, in order."""

    def __init__(self, procedure: str, values: Sequence[ValuePlan]) -> None:
        self.procedure = procedure
        self.values = tuple(values)
        self.count = len(self.values)
        self.size = sum(room(value.codec) for value in self.values)  # bytes reserved on an A-stack
        self.largest = sum(value.codec.size for value in self.values)  # bytes when packed, at most
        self._runs = runs_of(self.values)
        # Packs all values at once where each has a fixed size, None otherwise.
        self.packer = self._runs[0].packer if self._runs[0].codec is None else None
        self._packs_runs = all(one.codec.format is not None or type(one.codec) is UpTo for one in self.values)
        self._checks = tuple(value.codec.check for value in self.values)
        self._kinds = tuple(getattr(value.codec, "kind", bytes) for value in self.values)
        self._sized = [(n, one.codec.size) for n, one in enumerate(self.values) if isinstance(one.codec, FixedBytes)]
        self.references = [n for n, one in enumerate(self.values) if one.by_reference]
        self._boxed = [n for n, one in enumerate(self.values) if one.by_reference or one.mutable]
        self._server_checks = [(n, one.check) for n, one in enumerate(self.values) if one.check is not None]
        self.shapes = tuple(value.shape for value in self.values)  # for stubs of other machines
        # Callers and the server's procedure have values as they are packed.
        self.bare = not self._boxed
        self.plain = self.bare and not self._server_checks
        # A server that does not copy everything reads some where they lie.
        self.in_place = any(not self.values[n].private for n in self._boxed)

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle as what the plan is made from: a compiled `struct` format cannot be pickled."""
        return CopyPlan, (self.procedure, self.values)

    def referents(self, values: tuple[object, ...]) -> tuple[object, ...]:
        """Return the values that a caller gave, each `Reference` or `Mutable` replaced by its own.

        Raises `ArgumentError` where a value that should be a `Reference` or a `Mutable` is none.
        """
        found = list(values)
        for number in self._boxed:
            if number < len(found):
                value, box = self.values[number], found[number]
                if (value.by_reference and isinstance(box, Reference)) or (value.mutable and isinstance(box, Mutable)):
                    found[number] = box.value
                else:
                    takes = "Reference" if value.by_reference else "Mutable"
                    raise ArgumentError(f"{self.procedure}: {value.name}: takes a {takes}, not {type(box).__name__}")
        return tuple(found)

    def delivered(self, values: Sequence[object]) -> list[object]:
        """Return unpacked values as the server's procedure gets them: checked, and in references.

        Raises `ArgumentError` for a value that its `Check` rejects. References are new ones, of the
        server's own.
        """
        for number, check in self._server_checks:
            if not check.holds(values[number]):
                name = self.values[number].name
                raise ArgumentError(f"{self.procedure}: {name}: {values[number]!r}: must be {check.text}")
        found = list(values)
        for number in self._boxed:
            found[number] = Reference(found[number]) if self.values[number].by_reference else Mutable(found[number])
        return found

    def places(self, buffer: bytes | bytearray, at: int) -> dict[int, Place[object]]:
        """Return where values lie that the server's procedure reads in place, by number.

        They lie packed in `buffer` from `at` on. Raises `ArgumentError` as `unpack` does.
        """
        found: dict[int, Place[object]] = {}
        for number, value in enumerate(self.values):
            start, size = self._extent(value, buffer, at)
            if (value.by_reference or value.mutable) and not value.private:
                found[number] = self._place(value, buffer, at)
            at = start + size
        return found

    def pack(self, values: tuple[object, ...]) -> bytes:
        """Return the values packed one behind the other.

        Raises `ArgumentError` that names the first value of a wrong type, size or range, or their
        number where that is wrong.
        """
        if not self.count and not values:
            return b""
        if self._packs_runs and self._fits(values):
            try:
                return self._pack_runs(values) if self.packer is None else self.packer.pack(*values)
            except (struct.error, OverflowError, UnicodeEncodeError):
                pass  # `_pack_each` names the value that does not fit
        return self._pack_each(values)

    def _fits(self, values: tuple[object, ...]) -> bool:
        """Return whether values are as many as there should be, of their types and fixed sizes."""
        if len(values) != self.count:
            return False
        for number, kind in enumerate(self._kinds):
            if type(values[number]) is not kind:
                return False
        return not self._sized or all(len(typing.cast(bytes, values[n])) == size for n, size in self._sized)

    def _pack_runs(self, values: tuple[object, ...]) -> bytes:
        parts: list[bytes] = []
        for run in self._runs:
            if run.codec is None:
                if run.bytes:
                    parts.append(run.packer.pack(*values[run.first :]))
                break
            value = values[run.last]
            data = value.encode() if isinstance(value, str) else typing.cast(bytes, value)
            if len(data) > run.most:
                raise OverflowError
            if run.first == run.last:
                parts.append(run.packer.pack(len(data)))
            else:
                parts.append(run.packer.pack(*values[run.first : run.last], len(data)))
            parts.append(data)
        return b"".join(parts)

    def _pack_each(self, values: tuple[object, ...]) -> bytes:
        if len(values) != self.count:
            raise ArgumentError(f"{self.procedure}: takes {self.count} values, not {len(values)}")
        for number, check in enumerate(self._checks):
            problem = check(values[number])
            if problem is not None:
                raise ArgumentError(f"{self.procedure}: {self.values[number].name}: {problem}")
        return b"".join(_pack(one.codec, value) for one, value in zip(self.values, values, strict=True))

    def unpack(self, buffer: bytes | bytearray, at: int) -> tuple[object, ...]:
        """Return copies of the values that lie packed in `buffer` from `at` on.

        Raises `ArgumentError` where they are malformed: the client that wrote them need not have
        used `pack`.
        """
        if not self.count:
            return ()
        try:
            if self.packer is not None:
                return self.packer.unpack_from(buffer, at)
            return self._unpack_runs(buffer, at)
        except struct.error:
            raise ArgumentError(f"{self.procedure}: the values end early") from None

    def _unpack_runs(self, buffer: bytes | bytearray, at: int) -> tuple[object, ...]:
        values: list[object] = []
        for run in self._runs:
            head = run.packer.unpack_from(buffer, at)
            values.extend(head)
            at += run.bytes
            if run.codec is not None:
                size = typing.cast(int, head[-1])
                if size > run.most or at + size > len(buffer):
                    at, size = self._extent(self.values[run.last], buffer, at - LENGTH_SIZE)  # says what is wrong
                data = bytes(buffer[at : at + size])
                values[-1] = data if run.raw else self._decode(self.values[run.last], data)
                at += size
        return tuple(values)

    def _extent(self, value: ValuePlan, buffer: bytes | bytearray, at: int) -> tuple[int, int]:
        """Return where a value's own bytes begin, and how many they are; it is packed at `at`."""
        size = value.codec.size
        if value.codec.format is None:
            try:
                size = read_length(buffer, at)
            except struct.error:
                raise ArgumentError(f"{self.procedure}: the values end early") from None
            at += LENGTH_SIZE
            if size > value.codec.size - LENGTH_SIZE:
                raise ArgumentError(f"{self.procedure}: {value.name}: a length of {size} bytes")
        if at + size > len(buffer):
            raise ArgumentError(f"{self.procedure}: {value.name}: the values end early")
        return at, size

    def _decode(self, value: ValuePlan, data: bytes) -> object:
        try:
            return value.codec.decode(data)
        except ArgumentError as error:
            raise ArgumentError(f"{self.procedure}: {value.name}: {error}") from None

    def _place(self, value: ValuePlan, buffer: bytes | bytearray, at: int) -> Place[object]:
        def read() -> object:
            start, size = self._extent(value, buffer, at)
            return self._decode(value, bytes(buffer[start : start + size]))

        return Place(f"{self.procedure}: {value.name}", read)


class PrivateValues:
    """The arguments of a procedure that its server's stub copies off the A-stack or the message.

    With `everything` it copies them all: the server's language finds its arguments on the execution
    stack. The stub also makes a reference there to each that is by reference and not copied.
    """

    def __init__(self, plan: CopyPlan, *, everything: bool) -> None:
        copied = [everything or value.private for value in plan.values]
        made = sum(value.by_reference for value, one in zip(plan.values, copied, strict=True) if not one)
        self.count = sum(copied) + made
        self._made_bytes = REFERENCE_SIZE * made
        self._values = [
            (value.codec.size, value.codec.format is None, one) for value, one in zip(plan.values, copied, strict=True)
        ]
        # Where values lie that all have fixed sizes, worked out once.
        self._bytes = plan.largest if plan.packer is not None else 0
        self._fixed = self._found(b"\0" * self._bytes, 0) if self._bytes else []

    def size(self, buffer: bytes | bytearray, at: int) -> int:
        """Return how many bytes the server's stub copies or makes.

        The values lie packed in `buffer` from `at` on; a length counts as part of its value.
        """
        size = self._made_bytes
        for _, copied in self.spans(buffer, at):
            size += copied
        return size

    def spans(self, buffer: bytes | bytearray, at: int) -> list[tuple[int, int]]:
        """Return where the values that the stub copies lie in `buffer`: (offset, bytes).

        They are packed from `at` on. What lies beyond the buffer's end is left out.
        """
        if self._bytes and at == 0 and len(buffer) >= self._bytes:
            return self._fixed
        return self._found(buffer, at)

    def _found(self, buffer: bytes | bytearray, at: int) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        end = len(buffer)
        for size, varies, copied in self._values:
            if at + (LENGTH_SIZE if varies else 1) > end:
                break
            if varies:
                size = min(size, LENGTH_SIZE + read_length(buffer, at))
            if copied:
                found.append((at, min(size, end - at)))
            at += size
        return found


def in_place(value: ValuePlan, place: Place[object]) -> object:
    """Return an argument that lies in a place as the server's procedure gets it."""
    return Referent(place) if value.by_reference else InPlace(place)


def _pack(codec: Codec, value: object) -> bytes:
    data = codec.encode(value)
    return data if codec.format is not None else length_prefix(len(data)) + data
