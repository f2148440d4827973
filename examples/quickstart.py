"""
Quickstart: an energy, a few steps, more steps
==============================================

Three noisy readings of a point on the unit circle are explained by one latent. The energy is written down, settled for
three steps, and then settled on from where it stood: test-time compute is an argument of the call, not a part of the
model.
"""

import argparse
import sys

import torch

import ebm


class OnTheCircle(ebm.Energy):
    """Near the readings, and near the circle: a sum of two costs."""

    def init_latent(self, c, draw):
        return c.mean(1)

    def forward(self, z, c):
        misfit = (z[:, None] - c).square().sum((1, 2))
        off_circle = (z.square().sum(1) - 1).square()
        return misfit + 10 * off_circle


def main(argv: list[str] | None = None) -> None:
    """Settle for 3 steps, go on to ``--steps``, and print both energies."""
    parser = argparse.ArgumentParser(description="An energy, a few steps, more steps.")
    parser.add_argument("--steps", type=int, default=200, help="steps in all (at least 3)")
    parser.add_argument("--smoke", action="store_true", help="the same: this example takes a second")
    in_notebook = "ipykernel" in sys.modules  # whose own arguments are not for this example
    args = parser.parse_args([] if argv is None and in_notebook else argv)
    if args.steps < 3:
        parser.error(f"--steps must be at least 3; got {args.steps}")

    generator = torch.Generator().manual_seed(0)
    readings = torch.tensor([[0.3, 0.4], [-0.2, 0.1]])[:, None] + 0.1 * torch.randn(2, 3, 2, generator=generator)

    model = OnTheCircle()
    quick = ebm.infer(model, readings, steps=3)
    settled = ebm.infer(model, readings, steps=args.steps - 3, resume=quick, stop=ebm.AtRest(1e-4))

    print("energies after 3 steps:", quick.energy)
    print(f"after {settled.steps.tolist()} steps:", settled.energy)
    print(settled, "at", settled.z.tolist())


if __name__ == "__main__":
    main()
