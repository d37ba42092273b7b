"""The examples run from another directory, and print their results."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.command import lrpc
from tests.support.places import PROJECT

EXAMPLES = PROJECT / "examples"
# Text that each must print: results of the mechanism, rather than of the layout.
SAYS = {
    "greeter.py": ["Hello, you!", "A-stacks: 1"],
    "awaited_greeter.py": ["Hello, you!", "Hello, me!", "Hello, all!", "A-stacks: 3"],
    "adder.py": ["1 + 2 = 3"],
    "one_machine.py": ["the counter is 6", "nothing is left to do"],
    "own_classes.py": ["shop: shop: {'sold': 56}", "24 of 24 calls crossed machines", "remote/total: 100.0 %"],
    "analysis.py": ["remote_percent", "158      0"],
    "placement.py": ["cross-machine calls: 6 -> 2", "has fewer than 2"],
}


@pytest.mark.parametrize("name", sorted(SAYS))
def test_an_example_runs_from_anywhere(name: str, tmp_path: Path) -> None:
    if name in ("adder.py", "greeter.py", "awaited_greeter.py") and find_spec("lrpc.kernel.host.native") is None:
        pytest.skip("the host kernel was not built here")
    said = subprocess.run(
        [sys.executable, EXAMPLES / name], cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout
    for text in SAYS[name]:
        assert text in said
    assert not list(tmp_path.iterdir())


def test_every_example_is_run_here_and_listed_in_their_readme() -> None:
    there = {path.name for path in EXAMPLES.glob("*.py")}
    assert there == set(SAYS)
    text = (EXAMPLES / "README.md").read_text()
    assert all(f"]({name})" in text for name in there)


def test_the_example_of_own_classes_runs_from_the_command_line(tmp_path: Path) -> None:
    where = ("--actors", 0, "--links", "memory", "--seed", 1, "--out", tmp_path / "run")
    registry = f"{EXAMPLES / 'own_classes.py'}:REGISTRY"
    said = lrpc("run", EXAMPLES / "own_classes.toml", "--registry", registry, *where).out
    assert "cross-machine calls" in said
