"""The house stands: imports point down, public names are documented, files stay small, nothing is left half done."""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from enum import Enum
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted([*ROOT.glob("ebm/**/*.py"), *ROOT.glob("hebbian/**/*.py")])

# What each module of ebm may import, itself included; the longest matching prefix counts.
_BASE = ("ebm.rows", "ebm.noise", "ebm.files", "ebm.warned")
_SAYS = (*_BASE, "ebm.objective", "ebm.provenance", "ebm.solution", "ebm.version")
_LOOP = (
    *_SAYS,
    "ebm.solvers.base",
    "ebm.engine.field",
    "ebm.engine.flops",
    "ebm.engine.stop",
    "ebm.engine.walk",
    "ebm.engine.loop",
)
MAY_IMPORT = {
    "ebm.rows": (),
    "ebm.version": (),
    "ebm.environment": ("ebm.version",),
    "ebm.files": (),
    "ebm.warned": (),
    "ebm.coded": ("ebm.files",),
    "ebm.noise": ("ebm.rows",),
    "ebm.objective": _BASE,
    "ebm.provenance": ("ebm.rows",),
    "ebm.solution": (*_BASE, "ebm.coded", "ebm.objective", "ebm.provenance"),
    "ebm.solvers": (*_SAYS, "ebm.solvers"),
    "ebm.engine.ledger": (),
    "ebm.engine.flops": (),
    "ebm.engine.guard": ("ebm.rows",),
    "ebm.engine.field": (*_SAYS, "ebm.engine.ledger", "ebm.engine.flops", "ebm.engine.guard"),
    "ebm.engine.stop": _SAYS,
    "ebm.engine.walk": (*_SAYS, "ebm.solvers.base", "ebm.engine.field"),
    "ebm.engine.loop": _LOOP,
    "ebm.engine.moment": _BASE,
    "ebm.engine.tape": (*_SAYS, "ebm.engine.field", "ebm.engine.moment"),
    "ebm.engine.adjoint": (*_SAYS, "ebm.engine.tape"),
    "ebm.engine.halting": (*_SAYS, "ebm.engine.stop"),
    "ebm.engine.budget": _LOOP,
    "ebm.engine.carry": _LOOP,
    "ebm.engine.compiled": (*_LOOP, "ebm.engine.carry"),
    "ebm.engine.door": (*_SAYS, "ebm.solvers.base"),
    "ebm.engine.given": _SAYS,
    "ebm.engine.watch": (*_LOOP, "ebm.engine.adjoint"),
    "ebm.engine": (*_SAYS, "ebm.solvers", "ebm.engine"),
    "ebm.models": (*_SAYS, "ebm.solvers", "ebm.engine", "ebm.models"),
    "ebm.diagnostics": (*_SAYS, "ebm.solvers", "ebm.engine", "ebm.models", "ebm.diagnostics"),
    "ebm.losses": (*_SAYS, "ebm.solvers", "ebm.engine", "ebm.models", "ebm.losses"),
    "ebm.tasks": (*_BASE, "ebm.tasks"),
    "ebm.training": (*_SAYS, "ebm.engine", "ebm.tasks", "ebm.training"),
    "ebm.testing": ("ebm",),
    "ebm": ("ebm",),
    "hebbian": ("ebm", "hebbian"),
}


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _below(name: str, prefix: str) -> bool:
    return name == prefix or name.startswith(prefix + ".")


def _imports(tree: ast.AST) -> list[str]:
    """What is imported when the module runs; imports for type checking alone do not count."""
    skipped = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: list[str] = []
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            whole = node.module or ""
            found += [
                f"{whole}.{alias.name}" if (ROOT / whole.replace(".", "/")).is_dir() else whole for alias in node.names
            ]
    return found


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_imports_point_down(path: Path):
    name = _module(path)
    allowed = MAY_IMPORT[max((key for key in MAY_IMPORT if _below(name, key)), key=len)]
    for imported in _imports(ast.parse(path.read_text())):
        top = imported.split(".")[0]
        assert top not in ("tests", "examples", "benchmarks", "docs", "support"), f"{name} imports {imported}"
        if top in ("ebm", "hebbian") and not _below(imported, name):
            assert any(_below(imported, prefix) for prefix in allowed), (
                f"{name} may not import {imported}: imports point down"
            )


def _public() -> list[tuple[str, str, object]]:
    found: dict[int, tuple[str, str, object]] = {}
    for path in FILES:
        module = importlib.import_module(_module(path))
        for name in getattr(module, "__all__", ()):
            value = getattr(module, name)
            if inspect.isclass(value) or inspect.isfunction(value):
                found[id(value)] = (_module(path), name, value)
    return sorted(found.values(), key=lambda entry: entry[:2])


@pytest.mark.parametrize(("module", "name", "value"), _public(), ids=lambda part: part if isinstance(part, str) else "")
def test_public_names_are_documented(module: str, name: str, value: object):
    text = inspect.getdoc(value) or ""
    assert (text and "\n" not in text.split("\n\n")[0].strip()) or len(text) > 80, f"{module}.{name} needs a docstring"


@pytest.mark.parametrize("package", ["ebm", "hebbian"])
def test_front_names_have_examples(package: str):
    """Names at the front door that a user calls carry a runnable example; abstract contracts and plain enums need none."""
    front = importlib.import_module(package)
    without = []
    for name in front.__all__:
        value = getattr(front, name)
        if not (inspect.isclass(value) or inspect.isfunction(value)) or inspect.isabstract(value):
            continue
        if inspect.isclass(value) and (
            issubclass(value, Enum) or hasattr(value, "_fields") or value.__name__ in ("Look", "Objective")
        ):
            continue
        if ">>>" not in (inspect.getdoc(value) or ""):
            without.append(name)
    assert not without, f"{package}: no example in the docstrings of {without}"


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_no_open_keywords_at_a_public_door(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if (
            isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
            and not node.name.startswith("_")
            and node.args.kwarg
        ):
            assert node.name == "checked" and _module(path) == "ebm.engine.door", (
                f"{path}:{node.lineno} {node.name} takes **{node.args.kwarg.arg}"
            )


@pytest.mark.parametrize("path", FILES, ids=_module)
def test_files_and_functions_stay_small(path: Path):
    text = path.read_text()
    assert text.count("\n") <= 400, f"{path} has {text.count(chr(10))} lines: a noun is missing"
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", text), f"{path} holds an unfinished thought"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            code = (node.end_lineno or 0) - (node.body[0].end_lineno if ast.get_docstring(node) else node.lineno)  # type: ignore[operator]
            assert code <= 70, f"{path}:{node.lineno} {node.name} has {code} lines"


def test_both_packages_are_typed():
    assert (ROOT / "ebm/py.typed").exists()
    assert (ROOT / "hebbian/py.typed").exists()
