"""Convolutional geometries against patches laid out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hebbian import Conv1d, Conv2d, HebbianConv1d, HebbianConv2d, Oja, Synapse

GEOMETRIES = [
    Conv2d(2, 3, 3),
    Conv2d(2, 3, 3, padding=1),
    Conv2d(2, 3, (3, 2), stride=(2, 1), padding=(1, 0), dilation=(1, 2)),
    Conv2d(1, 1, 1),
    Conv1d(2, 3, 3),
    Conv1d(2, 4, 5, stride=2, padding=2),
    Conv1d(2, 3, 3, dilation=2),
]
every = pytest.mark.parametrize("synapse", GEOMETRIES, ids=str)


def ends(synapse) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    grid = (7,) if isinstance(synapse, Conv1d) else (7, 6)
    pre = torch.randn(4, synapse.in_channels, *grid, generator=generator, dtype=torch.float64)
    weight = torch.randn(synapse.weight_shape, generator=generator, dtype=torch.float64)
    return weight, pre, torch.randn(synapse.forward(weight, pre).shape, generator=generator, dtype=torch.float64)


def patches(synapse, pre: Tensor) -> Tensor:
    """What a unit sees, (B, field, places), read off one place at a time."""
    if isinstance(synapse, Conv1d):
        pre, sides = pre[:, :, None], [(1, synapse.kernel_size[0])]
        rest = [(1, synapse.stride[0]), (0, synapse.padding[0]), (1, synapse.dilation[0])]
    else:
        sides, rest = [synapse.kernel_size], [synapse.stride, synapse.padding, synapse.dilation]
    (kernel,), (stride, padding, dilation) = sides, rest
    padded = functional.pad(pre, (padding[1], padding[1], padding[0], padding[0]))
    spans = [dilation[a] * (kernel[a] - 1) + 1 for a in (0, 1)]
    seen = [
        padded[:, :, top : top + spans[0] : dilation[0], left : left + spans[1] : dilation[1]].flatten(1)
        for top in range(0, padded.shape[2] - spans[0] + 1, stride[0])
        for left in range(0, padded.shape[3] - spans[1] + 1, stride[1])
    ]
    return torch.stack(seen, dim=2)


@every
def test_all_questions_against_patches(synapse) -> None:
    weight, pre, post = ends(synapse)
    seen = patches(synapse, pre)
    flat = post.flatten(2)
    torch.testing.assert_close(synapse.forward(weight, pre).flatten(2), weight.flatten(1) @ seen)
    each = torch.einsum("bup,bfp->buf", flat, seen)
    torch.testing.assert_close(synapse.outer_each(post, pre).flatten(2), each)
    torch.testing.assert_close(synapse.outer(post, pre).flatten(1), each.sum(0))
    torch.testing.assert_close(synapse.seen_square(pre).flatten(1), seen.square().sum(1))
    torch.testing.assert_close(synapse.seen_sum(post, pre).flatten(), seen.sum((0, 2)))
    assert synapse.count(post) == seen.shape[0] * seen.shape[2]


@every
def test_shortcuts_agree_with_what_every_synapse_inherits(synapse) -> None:
    _, pre, post = ends(synapse)
    torch.testing.assert_close(synapse.outer_each(post, pre), Synapse.outer_each(synapse, post, pre))
    torch.testing.assert_close(synapse.seen_sum(post, pre), Synapse.seen_sum(synapse, post, pre))
    torch.testing.assert_close(synapse.seen_square(pre), Synapse.seen_square(synapse, pre))


@every
def test_the_correlation_is_the_gradient_of_post_times_the_answer(synapse) -> None:
    weight, pre, post = ends(synapse)
    weight.requires_grad_()
    (gradient,) = torch.autograd.grad((synapse.forward(weight, pre) * post).sum(), weight)
    torch.testing.assert_close(synapse.outer(post, pre), gradient)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: Conv2d(0, 1, 3), "in_channels=0"),
        (lambda: Conv2d(1, 1, 0), "kernel_size=0"),
        (lambda: Conv2d(1, 1, (3, 3, 3)), "2 of them"),
        (lambda: Conv1d(1, 1, 3, padding=-1), "padding=-1"),
        (lambda: Conv1d(1, 1, 3, stride=1.5), "stride=1.5"),  # type: ignore[arg-type]
        (
            lambda: Conv2d(2, 1, 3).forward(torch.ones(1, 2, 3, 3), torch.ones(4, 3, 8, 8)),
            r"wants \(B, 2, height, width\)",
        ),
        (lambda: Conv1d(2, 1, 3).forward(torch.ones(1, 2, 3), torch.ones(4, 2)), r"wants \(B, 2, length\)"),
        (lambda: Conv1d(1, 1, 5).forward(torch.ones(1, 1, 5), torch.ones(4, 1, 3)), "smaller than the kernel"),
        (lambda: Conv2d(1, 2, 3).check(torch.ones(4, 1, 8, 8), torch.ones(4, 2, 7, 7)), r"wants \(B, 2, 6, 6\)"),
        (lambda: Conv2d(1, 2, 3).check(torch.ones(4, 1, 8, 8), torch.ones(3, 2, 6, 6)), "as many are wanted"),
    ],
)
def test_what_does_not_fit_is_refused(build, words) -> None:
    with pytest.raises(ValueError, match=words):
        build()


@pytest.mark.parametrize("dims", [1, 2])
def test_layers_learn_answer_and_save(dims: int) -> None:
    kind = HebbianConv1d if dims == 1 else HebbianConv2d
    generator = torch.Generator().manual_seed(0)
    layer = kind(2, 3, 3, Oja(0.05), padding=1, stride=2, generator=generator)
    x = torch.randn(8, 2, *[9] * dims, generator=generator)
    before = layer.weight.clone()
    answer = layer(x)
    assert answer.shape == (8, 3, *[5] * dims)
    assert torch.equal(layer.weight, before)
    layer.learn(x)
    assert not torch.equal(layer.weight, before)
    other = kind(2, 3, 3, Oja(0.05), padding=1, stride=2, generator=generator)
    other.load_state_dict(layer.state_dict())
    assert torch.equal(other(x), layer(x))
