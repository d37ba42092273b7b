"""The house stays easy to find one's way in: names of one meaning, short files, small folders."""

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.places import PROJECT

ROOMS: Final = ("kernel", "domains", "cluster", "workloads")
# How a docstring must not begin: such words say nothing of what a function does.
MOST_LINES: Final = 450  # of a module
# Modules of a folder: of one room as a rule, and of the two that are one subject.
MOST_MODULES: Final = {"kernel/simulated": 25, "cluster": 24}
# The folders at the top. What else comes there, such as records, was written by a command.
TOP: Final = {*ROOMS, "lrpc", "protos", "tests", "benchmarks", "examples", "docs", ".ci"}
EMPTY_VERBS: Final = re.compile(r"(Have|Be|Know)\b")


def modules() -> Iterator[Path]:
    """Yield the project's own modules."""
    for room in ROOMS:
        yield from sorted((PROJECT / room).rglob("*.py"))


def names(tree: ast.Module) -> Iterator[str]:
    """Yield the names of a module's classes and type aliases."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and re.match("[A-Z][a-z]", target.id):
                yield target.id


def test_every_class_and_alias_has_a_name_of_its_own() -> None:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for path in modules():
        for name in names(ast.parse(path.read_text())):
            found[name].append(str(path.relative_to(PROJECT)))
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_docstrings_begin_with_what_is_done(room: str) -> None:
    empty = []
    for path in sorted((PROJECT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                said = ast.get_docstring(node) or ""
                if EMPTY_VERBS.match(said):
                    empty.append(f"{path.relative_to(PROJECT)}: {node.name}: {said.splitlines()[0]}")
    assert empty == []


@pytest.mark.parametrize("room", [*ROOMS, "tests", "benchmarks", "examples"])
def test_no_module_is_too_long_to_be_read(room: str) -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in (PROJECT / room).rglob("*.py")}
    assert {str(path.relative_to(PROJECT)): lines for path, lines in lengths.items() if lines > MOST_LINES} == {}


@pytest.mark.parametrize("room", ROOMS)
def test_no_folder_is_crowded(room: str) -> None:
    folders = {path.parent for path in (PROJECT / room).rglob("*.py")}
    for folder in folders:
        name = str(folder.relative_to(PROJECT))
        modules = [path for path in folder.glob("*.py") if path.name != "__init__.py"]
        assert len(modules) <= MOST_MODULES.get(name, 14), f"{name} has {len(modules)} modules"


def test_nothing_that_a_command_wrote_is_kept_at_the_top() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=PROJECT, capture_output=True, text=True, check=True)
    kept = [Path(name) for name in listed.stdout.split("\0") if name]
    assert {path.parts[0] for path in kept if len(path.parts) > 1} == TOP
    assert not [path.name for path in kept if len(path.parts) == 1 and path.suffix in (".json", ".csv")]
