"""The way of a call: an A-stack, or in the end gRPC.

The usual call takes no task of its own: it begins where it is made, and the notice of its end
settles it. A task is made for all else: the first decision, messages that find no room on an
A-stack, servers that have gone.
"""

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import grpc

from lrpc.cluster.channel.aio.calls import FAILED, AwaitedUnaryCall
from lrpc.cluster.channel.form import LONG_DETAILS, NEVER, OK, STOPPING, TAKE_GRPC, Malformed, unpack_reply
from lrpc.cluster.channel.methods import EXHAUSTED, INTERNAL, LATE, UNAVAILABLE
from lrpc.kernel.errors import CallError

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.cluster.channel.aio.channel import AwaitedUnaryUnary
    from lrpc.domains.host.stubs import AwaitedCalls
    from lrpc.kernel.host.client import ClientBinding, Reply

_LOG = logging.getLogger("lrpc.channel")
_HEAD: Final = len(OK)
Given = tuple[Any, float | None, Any, bool | None, Any]  # request, time-out, metadata, wait for ready, compression


class ChannelCall(AwaitedUnaryCall):
    """A call that a channel for asyncio makes. `given` is for gRPC, where it goes that way."""

    _task: asyncio.Task[None] | None = None
    _timer: asyncio.TimerHandle | None = None
    calls: "AwaitedCalls | None" = None  # by the binding that it takes
    _reply: "Reply | None" = None  # from which the task goes on, until it begins
    _index: int = -1  # of the A-stack on which it runs, where it has no task

    def __init__(self, stub: "AwaitedUnaryUnary", packed: bytes, until: int, given: Given, now: int) -> None:
        channel = self._channel = stub.channel
        assert channel.loop is not None  # it is the running one: whoever makes a call has looked
        super().__init__(channel.loop, given[1])
        self._stub, self._packed, self._until_ns, self._given = stub, packed, until, given
        channel.outstanding.add(self)
        calls = channel.calls
        if calls is None or now >= channel.again_ns or 0 <= until <= now:
            self._go_on(None)
            return
        self.calls = calls
        began = calls.start(0, 0, packed, -1, self._told, self.set_early)
        if type(began) is not int or began < 0:
            self._go_on(began)
            return
        self._index = began
        if until != NEVER:
            self._timer = self._loop.call_later((until - now) / 1e9, self._late)

    def stop(self) -> None:
        """Stop the call: it was cancelled."""
        if self._task is not None:
            self._task.cancel()
        elif self._index >= 0 and self.calls is not None:
            index, self._index = self._index, -1
            _let_go(self.calls, self.calls.stop(index))
            self._leave()

    def _leave(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        channel = self._channel
        channel.outstanding.discard(self)
        if channel.left and self.calls is not None:
            channel.done(self.calls)

    def _told(self, reply: "Reply") -> None:
        """Take the reply of the call."""
        self._index = -1
        if type(reply) is bytes and reply.startswith(OK) and len(reply) - _HEAD <= self._channel.most_received:
            self._return(reply[_HEAD:])
            self._leave()
        else:
            self._go_on(reply)

    def _late(self) -> None:
        index, self._index = self._index, -1
        if index >= 0 and self.calls is not None:
            self._told(self.calls.stop(index))

    def _return(self, message: bytes) -> None:
        """End the call with a message."""
        self._channel.local_calls += 1
        response: Any = message
        self.set_status(0)
        deserializer = self._stub.deserializer
        if deserializer is not None:
            try:
                response = deserializer(message)
            except Exception:
                _LOG.exception("Exception deserializing message!")
                response = None
        if not self._response.done():
            self._response.set_result(response)

    # --- by a task -------------------------------------------------------------------------------

    def _go_on(self, reply: "Reply | None") -> None:
        """Go on by a task, from what the A-stack has returned where the call has begun there."""
        self._reply = reply
        self._task = self._loop.create_task(self._find())
        self._task.add_done_callback(self._found)

    def _found(self, task: asyncio.Task[None]) -> None:
        if self._reply is not None and self.calls is not None:  # it was cancelled before it began
            _let_go(self.calls, self._reply)
        self._leave()
        if task.cancelled():
            self.cancel()  # with the loop; or it was cancelled before
            return
        error = task.exception()
        if error is None:
            self.settle(FAILED)  # unless it was settled with a response
        elif not self._response.done():
            self._response.set_exception(error)

    async def _find(self) -> None:
        from lrpc.kernel.host.client import NoRoom, TooLarge

        until, channel = self._until_ns, self._channel
        reply, self._reply = self._reply, None
        if reply is None:
            if until != NEVER and self._stub.now() >= until:
                self.set_status(LATE, "Deadline Exceeded")
                return
            self.calls = await self._bound()
            if self.calls is None:
                await self._by_grpc()
                return
            reply = await self.calls.call(0, 0, self._packed, until, -1, self.set_early)
        assert self.calls is not None
        binding = self.calls.binding
        try:
            reply = await self._with_room(self.calls, reply)
        except (NoRoom, TooLarge) as error:
            self.set_status(EXHAUSTED, f"CLIENT: Received message larger than max: {error}")
            return
        except CallError as error:
            self._fail(binding, error)
            return
        if type(reply) is int:
            await self._unanswered(binding, reply)
            return
        if type(reply) is not bytes:
            self.set_status(INTERNAL, f"the server's end of the A-stack failed: {str(reply)[:200]}")
            return
        try:
            code, details, initial, trailing, message = unpack_reply(reply)
        except Malformed as error:
            self.set_status(INTERNAL, f"the server answered with {error}")
            return
        if code in (TAKE_GRPC, STOPPING):
            if code == TAKE_GRPC:
                self._stub.streams = True
            else:
                channel.leave(self.calls)
            await self._by_grpc()
            return
        if initial or trailing or len(details) > LONG_DETAILS:
            code, details, initial, trailing = channel.received(code, details, initial, trailing)
        if code:
            channel.local_calls += 1
            self.set_status(code, details, initial, trailing)
        elif len(message) > channel.most_received:
            channel.local_calls += 1
            text = f"CLIENT: Received message larger than max ({len(message)} vs. {channel.most_received})"
            self.set_status(EXHAUSTED, text)
        else:
            self.set_metadata(initial, trailing)
            self._return(message)  # gRPC passes no details of OK

    async def _bound(self) -> "AwaitedCalls | None":
        """Return the calls by the binding; None also where there is none by the deadline."""
        if self._until_ns == NEVER:
            return await self._channel.bound(self._stub.now())
        try:
            async with asyncio.timeout((self._until_ns - self._stub.now()) / 1e9):
                return await self._channel.bound(self._stub.now())
        except TimeoutError:
            return None

    async def _by_grpc(self) -> None:
        request, _, metadata, wait_for_ready, compression = self._given
        call = self._stub.by_grpc((request, self.time_left(), metadata, wait_for_ready, compression))
        self.go_beside(call)
        try:
            self.settle(await call)
        except grpc.aio.AioRpcError:
            self.settle(FAILED)  # whoever awaits this call gets the error from that one

    async def _with_room(self, calls: "AwaitedCalls", reply: "Reply") -> "Reply":
        """Bring a call to its end whose request or response has found no room."""
        from lrpc.domains.host.loops import in_thread
        from lrpc.kernel.host.client import BROKEN, COLLECT, PENDING, UNTAKEN

        procedure, data = 0, self._packed
        for _ in range(2):  # once for the request, once for the response
            if type(reply) is not tuple or len(reply) != 4:
                return reply
            making = in_thread(partial(calls.binding.make_room, reply, self._until_ns))
            try:
                index = await asyncio.shield(making)
            except asyncio.CancelledError:
                making.add_done_callback(lambda made: _release(calls.binding, made))
                raise
            except CallError:
                if reply[3]:
                    raise
                return UNTAKEN if calls.binding.has_ended else PENDING  # nothing was sent: gRPC may take it
            if reply[3]:  # the handler has run; its response found no room
                procedure, data = COLLECT, b""
            reply = await calls.call(0, procedure, data, self._until_ns, index, self.set_early)
        if type(reply) is tuple and len(reply) == 4:
            calls.binding.native.end()  # a server that is never content with what it asked for
            return BROKEN
        return reply

    async def _unanswered(self, binding: "ClientBinding", reply: int) -> None:
        """End a call that the server has not answered, or have it go by gRPC."""
        from lrpc.kernel.host.client import PENDING, QUARANTINED, UNTAKEN

        binding.take_late_answers()
        if reply == UNTAKEN:
            self._channel.broken()
        if reply in (UNTAKEN, QUARANTINED, PENDING):  # which is that no A-stack is free
            await self._by_grpc()
        else:
            self._fail(binding, binding.error(reply))

    def _fail(self, binding: "ClientBinding", error: CallError) -> None:
        """End a call with the status for what ended it on the A-stack."""
        if binding.has_ended:
            self._channel.broken()
            self.set_status(UNAVAILABLE, f"the server ended while it had the call: {error}")
        elif self._until_ns != NEVER and self._stub.now() >= self._until_ns:
            self.set_status(LATE, "Deadline Exceeded")
        else:
            self.set_status(UNAVAILABLE, str(error))


def _let_go(calls: "AwaitedCalls", reply: "Reply") -> None:
    """Release the A-stack of a message without room, that nobody wants."""
    if isinstance(reply, tuple) and len(reply) == 4:
        calls.binding.native.release(reply[1])


def _release(binding: "ClientBinding", made: "asyncio.Future[int]") -> None:
    """Release the A-stack of a call that was cancelled while room was made for it."""
    if made.exception() is None:
        binding.native.release(made.result())
