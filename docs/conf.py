"""The site: MyST pages, the API from docstrings, and a gallery of examples that run while it is built."""

import sys
from pathlib import Path

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
    "filename_pattern": r"/(quickstart|depth_against_breadth|mnist_anytime|cifar_anytime)\.py",
    "ignore_pattern": r"support",
    "reset_argv": "gallery_arguments.smoke",
    "show_memory": False,
    "download_all_examples": False,
    "min_reported_time": 10,
    "write_computation_times": False,
    "abort_on_example_error": True,
    "remove_config_comments": True,
}
