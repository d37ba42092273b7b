"""Lightweight RPC (Bershad, Anderson, Lazowska, Levy; SOSP 1989), alive in Python."""

from pathlib import Path

from lrpc.kernel import compiled

compiled.choose(Path(__file__).parent)  # before anything that could come compiled

from lrpc.cluster.machine import Machine
from lrpc.domains.codecs import (
    Bool,
    Bytes200,
    Check,
    FixedBytes,
    Float32,
    Float64,
    Immutable,
    Int8,
    Int16,
    Int32,
    Int64,
    Reference,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    UpTo,
)
from lrpc.domains.domain import bind
from lrpc.domains.interface import Interface, InterfaceRefused, interface_of, procedure
from lrpc.domains.residents import Program, Registry, Server
from lrpc.kernel.errors import (
    AccessFault,
    ArgumentError,
    BindingRefused,
    BindingRevoked,
    CallAborted,
    CallError,
    CallFailed,
    ForgedBinding,
    LinkageInUse,
    NoSuchProcedure,
    ProcedureRaised,
    Refused,
    RunFailed,
    WrongAStack,
)

__version__ = "0.1.0"

__all__ = [
    "AccessFault",
    "ArgumentError",
    "BindingRefused",
    "BindingRevoked",
    "Bool",
    "Bytes200",
    "CallAborted",
    "CallError",
    "CallFailed",
    "Check",
    "FixedBytes",
    "Float32",
    "Float64",
    "ForgedBinding",
    "Immutable",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "Interface",
    "InterfaceRefused",
    "LinkageInUse",
    "Machine",
    "NoSuchProcedure",
    "ProcedureRaised",
    "Program",
    "Reference",
    "Refused",
    "Registry",
    "RunFailed",
    "Server",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "UpTo",
    "WrongAStack",
    "bind",
    "interface_of",
    "procedure",
]
