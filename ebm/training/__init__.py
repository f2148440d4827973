"""Training on generated problems: watched by held-out ones, averaged, resumable to the bit."""

from ebm.training.judge import score
from ebm.training.recipe import Pool, Recipe, Validation
from ebm.training.run import Chosen, Ended, Row, Run
from ebm.training.supervised import Supervised
from ebm.training.trainer import Loss, train

__all__ = ["Chosen", "Ended", "Loss", "Pool", "Recipe", "Row", "Run", "Supervised", "Validation", "score", "train"]
