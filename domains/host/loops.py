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
from typing import Any, Final, TypeVar

from lrpc.domains.host.turns import Turns
from lrpc.kernel.host import messages, native
from lrpc.kernel.host.bindings import ServerBinding
from lrpc.kernel.host.messages import BadMessage, DoorMessage
from lrpc.kernel.host.server import HostServer
from lrpc.kernel.host.workers import RESULTS

T = TypeVar("T")
_BELL: Final = ord("b")
MOST_BELLS: Final = 64  # that are heard at once


class LoopCall:
    """A call that an event loop has taken, to be answered once."""

    __slots__ = ("_door", "_worker", "data", "index", "on_gone", "procedure")

    def __init__(self, door: "_LoopDoor", worker: native.Worker, index: int, procedure: int, data: bytes) -> None:
        self._door = door
        self._worker: native.Worker | None = worker
        self.index, self.procedure, self.data = index, procedure, data
        self.on_gone: Callable[[], object] | None = None  # called where nobody waits for the answer any more

    @property
    def binding(self) -> ServerBinding:
        """Return the binding by which it came."""
        return self._door.binding

    @property
    def answered(self) -> bool:
        """Return whether it was answered, or given up."""
        return self._worker is None

    def answer(self, data: bytes, kind: int = RESULTS) -> bool:
        """Answer the call; return whether it was not answered or given up before."""
        worker = self._worker
        if worker is None:
            return False
        worker.reply(kind, data, False, 0)
        self._worker = self.on_gone = None  # which may know this call
        del self._door.running[self.index]
        self._door.free.append(worker)
        return True

    def tell(self, data: bytes) -> None:
        """Tell the client something of the call before its answer, where the client listens."""
        binding = self.binding
        if binding.hears and not self.answered:
            fields = {"early": [self.index, binding.native.number(self.index), base64.b64encode(data).decode()]}
            with contextlib.suppress(OSError):  # full, or gone: the answer will say it again
                messages.send(binding.door, fields)

    def give_up(self) -> None:
        """Let go of the A-stack: its client has aborted the call, or has ended."""
        gone = self.on_gone
        if not self.answered:
            self.answer(b"")
            if gone is not None:
                gone()


class _LoopDoor:
    """The door of a binding, as the loop listens to it, and the calls that run."""

    def __init__(self, binding: ServerBinding, free: list[native.Worker]) -> None:
        self.binding, self.free = binding, free
        self.running: dict[int, LoopCall] = {}  # by A-stack
        self.crowded = False  # whether there were several calls when we looked last
        self.socket = binding.door.dup()  # the loop's own copy
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)  # who it is was asked at the hello


class LoopCalls:
    """The calls of all bindings of a server, taken by one event loop.

    `take` is called in the loop with each call. It stands in the place of a server's workers.
    """

    listens = True

    def __init__(self, server: HostServer, loop: asyncio.AbstractEventLoop, take: Callable[[LoopCall], None]) -> None:
        self._server, self._loop, self._take = server, loop, take
        self._doors: dict[ServerBinding, _LoopDoor] = {}
        self._free: list[native.Worker] = []
        self._buffer = bytearray(messages.MOST_BYTES)
        self._into = [self._buffer]
        self._turns = Turns(loop)

    @property
    def count(self) -> int:
        """Return how many calls run."""
        return sum(len(door.running) for door in list(self._doors.values()))

    @property
    def busy(self) -> bool:
        """Return whether a call runs."""
        return self.count > 0

    def attend(self, binding: ServerBinding) -> None:
        """Listen to a binding, in the loop; called by any thread."""
        self._soon(self._listen, binding)

    def drain(self, seconds: float) -> None:
        """Return at once: who stops a loop's server waits in the loop."""

    def close(self) -> None:
        """Give up all calls, and listen no more; called by any thread."""
        self._soon(self._close)

    def join(self, seconds: float) -> bool:
        """Return True: there are no threads to wait for."""
        return True

    def _soon(self, action: Callable[..., None], *values: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self._loop.call_soon_threadsafe(action, *values)

    def _listen(self, binding: ServerBinding) -> None:
        if binding in self._doors or binding.native.ended:
            return
        try:
            door = _LoopDoor(binding, self._free)
        except OSError:  # it ended meanwhile
            return
        self._doors[binding] = door
        binding.on_end.add(lambda: self._soon(self._forget, door))
        self._loop.add_reader(door.socket, self._hear, door)
        if binding.native.ended:
            self._forget(door)
        else:
            self._look(door)

    def _hear(self, door: _LoopDoor) -> None:
        """Take what has come over a door."""
        is_first, binding, rang = self._turns.begin(), door.binding, 0
        # Of one call, the handler's first step comes first: nobody waits for its bell to be heard.
        # The oldest bell was there before we looked, so that none is heard unlooked for.
        found = not door.crowded and self._look(door)
        if found and is_first:
            self._turns.run()
        try:
            while (message := self._received(door)) is None:
                rang += 1
                # Where several calls came at once, all their bells are heard before we look.
                if not door.crowded or rang == MOST_BELLS:
                    break
        except (BlockingIOError, InterruptedError):
            pass
        except (BadMessage, OSError):
            self._forget(door)
            self._server.heard(binding, None)
            return
        else:
            if message is not None:
                self._server.heard(binding, message)
        if not found and rang:
            if not self._look(door) and self._server.is_restless(binding):
                binding.native.end()
            elif is_first:
                self._turns.run()
        elif rang > 1:
            self._look(door)
        if binding.native.ended:
            self._forget(door)
            self._server.heard(binding, None)

    def _received(self, door: _LoopDoor) -> DoorMessage | None:
        """Receive a message; None for a bell. Raises `OSError` where the client has gone."""
        size, extra, flags, _ = door.socket.recvmsg_into(self._into, messages.ANCILLARY, messages.CLOSE_ON_EXEC)
        if size == 1 and not extra and self._buffer[0] == _BELL:
            return None
        message = messages.understood(bytes(self._buffer[:size]), extra, flags)
        if message is None:
            raise ConnectionResetError
        return message

    def _look(self, door: _LoopDoor) -> bool:
        """Take new calls, and give up those that were aborted; return whether there were any."""
        own = door.binding.native
        found = own.unattended()
        for index in found:
            worker = self._free.pop() if self._free else native.Worker()
            taken = worker.serve(own, index, 0)
            if taken is None:
                self._free.append(worker)
                continue
            call = door.running[index] = LoopCall(door, worker, index, *taken)
            self._take(call)
        if found and not door.crowded:
            door.crowded = len(found) > 1
            return True
        door.crowded = len(found) > 1
        gone = own.aborted()
        for index in gone:
            if (running := door.running.get(index)) is not None:
                running.give_up()
        return bool(found or gone)

    def _forget(self, door: _LoopDoor) -> None:
        if self._doors.pop(door.binding, None) is not None:
            self._loop.remove_reader(door.socket)
            door.socket.close()
        for call in list(door.running.values()):
            call.give_up()

    def _close(self) -> None:
        for door in list(self._doors.values()):
            self._forget(door)


def in_thread(function: Callable[[], T]) -> "asyncio.Future[T]":
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
            told: tuple[Callable[[Any], None], object] = future.set_result, function()
        except BaseException as error:
            told = future.set_exception, error
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=run, name="lrpc waits", daemon=True).start()
    return future
