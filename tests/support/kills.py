"""Kills and stops servers and clients at random moments of calls, and sees what becomes of others.

`python -m tests.support.kills FOLDER SEED COUNT VICTIM` prints what it saw as JSON. It runs in a
process of its own, which never makes a domain itself, so that everything that it forks begins with
one thread.
"""

import contextlib
import ctypes
import json
import os
import platform
import random
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

import lrpc
from lrpc.domains.host.here import deadline, this_machine
from lrpc.kernel.host.workers import Workers
from tests.support.host import Shop, ShopServer, descriptors

DEADLINE_S = 0.1  # of calls to a server that is stopped
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())
CHECK_EVERY = 4  # ends, after which survivors must have let go of all


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
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)
        LIVING.add(self)

    def told(self, seconds: float = 20.0) -> str:
        """Return the next line that it tells; empty where it has ended."""
        line = b""
        while not line.endswith(b"\n"):
            if not select.select([self.reading], [], [], seconds)[0]:
                raise TimeoutError(f"process {self.pid} tells nothing")
            if not (more := os.read(self.reading, 1)):
                break
            line += more
        return line.decode()

    def end(self, number: int = signal.SIGKILL) -> None:
        """End it and what it forked, and wait for it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)
        with contextlib.suppress(ChildProcessError):
            while True:
                os.waitpid(-self.pid, 0)
        LIVING.discard(self)
        os.close(self.reading)


LIVING: set[Child] = set()


def leave_a_child() -> None:
    """Fork a child that keeps copies of all descriptors, and knows nothing of any binding.

    It is made without what a forked child does at its beginning, as from a library in C. So no
    connection of its parent comes to its end.
    """
    assert CLONE is not None
    if ctypes.CDLL(None).syscall(CLONE, int(signal.SIGCHLD), 0, 0, 0, 0) == 0:
        time.sleep(60)
        os._exit(0)


def held(pid: int | str) -> list[int]:
    """Return how many descriptors, segments and threads a process has."""
    with open(f"/proc/{pid}/maps") as maps:
        segments = sum("memfd:lrpc" in line for line in maps)
    return [len(os.listdir(f"/proc/{pid}/fd")), segments, len(os.listdir(f"/proc/{pid}/task"))]


def let_go(pid: int | str, before: list[int], seconds: float = 10.0) -> list[int]:
    """Return what a process has more than before, once that is nothing or the time is over."""
    end = time.monotonic() + seconds
    while True:
        more = [max(0, now - then) for now, then in zip(held(pid), before, strict=True)]
        if not any(more) or time.monotonic() > end:
            return more
        time.sleep(0.01)


def ready(writing: int) -> None:
    os.write(writing, b"ready\n")


def serve(folder: Path) -> Callable[[int], None]:
    """Return a server. SIGUSR1 has it leave a child, and tell so."""

    def body(writing: int) -> None:
        def fork(number: int, frame: object) -> None:
            leave_a_child()
            os.write(writing, b"forked\n")

        with this_machine("shop", folder=folder) as here:
            signal.signal(signal.SIGUSR1, fork)
            here.export(Shop, ShopServer(), "shop")
            workers = here.server().workers
            assert isinstance(workers, Workers)
            workers._idle_s = 0.2
            here.serve(lambda: ready(writing))

    return body


def call(
    folder: Path, seed: int, seconds: float | None, forks: bool = False, largest: int = 5000
) -> Callable[[int], None]:
    """Return a client that calls until a call ends otherwise; it tells how, and what is left."""

    def body(writing: int) -> None:
        chance = random.Random(seed)
        with this_machine(folder=folder) as here:
            client = here.bind(Shop, "shop")
            client.add(1, 2)
            del client
            before = held("self")  # what the first binding of a process begins stays
            before[1] = 0
            client = here.bind(Shop, "shop")
            client.add(1, 2)
            if forks:
                leave_a_child()
            os.write(writing, b"ready\n")
            kind, when = make_calls(client, chance, seconds, largest)
            os.write(writing, f"{json.dumps([kind, when])}\n".encode())
            del client
            os.write(writing, f"{json.dumps(let_go('self', before))}\n".encode())

    return body


def make_calls(client: Shop, chance: random.Random, seconds: float | None, largest: int) -> tuple[str, float]:
    n = 0
    try:
        while True:
            n += 1
            with deadline(seconds or 1e6):
                if largest and chance.random() < 0.02:
                    client.wait(chance.random() * 0.003)
                elif largest and chance.random() < 0.05:
                    assert client.echo(bytes(chance.randrange(largest))) is not None
                else:
                    assert client.add(n, 1) == n + 1
    except lrpc.CallError as error:
        return type(error).__name__, time.monotonic()


def end_servers(folder: Path, chance: random.Random, count: int, how: int, forks: bool) -> dict[str, object]:
    """End or stop servers; their clients must learn of it, and keep nothing."""
    late: list[float] = []
    ends, left = set(), []
    own = DEADLINE_S if how == signal.SIGSTOP else 0.0
    for n in range(count):
        server = Child(serve(folder))
        server.told()
        client = Child(call(folder, chance.getrandbits(32), own or None))
        client.told()
        if forks:
            os.kill(server.pid, signal.SIGUSR1)
            server.told()
        time.sleep(chance.random() * 0.02)
        ended = time.monotonic()
        os.kill(server.pid, how)
        kind, when = json.loads(client.told())
        late.append((when - ended - own) * 1000)
        ends.add(kind)
        if n % CHECK_EVERY == 0:
            left.append(json.loads(client.told()))
        client.end()
        server.end()
    after = Child(serve(folder))  # clears away what the last one has left
    after.told()
    after.end(signal.SIGTERM)
    return {"late_ms": late, "ends": sorted(ends), "kept": left, "doors": os.listdir(folder)}


def end_clients(folder: Path, chance: random.Random, count: int, how: int, forks: bool) -> dict[str, object]:
    """End or stop clients of one server, beside an honest one that must not notice."""
    server = Child(serve(folder))
    server.told()
    honest = Child(call(folder, 1, None, largest=0))  # which keeps to one A-stack
    honest.told()
    for_all = [held(one.pid) for one in (server, honest)]
    late, left = [], []
    for n in range(count):
        bound = held(server.pid)[1]
        client = Child(call(folder, chance.getrandbits(32), None, forks))
        client.told()
        time.sleep(chance.random() * 0.01)
        if how == signal.SIGSTOP:
            os.kill(client.pid, how)
            time.sleep(0.02)
            os.kill(client.pid, signal.SIGCONT)
            time.sleep(chance.random() * 0.01)
            os.kill(client.pid, how)  # and it is killed where it stands
        ended = time.monotonic()
        os.kill(client.pid, signal.SIGKILL)
        while held(server.pid)[1] > bound and time.monotonic() < ended + 10:
            time.sleep(0.0005)
        late.append((time.monotonic() - ended) * 1000)
        client.end()
        if n % CHECK_EVERY == 0:
            left += [let_go(one.pid, before) for one, before in zip((server, honest), for_all, strict=True)]
    alive = not select.select([honest.reading], [], [], 0)[0]
    honest.end()
    server.end(signal.SIGTERM)
    return {"late_ms": late, "honest": alive, "kept": left, "doors": os.listdir(folder)}


def main() -> None:
    folder, seed, count, victim = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
    chance = random.Random(seed)
    ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER: what children leave is waited for too
    before = descriptors()
    side = end_servers if "server" in victim else end_clients
    how = signal.SIGSTOP if "stopped" in victim else signal.SIGKILL
    try:
        found = side(folder, chance, count, how, "child" in victim)
    finally:
        for one in list(LIVING):
            one.end()
    print(json.dumps({**found, "left": descriptors() - before}))


if __name__ == "__main__":
    main()
