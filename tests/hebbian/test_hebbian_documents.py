"""What is written runs: docstring examples and the page; and every public name is explained."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import hebbian
from hebbian import rules

MODULES = ["hebbian", *(module.name for module in pkgutil.walk_packages(hebbian.__path__, "hebbian."))]
PAGE = Path(__file__).parents[2] / "docs" / "models" / "hebbian.md"


@pytest.mark.parametrize("name", MODULES)
def test_docstring_examples_run(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


def test_the_page_runs_from_top_to_bottom() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert blocks
    namespace: dict[str, object] = {"__name__": "__main__"}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec", dont_inherit=True), namespace)


@pytest.mark.parametrize("name", hebbian.__all__)
def test_every_public_name_is_explained_with_an_example(name: str) -> None:
    text = inspect.getdoc(getattr(hebbian, name)) or ""
    if not inspect.isabstract(getattr(hebbian, name)) or name == "LocalRule":
        assert ">>>" in text
    assert text


def test_the_names_are_the_ones_that_are_exported() -> None:
    public = {name for name, value in vars(hebbian).items() if not name.startswith("_") and not inspect.ismodule(value)}
    assert public - {"annotations"} == set(hebbian.__all__)


@pytest.mark.parametrize("name", rules.__all__)
def test_the_page_lists_every_rule(name: str) -> None:
    assert f"`{name}" in PAGE.read_text(encoding="utf-8")
