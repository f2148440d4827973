"""Every rule keeps the promises of a local rule, on every geometry; and a rule that breaks one is found out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from hebbian import Conv2d, Dense, Hebb, LocalRule, Oja, per_unit
from hebbian.testing import Case, check_rule, dense_case

RULES = [Hebb(0.1), Hebb(-0.3), Oja(0.1)]  # a new rule joins here


def convolution_case(padding: int) -> Case:
    generator = torch.Generator().manual_seed(1)
    synapse = Conv2d(2, 3, 3, padding=padding)
    weight = torch.randn(synapse.weight_shape, generator=generator, dtype=torch.float64) / 4
    pre = torch.randn(6, 2, 7, 5, generator=generator, dtype=torch.float64)
    return Case(synapse, weight, pre, synapse.forward(weight, pre))


CASES = {
    "dense": dense_case(),
    "one unit": dense_case(seed=2, out_features=1),
    "one input": dense_case(seed=3, in_features=1),
    "two samples": dense_case(seed=4, batch=2),
    "convolution": convolution_case(padding=0),
    "padded convolution": convolution_case(padding=1),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
@pytest.mark.parametrize("rule", RULES, ids=str)
def test_every_rule_keeps_the_contract(rule: LocalRule, case: Case) -> None:
    check_rule(rule, case)


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_a_convolution_is_a_dense_synapse_seen_patch_by_patch(rule: LocalRule) -> None:
    case = convolution_case(padding=1)
    patches = functional.unfold(case.pre, 3, padding=1).movedim(1, -1).flatten(0, 1)
    dense = Dense(patches.shape[1], 3)
    flat = case.weight.flatten(1)
    wanted, _ = rule.delta(rule.statistics(dense, patches, patches @ flat.T, None), flat, None)
    found, _ = rule.delta(rule.statistics(case.synapse, case.pre, case.post, None), case.weight, None)
    torch.testing.assert_close(found.flatten(1), wanted, rtol=1e-12, atol=1e-12)


# --- rules that are not in the library, to try the contract itself


@dataclass(frozen=True)
class Rewarded(LocalRule):
    """Hebb with a third factor: a rule that needs a signal."""

    rate: float
    signal: ClassVar[str | None] = "the reward of each sample, shape (B,)"

    def sums(self, synapse, pre, post, state, signal):
        assert signal is not None
        return {"outer": synapse.outer(post * signal[:, None], pre)}

    def change(self, statistics, weight, state):
        return self.rate * statistics.mean("outer"), state


@dataclass(frozen=True)
class Centred(LocalRule):
    """Hebb about a running mean of each unit: a rule that remembers."""

    rate: float
    writes: bool = False
    grows: bool = False

    def init_state(self, synapse, weight):
        return {"mean": torch.full_like(weight[:, 0], 0.5)}

    def sums(self, synapse, pre, post, state, signal):
        return {"outer": synapse.outer(post - state["mean"], pre), "post": synapse.uses(post).sum(dim=0)}

    def change(self, statistics, weight, state):
        step = 0.1 * (statistics.mean("post") - state["mean"])
        mean = state["mean"].add_(step) if self.writes else state["mean"] + step
        if self.grows:
            mean = mean[:, None] if mean.ndim == 1 else mean[:, :, None]
        return self.rate * statistics.mean("outer"), {"mean": mean}


@dataclass(frozen=True)
class Target(LocalRule):
    """A unit's weights shrink or grow until its mean activity is one: silence changes them, and may."""

    rate: float

    def sums(self, synapse, pre, post, state, signal):
        return {"post": synapse.uses(post).sum(dim=0)}

    def change(self, statistics, weight, state):
        return self.rate * per_unit(1 - statistics.mean("post"), weight) * weight, state


def test_a_rule_with_a_signal_keeps_the_contract() -> None:
    reward = torch.randn(8, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    check_rule(Rewarded(0.1), dense_case()._replace(signal=reward))


def test_a_rule_with_a_state_keeps_the_contract() -> None:
    check_rule(Centred(0.1))


def test_a_rule_with_a_learned_setting_leaves_no_graph() -> None:
    @dataclass(frozen=True)
    class Gained(LocalRule):
        gain: Tensor

        def sums(self, synapse, pre, post, state, signal):
            return {"outer": self.gain.to(post.dtype) * synapse.outer(post, pre)}

        def change(self, statistics, weight, state):
            return self.gain.to(weight.dtype) * statistics.mean("outer"), state

    check_rule(Gained(torch.tensor(0.5, dtype=torch.float64, requires_grad=True)))


def test_a_rule_with_a_target_is_not_quiet() -> None:
    check_rule(Target(0.1), quiet=False)
    with pytest.raises(AssertionError, match="on silence on both ends"):
        check_rule(Target(0.1))


@pytest.mark.parametrize(("rule", "signal"), [(Rewarded(0.1), None), (Hebb(0.1), torch.ones(8))], ids=["no", "a"])
def test_check_rule_refuses_a_case_that_does_not_fit(rule: LocalRule, signal: Tensor | None) -> None:
    with pytest.raises(ValueError, match=r"signal; .* wants .* Pass"):
        check_rule(rule, dense_case()._replace(signal=signal))


GAIN = torch.ones((), dtype=torch.float64, requires_grad=True)
GLOBAL = torch.Generator().manual_seed(6)


@dataclass(frozen=True)
class Broken(LocalRule):
    """Hebb with one fault."""

    fault: str
    rate: float = 0.1

    def init_state(self, synapse, weight):
        return torch.zeros_like(weight) if self.fault == "keeps its change" else None

    def sums(self, synapse, pre, post, state, signal):
        outer = synapse.outer(post, pre)
        if self.fault == "averages":
            outer = outer / len(pre)
        elif self.fault == "keeps the samples":
            outer = torch.einsum("bi,bj->bij", post, pre)
        elif self.fault == "writes into pre":
            pre.mul_(2)
        elif self.fault == "draws":
            outer = outer + torch.randn(outer.shape, dtype=outer.dtype, generator=GLOBAL)
        elif self.fault == "competes among samples":
            outer = synapse.outer(torch.softmax(post, dim=0), pre)
        return {"outer": outer}

    def change(self, statistics, weight, state):
        change = self.rate * statistics.mean("outer")
        if self.fault == "ignores its rate":
            change = statistics.mean("outer")
        elif self.fault == "writes into weight":
            weight.add_(change)
        elif self.fault == "writes and takes back":
            weight.mul_(-1).mul_(-1)
        elif self.fault == "keeps a graph":
            with torch.enable_grad():
                change = GAIN.to(change.dtype) * change
        elif self.fault == "sums the units":
            change = change.sum(dim=0)
        elif self.fault == "lends its sums":
            change = statistics.sums["outer"].mul_(1) if self.rate else change
        elif self.fault == "does nothing":
            change = 0 * change
        elif self.fault == "overflows":
            change = change / 0
        elif self.fault == "rounds":
            change = change.round(decimals=2) if weight.dtype == torch.float32 else change
        elif self.fault == "asks the mode":
            change = 2 * change if torch.is_inference_mode_enabled() else change
        elif self.fault == "takes and looks":
            change = statistics.own("outer").mul_(self.rate) + statistics.mean("outer")
        elif self.fault == "keeps its change":
            return change, change
        return change, state


BROKEN = {
    "averages": "do not add",
    "keeps the samples": "has a sample axis in sum 'outer'",
    "writes into pre": "`statistics` writes into pre",
    "draws": "differs|do not add",
    "competes among samples": "do not add",
    "ignores its rate": "on a rate of zero",
    "writes into weight": "`delta` writes into weight",
    "writes and takes back": "`delta` writes into weight",
    "keeps a graph": "builds an autograd graph",
    "sums the units": r"by one of shape \(5,\)",
    "lends its sums": "writes into statistics|shares memory with statistics",
    "does nothing": "does not change the weight",
    "overflows": "is not finite",
    "rounds": "differs in float32 and float64",
    "asks the mode": "differs under inference_mode",
    "takes and looks": "looks again at a sum",
    "keeps its change": "keeps its change in its state",
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_rule_is_found_out(fault: str) -> None:
    with pytest.raises(AssertionError, match=BROKEN[fault]):
        check_rule(Broken(fault))


def test_the_rule_that_is_broken_above_is_otherwise_sound() -> None:
    check_rule(Broken("none"))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (Centred(0.1, writes=True), "`delta` writes into state leaf 0"),
        (Centred(0.1, grows=True), "has a state whose shapes move"),
    ],
    ids=["writes", "grows"],
)
def test_a_broken_state_is_found_out(rule: LocalRule, message: str) -> None:
    with pytest.raises(AssertionError, match=message):
        check_rule(rule)


def test_settings_that_can_be_changed_are_found_out() -> None:
    @dataclass
    class Loose(LocalRule):
        rate: float = 0.1
        seen: list[int] = field(default_factory=list)

        def sums(self, synapse, pre, post, state, signal):
            return {"outer": synapse.outer(post, pre)}

        def change(self, statistics, weight, state):
            return self.rate * statistics.mean("outer"), state

    with pytest.raises(AssertionError, match="is no frozen dataclass"):
        check_rule(Loose())


def test_a_geometry_that_lets_anything_through_is_found_out() -> None:
    @dataclass(frozen=True)
    class Lax(Dense):
        def check_shapes(self, pre: Tensor, post: Tensor) -> None:
            pass

    case = dense_case()
    with pytest.raises(AssertionError, match=r"raises RuntimeError.*A ValueError that speaks of 'samples' is wanted"):
        check_rule(Hebb(0.1), case._replace(synapse=Lax(5, 3)))
