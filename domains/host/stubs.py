"""Client stubs of the host kernel: they block a thread, or are awaited.

A stub packs its arguments, has the native part transfer the call, and unpacks the results. All else
is off that path: arguments or results that find no room on an A-stack, and errors.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Final

from lrpc.domains.host.turns import Turns
from lrpc.domains.interface import Procedure
from lrpc.domains.stubs import in_order, pack, refer
from lrpc.kernel.errors import ArgumentError, BindingRefused, CallFailed, NoSuchProcedure, raised
from lrpc.kernel.host import native
from lrpc.kernel.host.client import ABORTED, COLLECT, NEVER, PENDING, WITHDRAWN, ClientBinding, Reply
from lrpc.kernel.host.workers import NO_SUCH_PROCEDURE, RAISED, WRONG_ARGUMENT

# The deadline of calls in this context, in nanoseconds of the monotonic clock.
current_deadline: Final[ContextVar[int]] = ContextVar("deadline_ns", default=NEVER)
Told = Callable[[Reply], None]
Early = Callable[[bytes], None]
_MOST_NOTICES: Final = 64  # that are taken at once
_LONG_S: Final = 1e9  # seconds: a deadline beyond is none
_MOST_TEXT: Final = 16_384  # characters of an exception that cross a boundary
MOST_ERROR: Final = 1 << 18  # bytes of a reply that says what was raised, at most


@contextlib.contextmanager
def until(seconds: float) -> Iterator[None]:
    """Give all calls within a `with` block a deadline: see `lrpc.deadline`."""
    outer = current_deadline.get()
    end = outer
    if seconds <= _LONG_S:  # longer is none, and what is not a number is none either
        end = max(0, native.now_ns() + int(seconds * 1e9))
        end = end if outer == NEVER else min(end, outer)
    token = current_deadline.set(end)
    try:
        yield
    finally:
        current_deadline.reset(token)


def as_reply(error: BaseException) -> tuple[int, bytes]:
    """Return the kind and the bytes of the reply for what a procedure raised.

    What it raised may be anything: its text, its notes and its class are the user's code.
    """
    try:
        if isinstance(error, ArgumentError):
            return WRONG_ARGUMENT, str(error)[:_MOST_TEXT].encode(errors="replace")
        found = raised(error)
        notes = list(getattr(found, "__notes__", ()))
        fields = [found.kind[:200], found.message[:_MOST_TEXT], [str(note)[:1000] for note in notes[:10]]]
    except BaseException as other:
        fields = [type(error).__name__[:200], f"(it cannot say what: {type(other).__name__})", []]
    return RAISED, json.dumps(fields).encode()[:MOST_ERROR]


def error_of(procedure: Procedure, kind: int, data: bytes) -> Exception:
    """Return the exception for a reply without results. What the server wrote is checked."""
    where = procedure.arguments.procedure
    if kind == WRONG_ARGUMENT:
        return ArgumentError(data.decode(errors="replace"))
    if kind == NO_SUCH_PROCEDURE:
        return NoSuchProcedure(f"{where}: the server has no such procedure")
    try:
        name, message, notes = json.loads(data)
        found = procedure.error(str(name), str(message))
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


class GrowingStub:
    """One procedure, called through a later region of A-stacks where all before are in use.

    A region is a binding of its own; all procedures of one import share the regions.
    """

    def __init__(self, number: int, regions: list[list[HostStub]], more: Callable[[], list[HostStub]]) -> None:
        self._number, self._regions, self._more = number, regions, more

    def __call__(self, *values: object, **named: object) -> object:
        """Call the procedure; return its result, a tuple of several, or None."""
        number = self._number
        for region in self._regions:
            stub = region[number]
            if stub.binding.native.idle(stub.group):
                return stub(*values, **named)
        try:
            region = self._more()
        except BindingRefused:  # it has as many as it may: wait
            return self._regions[0][number](*values, **named)
        self._regions.append(region)
        return region[number](*values, **named)


class AwaitedCalls:
    """The outstanding calls of an event loop through one binding.

    The server sends a message when one is done, which wakes the loop; so does the end of the
    server.
    """

    def __init__(self, binding: ClientBinding) -> None:
        self.binding = binding
        self.loop = asyncio.get_running_loop()
        # By A-stack, who is told of its reply, and of what comes before.
        self._waiting: dict[int, tuple[Told, Early | None]] = {}
        self._queue: deque[asyncio.Future[None]] = deque()  # who waits for an A-stack
        self._looks = False  # whether the loop will look for free A-stacks by itself
        self._turns = Turns(self.loop)
        binding.on_early = self._from_any_thread
        assert binding.notify is not None
        self.loop.add_reader(binding.notify, self._notified)
        self.loop.add_reader(binding.door, self._ended)
        if binding.pidfd >= 0:
            self.loop.add_reader(binding.pidfd, self._end)

    def start(self, group: int, procedure: int, data: bytes, index: int, told: Told, early: Early | None) -> Reply:
        """Begin a call; return its A-stack, or PENDING where none is free, or as `call`.

        `told` is called with the reply, and `early` with what the server says of the call before.
        """
        began = self.binding.native.begin(group, procedure, data, index)
        if type(began) is int and began >= 0:
            self._waiting[began] = told, early
        return began

    def stop(self, index: int) -> Reply:
        """Give up the call that was started on an A-stack; return its reply, where it has one."""
        self._waiting.pop(index, None)
        reply = self.binding.native.abort(index)
        if reply == ABORTED:
            self.binding.ring()
        self._admit()
        return reply

    async def call(
        self, group: int, procedure: int, data: bytes, end: int, index: int = -1, early: Early | None = None
    ) -> Reply:
        """Make a call; return as `native.Binding.call` does. For `early`, see `start`."""
        own = self.binding.native
        if end != NEVER and native.now_ns() >= end:  # even where the answer could come first
            if index >= 0:
                own.release(index)
            return WITHDRAWN
        future: asyncio.Future[Reply] = self.loop.create_future()
        replies: list[Reply] = []  # also one that comes when the future is cancelled, and nobody has noticed

        def told(reply: Reply) -> None:
            replies.append(reply)
            if not future.done():
                future.set_result(reply)

        while True:
            began = self.start(group, procedure, data, index, told, early)
            if began != PENDING:
                break
            waiter: asyncio.Future[None] = self.loop.create_future()
            self._queue.append(waiter)
            self._look()
            try:
                async with asyncio.timeout_at(self._loop_time(end)):
                    await waiter
            except BaseException as error:
                if waiter.done() and not waiter.cancelled():
                    self._admit()  # it was this one's turn: pass it on
                if isinstance(error, TimeoutError):
                    return WITHDRAWN
                raise
            finally:
                if waiter in self._queue:
                    self._queue.remove(waiter)
        if type(began) is not int or began < 0:
            return began
        try:
            async with asyncio.timeout_at(self._loop_time(end)):
                return await future
        except (TimeoutError, asyncio.CancelledError) as error:
            reply = replies[0] if replies else self.stop(began)
            if isinstance(error, asyncio.CancelledError):
                if isinstance(reply, tuple) and len(reply) == 4:
                    own.release(reply[1])  # results that found no room, and that nobody wants
                raise
            return reply

    def _from_any_thread(self, index: int, number: int, data: bytes) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self._tell_early, index, number, data)

    def _tell_early(self, index: int, number: int, data: bytes) -> None:
        _, early = self._waiting.get(index, (None, None))
        if early is not None and self.binding.native.number(index) == number:
            early(data)

    def _loop_time(self, end: int) -> float | None:
        return None if end == NEVER else self.loop.time() + (end - native.now_ns()) / 1e9

    def _notified(self) -> None:
        """Settle the calls that are done, and run who waits for them."""
        is_first, waiting = self._turns.begin(), self._waiting
        # Of one call, the reply is settled before its notice is taken: who waits goes on first. The
        # oldest notice was there before we looked, so that none is taken unlooked for.
        one = len(waiting) <= 1
        if not one:
            self._take_notices(_MOST_NOTICES)
        found = self._settle()
        if found or not one:
            self._admit()
            if is_first:
                self._turns.run()
        if one:
            self._take_notices(1)
            if not found:
                self._settle()
                self._admit()

    def _take_notices(self, most: int) -> None:
        notify = self.binding.notify
        with contextlib.suppress(OSError):
            while most > 0 and notify is not None and notify.recv(16):
                most -= 1

    def _settle(self) -> bool:
        """Tell of the calls that are done; return whether there were any."""
        waiting, collect, found = self._waiting, self.binding.native.collect, False
        for index in list(waiting):
            if index in waiting and (reply := collect(index)) != PENDING:  # who was told may stop others
                waiting.pop(index)[0](reply)
                found = True
        return found

    def _admit(self) -> None:
        if self._queue and not (first := self._queue.popleft()).done():
            first.set_result(None)

    def _look(self) -> None:
        """Let the first in the queue try again soon: calls that block threads free A-stacks too."""
        if self._queue and not self._looks:
            self._looks = True
            self.loop.call_later(0.01, self._look_again)

    def _look_again(self) -> None:
        self._looks = False
        self._admit()
        self._look()

    @property
    def busy(self) -> bool:
        """Return whether calls are outstanding, in a loop that still runs."""
        return bool(self._waiting or self._queue) and not self.loop.is_closed()

    def _ended(self) -> None:
        # What comes over the door is its end, or the late answer to an out-of-band segment.
        if self.binding.has_ended or not self.binding.take_late_answers():
            self._end()

    def _end(self) -> None:
        self.close()
        self.binding.native.end()
        self._settle()
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

    def __init__(
        self, binding: ClientBinding, procedure: Procedure, number: int, calls: dict[object, AwaitedCalls]
    ) -> None:
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
            for other in self._calls.values():
                if other.busy:
                    raise CallFailed(
                        f"{self.binding.name}: another event loop has calls outstanding; bind once for each loop"
                    )
                other.close()
            self._calls.clear()
            calls = self._calls[loop] = AwaitedCalls(self.binding)
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
