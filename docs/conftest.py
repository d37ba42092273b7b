"""The files that docs/measure.md tells its reader to have in the current folder."""

import importlib.util
import shutil
from pathlib import Path

import pytest

PAGE = "measure.md"
EXAMPLES = Path(__file__).parent.parent / "examples"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave out what needs the host kernel where its native part was not built."""
    missing = importlib.util.find_spec("lrpc.kernel.host.native") is None
    return (missing and collection_path.name == "use-it.md") or None


@pytest.fixture(autouse=True)
def own_folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run that page's examples where `town.py` and `town.toml` are."""
    if request.node.path.name == PAGE:
        for ending in ("py", "toml"):
            shutil.copy(EXAMPLES / f"own_classes.{ending}", tmp_path / f"town.{ending}")
        monkeypatch.chdir(tmp_path)
