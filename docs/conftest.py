"""The files that docs/own-servers.md tells its reader to have in the current folder."""

import shutil
from pathlib import Path

import pytest

PAGE = "own-servers.md"
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.fixture(autouse=True)
def own_folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run that page's examples where `town.py` and `town.toml` are."""
    if request.node.path.name == PAGE:
        for ending in ("py", "toml"):
            shutil.copy(EXAMPLES / f"own_classes.{ending}", tmp_path / f"town.{ending}")
        monkeypatch.chdir(tmp_path)
