"""What workers add up: exact for every rule; what averaging their changes is, and is not."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from itertools import pairwise
from operator import add

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from hebbian import Dense, Hebb, LocalRule, Oja, Statistics
from hebbian.testing import Case, check_rule, dense_case

REPEATABLE = settings(derandomize=True, database=None, deadline=None)
LINEAR = [Hebb(0.1), Oja(0.1)]


@dataclass(frozen=True)
class Normalised(LocalRule):
    """Hebb at a fixed largest change: a rule whose change is not linear in the means."""

    rate: float

    def sums(self, synapse, pre, post, state, signal):
        return {"outer": synapse.outer(post, pre)}

    def change(self, statistics, weight, state):
        mean = statistics.mean("outer")
        return self.rate * mean / mean.abs().max().clamp(min=1e-12), state


def statistics_of(rule: LocalRule, case: Case) -> Statistics:
    return rule.statistics(case.synapse, case.pre, case.post, None)


def change_of(rule: LocalRule, case: Case, *parts: Statistics) -> Tensor:
    return rule.delta(reduce(add, parts), case.weight, None)[0]


@REPEATABLE
@given(cuts=st.lists(st.integers(0, 12), max_size=4), seed=st.integers(0, 10**6))
@pytest.mark.parametrize("rule", [*LINEAR, Normalised(0.1)], ids=str)
def test_adding_the_statistics_of_workers_is_exact(rule: LocalRule, cuts: list[int], seed: int) -> None:
    case = dense_case(seed, batch=12)
    edges = [0, *sorted(cuts), 12]
    parts = [statistics_of(rule, case.take(slice(low, high))) for low, high in pairwise(edges)]
    wanted = change_of(rule, case, statistics_of(rule, case))
    torch.testing.assert_close(change_of(rule, case, *parts), wanted, rtol=1e-10, atol=1e-12)


def two_changes(rule: LocalRule, case: Case, cut: int) -> tuple[Tensor, Tensor, Tensor]:
    one, other = (statistics_of(rule, case.take(rows)) for rows in (slice(0, cut), slice(cut, None)))
    return change_of(rule, case, one), change_of(rule, case, other), change_of(rule, case, one, other)


@pytest.mark.parametrize("rule", LINEAR, ids=str)
def test_averaging_changes_of_linear_rules_is_exact_only_when_weighed_by_count(rule: LocalRule) -> None:
    case = dense_case(1, batch=12)
    one, other, both = two_changes(rule, case, 6)
    torch.testing.assert_close((one + other) / 2, both, rtol=1e-10, atol=1e-12)
    one, other, both = two_changes(rule, case, 3)
    torch.testing.assert_close((3 * one + 9 * other) / 12, both, rtol=1e-10, atol=1e-12)
    assert ((one + other) / 2 - both).abs().max() > 1e-3


def test_averaging_changes_of_other_rules_is_wrong_however_weighed() -> None:
    check_rule(Normalised(0.1))
    one, other, both = two_changes(Normalised(0.1), dense_case(1, batch=12), 6)
    assert ((one + other) / 2 - both).abs().max() > 1e-3


def test_a_mean_counts_samples_and_places() -> None:
    statistics = Statistics(4, {"total": torch.tensor([2.0])}, (1, 1))
    assert statistics.mean("total") == 0.5
    assert Statistics(0, {"total": torch.tensor([0.0])}, (1, 1)).mean("total") == 0


def test_a_worker_without_samples_adds_nothing() -> None:
    case = dense_case()
    empty = statistics_of(Oja(0.1), case.take(slice(0, 0)))
    whole = statistics_of(Oja(0.1), case)
    assert empty.count == 0
    assert torch.equal(change_of(Oja(0.1), case, empty, whole), change_of(Oja(0.1), case, whole))
    assert not change_of(Oja(0.1), case, empty).any()


def test_adding_leaves_both_as_they_were() -> None:
    one, other = (Statistics(1, {"a": torch.ones(2)}, (2, 2)) for _ in range(2))
    assert (one + other).count == 2
    assert torch.equal(one.sums["a"], torch.ones(2))
    assert torch.equal(other.sums["a"], torch.ones(2))


def test_statistics_that_do_not_belong_together_are_refused() -> None:
    case = dense_case()
    hebb, oja = statistics_of(Hebb(0.1), case), statistics_of(Oja(0.1), case)
    with pytest.raises(ValueError, match=r"were to be added; those of one rule on one synapse are wanted\. Keep"):
        _ = hebb + oja
    with pytest.raises(ValueError, match="were to be added"):
        _ = hebb + statistics_of(Hebb(0.1), dense_case(out_features=2))
    with pytest.raises(TypeError, match="unsupported operand"):
        _ = hebb + 1  # type: ignore[operator]
    with pytest.raises(ValueError, match=r"hold \['outer'\]; 'square' is wanted\. Take"):
        Oja(0.1).delta(hebb, case.weight, None)


def test_bfloat16_is_summed_in_float32() -> None:
    synapse, ones = Dense(1, 1), torch.ones(1000, 1, dtype=torch.bfloat16)
    statistics = Hebb(1.0).statistics(synapse, ones, ones, None)
    assert statistics.sums["outer"].item() == 1000  # a bfloat16 holds 1000 but not 1001
    more = statistics + Hebb(1.0).statistics(synapse, ones[:1], ones[:1], None)
    assert more.sums["outer"].item() == 1001


def test_under_autocast_the_answer_of_forward_is_taken_as_it_comes() -> None:
    case = dense_case().map(lambda tensor: tensor.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        post = case.synapse.forward(case.weight, case.pre)
        statistics = Oja(0.1).statistics(case.synapse, case.pre, post, None)
    assert post.dtype == torch.bfloat16
    assert {value.dtype for value in statistics.sums.values()} == {torch.float32}
