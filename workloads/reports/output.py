"""Prints lines of text: results on stdout, and notes and failures on stderr.

Apart from `terminal`, whose tables need Rich, so that a command that prints lines alone starts
without it.
"""

import json
import os
import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import Final, NoReturn

from lrpc.kernel.text import one_line, visible

LONGEST: Final = 600  # characters of the line that says why a command failed


def micro(text: str) -> str:
    """Return text with µs for us."""
    return re.sub(r"\bus\b", "µs", text)


def say(text: str) -> None:
    """Print a line of results."""
    print(visible(text))


def say_json(value: object) -> None:
    """Print a result as one document of JSON, in place of tables."""
    print(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def say_json_list(values: Iterable[object]) -> None:
    """Print results as one list of JSON, a line for each, however many there are."""
    first = True
    for value in values:
        print(("[" if first else ",") + "\n" + json.dumps(value, ensure_ascii=False), end="")
        first = False
    print("[]" if first else "\n]")


def drop_output() -> None:
    """Drop what is left to print. Otherwise Python tries again as it exits, and prints an error."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_note(text: str) -> None:
    """Print a line on stderr. If that cannot be written, nobody can be told, and work goes on."""
    with suppress(OSError):
        print(one_line(text), file=sys.stderr, flush=True)


def note_lines(text: str) -> None:
    """Print lines on stderr, each as text alone."""
    with suppress(OSError):
        print("\n".join(map(visible, text.splitlines())), file=sys.stderr, flush=True)


def fail(message: str, code: int) -> NoReturn:
    """Print in one line of at most `LONGEST` characters why the command failed, and exit."""
    line = one_line(message)
    print_note(f"lrpc: {line if len(line) <= LONGEST else line[: LONGEST // 2] + ' ... ' + line[-LONGEST // 2 :]}")
    raise SystemExit(code)
