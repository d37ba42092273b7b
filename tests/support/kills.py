"""Kills and stops servers and clients at random moments of calls, and sees what becomes of others.

`python -m tests.support.kills FOLDER SEED COUNT VICTIM` prints what it saw as JSON. It runs in a
process of its own, which never makes a domain itself, so that everything that it forks begins with
one thread.
"""

import contextlib
import json
import os
import random
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import lrpc
from lrpc.domains.host.here import deadline, this_machine
from tests.support.host import Shop, ShopServer, descriptors


class Child:
    """A forked process that runs a function, and the pipe on which it tells."""

    def __init__(self, body: Callable[[int], None]) -> None:
        self.reading, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                os.setpgid(0, 0)
                os.close(self.reading)
                body(writing)
                code = 0
            finally:
                os._exit(code)
        os.close(writing)

    def told(self, seconds: float = 20.0) -> str:
        """Return the next thing that it tells; empty where it has ended."""
        if not select.select([self.reading], [], [], seconds)[0]:
            raise TimeoutError(f"process {self.pid} tells nothing")
        return os.read(self.reading, 4096).decode()

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it and what it forked, and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
        os.waitpid(self.pid, 0)
        os.close(self.reading)


def serve(folder: Path, forks: bool) -> Callable[[int], None]:
    def body(writing: int) -> None:
        with this_machine("shop", folder=folder) as here:
            here.export(Shop, ShopServer(), "shop")
            if forks and os.fork() == 0:  # a child that holds copies for a while
                time.sleep(60)
                os._exit(0)
            os.write(writing, b"ready")
            here.serve()

    return body


def call(folder: Path, seed: int, seconds: float | None) -> Callable[[int], None]:
    """Return a client that calls until a call ends otherwise, then tells how and when."""

    def body(writing: int) -> None:
        chance = random.Random(seed)
        with this_machine(folder=folder) as here:
            client = here.bind(Shop, "shop")
            os.write(writing, b"ready")
            n = 0
            try:
                while True:
                    n += 1
                    with deadline(seconds or 1e6):
                        if chance.random() < 0.02:
                            client.wait(chance.random() * 0.003)
                        elif chance.random() < 0.05:
                            assert client.echo(bytes(chance.randrange(5000))) is not None
                        else:
                            assert client.add(n, 1) == n + 1
            except lrpc.CallError as error:
                os.write(writing, json.dumps([type(error).__name__, time.monotonic()]).encode())

    return body


def kill_servers(folder: Path, chance: random.Random, count: int, forks: bool) -> dict[str, object]:
    slowest, ends = 0.0, set()
    for _ in range(count):
        server = Child(serve(folder, forks))
        server.told()
        client = Child(call(folder, chance.getrandbits(32), None))
        client.told()
        time.sleep(chance.random() * 0.02)
        killed = time.monotonic()
        os.kill(server.pid, signal.SIGKILL)
        kind, when = json.loads(client.told())
        slowest = max(slowest, when - killed)
        ends.add(kind)
        client.end()
        server.end()
    return {"slowest_ms": slowest * 1000, "ends": sorted(ends)}


def stop_servers(folder: Path, chance: random.Random, count: int) -> dict[str, object]:
    slowest, ends = 0.0, set()
    for _ in range(count):
        server = Child(serve(folder, False))
        server.told()
        client = Child(call(folder, chance.getrandbits(32), 0.1))
        client.told()
        time.sleep(chance.random() * 0.02)
        stopped = time.monotonic()
        os.kill(server.pid, signal.SIGSTOP)
        kind, when = json.loads(client.told())
        slowest = max(slowest, when - stopped)
        ends.add(kind)
        client.end()
        server.end()
    return {"slowest_ms": slowest * 1000, "ends": sorted(ends)}


def kill_clients(folder: Path, chance: random.Random, count: int) -> dict[str, object]:
    """Kill clients of one server, beside an honest one that must not notice."""
    server = Child(serve(folder, False))
    server.told()
    honest = Child(call(folder, 1, None))
    honest.told()
    before = _held(folder, server.pid)
    for _ in range(count):
        client = Child(call(folder, chance.getrandbits(32), None))
        client.told()
        time.sleep(chance.random() * 0.01)
        client.end()
    after, end = _held(folder, server.pid), time.monotonic() + 10
    while after > before and time.monotonic() < end:
        time.sleep(0.05)
        after = _held(folder, server.pid)
    alive = not select.select([honest.reading], [], [], 0)[0]
    honest.end()
    server.end(signal.SIGTERM)
    return {"descriptors_before": before, "descriptors_after": after, "honest": alive, "doors": os.listdir(folder)}


def _held(folder: Path, server: int) -> int:
    return len(os.listdir(f"/proc/{server}/fd"))


def main() -> None:
    folder, seed, count, victim = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    chance = random.Random(seed)
    before = descriptors()
    found = {
        "server": lambda: kill_servers(folder, chance, count, False),
        "server with a child": lambda: kill_servers(folder, chance, count, True),
        "stopped server": lambda: stop_servers(folder, chance, count),
        "client": lambda: kill_clients(folder, chance, count),
    }[victim]()
    print(json.dumps({**found, "left": descriptors() - before}))


if __name__ == "__main__":
    main()
