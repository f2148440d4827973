"""The rounds inside a step of the exact solver: which atoms are active, found out with products in single precision."""

from __future__ import annotations

import torch
from torch import Tensor

from ebm.objective import Lasso, Point
from ebm.solvers.base import Field
from hebbian.sparse.faces import cut, newton, picked, pull, sizes, times
from hebbian.sparse.sketch import sketched

__all__ = ["Search"]

_TOGETHER = 2**19  # numbers of the systems solved at once: with what is made of them, about what a cache holds
_SOON, _CROWD = 0.1, 96  # once this many are active or pulled at a tenth of the hardest, most of them will be active


class Search:
    """The codes of one step while they are searched for; lives as long as the step, and shares no memory with its point.

    Codes and systems are in the precision of the latent. The forces between rounds are those at the start less what the
    change of the code takes away, which is computed in single precision: they only say which atoms wake.

    Args:
        lasso: what is settled.
        point: where the step begins.
        guessed: which samples have been guessed before, bool (B,).
        many: active atoms from which a sample is guessed first.
        sketch: proximal steps of that guess; 0 for none.

    Attributes:
        z: (B, K), the codes now.
        guessed: which samples have been guessed by now.
    """

    def __init__(self, lasso: Lasso, point: Point, guessed: Tensor, many: int, sketch: int) -> None:
        self._lasso, self._many, self._sketch = lasso, many, sketch
        self.guessed = guessed.clone()
        self._start, self._force = point.z, point.force
        self._low = point.force.to(torch.float32)
        batch, atoms = point.z.shape
        self._atoms = atoms
        # one number more, which padding may write to
        self._z = torch.cat([point.z.flatten(), point.z.new_zeros(1)])
        self._change = torch.zeros(batch * atoms + 1, dtype=torch.float32, device=point.z.device)
        self._active = torch.cat([point.z.flatten() != 0, torch.zeros(1, dtype=torch.bool, device=point.z.device)])
        self._begun = (point.z != 0) if bool(self._active.any()) else None

    @property
    def z(self) -> Tensor:
        return self._z[:-1].view_as(self._start)

    def run(self, field: Field, shares: list[float], hurried: Tensor, rested: Tensor) -> tuple[Tensor, Tensor]:
        """A round for each share; whether the first one led down, and whether the last face was left at its minimum, bool (B,) each.

        Those ``rested`` begin at the minimum of their face. Atoms wake only there, but for the samples that are ``hurried``.
        """
        lasso, everyone = self._lasso, torch.arange(len(rested), device=rested.device)
        samples, active = everyone, self._rows(self._active, everyone)
        pulled = pull(lasso.weight, self._force, active, lasso.signed)
        first, rested = None, rested.clone()
        for turn, share in enumerate(shares):
            many = _crowd(active, pulled) if turn == 1 else active.sum(1) > self._many
            active, pulled = self._guess(field, samples, many, active, pulled)
            waking = (rested | hurried)[samples]
            if not bool(waking.all()):
                pulled = pulled.masked_fill(~waking[:, None], 0.0)
            falls, straight = self._round(samples, active, pulled, share)
            rested[samples] = straight
            first = falls if first is None else first
            if turn + 1 == len(shares):
                break
            asked = field if len(samples) == len(everyone) else field.of(samples)
            active = self._rows(self._active, samples)
            force = self._rows(self._low, samples) - asked.bend(self._rows(self._change, samples))
            pulled = pull(lasso.weight, force, active, lasso.signed)
            going = (falls & (~straight | (pulled.amax(1) > 0))).nonzero().flatten()
            if not len(going):
                break
            if len(going) < len(samples):
                samples, active, pulled = samples[going], active[going], pulled[going]
        assert first is not None
        return first, rested

    def _guess(
        self, field: Field, samples: Tensor, many: Tensor, active: Tensor, pulled: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Once a call, samples with many atoms go on from a guess: their systems are large, and each round would solve one."""
        many = (many & ~self.guessed[samples]).nonzero().flatten()
        if not self._sketch or not len(many):
            return active, pulled
        chosen = samples[many]
        self.guessed[chosen] = True
        part, start = field.of(chosen), self._start[chosen].to(torch.float32)
        code = sketched(self._lasso, start, self._low[chosen], part, self._sketch)
        flat = (chosen * self._atoms)[:, None] + torch.arange(self._atoms, device=samples.device)
        self._z[flat], self._change[flat], self._active[flat] = code.to(self._z.dtype), code - start, code != 0
        active, pulled = active.clone(), pulled.clone()
        active[many] = code != 0
        left = self._low[chosen] - part.bend(code - start)
        pulled[many] = pull(self._lasso.weight, left, code != 0, self._lasso.signed).to(pulled.dtype)
        return active, pulled

    def _rows(self, flat: Tensor, samples: Tensor) -> Tensor:
        """The rows of some samples of what is kept flat, (B, K)."""
        whole = flat[: self._start.numel()].view(-1, self._atoms) if flat.ndim == 1 else flat
        return whole if len(samples) == len(whole) else whole[samples]

    def _round(self, samples: Tensor, active: Tensor, pulled: Tensor, share: float) -> tuple[Tensor, Tensor]:
        """Wake and solve; whether the energies fell, and whether the minima of the faces were reached, (B,) each."""
        hardest = pulled.amax(1, keepdim=True)
        awake = pulled >= torch.where(hardest > 0, share * hardest, torch.inf)
        chosen = active | awake
        if self._begun is not None:  # what has changed since the start must be on the face, that its force be exact
            chosen |= self._rows(self._begun, samples)
        parts = list(sizes(chosen, _TOGETHER))
        if parts[0] is None:
            return self._solve(samples, chosen, awake)
        falls, straight = torch.zeros(2, len(samples), dtype=torch.bool, device=samples.device)
        for part in parts:
            assert part is not None
            falls[part], straight[part] = self._solve(samples[part], chosen[part], awake[part])
        return falls, straight

    def _solve(self, samples: Tensor, chosen: Tensor, awake: Tensor) -> tuple[Tensor, Tensor]:
        face = cut(self._lasso, chosen)
        flat = (samples * self._atoms)[:, None] + face.index
        force, start = picked(self._force, flat), picked(self._start, flat)
        flat = torch.where(face.on, flat, len(self._z) - 1)
        z = picked(self._z, flat)
        change = torch.where(face.on, z - start, 0.0)
        force = force - times(face.gram, change)
        awake = awake.gather(1, face.index) & (
            pull(face.weight, force, z != 0, self._lasso.signed) > 0
        )  # by the exact force
        free = face.on & ((z != 0) | awake)
        new, falls, straight = newton(self._lasso, face, z, force, free)
        new = torch.where(face.on, new, 0.0)
        self._z[flat], self._change[flat] = new, torch.where(face.on, new - start, 0.0).to(torch.float32)
        self._active[flat] = new != 0
        return falls, straight


def _crowd(active: Tensor, pulled: Tensor) -> Tensor:
    """Which samples will have many active atoms, as what they are after their first round tells, bool (B,)."""
    soon = active | (pulled > _SOON * pulled.amax(1, keepdim=True))
    return soon.sum(1) > _CROWD
