"""Message-passing RPC over pipes and UNIX sockets: the baseline that LRPC is measured beside.

It uses the same interfaces, servers and copy plans, and one thread on either side: what a careful
writer would do who does not share memory. A message is its length, a number (the procedure's, or
the kind of a reply) and the packed values.
"""

import os
import struct
from collections.abc import Callable
from typing import Final, cast

from lrpc.domains.clerk import Clerk
from lrpc.domains.domain import I
from lrpc.domains.host.stubs import as_reply, error_of
from lrpc.domains.interface import Interface, Procedure
from lrpc.domains.stubs import pack
from lrpc.kernel.descriptors import Authoriser, Convention, Entry, ProcedureDescriptor
from lrpc.kernel.errors import CallFailed
from lrpc.kernel.host.workers import NO_SUCH_PROCEDURE, RESULTS

_HEAD: Final = struct.Struct("<II")
_MOST_MESSAGE: Final = 1 << 30
_AT_ONCE: Final = 65_536  # bytes to ask for: most messages arrive whole


class _Collecting:
    """Takes a server's procedures from its clerk."""

    convention: Convention = "argument pointer"
    entries: list[Entry]

    def register(
        self, name: str, interface: str, descriptors: tuple[ProcedureDescriptor, ...], clerk: Authoriser, server: object
    ) -> None:
        """Keep the server stubs."""
        self.entries = [one.entry for one in descriptors]


def serve_messages(interface: type[Interface], server: object, reading: int, writing: int) -> None:
    """Serve calls that arrive on the descriptor `reading`, until its end of file."""
    exporting = _Collecting()
    Clerk().export(exporting, interface, server, "messages")
    entries = exporting.entries
    while (message := _receive(reading)) is not None:
        number, data = message
        kind = RESULTS
        if number < len(entries):
            try:
                result = entries[number](data, 0)
            except Exception as error:
                kind, result = as_reply(error)
        else:
            kind, result = NO_SUCH_PROCEDURE, b""
        _send(writing, kind, result)


def bind_messages(interface: type[I], reading: int, writing: int) -> I:
    """Return an object whose methods call the server at the other end, one call at a time.

    A method raises `CallFailed` where the server has ended, and what a stub of `bind` raises.
    """
    made = interface.__new__(interface)
    for number, procedure in enumerate(interface.procedures):
        vars(made)[procedure.name] = _stub(procedure, number, reading, writing)
    return made


def _stub(procedure: Procedure, number: int, reading: int, writing: int) -> Callable[..., object]:
    arguments, results, single = procedure.arguments, procedure.results, procedure.single

    def call(*values: object) -> object:
        _send(writing, number, pack(arguments, values))
        message = _receive(reading)
        if message is None:
            raise CallFailed(f"{arguments.procedure}: the server has ended")
        kind, data = message
        if kind != RESULTS:
            raise error_of(procedure, kind, data)
        returned = results.unpack(data, 0)
        return returned[0] if single else returned or None

    return call


def _send(writing: int, number: int, data: bytes) -> None:
    message = _HEAD.pack(len(data), number) + data
    sent = os.write(writing, message)
    if sent < len(message):
        rest = memoryview(message)[sent:]
        while rest:
            rest = rest[os.write(writing, rest) :]


def _receive(reading: int) -> tuple[int, bytes] | None:
    """Return the next message; None at the end of file. Calls alternate: none follows another."""
    data = os.read(reading, _AT_ONCE)
    while 0 < len(data) < _HEAD.size:
        more = os.read(reading, _AT_ONCE)
        if not more:
            return None
        data += more
    if not data:
        return None
    size, number = _HEAD.unpack_from(data)
    if size > _MOST_MESSAGE:
        return None
    need = size + _HEAD.size - len(data)
    if need > 0:
        parts = [data]
        while need > 0:
            more = os.read(reading, min(need, 1 << 20))
            if not more:
                return None
            parts.append(more)
            need -= len(more)
        data = b"".join(parts)
    return cast(int, number), data[_HEAD.size :]
