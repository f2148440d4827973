"""A weight-tied gated convolution with the observation injected at every step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ebm.models.gated import Gated
from ebm.models.starts import Start, Zeros
from ebm.noise import Draw

__all__ = ["GatedCell"]

_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
_WIDE = 20  # channels from which a 2-D convolution on a CPU is about twice as fast with weights laid out channels-last


class GatedCell(Gated):
    r"""An iterated convolutional cell: every step sees the observation again, and a gate decides how far to move.

    .. math:: (a, b) = K * z + I(x), \qquad f(z; x) = z + \sigma(a) \odot (\tanh(b) - z)

    with K one convolution shared by all steps. The injection :math:`I(x)` is computed once a call. The gate keeps every
    number of the latent within [-1, 1] once it is there, so the cell can be run for any number of steps.

    Args:
        inject: maps the observation to 2 x ``width`` channels on the grid of the latent: any module, or the number of
            channels of the observation for a single convolution of size ``kernel``.
        width: channels of the latent, >= 1.
        head: maps the latent to the answer; None reads out the latent itself.
        dims: 1 for sequences (B, width, L), 2 for images (B, width, H, W).
        kernel: size of K, odd; the latent keeps its grid.
        start: where settling starts.

    Raises:
        TypeError: an ``inject`` that is neither a module nor a number, or a head that is no module.
        ValueError: a setting outside its range; at the call, an injection with another number of channels or axes.

    Example:
        >>> import torch, ebm
        >>> cell = ebm.GatedCell(1, width=4, head=torch.nn.Conv1d(4, 2, 1), dims=1)
        >>> ebm.infer(cell.eval(), torch.ones(3, 1, 16), steps=8).answer.shape
        torch.Size([3, 2, 16])

    Source: gated recurrent units, Cho et al. (2014), without the reset gate and as a convolution like Kaiser and Sutskever
    (2016), Neural GPUs learn algorithms; the input at every step as in Bansal et al. (2022), End-to-end algorithm synthesis with
    recurrent networks ("recall").
    """

    def __init__(
        self,
        inject: nn.Module | int,
        width: int,
        head: nn.Module | None = None,
        dims: int = 2,
        kernel: int = 3,
        start: Start = Zeros(),
    ) -> None:
        super().__init__(head)
        if dims not in _CONVOLUTIONS:
            raise ValueError(f"`GatedCell(dims=...)` is 1 (sequences) or 2 (images); got {dims}. Choose one.")
        if width < 1:
            raise ValueError(
                f"`GatedCell(width=...)` must be at least 1; got {width}. Pass the channels of the latent."
            )
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(
                f"`GatedCell(kernel=...)` must be odd, so that the latent keeps its grid; got {kernel}. Try 3."
            )
        if isinstance(inject, bool) or not isinstance(inject, (int, nn.Module)):
            raise TypeError(
                f"`GatedCell(inject)` is a module, or the number of channels of the observation; got {type(inject).__name__}. "
                "Pass 1 for grey images, or nn.Sequential(...)."
            )
        convolution = _CONVOLUTIONS[dims]
        self.width = width
        self.inject = convolution(inject, 2 * width, kernel, padding=kernel // 2) if isinstance(inject, int) else inject
        self.cell = convolution(width, 2 * width, kernel, padding=kernel // 2, bias=False)
        if dims == 2 and width >= _WIDE:
            self.cell = self.cell.to(memory_format=torch.channels_last)
        self.start = start

    def condition(self, x: Tensor) -> Tensor:
        """The injection, (B, 2 width, ...)."""
        injected = self.inject(x)
        if injected.ndim != self.cell.weight.ndim or injected.shape[1] != 2 * self.width:
            raise ValueError(
                f"`inject` must return 2 x width = {2 * self.width} channels on the latent's grid, {self.cell.weight.ndim} axes in all; "
                f"got {tuple(injected.shape)}. Change its last layer."
            )
        return injected.contiguous()

    def init_latent(self, c: Tensor, draw: Draw) -> Tensor:
        """The start, on the grid of the injection."""
        return self.start(c[:, : self.width], draw)

    def drive(self, z: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
        """The convolution's and the injection's channels, the first half for the gate, the other for the target."""
        # latents stay contiguous whatever layout the weights ask for, else the element-wise work costs what they save
        a, b = (self.cell(z).contiguous() + c).chunk(2, 1)
        return a, b
