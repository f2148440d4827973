"""equilibrate: energy-based models whose answers come from iterative inference, settled by one anytime engine.

This is the package `ebm` of the distribution `equilibrate`; two unrelated distributions install an `ebm` as well and
cannot share an environment with it. ``ebm.__version__`` and this sentence tell which one is installed.
"""

from ebm import rows
from ebm.engine import (
    Adjoint,
    AllOf,
    AnyOf,
    AtRest,
    Budget,
    Confident,
    Detached,
    FlopCounter,
    Look,
    Patience,
    Plateau,
    Stop,
    Truncated,
    Unroll,
    infer,
    stream,
)
from ebm.losses import Progressive
from ebm.models import Amortised, FeedForward, GatedCell, ModernHopfield, Noise, PredictiveCoding, Zeros
from ebm.noise import Draw
from ebm.objective import Energy, Objective, Point, Update
from ebm.rows import Shared
from ebm.solution import Carry, InferenceError, Solution, Status, cat
from ebm.solvers import (
    Adam,
    AdaptiveDescent,
    Anderson,
    Asynchronous,
    Box,
    Descent,
    Info,
    Langevin,
    Picard,
    Project,
    Solver,
    Sphere,
    Step,
)
from ebm.version import __version__

__all__ = [
    "Adam",
    "AdaptiveDescent",
    "Adjoint",
    "AllOf",
    "Amortised",
    "Anderson",
    "AnyOf",
    "Asynchronous",
    "AtRest",
    "Box",
    "Budget",
    "Carry",
    "Confident",
    "Descent",
    "Detached",
    "Draw",
    "Energy",
    "FeedForward",
    "FlopCounter",
    "GatedCell",
    "InferenceError",
    "Info",
    "Langevin",
    "Look",
    "ModernHopfield",
    "Noise",
    "Objective",
    "Patience",
    "Picard",
    "Plateau",
    "Point",
    "PredictiveCoding",
    "Progressive",
    "Project",
    "Shared",
    "Solution",
    "Solver",
    "Sphere",
    "Status",
    "Step",
    "Stop",
    "Truncated",
    "Unroll",
    "Update",
    "Zeros",
    "__version__",
    "cat",
    "infer",
    "rows",
    "stream",
]
