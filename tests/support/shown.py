"""Commands that a page shows, run as a reader would, and what they print beside what the page says.

A page's ```console blocks hold commands after `$ `, each followed by its output; `...` stands for
any text. They run in order, in one folder, which has the checkout's `workloads`, `kernel` and
`examples`, and with doors of its own. One that ends in ` &` runs beside those that follow, until it
is interrupted in the end; the page shows its first line. A ```toml or ```python block that begins
with a comment of a file's name alone is that file there.

    python -m tests.support.shown docs/split.md

runs a page's commands, and replaces what the page says they print where they print something else.
"""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from doctest import ELLIPSIS, OutputChecker
from os import environ
from pathlib import Path
from signal import SIGINT
from tempfile import TemporaryDirectory
from typing import Final
from unittest.mock import patch

from tests.support.command import lrpc
from tests.support.places import PROJECT

BLOCK: Final = re.compile(r"^```(console|toml|python)\n(.*?)^```$", flags=re.DOTALL | re.MULTILINE)
FILE: Final = re.compile(r"# ([\w-]+\.(?:toml|py))\n")
PROMPT: Final = "$ "
BESIDE: Final = " &"
OF_A_SHELL: Final = re.compile(r"[|<>;&*'\"$]")
LINKED: Final = ("workloads", "kernel", "examples")
LONGEST_S: Final = 200


@dataclass(frozen=True)
class Shown:
    """A command of a page: what the page says it prints, what it does, and its exit code."""

    command: str
    said: str
    printed: str
    code: int

    @property
    def holds(self) -> bool:
        """Return whether the command succeeds, and prints what the page says."""
        return self.code == 0 and OutputChecker().check_output(self.said, self.printed, ELLIPSIS)


def has_commands(text: str) -> bool:
    """Return whether a page shows commands that can be run."""
    return any(block[1] == "console" for block in BLOCK.finditer(text))


def file_of(page: Path, name: str) -> str:
    """Return the file of that name that a page has its reader save."""
    files = (block[2] for block in BLOCK.finditer(page.read_text()) if block[1] != "console")
    return next(text for text in files if (named := FILE.match(text)) and named[1] == name)


def parts(block: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a block, and the output that follows it."""
    for part in block.removeprefix(PROMPT).split(f"\n{PROMPT}"):
        command, _, said = part.partition("\n")
        yield command, said if not said or said.endswith("\n") else f"{said}\n"


def run_page(text: str, folder: Path) -> Iterator[Shown]:
    """Run a page's commands in order, in `folder`, which must be the current one."""
    for name in LINKED:
        (folder / name).symlink_to(PROJECT / name)
    with ExitStack() as stack:
        stack.enter_context(patch.dict(environ, {"LRPC_DOORS": str(folder / "doors")}))
        for block in BLOCK.finditer(text):
            if block[1] == "console":
                for command, said in parts(block[2]):
                    if command.endswith(BESIDE):
                        printed, code = stack.enter_context(_beside(command.removesuffix(BESIDE), folder)), 0
                    else:
                        printed, code = _run(command, folder)
                    yield Shown(command, said, printed, code)
            elif named := FILE.match(block[2]):
                (folder / named[1]).write_text(block[2])


@contextmanager
def _beside(command: str, folder: Path) -> Iterator[str]:
    """Run a command beside others; yield the first line that it prints."""
    words = ["-c", "import lrpc_command; lrpc_command.main()", *command.split()[1:]]
    running = subprocess.Popen(
        [sys.executable, *words],
        cwd=folder,
        env={**environ, "PYTHONPATH": str(PROJECT)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert running.stdout is not None
    try:
        yield running.stdout.readline()
    finally:
        running.send_signal(SIGINT)
        try:
            running.wait(LONGEST_S)
        finally:
            running.kill()
            running.stdout.close()


def _run(command: str, folder: Path) -> tuple[str, int]:
    """Return what a command prints, and its exit code."""
    words = command.split()
    if words[0] == "lrpc" and not OF_A_SHELL.search(command):
        ended = lrpc(*words[1:])
        printed, code = ended.out + (ended.err if ended.code else ""), ended.code
    else:
        path = f"{Path(sys.executable).parent}:{environ['PATH']}"
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=folder,
            env={**environ, "PATH": path},
            text=True,
            capture_output=True,
            timeout=LONGEST_S,
            check=False,
        )
        printed, code = done.stdout + (done.stderr if done.returncode else ""), done.returncode
    return "".join(f"{line.rstrip()}\n" for line in printed.splitlines()), code


def _rewrite(page: Path) -> None:
    """Replace what a page says its commands print, where they print something else."""
    from contextlib import chdir

    text = page.read_text()
    with TemporaryDirectory() as folder, chdir(folder):
        for one in run_page(text, Path(folder)):
            print("as shown" if one.holds else "differs", one.code, one.command, flush=True)
            if not one.holds:
                before = f"{PROMPT}{one.command}\n{one.said}"
                assert text.count(before) >= 1, one.command
                text = text.replace(before, f"{PROMPT}{one.command}\n{one.printed}", 1)
    page.write_text(text)


if __name__ == "__main__":
    for name in sys.argv[1:]:
        _rewrite(Path(name).resolve())
