"""Calls that an event loop takes and answers, with no worker's thread in between.

The loop listens to the door of each binding. A client that rings has called, or has given a call
up; the loop looks which, hands calls to whoever runs them, and answers when it is told to. Nobody
stays with an A-stack between calls, so that each call rings.
"""

import asyncio
import base64
import contextlib
import socket
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from lrpc.kernel.host import messages, native
from lrpc.kernel.host.bindings import ServerBinding
from lrpc.kernel.host.messages import BadMessage
from lrpc.kernel.host.server import HostServer
from lrpc.kernel.host.workers import RESULTS

T = TypeVar("T")


class LoopCall:
    """A call that an event loop has taken, to be answered once."""

    __slots__ = ("_calls", "_worker", "binding", "data", "index", "on_gone", "procedure")

    def __init__(
        self, calls: "LoopCalls", worker: native.Worker, binding: ServerBinding, index: int, procedure: int, data: bytes
    ) -> None:
        self._calls = calls
        self._worker: native.Worker | None = worker
        self.binding, self.index, self.procedure, self.data = binding, index, procedure, data
        self.on_gone: Callable[[], object] | None = None  # called where nobody waits for the answer any more

    @property
    def answered(self) -> bool:
        """Return whether it was answered, or given up."""
        return self._worker is None

    def answer(self, data: bytes, kind: int = RESULTS) -> None:
        """Answer the call. Does nothing where it was answered or given up before."""
        worker = self._worker
        if worker is not None:
            self._worker = None
            self._calls.answered(self, worker, data, kind)

    def tell(self, data: bytes) -> None:
        """Tell the client something of the call before its answer, where the client listens."""
        if self.binding.hears and not self.answered:
            fields = {"early": [self.index, self.binding.native.number(self.index), base64.b64encode(data).decode()]}
            with contextlib.suppress(OSError):  # full, or gone: the answer will say it again
                messages.send(self.binding.door, fields)

    def give_up(self) -> None:
        """Let go of the A-stack: its client has aborted the call, or has ended."""
        if not self.answered:
            self.answer(b"")
            if self.on_gone is not None:
                self.on_gone()


class LoopCalls:
    """The calls of all bindings of a server, taken by one event loop.

    `take` is called in the loop with each call. It stands in the place of a server's workers.
    """

    listens = True

    def __init__(self, server: HostServer, loop: asyncio.AbstractEventLoop, take: Callable[[LoopCall], None]) -> None:
        self._server, self._loop, self._take = server, loop, take
        self._doors: dict[ServerBinding, socket.socket] = {}  # the loop's own copies
        self._running: dict[tuple[ServerBinding, int], LoopCall] = {}
        self._free: list[native.Worker] = []

    @property
    def count(self) -> int:
        """Return how many calls run."""
        return len(self._running)

    @property
    def busy(self) -> bool:
        """Return whether a call runs."""
        return bool(self._running)

    def attend(self, binding: ServerBinding) -> None:
        """Have the loop listen to a binding; called by any thread."""
        self._soon(self._listen, binding)

    def drain(self, seconds: float) -> None:
        """Return at once: who stops a loop's server waits in the loop."""

    def close(self) -> None:
        """Give up all calls, and listen no more; called by any thread."""
        self._soon(self._close)

    def join(self, seconds: float) -> bool:
        """Return True: there are no threads to wait for."""
        return True

    def answered(self, call: LoopCall, worker: native.Worker, data: bytes, kind: int) -> None:
        """Answer a call; its worker can take another."""
        self._running.pop((call.binding, call.index), None)
        worker.reply(kind, data, False, 0)
        self._free.append(worker)

    def _soon(self, action: Callable[..., None], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(action, *values)

    def _listen(self, binding: ServerBinding) -> None:
        if binding in self._doors or binding.native.ended:
            return
        try:
            door = binding.door.dup()
        except OSError:  # it ended meanwhile
            return
        door.setblocking(False)
        self._doors[binding] = door
        binding.on_end.add(lambda: self._soon(self._forget, binding))
        self._loop.add_reader(door, self._hear, binding, door)
        if binding.native.ended:
            self._forget(binding)
        else:
            self._look(binding)

    def _hear(self, binding: ServerBinding, door: socket.socket) -> None:
        """Take what has come over a door."""
        try:
            message = messages.receive(door)
        except (BlockingIOError, InterruptedError):
            return
        except (BadMessage, OSError):
            message = None
        if message is None:
            self._forget(binding)
        elif message is messages.BELL or message.fields.get("bell") is True:
            message.close()
            if (self._look(binding) or not self._server.is_restless(binding)) and not binding.native.ended:
                return
            self._forget(binding)
            message = None
        self._server.heard(binding, message)

    def _look(self, binding: ServerBinding) -> bool:
        """Take new calls, and give up those that were aborted; return whether there were any."""
        own = binding.native
        found = own.unattended()
        for index in found:
            worker = self._free.pop() if self._free else native.Worker()
            taken = worker.serve(own, index, 0)
            if taken is None:
                self._free.append(worker)
                continue
            call = LoopCall(self, worker, binding, index, *taken)
            self._running[binding, index] = call
            self._take(call)
        gone = own.aborted() if not found else ()
        for index in gone:
            if (running := self._running.get((binding, index))) is not None:
                running.give_up()
        return bool(found or gone)

    def _forget(self, binding: ServerBinding) -> None:
        door = self._doors.pop(binding, None)
        if door is not None:
            self._loop.remove_reader(door)
            door.close()
        for (other, _), call in list(self._running.items()):
            if other is binding:
                call.give_up()

    def _close(self) -> None:
        for binding in list(self._doors):
            self._forget(binding)


def in_thread(function: Callable[..., T], *values: object) -> "asyncio.Future[T]":
    """Run a function that blocks in a thread of its own; return its result's future.

    The loop's own executor is left to the program, which may have filled it with what waits for us.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def tell(action: Callable[[Any], None], value: object) -> None:
        if not future.done():
            action(value)

    def run() -> None:
        try:
            told: tuple[Callable[[Any], None], object] = future.set_result, function(*values)
        except BaseException as error:
            told = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=run, name="lrpc waits", daemon=True).start()
    return future
