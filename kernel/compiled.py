"""Chooses whether a process runs lrpc's compiled modules or their sources.

The modules that compiled-modules.txt lists are compiled by mypyc where there is a C compiler. Each
compiled module stands beside its source, and Python prefers it. A checkout whose source was edited
after compiling would therefore run old code; `choose` raises an `ImportError` instead.

Set LRPC_INTERPRETED=1 to run the sources even where compiled modules exist. The results are the
same, but take longer.
"""

import importlib.util
import os
import sys
from collections.abc import Sequence
from importlib.machinery import EXTENSION_SUFFIXES, ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Final

VARIABLE: Final = "LRPC_INTERPRETED"
# The host kernel's native part is C, and has no Python source to run in its place.
_NATIVE: Final = ("kernel/host/native.c", "kernel/host/transfer.h")
_NATIVE_MODULE: Final = "kernel/host/native.abi3.so"


class _SourcesFirst:
    """A finder that loads lrpc's modules from their sources, before Python finds them compiled."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec of a module's source, or None for a module that is not lrpc's."""
        if not fullname.startswith("lrpc."):
            return None
        for folder in path or ():
            source = Path(folder, f"{fullname.rpartition('.')[2]}.py")
            if source.is_file():
                return importlib.util.spec_from_file_location(fullname, source)
        return None


def choose(package: Path) -> None:
    """Set up where the modules of `package`, the folder lrpc/, are loaded from.

    Call this before any of them is imported. Raises `ImportError` in a checkout where a compiled
    module is older than its source.
    """
    if os.environ.get(VARIABLE) == "1":
        if not any(isinstance(finder, _SourcesFirst) for finder in sys.meta_path):
            sys.meta_path.insert(0, _SourcesFirst())
        return
    if not (package.resolve().parent / "pyproject.toml").is_file():
        # An installed package is not edited, and its files bear the times at which they were
        # unpacked.
        return
    for line in [*(package.resolve().parent / "compiled-modules.txt").read_text().splitlines(), *_NATIVE]:
        source = package / line
        module = package / _NATIVE_MODULE if line in _NATIVE else source.with_suffix(EXTENSION_SUFFIXES[0])
        if module.is_file() and source.is_file() and source.stat().st_mtime_ns > module.stat().st_mtime_ns:
            raise ImportError(
                f"{source} has changed since it was compiled: run `make`, or set {VARIABLE}=1 to run the sources"
            )


def runs_compiled() -> bool:
    """Return whether the simulated kernel of this process is compiled."""
    # Any listed module serves: either all of them are compiled or none is.
    from lrpc.kernel import states

    return not str(states.__file__).endswith(".py")


def in_words() -> str:
    """Return one line that tells the reader whether lrpc runs compiled."""
    if runs_compiled():
        return "lrpc runs compiled"
    return "lrpc runs interpreted, because no C compiler worked here: the results are the same, but take longer"
