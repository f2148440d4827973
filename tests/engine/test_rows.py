"""Row trees: the one data shape."""

from __future__ import annotations

import pytest
import torch

from ebm import Shared, rows
from tests.energies import Pair, numbers


def tree() -> Pair:
    return Pair(numbers(4, 3), {"a": numbers(4), "b": [numbers(4, 2, 2), None, Shared(torch.eye(7))], "c": ()})


def test_the_kinds_of_nodes_are_kept():
    doubled = rows.map_rows(lambda leaf: 2 * leaf, tree())
    assert type(doubled) is Pair and type(doubled.rest["b"]) is list and doubled.rest["c"] == ()
    assert doubled.rest["b"][1] is None and torch.equal(doubled.rest["b"][2].value, torch.eye(7))
    assert torch.equal(doubled.mean, 2 * tree().mean)


def test_take_and_put_are_inverse():
    index = torch.tensor([3, 1])
    part = rows.take(tree(), index)
    assert torch.equal(part.mean, tree().mean[index]) and part.rest["b"][2].value.shape == (7, 7)
    zeros = rows.map_rows(torch.zeros_like, tree())
    back = rows.put(zeros, index, part)
    assert torch.equal(back.mean[index], tree().mean[index]) and (back.mean[[0, 2]] == 0).all()
    assert (zeros.mean == 0).all(), "nothing is written in place"


def test_where_chooses_rows():
    mask = torch.tensor([True, False, True, False])
    ones = rows.map_rows(torch.ones_like, tree())
    mixed = rows.where(mask, ones, tree())
    assert (mixed.rest["b"][0][mask] == 1).all() and torch.equal(mixed.rest["a"][~mask], tree().rest["a"][~mask])


def test_cat_joins_samples():
    whole = tree()
    parts = [rows.take(whole, torch.tensor([0])), rows.take(whole, torch.tensor([1, 2, 3]))]
    for a, b in zip(rows.leaves(rows.cat(parts)), rows.leaves(whole), strict=True):
        assert torch.equal(a, b)


def test_flatten_and_unflatten_are_inverse():
    flat = rows.flatten(tree())
    assert flat.shape == (4, 3 + 1 + 4)
    for a, b in zip(rows.leaves(rows.unflatten(flat, tree())), rows.leaves(tree()), strict=True):
        assert torch.equal(a, b)
    empty = rows.take(tree(), torch.empty(0, dtype=torch.int64))
    assert rows.flatten(rows.unflatten(rows.flatten(empty), empty)).shape == (0, 8)


def test_arithmetic_against_the_flat_vector():
    one, other = tree(), rows.map_rows(torch.cos, tree())
    a, b, each = rows.flatten(one), rows.flatten(other), numbers(4, seed=5)
    close = torch.testing.assert_close
    close(rows.dot(one, other), (a * b).sum(1))
    close(rows.rms(one), a.square().mean(1).sqrt())
    close(rows.rms(one.mean), one.mean.square().mean(1).sqrt())
    close(rows.flatten(rows.add(one, other, 0.3)), a + 0.3 * b)
    close(rows.flatten(rows.add(one, other, torch.tensor(0.3, dtype=torch.float64))), a + 0.3 * b)
    close(rows.flatten(rows.add(one, other, each)), a + each[:, None] * b)
    close(rows.flatten(rows.scale(one, each)), each[:, None] * a)
    close(rows.flatten(rows.scale(one, 2.0)), 2 * a)
    close(rows.probe(one, other), (a * b).sum())


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("place", ["mean", "a", "b"])
def test_finite_finds_the_row(bad: float, place: str):
    whole = tree()
    leaf = {"mean": whole.mean, "a": whole.rest["a"], "b": whole.rest["b"][0]}[place]
    leaf[2] = bad
    assert rows.finite(whole).tolist() == [True, True, False, True]
    ones = rows.map_rows(torch.ones_like, whole)
    assert not rows.probe(whole, ones).isfinite() and not rows.probe(ones, whole).isfinite()
    zeros = rows.map_rows(torch.zeros_like, whole)
    assert not rows.probe(zeros, whole).isfinite(), "zero times infinity is not a number"


def test_finite_is_not_fooled_by_sums():
    huge = torch.full((2, 4), 1e308, dtype=torch.float64)
    assert rows.finite(huge).all(), "a sum that overflows is no fault of the numbers"
    both = torch.tensor([[float("inf"), -float("inf")], [1.0, 2.0]])
    assert rows.finite(both).tolist() == [False, True]


def test_the_size_does_not_enter_the_root_mean_square():
    assert rows.rms(torch.full((1, 10), 3.0)).item() == pytest.approx(3.0)
    assert rows.rms(torch.full((1, 10, 100), 3.0)).item() == pytest.approx(3.0)
    assert rows.rms(torch.full((2,), -3.0)).tolist() == [3.0, 3.0]


def test_what_a_row_tree_is_not():
    with pytest.raises(TypeError, match=r"got float. Turn it into a tensor"):
        rows.map_rows(torch.neg, (torch.ones(2), 1.0))
    with pytest.raises(ValueError, match="share their first axis, the sample; got sizes 2, 3"):
        rows.count((torch.ones(2), torch.ones(3)))
    with pytest.raises(ValueError, match="got sizes 2, a scalar"):
        rows.count((torch.ones(2), torch.tensor(1.0)))
    with pytest.raises(ValueError, match="needs at least one tensor with a sample axis; got none"):
        rows.count((None, Shared(torch.ones(2))))
