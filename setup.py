"""Compiles the modules that every simulated call runs through, where a C compiler is; elsewhere they are run."""

import os
from pathlib import Path

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

try:
    from mypyc.build import mypycify
except ImportError:  # an installation of the plain sources, without build requirements
    mypycify = None

LIST = Path(__file__).with_name("compiled-modules.txt")


class BuildWherePossible(build_ext):
    """Goes on without compiled modules where they cannot be compiled, and says so once."""

    def run(self) -> None:
        """Build all of them, or none."""
        try:
            super().run()
        except (BaseError, CCompilerError, OSError) as error:
            self.extensions = []
            self.warn(f"no C compiler that works, so lrpc runs interpreted, with equal results ({error})")


def extensions():
    """Return what there is to compile."""
    if mypycify is None or os.environ.get("LRPC_INTERPRETED") == "1":
        return []
    files = [f"lrpc/{line}" for line in LIST.read_text().splitlines() if not line.startswith("#")]
    return mypycify([*files, f"--config-file={LIST.with_name('mypyc.ini')}"], group_name="lrpc_hot", opt_level="3")


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildWherePossible})
