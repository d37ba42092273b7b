"""The stub generator's kernel-neutral half: server stubs, and how client stubs pack and order arguments."""

from collections.abc import Callable, Mapping

from lrpc.domains.codecs import Reference
from lrpc.domains.interface import Procedure
from lrpc.domains.plans import CopyPlan
from lrpc.kernel.descriptors import Entry
from lrpc.kernel.errors import ArgumentError


def server_stub(procedure: Procedure, body: Callable[..., object]) -> Entry:
    """Return the entry of one procedure: unpack and check arguments, run `body`, pack results."""
    arguments, results, single = procedure.arguments, procedure.results, procedure.single

    def enter(buffer: bytes | bytearray, offset: int) -> bytes:
        if not arguments.count:
            return results.pack(as_results(single, body()))
        values = arguments.unpack(buffer, offset)
        if arguments.plain:
            return results.pack(as_results(single, body(*values)))
        given = arguments.delivered(values)
        returned = as_results(single, body(*given))
        changed = [reference.value for reference in given if isinstance(reference, Reference)]
        return results.pack((*changed, *returned))

    return enter


def as_results(single: bool, returned: object) -> tuple[object, ...]:
    """Return what a procedure returned as a list of results: one, none, or a tuple of several."""
    if single:
        return (returned,)
    if returned is None:
        return ()
    return returned if isinstance(returned, tuple) else (returned,)


def in_order(plan: CopyPlan, values: tuple[object, ...], named: Mapping[str, object]) -> tuple[object, ...]:
    """Return all arguments by position; `ArgumentError` names one that is missing, unknown or given twice."""
    names = [value.name for value in plan.values][len(values) :]
    if set(names) != set(named):
        wrong = sorted(set(named) ^ set(names))[0]
        raise ArgumentError(f"{plan.procedure}: {wrong}: missing, unknown or given twice")
    return values + tuple(named[name] for name in names)


def pack(plan: CopyPlan, values: tuple[object, ...]) -> bytes:
    """Pack a call's arguments, referents in place of references; `ArgumentError` names the first that is wrong."""
    return plan.pack(plan.referents(values) if plan.references else values)


def refer(plan: CopyPlan, values: tuple[object, ...], results: tuple[object, ...]) -> tuple[object, ...]:
    """Give the caller's references what the call made of their referents; return the results proper."""
    for at, number in enumerate(plan.references):
        reference = values[number]
        assert isinstance(reference, Reference)
        reference.value = results[at]
    return results[len(plan.references) :]
