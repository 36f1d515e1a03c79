"""Sphinx settings. The pages under reference/ are written from the code at build time, so they cannot fall behind it."""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import reference_pages

project = "herdling"
author = "the herdling authors"
copyright = "the herdling authors, Apache-2.0"
release = version = installed_version("herdling")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "herdling"
autodoc_member_order = "bysource"
autodoc_typehints = "description"
default_role = "code"

GENERATED = {"reference/settings": reference_pages.settings_page, "reference/commands": reference_pages.commands_page, "changes": reference_pages.changes_page}


def write_generated(app: Any, docname: str, source: list[str]) -> None:
    """Add to a page what is written from the code."""
    if docname in GENERATED:
        source[0] += "\n" + GENERATED[docname]()


def leave_out_module_docstring(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Drop the text above a module: it is written for readers of the file."""
    if what == "module":
        lines.clear()


def setup(app: Any) -> None:
    """Hook the generated pages in."""
    app.connect("autodoc-process-docstring", leave_out_module_docstring)
    app.connect("source-read", write_generated)
