"""LISTA: a few steps of ISTA unrolled into a network that learns to guess sparse codes."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import ebm

__all__ = ["LISTA"]


class LISTA(nn.Module):
    r"""A network shaped like some steps of ISTA, whose matrices and thresholds learn; it guesses the code of a signal.

    .. math:: a_{t+1} = T_\theta(W s + S a_t), \qquad a_0 = 0

    All layers share W, S and :math:`\theta`. At first they are those of ISTA, :math:`W = \Phi^T / L`,
    :math:`S = I - \Phi^T \Phi / L` and :math:`\theta = w / L`, so that an untrained guess is as good as that many
    steps. Train it towards settled codes, or on their energy; then it is a start from which settling needs fewer steps.

    Args:
        dictionary: (atoms, size), rows are atoms; copied.
        penalty: `ebm.L1` or `ebm.NonNegative`.
        layers: at least 1.

    Raises:
        TypeError: another penalty.
        ValueError: a dictionary that is not (atoms, size), or fewer than one layer.

    Example:
        >>> import torch, ebm
        >>> from hebbian.sparse import LISTA, SparseCoding
        >>> atoms, penalty = torch.eye(3), ebm.L1(0.5)
        >>> model = SparseCoding(atoms, penalty, start=ebm.Amortised(LISTA(atoms, penalty, layers=3)))
        >>> ebm.infer(model.eval(), torch.tensor([[2.0, 0.1, -1.0]]), steps=0).answer.detach()
        tensor([[ 1.5000,  0.0000, -0.5000]])

    Source: Gregor and LeCun (2010), Learning fast approximations of sparse coding.
    """

    def __init__(self, dictionary: Tensor, penalty: ebm.Term, layers: int = 5) -> None:
        super().__init__()
        if not isinstance(penalty, (ebm.L1, ebm.NonNegative)):
            raise TypeError(
                f"`LISTA` knows the thresholds of `ebm.L1` and `ebm.NonNegative`; got {type(penalty).__name__}. Pass one of these."
            )
        if dictionary.ndim != 2:
            raise ValueError(
                f"`LISTA(dictionary)` has shape {tuple(dictionary.shape)}; (atoms, size) is wanted. Reshape it."
            )
        if layers < 1:
            raise ValueError(f"`LISTA(layers=...)` is at least 1; got {layers}. Try 5.")
        atoms = dictionary.detach()
        gram = atoms @ atoms.T
        steep = torch.linalg.matrix_norm(gram, 2)
        weight = torch.as_tensor(penalty.weight, dtype=atoms.dtype, device=atoms.device).detach()
        self.encode = nn.Parameter(atoms / steep)
        self.inhibit = nn.Parameter(torch.eye(len(atoms), dtype=atoms.dtype, device=atoms.device) - gram / steep)
        self.threshold = nn.Parameter((weight / steep).expand(len(atoms)).clone())
        self.signed = isinstance(penalty, ebm.L1)
        self.layers = layers

    def forward(self, signal: Tensor) -> Tensor:
        """The guess, (B, atoms)."""
        drive = signal @ self.encode.T
        code = self._threshold(drive)
        for _ in range(self.layers - 1):
            code = self._threshold(drive + code @ self.inhibit.T)
        return code

    def _threshold(self, drive: Tensor) -> Tensor:
        above = (drive - self.threshold).clamp_min(0.0)
        return above - (-drive - self.threshold).clamp_min(0.0) if self.signed else above
