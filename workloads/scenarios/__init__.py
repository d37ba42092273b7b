"""The scenarios and sweeps that ship with the project, and the look-up of one by name or path."""

import os
from pathlib import Path
from typing import Final

from lrpc.kernel.documents import read_toml
from lrpc.kernel.errors import Refused

HERE: Final = Path(__file__).parent
SWEEPS: Final = HERE / "sweeps"


def names(folder: Path = HERE) -> list[str]:
    """Return the names of the TOML files in a folder: by default, of the shipped scenarios."""
    return sorted(path.stem for path in folder.glob("*.toml"))


def find(name: str) -> Path:
    """Return the file of a scenario, given its name or its path; raise `Refused` if unknown."""
    return _find(name, HERE, "scenario")


def find_sweep(name: str) -> Path:
    """Return the file of a sweep, given its name or its path; raise `Refused` if unknown."""
    return _find(name, SWEEPS, "sweep")


def description(name: str) -> str:
    """Return the description in a scenario's file, or an empty text."""
    return str(read_toml(find(name)).get("description", ""))


def _find(name: str, folder: Path, what: str) -> Path:
    if name in names(folder):
        return folder / f"{name}.toml"
    path = Path(name)
    # os.path.exists, since Path.exists raises an error for a name that is too long.
    if path.suffix != ".toml" and not os.path.exists(path):
        raise Refused(f"{what} {name}: unknown; known are {', '.join(names(folder))}, or a .toml file's path")
    return path
