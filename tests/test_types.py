"""A user's code that imports lrpc passes mypy's strict checks, however lrpc is installed."""

import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest

from tests.support.places import PROJECT

USERS = """
from dataclasses import dataclass

import lrpc


class Adder(lrpc.Interface):
    def add(self, a: lrpc.Int32, b: lrpc.Int32) -> lrpc.Int32:
        raise NotImplementedError


@dataclass
class AdderServer(Adder, lrpc.Server):
    us: float = 10.0

    def add(self, a: int, b: int) -> int:
        self.domain.compute(us=self.us)
        return a + b


class Caller(lrpc.Program):
    def run(self, domain: lrpc.Domain) -> None:
        total: int = domain.bind(Adder, "adder").add(1, 2)
        domain.spawn(lambda: print(total)).join()


machine = lrpc.Machine()
machine.export(Adder, AdderServer(), name="adder")
adder: Adder = machine.bind(Adder, "adder")
now: float = machine.domain().now_us
result = lrpc.run(lrpc.read_cluster("office", registry=lrpc.Registry({"a": AdderServer}, {"c": Caller})))
texts: list[str] = [cell.column for cell in result.cells]
"""
WRONG = "\nadder.add(1, 'two')\nnow.upper()\n"


def checked(folder: Path, python: str, code: str) -> tuple[int, str]:
    """Return mypy's exit code and output for a user's file."""
    (folder / "users.py").write_text(code)
    command = [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--python-executable", python, "users.py"]
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return ended.returncode, ended.stdout


@pytest.mark.long
@pytest.mark.parametrize("form", [["--editable", "."], ["."]], ids=["editable", "plain"])
def test_a_users_code_passes_and_its_mistakes_are_found(
    form: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Install from a copy, because an installation writes beside the sources."""
    monkeypatch.setenv("LRPC_INTERPRETED", "1")
    copy = tmp_path / "copy"
    subprocess.run(["git", "clone", "--quiet", str(PROJECT), str(copy)], check=True)
    venv.create(tmp_path / "venv", with_pip=False)
    python = str(tmp_path / "venv" / "bin" / "python")
    (site,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (site / "libraries.pth").write_text(f"{sysconfig.get_paths()['purelib']}\n")  # for the build and mypy
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, *form], cwd=copy, check=True)
    folder = tmp_path / "users"
    folder.mkdir()
    assert checked(folder, python, USERS) == (0, "Success: no issues found in 1 source file\n")
    code, said = checked(folder, python, USERS + WRONG)
    assert code == 1
    assert 'Argument 2 to "add" of "Adder" has incompatible type "str"; expected "int"' in said
    assert '"float" has no attribute "upper"' in said
