"""Every python block of the README and of the docs runs, page by page, top to bottom in one namespace."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
PAGES = [path for path in [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))] if "_build" not in path.parts]
_BLOCK = re.compile(r"(?P<reason><!-- not run:[^>]*-->\n)?```python\n(?P<code>.*?)```", re.DOTALL)


def _blocks(path: Path) -> list[tuple[int, str]]:
    text = path.read_text()
    found = []
    for match in _BLOCK.finditer(text):
        if match["reason"]:
            assert len(match["reason"]) > len("<!-- not run: -->\n") + 10, f"{path}: say why a block is not run"
            continue
        found.append((text[: match.start("code")].count("\n"), match["code"]))
    return found


@pytest.mark.parametrize(
    "path", [page for page in PAGES if _blocks(page)], ids=lambda page: str(page.relative_to(ROOT))
)
def test_the_blocks_of_a_page_run(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    page = types.ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", page)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for line, code in _blocks(path):
            exec(compile("\n" * line + code, str(path), "exec", dont_inherit=True), page.__dict__)


def test_there_are_pages_with_blocks():
    assert sum(bool(_blocks(page)) for page in PAGES) >= 8


def test_no_page_points_at_a_missing_page():
    for path in PAGES:
        for target in re.findall(r"\{doc\}`([^`<]+)`", path.read_text()):
            assert (path.parent / f"{target}.md").exists(), f"{path} points at {target}"
