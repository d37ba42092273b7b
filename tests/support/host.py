"""Servers and processes for the tests of the host kernel."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

import lrpc
from lrpc.domains.host.domain import HostDomain
from lrpc.domains.host.here import this_machine

ROOT = Path(__file__).parents[2]


class OutOfStock(Exception):
    pass


class Shop(lrpc.Interface):
    def add(self, a: lrpc.Int32, b: lrpc.Int32) -> lrpc.Int32: ...
    def nothing(self) -> None: ...
    def both(self, a: lrpc.Int32, b: lrpc.Int32) -> tuple[lrpc.Int32, lrpc.Int32]: ...
    def echo(self, data: Annotated[bytes, lrpc.UpTo(8 << 20)]) -> Annotated[bytes, lrpc.UpTo(8 << 20)]: ...
    def grow(self, size: lrpc.UInt32) -> Annotated[bytes, lrpc.UpTo(8 << 20)]: ...
    def fill(self, block: lrpc.Reference[lrpc.Bytes200]) -> None: ...
    @lrpc.procedure(raises=(OutOfStock,))
    def buy(self, what: Annotated[str, lrpc.UpTo(64)]) -> None: ...
    def wait(self, seconds: lrpc.Float64) -> None: ...
    def pid(self) -> lrpc.UInt32: ...
    def times(self, count: lrpc.UInt32) -> Annotated[str, lrpc.UpTo(4096)]: ...


class AwaitedShop(lrpc.Interface):
    """The same procedures as far as they go, awaited by the client."""

    async def add(self, a: lrpc.Int32, b: lrpc.Int32) -> lrpc.Int32: ...
    async def echo(self, data: Annotated[bytes, lrpc.UpTo(8 << 20)]) -> Annotated[bytes, lrpc.UpTo(8 << 20)]: ...
    async def wait(self, seconds: lrpc.Float64) -> None: ...
    async def buy(self, what: Annotated[str, lrpc.UpTo(64)]) -> None: ...


class ShopServer(Shop):
    def __init__(self) -> None:
        self.running = 0
        self.release = threading.Event()

    def add(self, a: int, b: int) -> int:
        return a + b

    def nothing(self) -> None: ...

    def both(self, a: int, b: int) -> tuple[int, int]:
        return b, a

    def echo(self, data: bytes) -> bytes:
        return data

    def grow(self, size: int) -> bytes:
        if size > 8 << 20:
            raise ValueError("too much")
        return bytes([size % 251]) * size

    def fill(self, block: lrpc.Reference[bytes]) -> None:
        block.value = bytes(reversed(block.value))

    def buy(self, what: str) -> None:
        if what == "tea":
            raise OutOfStock("no tea left")
        raise LookupError(f"no {what}")

    def wait(self, seconds: float) -> None:
        self.running += 1
        self.release.wait(min(seconds, 60.0))
        self.running -= 1

    def pid(self) -> int:
        return os.getpid()

    def times(self, count: int) -> str:
        return " ".join(sorted(str(one) for one in os.sched_getaffinity(0)))


class AwaitedShopServer(AwaitedShop):
    """Its procedures are coroutines: they run in one event loop of the server's."""

    async def add(self, a: int, b: int) -> int:
        await asyncio.sleep(0)
        return a + b

    async def echo(self, data: bytes) -> bytes:
        return data

    async def wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def buy(self, what: str) -> None:
        raise LookupError(f"no {what}")


@contextlib.contextmanager
def shop(folder: Path, **options: object) -> Iterator[tuple[HostDomain, ShopServer]]:
    """Export a shop from a domain of this process."""
    with this_machine("shop", folder=folder, **options) as here:  # type: ignore[arg-type]
        server = ShopServer()
        here.export(Shop, server, "shop")
        yield here, server
        server.release.set()


@contextlib.contextmanager
def process(folder: Path, code: str) -> Iterator[subprocess.Popen[str]]:
    """Run Python code in a process of its own, until it prints a line; end it in the end."""
    begin = "from tests.support.host import *; from pathlib import Path; import sys\n"
    begin += f"folder = Path({str(folder)!r})\n"
    child = subprocess.Popen(
        [sys.executable, "-c", begin + code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert child.stdout is not None
        assert child.stdout.readline(), "the process ended before it was ready"
        yield child
    finally:
        child.kill()
        child.wait()
        for one in (child.stdin, child.stdout):
            if one is not None:
                one.close()


SERVE = """
here = this_machine("shop", folder=folder)
here.export(Shop, ShopServer(), "shop")
here.serve(lambda: print("ready", flush=True))
"""


def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait for something to come true, and fail where it does not."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.001)


def descriptors() -> int:
    """Return how many descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))
