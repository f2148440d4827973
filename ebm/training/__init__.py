"""Training on generated problems: watched by held-out ones, averaged, resumable to the bit."""

from ebm.training.judge import score
from ebm.training.recipe import Pool, Recipe, Validation
from ebm.training.run import Chosen, Row, Run
from ebm.training.trainer import Loss, train

__all__ = ["Chosen", "Loss", "Pool", "Recipe", "Row", "Run", "Validation", "score", "train"]
