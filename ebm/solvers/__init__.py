"""How a latent moves: one family of solvers a file."""

from ebm.solvers.adam import Adam
from ebm.solvers.adaptive import AdaptiveDescent
from ebm.solvers.adaptive_flow import AdaptiveFlow
from ebm.solvers.anderson import Anderson
from ebm.solvers.annealed import Annealed
from ebm.solvers.asynchronous import Asynchronous
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.descent import Descent
from ebm.solvers.downhill import Downhill
from ebm.solvers.flow import Flow
from ebm.solvers.gauss_newton import GaussNewton
from ebm.solvers.langevin import Langevin
from ebm.solvers.lbfgs import LBFGS
from ebm.solvers.newton_cg import NewtonCG
from ebm.solvers.picard import Picard
from ebm.solvers.project import Box, Project, Sphere
from ebm.solvers.restarts import Restarts
from ebm.solvers.rungs import OnRung

__all__ = [
    "LBFGS",
    "Adam",
    "AdaptiveDescent",
    "AdaptiveFlow",
    "Anderson",
    "Annealed",
    "Asynchronous",
    "Box",
    "Descent",
    "Downhill",
    "Field",
    "Flow",
    "GaussNewton",
    "Info",
    "Langevin",
    "NewtonCG",
    "OnRung",
    "Picard",
    "Project",
    "Restarts",
    "Solver",
    "Sphere",
    "Step",
]
