"""The peers that the benchmark measures, from the client's side: how each makes the same calls."""

import asyncio
import contextlib
import importlib.util
import multiprocessing.connection
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, cast

from lrpc.domains.host.here import Waits, this_machine
from lrpc.kernel.errors import RunFailed
from lrpc.kernel.text import one_line
from lrpc.workloads.bench.servers import (
    ARGUMENTS,
    COMPUTES,
    LARGEST,
    PID,
    READY,
    Tests,
    answer,
    iceoryx_bytes,
    iceoryx_send,
    iceoryx_service,
)

Call = Callable[[], object]  # makes one call of a test, and returns its result


class AwaitedCall:
    """A call that is awaited in an event loop: what is timed is not the way into the loop."""

    def __init__(self, runner: asyncio.Runner, call: Call) -> None:
        self._runner, self._call = runner, call

    def __call__(self) -> object:
        """Make one call; return its result."""
        return self._runner.run(self._once())

    def times(self, count: int, gap_s: float) -> list[int]:
        """Make calls with gaps before them; return what each took, in nanoseconds."""
        return self._runner.run(self._times(count, gap_s))

    async def _once(self) -> object:
        return await cast(Awaitable[object], self._call())

    async def _times(self, count: int, gap_s: float) -> list[int]:
        clock, call, found = time.perf_counter_ns, cast(Callable[[], Awaitable[object]], self._call), []
        for _ in range(count):
            if gap_s:
                await asyncio.sleep(gap_s)
            start = clock()
            await call()
            found.append(clock() - start)
        return found


@dataclass(frozen=True)
class Client:
    """A connected client: the calls it can make, by test, and its server's process."""

    calls: dict[str, Call]
    server: int


@contextlib.contextmanager
def serving(server: str, *more: str) -> Iterator[tuple[Path, int]]:
    """Run a server of `servers.SERVERS` in a process; yield its folder and process id.

    Raises `RunFailed` where it does not start.
    """
    with tempfile.TemporaryDirectory(prefix="lrpc-bench-") as name:
        command = [sys.executable, "-m", "lrpc.workloads.bench.servers", server, name, *more]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != READY:
                raise RunFailed(f"{server}: its server did not start")
            yield Path(name), process.pid
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


@dataclass(frozen=True)
class BenchPeer:
    """A way to call another process."""

    name: str
    server: str  # the key of `servers.SERVERS`
    module: str  # what it needs
    connect: Callable[[Path, contextlib.ExitStack], dict[str, Call]]  # calls by test
    spins: bool = False  # its server watches memory
    slow: bool = False  # to start: it is left out where there is little time
    measured: tuple[str, ...] = tuple(ARGUMENTS)  # the tests that it is for

    @property
    def installed(self) -> bool:
        """Return whether what it needs is there."""
        return importlib.util.find_spec(self.module) is not None

    @property
    def mode(self) -> str:
        """Return how its server waits, as cells have it."""
        return "spin" if self.spins else "sleep"

    def serving(self, *, computes: bool = False) -> contextlib.AbstractContextManager[tuple[Path, int]]:
        """Run its server in a process of its own; yield its folder and process id.

        With `computes`, another thread of the server computes in Python meanwhile.
        Raises `RunFailed` where it does not start.
        """
        return serving(self.server, *([COMPUTES] if computes else []))

    @contextlib.contextmanager
    def connected(self, folder: Path, server: int) -> Iterator[Client]:
        """Connect to the server in a folder, and check that every test returns what it should.

        Raises `RunFailed` where one does not, or there is no connection, whatever a peer raises.
        """
        with contextlib.ExitStack() as stack:
            try:
                calls = self.connect(folder, stack)
            except Exception as error:
                raise RunFailed(f"{self.name}: cannot connect: {one_line(str(error))}") from error
            for test, call in calls.items():
                argument = ARGUMENTS[test][1]
                expected = {"Null": None, "Add": 7, "BigIn": None}.get(test, argument)
                found = call()
                if found != expected and not (expected is None and not found):
                    raise RunFailed(f"{self.name}: {test} returned something else")
            told = folder / PID
            yield Client(calls, int(told.read_text()) if told.exists() else server)


def _typed(tests: Tests) -> dict[str, Call]:
    def bound(method: Callable[..., object], argument: object) -> Call:
        if argument is None:
            return method
        if isinstance(argument, tuple):
            a, b = argument
            return lambda: method(a, b)
        return lambda: method(argument)

    return {test: bound(getattr(tests, name), argument) for test, (name, argument) in ARGUMENTS.items()}


def _generic(call: Callable[[str, object], object]) -> dict[str, Call]:
    return {test: lambda one=one: call(*one) for test, one in ARGUMENTS.items()}  # type: ignore[misc]


def _lrpc(waits: Waits) -> Callable[[Path, contextlib.ExitStack], dict[str, Call]]:
    def connect(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
        here = stack.enter_context(this_machine(folder=folder, waits=waits))
        return _typed(here.bind(Tests, "bench"))

    return connect


def _socket(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
    from lrpc.domains.host.pipes import bind_messages  # needs the host kernel's native part

    connection = stack.enter_context(socket.socket(socket.AF_UNIX))
    connection.connect(str(folder / "socket"))
    return _typed(bind_messages(Tests, connection.fileno(), connection.fileno()))


def _pipe(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
    from lrpc.domains.host.pipes import bind_messages

    writing = os.open(folder / "in", os.O_WRONLY)
    stack.callback(os.close, writing)
    reading = os.open(folder / "out", os.O_RDONLY)
    stack.callback(os.close, reading)
    return _typed(bind_messages(Tests, reading, writing))


def _multiprocessing(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
    connection = stack.enter_context(multiprocessing.connection.Client(str(folder / "socket"), "AF_UNIX"))

    def call(name: str, argument: object) -> object:
        connection.send((name, argument))
        return connection.recv()

    return _generic(call)


def socket_of(folder: Path) -> str:
    """Return the target of a server's UNIX socket."""
    return f"unix:{folder / 'socket'}"


def port_of(folder: Path) -> str:
    """Return the target of a server's port."""
    return f"127.0.0.1:{(folder / 'port').read_text()}"


def _grpc(
    target: Callable[[Path], str], waits: Waits | None = None
) -> Callable[[Path, contextlib.ExitStack], dict[str, Call]]:
    """Return what connects by gRPC's channel, or by lrpc's where it is told how to wait."""

    def connect(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
        from lrpc.workloads.bench import service

        channel = stack.enter_context(service.channel(target(folder), folder, waits))
        calls = service.calls(channel)
        if waits is not None:
            calls["Null"]()
            service.require_local(channel)
        return calls

    return connect


def _awaited(*, doors: bool) -> Callable[[Path, contextlib.ExitStack], dict[str, Call]]:
    def connect(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
        from lrpc.workloads.bench import service

        runner = stack.enter_context(asyncio.Runner())
        channel = runner.run(service.awaited_channel(socket_of(folder), folder, doors=doors))
        stack.callback(lambda: runner.run(channel.close()))
        calls: dict[str, Call] = {test: AwaitedCall(runner, call) for test, call in service.calls(channel).items()}
        if doors:
            calls["Null"]()
            service.require_local(channel)
        return calls

    return connect


def _rpyc(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
    connection = importlib.import_module("rpyc").utils.factory.unix_connect(str(folder / "socket"))
    stack.callback(connection.close)
    return _generic(connection.root.answer)


def _pyro(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
    proxy = stack.enter_context(importlib.import_module("Pyro5.api").Proxy((folder / "uri").read_text()))
    to_bytes = importlib.import_module("serpent").tobytes

    def call(name: str, argument: object) -> object:
        found = proxy.answer(name, argument)
        return to_bytes(found) if isinstance(found, dict) else found

    return _generic(call)


def _zmq(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
    import pickle

    zmq = importlib.import_module("zmq")
    context = zmq.Context()
    requests = context.socket(zmq.REQ)
    requests.connect(f"ipc://{folder / 'socket'}")
    stack.callback(context.destroy, 0)

    def call(name: str, argument: object) -> object:
        requests.send(pickle.dumps((name, argument)))
        return pickle.loads(requests.recv())

    return _generic(call)


def _iceoryx(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
    import pickle

    node, service = iceoryx_service(folder)
    client = service.client_builder().initial_max_slice_len(2 * LARGEST).create()
    kept = [node, service]
    stack.callback(kept.clear)  # which takes what they have in shared memory away
    del node, service
    stack.callback(client.delete)

    def call(name: str, argument: object) -> object:
        data = pickle.dumps((name, argument))
        pending = iceoryx_send(client.loan_slice_uninit(len(data)), data)
        while (response := pending.receive()) is None:
            pass
        found = iceoryx_bytes(response)
        response.delete()
        pending.delete()
        return pickle.loads(found)

    return _generic(call)


class _Answers:
    """An actor of Ray's that answers the tests."""

    def answer(self, name: str, argument: object) -> object:
        return answer(name, argument)

    def pid(self) -> int:
        return os.getpid()


def _ray(folder: Path, stack: contextlib.ExitStack) -> dict[str, Call]:
    ray = importlib.import_module("ray")
    ray.init(num_cpus=1, include_dashboard=False, configure_logging=False, log_to_driver=False, logging_level=40)
    stack.callback(ray.shutdown)
    actor = ray.remote(num_cpus=0)(_Answers).remote()
    (folder / PID).write_text(str(ray.get(actor.pid.remote())))
    return _generic(lambda name, argument: ray.get(actor.answer.remote(name, argument)))


BESIDE: Final = "gRPC, UNIX socket"  # what ratios are against
SHIPPED_CHANNEL: Final = "lrpc channel adapting"  # as it is where nothing is asked for
PEERS: Final = (
    BenchPeer("lrpc/mp", "lrpc/mp", "lrpc", _lrpc("spin"), spins=True),
    BenchPeer("lrpc", "lrpc", "lrpc", _lrpc("adapt")),  # its workers sleep
    BenchPeer("lrpc adapting", "lrpc adapting", "lrpc", _lrpc("adapt")),
    BenchPeer("lrpc channel/mp", "lrpc channel/mp", "lrpc", _grpc(socket_of, "spin"), spins=True),
    BenchPeer("lrpc channel", "lrpc channel", "lrpc", _grpc(socket_of, "adapt")),  # likewise
    BenchPeer(SHIPPED_CHANNEL, "lrpc channel adapting", "lrpc", _grpc(socket_of, "adapt")),
    BenchPeer("lrpc channel, asyncio", "lrpc channel, asyncio", "lrpc", _awaited(doors=True), measured=("Add",)),
    BenchPeer("pipe", "pipe", "lrpc", _pipe),
    BenchPeer("socket", "socket", "lrpc", _socket),
    BenchPeer(BESIDE, "gRPC", "grpc", _grpc(socket_of)),
    BenchPeer("gRPC, TCP", "gRPC", "grpc", _grpc(port_of)),
    BenchPeer("gRPC, asyncio", "gRPC, asyncio", "grpc", _awaited(doors=False), measured=("Add",)),
    BenchPeer("multiprocessing", "multiprocessing", "multiprocessing", _multiprocessing),
    BenchPeer("rpyc", "rpyc", "rpyc", _rpyc),
    BenchPeer("Pyro5", "Pyro5", "Pyro5", _pyro),
    BenchPeer("pyzmq", "pyzmq", "zmq", _zmq),
    BenchPeer("iceoryx2", "iceoryx2", "iceoryx2", _iceoryx, spins=True),
    BenchPeer("Ray", "Ray", "ray", _ray, slow=True),
)
SHARED: Final = ("lrpc adapting", "lrpc", BESIDE)  # measured with several clients too
COMPUTING: Final = ("lrpc/mp", "lrpc", SHIPPED_CHANNEL, BESIDE)  # and while their server computes
