"""Which runs, compiled modules or their sources, and that no compiled module is older than the source beside it.

Set LRPC_INTERPRETED=1 to run the sources where compiled modules exist; results are equal, and slower to come.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

VARIABLE: Final = "LRPC_INTERPRETED"


class _SourcesFirst(MetaPathFinder):
    """Finds a module's source where it would otherwise be found compiled."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the source's spec of one of this package's modules, None for everything else."""
        if not fullname.startswith("lrpc."):
            return None
        for folder in path or ():
            source = Path(folder, f"{fullname.rpartition('.')[2]}.py")
            if source.is_file():
                return importlib.util.spec_from_file_location(fullname, source)
        return None


def choose(package: Path) -> None:
    """Have the modules of the package at this path come from where they should; called before any is imported.

    Raises `ImportError` for a checkout in which a compiled module is older than its source.
    """
    if os.environ.get(VARIABLE) == "1":
        if not any(isinstance(finder, _SourcesFirst) for finder in sys.meta_path):
            sys.meta_path.insert(0, _SourcesFirst())
        return
    if not (package.resolve().parent / "pyproject.toml").is_file():
        return  # installed: nobody edits it, and files there have the times of their unpacking
    for line in (package.resolve().parent / "compiled-modules.txt").read_text().splitlines():
        source = package / line
        module = source.with_suffix(EXTENSION_SUFFIXES[0])
        if module.is_file() and source.is_file() and source.stat().st_mtime_ns > module.stat().st_mtime_ns:
            raise ImportError(
                f"{source} has changed since it was compiled: run `make`, or set {VARIABLE}=1 to run the sources"
            )


def runs_compiled() -> bool:
    """Return whether the simulated kernel that this process runs is compiled."""
    from lrpc.kernel import states  # one of them: all are compiled, or none

    return not str(states.__file__).endswith(".py")


def in_words() -> str:
    """Return which of the two runs, for whoever sets it up."""
    if runs_compiled():
        return "lrpc runs compiled"
    return "lrpc runs interpreted, as no C compiler worked here: results are equal, and slower to come"
