"""How a latent moves: one family of solvers a file."""

from ebm.solvers.adam import Adam
from ebm.solvers.adaptive import AdaptiveDescent
from ebm.solvers.anderson import Anderson
from ebm.solvers.asynchronous import Asynchronous
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import Descent
from ebm.solvers.langevin import Langevin
from ebm.solvers.picard import Picard
from ebm.solvers.project import Box, Project, Sphere
from ebm.solvers.reversible import Reversible

__all__ = [
    "Adam",
    "AdaptiveDescent",
    "Anderson",
    "Asynchronous",
    "Box",
    "Descent",
    "Field",
    "Info",
    "Langevin",
    "Picard",
    "Project",
    "Reversible",
    "Solver",
    "Sphere",
    "Step",
]
