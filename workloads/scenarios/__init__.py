"""Scenarios and sweeps that ship with the project, and how a name or a path leads to one."""

import os
from pathlib import Path
from typing import Final

from lrpc.kernel.documents import read_toml
from lrpc.kernel.errors import Refused

HERE: Final = Path(__file__).parent
SWEEPS: Final = HERE / "sweeps"


def names(folder: Path = HERE) -> list[str]:
    """Return the names of the scenarios, or sweeps, that ship with the project."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def find(name: str) -> Path:
    """Return the file of a scenario, by its bare name or its path; `Refused` where there is none."""
    return _find(name, HERE, "scenario")


def find_sweep(name: str) -> Path:
    """Return the file of a sweep, likewise."""
    return _find(name, SWEEPS, "sweep")


def description(name: str) -> str:
    """Return what a scenario says it is for."""
    return str(read_toml(find(name)).get("description", ""))


def _find(name: str, folder: Path, what: str) -> Path:
    if name in names(folder):
        return folder / f"{name}.toml"
    path = Path(name)
    if path.suffix != ".toml" and not os.path.exists(path):  # Path.exists() raises where a name is too long
        raise Refused(f"{what} {name}: unknown; known are {', '.join(names(folder))}, or a .toml file's path")
    return path
