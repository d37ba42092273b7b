"""A record gives the versions it was made with, and the commit where it is known."""

import json
import subprocess
from importlib import metadata
from pathlib import Path

import pytest

from lrpc import __version__
from lrpc.workloads.records import versions
from tests.support.places import PROJECT

IN_GIT = (PROJECT / ".git").exists()


@pytest.fixture(autouse=True)
def forgotten() -> None:
    versions.commit.cache_clear()


def test_versions_of_lrpc_python_and_libraries_are_known() -> None:
    found = versions.versions()
    assert found["lrpc"] == __version__
    assert found["numpy"] == metadata.version("numpy")
    assert {"commit", "python", "ray"} <= set(found)


@pytest.mark.skipif(not IN_GIT, reason="this copy of the project is no checkout")
def test_the_commit_of_a_checkout_is_gits() -> None:
    head = subprocess.run(["git", "rev-parse", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=True)
    found = versions.commit()
    assert found is not None
    assert found.removesuffix("-dirty") == head.stdout.strip()


class Installed:
    """A stand-in for an installation: only the file that gives its commit."""

    def __init__(self, text: str | None) -> None:
        self._text = text

    def read_text(self, name: str) -> str | None:
        return self._text if name == "direct_url.json" else None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (json.dumps({"url": "x", "vcs_info": {"vcs": "git", "commit_id": "abc"}}), "abc"),
        (json.dumps({"url": "x", "dir_info": {"editable": True}}), None),
        ('{"vcs_info": 3}', None),
        ("[]", None),
        ("not JSON", None),
        (None, None),
    ],
)
def test_the_commit_of_an_installation_is_what_pip_recorded(
    text: str | None, told: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versions, "__file__", str(tmp_path / "lrpc" / "workloads" / "records" / "versions.py"))
    monkeypatch.setattr(metadata, "distribution", lambda name: Installed(text))
    assert versions.commit() == told
