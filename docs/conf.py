"""Settings of the manual as a site: `make manual` builds it from the pages in this folder."""

import sys
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent.parent))

from lrpc import __version__

project = "lrpc"
author = copyright = "The lrpc developers"
release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["conftest.py"]
html_theme = "furo"
html_title = f"lrpc {release}"
myst_heading_anchors = 3
default_role = "code"  # what backticks mark in docstrings
autodoc_member_order = "groupwise"
autodoc_default_options = {"members": True, "show-inheritance": True}


def mark_code(app: Sphinx, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Mark the indented parts of a docstring as code."""
    found: list[str] = []
    for line in lines:
        begins = line.startswith("    ") and (not found or not found[-1])
        last = next((one for one in reversed(found) if one), "")
        if begins and not last.startswith("    ") and not last.endswith("::"):
            found += ["::", ""]
        found.append(line)
    lines[:] = found


def setup(app: Sphinx) -> None:
    """Have docstrings read as they are written."""
    app.connect("autodoc-process-docstring", mark_code)
