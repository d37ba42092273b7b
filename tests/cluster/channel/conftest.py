"""Doors of its own for each test of a channel."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def own_doors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LRPC_DOORS", str(tmp_path / "doors"))
