"""lrpc can be installed from everything that its sources come as, and runs from anywhere.

Each way is tested in a fresh environment, from another directory, as a user who may not write
there. The libraries are those of the environment that runs the tests.
"""

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

PROJECT: Final = Path(__file__).parent.parent
NO_LINKS: Final = """
import os
def refuse(*arguments, **options):
    raise OSError(1, "no symbolic links here")
os.symlink = refuse
"""

pytestmark = pytest.mark.long


def ran(*command: str | Path, **options: object) -> str:
    """Run a command that must succeed, and return what it prints."""
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload]
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return str(ended.stdout)


@pytest.fixture
def anywhere(tmp_path: Path) -> Iterator[Path]:
    """Return a folder, which a test may make unwritable."""
    folder = tmp_path / "anywhere"
    folder.mkdir()
    yield folder
    ran("chmod", "-R", "u+w", folder)


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """Return a copy of the project's files, with its links."""
    copy = tmp_path / "sources"
    for name in ran("git", "ls-files", "-z", cwd=PROJECT).rstrip("\0").split("\0"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(PROJECT / name, copy / name, follow_symlinks=False)
    return copy


def without_links(sources: Path) -> Path:
    """Make every link a text file, as a zip archive or a checkout without links has it."""
    links = [path for path in (sources / "lrpc").iterdir() if path.is_symlink()]
    assert len(links) == 5
    for link in links:
        target = os.readlink(link)
        link.unlink()
        link.write_text(target)
    return sources


def zipped(sources: Path) -> Path:
    archive = sources.with_name("lrpc-main.zip")
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(without_links(sources).rglob("*")):
            if path.is_file():
                out.write(path, Path("lrpc-main", path.relative_to(sources)))
    return archive


def as_sdist(sources: Path) -> Path:
    build = "from setuptools import build_meta; print(build_meta.build_sdist('dist'))"
    ran(sys.executable, "-c", build, cwd=sources)
    (made,) = (sources / "dist").glob("*.tar.gz")
    return made


def as_wheel(sources: Path) -> Path:
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    ran(*pip, "--wheel-dir", sources / "dist", sources, env=interpreted())
    (made,) = (sources / "dist").glob("*.whl")
    return made


def as_wheel_of_copies(sources: Path) -> Path:
    """Return a wheel that is built where no links can be made."""
    patched = sources.with_name("patched")
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(NO_LINKS)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    environment = interpreted() | {"PYTHONPATH": str(patched)}
    ran(*pip, "--wheel-dir", sources / "dist", without_links(sources), env=environment)
    (made,) = (sources / "dist").glob("*.whl")
    return made


def interpreted() -> dict[str, str]:
    """Return an environment in which nothing is compiled, to save the minute that takes."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"LRPC_INTERPRETED": "1"}


def may_not_write(folder: Path) -> list[str]:
    """Take the right to write from all of a folder; return the command of a user bound by that.

    For root that is itself without its privileges: the Python of these tests may be root's own.
    """
    ran("chmod", "-R", "a-w", folder)
    user = [] if os.getuid() else ["setpriv", "--bounding-set=-all", "--inh-caps=-all"]
    ended = subprocess.run([*user, "touch", str(folder / "new")], capture_output=True, check=False)
    assert ended.returncode == 1
    return user


@pytest.mark.parametrize(
    "made_of",
    [zipped, without_links, as_sdist, as_wheel, as_wheel_of_copies],
    ids=["zip archive", "checkout without links", "sdist", "wheel", "no links at all"],
)
def test_it_is_installed_and_runs_from(made_of: Callable[[Path], Path], sources: Path, anywhere: Path) -> None:
    venv.create(anywhere / "venv", with_pip=False, symlinks=True)
    python = anywhere / "venv" / "bin" / "python"
    (site,) = (anywhere / "venv").glob("lib/python*/site-packages")
    libraries = Path(pytest.__file__).parent.parent
    (site / "libraries.pth").write_text(f"{libraries}\n")  # without its own .pth files: no editable lrpc
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-build-isolation")
    ran(*pip, made_of(sources), env=interpreted())
    shutil.rmtree(sources)
    elsewhere = anywhere / "elsewhere"
    elsewhere.mkdir()
    user = may_not_write(anywhere)
    options = {"cwd": elsewhere, "env": {"PATH": "/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}}
    lrpc = anywhere / "venv" / "bin" / "lrpc"
    assert ran(*user, lrpc, "--version", **options).startswith("lrpc ")
    assert "office" in ran(*user, lrpc, "list", **options)
    found = ran(*user, python, "-c", "import lrpc.kernel; print(lrpc.kernel.__file__)", **options)
    assert Path(found.strip()).is_relative_to(site)
    program = "import lrpc; print(lrpc.run(lrpc.read_cluster('office', changes={'machines.workstation.count': 1})))"
    assert "cross_machine" in ran(*user, python, "-c", program, **options)


def test_an_editable_installation_without_links_stops_with_one_line(sources: Path) -> None:
    patched = sources.with_name("patched")
    patched.mkdir()
    (patched / "sitecustomize.py").write_text(NO_LINKS)
    ended = subprocess.run(
        [sys.executable, "setup.py", "-q", "editable_wheel"],
        cwd=without_links(sources),
        env=interpreted() | {"PYTHONPATH": str(patched)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    (line,) = ended.stderr.splitlines()
    assert line.startswith("lrpc cannot be installed as editable: no symbolic links can be made here; ")


def test_sources_without_a_room_stop_the_build_with_one_line(sources: Path) -> None:
    shutil.rmtree(sources / "kernel")
    command = [sys.executable, "setup.py", "-q", "bdist_wheel"]
    ended = subprocess.run(command, cwd=sources, env=interpreted(), capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr == "lrpc cannot be built: neither kernel/ nor lrpc/kernel/ is here; get its sources again\n"
