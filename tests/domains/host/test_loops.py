"""Calls that an event loop takes and answers by itself."""

import asyncio
import contextlib
import selectors
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from lrpc.domains.host.loops import LoopCall, LoopCalls, in_thread
from lrpc.domains.host.stubs import AwaitedCalls
from lrpc.kernel.descriptors import ProcedureDescriptor
from lrpc.kernel.errors import Panic
from lrpc.kernel.host.client import ABORTED, NEVER, UNTAKEN, WITHDRAWN, ClientBinding
from lrpc.kernel.host.doors import FolderDoors
from lrpc.kernel.host.server import HostServer
from tests.support.host import until


def nothing(buffer: bytes | bytearray, offset: int) -> bytes:
    raise Panic("the loop takes the calls")


@contextlib.contextmanager
def bound(
    folder: Path, loop: asyncio.AbstractEventLoop, take: Callable[[LoopCall], None]
) -> Iterator[tuple[HostServer, ClientBinding]]:
    """Export one procedure whose calls a loop takes, and bind to it."""
    doors = FolderDoors(folder / "doors")
    server = HostServer(
        "loop", doors, lambda error: (3, b""), 1, 0, attends=lambda server: LoopCalls(server, loop, take)
    )
    server.export("one", "One", ("one",), (ProcedureDescriptor("one", nothing, 64, 64, 4),), None)
    client = ClientBinding(doors, "one", "One", ("one",), 1, notified=True)
    try:
        yield server, client
    finally:
        client.close()
        server.close(0.0)
        doors.close()


def test_calls_are_taken_and_answered_by_the_loop(tmp_path: Path) -> None:
    async def main() -> None:
        taken: list[LoopCall] = []

        def take(call: LoopCall) -> None:
            taken.append(call)
            call.tell(b"early " + call.data)
            call.answer(call.data * 2)
            assert not call.answer(b"again")

        with bound(tmp_path, asyncio.get_running_loop(), take) as (server, client):
            calls, told = AwaitedCalls(client), list[bytes]()
            for n in range(5):
                assert await calls.call(0, 0, bytes([n]), NEVER, -1, told.append) == bytes([n, n])
            await asyncio.gather(*(calls.call(0, 0, bytes([n]), NEVER) for n in range(40)))
            assert (len(taken), server.workers.busy, server.workers.count) == (45, False, 0)
            assert [one.procedure for one in taken] == [0] * 45
            calls.close()

    asyncio.run(main())


class CountingSelector(selectors.DefaultSelector):
    """A selector that counts how often its loop has asked it."""

    asked = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Count, and select."""
        self.asked += 1
        return super().select(timeout)


def test_a_call_takes_one_iteration_of_each_sides_loop(tmp_path: Path) -> None:
    selector = CountingSelector()

    async def main() -> None:
        loop = asyncio.get_running_loop()

        async def answer(call: LoopCall) -> None:
            call.answer(call.data)

        with bound(tmp_path, loop, lambda call: tasks.append(loop.create_task(answer(call)))) as (_, client):
            calls, tasks = AwaitedCalls(client), list[asyncio.Task[None]]()
            await calls.call(0, 0, b"", NEVER)
            before = selector.asked
            for _ in range(100):
                assert await calls.call(0, 0, b"a", NEVER) == b"a"
            assert (selector.asked - before) / 100 < 2.2  # both sides are in this loop
            await asyncio.gather(*tasks)
            calls.close()

    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:
        runner.run(main())


def test_an_aborted_call_is_given_up_at_once_and_its_a_stack_comes_back(tmp_path: Path) -> None:
    async def main() -> None:
        taken: asyncio.Queue[LoopCall] = asyncio.Queue()
        gone = asyncio.Event()

        def take(call: LoopCall) -> None:
            call.on_gone = gone.set
            taken.put_nowait(call)

        with bound(tmp_path, asyncio.get_running_loop(), take) as (server, client):
            calls = AwaitedCalls(client)
            waiting = asyncio.ensure_future(calls.call(0, 0, b"", NEVER))
            call = await taken.get()
            assert server.workers.busy
            waiting.cancel()
            await gone.wait()
            assert call.answered
            ends: list[object] = []
            began = calls.start(0, 0, b"", -1, ends.append, None)
            assert type(began) is int
            await taken.get()
            assert calls.stop(began) == ABORTED
            while client.native.counts()["free"] < 4:
                client.native.idle(0)
                await asyncio.sleep(0)
            assert ends == []
            calls.close()

    asyncio.run(main())


def test_a_call_that_was_not_taken_says_so_when_the_server_ends(tmp_path: Path) -> None:
    async def main() -> None:
        asleep = asyncio.new_event_loop()  # which takes nothing
        with bound(tmp_path, asleep, lambda call: None) as (server, client):
            calls = AwaitedCalls(client)
            waiting = asyncio.ensure_future(calls.call(0, 0, b"", NEVER))
            withdrawn = calls.start(0, 0, b"", -1, lambda reply: None, None)
            assert type(withdrawn) is int
            assert calls.stop(withdrawn) == WITHDRAWN
            await asyncio.sleep(0)
            server.close(0.0)
            assert await waiting == UNTAKEN
        asleep.close()

    asyncio.run(main())


def test_a_client_that_rings_without_end_is_sent_away(tmp_path: Path) -> None:
    async def main() -> None:
        with bound(tmp_path, asyncio.get_running_loop(), lambda call: None) as (server, client):
            while not client.native.ended:
                client.ring()
                await asyncio.sleep(0)
            await asyncio.to_thread(until, lambda: server.ended.total() == 1)

    asyncio.run(main())


def test_what_runs_in_a_thread_returns_or_raises_in_the_loop() -> None:
    async def main() -> None:
        assert await in_thread(partial(sum, (1, 2))) == 3
        with pytest.raises(ZeroDivisionError):
            await in_thread(partial(divmod, 1, 0))
        cancelled = in_thread(partial(sum, ()))
        cancelled.cancel()
        await in_thread(partial(sum, ()))

    asyncio.run(main())
