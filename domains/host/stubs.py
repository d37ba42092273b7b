"""Client stubs of the host kernel: they block a thread, or are awaited.

A stub packs its arguments, has the native part transfer the call, and unpacks the results. All else
is off that path: arguments or results that find no room on an A-stack, and errors.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Final

from lrpc.domains.interface import Procedure
from lrpc.domains.stubs import in_order, pack, refer
from lrpc.kernel.errors import ArgumentError, CallFailed, NoSuchProcedure, ProcedureRaised, raised
from lrpc.kernel.host import native
from lrpc.kernel.host.client import COLLECT, NEVER, PENDING, ClientBinding, Reply
from lrpc.kernel.host.workers import NO_SUCH_PROCEDURE, RAISED, WRONG_ARGUMENT

# The deadline of calls in this context, in nanoseconds of the monotonic clock.
current_deadline: Final[ContextVar[int]] = ContextVar("deadline_ns", default=NEVER)
_MOST_TEXT: Final = 16_384  # characters of an exception that cross a boundary


@contextlib.contextmanager
def until(seconds: float) -> Iterator[None]:
    """Give all calls within a `with` block a deadline: see `lrpc.deadline`."""
    end = native.now_ns() + int(seconds * 1e9)
    outer = current_deadline.get()
    token = current_deadline.set(end if outer == NEVER else min(end, outer))
    try:
        yield
    finally:
        current_deadline.reset(token)


def as_reply(error: Exception) -> tuple[int, bytes]:
    """Return the kind and the bytes of the reply for what a procedure raised."""
    if isinstance(error, ArgumentError):
        return WRONG_ARGUMENT, str(error)[:_MOST_TEXT].encode(errors="replace")
    found = raised(error)
    notes = list(getattr(found, "__notes__", ()))
    fields = [found.kind[:200], found.message[:_MOST_TEXT], [str(note)[:1000] for note in notes[:10]]]
    return RAISED, json.dumps(fields).encode()


def error_of(procedure: Procedure, kind: int, data: bytes) -> Exception:
    """Return the exception for a reply without results. What the server wrote is checked."""
    where = procedure.arguments.procedure
    if kind == WRONG_ARGUMENT:
        return ArgumentError(data.decode(errors="replace"))
    if kind == NO_SUCH_PROCEDURE:
        return NoSuchProcedure(f"{where}: the server has no such procedure")
    try:
        name, message, notes = json.loads(data)
        found: Exception = ProcedureRaised(str(name), str(message))
        for one in procedure.raises:
            if one.__name__ == name:
                found = one(str(message))
        for note in notes:
            found.add_note(str(note))
    except (ValueError, TypeError, RecursionError):
        return CallFailed(f"{where}: the server answered with an error that cannot be read")
    return found if kind == RAISED else CallFailed(f"{where}: the server answered in a way that lrpc does not know")


class HostStub:
    """One procedure of a binding, called like the procedure: by position or by name.

    Raises `ArgumentError` before anything is sent, what the procedure declares to raise, and the
    `CallError` with which the call ended.
    """

    def __init__(self, binding: ClientBinding, procedure: Procedure, number: int) -> None:
        self.binding = binding
        self.procedure = procedure
        self.number = number
        self.group = binding.groups[number]

    def __call__(self, *values: object, **named: object) -> object:
        """Call the procedure; return its result, a tuple of several, or None."""
        arguments = self.procedure.arguments
        if named:
            values = in_order(arguments, values, named)
        packed = pack(arguments, values)
        end = current_deadline.get()
        reply = self.binding.native.call(self.group, self.number, packed, end, -1)
        if type(reply) is not bytes:
            reply = self.finish(reply, packed, end)
        return self.returned(reply, values)

    def finish(self, reply: Reply, packed: bytes, end: int) -> bytes:
        """Bring a call to its end that has not simply returned; return the packed results."""
        kind, data = self.binding.finish(reply, self.group, self.number, end, packed)
        if kind:
            raise error_of(self.procedure, kind, data)
        return data

    def returned(self, reply: bytes, values: tuple[object, ...]) -> object:
        """Return what the procedure has returned; copy referents back to `values`."""
        try:
            results = self.procedure.results.unpack(reply, 0)
        except ArgumentError as error:
            raise CallFailed(f"{self.binding.name}: the server returned what its interface does not: {error}") from None
        if self.procedure.arguments.references:
            results = refer(self.procedure.arguments, values, results)
        return results[0] if self.procedure.single else results or None


class Calls:
    """The outstanding calls of an event loop through one binding.

    The server sends a message when one is done, which wakes the loop; so does the end of the
    server.
    """

    def __init__(self, binding: ClientBinding) -> None:
        self.binding = binding
        self.loop = asyncio.get_running_loop()
        self._futures: dict[int, asyncio.Future[Reply]] = {}
        self._queue: deque[asyncio.Future[None]] = deque()  # who waits for an A-stack
        assert binding.notify is not None
        self.loop.add_reader(binding.notify, self._notified)
        self.loop.add_reader(binding.door, self._ended)
        if binding.pidfd >= 0:
            self.loop.add_reader(binding.pidfd, self._end)

    async def call(self, group: int, procedure: int, data: bytes, end: int, index: int = -1) -> Reply:
        """Make a call; return as `native.Binding.call` does."""
        own = self.binding.native
        while True:
            began = own.begin(group, procedure, data, index)
            if began != PENDING:
                break
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._queue.append(waiter)
            try:
                async with asyncio.timeout_at(self._loop_time(end)):
                    await waiter
            except TimeoutError:
                return -3  # withdrawn: no A-stack was free
            finally:
                if waiter in self._queue:
                    self._queue.remove(waiter)
        if type(began) is not int or began < 0:
            return began
        future: asyncio.Future[Reply] = self.loop.create_future()
        self._futures[began] = future
        self._notified()  # it may be done, or its server ended, already
        try:
            async with asyncio.timeout_at(self._loop_time(end)):
                return await future
        except (TimeoutError, asyncio.CancelledError) as error:
            self._futures.pop(began, None)
            reply = future.result() if future.done() and not future.cancelled() else own.abort(began)
            self._admit()
            if isinstance(error, asyncio.CancelledError):
                raise
            return reply

    def _loop_time(self, end: int) -> float | None:
        return None if end == NEVER else self.loop.time() + (end - native.now_ns()) / 1e9

    def _notified(self) -> None:
        notify = self.binding.notify
        with contextlib.suppress(OSError):
            while notify is not None and notify.recv(16):
                pass
        for index, future in list(self._futures.items()):
            reply = self.binding.native.collect(index)
            if reply != PENDING:
                del self._futures[index]
                if not future.done():
                    future.set_result(reply)
        self._admit()

    def _admit(self) -> None:
        if self._queue and not (first := self._queue.popleft()).done():
            first.set_result(None)

    def _ended(self) -> None:
        if self.binding.has_ended:
            self._end()

    def _end(self) -> None:
        self.close()
        self.binding.native.end()
        self._notified()
        while self._queue:
            self._admit()

    def close(self) -> None:
        """Stop listening."""
        for one in (self.binding.notify, self.binding.door, self.binding.pidfd):
            if one is not None and not (isinstance(one, int) and one < 0):
                with contextlib.suppress(ValueError, OSError):
                    self.loop.remove_reader(one)


class AwaitedStub(HostStub):
    """One procedure of a binding, whose calls are awaited: the event loop runs on meanwhile."""

    def __init__(self, binding: ClientBinding, procedure: Procedure, number: int, calls: dict[object, Calls]) -> None:
        super().__init__(binding, procedure, number)
        self._calls = calls  # of this binding, by event loop

    async def __call__(self, *values: object, **named: object) -> object:
        """Call the procedure; return its result, a tuple of several, or None."""
        if named:
            values = in_order(self.procedure.arguments, values, named)
        arguments = self.procedure.arguments
        packed = pack(arguments, values)
        end = current_deadline.get()
        loop = asyncio.get_running_loop()
        calls = self._calls.get(loop)
        if calls is None:
            self._calls.clear()  # of loops that have ended: a binding belongs to one at a time
            calls = self._calls[loop] = Calls(self.binding)
        index, number, data = -1, self.number, packed
        while True:
            reply = await calls.call(self.group, number, data, end, index)
            if type(reply) is bytes:
                break
            if type(reply) is int:
                self.binding.take_late_answers()
                raise self.binding.error(reply)
            assert isinstance(reply, tuple)
            if len(reply) == 2:
                raise error_of(self.procedure, *reply)
            index = self.binding.make_room(reply, end)
            if reply[3]:  # the procedure has run; its results found no room
                number, data = COLLECT, b""
        return self.returned(reply, values)
