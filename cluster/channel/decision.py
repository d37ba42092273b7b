"""Decides whether a target is a server of this computer that has a door, and which.

A target has a door only where there can be no doubt that it is the server that gRPC would reach.
For a UNIX socket, the door's name has the socket's device and inode. For a port, every address that
the target resolves to must be of this network namespace, and the kernel must list exactly one
listening socket that gRPC would reach there; the door's name has that socket's inode, which the
server has found among its own descriptors. Several listeners, another user's, forwarding, a proxy,
an option that asks for more: gRPC. Between processes of one user this prevents mistakes, not
malice.
"""

import ipaddress
import os
import re
import socket
import stat
import struct
import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

OFF_VARIABLE: Final = "LRPC_CHANNEL"  # "off": every call takes gRPC
OBSERVABILITY: Final = "grpc_observability"  # the module of gRPC's plugin
# Options that change nothing about a unary call on an A-stack, or are kept there too.
_HARMLESS: Final = re.compile(
    r"grpc\.(max_(send|receive)_message_length|max_metadata_size|absolute_max_metadata_size|so_reuseport|"
    r"keepalive_.*|http2\..*|max_connection_.*|client_idle_timeout_ms|(min|max|initial)_reconnect_backoff_ms|"
    r"(primary|secondary)_user_agent|enable_retries|enable_http_proxy|default_authority|"
    r"use_local_subchannel_pool|optimization_target|default_compression_.*|lb_policy_name|enable_channelz|"
    r"dns_.*|max_concurrent_streams)"
)
AGENT_OPTIONS: Final = ("grpc.primary_user_agent", "grpc.secondary_user_agent")
_PROXIES: Final = ("grpc_proxy", "https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY")
# sock_diag(7): one request for all listening sockets of a family.
_NETLINK: Final = 4
_HEAD: Final = struct.Struct("=IHHII")
_REQUEST: Final = struct.Struct("=BBBBI48s")
_DIAG_BY_FAMILY: Final = 20
_DUMP: Final = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_LISTENS: Final = 1 << 10
# Of an answer: family, state, timer, retransmits; port here and there; address; …; user, inode.
_ANSWER: Final = struct.Struct("=BBBB2s2s16s16sI8sIIIII")
# The same as text, and the state of a listening socket in it.
PROC_TABLES: Final = ("/proc/self/net/tcp", "/proc/self/net/tcp6")
_LISTENS_IN_PROC: Final = "0A"
ChannelOptions = Sequence[tuple[str, Any]]  # as gRPC has them


@dataclass(frozen=True)
class Listener:
    """A listening TCP socket, as the kernel lists it."""

    address: str  # "::" and "0.0.0.0" for every address
    port: int
    user: int
    inode: int


@dataclass(frozen=True)
class Decision:
    """Where the calls of a channel go, and why."""

    door: str | None  # None: gRPC
    reason: str
    user: int | None = None  # whose the target's socket is, and the door must be


def decide(target: str, options: ChannelOptions, users: Collection[int] | None = None) -> Decision:
    """Return the name of the door that stands for a target, or why gRPC is to be taken.

    The target's socket must belong to one of `users`, or to this process's own.
    """
    users = (os.geteuid(),) if users is None else users
    off = turned_off()
    if off is not None:
        return Decision(None, off)
    unfit = unfit_option(options)
    if unfit is not None:
        return Decision(None, unfit)
    if target.startswith("unix:") and (not target.startswith("unix://") or target.startswith("unix:///")):
        return _unix(target.removeprefix("unix:").removeprefix("//"), users)
    scheme, colon, rest = target.partition(":")
    if colon and scheme == "dns":
        target = rest.removeprefix("///")
    elif colon and scheme in ("ipv4", "ipv6") and _is_address(rest.rpartition(":")[0].strip("[]")):
        target = rest
    elif re.match(r"[a-z][a-z0-9+.-]*:///?", target) or "://" in target or target.startswith("unix-abstract:"):
        return Decision(None, f"target {target}: not an address")
    return _port(target, options, users)


def turned_off() -> str | None:
    """Return why nothing in this process takes A-stacks; None where that is not said.

    gRPC's observability plugin measures what gRPC itself does. Nothing public tells whether it has
    been started, so it counts from when the program has read it.
    """
    if os.environ.get(OFF_VARIABLE) == "off":
        return f"{OFF_VARIABLE}=off"
    return "gRPC's observability plugin" if OBSERVABILITY in sys.modules else None


def unfit_option(options: ChannelOptions) -> str | None:
    """Return why a channel with these options takes gRPC; None where none of them says so."""
    for name, value in options:
        if not _HARMLESS.fullmatch(name):
            return f"option {name}"
        if name == "grpc.lb_policy_name" and value != "pick_first":
            return f"option {name}={value}"
        if name in AGENT_OPTIONS and not (isinstance(value, str) and re.fullmatch(r"[!-~]([ -~]*[!-~])?", value)):
            return f"option {name}={value!r}"
    return None


def door_of_socket(path: str) -> str | None:
    """Return the name of the door beside a UNIX socket; None where there is no socket of ours."""
    return _unix(path, (os.geteuid(),)).door


def door_of_inode(inode: int) -> str:
    """Return the name of the door beside a listening TCP socket."""
    return f"grpc-tcp-{os.stat('/proc/self/ns/net').st_ino}-{inode}"


def own_listeners(port: int) -> list[Listener]:
    """Return this process's own listening sockets on a port."""
    own = set()
    for fd in os.listdir("/proc/self/fd"):
        try:
            own.add(os.readlink(f"/proc/self/fd/{fd}"))
        except OSError:
            continue
    return [one for one in listeners() if one.port == port and f"socket:[{one.inode}]" in own]


def listeners() -> list[Listener]:
    """Return every listening TCP socket of this network namespace, as the kernel lists them.

    By sock_diag; where that is refused, by /proc, which takes ten times as long. Raises `OSError`
    where neither tells.
    """
    try:
        return _by_sock_diag()
    except OSError:
        return _by_proc()


def _by_proc() -> list[Listener]:
    found = []
    for path in PROC_TABLES:
        if path != PROC_TABLES[0] and not os.path.exists(path):
            continue  # this system has no IPv6
        with open(path, encoding="ascii") as table:
            next(table)  # the names of its columns
            for fields in map(str.split, table):
                if fields[3] == _LISTENS_IN_PROC:
                    address, _, port = fields[1].partition(":")
                    found.append(Listener(_read_address(address), int(port, 16), int(fields[7]), int(fields[9])))
    return found


def _read_address(text: str) -> str:
    """Return an address that /proc writes as hexadecimal words of this processor's order."""
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return socket.inet_ntop(socket.AF_INET if len(words) == 1 else socket.AF_INET6, packed)


def _by_sock_diag() -> list[Listener]:
    found = []
    with socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK) as ask:
        ask.settimeout(1)
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _LISTENS, bytes(48))
            ask.send(_HEAD.pack(_HEAD.size + len(request), _DIAG_BY_FAMILY, _DUMP, 1, 0) + request)
            found += _answers(ask)
    return found


def _answers(ask: socket.socket) -> list[Listener]:
    found: list[Listener] = []
    while True:
        data = ask.recv(1 << 16)
        at = 0
        while at + _HEAD.size <= len(data):
            size, kind, _, _, _ = _HEAD.unpack_from(data, at)
            if kind == 3:  # NLMSG_DONE
                return found
            if kind == 2 or size < _HEAD.size + _ANSWER.size:  # NLMSG_ERROR
                raise OSError("the kernel does not list sockets")
            fields = _ANSWER.unpack_from(data, at + _HEAD.size)
            family, address = fields[0], fields[6]
            text = socket.inet_ntop(family, address[: 4 if family == socket.AF_INET else 16])
            found.append(Listener(text, int.from_bytes(fields[4], "big"), fields[13], fields[14]))
            at += (size + 3) & ~3


def _unix(path: str, users: Collection[int]) -> Decision:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return Decision(None, f"{path}: no socket there")
    if not stat.S_ISSOCK(found.st_mode) or found.st_uid not in users:
        return Decision(None, f"{path}: no socket of {_named(users)}")
    return Decision(f"grpc-unix-{found.st_dev}-{found.st_ino}", f"socket {path}", found.st_uid)


def _port(target: str, options: ChannelOptions, users: Collection[int]) -> Decision:
    if dict(options).get("grpc.enable_http_proxy") != 0 and any(os.environ.get(one) for one in _PROXIES):
        return Decision(None, "a proxy is set in the environment")
    host, colon, port = target.rpartition(":")
    if not colon or not re.fullmatch(r"[0-9]{1,5}", port) or (":" in host and host[:1] + host[-1:] != "[]"):
        return Decision(None, f"target {target}: no port")
    host = host.strip("[]")
    # To look up other names may take longer than a call has, and few of them are this computer's.
    if host != "localhost" and not _is_address(host):
        return Decision(None, f"{host}: not localhost, and not an address")
    try:
        resolved = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
        addresses = {str(one[4][0]).partition("%")[0] for one in resolved}
    except (OSError, OverflowError, ValueError):
        return Decision(None, f"{host}: it does not resolve")
    for address in addresses:
        if not _is_of_this_namespace(address):
            return Decision(None, f"{address}: not an address of this computer")
    try:
        there = [one for one in listeners() if one.port == int(port) and _reached(one.address, addresses)]
    except OSError as error:
        return Decision(None, f"listening sockets cannot be listed: {error}")
    if len(there) != 1:
        return Decision(None, f"{len(there)} sockets listen on port {port}")
    own = there[0]
    if own.user not in users:
        return Decision(None, f"port {port} belongs to user {own.user}, not to {_named(users)}")
    return Decision(door_of_inode(own.inode), f"port {port}, socket {own.inode}", own.user)


def _named(users: Collection[int]) -> str:
    return " or ".join(f"user {one}" for one in sorted(users)[:10])


def _reached(listening: str, addresses: set[str]) -> bool:
    """Return whether a connection to any of the addresses may reach this listener."""
    if listening == "::":  # which takes IPv4 too, where it was made so
        return True
    versions = {ipaddress.ip_address(one).version for one in addresses}
    if listening == "0.0.0.0":
        return 4 in versions
    own = ipaddress.ip_address(listening)
    mapped = own.ipv4_mapped if isinstance(own, ipaddress.IPv6Address) else None
    return str(mapped or own) in {str(ipaddress.ip_address(one)) for one in addresses}


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _is_of_this_namespace(address: str) -> bool:
    """Return whether an address is this network namespace's own: one can bind to it."""
    if ipaddress.ip_address(address).is_loopback:
        return True
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return not ipaddress.ip_address(address).is_unspecified
