"""Stubs, as far as they are the same on every kernel: server stubs, and the values of client stubs.

The paper generates stubs in assembly from a definition file; here they are closures over the copy
plans of a procedure. The client stubs themselves depend on how a kernel transfers calls: see
`lrpc.domains.simulated.stubs`.
"""

from collections.abc import Callable, Mapping

from lrpc.domains.codecs import Reference
from lrpc.domains.interface import Procedure
from lrpc.domains.plans import CopyPlan, in_place
from lrpc.kernel.descriptors import DirectEntry, SplitEntry
from lrpc.kernel.errors import ArgumentError


class ServerStub(DirectEntry):
    """A procedure's server stub: it unpacks and checks arguments, runs `body`, packs results.

    The kernel enters a server's domain through it. Unless it `copies_all`, the procedure reads
    those arguments where they lie that are `Mutable` or referents. Errors in arguments and results
    raise `ArgumentError`.
    """

    def __init__(self, procedure: Procedure, body: Callable[..., object], *, copies_all: bool = False) -> None:
        self._arguments, self._results, self._single = procedure.arguments, procedure.results, procedure.single
        self._body = body
        self._run = _runner(procedure, body, copies_all=copies_all)

    def enter(self, buffer: bytes | bytearray, offset: int) -> bytes:
        """Run the procedure with the packed arguments at `offset`; return its packed results."""
        arguments, results = self._arguments, self._results
        if not arguments.count:
            returned = self._body()
            if returned is None and not results.count:
                return b""
            return results.pack(as_results(self._single, returned))
        values = arguments.unpack(buffer, offset)
        if arguments.plain:
            return results.pack(as_results(self._single, self._body(*values)))
        return self._run(values, buffer, offset)


def split_stub(procedure: Procedure, body: Callable[..., object], *, copies_all: bool = False) -> SplitEntry:
    """Return a procedure's server stub for calls of which the stack has the private arguments."""
    arguments = procedure.arguments
    run = _runner(procedure, body, copies_all=copies_all)

    def enter(stack: bytes, buffer: bytes | bytearray, offset: int) -> bytes:
        return run(arguments.unpack(stack, 0), buffer, offset)

    return enter


def _runner(
    procedure: Procedure, body: Callable[..., object], *, copies_all: bool
) -> Callable[[tuple[object, ...], bytes | bytearray, int], bytes]:
    """Return what runs `body` with unpacked values, some of which it reads where they lie."""
    arguments, results, single = procedure.arguments, procedure.results, procedure.single

    def run(values: tuple[object, ...], buffer: bytes | bytearray, offset: int) -> bytes:
        given = arguments.delivered(values)
        places = arguments.places(buffer, offset) if arguments.in_place and not copies_all else {}
        for number, place in places.items():
            given[number] = in_place(arguments.values[number], place)
        try:
            returned = as_results(single, body(*given))
            changed = [reference.value for reference in given if isinstance(reference, Reference)]
            return results.pack((*changed, *returned))
        finally:
            for place in places.values():
                place.leave()

    return run


def as_results(single: bool, returned: object) -> tuple[object, ...]:
    """Return what a procedure returned as a tuple of results.

    `single` means that the procedure has one result, which may itself be a tuple.
    """
    if single:
        return (returned,)
    if returned is None:
        return ()
    return returned if isinstance(returned, tuple) else (returned,)


def in_order(plan: CopyPlan, values: tuple[object, ...], named: Mapping[str, object]) -> tuple[object, ...]:
    """Return all arguments of a call by position.

    Raises `ArgumentError` that names an argument which is missing, unknown or given twice.
    """
    names = [value.name for value in plan.values][len(values) :]
    if set(names) != set(named):
        wrong = sorted(set(named) ^ set(names))[0]
        raise ArgumentError(f"{plan.procedure}: {wrong}: missing, unknown or given twice")
    return values + tuple(named[name] for name in names)


def pack(plan: CopyPlan, values: tuple[object, ...]) -> bytes:
    """Return a call's arguments packed, with the values of references and of `Mutable` ones.

    Raises `ArgumentError` that names the first argument of a wrong type, size or range.
    """
    return plan.pack(values if plan.bare else plan.referents(values))


def refer(plan: CopyPlan, values: tuple[object, ...], results: tuple[object, ...]) -> tuple[object, ...]:
    """Copy returned referents back to the caller's references; return the results proper.

    `results` begins with the referents, in order of the parameters that `plan` has by reference.
    """
    for at, number in enumerate(plan.references):
        reference = values[number]
        assert isinstance(reference, Reference)
        reference.value = results[at]
    return results[len(plan.references) :]
