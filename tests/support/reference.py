"""The reference of the command, made from the commands themselves.

    python -m tests.support.reference

writes docs/commands.md. A test compares the page with what is written here.
"""

import re
from collections.abc import Iterator
from typing import Any, Final

import typer

from lrpc.workloads.launcher import SUBCOMMANDS
from tests.support.places import PROJECT

PAGE: Final = PROJECT / "docs" / "commands.md"
TYPES: Final = {
    "list[str]": "TEXT",
    "list[path]": "PATH",
    "str": "TEXT",
    "path": "PATH",
    "int": "NUMBER",
    "float": "NUMBER",
    "int range": "NUMBER",
    "float range": "NUMBER",
}
HEAD: Final = """\
# The command

Every command of `lrpc`, with its arguments and options: what `lrpc COMMAND --help` says, on one
page. `python -m tests.support.reference` writes it.

Results go to standard output, and end with the answer. Progress, notes and errors go to standard
error. With `--json` a command prints its result as JSON, and nothing else. Exit codes: 0 done, 1
`lrpc verify` found a difference, 2 input refused before work began, 3 a run failed, 130
interrupted.
"""


def reference() -> str:
    """Return the page."""
    return HEAD + "".join(f"\n## lrpc {name}\n\n{_command(name)}" for name in sorted(SUBCOMMANDS))


def _command(name: str) -> str:
    found: Any = typer.main.get_command(SUBCOMMANDS[name].load(name))
    context = found.make_context(name, [], resilient_parsing=True)
    usage = " ".join(found.collect_usage_pieces(context))
    text = _wrapped(found.help or "")
    return f"    lrpc {name} {usage}\n\n{text}\n\n| | |\n|---|---|\n" + "".join(_rows(found, context))


def _rows(found: Any, context: Any) -> Iterator[str]:
    for one in found.get_params(context):
        told = one.get_help_record(context)
        if told is not None and "--help" not in one.opts:
            name, said = (re.sub(r"\s+", " ", text).strip() for text in told)
            yield f"| {_code(name)} | {_escaped(said)} |\n"


def _code(name: str) -> str:
    """Return an option and what it takes, as code."""
    for kind, said in TYPES.items():
        name = name.replace(f"<{kind}>", said)
    return f"`{name.replace('|', ' or ')}`"


def _escaped(text: str) -> str:
    """Return a help text with its default in words, so that Markdown shows it unchanged."""
    text = re.sub(r" ?\[default: \((.*?)\)(; .*?)?\]", r" Default: \1.\2", text)
    text = re.sub(r" ?\[default: (.*?)(; .*?)?\]$", r" Default: \1.\2", text)
    text = re.sub(r"\.; (.*)$| ?\[(\S*x<?=?.*)\]$", lambda one: f". Range: {one[1] or one[2]}.", text)
    return re.sub(r"(?<!`)([<>|*_])", r"\\\1", text.replace(" [required]", ""))


def _wrapped(text: str) -> str:
    from textwrap import fill

    return "\n\n".join(fill(" ".join(part.split()), 100) for part in text.split("\n\n"))


if __name__ == "__main__":
    PAGE.write_text(reference())
