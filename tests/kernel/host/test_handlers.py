"""The server's stub of one message there and back: which calls it makes, and how it leaves each."""

import contextlib
import contextvars
import gc
import os
import socket
import sys
import threading
import weakref
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from lrpc.kernel.host import native, segments
from lrpc.kernel.host.client import COLLECT, NEVER, NO_ROOM

HEAD = b"add "


class Context:
    """The context of a call: what the stub asks of it, and sets."""

    said = cancelled = finished = False
    callbacks: list[str] | None = None

    def call_back(self) -> None:
        """Note that the call was over when its callbacks were called."""
        assert self.finished
        assert self.callbacks is not None
        self.callbacks.append("called")


class Owner:
    """Who is told of what is unusual: it replies with what it was told."""

    stopping = False

    def __init__(self) -> None:
        self.free = 2  # permits
        self.pool: Any = SimpleNamespace(_shutdown=False)
        self.contexts: list[Context] = []

    def take(self) -> None:
        self.free -= 1

    def leave(self) -> None:
        self.free += 1

    def others(self, stub: native.HandlerStub, data: bytes, offset: int) -> bytes:
        return b"unusual: " + data

    def _told(self, what: str) -> Callable[[Context, object], bytes]:
        return lambda context, more: f"{what}: {more}".encode()

    def __getattr__(self, name: str) -> Callable[[Context, object], bytes]:
        if name not in ("_unread", "_raised", "_unsent", "_cancelled", "_answered"):
            raise AttributeError(name)
        return self._told(name)


def stub_of(owner: Owner, most: int = 100) -> native.HandlerStub:
    binding = SimpleNamespace()
    return native.HandlerStub(
        owner,
        owner.others,
        binding,
        Context,
        contextvars.Context,
        owner.take,
        owner.leave,
        lambda: owner.pool,
        b"ok: ",
        most,
        most,
    )


def steps(owner: Owner, handle: Callable[[Any, Context], Any], read: Any = None, write: Any = None) -> Any:
    def handled(request: Any, context: Context) -> Any:
        owner.contexts.append(context)
        assert owner.free == 1, "a handler runs with a permit"
        return handle(request, context)

    return read, handled, write


def upper(message: bytes, context: Context) -> bytes:
    return message.upper()


def fail(*_: object) -> Any:
    raise KeyError("no")


def exit_(*_: object) -> Any:
    raise SystemExit(3)


def say(message: bytes, context: Context) -> bytes:
    context.said = True
    return message


def cancel(message: bytes, context: Context) -> bytes:
    context.said = context.cancelled = True
    return message


CALLS: dict[str, tuple[Any, bytes]] = {
    "usual": ((upper,), b"ok: MORE"),
    "read and written": ((lambda n, _: n + 1, lambda data: len(data), lambda n: b"%d" % n), b"ok: 5"),
    "said": ((say,), b"_answered: b'more'"),
    "cancelled": ((cancel,), b"_cancelled: None"),
    "raised": ((fail,), b"_raised: 'no'"),
    "not read": ((upper, fail), b"_unread: 'no'"),
    "read as nothing": ((upper, lambda _: None), b"_unread: None"),
    "not written": ((upper, None, fail), b"_unsent: 'no'"),
    "written as no bytes": ((upper, None, lambda _: "text"), b"_unsent: None"),
    "too long": ((lambda message, _: message * 30,), b"_answered: " + repr(b"more" * 30).encode()),
}


def expecting(call: str) -> tuple[Owner, native.HandlerStub, bytes]:
    """Return an owner, its stub that expects one of the calls, and what that is answered with."""
    owner, (how, reply) = Owner(), CALLS[call]
    stub = stub_of(owner)
    stub.expect(HEAD, steps(owner, *how))
    return owner, stub, reply


@pytest.mark.parametrize("call", CALLS)
def test_a_call_ends_with_its_reply_and_gives_its_permit_back(call: str) -> None:
    owner, stub, reply = expecting(call)
    assert stub.enter(HEAD + b"more", 0) == reply
    assert owner.free == 2
    assert all(context.finished for context in owner.contexts)


@contextlib.contextmanager
def served(stub: native.HandlerStub, room: int) -> Iterator[tuple[native.Binding, native.Binding]]:
    """Yield the client's binding to a stub, with one A-stack of so many bytes, and the server's."""
    size = 2 * segments.CONTROL_BYTES + room
    ends: list[native.Binding] = []
    doors, worker = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET), native.Worker()
    segment = segments.make(size)
    for door in doors:
        astacks = [(2 * segments.CONTROL_BYTES, room, 0)]
        ends.append(native.Binding(segment, size, astacks, door.fileno(), -1, -1, 1, not ends))
        door.close()
    os.close(segment)
    worker.attach(ends[0], 0, 10_000, [stub.enter], lambda error: (3, repr(error).encode()), [], 1 << 16, None)
    thread = threading.Thread(target=worker.await_call, args=[10_000])
    thread.start()
    try:
        yield ends[1], ends[0]
    finally:
        worker.dismiss()
        thread.join()


@pytest.mark.parametrize("call", CALLS)
def test_a_call_on_an_astack_ends_likewise(call: str) -> None:
    owner, stub, reply = expecting(call)
    with served(stub, 1000) as (client, _):
        for _ in range(3):
            assert client.call(0, 0, HEAD + b"more", NEVER, -1) == reply
            assert client.call(0, 0, b"other", NEVER, -1) == b"unusual: other"
            owner.stopping = True
            assert client.call(0, 0, HEAD + b"more", NEVER, -1) == b"unusual: add more"
            owner.stopping = False
    assert owner.free == 2


@pytest.mark.parametrize("size", [0, 36, 37, 60, 61, 64, 65, 100])
def test_a_reply_finds_room_with_its_head_or_is_kept_with_it(size: int) -> None:
    owner = Owner()
    stub = stub_of(owner)
    stub.expect(HEAD, steps(owner, lambda *_: bytes(range(size))))
    with served(stub, 64) as (client, server):
        reply, head = client.call(0, 0, HEAD, NEVER, -1), b"ok: "
        if size > 60:
            assert reply == (NO_ROOM, 0, len(head) + size, True)
            segment = segments.make(4096)
            for end in (client, server):
                end.attach(0, segment, 4096)
            os.close(segment)
            reply = client.call(0, COLLECT, b"", NEVER, 0)
        assert reply == head + bytes(range(size))
        assert client.call(0, 0, HEAD, NEVER, -1) == reply
        assert client.call(0, 0, b"other", NEVER, -1) == b"unusual: other"


@pytest.mark.parametrize("where", [0, 1, 2], ids=["handler", "reader", "writer"])
def test_what_is_no_error_leaves_a_call_and_its_permit(where: int) -> None:
    owner = Owner()
    stub = stub_of(owner)
    some: list[Any] = [upper, None, None]
    some[where] = exit_
    stub.expect(HEAD, steps(owner, *some))
    with pytest.raises(SystemExit):
        stub.enter(HEAD + b"more", 0)
    assert owner.free == 2
    with served(stub, 1000) as (client, _):
        assert client.call(0, 0, HEAD + b"more", NEVER, -1) == (3, b"SystemExit(3)")
    assert owner.free == 2


def test_callbacks_are_called_once_the_call_is_over() -> None:
    owner = Owner()
    stub = stub_of(owner)

    def add_callback(message: bytes, context: Context) -> bytes:
        context.callbacks = []
        return message

    stub.expect(HEAD, steps(owner, add_callback))
    assert stub.enter(HEAD, 0) == b"ok: "
    assert owner.contexts[0].callbacks == ["called"]


def test_each_call_runs_in_a_fresh_context_of_variables() -> None:
    variable = contextvars.ContextVar("variable", default=b"fresh")
    owner = Owner()
    stub = stub_of(owner)

    def leave_something(message: bytes, context: Context) -> bytes:
        found = variable.get()
        variable.set(b"used")
        return found

    stub.expect(HEAD, steps(owner, leave_something))
    assert [stub.enter(HEAD, 0) for _ in range(2)] == [b"ok: fresh"] * 2


def test_calls_that_were_not_expected_are_left_to_python() -> None:
    owner = Owner()
    stub = stub_of(owner, most=4)
    assert stub.enter(HEAD + b"more", 0) == b"unusual: add more"
    stub.expect(HEAD, steps(owner, upper))
    assert stub.enter(b"other", 0) == b"unusual: other"
    assert stub.enter(HEAD + b"too long", 0) == b"unusual: add too long"
    assert stub.enter(HEAD + b"more", 0) == b"ok: MORE"
    owner.stopping = True
    assert stub.enter(HEAD + b"more", 0) == b"unusual: add more"
    assert owner.free == 2


@pytest.mark.parametrize("pool", [None, SimpleNamespace(_shutdown=True)], ids=["gone", "shut down"])
def test_a_pool_that_takes_no_calls_gets_none(pool: Any) -> None:
    owner = Owner()
    stub = stub_of(owner)
    stub.expect(HEAD, steps(owner, upper))
    owner.pool = pool
    assert stub.enter(HEAD + b"more", 0) == b"unusual: add more"
    assert (owner.free, owner.contexts) == (2, [])


def test_several_methods_are_told_apart_by_their_heads_and_the_oldest_forgotten() -> None:
    owner = Owner()
    stub = stub_of(owner)
    for n in range(20):
        stub.expect(b"%02d " % n, steps(owner, upper, None, lambda _, number=n: b"%d" % number))
    replies = [stub.enter(b"%02d " % n, 0) for n in range(20)]
    assert replies == [b"unusual: %02d " % n for n in range(4)] + [b"ok: %d" % n for n in range(4, 20)]


def test_a_head_that_is_expected_again_takes_no_others_place() -> None:
    owner = Owner()
    stub = stub_of(owner)
    stub.expect(b"other ", steps(owner, upper))
    for n in range(20):
        stub.expect(HEAD, steps(owner, upper, None, lambda _, number=n: b"%d" % number))
    assert stub.enter(HEAD, 0) == b"ok: 19"
    assert stub.enter(b"other one", 0) == b"ok: ONE"


def test_an_owner_that_changes_what_is_expected_as_it_is_asked_mixes_no_methods_up() -> None:
    class Changing(Owner):
        @property
        def stopping(self) -> bool:  # type: ignore[override]
            for n in range(16):
                stub.expect(b"%d " % n, steps(self, lambda *_: b"another"))
            return False

    owner = Changing()
    stub = stub_of(owner)
    stub.expect(HEAD, steps(owner, upper))
    assert stub.enter(HEAD + b"more", 0) == b"ok: MORE"


@pytest.mark.parametrize("call", ["raised", "not read", "not written"])
def test_an_error_is_being_handled_while_its_reply_is_made(call: str) -> None:
    class Asking(Owner):
        def _told(self, what: str) -> Callable[[Context, object], bytes]:
            return lambda context, error: f"{error is not None and sys.exception() is error}".encode()

    owner = Asking()
    stub = stub_of(owner)
    stub.expect(HEAD, steps(owner, *CALLS[call][0]))
    assert stub.enter(HEAD + b"more", 0) == b"True"
    assert sys.exception() is None


def test_a_stub_that_nobody_has_is_freed_with_what_it_knows() -> None:
    owner = Owner()
    stub = stub_of(owner)
    stub.expect(HEAD, steps(owner, upper, stub))  # which leads back to it
    gone = weakref.ref(owner)
    del stub, owner
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("wrong", [(), (1,), (b"", 0, 0)], ids=len)
def test_a_stub_refuses_what_is_no_call(wrong: tuple[Any, ...]) -> None:
    stub: Any = stub_of(Owner())
    with pytest.raises(TypeError, match="takes"):
        stub.enter(*wrong)
    with pytest.raises(TypeError):
        stub.expect(HEAD, (upper,))
