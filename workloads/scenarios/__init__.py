"""Scenarios that ship with the project, and how a name or a path leads to one."""

import os
from pathlib import Path
from typing import Final

from lrpc.kernel.documents import read_toml
from lrpc.kernel.errors import Refused

HERE: Final = Path(__file__).parent


def names() -> list[str]:
    """Return the names of the scenarios that ship with the project."""
    return sorted(path.stem for path in HERE.glob("*.toml"))


def find(name: str) -> Path:
    """Return the file of a scenario, by its bare name or its path; `Refused` where there is none."""
    if name in names():
        return HERE / f"{name}.toml"
    path = Path(name)
    if path.suffix != ".toml" and not os.path.exists(path):  # Path.exists() raises where a name is too long
        raise Refused(f"scenario {name}: unknown; known are {', '.join(names())}, or a .toml file's path")
    return path


def description(name: str) -> str:
    """Return what a scenario says it is for."""
    return str(read_toml(find(name)).get("description", ""))
