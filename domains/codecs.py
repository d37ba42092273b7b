"""Types of parameters and results: how a value of each lies on an A-stack.

A value of fixed size is packed in place: little-endian, without padding. A value of variable size
stands behind its length, a 4-byte number. A procedure's A-stack size therefore follows from its
interface alone, and is known when a client binds.

Each type is an `Annotated` Python type whose note is its codec: `Annotated[bytes, FixedBytes(4)]`.
A type checker sees plain `bytes`. A codec of your own is used in the same way.

A stub trusts no bytes that it unpacks, since a client can write anything to an A-stack: `decode`
raises `ArgumentError` for bytes that `encode` cannot have made.
"""

import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Generic, Protocol, TypeVar, cast

from lrpc.kernel.descriptors import ETHERNET_PACKET
from lrpc.kernel.errors import AccessFault, ArgumentError

if TYPE_CHECKING:  # protobuf is imported once a message of it is
    from google.protobuf.message import Message

_LENGTH: Final = struct.Struct("<I")
REFERENCE_SIZE: Final = 4  # bytes of a reference on an E-stack: an address of a VAX
T = TypeVar("T")


class Immutable:
    """Marks a parameter that the client must not be able to change while the call runs.

    The server stub copies it off the A-stack (copy E of Table III), for a server that interprets
    its value: `Annotated[Int32, Immutable]`. Its opposite is `Mutable`. A parameter that is neither
    is read once, as the procedure begins.
    """


@dataclass(frozen=True, slots=True)
class Check:
    """Marks a parameter that the server stub checks as it copies it off the A-stack (copy E).

        Annotated[Int32, Check(lambda value: value >= 0, "at least 0")]

    The copy is checked, not the value on the A-stack: the client could change that one after a
    check in place. Where `holds` returns false, the caller gets an `ArgumentError` that names the
    parameter and ends in "must be " and `text`.
    """

    holds: Callable[[object], bool]
    text: str  # what the value must be, for the error


class Reference(Generic[T]):
    """A parameter passed by reference: `def fill(self, block: Reference[Bytes200]) -> None`.

    The stubs copy the referent to the A-stack and, when the call returns, back. The server gets a
    reference of its own, made on its E-stack, so that no address comes from the client. Until the
    server assigns a `value`, that is read where it lies, as with `Mutable`, unless the parameter is
    `Immutable` or has a `Check`.
    """

    __slots__ = ("value",)

    def __init__(self, value: T) -> None:
        self.value = value


class Mutable(Generic[T]):
    """A parameter that the server reads where it lies: `def put(self, data: Mutable[Bytes200])`.

    The client passes `Mutable(data)`, and the server reads `data.value`: off the A-stack, each time
    anew, so that it sees what the client has changed there meanwhile. That is what LRPC does with
    parameters under Modula2+'s convention, and what `Immutable` guards against. Once the call has
    returned, `value` raises `AccessFault`.

    Where arguments are copied, `value` stays what it was as the call began: on the execution stack,
    in messages but for shared buffers, from another machine, and between real processes.
    """

    __slots__ = ("_value",)

    def __init__(self, value: T) -> None:
        self._value = value

    @property
    def value(self) -> T:
        """Return the value as it is now."""
        return self._value


class Place(Generic[T]):
    """Where an argument lies until its call returns: `read` decodes what is there now."""

    __slots__ = ("_name", "_read")

    def __init__(self, name: str, read: Callable[[], T]) -> None:
        self._name = name
        self._read: Callable[[], T] | None = read

    def read(self) -> T:
        """Return the value that lies there.

        Raises `ArgumentError` where that is none, and `AccessFault` once the call has returned.
        """
        if self._read is None:
            raise AccessFault(f"{self._name}: its call has returned; read what is needed later before that")
        return self._read()

    def leave(self) -> None:
        """End the place: its call returns."""
        self._read = None


class InPlace(Mutable[T]):
    """A `Mutable` as the server gets it, which lies in a place."""

    __slots__ = ("_place",)

    def __init__(self, place: Place[T]) -> None:
        self._place = place

    @property
    def value(self) -> T:
        """Return what lies in the place now."""
        return self._place.read()


class Referent(Reference[T]):
    """A `Reference` as the server gets it: what it refers to lies in a place, until it is set."""

    __slots__ = ("_place", "_set")

    def __init__(self, place: Place[T]) -> None:
        self._place = place
        self._set: list[T] = []  # the value, once there is one

    @property
    def value(self) -> T:
        """Return what was set last, else what lies in the place now."""
        return self._set[0] if self._set else self._place.read()

    @value.setter
    def value(self, value: T) -> None:
        self._set = [value]


class Codec(Protocol):
    """The encoding of one type of value.

    Put an instance of any class with these members into `Annotated[...]` to use it in an interface.
    """

    @property
    def format(self) -> str | None:
        """Return the `struct` format of a fixed-size value, None for a type of variable size."""

    @property
    def size(self) -> int:
        """Return the bytes a value takes: at most, and with its length, where the size varies."""

    def check(self, value: object) -> str | None:
        """Return what is wrong with a value, in a few words, or None where nothing is."""

    def encode(self, value: object) -> bytes:
        """Return a value as bytes, without its length."""

    def decode(self, data: bytes) -> object:
        """Return the value that `encode` turned into these bytes.

        Raises `ArgumentError` where it cannot have made them.
        """


@dataclass(frozen=True, slots=True)
class Scalar:
    """The codec of a number or truth value: a fixed `struct` format and a Python type."""

    name: str
    format: str
    kind: type

    @property
    def size(self) -> int:
        """Return the bytes of a value."""
        return struct.calcsize("<" + self.format)

    def check(self, value: object) -> str | None:
        """Refuse values of another type (an int may stand for a float) and numbers out of range."""
        # `type(...) is`, since True is an instance of int and would pass for a number.
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
    """The codec of exactly `size` bytes: `Annotated[bytes, FixedBytes(200)]`."""

    size: int
    kind: ClassVar[type] = bytes

    @property
    def format(self) -> str:
        """Return the `struct` format."""
        return f"{self.size}s"

    def check(self, value: object) -> str | None:
        """Refuse other types than bytes, and another number of them."""
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
    """The codec of bytes, or of text in UTF-8, of at most `most` bytes.

    Written `Annotated[bytes, UpTo(64)]` or `Annotated[str, UpTo(64)]`.
    """

    most: int = ETHERNET_PACKET
    kind: type = bytes

    @property
    def format(self) -> None:
        """Return None: the size varies."""
        return

    @property
    def size(self) -> int:
        """Return the most bytes that a value takes, its length included."""
        return _LENGTH.size + self.most

    def check(self, value: object) -> str | None:
        """Refuse values of another type, and those that are too long."""
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
        """Return the value. Raises `ArgumentError` for text that is not UTF-8."""
        if self.kind is bytes:
            return data
        try:
            return data.decode()
        except UnicodeDecodeError as error:
            raise ArgumentError(f"text that is not UTF-8, at byte {error.start}") from None


def message_class() -> "type[Message] | None":
    """Return the class of protobuf messages; None while nobody has imported it to make one."""
    protobuf = sys.modules.get("google.protobuf.message")
    found: type[Message] | None = None if protobuf is None else protobuf.Message
    return found


@dataclass(frozen=True, slots=True)
class Marshaled:
    """The codec of a protobuf message of at most `most` bytes when serialized."""

    message: "type[Message]"
    most: int = ETHERNET_PACKET

    @property
    def format(self) -> None:
        """Return None: the size varies."""
        return

    @property
    def size(self) -> int:
        """Return the most bytes that a value takes, its length included."""
        return _LENGTH.size + self.most

    def check(self, value: object) -> str | None:
        """Refuse other messages, incomplete ones, and those that are too large."""
        name = self.message.DESCRIPTOR.full_name
        kind = message_class()
        if kind is None or not isinstance(value, kind) or value.DESCRIPTOR is not self.message.DESCRIPTOR:
            return f"takes a {name}, not {type(value).__name__}"
        if not value.IsInitialized():
            return f"the {name} lacks required fields"
        size = value.ByteSize()
        return None if size <= self.most else f"takes a {name} of at most {self.most} bytes, not {size}"

    def encode(self, value: object) -> bytes:
        """Return the serialized message, with map fields in order of their keys."""
        return cast("Message", value).SerializeToString(deterministic=True)

    def decode(self, data: bytes) -> object:
        """Return the message. Raises `ArgumentError` where the bytes are not one."""
        from google.protobuf.message import DecodeError

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
    """Return the 4 bytes that stand before a variable-size value of `size` bytes."""
    return _LENGTH.pack(size)


def read_length(buffer: bytes | bytearray, at: int) -> int:
    """Return the size of the variable-size value whose length stands at `at`, in bytes.

    Raises `struct.error` where the buffer ends before.
    """
    return int(_LENGTH.unpack_from(buffer, at)[0])


LENGTH_SIZE: Final = _LENGTH.size


def room(codec: Codec) -> int:
    """Return the bytes that an A-stack reserves for a value.

    For a type of variable size that is at most an Ethernet packet: larger values travel out of
    band, in a segment of their own.
    """
    return codec.size if codec.format is not None else min(codec.size, LENGTH_SIZE + ETHERNET_PACKET)
