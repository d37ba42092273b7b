"""One worker that spins for all: who lends it A-stacks is served, also while a procedure runs."""

import contextlib
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lrpc.kernel.host import native
from lrpc.kernel.host.processors import choose_spinning
from lrpc.kernel.host.server import HostServer
from tests.support.host import ShopServer, descriptors, process, shop, until

CALLS = """
client = this_machine(folder=folder).bind(Shop, "shop")
print("ready", flush=True)
n = 0
while True:
    assert client.add(n, 1) == n + 1 and client.both(n, 2) == (2, n)
    n = (n + 1) % 1000
"""
ONCE = """
assert this_machine(folder=folder).bind(Shop, "shop").add(1, 2) == 3
print("ready", flush=True)
"""
WAITS = """
client = this_machine(folder=folder).bind(Shop, "shop")
client.add(1, 2)
print("ready", flush=True)
sys.stdin.readline()
while True:
    client.wait(60.0)
"""


@pytest.fixture
def spinning() -> Iterator[None]:
    native.allow_spinning(1)
    yield
    choose_spinning()


def counted(serving: HostServer, what: str) -> list[int]:
    """Return one of the counts of each binding."""
    return [one.native.counts()[what] for one in list(serving.bindings.values())]


def until_all_go_on(serving: HostServer, count: int) -> None:
    """Wait until so many bindings have had a thousand calls more."""
    before = {one: one.native.counts()["calls"] for one in list(serving.bindings.values())}
    until(lambda: sum(one.native.counts()["calls"] > calls + 1000 for one, calls in before.items()) == count, 60.0)


@contextlib.contextmanager
def callers(folder: Path, count: int, **options: object) -> Iterator[tuple[HostServer, ShopServer]]:
    """Run processes that call without a pause, until some of them have lent their A-stacks."""
    with contextlib.ExitStack() as stack:
        here, server = stack.enter_context(shop(folder, **options))
        for _ in range(count):
            stack.enter_context(process(folder, CALLS))
        serving = here._server
        assert serving is not None
        until(lambda: sum(counted(serving, "lent")) > 100, 60.0)
        yield serving, server


@contextlib.contextmanager
def long_procedure(folder: Path) -> Iterator[HostServer]:
    """Run two callers, and a procedure that does not return, of a client that has called before."""
    with callers(folder, 2) as (serving, server), process(folder, WAITS) as waits:
        assert waits.stdin is not None
        waits.stdin.write("\n")
        waits.stdin.flush()
        until(lambda: server.running == 1)
        yield serving
        assert server.running == 1
        server.release.set()


def test_a_worker_that_spins_takes_the_calls_of_all(tmp_path: Path, spinning: None) -> None:
    with callers(tmp_path, 3) as (serving, _):
        until(lambda: sum(one > 0 for one in counted(serving, "lent")) >= 2, 60.0)
        assert serving.ended == {}


def test_a_procedure_that_takes_long_holds_up_nobody_that_has_lent(tmp_path: Path, spinning: None) -> None:
    with long_procedure(tmp_path) as serving:
        until_all_go_on(serving, 2)
        before = sum(counted(serving, "spun"))
        until(lambda: sum(counted(serving, "spun")) > before + 1000, 60.0)  # another has its place


def test_who_comes_and_goes_while_a_procedure_takes_long_leaves_nothing(tmp_path: Path, spinning: None) -> None:
    with long_procedure(tmp_path) as serving:
        before = descriptors()
        for _ in range(5):
            with process(tmp_path, ONCE):
                pass
        until(lambda: len(serving.bindings) == 3 and descriptors() <= before)


def test_who_lends_can_be_dismissed_and_the_workers_end(tmp_path: Path, spinning: None) -> None:
    before = {one.name for one in threading.enumerate()}
    with callers(tmp_path, 4, workers=3) as (serving, _):
        until(lambda: len(serving.bindings) == 4)
        until_all_go_on(serving, 4)
    until(lambda: {one.name for one in threading.enumerate()} <= before)
