"""Interfaces: typed classes, or gRPC service definitions, from which descriptors and copy plans are derived once."""

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, TypeVar

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from lrpc.domains.codecs import LENGTH_SIZE, Check, Codec, Immutable, Marshaled, Reference, UpTo
from lrpc.domains.plans import CopyPlan, ValuePlan
from lrpc.kernel.descriptors import SIMULTANEOUS_CALLS
from lrpc.kernel.documents import one_line
from lrpc.kernel.errors import Refused

F = TypeVar("F", bound=Callable[..., object])
_CODEC_METHODS = ("format", "size", "check", "encode", "decode")
_RESERVED = ("domain", "interface", "procedures")  # what interfaces and servers have besides procedures
MOST_SIMULTANEOUS = 1 << 20


class InterfaceRefused(Refused, TypeError):
    """A definition that no stub can be generated for: names the interface, the procedure and the parameter."""


@dataclass(frozen=True)
class Procedure:
    """One procedure of an interface, as its stubs need it."""

    name: str
    arguments: CopyPlan
    results: CopyPlan  # what references refer to comes back before the results themselves
    single: bool  # one result, returned bare; otherwise none, or a tuple of several
    simultaneous: int


class Interface:
    """Base of every definition. Public methods of a direct subclass are its procedures, in order.

    Every parameter and result is annotated with a type of `lrpc.domains.codecs`, a protobuf message class, `bytes` or
    `str` (variable size, at most an Ethernet packet), and every procedure with what it returns: None, one result or
    a `tuple` of several. Classes further down implement the interface. `InterfaceRefused` says what cannot be derived.
    """

    procedures: ClassVar[tuple[Procedure, ...]] = ()
    interface: ClassVar[type["Interface"]]

    def __init_subclass__(cls) -> None:
        """Derive the procedures of a definition; leave implementations alone."""
        super().__init_subclass__()
        if Interface not in cls.__bases__:
            return
        for name in _RESERVED:
            if inspect.isfunction(vars(cls).get(name)):
                raise InterfaceRefused(f"{cls.__name__}.{name}: interfaces use that name themselves; choose another")
        cls.interface = cls
        if "procedures" in vars(cls):
            return
        methods = [value for name, value in vars(cls).items() if inspect.isfunction(value) and name[0] != "_"]
        cls.procedures = tuple(_procedure(cls.__name__, method) for method in methods)


def procedure(*, simultaneous: int) -> Callable[[F], F]:
    """Say how many calls of a procedure may be in progress at once in one binding, if not five."""

    def mark(method: F) -> F:
        vars(method)["simultaneous"] = simultaneous
        return method

    return mark


def interface_of(service: ServiceDescriptor) -> type[Interface]:
    """Return the interface that a protobuf service definition describes; every method must be unary."""
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
    except (AttributeError, NameError, SyntaxError, TypeError) as error:  # in annotations that are text
        raise InterfaceRefused(f"{name}: {one_line(str(error))}; define it at the top level of the module") from None
    parameters = list(inspect.signature(method).parameters.values())[1:]
    arguments = []
    for parameter in parameters:
        if parameter.kind is not parameter.POSITIONAL_OR_KEYWORD or parameter.default is not parameter.empty:
            raise InterfaceRefused(f"{name}: {parameter.name}: a plain parameter is needed, without a default")
        arguments.append(_value(name, parameter.name, hints.get(parameter.name)))
    if "return" not in hints:
        raise InterfaceRefused(f"{name}: what it returns is not annotated; write -> None where that is nothing")
    results, single = _results(name, hints["return"])
    simultaneous = vars(method).get("simultaneous", SIMULTANEOUS_CALLS)
    if type(simultaneous) is not int or not 1 <= simultaneous <= MOST_SIMULTANEOUS:
        raise InterfaceRefused(f"{name}: {simultaneous} simultaneous calls; between 1 and {MOST_SIMULTANEOUS} are")
    returned = [replace(value, by_reference=False) for value in arguments if value.by_reference]
    plan = CopyPlan(name, [*returned, *results])
    return Procedure(method.__name__, CopyPlan(name, arguments), plan, single, simultaneous)


def _results(name: str, hint: object) -> tuple[list[ValuePlan], bool]:
    if hint is type(None):
        return [], False
    if typing.get_origin(hint) is tuple:
        return [_value(name, f"result {n}", one) for n, one in enumerate(typing.get_args(hint), 1)], False
    return [_value(name, "result", hint)], True


def _value(procedure_name: str, name: str, hint: object) -> ValuePlan:
    """Return how a parameter with this annotation is packed."""
    if typing.get_origin(hint) is Reference:
        return replace(_value(procedure_name, name, typing.get_args(hint)[0]), by_reference=True)
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


def _codec(kind: object, notes: tuple[object, ...]) -> Codec | None:
    """Return how a type is packed that is annotated with these notes; None where it cannot be."""
    for note in notes:
        if isinstance(note, UpTo) and kind in (bytes, str):
            note = UpTo(note.most, bytes if kind is bytes else str)
        if not isinstance(note, type) and all(hasattr(note, method) for method in _CODEC_METHODS):
            codec = typing.cast(Codec, note)
            least = 0 if codec.format is not None else LENGTH_SIZE
            return codec if getattr(codec, "kind", kind) is kind and codec.size >= least else None
    if kind in (bytes, str):
        return UpTo(kind=bytes if kind is bytes else str)
    if isinstance(kind, type) and issubclass(kind, Message) and kind is not Message:
        return Marshaled(kind)
    return None
