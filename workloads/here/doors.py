"""Looks at what processes of this computer export: asks each door, and tells in tables."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from lrpc.domains.host.here import require
from lrpc.kernel.errors import BindingRefused, Refused
from lrpc.kernel.text import one_line, visible
from lrpc.workloads.records.tables import Table, TableValue

_Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True)
class Exported:
    """One export, as its server tells of it."""

    interface: str
    procedures: list[str]


@dataclass(frozen=True)
class Bound:
    """One binding, as its server tells of it. Counts are of A-stacks, or since it was bound."""

    export: str
    client: str
    bytes: _Count
    calls: _Count
    spun: _Count  # waits for a call that ended while a worker watched
    slept: _Count
    bells: _Count
    aborted: _Count
    astacks: _Count
    attended: _Count
    busy: _Count
    spinning: _Count
    why: str  # workers hand the processor over


@dataclass(frozen=True)
class Status:
    """What a domain tells of itself."""

    domain: str
    process: int
    exports: dict[str, Exported]
    workers: _Count
    bindings: list[Bound]
    refusals: dict[str, _Count]
    ended: dict[str, _Count]


WATCHES: Final = "watches"  # what a server says of a binding whose workers do
_ADAPTER: Final = TypeAdapter(Status)


def status_of(name: str, folder: Path | None) -> Exported:
    """Return what the server of an export tells of it. Raises `Refused` where nobody answers."""
    found = statuses(folder, [name])[name]
    if isinstance(found, str):
        raise Refused(found)
    if name not in found.exports:
        raise Refused(f"{name}: its server does not tell of it")
    return found.exports[name]


def statuses(folder: Path | None, names: list[str] | None = None) -> Mapping[str, Status | str]:
    """Return what the server behind each door tells, or why it tells nothing.

    Raises `Refused` where there is no folder of doors, or it is not this user's.
    """
    require()
    from lrpc.kernel.host import client
    from lrpc.kernel.host.doors import doors_at

    found: dict[str, Status | str] = {}
    try:
        doors = doors_at(folder)
    except BindingRefused as error:
        raise Refused(str(error)) from None
    try:
        for name in doors.names() if names is None else names:
            try:
                found[name] = _ADAPTER.validate_python(client.status(doors, name))
            except BindingRefused as error:
                found[name] = str(error)
            except ValidationError:
                found[name] = f"{name}: what it says cannot be read; it may run another lrpc"
    finally:
        doors.close()
    return found


def tables(found: Mapping[str, Status | str]) -> list[Table]:
    """Return tables of the exports, and of the bindings to them."""
    exports: list[tuple[TableValue, ...]] = []
    bindings: list[tuple[TableValue, ...]] = []
    for name, status in found.items():
        if isinstance(status, str):
            exports.append((name, None, None, None, None, None, one_line(visible(status))))
            continue
        own = [one for one in status.bindings if one.export == name]
        calls = sum(one.calls for one in own)
        interface = visible(status.exports[name].interface) if name in status.exports else None
        exports.append((name, interface, str(status.process), status.workers, len(own), calls, "answers"))
        for one in own:
            waits, watches = one.spun + one.slept, one.spinning > 0 or one.why == WATCHES
            bindings.append(
                (
                    name,
                    visible(one.client),
                    one.calls,
                    f"{one.busy}/{one.astacks}",
                    one.attended,
                    round(100 * one.spun / waits, 1) if waits else None,
                    "watches" if watches else "hands over",
                    None if watches else visible(one.why),
                    one.aborted or None,
                    one.bytes,
                )
            )
    return [
        Table("exports", "Exports", ("name", "interface", "process", "workers", "bindings", "calls", "state"), exports),
        Table(
            "bindings",
            "Bindings",
            ("name", "client", "calls", "in use", "attended", "spun %", "mode", "why", "aborted", "bytes"),
            bindings,
        ),
    ]
