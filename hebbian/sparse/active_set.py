"""The exact solver of a lasso: guess which atoms are active, solve for them, and let kinks and forces correct the guess."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ebm.noise import Draw
from ebm.objective import Lasso, Point
from ebm.solvers.base import Field, Info, Solver, Step
from hebbian.sparse.descent import descend
from hebbian.sparse.faces import cut, settling, times
from hebbian.sparse.search import Search

__all__ = ["ActiveSet"]

_MANY = 64  # active atoms from which guessing is cheaper than solving
_IDLE = 10  # steps that change an energy by rounding alone, after which a sample is done
_FADE = 0.7  # of the share, from round to round: later guesses are better ones


@dataclass(frozen=True)
class ActiveSet(Solver):
    r"""Newton's method for a lasso, on the atoms that are active or about to be.

    A round wakes the atoms at zero that are pulled hardest, keeps the signs of the others, solves the small linear system of
    all of them, and goes to the lowest energy on the line there:

    .. math:: d_A = G_{AA}^{-1} (F_A - w_A \operatorname{sign}_A), \qquad a' = a + t d

    Numbers that reach zero on the way may stay there. When the right atoms with the right signs are found one step ends at the
    minimum, to rounding. In the first step of a sample atoms wake in every round, which is fast; in later ones only once the face of
    the awake atoms is at its minimum, so that each face can be left for good: it always comes to the minimum. Where the face is
    singular, for atoms are more than the signal has numbers or alike, the way leads along what the signal does not see until
    numbers reach zero.

    The energy never rises but by rounding: a step that would raise it is turned down, and in the next one, as where no round leads
    down, the one number whose own minimum lowers the energy most moves instead. A sample has stalled after ten steps in a row
    that lower its energy by rounding alone.

    A step is at most so many ``rounds``, of the samples that still need one, and an evaluation. Systems and codes are in the
    precision of the latent; between rounds the forces are updated by one product with the Gram matrix in single precision,
    which only says which atoms wake. The evaluation at the end and the next step's first round are exact again, so that the
    minimum is found to the rounding of float64. Small systems are factored in batches, grouped by size. While few numbers have
    changed, that product adds rows of the Gram matrix; its FLOPs are reported as if it did not.

    It shines where codes are sparse. Where hundreds of atoms are active in each sample the factors dominate: use `ebm.FISTA`.
    Gradients flow through one last solve of a step's final system; at the minimum that is all there is, so a settled code
    differentiated through its last step alone (``ebm.Truncated(1)``) has its exact gradient. Where that system is singular the
    gradient has no part along what the signal does not see.

    Args:
        share: in (0, 1]; in the first round an atom wakes if its pull beyond its weight is at least this share of the largest, in
            later ones somewhat less. Small wakes many at once: fewer rounds, larger systems.
        rounds: of a step, at least 1.
        sketch: accelerated proximal steps in single precision for a sample that turns out to have more than 64 active atoms, or is
            bound to after its first round; at least 0. It goes on from there, instead of solving one large system a round. More of
            them pay where hundreds are active.

    Raises:
        ValueError: a share outside (0, 1], or fewer than one round.

    Example:
        >>> import torch, ebm
        >>> from hebbian.sparse import ActiveSet, SparseCoding
        >>> model = SparseCoding(torch.eye(3).double(), ebm.L1(0.5))
        >>> x = torch.tensor([[2.0, 0.1, -1.0]], dtype=torch.float64)
        >>> ebm.infer(model.eval(), x, steps=3, solver=ActiveSet()).answer
        tensor([[ 1.5000,  0.0000, -0.5000]], dtype=torch.float64)

    Source: Lee, Battle, Raina and Ng (2007), feature-sign search, which wakes one atom at rest; ours wakes several at once, goes to the lowest point of the whole
    line instead of the best of its kinks, and works on a batch.
    """

    share: float = 0.5
    rounds: int = 8
    sketch: int = 80
    needs: ClassVar[frozenset[str]] = frozenset({"energy", "lasso"})
    # energies rise by rounding alone, and the last force is the best
    keep: ClassVar[str] = "last"
    compiles: ClassVar[bool] = False  # the systems are as large as the data want

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"`ActiveSet(share=...)` must lie in (0, 1]; got {self.share}. Leave it out for 0.5.")
        if not isinstance(self.sketch, int) or isinstance(self.sketch, bool) or self.sketch < 0:
            raise ValueError(f"`ActiveSet(sketch=...)` is a whole number of at least 0; got {self.sketch}. Try 80.")
        if not isinstance(self.rounds, int) or isinstance(self.rounds, bool) or self.rounds < 1:
            raise ValueError(f"`ActiveSet(rounds=...)` is a whole number of at least 1; got {self.rounds}. Try 8.")

    def init(self, point: Point) -> Any:
        """Of each sample: whether it has not taken a step, whether it is at the minimum of its face, whether its last step was turned
        down and whether it has been guessed, bool (B,) each; and how many steps in a row lowered its energy by no more than rounding."""
        none = torch.zeros(point.z.shape[0], dtype=torch.bool, device=point.z.device)
        return {"fresh": ~none, "rested": none, "careful": none, "guessed": none, "idle": none.to(torch.int64)}

    def most(self, z: Any, differentiated: bool = False) -> dict[str, int]:
        """One evaluation and a product with the Gram matrix between rounds, and an evaluation more where a proposal that is not
        finite must not reach a graph."""
        return {"point": 2 if differentiated else 1, "bend": self.rounds + self.sketch + 1}

    def step(self, field: Field, point: Point, memory: Any, draw: Draw) -> Step:
        """Some rounds of waking and solving, and an evaluation."""
        lasso, careful = field.lasso(), memory["careful"]
        with torch.no_grad():
            search = Search(lasso, point, memory["guessed"], _MANY, self.sketch)
            shares = [self.share * _FADE**turn for turn in range(self.rounds)]
            lower, rested = search.run(field, shares, memory["fresh"], memory["rested"])
            new, alone = search.z, careful | ~lower
            if bool(alone.any()):
                new = torch.where(alone[:, None], _best_alone(lasso, point.z, point.force), new)
        if torch.is_grad_enabled():
            new = _again(lasso, point, new)
        end = descend(field, new, point)
        idle = torch.where(end.idle, memory["idle"] + 1, 0)
        memory = {
            "fresh": torch.zeros_like(lower),
            "rested": rested & end.good & ~careful,
            "careful": ~end.good,
            "guessed": search.guessed,
            "idle": idle,
        }
        return Step(end.point, memory, Info(accepted=end.good, stalled=idle >= _IDLE))


def _again(lasso: Lasso, point: Point, z: Tensor) -> Tensor:
    """The codes as they are, with the gradient of the last system's solution: what the rounds before led through does not matter
    at its minimum, and neither does the line search, whose step there is zero."""
    face = cut(lasso, (z != 0) | (point.z != 0))
    here = torch.where(face.on, z.gather(1, face.index), 0.0)
    change = torch.where(face.on, here - point.z.gather(1, face.index), 0.0)
    force = point.force.gather(1, face.index) - times(face.gram, change)
    way = settling(lasso, face, here, force, face.on & (here != 0))
    return z.scatter_add(1, face.index, way - way.detach())


def _best_alone(lasso: Lasso, z: Tensor, force: Tensor) -> Tensor:
    """The latents with the one number moved to its own minimum that lowers the energy most."""
    height = lasso.gram.diagonal()
    safe = torch.where(height > 0, height, torch.ones_like(height))
    aim, step = z + force / safe, lasso.weight / safe
    target = (aim - step).clamp_min(0.0)
    if lasso.signed:
        target = target - (-aim - step).clamp_min(0.0)
    move = torch.where(height > 0, target - z, torch.zeros_like(z))
    drop = force * move - 0.5 * height * move.square() - lasso.weight * (target.abs() - z.abs())
    best = drop.argmax(1, keepdim=True)
    return z.scatter_add(1, best, move.gather(1, best))
