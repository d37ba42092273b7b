"""What a process lacks, by filters or by limits: it goes the slower way, or names what it lacks."""

import contextlib
import errno
import gc
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import lrpc
from lrpc.domains.host.here import this_machine
from tests.support.filtered import CANNOT
from tests.support.host import ROOT, SERVE, Shop, process, shop

BOTH = """
with shop(folder, waits="sleep"), this_machine(folder=folder, waits="sleep") as here:
"""
CLIENT = """
with this_machine(folder=folder) as here:
"""
CALL = """
    try:
        client = here.bind(Shop, "shop")
        print(client.add(1, 2), len(client.echo(bytes(100_000))))
    except lrpc.CallError as error:
        print(error)
"""


def without(folder: Path, names: str, error: int, code: str) -> str:
    """Return what code prints in a process where system calls fail."""
    head = f"from tests.support.host import *; from pathlib import Path; folder = Path({str(folder)!r})"
    command = [sys.executable, "-m", "tests.support.filtered", str(error), names, head + code + CALL]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    if done.returncode == CANNOT:
        pytest.skip("this process may set no filter")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("error", [errno.EPERM, errno.EACCES, errno.ENOSYS])
def test_without_futex_waitv_calls_are_made_however_it_is_refused(tmp_path: Path, error: int) -> None:
    assert without(tmp_path, "futex_waitv", error, BOTH) == "3 100000"


@pytest.mark.parametrize("error", [errno.EPERM, errno.ENOSYS])
def test_without_pidfd_open_calls_are_made(tmp_path: Path, error: int) -> None:
    assert without(tmp_path, "pidfd_open,sched_setaffinity", error, BOTH) == "3 100000"


def test_without_pidfd_open_the_end_of_a_server_is_noticed(tmp_path: Path) -> None:
    code = """
with process(folder, SERVE) as server, this_machine(folder=folder) as here:
    import threading
    client = here.bind(Shop, "shop")
    threading.Timer(0.1, server.kill).start()
    try:
        client.wait(30.0)
    except lrpc.CallFailed as error:
        print(error)
if False:
"""
    assert "its server has ended" in without(tmp_path, "pidfd_open", errno.EPERM, code)


def test_without_memfd_create_the_side_that_lacks_it_is_named(tmp_path: Path) -> None:
    said = without(tmp_path, "memfd_create", errno.EPERM, BOTH)
    assert said == "import shop: in the server, a segment of 16,384 bytes cannot be made: Operation not permitted"
    with shop(tmp_path):
        said = without(tmp_path, "memfd_create,pidfd_open", errno.EPERM, CLIENT)
        assert said.startswith("shop: in this process, a segment of ")
        assert said.endswith("bytes cannot be made: Operation not permitted")


def fill_gaps(filled: contextlib.ExitStack) -> int:
    """Fill the gaps between this process's descriptors until the end; return the next free one.

    What is allowed are numbers below a limit, not so many descriptors.
    """
    highest = max(map(int, os.listdir("/proc/self/fd")))
    while (lowest := os.dup(0)) <= highest:
        filled.callback(os.close, lowest)
    os.close(lowest)
    return lowest


def test_whatever_descriptor_is_missing_binding_is_refused_with_the_reason(tmp_path: Path) -> None:
    said: dict[int, str] = {}
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with process(tmp_path, SERVE), this_machine(folder=tmp_path) as here, contextlib.ExitStack() as filled:
        first = here.bind(Shop, "shop")
        for spare in range(9):
            gc.collect()
            limit = fill_gaps(filled)
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit + spare, hard))
            try:
                assert here.bind(Shop, "shop").add(1, 2) == 3
            except lrpc.BindingRefused as error:
                said[spare] = str(error)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert first.add(1, 2) == 3
    assert said
    assert max(said) < 6
    assert all("Too many open files" in one or "has as many as it may" in one for one in said.values()), said
