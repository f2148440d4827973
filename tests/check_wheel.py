"""Run by `make wheel` inside a clean environment that holds the wheel alone: both packages import, and only they are there."""

from importlib.metadata import files, version
from pathlib import Path

import torch

import ebm
import hebbian


def main() -> None:
    """Say what is wrong with the wheel, or what it holds."""
    assert ".wheel" in str(Path(ebm.__file__)), f"imported {ebm.__file__}, not the wheel"
    assert ebm.__version__ == version("equilibrate")
    shipped = {str(path) for path in files("equilibrate") or []}
    assert {"ebm/py.typed", "hebbian/py.typed"} <= shipped, "py.typed is missing"
    ours = ("ebm/", "hebbian/", "equilibrate-")
    strays = sorted(name for name in shipped if not name.startswith(ours) and "__pycache__" not in name)
    assert not strays, f"the wheel ships {strays}"
    assert ebm.infer(ebm.ModernHopfield(torch.eye(3)), torch.eye(3)).converged.all()
    print(
        f"equilibrate {ebm.__version__}: the wheel holds ebm and hebbian ({len(hebbian.__all__)} public names), typed"
    )


if __name__ == "__main__":
    main()
