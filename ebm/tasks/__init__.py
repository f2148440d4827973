"""Problems whose difficulty is a number: generators with their metrics and their trivial baselines; nothing to download."""

from ebm.tasks.base import Baseline, Problems, Task, trivial
from ebm.tasks.connectivity import Connectivity, balanced_accuracy
from ebm.tasks.matrices import Addition, Completion, Inverse, newton_schulz
from ebm.tasks.mazes import WALL, Mazes, fill_dead_ends
from ebm.tasks.parity import Parity
from ebm.tasks.planning_grid import PlanningGrid
from ebm.tasks.prefix_sums import PrefixSums
from ebm.tasks.shortest_path import ShortestPath
from ebm.tasks.sudoku import Sudoku, rules_kept

__all__ = [
    "WALL",
    "Addition",
    "Baseline",
    "Completion",
    "Connectivity",
    "Inverse",
    "Mazes",
    "Parity",
    "PlanningGrid",
    "PrefixSums",
    "Problems",
    "ShortestPath",
    "Sudoku",
    "Task",
    "balanced_accuracy",
    "fill_dead_ends",
    "newton_schulz",
    "rules_kept",
    "trivial",
]
