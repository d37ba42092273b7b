"""A proxy for a transport between a client and a station, which can be cut and restored."""

import socket
import threading
from contextlib import suppress

from lrpc.cluster.peer import Endpoint


class Proxy:
    """Passes bytes on, both ways; while it is cut, no byte passes and no client can connect."""

    def __init__(self, to: Endpoint) -> None:
        host, port = to.address.rsplit(":", 1)
        self._to = host, int(port)
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._cut = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = Endpoint(f"127.0.0.1:{self._listener.getsockname()[1]}", to.certificate)
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Close all connections and accept no new ones."""
        with self._lock:
            self._cut = True
            for one in self._open:
                with suppress(OSError):
                    one.shutdown(socket.SHUT_RDWR)

    def restore(self) -> None:
        """Accept connections again."""
        with self._lock:
            self._cut = False

    def close(self) -> None:
        """Close all connections and the listener, for ever."""
        self.cut()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            with self._lock:
                if self._cut:
                    near.close()
                    continue
                try:
                    far = socket.create_connection(self._to)
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                for one in (near, far):
                    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)
        with self._lock:
            self._open.discard(source)
        source.close()
