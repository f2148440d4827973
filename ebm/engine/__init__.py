"""How settling is run: the loop, the anytime calls, budgets, stop rules and adjoints."""

from ebm.engine.adjoint import Adjoint, Detached, Truncated, Unroll
from ebm.engine.budget import Budget
from ebm.engine.driver import infer, stream
from ebm.engine.flops import FlopCounter
from ebm.engine.halting import Halts, HaltsByChance, HaltsBySum
from ebm.engine.implicit import Implicit
from ebm.engine.joined import AllOf, AnyOf, Patience
from ebm.engine.linear import GMRES, AndersonLinear, ConjugateGradient, LinearSolver, LinearSolveWarning, Neumann
from ebm.engine.reverse import Reverse
from ebm.engine.stop import AtRest, Confident, Look, Plateau, Reduced, Stop
from ebm.engine.tape import ReversalWarning

__all__ = [
    "GMRES",
    "Adjoint",
    "AllOf",
    "AndersonLinear",
    "AnyOf",
    "AtRest",
    "Budget",
    "Confident",
    "ConjugateGradient",
    "Detached",
    "FlopCounter",
    "Halts",
    "HaltsByChance",
    "HaltsBySum",
    "Implicit",
    "LinearSolveWarning",
    "LinearSolver",
    "Look",
    "Neumann",
    "Patience",
    "Plateau",
    "Reduced",
    "ReversalWarning",
    "Reverse",
    "Stop",
    "Truncated",
    "Unroll",
    "infer",
    "stream",
]
