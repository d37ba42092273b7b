"""Processes in namespaces of their own, as the containers of a pod have them."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import cache

import pytest

from tests.support.host import ROOT

# What the containers of a pod do not share: process ids, and what is mounted where.
CONTAINER = ("--pid", "--fork", "--kill-child", "--mount", "--mount-proc")
OTHER_USERS = ("--user", "--map-root-user")


@cache
def refused(flags: Sequence[str]) -> str | None:
    """Return why this system gives no namespaces like these; None where it does."""
    if shutil.which("unshare") is None:
        return "there is no unshare"
    found = subprocess.run(["unshare", *flags, "true"], capture_output=True, text=True)
    return None if found.returncode == 0 else f"unshare {' '.join(flags)}: {found.stderr.strip()}"


def contained(code: str, *arguments: str, flags: Sequence[str] = CONTAINER) -> "subprocess.Popen[str]":
    """Run Python code in namespaces of its own; skip the test where the system refuses them."""
    reason = refused(flags) if flags else None
    if reason is not None:
        pytest.skip(reason)
    begin = "from tests.support.host import *; import sys\n"
    command = [*(("unshare", *flags) if flags else ()), sys.executable, "-c", begin + code, *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "LRPC_DOORS"}
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
