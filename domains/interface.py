"""Interface definitions, as typed classes or gRPC services, and what their stubs are made from.

The stub generator is here: from the annotations of a procedure it derives the copy plans of its
arguments and its results. It does so once, when the class is defined, so that a call interprets
nothing and a mistake in a definition shows before anything runs.
"""

import contextlib
import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, ClassVar, TypeVar

from lrpc.domains.codecs import (
    LENGTH_SIZE,
    Check,
    Codec,
    FixedBytes,
    Immutable,
    Marshaled,
    Mutable,
    Reference,
    Scalar,
    UpTo,
    message_class,
)
from lrpc.domains.plans import CopyPlan, ValuePlan
from lrpc.kernel.descriptors import SIMULTANEOUS_CALLS
from lrpc.kernel.errors import ProcedureRaised, Refused
from lrpc.kernel.text import one_line

if TYPE_CHECKING:
    from google.protobuf.descriptor import ServiceDescriptor

F = TypeVar("F", bound=Callable[..., object])
_CODEC_METHODS = ("format", "size", "check", "encode", "decode")
# Attributes of interfaces and servers, which no procedure may be called.
_RESERVED = ("domain", "interface", "procedures")
MOST_SIMULTANEOUS = 1 << 20


class InterfaceRefused(Refused, TypeError):
    """A definition from which no stubs can be made: the message names the parameter."""


@dataclass(frozen=True)
class Procedure:
    """One procedure of an interface, as its stubs need it."""

    name: str
    arguments: CopyPlan
    results: CopyPlan  # the referents of arguments passed by reference, then the results proper
    single: bool  # the procedure returns one bare value, rather than None or a tuple of several
    simultaneous: int  # calls in progress at once, in one binding
    awaited: bool = False  # defined by `async def`: its client stub returns an awaitable
    raises: tuple[type[Exception], ...] = ()  # reach the caller as they are

    @property
    def signature(self) -> str:
        """Return the procedure's types in one line; client and server must agree on it."""
        arguments = ", ".join(f"{one.name}: {_kind(one)}" for one in self.arguments.values)
        results = [_kind(one) for one in self.results.values[len(self.arguments.references) :]]
        returned = results[0] if self.single else f"({', '.join(results)})" if results else "None"
        raises = f" raises {', '.join(one.__name__ for one in self.raises)}" if self.raises else ""
        return f"{self.name}({arguments}) -> {returned}{raises}"

    def error(self, kind: str, message: str) -> Exception:
        """Return the exception at the caller for what the server raised, by class name and text.

        It is of the class in `raises` of that name, if that can be made from a text; else
        `ProcedureRaised`.
        """
        for declared in self.raises:
            if declared.__name__ == kind:
                with contextlib.suppress(Exception):  # its constructor is the user's code
                    return declared(message)
        return ProcedureRaised(kind, message)


class Interface:
    """Base class of interface definitions: a direct subclass defines one, by its public methods.

        class Adder(Interface):
            def add(self, a: Int32, b: Int32) -> Int32: ...

    Its methods are the procedures, numbered in order of definition. Each parameter is annotated
    with a type of `lrpc.domains.codecs`, a protobuf message class, or plain `bytes` or `str`, which
    may take up to an Ethernet packet (1,448 bytes). The result is annotated with None, one such
    type, or a `tuple` of several. A class that derives from a definition implements it.

    Defining a class raises `InterfaceRefused` where a procedure's types are missing or cannot be
    packed.
    """

    procedures: ClassVar[tuple[Procedure, ...]] = ()
    interface: ClassVar[type["Interface"]]  # the definition, also for classes that implement it

    def __init_subclass__(cls) -> None:
        """Derive the procedures of a definition; leave implementations alone."""
        super().__init_subclass__()
        if Interface not in cls.__bases__:
            return
        for name in _RESERVED:
            if inspect.isfunction(vars(cls).get(name)):
                raise InterfaceRefused(f"{cls.__name__}.{name}: interfaces use that name themselves; choose another")
        cls.interface = cls
        if "procedures" in vars(cls):  # `interface_of` made them
            return
        methods = [value for name, value in vars(cls).items() if inspect.isfunction(value) and name[0] != "_"]
        cls.procedures = tuple(_procedure(cls.__name__, method) for method in methods)


def procedure(*, simultaneous: int = SIMULTANEOUS_CALLS, raises: tuple[type[Exception], ...] = ()) -> Callable[[F], F]:
    """Set what a procedure's types do not say: calls at once, and exceptions that travel.

        @procedure(simultaneous=20, raises=(FileNotFoundError,))
        def read(self, file: UInt32, block: UInt32) -> Block: ...

    `simultaneous` is how many calls may be in progress at once in one binding: each binding gets as
    many A-stacks for the procedure. The default is the paper's, 5.

    An exception of a class in `raises` is made anew at the caller, from its text. Every other one
    reaches the caller as `ProcedureRaised`.
    """

    def mark(method: F) -> F:
        vars(method)["simultaneous"] = simultaneous
        vars(method)["raises"] = raises
        return method

    return mark


def leaf(method: F) -> F:
    """Declare that a server's procedure never enters the kernel.

        class AdderServer(Adder):
            @leaf
            def add(self, a: int, b: int) -> int: ...

    It is declared on the server's method, not in the `Interface`. Such a procedure takes no virtual
    time of its own: it neither computes, sleeps, traps, calls, binds nor starts threads, but may
    read the time. The simulated kernel can then run it without changing stacks, which takes less
    time and changes no result. A run in which it enters the kernel all the same ends in
    `RunFailed`. On other kernels it means nothing.
    """
    vars(method)["leaf"] = True
    return method


def is_leaf(body: object) -> bool:
    """Return whether a procedure, as its server has it, is declared a `leaf`."""
    return getattr(body, "leaf", False) is True


def interface_of(service: "ServiceDescriptor") -> type[Interface]:
    """Return the interface that a protobuf service definition describes.

    Raises `InterfaceRefused` where a method streams its request or response.
    """
    from google.protobuf.message_factory import GetMessageClass

    procedures = []
    for method in service.methods:
        name = f"{service.full_name}.{method.name}"
        if method.client_streaming or method.server_streaming:
            raise InterfaceRefused(f"{name}: streams; a procedure takes one message and returns one")
        request = Marshaled(GetMessageClass(method.input_type))
        response = Marshaled(GetMessageClass(method.output_type))
        arguments = CopyPlan(name, [ValuePlan("request", request)])
        results = CopyPlan(name, [ValuePlan("response", response)])
        procedures.append(Procedure(method.name, arguments, results, True, SIMULTANEOUS_CALLS))
    space = {"procedures": tuple(procedures), "__doc__": f"The gRPC service {service.full_name}."}
    made: type[Interface] = types.new_class(service.name, (Interface,), exec_body=lambda body: body.update(space))
    return made


def _procedure(interface: str, method: types.FunctionType) -> Procedure:
    name = f"{interface}.{method.__name__}"
    try:
        hints = typing.get_type_hints(method, include_extras=True)
    except (AttributeError, NameError, SyntaxError, TypeError) as error:  # annotations may be text
        raise InterfaceRefused(f"{name}: {one_line(str(error))}; define it at the top level of the module") from None
    if is_leaf(method):
        raise InterfaceRefused(f"{name}: a leaf; that is for the server's method, since other servers may do more")
    parameters = list(inspect.signature(method).parameters.values())[1:]
    arguments = []
    for parameter in parameters:
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.default is not parameter.empty:
            raise InterfaceRefused(f"{name}: {parameter.name}: a plain parameter is needed, without a default")
        arguments.append(_value(name, parameter.name, hints.get(parameter.name)))
    if "return" not in hints:
        raise InterfaceRefused(f"{name}: its result is not annotated; write -> None where it returns nothing")
    results, single = _results(name, hints["return"])
    simultaneous = vars(method).get("simultaneous", SIMULTANEOUS_CALLS)
    if type(simultaneous) is not int or not 1 <= simultaneous <= MOST_SIMULTANEOUS:
        raise InterfaceRefused(f"{name}: {simultaneous} simultaneous calls; allowed are 1 to {MOST_SIMULTANEOUS}")
    raises = vars(method).get("raises", ())
    if not isinstance(raises, tuple) or not all(isinstance(one, type) and issubclass(one, Exception) for one in raises):
        raise InterfaceRefused(f"{name}: raises={raises!r}; it takes a tuple of classes of exceptions")
    returned = [replace(value, by_reference=False) for value in arguments if value.by_reference]
    if any(value.mutable for value in results):
        raise InterfaceRefused(f"{name}: a result is no Mutable; the caller has it to itself")
    plan = CopyPlan(name, [*returned, *results])
    awaited = inspect.iscoroutinefunction(method)
    return Procedure(method.__name__, CopyPlan(name, arguments), plan, single, simultaneous, awaited, raises)


def _results(name: str, hint: object) -> tuple[list[ValuePlan], bool]:
    if hint is type(None):
        return [], False
    if typing.get_origin(hint) is tuple:
        return [_value(name, f"result {n}", one) for n, one in enumerate(typing.get_args(hint), 1)], False
    return [_value(name, "result", hint)], True


def _value(procedure_name: str, name: str, hint: object) -> ValuePlan:
    """Return the copy plan of the value with this annotation."""
    box = typing.get_origin(hint)
    if box is Reference or box is Mutable:
        found = _value(procedure_name, name, typing.get_args(hint)[0])
        found = replace(
            found, by_reference=found.by_reference or box is Reference, mutable=found.mutable or box is Mutable
        )
        if found.mutable and (found.by_reference or found.private):
            other = "a Reference" if found.by_reference else "Immutable" if found.immutable else "checked"
            raise InterfaceRefused(f"{procedure_name}: {name}: both Mutable and {other}; choose one")
        return found
    notes: tuple[object, ...] = ()
    kind = hint
    if typing.get_origin(hint) is Annotated:
        kind, *rest = typing.get_args(hint)
        notes = tuple(rest)
    immutable = any(note is Immutable or isinstance(note, Immutable) for note in notes)
    check = next((note for note in notes if isinstance(note, Check)), None)
    codec = _codec(kind, notes)
    if codec is not None:
        return ValuePlan(name, codec, immutable, check)
    given = "no annotation" if hint is None else f"{hint!r}"
    raise InterfaceRefused(
        f"{procedure_name}: {name}: {given}: not a type that stubs can carry; see lrpc.Int32 and others"
    )


def _kind(value: ValuePlan) -> str:
    """Return a value's type as text that is the same on both sides of a boundary."""
    codec = value.codec
    if isinstance(codec, Scalar):
        text = codec.name
    elif isinstance(codec, FixedBytes):
        text = f"bytes[{codec.size}]"
    elif isinstance(codec, UpTo):
        text = f"{codec.kind.__name__}[up to {codec.most}]"
    elif isinstance(codec, Marshaled):
        text = f"{codec.message.DESCRIPTOR.full_name}[up to {codec.most}]"
    else:
        text = f"{type(codec).__name__}[{codec.size}]"
    return f"Reference[{text}]" if value.by_reference else text


def _codec(kind: object, notes: tuple[object, ...]) -> Codec | None:
    """Return the codec for a type and the notes of its annotation; None where there is none."""
    for note in notes:
        if isinstance(note, UpTo) and kind in (bytes, str):
            note = UpTo(note.most, bytes if kind is bytes else str)
        if not isinstance(note, type) and all(hasattr(note, method) for method in _CODEC_METHODS):
            codec = typing.cast(Codec, note)
            least = 0 if codec.format is not None else LENGTH_SIZE
            return codec if getattr(codec, "kind", kind) is kind and codec.size >= least else None
    if kind in (bytes, str):
        return UpTo(kind=bytes if kind is bytes else str)
    message = message_class()
    if message is not None and isinstance(kind, type) and issubclass(kind, message) and kind is not message:
        return Marshaled(kind)
    return None
