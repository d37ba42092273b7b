"""What a reader's callback makes ready runs at once, in the order in which it would run anyway."""

import asyncio
import socket
from collections.abc import Callable, Iterator

import pytest

from lrpc.domains.host.turns import Turns


class Iterating(asyncio.SelectorEventLoop):
    """A loop with iterations of its own."""

    def _run_once(self) -> None:
        super()._run_once()  # type: ignore[misc]  # which typeshed does not have


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Return two ends of a socket, at one of which there is something to read."""
    here, there = socket.socketpair()
    with here, there:
        there.send(b"x")
        yield here, there


def traced(
    ends: tuple[socket.socket, socket.socket],
    fill: Callable[[asyncio.AbstractEventLoop, list[str]], None],
    at_once: bool,
) -> list[str]:
    """Return what ran, in order, of what a reader's callback has made ready by `fill`."""
    trace: list[str] = []

    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        turns = Turns(loop)

        def hear() -> None:
            assert turns.begin()
            fill(loop, trace)
            if at_once:
                turns.run()
            trace.append("returns")
            loop.remove_reader(ends[0])
            loop.call_later(0.02, done.set)

        await asyncio.sleep(0)
        loop.add_reader(ends[0], hear)
        await done.wait()

    asyncio.run(main())
    return trace


def fill(loop: asyncio.AbstractEventLoop, trace: list[str]) -> None:
    """Make ready a task that goes on later, a future that somebody awaits, and a cancelled call."""
    future = loop.create_future()

    async def steps(name: str) -> None:
        task = asyncio.current_task()
        trace.append(f"{name} 1 {task is not None and task.get_name()}")
        await asyncio.sleep(0)
        trace.append(f"{name} 2")
        if not future.done():
            future.set_result(None)

    async def waits() -> None:
        trace.append("waits")
        await future
        trace.append("goes on")

    loop.create_task(steps("a"), name="A")
    loop.create_task(waits())
    loop.call_soon(trace.append, "cancelled").cancel()
    loop.call_soon(lambda: loop.call_soon(trace.append, "second"))
    loop.create_task(steps("b"), name="B")


def test_the_order_is_that_of_the_loop(ends: tuple[socket.socket, socket.socket]) -> None:
    found = traced(ends, fill, at_once=True)
    assert found == ["a 1 A", "waits", "b 1 B", "returns", "a 2", "second", "b 2", "goes on"]
    later = traced(ends, fill, at_once=False)
    assert [one for one in later if one != "returns"] == [one for one in found if one != "returns"]


def test_only_what_was_ready_runs_and_what_that_adds_has_its_own_turn(
    ends: tuple[socket.socket, socket.socket],
) -> None:
    async def main() -> None:
        loop, done = asyncio.get_running_loop(), asyncio.Event()
        turns, ran = Turns(loop), list[str]()

        def first() -> None:
            ran.append("first")
            loop.call_soon(ran.append, "second")

        def hear() -> None:
            assert turns.begin()
            loop.call_soon(first)
            assert not turns.begin()  # so that a callback after this one lets it go first
            turns.run()
            assert ran == ["first"]
            loop.remove_reader(ends[0])
            done.set()

        await asyncio.sleep(0)
        loop.add_reader(ends[0], hear)
        await done.wait()
        assert ran == ["first", "second"]

    asyncio.run(main())


@pytest.mark.parametrize("why", ["debug", "stopping", "another loop"])
def test_the_loop_has_its_way(ends: tuple[socket.socket, socket.socket], why: str) -> None:
    loop = Iterating() if why == "another loop" else asyncio.SelectorEventLoop()
    turns, ran = Turns(loop), list[str]()

    def hear() -> None:
        assert turns.begin() == (why != "another loop")
        loop.call_soon(ran.append, "later")
        loop.set_debug(why == "debug")
        loop.stop()
        if why == "debug":
            loop._stopping = False  # type: ignore[attr-defined]  # so that this alone keeps it
        turns.run()
        assert ran == []
        loop.stop()
        loop.remove_reader(ends[0])

    loop.add_reader(ends[0], hear)
    loop.run_forever()
    assert ran == []
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == ["later"]
    loop.close()
