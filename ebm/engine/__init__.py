"""How settling is run: the loop, the anytime calls, budgets, stop rules and adjoints."""

from ebm.engine.adjoint import Adjoint, Detached, Truncated, Unroll
from ebm.engine.budget import Budget
from ebm.engine.driver import infer, stream
from ebm.engine.flops import FlopCounter
from ebm.engine.joined import AllOf, AnyOf, Patience
from ebm.engine.stop import AtRest, Confident, Look, Plateau, Reduced, Stop

__all__ = [
    "Adjoint",
    "AllOf",
    "AnyOf",
    "AtRest",
    "Budget",
    "Confident",
    "Detached",
    "FlopCounter",
    "Look",
    "Patience",
    "Plateau",
    "Reduced",
    "Stop",
    "Truncated",
    "Unroll",
    "infer",
    "stream",
]
