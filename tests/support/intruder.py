"""Another user of this computer, who tries to read, to write and to connect."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

INTRUDES = """
import os, socket, sys
for path in sys.argv[1:]:
    connect = socket.socket(socket.AF_UNIX).connect
    for attempt in (os.listdir, lambda path: open(path + "/x", "w"), connect):
        try:
            attempt(path)
        except PermissionError:
            continue
        except OSError as error:
            sys.exit(f"{path}: {error}")
        sys.exit(f"{path}: open")
"""
only_root = pytest.mark.skipif(
    os.getuid() != 0 or shutil.which("setpriv") is None, reason="only root can be another user"
)


def intruded(*paths: Path) -> str:
    """Return what another user got at; empty if nothing of these paths."""
    other = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--"]
    said = subprocess.run([*other, sys.executable, "-I", "-c", INTRUDES, *paths], capture_output=True, text=True)
    assert said.returncode == 0 or said.stderr
    return said.stderr
