"""The doors beside a server's ports, whichever way it runs its handlers; and options of our own."""

import logging
import os
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import grpc

from lrpc.cluster.channel import decision
from lrpc.cluster.channel.decision import ChannelOptions
from lrpc.cluster.channel.form import SIGNATURE, WITHOUT_TLS
from lrpc.cluster.channel.methods import Methods
from lrpc.domains.host.here import require, waits_number
from lrpc.kernel.descriptors import Entry, ProcedureDescriptor
from lrpc.kernel.errors import BindingRefused, Panic

if TYPE_CHECKING:  # which needs the host kernel
    from lrpc.kernel.host.bindings import ServerBinding
    from lrpc.kernel.host.doors import Doors
    from lrpc.kernel.host.server import HostServer

_LOG = logging.getLogger("lrpc.channel")
INTERFACE: Final = "gRPC"
# Options of ours, for channels and servers alike.
LOCAL_WITHOUT_TLS: Final = "lrpc.local_without_tls"  # A-stacks in place of TLS, where both sides say so
DOORS: Final = "lrpc.doors"  # the folder of the doors, or the users of abstract ones
WAITS: Final = "lrpc.waits"  # how this side waits: "adapt", "sleep" or "spin"
METADATA_BOUNDS: Final = ("grpc.max_metadata_size", "grpc.absolute_max_metadata_size")
ROOM: Final = 2048  # bytes on an A-stack; larger messages travel out of band
SIMULTANEOUS: Final = 16  # calls of one channel


def passed_on(options: ChannelOptions | None) -> ChannelOptions | None:
    """Return the options that are gRPC's; None where there are none."""
    return [(name, value) for name, value in options or () if not name.startswith("lrpc.")] or None


def waits_of(options: ChannelOptions | None) -> int:
    """Return how a side with these options waits, by the kernel's number of it.

    Raises `Refused` where they name no such way.
    """
    return waits_number(dict(options or ()).get(WAITS, "adapt"))


def largest_request(options: ChannelOptions | None) -> int:
    """Return how many bytes a request may have that a server with these options takes."""
    return _bytes(options, "grpc.max_receive_message_length", 4 << 20)


def largest_response(options: ChannelOptions | None) -> int:
    """Return how many bytes a response may have that a server with these options sends."""
    return _bytes(options, "grpc.max_send_message_length", -1)


def _bytes(options: ChannelOptions | None, name: str, usual: int) -> int:
    found = dict(options or ()).get(name, usual)
    return found if isinstance(found, int) and found >= 0 else 1 << 30


class PortDoors:
    """The doors of one server, beside the ports that it has opened."""

    def __init__(
        self, options: ChannelOptions | None, simultaneous: int = SIMULTANEOUS, unfit: str | None = None
    ) -> None:
        own = dict(options or ())
        self._where = None if DOORS not in own else str(own[DOORS])
        self._without_tls = bool(own.get(LOCAL_WITHOUT_TLS))
        self.waits = waits_of(options)
        self._simultaneous = simultaneous
        # Why there are none, whatever its ports are; bounds of metadata are gRPC's to keep to.
        self._unfit = next((f"option {name}" for name in METADATA_BOUNDS if name in own), unfit)
        self.ports: list[tuple[str, int, str]] = []  # address, port, and the signature of its door
        self.local: HostServer | None = None  # once it has started
        self._doors: Doors | None = None
        _all.add(self)

    def add(self, address: str, port: int, *, secure: bool = False) -> None:
        """Note a port; one with TLS has a door only where `lrpc.local_without_tls` is set."""
        if not secure:
            self.ports.append((address, port, SIGNATURE))
        elif self._without_tls:
            self.ports.append((address, port, WITHOUT_TLS))

    def open(
        self,
        serve: "Callable[[Doors], HostServer]",
        stubs_for: "Callable[[ServerBinding], Sequence[Entry]] | None",
    ) -> None:
        """Open the doors of the server that `serve` makes; where that fails, gRPC serves alone."""
        off = decision.turned_off() or self._unfit
        if off is not None:
            _LOG.info("no doors: %s", off)
            return
        try:
            require()
            self._open(serve, stubs_for)
        except Exception as error:
            _LOG.warning("no doors: %s", error)

    def _open(self, serve: "Callable[[Doors], HostServer]", stubs_for: Any) -> None:
        from lrpc.kernel.host import processors
        from lrpc.kernel.host.doors import doors_at

        processors.choose_spinning()
        self._doors = doors_at(self._where)
        self.local = serve(self._doors)
        descriptor = ProcedureDescriptor("call", _nothing, ROOM, ROOM, self._simultaneous)
        for address, port, signature in self.ports:
            for name in _doors_of(address, port):
                try:
                    self.local.export(name, INTERFACE, (signature,), (descriptor,), None, stubs_for)
                except BindingRefused as error:
                    _LOG.warning("no door beside %s: %s", address, error)

    def close(self) -> None:
        """End all bindings, and close the doors; what runs is not waited for."""
        if self.local is not None:
            self.local.close(0.0)
        if self._doors is not None:
            self._doors.close()

    def forget(self) -> None:
        """Close a forked child's copies: clients see the end of its parent, which goes on."""
        if self.local is not None:
            self.local.forget()
        if self._doors is not None:
            self._doors.forget()


_all: Final[weakref.WeakSet[PortDoors]] = weakref.WeakSet()


def _forget_all() -> None:
    for doors in list(_all):
        doors.forget()


os.register_at_fork(after_in_child=_forget_all)


def _doors_of(address: str, port: int) -> list[str]:
    """Return the names of the doors beside one of gRPC's ports."""
    if address.startswith("unix:"):
        door = decision.door_of_socket(address.removeprefix("unix:").removeprefix("//"))
        return [] if door is None else [door]
    try:
        return [decision.door_of_inode(one.inode) for one in decision.own_listeners(port)]
    except OSError as error:  # other ports have theirs
        _LOG.warning("no door beside %s: listening sockets cannot be listed: %s", address, error)
        return []


def _nothing(buffer: bytes | bytearray, offset: int) -> bytes:
    raise Panic("a binding to a gRPC server has stubs of its own")


def broken(error: BaseException) -> tuple[int, bytes]:
    """Return the reply where lrpc itself has failed: the stub answers for what handlers do."""
    _LOG.error("a call on an A-stack failed", exc_info=error)
    return 3, repr(error)[:1000].encode()


class RegisteredServer:
    """What a server of either kind registers and opens: with gRPC's server, and at its doors."""

    doors: PortDoors
    _grpc: Any
    _methods: Methods

    @property
    def local_calls(self) -> int:
        """Return how many calls have come over A-stacks."""
        return 0 if self.doors.local is None else sum(one["calls"] for one in self.doors.local.totals().values())

    @property
    def grpc_calls(self) -> int:
        """Return how many calls, also streams, have come by gRPC."""
        return self._methods.grpc_calls

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Iterable[Any]) -> None:
        """Register generic handlers."""
        given = tuple(generic_rpc_handlers)
        self._grpc.add_generic_rpc_handlers(given)
        self._methods.generic.extend(given)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """Register the handlers of a service by the names of its methods."""
        self._grpc.add_registered_method_handlers(service_name, dict(method_handlers))
        self._methods.register(service_name, dict(method_handlers))

    def add_insecure_port(self, address: str) -> int:
        """Open a port; a door will stand beside it."""
        port: int = self._grpc.add_insecure_port(address)
        self.doors.add(address, port)
        return port

    def add_secure_port(self, address: str, server_credentials: grpc.ServerCredentials) -> int:
        """Open a port with TLS; a door stands beside it where `lrpc.local_without_tls` is set."""
        port: int = self._grpc.add_secure_port(address, server_credentials)
        self.doors.add(address, port, secure=True)
        return port
