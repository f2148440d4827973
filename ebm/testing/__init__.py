"""Checks that ship with the library: does an objective, a solver, or a pair of them keep the promises?

Each raises AssertionError with words that say what broke. They are what the library's own suite runs over every part.
`kept_bytes` measures what an adjoint keeps.
"""

from ebm.testing.anytime import PROMISES, check_anytime
from ebm.testing.case import Case
from ebm.testing.gradients import GRADIENT_PROMISES, check_gradients
from ebm.testing.memory import kept_bytes
from ebm.testing.objective import check_objective
from ebm.testing.solver import check_solver

__all__ = [
    "GRADIENT_PROMISES",
    "PROMISES",
    "Case",
    "check_anytime",
    "check_gradients",
    "check_objective",
    "check_solver",
    "kept_bytes",
]
