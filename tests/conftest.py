"""What the tests of the library may do that a user is warned of: they settle models in training mode, to look at their latents.

The documents, their examples and those in docstrings are not spared: they show how it is done.
"""

from __future__ import annotations

from pathlib import Path

import pytest

_SHOWN = ("test_docs.py", "test_warned.py", "test_hebbian_documents.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests in this folder may leave out `adjoint=` and `generator=`, but for those of what users read."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents and item.path.name not in _SHOWN and item.path.parent.name != "examples":
            for category in ("DetachedWarning", "RepeatedNoiseWarning", "SlowPrecisionWarning"):
                item.add_marker(pytest.mark.filterwarnings(f"ignore::ebm.{category}"))
