"""The versions a record was made with: lrpc's, its commit if known, Python's and the libraries'."""

import json
import os
import platform
import subprocess
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Final

from lrpc import __version__

LIBRARIES: Final = ("greenlet", "grpcio", "numpy", "protobuf", "pydantic", "ray")
GIT_TIMEOUT_S: Final = 5.0


def versions() -> dict[str, str | None]:
    """Return the version of everything that a run rests on, None where it is not known."""
    return {
        "lrpc": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        **{library: _library(library) for library in LIBRARIES},
    }


@cache
def commit() -> str | None:
    """Return the commit of the running code.

    That is the checkout's (`-dirty` if files differ), or the one that pip recorded.

    None for an installation that pip made from an archive or a package.
    """
    top = Path(__file__).resolve().parents[2]
    if (top / "pyproject.toml").is_file() and (top / ".git").exists():
        return _checked_out(top)
    try:
        recorded = metadata.distribution("lrpc").read_text("direct_url.json")
    except metadata.PackageNotFoundError:
        return None
    try:
        found = json.loads(recorded or "{}").get("vcs_info", {}).get("commit_id")
    except (ValueError, AttributeError):
        return None
    return found if isinstance(found, str) else None


def _checked_out(top: Path) -> str | None:
    # Not the repository that a git hook, say, names in the environment.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(top), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        said = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=GIT_TIMEOUT_S, env=environment
        )
    except (OSError, subprocess.SubprocessError):  # no git here, or a checkout that it does not trust
        return None
    return said.stdout.strip() or None


def _library(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # Ray is not needed to run in one process
        return None
