"""The command `lrpc`, run in this process, and files for it to read."""

import json
import re
import sys
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from lrpc.workloads import launcher, scenarios

HERE = ("--actors", "0", "--links", "memory")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """Return the one line that a command which failed says, and nothing else."""
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
    """Run a command that must be refused before work begins; return the line that says why."""
    ended = lrpc(*arguments)
    assert ended.code == 2, ended
    return ended.line


def record(folder: Path) -> dict[str, Any]:
    """Return the record that a folder holds."""
    found = json.loads((folder / "record.json").read_text())
    assert isinstance(found, dict)
    return found


def office(folder: Path, actions: int = 20, blocks: int = 512, workstations: int = 2) -> Path:
    """Write the scenario `office` with fewer actions and other caches, and return its file."""
    text = scenarios.find("office").read_text()
    for name, value in (("actions", actions), ("blocks", blocks), ("count", workstations)):
        text, times = re.subn(rf"\b{name} = \d+", f"{name} = {value}", text)
        assert times == 1
    path = folder / "office.toml"
    path.write_text(text)
    return path
