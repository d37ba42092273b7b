"""Records what a domain does while it lasts: procedures that run in it, and calls that it makes.

Each is a slice of the thread that does it. Server stubs are wrapped as a client binds, and client
stubs as they are made, so that a domain that records nothing pays nothing.
"""

import inspect
import threading
from collections.abc import Callable, Sequence
from typing import NamedTuple

from lrpc.kernel.descriptors import Entry
from lrpc.kernel.host import native


class LiveSlice(NamedTuple):
    """A procedure or a call, from when until when, in nanoseconds of the monotonic clock."""

    begin_ns: int
    end_ns: int
    thread: str
    category: str  # who has called, or that it is a call of this domain's own
    name: str  # of interface and procedure


class LiveTimeline:
    """The slices of a domain, in the order of their ends, and at most so many."""

    def __init__(self, most: int) -> None:
        self.slices: list[LiveSlice] = []
        self.left_out = 0
        self._most = most

    def entries(self, client: str, interface: str, names: Sequence[str], entries: Sequence[Entry]) -> list[Entry]:
        """Return the server stubs of one binding, with what they do recorded."""
        category = f"called by {client}"
        return [self._entry(category, f"{interface}.{name}", one) for name, one in zip(names, entries, strict=True)]

    def _entry(self, category: str, name: str, entry: Entry) -> Entry:
        def enter(buffer: bytes | bytearray, offset: int) -> bytes:
            begin = native.now_ns()
            try:
                return entry(buffer, offset)
            finally:
                self._add(begin, category, name)

        return enter

    def stub(self, name: str, stub: Callable[..., object]) -> Callable[..., object]:
        """Return a client stub, with its calls recorded."""
        if inspect.iscoroutinefunction(stub) or inspect.iscoroutinefunction(getattr(stub, "__call__", None)):  # noqa: B004 - it is called

            async def awaited(*values: object, **named: object) -> object:
                begin = native.now_ns()
                try:
                    return await stub(*values, **named)  # type: ignore[misc]  # it is a coroutine function
                finally:
                    self._add(begin, "call", name)

            return awaited

        def call(*values: object, **named: object) -> object:
            begin = native.now_ns()
            try:
                return stub(*values, **named)
            finally:
                self._add(begin, "call", name)

        return call

    def _add(self, begin: int, category: str, name: str) -> None:
        if len(self.slices) < self._most:
            self.slices.append(LiveSlice(begin, native.now_ns(), threading.current_thread().name, category, name))
        else:
            self.left_out += 1
