"""What all plastic models share: a state that one token moves, as an update and as a scan."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ebm import Draw, Solver, Update, rows
from hebbian.replay import Replay

__all__ = ["Plastic", "run"]


class Plastic(Update):
    r"""A model whose weights change as it reads: :math:`(S_t, y_t) = g(S_{t-1}, x_t)`, each sample with a state of its own.

    As an update, its latent is the state and one step reads one token, so that ``ebm.infer(model, tokens, steps=t)`` is the model
    after t tokens, which can be saved and gone on with; beyond the last token nothing changes. `run` reads all tokens and gives all answers.

    A subclass defines `begin` and `advance`. Tokens are a row tree with leaves (B, T, ...): samples first, then time.

    Attributes:
        default_steps: None: a call says how many tokens to read.
    """

    def begin(self, tokens: Any) -> Any:
        """The state before the first token, a row tree, its first axis the sample; ``tokens`` tell batch, dtype and device."""
        raise NotImplementedError

    def advance(self, state: Any, token: Any) -> tuple[Any, Tensor]:
        """The state after a token, leaves (B, ...), and the answer to it, (B, ...)."""
        raise NotImplementedError

    def init_latent(self, c: Any, draw: Draw) -> Any:
        """Nothing read yet; the answer is that to the first token, unread."""
        first = rows.first_leaf(c)
        if first.shape[1] < 1:
            raise ValueError(
                f"`{type(self).__name__}` wants at least one token; got leaves of shape {tuple(first.shape)}."
            )
        state = self.begin(c)
        _, answer = self.advance(state, _at(c, torch.zeros_like(first[:, 0].flatten(1)[:, 0])))
        return {"state": state, "answer": torch.zeros_like(answer), "time": answer.new_zeros(len(answer))}

    def forward(self, z: Any, c: Any) -> Any:
        """One token on; past the last, where it is."""
        length = rows.first_leaf(c).shape[1]
        state, answer = self.advance(z["state"], _at(c, z["time"].clamp(max=length - 1)))
        moved = {"state": state, "answer": answer, "time": z["time"] + 1}
        return rows.where(z["time"] < length, moved, z)

    def readout(self, z: Any, c: Any) -> Tensor:
        """The answer to the last token read; zeros before the first."""
        return z["answer"]

    def default_solver(self) -> Solver:
        """One token a step, the last state kept."""
        return Replay()


def _at(tokens: Any, time: Tensor) -> Any:
    """Each sample's token at its own time, (B,), whole numbers in any dtype."""
    index = time.long()
    everyone = torch.arange(len(index), device=index.device)
    return rows.map_rows(lambda leaf: leaf[everyone, index], tokens)


def run(model: Plastic, tokens: Any, state: Any = None) -> tuple[Tensor, Any]:
    """Read all tokens: the answers, (B, T, ...), and the state after the last.

    Gradients flow through everything. The same as a step of the update a token, in one loop.

    Args:
        model: a plastic model.
        tokens: a row tree with leaves (B, T, ...), T at least 1.
        state: to begin with; None is the model's own beginning.

    Raises:
        ValueError: no tokens.

    Example:
        >>> import torch
        >>> from hebbian.plasticity import DifferentiablePlasticity, run
        >>> model = DifferentiablePlasticity(3, 2)
        >>> answers, state = run(model, torch.ones(4, 6, 3))
        >>> answers.shape
        torch.Size([4, 6, 2])
    """
    length = rows.first_leaf(tokens).shape[1]
    if length < 1:
        raise ValueError(
            f"`run(model, tokens)` wants at least one token; got leaves of shape {tuple(rows.first_leaf(tokens).shape)}."
        )
    state, answers = model.begin(tokens) if state is None else state, []
    for time in range(length):
        state, answer = model.advance(state, rows.map_rows(lambda leaf, now=time: leaf[:, now], tokens))
        answers.append(answer)
    return torch.stack(answers, dim=1), state
