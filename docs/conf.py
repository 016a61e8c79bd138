"""Sphinx configuration of the documentation site. `make docs` builds it, and fetches nothing from the network."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE / "_ext"))
sys.path.insert(0, str(HERE.parent / "src"))

import spq  # noqa: E402 (its sources are found from here on)

project = "spq"
author = "The spq developers"
copyright = "2026, the spq developers, Apache License 2.0"  # noqa: A001 (the name that Sphinx reads)
release = version = spq.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "reference_pages"]
exclude_patterns = ["_build"]

myst_heading_anchors = 3  # pages link to headings of other pages
myst_enable_extensions = ["fieldlist"]
suppress_warnings = ["misc.highlighting_failure"]  # a shortened JSON answer is no JSON

default_role = "code"  # docstrings mark code by single backticks
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True

nitpicky = True
# types in signatures may be internal or of other packages, whose pages are not fetched
nitpick_ignore_regex = [("py:class", r".*"), ("py:.*", r"(?!spq\.).*")]

html_theme = "furo"
html_title = "spq"
html_show_sourcelink = False
html_copy_source = False
