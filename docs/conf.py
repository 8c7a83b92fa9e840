"""Settings of the documentation: Sphinx with MyST and furo, built strictly.

    python -m sphinx -W --keep-going -b html docs docs/_build

Pages about modules and commands, and the pictures, are made from the code at each build, in `docs/_generated`.
"""

import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
sys.path[:0] = [str(DOCS.parent), str(DOCS)]

import generate  # noqa: E402

import dupq  # noqa: E402

generate.write_all(DOCS / "_generated")

project = "dupq"
author = "The dupq authors"
copyright = "The dupq authors"
version = release = dupq.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "_generated/names.md", "_generated/http.md"]  # pages of reference/ include the last two
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
suppress_warnings = ["ref.python"]  # two modules may have a type of one name

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
default_role = "code"
napoleon_use_ivar = True
napoleon_use_rtype = False
maximum_signature_line_length = 100

html_theme = "furo"
html_title = f"dupq {release}"
html_static_path = []
autodoc_mock_imports = [
    "accelerate",
    "torch",
    "transformers",
    "sentence_transformers",
    "datasets",
]  # the pages need no training extra


def escape_markup(app, what, name, obj, options, lines):
    """Escape the signs of reStructuredText that stand for themselves in our docstrings: |, * and a final _."""
    for number, line in enumerate(lines):
        outside = re.split(r"(`[^`]*`)", line)
        outside[::2] = [re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", part) for part in outside[::2]]
        lines[number] = "".join(outside)


def show_factories(app, what, name, obj, options, signature, returns):
    """Write `...` for a default that a dataclass makes, so that the signature parses."""
    return signature and signature.replace("<factory>", "..."), returns


def setup(app):
    """Register the hooks; the first runs before napoleon reads the sections."""
    app.connect("autodoc-process-docstring", escape_markup, priority=100)
    app.connect("autodoc-process-signature", show_factories)
