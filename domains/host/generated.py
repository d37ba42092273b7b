"""Stubs as generated code, for procedures all of whose values have fixed sizes.

The paper's stub generator writes stubs in assembly, once for each interface, so that a call
interprets nothing. This one writes them in Python. The usual call (values of the right types,
results that arrive) takes three calls of C functions on either side. Everything else is left to the
stubs that interpret copy plans, which also word the errors.
"""

import struct
from collections.abc import Callable
from functools import lru_cache
from types import CodeType
from typing import Final, cast

from lrpc.domains.codecs import FixedBytes
from lrpc.domains.host.stubs import HostStub, current_deadline
from lrpc.domains.interface import Procedure
from lrpc.domains.plans import CopyPlan
from lrpc.domains.stubs import as_results
from lrpc.kernel.descriptors import Entry
from lrpc.kernel.host.client import ClientBinding

_CLIENT: Final = """
def {name}({parameters}*__rest, **__named):
    if {right} and not __rest and not __named:
        try:
            packed = __pack({values})
        except __errors:
            packed = __plan_pack(({values}))
        until = __until()
        reply = __call(__group, __number, packed, until, -1)
        if type(reply) is not bytes:
            reply = __stub.finish(reply, packed, until)
        try:
            return {returned}
        except __errors:
            return __stub.returned(reply, ())
    return __stub(*(one for one in ({values}) if one is not __missing), *__rest, **__named)
"""
_SERVER: Final = """
def enter(buffer, offset):
    if len(buffer) - offset != __size:
        return __interpret(buffer, offset)
    {values}__unpack(buffer, offset)
    returned = __body({names})
    if {right}:
        try:
            return __pack({result})
        except __errors:
            pass
    return __plan_pack(__as_results({single}, returned))
"""
# What generated code calls its own variables: no parameter may have such a name.
_TAKEN: Final = frozenset({"packed", "until", "reply", "buffer", "offset", "returned", "enter", "type", "len"})
_KINDS: Final = (int, float, bool, bytes)


def client_stub(binding: ClientBinding, procedure: Procedure, number: int) -> Callable[..., object]:
    """Return the client stub of a procedure: generated code where it can be, else a `HostStub`."""
    stub = HostStub(binding, procedure, number)
    arguments, results = procedure.arguments, procedure.results
    names = [value.name for value in arguments.values]
    right = _right(arguments, names)
    if right is None or results.packer is None or arguments.packer is None:
        return stub
    source = _CLIENT.format(
        name=procedure.name,
        parameters="".join(f"{one}=__missing, " for one in names),
        right=right,
        values="".join(f"{one}, " for one in names),
        returned="__unpack(reply)[0]" if procedure.single else "__unpack(reply) or None",
    )
    space = {
        "__pack": arguments.packer.pack,
        "__plan_pack": arguments.pack,
        "__errors": (struct.error, OverflowError),
        "__until": current_deadline.get,
        "__call": binding.native.call,
        "__group": stub.group,
        "__number": number,
        "__unpack": results.packer.unpack,
        "__stub": stub,
        "__missing": object(),
    }
    return _made(source, f"client stub of {arguments.procedure}", space, procedure.name)


def server_stub(procedure: Procedure, body: Callable[..., object], interpret: Entry) -> Entry:
    """Return a procedure's server stub: generated code where it can be, else `interpret`."""
    arguments, results = procedure.arguments, procedure.results
    names = [value.name for value in arguments.values]
    returned = ["returned"] if procedure.single else []
    right = _right(results, returned, own=True)
    if _right(arguments, names) is None or right is None or not arguments.plain:
        return interpret
    if arguments.packer is None or results.packer is None or results.count != len(returned):
        return interpret
    source = _SERVER.format(
        values="".join(f"{one}, " for one in names) + ("= " if names else ""),
        names=", ".join(names),
        right=right if returned else "returned is None",
        result=", ".join(returned),
        single=procedure.single,
    )
    space = {
        "__size": arguments.packer.size,
        "__interpret": interpret,
        "__unpack": arguments.packer.unpack_from,
        "__body": body,
        "__pack": results.packer.pack,
        "__plan_pack": results.pack,
        "__errors": (struct.error, OverflowError),
        "__as_results": as_results,
    }
    return cast(Entry, _made(source, f"server stub of {arguments.procedure}", space, "enter"))


def _right(plan: CopyPlan, names: list[str], own: bool = False) -> str | None:
    """Return source text that tests the types of a plan's values; None where code cannot do it.

    `own` says that the names are the generated code's, not those of parameters.
    """
    checks = []
    for name, value in zip(names, plan.values, strict=False):
        kind = getattr(value.codec, "kind", None)
        if kind not in _KINDS or value.codec.format is None or not name.isidentifier():
            return None
        if value.by_reference or (not own and (name.startswith("__") or name in _TAKEN)):
            return None
        checks.append(f"type({name}) is {kind.__name__}")
        if isinstance(value.codec, FixedBytes):
            checks.append(f"len({name}) == {value.codec.size}")
    return " and ".join(checks) or "True"


@lru_cache(maxsize=4096)
def _compiled(source: str, name: str) -> CodeType:
    return compile(source, f"<{name}>", "exec")  # which takes longer than all else of a binding


def _made(source: str, name: str, space: dict[str, object], function: str) -> Callable[..., object]:
    exec(_compiled(source, name), space)
    # Else it would know itself, and its binding's memory would stay until cycles are looked for.
    return cast(Callable[..., object], space.pop(function))
