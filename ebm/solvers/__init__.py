"""How a latent moves: one family of solvers a file."""

from ebm.solvers.adam import Adam
from ebm.solvers.adaptive import AdaptiveDescent
from ebm.solvers.adaptive_flow import AdaptiveFlow
from ebm.solvers.anderson import Anderson
from ebm.solvers.annealed import Annealed
from ebm.solvers.asynchronous import Asynchronous
from ebm.solvers.backtracking import Backtracking
from ebm.solvers.barzilai_borwein import BarzilaiBorwein
from ebm.solvers.base import Field, Info, Solver, Step
from ebm.solvers.broyden import Broyden
from ebm.solvers.choices import Agreement, Choice, LowestEnergy, LowestResidual
from ebm.solvers.descent import Descent
from ebm.solvers.downhill import Downhill
from ebm.solvers.flow import Flow
from ebm.solvers.gauss_newton import GaussNewton
from ebm.solvers.gibbs import Gibbs
from ebm.solvers.hamiltonian import HMC, MALA
from ebm.solvers.langevin import Langevin, UnderdampedLangevin
from ebm.solvers.lbfgs import LBFGS
from ebm.solvers.nesterov import Nesterov
from ebm.solvers.newton_cg import NewtonCG
from ebm.solvers.peaceman_rachford import PeacemanRachford
from ebm.solvers.picard import Picard
from ebm.solvers.project import Box, Project, Sphere
from ebm.solvers.proximal import FISTA, Proximal
from ebm.solvers.restarts import Restarts
from ebm.solvers.reversible import Reversible
from ebm.solvers.rungs import OnRung
from ebm.solvers.sweep import Sweep
from ebm.solvers.tempering import Tempering

__all__ = [
    "FISTA",
    "HMC",
    "LBFGS",
    "MALA",
    "Adam",
    "AdaptiveDescent",
    "AdaptiveFlow",
    "Agreement",
    "Anderson",
    "Annealed",
    "Asynchronous",
    "Backtracking",
    "BarzilaiBorwein",
    "Box",
    "Broyden",
    "Choice",
    "Descent",
    "Downhill",
    "Field",
    "Flow",
    "GaussNewton",
    "Gibbs",
    "Info",
    "Langevin",
    "LowestEnergy",
    "LowestResidual",
    "Nesterov",
    "NewtonCG",
    "OnRung",
    "PeacemanRachford",
    "Picard",
    "Project",
    "Proximal",
    "Restarts",
    "Reversible",
    "Solver",
    "Sphere",
    "Step",
    "Sweep",
    "Tempering",
    "UnderdampedLangevin",
]
