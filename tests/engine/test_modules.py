"""Modules that would not answer alike twice are found wherever they stand, and named."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, spectral_norm

import ebm
from ebm.engine.modules import survey
from ebm.losses import Elsewhere, JacobianPenalty, Stretch, TwoPhase, neighbour
from tests.energies import numbers

X = numbers(4, 3, seed=1)


class Attending(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(3, 1, dropout=dropout, batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        return self.attention(z[:, None], z[:, None], z[:, None])[0][:, 0]


class Recurrent(nn.Module):
    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.gru = nn.GRU(3, 3, num_layers=2, batch_first=True, dropout=dropout)

    def forward(self, z: Tensor) -> Tensor:
        return self.gru(z[:, None])[0][:, 0]


def channels(norm: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Unflatten(1, (3, 1)), norm, nn.Flatten())


MIXES, MOVES, DRAWS = "takes its mean over the batch", "moves its running statistics", "draws from the global generator"
PARTS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "batch norm": (lambda: nn.BatchNorm1d(3), "part`, a BatchNorm1d", MIXES),
    "batch norm over channels": (lambda: channels(nn.BatchNorm1d(3)), "part.1`, a BatchNorm1d", MIXES),
    "synchronised": (lambda: nn.SyncBatchNorm(3), "part`, a SyncBatchNorm", MIXES),
    "instance norm": (lambda: channels(nn.InstanceNorm1d(3, track_running_stats=True)), "part.1`, a InstanceNorm1d", MOVES),
    "dropout": (lambda: nn.Dropout(0.5), "part`, a Dropout", DRAWS),
    "alpha dropout": (lambda: nn.AlphaDropout(0.5), "part`, a AlphaDropout", DRAWS),
    "feature dropout": (lambda: nn.FeatureAlphaDropout(0.5), "part`, a FeatureAlphaDropout", DRAWS),
    "rrelu": (lambda: nn.RReLU(), "part`, a RReLU", DRAWS),
    "attention": (lambda: Attending(0.5), "part.attention`, a MultiheadAttention", DRAWS),
    "recurrent": (lambda: Recurrent(0.5), "part.gru`, a GRU", DRAWS),
    "transformer": (lambda: nn.TransformerEncoderLayer(4, 1, 8), "part.self_attn`, a MultiheadAttention", DRAWS),
    "spectral norm by hook": (lambda: spectral_norm(nn.Linear(3, 3)), "part`, a Linear", "moves its estimate of the norm"),
    "spectral norm": (lambda: parametrizations.spectral_norm(nn.Linear(3, 3)), "part`, under spectral_norm", "moves its estimate of the norm"),
}  # fmt: skip


class Holding(ebm.Update):
    """Holds a part and calls it in a step, or elsewhere."""

    def __init__(self, part: nn.Module, where: str = "step") -> None:
        super().__init__()
        self.part, self.where = part, where

    def condition(self, x):
        return self.part(x) if self.where == "condition" else x

    def init_latent(self, c, draw):
        return self.part(c) if self.where == "start" else c

    def forward(self, z, c):
        return 0.5 * (self.part(z) if self.where == "step" else torch.tanh(z)) + c

    def readout(self, z, c):
        return self.part(z) if self.where == "readout" else z


def refused(name: str, owner: str = "Holding", path: str = "") -> Any:
    _, called, fault = PARTS[name]
    return pytest.raises(ValueError, match=re.escape(f"`{owner}` holds `{path}{called}, which {fault}"))


@pytest.mark.parametrize("name", PARTS)
def test_a_part_in_train_mode_is_named(name: str):
    model = Holding(PARTS[name][0]())
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with refused(name):
        ebm.infer(model, X.float(), steps=1)
    with refused(name):
        ebm.stream(model, X.float(), steps=1)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    if not isinstance(model.part, (nn.TransformerEncoderLayer, nn.SyncBatchNorm)):
        with refused(name):
            ebm.infer(model, X.float(), steps=1, adjoint=ebm.Unroll())
        ebm.infer(model.eval(), X.float(), steps=1, adjoint=ebm.Unroll())


def test_what_stands_still_is_let_through():
    for part in (nn.Dropout(0.0), nn.RReLU(0.2, 0.2), Attending(0.0), Recurrent(0.0), nn.LayerNorm(3), nn.Linear(3, 3)):
        ebm.infer(Holding(part), X.float(), steps=1)
    ebm.infer(Holding(nn.Sequential(nn.Unflatten(1, (1, 3)), nn.InstanceNorm1d(1), nn.Flatten())), X.float(), steps=1)
    with pytest.raises(ValueError, match="takes its mean over the batch"):
        ebm.infer(Holding(nn.BatchNorm1d(3, track_running_stats=False)).eval(), X.float(), steps=1)


class Bowl(ebm.Energy):
    def __init__(self) -> None:
        super().__init__()
        self.part = nn.Dropout(0.5)

    def init_latent(self, c, draw):
        return torch.zeros_like(c)

    def forward(self, z, c):
        return 0.5 * (self.part(z) - c).square().sum(1)


@pytest.mark.parametrize(("model", "x", "path"), [
    (Bowl(), X, ""),
    (ebm.GatedCell(1, width=3, head=nn.Sequential(nn.Dropout(0.5)), dims=1), X[:, None], "head.0"),
    (ebm.EnergyTwin(ebm.GatedCell(nn.Sequential(nn.Conv1d(1, 6, 1), nn.Dropout(0.5)), width=3, dims=1)), X[:, None], "cell.inject.1"),
    (ebm.Sum(ebm.EnergyNet(nn.Linear(3, 1), 3), Bowl()), X, "models.1.part"),
    (ebm.Clamped(Bowl()), (X, X > 0, X), "model.part"),
    (ebm.Ladder([Bowl()]), X, "levels.models.0.part"),
    (ebm.Composite(Bowl(), ebm.L1(0.1)), X, "smooth.part"),
])  # fmt: skip
def test_it_is_found_wherever_it_stands(model: ebm.Objective, x: Any, path: str):
    with pytest.raises(
        ValueError, match=re.escape(f"`{type(model).__name__}` holds `{path or 'part'}`, a Dropout, which draws")
    ):
        ebm.infer(model, ebm.rows.map_rows(lambda leaf: leaf if leaf.dtype == torch.bool else leaf.float(), x), steps=1)


@pytest.mark.parametrize("where", ["condition", "start", "readout"])
@pytest.mark.parametrize("part", [lambda: nn.Dropout(0.5), lambda: nn.BatchNorm1d(3)])
def test_in_training_what_runs_once_a_call_may_be_in_train_mode(part: Callable[[], nn.Module], where: str):
    model, x = Holding(part(), where), X.float()
    with pytest.raises(ValueError, match=re.escape("Call `.eval()` on it")):
        ebm.infer(model, x, steps=2)
    for adjoint in (ebm.Unroll(), ebm.Unroll(checkpoint=1), ebm.Truncated(1), ebm.Implicit()):
        ebm.infer(model, x, steps=2, adjoint=adjoint)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_losses_settle_in_the_mode_of_training():
    generator = torch.Generator().manual_seed(0)
    model, x = Holding(nn.Dropout(0.5), "readout"), X.float()
    Elsewhere(neighbour, (1, 2), odds=1.0)(model, x, generator)
    JacobianPenalty(steps=1)(model, x, None, generator)
    list(Stretch(burn_in=1, steps=1).answers(model, x, None)[1])
    energy = ebm.EnergyNet(nn.Sequential(nn.Linear(3, 1)), 3, encoder=nn.Dropout(0.5))
    energy.forward = lambda z, c: 0.5 * (z - c).square().sum(1)  # type: ignore[method-assign]
    TwoPhase(lambda answer, y: (answer - y).square().sum(1), steps=2)(energy, x, x)


def test_the_walk_finds_the_tensors_that_torch_finds_in_the_same_order():
    shared = nn.Linear(3, 3)
    model = Holding(nn.Sequential(shared, nn.Sequential(nn.BatchNorm1d(3), shared), nn.Linear(3, 3, bias=False)))
    model.register_buffer("none", None)
    wanted = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    found = survey(model).tensors
    assert found.keys() == wanted.keys() and all(found[name] is wanted[name] for name in wanted)
    ends = [name.rpartition(".")[0] for name in found]
    order = [name for name, _ in model.named_modules()]
    assert [order.index(name) for name in ends] == sorted(order.index(name) for name in ends)
