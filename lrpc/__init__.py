"""Lightweight RPC (Bershad, Anderson, Lazowska, Levy; SOSP 1989) in Python: the public API.

There are three ways in. `Machine`, `Domain` and `bind` make a single simulated machine and calls
between its domains. `read_cluster` and `run` run a scenario on a simulated cluster. `this_machine`
makes the running process a domain, for real calls between processes of this computer; generated
gRPC stubs make them through `insecure_channel` and `server`, with asyncio through those of
`lrpc.aio`. Interfaces are defined with `Interface`, `procedure` and the types of arguments. Your
own servers and programs derive from `Server` and `Program`, and a `Registry` gives them names.
"""

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from lrpc.kernel import compiled

# Compiled modules or their sources: this must be chosen before any such module is imported.
compiled.choose(Path(__file__).parent)

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
    Mutable,
    Reference,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    UpTo,
)
from lrpc.domains.host.here import deadline, this_machine
from lrpc.domains.interface import Interface, InterfaceRefused, interface_of, leaf, procedure
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
    NestedTooDeep,
    NoSuchProcedure,
    ProcedureRaised,
    Refused,
    RunFailed,
    WrongAStack,
)

if TYPE_CHECKING:
    from lrpc import aio
    from lrpc.cluster.channel.channel import insecure_channel, secure_channel
    from lrpc.cluster.channel.install import install, uninstall
    from lrpc.cluster.channel.server import server
    from lrpc.cluster.machine import Machine
    from lrpc.cluster.synchronisation import Progress
    from lrpc.domains.domain import Domain, bind
    from lrpc.domains.residents import Findings, Program, Registry, Server
    from lrpc.workloads.records.cells import Cell
    from lrpc.workloads.records.records import Record
    from lrpc.workloads.records.tables import Table
    from lrpc.workloads.runs.library import ReadyCluster, RunIncomplete, RunResult, read_cluster, run

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
    "Cell",
    "Check",
    "Domain",
    "Findings",
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
    "Mutable",
    "NestedTooDeep",
    "NoSuchProcedure",
    "ProcedureRaised",
    "Program",
    "Progress",
    "ReadyCluster",
    "Record",
    "Reference",
    "Refused",
    "Registry",
    "RunFailed",
    "RunIncomplete",
    "RunResult",
    "Server",
    "Table",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "UpTo",
    "WrongAStack",
    "aio",
    "bind",
    "deadline",
    "insecure_channel",
    "install",
    "interface_of",
    "leaf",
    "procedure",
    "read_cluster",
    "run",
    "secure_channel",
    "server",
    "this_machine",
    "uninstall",
]

# Imported when first used: they bring numpy, pydantic, gRPC or the optimiser along, and few
# programs need all of these.
_READ_WHEN_USED = {
    "Domain": "lrpc.domains.domain",
    "Findings": "lrpc.domains.residents",
    "Machine": "lrpc.cluster.machine",
    "Program": "lrpc.domains.residents",
    "Registry": "lrpc.domains.residents",
    "Server": "lrpc.domains.residents",
    "bind": "lrpc.domains.domain",
    "Cell": "lrpc.workloads.records.cells",
    "Progress": "lrpc.cluster.synchronisation",
    "ReadyCluster": "lrpc.workloads.runs.library",
    "Record": "lrpc.workloads.records.records",
    "RunIncomplete": "lrpc.workloads.runs.library",
    "RunResult": "lrpc.workloads.runs.library",
    "Table": "lrpc.workloads.records.tables",
    "insecure_channel": "lrpc.cluster.channel.channel",
    "install": "lrpc.cluster.channel.install",
    "read_cluster": "lrpc.workloads.runs.library",
    "run": "lrpc.workloads.runs.library",
    "secure_channel": "lrpc.cluster.channel.channel",
    "server": "lrpc.cluster.channel.server",
    "uninstall": "lrpc.cluster.channel.install",
}


def __getattr__(name: str) -> object:
    """Import a name of `_READ_WHEN_USED`, or `aio`, when it is first used."""
    if name == "aio":
        return importlib.import_module("lrpc.aio")
    if name in _READ_WHEN_USED:
        value: object = getattr(importlib.import_module(_READ_WHEN_USED[name]), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'lrpc' has no attribute {name!r}")


def __dir__() -> list[str]:
    """Return the public names, including those that are not imported yet."""
    return sorted({*globals(), *__all__})
