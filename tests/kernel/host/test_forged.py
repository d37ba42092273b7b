"""What stands for a binding: the connection by which it was made, and nothing that is copied."""

import contextlib
import os
import struct
from pathlib import Path

import pytest

from lrpc.domains.host.here import this_machine
from lrpc.kernel.host import messages, native
from lrpc.kernel.host.bindings import ServerBinding
from tests.support.host import Shop, shop, until
from tests.support.hostile import SIGNATURES, RawClient

HELLO: dict[str, object] = {"lrpc": 1, "want": "binding", "interface": "Shop", "signatures": SIGNATURES}
SUM = struct.pack("<ii", 1, 2)
CALLED, RUNNING, DONE, ABORTED = 2, 3, 4, 5


def add(raw: RawClient) -> object:
    return raw.native.call(raw.groups[0], 0, SUM, native.now_ns() + 2 * 10**9, -1)


@pytest.mark.parametrize(
    "message",
    [
        HELLO,  # once more, over the connection that is bound
        {"bound": {"size": 4096, "astacks": [], "groups": []}},  # the server's own words
        {"attach": 10**6, "size": 4096, "turn": 1},  # an A-stack that the binding does not have
        {"attach": -1, "size": 4096, "turn": 1},
        {"attach": 2**70, "size": 4096, "turn": 1},
        {"detach": 10**6, "turn": 1},
        {"detach": -1, "turn": 1},
        {"attach": 0, "size": 4096},  # no turn
    ],
)
def test_what_is_forged_or_said_again_ends_the_binding_that_says_it_alone(
    tmp_path: Path, message: dict[str, object]
) -> None:
    with shop(tmp_path) as (serving, _), this_machine(folder=tmp_path) as here:
        client = here.bind(Shop, "shop")
        raw = RawClient(tmp_path)
        assert add(raw) == b"\3\0\0\0"
        segment = os.memfd_create("forged")
        os.ftruncate(segment, 4096)
        messages.send(raw.door, message, [segment] if "attach" in message else [])
        until(lambda: raw.native.ended != 0)
        assert len(serving.server().bindings) == 1
        assert serving.status()["ended"] == {"client sent nonsense": 1}
        assert add(raw) in (-1, -7)
        assert client.add(1, 2) == 3
        raw.close()
        os.close(segment)


@pytest.mark.parametrize("phase", [CALLED, RUNNING, DONE, ABORTED])
@pytest.mark.parametrize("number", [0, 1, 2, 4, 2**24 - 1])
def test_a_call_that_is_replayed_or_made_up_is_not_executed(tmp_path: Path, phase: int, number: int) -> None:
    """The server expects call 3 of an A-stack; its worker has left."""
    with shop(tmp_path) as (serving, _):
        ran: list[bytes] = []
        raw = RawClient(tmp_path)
        assert [add(raw) for _ in range(2)] == [b"\3\0\0\0"] * 2
        (binding,) = serving.server().bindings.values()
        entry = binding.entries[0]

        def watched(data: bytes | bytearray, caller: int) -> bytes:
            ran.append(bytes(data))
            return entry(data, caller)

        binding.entries = [watched, *binding.entries[1:]]
        index = next(n for n in range(len(raw.astacks)) if raw.control(n)[0] >> 8 == 2)
        word = raw.control(index)[0]
        raw.write(index, 0, number << 8 | phase | (word & 0x60))
        with contextlib.suppress(OSError):
            raw.door.send(b"b")
        wake(raw, index)
        if (phase, number) == (DONE, 2):  # which is how it stood: nothing is asked
            assert add(raw) == b"\3\0\0\0"
        else:
            until(lambda: not serving.server().bindings)
            assert ran == []
            assert serving.status()["ended"] == {"client broke the segment": 1}
        raw.close()


def wake(raw: RawClient, index: int) -> None:
    from tests.support.hostile import requeue

    requeue(raw.memory, index * 128, index * 128 + 4, 1)


def test_a_segment_without_its_connection_asks_nothing(tmp_path: Path) -> None:
    """Who has got hold of another's segment has no use of it, now or once that has gone."""
    with shop(tmp_path) as (serving, _):
        first, second = RawClient(tmp_path), RawClient(tmp_path)
        until(lambda: len(serving.server().bindings) == 2)
        copy = os.dup(first.segment)
        owner: ServerBinding = min(serving.server().bindings.values(), key=lambda one: one.door.fileno())
        stolen = native.Binding(copy, first.size, first.astacks, second.door.fileno(), -1, -1, 1, False)
        reply = stolen.call(first.groups[0], 0, SUM, native.now_ns() + 10**8, -1)  # it rings the wrong bell
        assert reply == -3
        first.close()
        until(lambda: len(serving.server().bindings) == 1)
        assert owner.native.ended
        reply = stolen.call(first.groups[0], 0, SUM, native.now_ns() + 10**8, -1)
        assert reply in (-3, -4)
        assert add(second) == b"\3\0\0\0"
        second.close()
        os.close(copy)
