"""The servers that the benchmark calls, each run in a process of its own.

`python -m lrpc.workloads.bench.servers PEER ADDRESS` serves until its standard input ends. ADDRESS
is a folder, in which a peer puts its socket if it has one. A peer is measured as its own
documentation begins: with its defaults, and a thread to serve. With a third argument, `computes`,
another thread of the server computes in Python all the time, and holds the interpreter's lock as
long as Python lets it.
"""

import asyncio
import importlib
import multiprocessing.connection
import os
import socket
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final, cast

from lrpc.domains.codecs import Bytes200, Int32, UpTo
from lrpc.domains.host.here import Waits, this_machine
from lrpc.domains.interface import Interface, procedure

LARGEST: Final = 1 << 20
Large = Annotated[bytes, UpTo(LARGEST)]
READY: Final = "ready"
COMPUTES: Final = "computes"
PID: Final = "pid"  # the file that names the process that answers, where that is not the server's own
BLOCK: Final = bytes(range(200))
# The tests, in order: the name of each, its procedure, and what it is given.
ARGUMENTS: Final[dict[str, tuple[str, object]]] = {
    "Null": ("null", None),
    "Add": ("add", (3, 4)),
    "BigIn": ("big_in", BLOCK),
    "BigInOut": ("big_in_out", BLOCK),
    "64 KiB": ("large", bytes(65_536)),
    "1 MiB": ("large", bytes(LARGEST)),
}


class Tests(Interface):
    """The four tests of Table IV, and larger values."""

    @procedure(simultaneous=8)
    def null(self) -> None:
        """Do nothing."""

    @procedure(simultaneous=8)
    def add(self, a: Int32, b: Int32) -> Int32:
        """Return a sum."""

    def big_in(self, block: Bytes200) -> None:
        """Take 200 bytes."""

    def big_in_out(self, block: Bytes200) -> Bytes200:
        """Take 200 bytes and return them."""

    def large(self, data: Large) -> Large:
        """Take and return up to a mebibyte."""


class TestsServer(Tests):
    """Implements the tests; what it is given are `bytes` of its own, which it may keep."""

    def null(self) -> None:
        """Do nothing."""

    def add(self, a: int, b: int) -> int:
        """Return a sum."""
        return a + b

    def big_in(self, block: bytes) -> None:
        """Take 200 bytes."""

    def big_in_out(self, block: bytes) -> bytes:
        """Return the 200 bytes given."""
        return block

    def large(self, data: bytes) -> bytes:
        """Return the bytes given."""
        return data


def answer(name: str, argument: object) -> object:
    """Run a test for a peer without interfaces of its own: `argument` is what it takes."""
    if name == "add":
        a, b = cast(tuple[int, int], argument)
        return a + b
    return argument if name in ("big_in_out", "large") else None


def _serve_lrpc(folder: Path, waits: Waits) -> None:
    with this_machine("bench", folder=folder, waits=waits) as here:
        here.export(Tests, TestsServer(), "bench")
        _ready()


def _serve_socket(folder: Path) -> None:
    from lrpc.domains.host.pipes import serve_messages  # needs the host kernel's native part

    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket"))
    listening.listen()

    def accept() -> None:
        while True:
            connection, _ = listening.accept()
            fd = connection.detach()
            threading.Thread(target=serve_messages, args=(Tests, TestsServer(), fd, fd), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    _ready()


def _serve_pipe(folder: Path) -> None:
    from lrpc.domains.host.pipes import serve_messages

    for name in ("in", "out"):
        os.mkfifo(folder / name)
    print(READY, flush=True)  # opening a pipe waits for its other end
    reading = os.open(folder / "in", os.O_RDONLY)
    writing = os.open(folder / "out", os.O_WRONLY)
    serve_messages(Tests, TestsServer(), reading, writing)


def _serve_multiprocessing(folder: Path) -> None:
    listener = multiprocessing.connection.Listener(str(folder / "socket"), "AF_UNIX")

    def accept() -> None:
        while True:
            threading.Thread(target=serve, args=(listener.accept(),), daemon=True).start()

    def serve(connection: multiprocessing.connection.Connection) -> None:
        try:
            while True:
                connection.send(answer(*connection.recv()))
        except EOFError:
            connection.close()

    threading.Thread(target=accept, daemon=True).start()
    _ready()


def _serve_grpc(folder: Path, waits: Waits | None = None) -> None:
    from lrpc.workloads.bench import service

    service.serve(folder, waits, _ready)


def _serve_both(folder: Path) -> None:
    from lrpc.workloads.bench import service

    service.serve_both(folder, _ready)


def _serve_awaited(folder: Path, *, doors: bool) -> None:
    from lrpc.workloads.bench import service

    asyncio.run(service.serve_awaited(folder, lambda: asyncio.to_thread(_ready), doors=doors))


def _serve_rpyc(folder: Path) -> None:
    rpyc = importlib.import_module("rpyc")
    servers = importlib.import_module("rpyc.utils.server")

    class Service(rpyc.Service):  # type: ignore[misc, name-defined]  # known when it runs
        exposed_answer = staticmethod(answer)

    server = servers.ThreadedServer(
        Service, socket_path=str(folder / "socket"), protocol_config={"allow_all_attrs": True}
    )
    threading.Thread(target=server.start, daemon=True).start()
    _ready()


def _serve_pyro(folder: Path) -> None:
    pyro = importlib.import_module("Pyro5.api")

    @pyro.expose
    class Service:
        def answer(self, name: str, argument: object) -> object:
            if isinstance(argument, dict):  # how its serializer carries bytes
                argument = importlib.import_module("serpent").tobytes(argument)
            return answer(name, argument)

    daemon = pyro.Daemon(unixsocket=str(folder / "socket"))
    (folder / "uri").write_text(str(daemon.register(Service, "bench")))
    threading.Thread(target=daemon.requestLoop, daemon=True).start()
    _ready()


def _serve_zmq(folder: Path) -> None:
    import pickle

    zmq = importlib.import_module("zmq")
    replies = zmq.Context().socket(zmq.REP)
    replies.bind(f"ipc://{folder / 'socket'}")

    def serve() -> None:
        while True:
            replies.send(pickle.dumps(answer(*pickle.loads(replies.recv()))))

    threading.Thread(target=serve, daemon=True).start()
    _ready()


def iceoryx_service(folder: Path) -> tuple[Any, Any]:
    """Return iceoryx2's node, to be kept, and the service of a server's folder."""
    import ctypes

    iox2 = importlib.import_module("iceoryx2")
    iox2.set_log_level(iox2.LogLevel.Error)
    node = iox2.NodeBuilder.new().create(iox2.ServiceType.Ipc)
    slices = iox2.Slice[ctypes.c_uint8], iox2.Slice[ctypes.c_uint8]
    name = iox2.ServiceName.new(f"lrpc-bench/{folder.name}")
    return node, node.service_builder(name).request_response(*slices).open_or_create()


def iceoryx_send(loaned: Any, data: bytes) -> Any:
    """Send what lies in a loaned slice; return what that returns."""
    import ctypes

    ctypes.memmove(loaned.payload_ptr, data, len(data))
    return loaned.assume_init().send()


def iceoryx_bytes(received: Any) -> bytes:
    """Return a copy of what was received, and give the slice back."""
    import ctypes

    payload = received.payload()
    return ctypes.string_at(payload.data_ptr, payload.len())


def _serve_iceoryx(folder: Path) -> None:
    import pickle

    there, done = threading.Event(), threading.Event()

    def serve() -> None:  # all of it in one thread, to which its objects belong
        node, service = iceoryx_service(folder)
        server = service.server_builder().initial_max_slice_len(2 * LARGEST).create()
        there.set()
        while not done.is_set():  # it has no way to wait for a request
            request = server.receive()
            if request is not None:
                data = pickle.dumps(answer(*pickle.loads(iceoryx_bytes(request))))
                iceoryx_send(request.loan_slice_uninit(len(data)), data)
                request.delete()
        server.delete()
        del server, service, node  # which takes what they have in shared memory away

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    there.wait()
    _ready()
    done.set()
    thread.join()


def _ready() -> None:
    print(READY, flush=True)
    sys.stdin.read()


SERVERS: Final[dict[str, Callable[[Path], None]]] = {
    "lrpc": lambda folder: _serve_lrpc(folder, "sleep"),
    "lrpc/mp": lambda folder: _serve_lrpc(folder, "spin"),
    "lrpc adapting": lambda folder: _serve_lrpc(folder, "adapt"),
    "pipe": _serve_pipe,
    "socket": _serve_socket,
    "multiprocessing": _serve_multiprocessing,
    "gRPC": _serve_grpc,
    "gRPC, asyncio": lambda folder: _serve_awaited(folder, doors=False),
    "both": _serve_both,
    "lrpc channel": lambda folder: _serve_grpc(folder, "sleep"),
    "lrpc channel/mp": lambda folder: _serve_grpc(folder, "spin"),
    "lrpc channel adapting": lambda folder: _serve_grpc(folder, "adapt"),
    "lrpc channel, asyncio": lambda folder: _serve_awaited(folder, doors=True),
    "rpyc": _serve_rpyc,
    "Pyro5": _serve_pyro,
    "pyzmq": _serve_zmq,
    "iceoryx2": _serve_iceoryx,
    "Ray": lambda folder: _ready(),  # its client starts it, and what it calls: an actor
}


def compute() -> None:
    """Compute for ever."""
    value = 1
    while True:
        value = value * 1_103_515_245 % 2_147_483_648


if __name__ == "__main__":
    if COMPUTES in sys.argv[3:]:
        threading.Thread(target=compute, daemon=True).start()
    SERVERS[sys.argv[1]](Path(sys.argv[2]))
