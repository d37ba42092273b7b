"""Places the pods of a trace on machines, by a policy or by a file.

The two policies are the extremes to compare with: `spread` deals the pods out, so that most calls
cross machines, and `pack` fills one machine after another. Every other placement is a file that
names each pod exactly once, such as the one that `lrpc place` writes. A file that misses a pod or
names an unknown one is refused: a placement for another trace would otherwise be taken for this
one's.
"""

import json
import os
from collections.abc import Iterable, Mapping
from itertools import groupby
from pathlib import Path
from typing import Final

from lrpc.kernel.documents import read_toml
from lrpc.kernel.errors import Refused
from lrpc.workloads.traces.spans import AnyPath, shown

CONSTRAINTS: Final = ("fixed", "together", "apart")  # tables for `lrpc place` that a file may have too
_HEADER: Final = """\
# Which machine each pod runs on. Machines are numbered from 0, in the order of their names.

[placement]
"""


class PlacementRefused(Refused):
    """Raised for an impossible placement; `str()` gives file or policy, the place and the fix."""

    def __init__(self, origin: str, place: str, message: str) -> None:
        super().__init__(origin, place, message)
        self.origin, self.place, self.message = origin, place, message

    def __str__(self) -> str:
        return f"{self.origin}: {self.place}: {self.message}"


def machine_names(machines: int) -> list[str]:
    """Return the names `m0`, `m1`, …, zero-padded to equal width so that they sort by index."""
    width = len(str(machines - 1))
    return [f"m{index:0{width}}" for index in range(machines)]


def place(pods: Iterable[str], machines: int, placement: AnyPath, *, capacity: int | None = None) -> dict[str, int]:
    """Return the index of each pod's machine, 0 to `machines` - 1, in order of pod name.

    `spread` deals the sorted pods out in turn. `pack` fills a machine with `capacity` pods (by
    default pods / machines, rounded up) before it begins the next. Any other text is the path of a
    TOML file that names every pod once (write `./pack` for a file of that name):

        [placement]
        "cart-79d8f6c4b-jw5tq" = 0
        "frontend-6b7c9d5f4-x2x9p" = 1

    Raises `PlacementRefused` if there is no machine, the pods do not fit, or the file is not as
    above.
    """
    names = sorted(set(pods))
    if machines < 1:
        raise PlacementRefused("placement", "machines", f"{machines} cannot hold a pod; give 1 or more")
    if placement == "pack":
        return _packed(names, machines, capacity)
    if capacity is not None:
        raise PlacementRefused("placement", "capacity", "only 'pack' has one; leave it out")
    if placement == "spread":
        return {pod: index % machines for index, pod in enumerate(names)}
    return _from_file(names, machines, Path(placement))


def write_placement(path: AnyPath, mapping: Mapping[str, int]) -> None:
    """Write `mapping` (pod to machine index) to a file that `place` reads, by machine and pod.

    An existing file is replaced. Raises `PlacementRefused` if the file cannot be written.
    """
    by_machine = groupby(sorted(mapping, key=lambda pod: (mapping[pod], pod)), key=mapping.__getitem__)
    blocks = ["".join(f"{_key(pod)} = {machine}\n" for pod in pods) for machine, pods in by_machine]
    try:
        Path(path).write_text(_HEADER + "\n".join(blocks), encoding="utf-8", newline="\n")
    except (OSError, ValueError) as error:  # ValueError: a path or a pod's name with invalid characters
        why = error.strerror if isinstance(error, OSError) else error
        raise PlacementRefused(_name(path), "whole file", f"cannot be written ({why}); check the path") from None


def _packed(pods: list[str], machines: int, capacity: int | None) -> dict[str, int]:
    fits = max(1, -(-len(pods) // machines)) if capacity is None else capacity
    if fits < 1:
        raise PlacementRefused("pack", "capacity", f"{fits} pods fill no machine; give 1 or more")
    if fits * machines < len(pods):
        room = f"{len(pods)} pods do not fit on {machines} machines of {fits}"
        raise PlacementRefused("pack", "capacity", f"{room}; give more machines or a higher capacity")
    return {pod: index // fits for index, pod in enumerate(pods)}


def _from_file(pods: list[str], machines: int, path: Path) -> dict[str, int]:
    table = _table(path)
    for wrong, message in (
        (sorted(table.keys() - set(pods)), "no such pod in the trace; remove the line"),
        ([pod for pod in pods if pod not in table], "this pod has no machine; add a line for it"),
    ):
        if wrong:
            more = f" ({len(wrong) - 1} more like it)" if len(wrong) > 1 else ""
            raise PlacementRefused(_name(path), f"placement.{shown(wrong[0])}", message + more)
    return {pod: _machine(path, pod, table[pod], machines) for pod in pods}


def _table(path: Path) -> dict[str, object]:
    try:
        document = read_toml(path)
    # Beside `Refused`: a number too long to convert raises ValueError, deep nesting RecursionError.
    except (Refused, ValueError, RecursionError) as error:
        why = shown(str(error).removeprefix(f"{path}: "), limit=200, quote=False)
        message = f"{why}; give 'spread', 'pack' or a TOML file"
        raise PlacementRefused(_name(path), "whole file", message) from None
    table = document.pop("placement", None)
    if not isinstance(table, dict):
        raise PlacementRefused(_name(path), "placement", "no such table; begin the file with [placement]")
    for name in CONSTRAINTS:
        document.pop(name, None)
    if document:
        message = f"only the tables placement, {', '.join(CONSTRAINTS)} are read; remove this"
        raise PlacementRefused(_name(path), shown(min(document)), message)
    return table


def _machine(path: Path, pod: str, value: object, machines: int) -> int:
    if type(value) is int and 0 <= value < machines:
        return value
    problem = f"{shown(repr(value), quote=False)} is not a machine; give a number from 0 to {machines - 1}"
    raise PlacementRefused(_name(path), f"placement.{shown(pod)}", problem)


def _name(path: AnyPath) -> str:
    return shown(os.fspath(path), limit=None, quote=False)


def _key(text: str) -> str:
    """Return `text` as a quoted TOML key; JSON quotes alike, except for the delete character."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
