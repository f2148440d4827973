"""The contract on rules with signals and traces, dense and convolutional, alone, chained, gated and scheduled."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from hebbian import (
    BCM,
    ICA,
    Chain,
    Contrastive,
    Conv1d,
    Covariance,
    Delta,
    Falling,
    Gated,
    Hebb,
    Instar,
    KrotovHopfield,
    LocalRule,
    NonlinearPCA,
    Normalise,
    NormalisedDelta,
    Oja,
    OjaSubspace,
    PairSTDP,
    RewardModulated,
    Sanger,
    Scheduled,
    SignConstraint,
    SoftCompetition,
    SoftHebb,
    ThreeFactor,
    Traced,
    TripletSTDP,
    WeightDecay,
    WinnerTakeAll,
    forget,
    step,
    sub_gaussian,
    take,
)
from hebbian.testing import Case, check_rule, dense_case
from tests.hebbian.test_hebbian_contract import convolution_case


def sequence_case() -> Case:
    generator = torch.Generator().manual_seed(3)
    synapse = Conv1d(2, 3, 3, stride=2, padding=1)
    weight = torch.randn(synapse.weight_shape, generator=generator, dtype=torch.float64) / 3
    pre = torch.randn(6, 2, 9, generator=generator, dtype=torch.float64)
    return Case(synapse, weight, pre, synapse.forward(weight, pre))


CASES = {
    "dense": dense_case(),
    "one unit": dense_case(seed=2, out_features=1),
    "two samples": dense_case(seed=4, batch=2),
    "convolution": convolution_case(padding=0),
    "padded convolution": convolution_case(padding=1),
    "convolution of sequences": sequence_case(),
}


def draw(case: Case) -> Tensor:
    generator = torch.Generator().manual_seed(11)
    return torch.randn(len(case.pre), generator=generator, dtype=torch.float64)


def phases(case: Case) -> Tensor:
    return torch.ones(len(case.pre), dtype=torch.float64).cumsum(0).remainder(2) * 2 - 1


def target(case: Case) -> Tensor:
    return case.post.cos()


def some(pre: Tensor, post: Tensor) -> Tensor:
    return post.flatten(1).sum(1) > 0


PLAIN = [
    BCM(0.1, tau=3.0),
    BCM(0.1, divided=True),
    Covariance(0.1),
    Covariance(0.1, momentum=1.0),
    Instar(0.1),
    KrotovHopfield(0.1),
    KrotovHopfield(0.1, k=3, scaled=False),
    NonlinearPCA(0.1),
    NonlinearPCA(0.1, torch.relu, ordered=False),
    OjaSubspace(0.1),
    Sanger(0.1),
    SoftHebb(0.1, anti=False),
    SoftHebb(0.1, adaptive=0.5, scaled=True),
    PairSTDP(0.1),
    TripletSTDP(10.0),
    Chain(Hebb(0.1), Oja(0.2)),
    Chain(PairSTDP(0.1), Oja(0.1), TripletSTDP(10.0)),
    Gated(Oja(0.1), some),
    Gated(PairSTDP(0.1), some),
    Scheduled(Oja(0.1), Falling(100)),
    Scheduled(Chain(Hebb(0.1), PairSTDP(0.3)), lambda t: 1 / (1 + t)),
    Gated(Chain(Scheduled(Hebb(0.1), Falling(100)), PairSTDP(0.1)), some),
]
LOUD = [  # these change the weight whatever the ends do
    ICA(0.1),
    ICA(0.1, sub_gaussian),
    SoftCompetition(0.1),
    WinnerTakeAll(0.1),
    WinnerTakeAll(0.1, k=2, nearest=False),
    WeightDecay(0.1),
    Normalise(),
    Normalise(2.0, p=1.0),
    Normalise(p=float("inf")),
    SignConstraint(1),
    SignConstraint(-1),
    Chain(Hebb(0.1), WeightDecay(0.2), SignConstraint(1), Normalise()),
]
SIGNALLED = [
    (Delta(0.1), target),
    (NormalisedDelta(0.5), target),
    (NormalisedDelta(0.5, epsilon=0.3), target),
    (Contrastive(0.1), phases),
    (ThreeFactor(0.1), draw),
    (ThreeFactor(0.1, decay=0.7), draw),
    (ThreeFactor(0.1, shared=True), lambda case: torch.tensor(0.7, dtype=torch.float64)),
    (ThreeFactor(0.1, decay=0.7, shared=True), lambda case: torch.tensor(-0.7, dtype=torch.float64)),
    (RewardModulated(0.1), draw),
    (RewardModulated(0.1, decay=0.5), draw),
    (RewardModulated(0.1, decay=0.5, centred=True), draw),
    (Chain(Delta(0.1), Hebb(0.1)), target),
    (Chain(RewardModulated(0.1, decay=0.5), PairSTDP(0.1)), draw),
    (Gated(PairSTDP(0.1)), phases),
    (Gated(ThreeFactor(0.1, decay=0.7), some), draw),
    (Scheduled(ThreeFactor(0.1, decay=0.7), Falling(50)), draw),
]


def label(part: object) -> str:
    """A name that is the same in every process: an address would give each of the test runner's workers tests of its own."""
    return re.sub(r"<function (\S+) at 0x[0-9a-f]+>", r"\1", str(part))[:60]


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("rule", PLAIN, ids=label)
def test_rules_without_a_signal_keep_the_contract(rule: LocalRule, case: Case) -> None:
    check_rule(rule, case)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("rule", LOUD, ids=label)
def test_rules_that_do_not_look_at_the_ends_keep_the_contract(rule: LocalRule, case: Case) -> None:
    check_rule(rule, case, quiet=False)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize(("rule", "signal"), SIGNALLED, ids=label)
def test_rules_with_a_signal_keep_the_contract(rule: LocalRule, signal, case: Case) -> None:
    quiet = not isinstance(rule, RewardModulated) or not rule.centred
    check_rule(rule, case._replace(signal=signal(case)), quiet=quiet)


# --- the contract of traces finds out what breaks it


@dataclass(frozen=True)
class Faded(LocalRule):
    """Hebb on a fading trace of the input, with one fault."""

    rate: float
    fault: str = ""

    def init_state(self, synapse, weight):
        return {"pre": weight.new_zeros(8, weight.shape[1])} if self.fault == "hides" else Traced(None, None)

    def begin(self, synapse, pre, post, state):
        if self.fault == "hides" or state.samples is not None:
            return state
        return state._replace(samples={"pre": pre.new_zeros(pre.shape)})

    def sums(self, synapse, pre, post, state, signal):
        return self.observe(synapse, pre, post, state, signal)[0]

    def observe(self, synapse, pre, post, state, signal):
        if self.fault == "hides":
            return {"outer": synapse.outer(post, 0.5 * state["pre"] + pre)}, state
        trace = 0.5 * state.samples["pre"] + pre
        if self.fault == "mixes":
            trace = trace + pre.mean(0)
        elif self.fault == "shuffles":
            trace = trace.roll(1, 0)
        elif self.fault == "writes":
            trace = state.samples["pre"].mul_(0.5).add_(pre)
        elif self.fault == "transposes":
            trace = trace.T
        sums = {"outer": synapse.outer(post, pre if self.fault in ("shuffles", "transposes", "mixes") else trace)}
        return sums, state._replace(samples={"pre": trace})

    def change(self, statistics, weight, state):
        return self.rate * statistics.mean("outer"), state


def test_the_rule_that_is_broken_below_is_otherwise_sound() -> None:
    check_rule(Faded(0.1))


@pytest.mark.parametrize(
    ("fault", "error", "message"),
    [
        ("mixes", AssertionError, "depend on its company"),
        ("shuffles", AssertionError, "depend on its company"),
        ("writes", AssertionError, "`statistics` writes into state leaf 0"),
        ("transposes", (AssertionError, ValueError), "first axis is not the sample|as many are wanted"),
        ("hides", (AssertionError, RuntimeError), "must match|do not add"),
    ],
)
def test_a_broken_trace_is_found_out(fault: str, error, message: str) -> None:
    with pytest.raises(error, match=message):
        check_rule(Faded(0.1, fault))


# --- the traces of samples, split and joined


@pytest.mark.parametrize("rule", [PairSTDP(0.1), ThreeFactor(0.1, decay=0.7), Chain(PairSTDP(0.1), TripletSTDP(1.0))])
def test_workers_with_their_own_sequences_do_as_one_does(rule: LocalRule) -> None:
    """Each worker keeps the traces of its samples, and only sums and counts are exchanged."""
    generator = torch.Generator().manual_seed(3)
    case = dense_case(batch=6)
    weight, state = case.weight, rule.init_state(case.synapse, case.weight)
    parts = [slice(0, 2), slice(2, 6)]
    weights, states = [weight, weight], [state, state]
    for _ in range(5):
        pre, post = (torch.rand(6, n, generator=generator, dtype=torch.float64) for n in (5, 3))
        signal = torch.randn(6, generator=generator, dtype=torch.float64) if rule.signal else None
        weight, state = step(rule, case.synapse, weight, pre, post, state, signal)
        found = [
            rule.statistics(case.synapse, pre[rows], post[rows], own, None if signal is None else signal[rows])
            for rows, own in zip(parts, states, strict=True)
        ]
        total = found[0] + found[1]
        for k, own in enumerate(found):
            reduced = replace(own, count=total.count, sums=total.sums)
            change, states[k] = rule.delta(reduced, weights[k], states[k])
            weights[k] = weights[k] + change
    for k, rows in enumerate(parts):
        torch.testing.assert_close(weights[k], weight, rtol=1e-12, atol=1e-14)
        for mine, theirs in zip(leaves(take(state, rows)), leaves(states[k]), strict=True):
            torch.testing.assert_close(theirs, mine, rtol=1e-12, atol=1e-14)


def leaves(state) -> list[Tensor]:
    from hebbian.traces import traces_of

    return [value for rows in traces_of(state) for value in rows.values()]


def test_other_samples_than_the_traces_are_refused_with_the_remedy() -> None:
    case = dense_case()
    rule = PairSTDP(0.1)
    _, state = step(rule, case.synapse, case.weight, case.pre, case.post, rule.init_state(case.synapse, case.weight))
    with pytest.raises(ValueError, match=r"holds 3 samples and `traces\['pre'\]` of `PairSTDP` 8; .*hebbian.forget"):
        rule.statistics(case.synapse, case.pre[:3], case.post[:3], state)
    assert rule.statistics(case.synapse, case.pre[:3], case.post[:3], forget(state)).count == 3
    with pytest.raises(ValueError, match=r"1 sets of traces; this state has 0\. Pass the state"):
        rule.delta(rule.statistics(case.synapse, case.pre, case.post, state), case.weight, None)
