"""The command `lrpc`, run in this process, and files for it to read."""

import json
import re
import sys
import time
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from threading import Event
from typing import Any, Final

import pytest

from lrpc.workloads import launcher, scenarios

PATIENCE_S: Final = 300.0  # however busy the computer is; only a failure takes that long
HERE = ("--actors", "0", "--links", "memory")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """Return the one line that a failed command prints, and check that it prints no more."""
        assert self.err.endswith("\n")
        (line,) = self.err.splitlines()
        assert "Traceback" not in self.out + line
        return line


def lrpc(*arguments: object) -> Ended:
    """Run the command with these arguments, as a shell would."""
    out, err, before = StringIO(), StringIO(), sys.argv
    sys.argv = ["lrpc", *map(str, arguments)]
    try:
        with redirect_stdout(out), redirect_stderr(err):
            launcher.main()
    except SystemExit as ended:
        code = ended.code or 0
        assert isinstance(code, int)
        return Ended(code, out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("the command came back without an exit code")


def refused(*arguments: object) -> str:
    """Run a command that must be refused before work begins; return the line of the reason."""
    ended = lrpc(*arguments)
    assert ended.code == 2, ended
    return ended.line


def record(folder: Path) -> dict[str, Any]:
    """Return the record that a folder holds."""
    found = json.loads((folder / "record.json").read_text())
    assert isinstance(found, dict)
    return found


def change(folder: Path, edit: Callable[[dict[str, Any]], object]) -> Path:
    """Edit the record in a folder, and return the folder."""
    found = record(folder)
    edit(found)
    (folder / "record.json").write_text(json.dumps(found))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def office(folder: Path, actions: int = 20, blocks: int = 512, workstations: int = 2) -> Path:
    """Write the scenario `office` with fewer actions and other caches, and return its file."""
    text = scenarios.find("office").read_text()
    for name, value in (("actions", actions), ("blocks", blocks), ("count", workstations)):
        text, times = re.subn(rf"\b{name} = \d+", f"{name} = {value}", text)
        assert times == 1
    path = folder / "office.toml"
    path.write_text(text)
    return path


def wait_until(what: str, has_come: Callable[[], bool]) -> None:
    """Poll until `has_come` holds; fail after PATIENCE_S."""
    since = time.monotonic()
    while not has_come():
        if time.monotonic() - since > PATIENCE_S:
            pytest.fail(f"{what} did not come within {PATIENCE_S:.0f} s")
        Event().wait(0.02)
