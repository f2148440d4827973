"""Layers that learn by a local rule when asked, for any `torch.nn.Module`."""

from __future__ import annotations

from hebbian.layers.activations import Identity as Identity
from hebbian.layers.activations import KWinners as KWinners
from hebbian.layers.activations import Relu as Relu
from hebbian.layers.activations import Softmax as Softmax
from hebbian.layers.activations import Triangle as Triangle
from hebbian.layers.base import HebbianLayer as HebbianLayer
from hebbian.layers.base import learn as learn
from hebbian.layers.convolution import HebbianConv1d as HebbianConv1d
from hebbian.layers.convolution import HebbianConv2d as HebbianConv2d
from hebbian.layers.lateral import HebbianLateral as HebbianLateral
from hebbian.layers.lateral import Recurrent as Recurrent
from hebbian.layers.linear import HebbianLinear as HebbianLinear

__all__ = [
    "HebbianConv1d",
    "HebbianConv2d",
    "HebbianLateral",
    "HebbianLayer",
    "HebbianLinear",
    "Identity",
    "KWinners",
    "Recurrent",
    "Relu",
    "Softmax",
    "Triangle",
    "learn",
]
