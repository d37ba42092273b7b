"""How values of each type lie on an A-stack: fixed-size ones packed in place, the others behind their length."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, Generic, Protocol, TypeVar

from google.protobuf.message import DecodeError, Message

from lrpc.kernel.descriptors import ETHERNET_PACKET
from lrpc.kernel.errors import ArgumentError

_LENGTH: Final = struct.Struct("<I")
REFERENCE_SIZE: Final = 4  # bytes of a reference on an E-stack: an address of the VAX
T = TypeVar("T")


class Immutable:
    """Marks a parameter that must not change under the server's feet: it is copied off the A-stack (copy E)."""


@dataclass(frozen=True, slots=True)
class Check:
    """Marks a parameter that the server stub checks as it copies it off the A-stack (copy E): no copy of its own.

    `Annotated[Int32, Check(lambda value: value >= 0, "at least 0")]`. The client could change what lies on the A-stack
    after a check in place, so it is the copy that is checked; the caller gets an `ArgumentError`'s name and text.
    """

    holds: Callable[[object], bool]
    text: str  # what it must be


class Reference(Generic[T]):
    """A parameter passed by reference: `def fill(self, block: Reference[Bytes200]) -> None`.

    The referent is copied to the A-stack and, when the call returns, back; the server is given a reference of its own,
    made on its E-stack, so that no address comes from the client.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class Codec(Protocol):
    """How one value is packed. A `size` in bytes for a fixed one, the most it may have for another."""

    @property
    def format(self) -> str | None:
        """Return the format of a fixed-size value in `struct`'s language, None for one of variable size."""

    @property
    def size(self) -> int:
        """Return the bytes it takes, at most, its length included."""

    def check(self, value: object) -> str | None:
        """Return what is wrong with a value, in a few words, or None."""

    def encode(self, value: object) -> bytes:
        """Return a variable-size value as bytes."""

    def decode(self, data: bytes) -> object:
        """Return the value that `encode` made these bytes of; `ArgumentError` where it made none such."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number or truth value with a fixed format."""

    name: str
    format: str
    kind: type

    @property
    def size(self) -> int:
        """Return its bytes."""
        return struct.calcsize("<" + self.format)

    def check(self, value: object) -> str | None:
        """Refuse values of another type (a whole number will do for a float) and numbers out of range."""
        right = type(value) is self.kind or (self.kind is float and type(value) is int)
        if not right:
            return f"{self.name} takes {self.kind.__name__}, not {type(value).__name__}"
        try:
            struct.pack("<" + self.format, value)
        except (struct.error, OverflowError):
            return f"{value!r} does not fit {self.name}"
        return None

    def encode(self, value: object) -> bytes:
        """Return the packed value."""
        return struct.pack("<" + self.format, value)

    def decode(self, data: bytes) -> object:
        """Return the value."""
        return struct.unpack("<" + self.format, data)[0]


@dataclass(frozen=True, slots=True)
class FixedBytes:
    """Exactly `size` bytes: `Annotated[bytes, FixedBytes(200)]`."""

    size: int
    kind: ClassVar[type] = bytes

    @property
    def format(self) -> str:
        """Return the format."""
        return f"{self.size}s"

    def check(self, value: object) -> str | None:
        """Refuse what is not bytes, or not that many."""
        if type(value) is not bytes:
            return f"takes bytes, not {type(value).__name__}"
        return None if len(value) == self.size else f"takes {self.size} bytes, not {len(value)}"

    def encode(self, value: object) -> bytes:
        """Return the value itself."""
        assert isinstance(value, bytes)
        return value

    def decode(self, data: bytes) -> object:
        """Return the value itself."""
        return data


@dataclass(frozen=True, slots=True)
class UpTo:
    """Bytes or text (UTF-8) of variable size, at most `most` bytes: `Annotated[str, UpTo(64)]`."""

    most: int = ETHERNET_PACKET
    kind: type = bytes

    @property
    def format(self) -> None:
        """Return None: the size varies."""
        return

    @property
    def size(self) -> int:
        """Return the bytes it takes at most, its length included."""
        return _LENGTH.size + self.most

    def check(self, value: object) -> str | None:
        """Refuse what is of another type, or too long."""
        if type(value) is not self.kind:
            return f"takes {self.kind.__name__}, not {type(value).__name__}"
        try:
            size = len(self.encode(value))
        except UnicodeEncodeError:
            return f"{value!r} is not text that UTF-8 can hold"
        return None if size <= self.most else f"takes at most {self.most} bytes, not {size}"

    def encode(self, value: object) -> bytes:
        """Return the value as bytes."""
        if isinstance(value, str):
            return value.encode()
        assert isinstance(value, bytes)
        return value

    def decode(self, data: bytes) -> object:
        """Return the value; `ArgumentError` where it is not UTF-8."""
        if self.kind is bytes:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ArgumentError(f"text that is not UTF-8, at byte {error.start}") from None


@dataclass(frozen=True, slots=True)
class Marshaled:
    """A protobuf message, serialized, at most `most` bytes."""

    message: type[Message]
    most: int = ETHERNET_PACKET

    @property
    def format(self) -> None:
        """Return None: the size varies."""
        return

    @property
    def size(self) -> int:
        """Return the bytes it takes at most, its length included."""
        return _LENGTH.size + self.most

    def check(self, value: object) -> str | None:
        """Refuse what is no such message, and messages that are too large."""
        name = self.message.DESCRIPTOR.full_name
        if not isinstance(value, Message) or value.DESCRIPTOR is not self.message.DESCRIPTOR:
            return f"takes a {name}, not {type(value).__name__}"
        if not value.IsInitialized():
            return f"the {name} lacks required fields"
        size = value.ByteSize()
        return None if size <= self.most else f"takes a {name} of at most {self.most} bytes, not {size}"

    def encode(self, value: object) -> bytes:
        """Return the serialized message, map fields in order of their keys."""
        assert isinstance(value, Message)
        return value.SerializeToString(deterministic=True)

    def decode(self, data: bytes) -> object:
        """Return the message; `ArgumentError` where the bytes are none."""
        try:
            return self.message.FromString(data)
        except DecodeError as error:
            raise ArgumentError(f"not a {self.message.DESCRIPTOR.full_name}: {error}") from None


Int8 = Annotated[int, Scalar("Int8", "b", int)]
Int16 = Annotated[int, Scalar("Int16", "h", int)]
Int32 = Annotated[int, Scalar("Int32", "i", int)]
Int64 = Annotated[int, Scalar("Int64", "q", int)]
UInt8 = Annotated[int, Scalar("UInt8", "B", int)]
UInt16 = Annotated[int, Scalar("UInt16", "H", int)]
UInt32 = Annotated[int, Scalar("UInt32", "I", int)]
UInt64 = Annotated[int, Scalar("UInt64", "Q", int)]
Float32 = Annotated[float, Scalar("Float32", "f", float)]
Float64 = Annotated[float, Scalar("Float64", "d", float)]
Bool = Annotated[bool, Scalar("Bool", "?", bool)]
Bytes200 = Annotated[bytes, FixedBytes(200)]


def length_prefix(size: int) -> bytes:
    """Return what stands before a variable-size value of `size` bytes."""
    return _LENGTH.pack(size)


def read_length(buffer: bytes | bytearray, at: int) -> int:
    """Return the size of the variable-size value that begins at `at`."""
    return int(_LENGTH.unpack_from(buffer, at)[0])


LENGTH_SIZE: Final = _LENGTH.size


def room(codec: Codec) -> int:
    """Return the bytes that an A-stack has for a value: of one of variable size as much as an Ethernet packet."""
    return codec.size if codec.format is not None else min(codec.size, LENGTH_SIZE + ETHERNET_PACKET)
