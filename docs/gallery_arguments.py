"""The arguments with which the gallery runs the examples."""

from typing import Any


def smoke(gallery_conf: dict[str, Any], script_vars: dict[str, Any]) -> list[str]:
    """Small: a few images, one epoch."""
    return ["--smoke"]
