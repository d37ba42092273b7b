"""Compiles the modules that every simulated call runs through, where a C compiler is; elsewhere they are run."""

import os

from setuptools import setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import BaseError, CCompilerError

try:
    from mypyc.build import mypycify
except ImportError:  # an installation of the plain sources, without build requirements
    mypycify = None

# Not `random`: it multiplies 64-bit words, and compiled code takes an interruption (Ctrl-C) of such a multiplication
# for memory that has run out.
HOT = {
    "lrpc/kernel": ["descriptors", "states"],
    "lrpc/kernel/simulated": [
        "astacks",
        "bindings",
        "charges",
        "counts",
        "dispatcher",
        "domain",
        "engine",
        "estacks",
        "histogram",
        "kernel",
        "locks",
        "log",
        "memory",
        "message_passing",
        "packets",
        "processor",
        "remote",
        "scheduler",
        "termination",
        "threads",
        "transfer",
    ],
    "lrpc/domains": ["plans", "stubs"],
    "lrpc/domains/simulated": ["binding", "domain", "stubs"],
    "lrpc/cluster": ["paths"],
    "lrpc/workloads/systems": ["activity", "dice", "environment", "files", "pages", "recording", "unix"],
}


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
    files = [f"{folder}/{module}.py" for folder, modules in HOT.items() for module in modules]
    return mypycify([*files, "--config-file=", "--ignore-missing-imports"], group_name="lrpc_hot", opt_level="3")


setup(ext_modules=extensions(), cmdclass={"build_ext": BuildWherePossible})
