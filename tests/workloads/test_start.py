"""A command imports what it uses, and no library that takes long and that it does without."""

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from lrpc.workloads.launcher import SUBCOMMANDS

SLOW: Final = ("cryptography", "grpc", "highspy", "numpy", "ray", "rich", "scipy", "yaml")
# Carries a command out, and prints which libraries it has imported on stderr, and how many modules.
REPORT: Final = """
import sys
from lrpc.workloads.launcher import main
try:
    main()
except SystemExit as ended:
    print(len(sys.modules), *sys.modules, file=sys.stderr)
    sys.exit(ended.code)
"""
# What a dry run does without: what runs a cluster, and what makes results of its outcome.
LATER: Final = (
    "lrpc.cluster.group",
    "lrpc.cluster.on_ray.session",
    "lrpc.cluster.run",
    "lrpc.workloads.records.records",
    "lrpc.workloads.records.tables",
    "lrpc.workloads.runs.execute",
    "lrpc.workloads.reports.page",
    "lrpc.workloads.replay.accounts",
    "lrpc.workloads.replay.gaps",
    "lrpc.workloads.replay.replay",
    "lrpc.workloads.reproduction.reproduce",
    "lrpc.workloads.runs.verify",
    "lrpc.workloads.traces.read",
)
# Starts the command where a look at all that is installed would fail.
NO_SEARCH: Final = """
import importlib.metadata, os
importlib.metadata.distributions = None
from lrpc_command import main
try:
    main()
finally:
    assert os.environ["OPENBLAS_NUM_THREADS"] == "1"
"""
# Carries a command out where the native part was not built.
WITHOUT_NATIVE: Final = """
import sys
sys.modules["lrpc.kernel.host.native"] = None
from lrpc.workloads.launcher import main
main()
"""


def imported(folder: Path, *arguments: str) -> tuple[int, set[str]]:
    """Return how many modules a command has imported at its end, and their names."""
    ended = subprocess.run(
        [sys.executable, "-c", REPORT, *arguments], capture_output=True, text=True, check=True, cwd=folder
    )
    count, *names = ended.stderr.split()
    return int(count), set(names)


@pytest.mark.parametrize(
    ("arguments", "most"),
    [
        (("--help",), 190),
        (("list",), 310),
        (("run", "office", "--dry-run", "--actors", "0"), 370),
        (("reproduce", "--dry-run", "--actors", "2"), 460),
    ],
)
def test_a_command_starts_without_libraries_that_it_does_not_use(
    tmp_path: Path, arguments: tuple[str, ...], most: int
) -> None:
    count, names = imported(tmp_path, *arguments)
    assert names.isdisjoint(SLOW)
    assert count <= most


def test_protobuf_is_imported_by_what_uses_messages_of_it(tmp_path: Path) -> None:
    for arguments in (("--help",), ("list",), ("run", "taos", "--dry-run", "--actors", "0", "--links", "memory")):
        assert "google.protobuf" not in imported(tmp_path, *arguments)[1]


@pytest.mark.parametrize("arguments", [("list",), ("run", "office", "--dry-run")])
def test_a_command_that_runs_nothing_imports_neither_what_runs_nor_what_makes_results(
    tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert imported(tmp_path, *arguments)[1].isdisjoint(LATER)


def test_the_package_imports_neither_pydantic_nor_what_takes_long() -> None:
    printed = subprocess.run(
        [sys.executable, "-c", "import sys, lrpc; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    unused = {*SLOW, "asyncio", "importlib.metadata", "importlib.resources", "pydantic", "socket", "tempfile", "typer"}
    assert unused.isdisjoint(printed.stdout.split())


def test_no_command_looks_for_plugins_in_all_that_is_installed_and_multiplies_on_one_thread(tmp_path: Path) -> None:
    own = {name: value for name, value in os.environ.items() if name != "OPENBLAS_NUM_THREADS"}
    command = [sys.executable, "-c", NO_SEARCH, "list"]
    subprocess.run(command, check=True, cwd=tmp_path, stdout=subprocess.DEVNULL, env=own)


def test_help_imports_no_subcommand(tmp_path: Path) -> None:
    _, names = imported(tmp_path, "--help")
    assert names.isdisjoint({f"lrpc.workloads.{one.module}" for one in SUBCOMMANDS.values()})
    assert "pydantic" not in names


@pytest.mark.parametrize("name", SUBCOMMANDS)
def test_the_list_of_subcommands_has_the_first_sentence_of_each(name: str) -> None:
    (command,) = SUBCOMMANDS[name].load(name).registered_commands
    said = " ".join((inspect.getdoc(command.callback) or "").split())
    assert said.startswith(SUBCOMMANDS[name].summary)
    assert SUBCOMMANDS[name].summary.endswith(".")


def without_native(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", WITHOUT_NATIVE, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)


def test_what_needs_no_native_part_runs_without_one(tmp_path: Path) -> None:
    reproduced = ("reproduce", "--only", "IV", "--calls", "10", "--actors", "0", "--links", "memory", "--out", "run")
    ended = without_native(tmp_path, *reproduced)
    assert (ended.returncode, "Traceback" in ended.stderr) == (0, False), ended.stderr
    assert (tmp_path / "run" / "report" / "report.html").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        ("doors",),
        ("bench", "--quick"),
        ("call", "adder.add", "1"),
        ("serve", "module:Server", "--name", "adder"),
        ("reproduce", "--here", "--only", "IV"),
    ],
)
def test_what_needs_the_native_part_says_so_in_a_line(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    ended = without_native(tmp_path, *arguments)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1), ended.stderr
    assert "need lrpc's native part, which was not built here" in ended.stderr
    assert ended.stdout == ""
