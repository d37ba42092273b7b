"""Records to make reports of."""

from pathlib import Path
from shutil import copytree

import pytest

from tests.support.command import HERE, lrpc, office


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of records: of two seeds, of more workstations, and of a run that failed."""
    folder = tmp_path_factory.mktemp("made")
    path = office(folder)
    for name, seed in (("one", 0), ("two", 1), ("again", 0)):
        assert lrpc("run", path, *HERE, "--seed", seed, "--out", folder / name).code == 0
    assert lrpc("run", office(folder, workstations=4), *HERE, "--out", folder / "more").code == 0
    path.write_text(path.read_text().replace('{ names = "names@', '{ names = "windows@'))
    assert lrpc("run", path, *HERE, "--out", folder / "failed").code == 3
    return folder


@pytest.fixture
def one(made: Path, tmp_path: Path) -> Path:
    return copytree(made / "one", tmp_path / "one")
