"""Calls a procedure from a shell: the server tells its types, and the shell its arguments."""

import base64
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from lrpc.domains import codecs
from lrpc.domains.codecs import Codec, FixedBytes, Scalar, UpTo
from lrpc.domains.host.here import deadline, require
from lrpc.domains.interface import Procedure
from lrpc.domains.plans import CopyPlan, ValuePlan
from lrpc.kernel.descriptors import SIMULTANEOUS_CALLS
from lrpc.kernel.errors import BindingRefused, CallError, Refused, RunFailed
from lrpc.kernel.text import visible
from lrpc.workloads.here.doors import status_of

_SIGNATURE: Final = re.compile(r"(\w+)\((.*)\) -> (.+?)(?: raises ([\w, ]+))?")
_SCALARS: Final = {
    note.name: note
    for one in vars(codecs).values()
    for note in getattr(one, "__metadata__", ())
    if isinstance(note, Scalar)
}
_SIZED: Final = re.compile(r"(bytes|str)\[(up to )?(\d{1,10})\]")
_MOST_SIGNATURE: Final = 10_000  # characters


def call(target: str, texts: Sequence[str], folder: Path | None, timeout: float | None) -> object:
    """Call `NAME.PROCEDURE` with arguments given as text; return what it returned.

    Raises `Refused` where nobody exports the name, there is no such procedure, or the arguments do
    not fit; `RunFailed` where the call fails.
    """
    require()
    from lrpc.domains.host.stubs import HostStub
    from lrpc.kernel.host.client import ClientBinding
    from lrpc.kernel.host.doors import doors_at

    name, dot, procedure = target.rpartition(".")
    if not dot or not name:
        raise Refused(f"{target}: write NAME.PROCEDURE, for example adder.add; `lrpc doors` lists both")
    exported = status_of(name, folder)
    names = [one.partition("(")[0] for one in exported.procedures]
    if procedure not in names:
        there = ", ".join(map(visible, names))
        raise Refused(f"{target}: {name} has no procedure {procedure}; its procedures: {there}")
    number = names.index(procedure)
    found = _procedure(exported.interface, exported.procedures[number])
    values = _arguments(found, texts)
    doors = doors_at(folder)
    try:
        with deadline(timeout or 1e9):
            binding = ClientBinding(doors, name, exported.interface, tuple(exported.procedures), 0, False)
            try:
                return HostStub(binding, found, number)(*values)
            finally:
                binding.close()
    except BindingRefused as error:
        raise Refused(str(error)) from None
    except CallError as error:
        raise RunFailed(f"{target}: {error}") from None
    finally:
        doors.close()


def as_json(returned: object) -> object:
    """Return what a procedure returned as JSON has it: results in a list, bytes in base 64."""
    if isinstance(returned, tuple):
        return [as_json(one) for one in returned]
    return base64.b64encode(returned).decode() if isinstance(returned, bytes) else returned


def _procedure(interface: str, signature: str) -> Procedure:
    parts = _SIGNATURE.fullmatch(signature[:_MOST_SIGNATURE])
    if parts is None:
        raise Refused(f"{interface}: the server tells of a procedure that is none: {signature[:80]!r}")
    name, arguments, results, raises = parts.groups()
    single = not results.startswith("(") and results != "None"
    named = [one.split(": ", 1) for one in arguments.split(", ")] if arguments else []
    values = [ValuePlan(one[0], _codec(f"{interface}.{name}", one[-1])) for one in named]
    kinds = [] if results == "None" else results.strip("()").split(", ") if not single else [results]
    returned = [ValuePlan("result", _codec(f"{interface}.{name}", kind)) for kind in kinds]
    exceptions = tuple(type(one, (Exception,), {}) for one in raises.split(", ")) if raises else ()
    whole = f"{interface}.{name}"
    plans = CopyPlan(whole, values), CopyPlan(whole, returned)
    return Procedure(name, *plans, single, SIMULTANEOUS_CALLS, False, exceptions)


def _codec(where: str, kind: str) -> Codec:
    if kind in _SCALARS:
        return _SCALARS[kind]
    sized = _SIZED.fullmatch(kind)
    if sized is None:
        raise Refused(f"{where}: a value of type {kind} cannot be written on a command line; call it from Python")
    if sized[2]:
        return UpTo(int(sized[3]), bytes if sized[1] == "bytes" else str)
    return FixedBytes(int(sized[3]))


def _arguments(procedure: Procedure, texts: Sequence[str]) -> list[object]:
    plan = procedure.arguments
    if len(texts) != plan.count:
        raise Refused(f"{procedure.signature}: takes {plan.count} arguments, not {len(texts)}")
    values: list[object] = []
    for value, text in zip(plan.values, texts, strict=True):
        kind = getattr(value.codec, "kind", str)
        try:
            if kind is bool:
                found: object = {"true": True, "false": False}[text.lower()]
            elif kind is bytes:
                found = text.encode()
            else:
                found = kind(text)
        except (ValueError, KeyError):
            raise Refused(f"{plan.procedure}: {value.name}: {text!r:.80}: not {kind.__name__}") from None
        problem = value.codec.check(found)
        if problem is not None:
            raise Refused(f"{plan.procedure}: {value.name}: {problem}")
        values.append(found)
    return values
