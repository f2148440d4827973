"""The site: MyST pages, the API from docstrings, and a gallery of examples that run while it is built."""

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "examples"), str(ROOT / "docs")]

import ebm  # noqa: E402

project = "equilibrate"
author = "The equilibrate developers"
copyright = "The equilibrate developers"
release = version = ebm.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.mathjax",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
exclude_patterns = ["_build", "gallery/**/*.ipynb", "gallery/**/*.py", "gallery/**/*.md5", "gallery/**/*.zip"]
html_theme = "furo"
html_title = f"equilibrate {release}"
autodoc_member_order = "bysource"
autodoc_typehints = "none"
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
napoleon_custom_sections = [("Source", "notes_style")]
# attributes of one name in several classes are linked to by napoleon without saying which
suppress_warnings = ["config.cache", "ref.python"]

sphinx_gallery_conf = {
    "examples_dirs": ["../examples"],
    "gallery_dirs": ["gallery"],
    "filename_pattern": r"/[a-z_]+\.py",
    "ignore_pattern": r"support",
    "reset_argv": "gallery_arguments.smoke",
    "show_memory": False,
    "download_all_examples": False,
    "min_reported_time": 10,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "first_notebook_cell": (
        "# Install `equilibrate[examples]`, and run this notebook in the folder `examples` of its sources: what the examples share\n"
        "# (data, reports) lies beside them, in `support`, and is not a part of the package.\n%matplotlib inline"
    ),
}


def dollars(app: Any, what: str, name: str, thing: Any, options: Any, lines: list[str]) -> None:
    """Mathematics between dollars in docstrings, as on the pages: a block between double ones, inline between single ones."""
    text = "\n".join(lines)
    text = re.sub(r"(?m)^( *)\$\$(.+?)\$\$", _block, text, flags=re.DOTALL)
    text = re.sub(r"\$(?! )([^$]+?)(?<! )\$", r":math:`\1`", text)
    lines[:] = text.split("\n")


def _block(match: "re.Match[str]") -> str:
    indent, formula = match.groups()
    inner = "".join(f"{indent}   {line.strip()}\n" for line in formula.strip().split("\n"))
    return f"\n{indent}.. math::\n\n{inner}\n{indent}"


def said_above(app: Any, what: str, name: str, thing: Any, skip: bool, options: Any) -> bool | None:
    """Fields of named tuples are described by their class; what Python says of each is "Alias for field number 3"."""
    return True if (getattr(thing, "__doc__", None) or "").startswith("Alias for field number") else None


def setup(app: Any) -> None:
    """Before napoleon, which comes at 500, takes docstrings apart."""
    app.connect("autodoc-skip-member", said_above)
    app.connect("autodoc-process-docstring", dollars, priority=400)
