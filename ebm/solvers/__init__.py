"""How a latent moves: one family of solvers a file."""

from ebm.solvers.adam import Adam
from ebm.solvers.adaptive import AdaptiveDescent
from ebm.solvers.anderson import Anderson
from ebm.solvers.asynchronous import Asynchronous
from ebm.solvers.backtracking import Backtracking
from ebm.solvers.barzilai_borwein import BarzilaiBorwein
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import Descent
from ebm.solvers.langevin import Langevin
from ebm.solvers.nesterov import Nesterov
from ebm.solvers.picard import Picard
from ebm.solvers.project import Box, Project, Sphere
from ebm.solvers.proximal import FISTA, Proximal
from ebm.solvers.sweep import Sweep

__all__ = [
    "FISTA",
    "Adam",
    "AdaptiveDescent",
    "Anderson",
    "Asynchronous",
    "Backtracking",
    "BarzilaiBorwein",
    "Box",
    "Descent",
    "Field",
    "Info",
    "Langevin",
    "Nesterov",
    "Picard",
    "Project",
    "Proximal",
    "Solver",
    "Sphere",
    "Step",
    "Sweep",
]
