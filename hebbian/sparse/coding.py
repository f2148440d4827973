"""Sparse coding: few atoms of a dictionary that together make up a signal."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import ebm
from ebm.models.starts import Start
from ebm.objective import Gap, Lasso
from ebm.rows import Shared
from hebbian.sparse.active_set import ActiveSet
from hebbian.sparse.atoms import Convolved, synthesise
from hebbian.sparse.faces import combination
from hebbian.sparse.gap import DualityGap, duality_gap
from hebbian.sparse.penalties import L0, admits_gap, worth
from hebbian.synapse import Dense, Synapse

__all__ = ["SparseCoding"]


class _Misfit(ebm.Energy):
    """Half the squared residual of a signal, as an energy of its code."""

    def __init__(self, dictionary: Tensor, synapse: Synapse, group: int | None, start: Any, gram: bool) -> None:
        super().__init__()
        self.dictionary = dictionary if isinstance(dictionary, nn.Parameter) else nn.Parameter(dictionary.clone())
        self.synapse = synapse
        self.group = group
        self.start = start
        self.gram = gram

    def condition(self, x: Tensor) -> dict[str, Any]:
        """The signal, and the products of atoms with atoms where a solver may want them."""
        _check_signal(x, self.synapse, self.dictionary)
        return {"signal": x, **self._grams()}

    def _grams(self) -> dict[str, Any]:
        if not self.gram:
            return {}
        gram = self.dictionary @ self.dictionary.T
        return {"gram": Shared(gram), "narrow": Shared(gram.detach().to(torch.float32))}

    def init_latent(self, c: Any, draw: ebm.Draw) -> Tensor:
        """Where the start says, or the network of an amortised one guesses."""
        x = c["signal"]
        if isinstance(self.start, ebm.Amortised):
            return self.start.module(x)
        return self.start(x.new_zeros(x.shape[0], *self.shape(x)), draw)

    def shape(self, x: Tensor) -> tuple[int, ...]:
        """The shape of a code, without the sample."""
        if isinstance(self.synapse, Convolved):
            return (self.synapse.atoms, *self.synapse.places(tuple(x.shape[2:])))
        atoms = self.dictionary.shape[0]
        return (atoms,) if self.group is None else (atoms // self.group, self.group)

    def missed(self, z: Tensor, c: Any) -> Tensor:
        """What the code leaves unexplained, shaped like the signal."""
        code = z if self.group is None else z.flatten(1)
        return c["signal"] - synthesise(self.synapse, self.dictionary, code, c["signal"])

    def forward(self, z: Tensor, c: Any) -> Tensor:
        """Half the squared residual, (B,)."""
        return 0.5 * self.missed(z, c).flatten(1).square().sum(1)

    def point(self, z: Tensor, c: Any) -> ebm.Point:
        """Energy and force by one pass through the dictionary and one back."""
        missed = self.missed(z, c)
        force = self.synapse.forward(self.dictionary, missed).view_as(z)
        flat = missed.flatten(1)
        return ebm.Point(z, 0.5 * torch.linalg.vecdot(flat, flat), force)


class SparseCoding(ebm.Composite):
    r"""The energy of a code that is to be sparse and to make up a signal from the atoms of a dictionary.

    .. math:: E(a; s) = \tfrac12 \|s - \Phi a\|^2 + g(a)

    Rows of a dense dictionary are atoms, so :math:`\Phi a` is ``a @ dictionary``. A dictionary of three to five axes is laid
    down at every place (`Convolved`). The latent is the code, (B, atoms), ``(B, atoms, *places)`` where convolved, and
    (B, atoms / group, group) where in groups.

    What a pair of dictionary and penalty admits is listed in ``provides``: every one can be settled by `ebm.Proximal` (ISTA) and
    `LCA`; the convex ones by `ebm.FISTA`, with the duality gap as stop rule (the default, at 1e-6 in float64); dense
    ones with `ebm.L1` or `ebm.NonNegative` exactly, by `ActiveSet` (the default) and `CoordinateDescent`.

    Args:
        dictionary: (atoms, size), or ``(atoms, channels, *kernel)``; floating point. A parameter is shared, a tensor or NumPy array
            copied into one.
        penalty: `ebm.L1`, `ebm.NonNegative`, `ebm.GroupL1` or `L0`, or another `ebm.Term`.
        group: atoms in a group, where the penalty is on groups; neighbours in the dictionary share one.
        stride: of a convolved dictionary.
        padding: of a convolved dictionary; how far atoms may hang over the edge.
        start: `ebm.Zeros` (the default), `ebm.Noise`, or `ebm.Amortised` with a module from signals to codes, such as `LISTA`.
        gram: whether to compute the products of all pairs of atoms, once a call; `ActiveSet` and `CoordinateDescent` need them.
            False spares atoms^2 numbers where dictionaries are huge.

    Raises:
        TypeError: the dictionary is no floating-point tensor or array, or the penalty no term.
        ValueError: a shape or group that does not fit.

    Example:
        >>> import torch, ebm
        >>> from hebbian.sparse import SparseCoding
        >>> atoms = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.6, 0.8]])
        >>> model = SparseCoding(atoms, ebm.L1(0.1))
        >>> ebm.infer(model.eval(), torch.tensor([[0.6, 0.8]]), steps=20).answer
        tensor([[0.0000, 0.0000, 0.9000]])

    Source: Olshausen and Field (1996); with an L1 penalty Chen, Donoho and Saunders (1998). Zeiler et al. (2010), convolved.
    """

    def __init__(
        self,
        dictionary: Tensor | Any,
        penalty: ebm.Term,
        *,
        group: int | None = None,
        stride: int = 1,
        padding: int = 0,
        start: Start | ebm.Amortised | None = None,
        gram: bool = True,
    ) -> None:
        dictionary = _tensor(dictionary)
        synapse = _synapse(dictionary, stride, padding)
        _check_group(dictionary, penalty, group)
        exact = gram and isinstance(synapse, Dense) and isinstance(penalty, (ebm.L1, ebm.NonNegative))
        super().__init__(_Misfit(dictionary, synapse, group, start or ebm.Zeros(), exact), penalty)
        self.exact = exact
        self.default_steps = 1000

    @property
    def provides(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Those of a composite; ``"gap"`` where the penalty has one; ``"lasso"`` where it can be settled exactly."""
        names = super().provides
        return names | {"gap"} | ({"lasso"} if self.exact else set()) if admits_gap(self.term) else names

    @property
    def dictionary(self) -> nn.Parameter:
        """The atoms, a parameter."""
        return self.smooth.dictionary  # pyright: ignore[reportReturnType, reportAttributeAccessIssue]

    @property
    def synapse(self) -> Synapse:
        """How the atoms lie; what a `hebbian.LocalRule` needs to change them."""
        return self.smooth.synapse  # pyright: ignore[reportReturnType, reportAttributeAccessIssue]

    def missed(self, z: Tensor, x: Tensor) -> Tensor:
        """What a code leaves unexplained of a signal, shaped like the signal."""
        misfit: Any = self.smooth
        return misfit.missed(z, {"signal": x})

    def ends(self, z: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """The two ends of the synapse that learns: the residual, and the code with one axis of atoms."""
        return self.missed(z, x), z if isinstance(self.synapse, Convolved) else z.flatten(1)

    def point(self, z: Tensor, c: Any) -> ebm.Point:
        """The whole energy, and minus the gradient of the misfit alone."""
        point = self.smooth.point(self.term.inside(z), c)
        assert point.energy is not None
        return point._replace(energy=point.energy + worth(self.term, point.z))

    def gap(self, point: ebm.Point, c: Any) -> Gap:
        """What the energy of a point may still lose."""
        assert point.energy is not None
        return duality_gap(self.term, point.z, point.energy, point.force)

    def lasso(self, c: Any) -> Lasso:
        """What all samples share of the energy."""
        gram, weight = c["gram"].value, self.term.weight  # pyright: ignore[reportAttributeAccessIssue]
        weight = torch.as_tensor(weight, dtype=gram.dtype, device=gram.device)
        return Lasso(gram, weight.expand(gram.shape[0]), isinstance(self.term, ebm.L1))

    def bend(self, direction: Tensor, c: Any) -> Tensor:
        """The product of a direction with the Gram matrix, in the direction's precision."""
        narrow = c["narrow"].value
        gram = narrow if direction.dtype == narrow.dtype else c["gram"].value.to(direction.dtype)
        return combination(direction, gram)

    def default_solver(self) -> ebm.Solver:
        """`ActiveSet` where the energy admits it, `ebm.Proximal` where the penalty is not convex, else `ebm.FISTA`."""
        if "lasso" in self.provides:
            return ActiveSet()
        return ebm.Proximal() if isinstance(self.term, L0) else ebm.FISTA()

    def default_stop(self) -> ebm.Stop | None:
        """A relative duality gap of 1e-6 in float64 and 1e-4 in float32; rest where there is no gap."""
        if "gap" not in self.provides:
            return ebm.AtRest(1e-6 if self.dictionary.dtype == torch.float64 else 1e-4)
        return DualityGap(1e-6 if self.dictionary.dtype == torch.float64 else 1e-4)


def _tensor(dictionary: Tensor | Any) -> Tensor:
    array = hasattr(dictionary, "__array__") and not isinstance(dictionary, Tensor)
    found = torch.tensor(dictionary) if array else dictionary
    if not isinstance(found, Tensor) or not found.is_floating_point():
        got = str(found.dtype) if isinstance(found, Tensor) else type(dictionary).__name__
        raise TypeError(
            f"`SparseCoding(dictionary)` is a floating-point tensor or NumPy array; got {got}. Convert it, to `float64` say."
        )
    return found


def _synapse(dictionary: Tensor, stride: int, padding: int) -> Synapse:
    if dictionary.ndim == 2 and (stride, padding) == (1, 0):
        return Dense(dictionary.shape[1], dictionary.shape[0])
    if dictionary.ndim < 3 or dictionary.ndim > 5:
        raise ValueError(
            f"`SparseCoding(dictionary)` has shape {tuple(dictionary.shape)}, stride {stride} and padding {padding}; (atoms, size) without "
            "either, or (atoms, channels, *kernel) with one to three axes of space is wanted. Reshape it, the atom first."
        )
    atoms, channels, *kernel = dictionary.shape
    return Convolved(atoms, channels, tuple(kernel), stride, padding)


def _check_group(dictionary: Tensor, penalty: ebm.Term, group: int | None) -> None:
    grouped = isinstance(penalty, ebm.GroupL1)
    if grouped and (group is None or dictionary.ndim != 2):
        raise ValueError(
            f"`SparseCoding` got a penalty on groups, group={group} and a dictionary of shape {tuple(dictionary.shape)}; a dense dictionary "
            "and the number of atoms in a group are wanted. Pass `group=4`, say."
        )
    if group is not None and (not grouped or group < 1 or dictionary.shape[0] % group):
        raise ValueError(
            f"`SparseCoding(group={group})` wants `ebm.GroupL1` and a number that divides the {dictionary.shape[0]} atoms; got "
            f"{type(penalty).__name__}. Leave `group` out, or change one of them."
        )


def _check_signal(x: Tensor, synapse: Synapse, dictionary: Tensor) -> None:
    if isinstance(synapse, Convolved):
        fits = x.ndim == dictionary.ndim and x.shape[1] == synapse.channels
        wanted = f"(B, {synapse.channels}, *size) with {dictionary.ndim - 2} axes of space"
    else:
        fits, wanted = x.ndim == 2 and x.shape[1] == dictionary.shape[1], f"(B, {dictionary.shape[1]})"
    if not fits:
        raise ValueError(
            f"`SparseCoding` was given a signal of shape {tuple(x.shape)}; {wanted} is wanted. Reshape it to fit the dictionary."
        )
