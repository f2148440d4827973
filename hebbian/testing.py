"""Checks that ship with the library: does a rule keep the promises of `LocalRule`?"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any, NamedTuple

import torch
from torch import Tensor

from hebbian.learn import step
from hebbian.rule import LocalRule
from hebbian.statistics import Statistics
from hebbian.synapse import Dense, Synapse
from hebbian.traces import forget, take, traces_of

__all__ = ["Case", "check_rule", "dense_case"]


class Case(NamedTuple):
    """What a rule is tried on: a synapse, its weight, and a batch of at least two samples.

    Attributes:
        synapse: the geometry.
        weight: ``(units, *field)``, float64.
        pre: (B, ...), float64.
        post: ``(B, units, *places)``, float64; any numbers that the rule should meet, not only ``forward``'s.
        signal: for rules that need one, first axis B or a number; None for the others.

    Example:
        >>> from hebbian.testing import dense_case
        >>> dense_case().post.shape
        torch.Size([8, 3])
    """

    synapse: Synapse
    weight: Tensor
    pre: Tensor
    post: Tensor
    signal: Tensor | None = None

    def take(self, rows: slice) -> Case:
        """The same with some of the samples only."""
        signal = self.signal[rows] if self.signal is not None and self.signal.ndim else self.signal
        return self._replace(pre=self.pre[rows], post=self.post[rows], signal=signal)

    def map(self, fn: Callable[[Tensor], Tensor]) -> Case:
        """The same with every floating-point tensor replaced."""
        signal = self.signal
        if signal is not None and signal.is_floating_point():
            signal = fn(signal)
        return Case(self.synapse, fn(self.weight), fn(self.pre), fn(self.post), signal)


class _Result(NamedTuple):
    """All that one use of a rule returned."""

    statistics: Statistics
    change: Tensor
    state: Any

    @property
    def tensors(self) -> list[Tensor]:
        traces = (trace for rows in self.statistics.traces for trace in rows.values())
        return [*self.statistics.sums.values(), *traces, self.change, *_leaves(self.state)]


def dense_case(seed: int = 0, batch: int = 8, in_features: int = 5, out_features: int = 3) -> Case:
    """A small dense synapse with Gaussian input and a linear answer, in float64.

    Args:
        seed: of the one generator that everything is drawn from.
        batch: number of samples, at least 2.
        in_features: number of inputs.
        out_features: number of units.

    Returns:
        the case, without a signal (``case._replace(signal=...)`` adds one).

    Example:
        >>> from hebbian.testing import dense_case
        >>> dense_case(batch=4).pre.shape
        torch.Size([4, 5])
    """
    generator = torch.Generator().manual_seed(seed)
    synapse = Dense(in_features, out_features)
    weight = torch.randn(out_features, in_features, generator=generator, dtype=torch.float64)
    pre = torch.randn(batch, in_features, generator=generator, dtype=torch.float64)
    return Case(synapse, weight, pre, synapse.forward(weight, pre))


def check_rule(rule: LocalRule, case: Case | None = None, *, quiet: bool = True) -> None:
    """Check that a rule keeps every promise of `LocalRule`, on one case.

    Checked: settings are frozen; statistics of parts add to those of the whole and have no sample axis, and the traces
    of a sample do not depend on its company, at the first batch and at a later one; nothing passed
    in is changed by a bit, and the change has memory of its own; no graph is built and no ``.grad`` written; grad mode,
    ``no_grad``, ``inference_mode`` and autocast agree to the bit; a second call does too, and the global generator is
    untouched; the change has the weight's shape and dtype, in bfloat16, float32 and float64; states chain; `step` and
    `delta` agree; no samples
    and a zero ``rate`` change nothing; what does not fit is refused with a message that names it.

    Args:
        rule: the rule, with a rate that is not zero.
        case: what to try it on; by default `dense_case`. A rule with a signal needs a case that has one.
        quiet: that silence on both ends changes nothing. Pass False for a rule that pulls towards a target activity.

    Raises:
        AssertionError: a promise is broken; the message says which, how, and by how much.
        ValueError: the case does not fit the rule.

    Example:
        >>> from hebbian import Oja
        >>> from hebbian.testing import check_rule
        >>> check_rule(Oja(0.1))
    """
    case = dense_case() if case is None else case
    if (rule.signal is None) != (case.signal is None):
        raise ValueError(
            f"The case has {'no ' if case.signal is None else 'a '}signal; {rule} wants {rule.signal or 'none'}. "
            "Pass `case._replace(signal=...)`."
        )
    for check in (_frozen, _chains, _pure, _additive, _graphless, _same_in_every_mode, _deterministic, _dtypes, _steps):
        check(rule, case)
    _still(rule, case, quiet)
    _refuses(rule, case)


def _frozen(rule: LocalRule, case: Case) -> None:
    params = getattr(rule, "__dataclass_params__", None)
    _require(params is not None and params.frozen, rule, "is no frozen dataclass, so threads could not share it")


def _additive(rule: LocalRule, case: Case) -> None:
    size = len(case.pre)
    for state in (rule.init_state(case.synapse, case.weight), _warmed(rule, case)):
        whole = _statistics(rule, case, state)
        for edges in ([0, 0, size], [0, 1, size], [0, size // 2, size], list(range(size + 1))):
            rows = [slice(low, high) for low, high in pairwise(edges)]
            parts = [_statistics(rule, case.take(part), take(state, part)) for part in rows]
            for part in parts:
                _no_sample_axis(rule, part, whole)
            _adds(rule, reduce(add, parts), whole, edges)


def _no_sample_axis(rule: LocalRule, part: Statistics, whole: Statistics) -> None:
    for name, value in part.sums.items():
        wanted = tuple(whole.sums[name].shape)
        _require(
            tuple(value.shape) == wanted,
            rule,
            f"has a sample axis in sum {name!r}: {tuple(value.shape)} for {part.count} uses of the weight, "
            f"{wanted} for {whole.count}",
        )


def _adds(rule: LocalRule, total: Statistics, whole: Statistics, edges: list[int]) -> None:
    _require(total.count == whole.count, rule, f"counts {total.count} in parts but {whole.count} in one batch")
    for name, value in whole.sums.items():
        _close(rule, total.sums[name], value, f"statistics of the parts {edges} do not add: sum {name!r}", 1e-9)
    for found, wanted in zip(total.traces, whole.traces, strict=True):
        for name, value in wanted.items():
            ok = tuple(found[name].shape) == tuple(value.shape)
            _require(ok, rule, f"has a trace {name!r} whose first axis is not the sample")
            _close(rule, found[name], value, f"traces of a sample depend on its company in {edges}: {name!r}", 1e-9)


def _pure(rule: LocalRule, case: Case) -> None:
    case = case.map(torch.clone)
    for state in (rule.init_state(case.synapse, case.weight), _warmed(rule, case)):
        _writes_nothing(rule, case, state)


def _writes_nothing(rule: LocalRule, case: Case, state: Any) -> None:
    statistics = _unwritten(rule, "statistics", lambda: _statistics(rule, case, state), _inputs(case, state))
    inputs = {**_inputs(case, state), **{f"statistics.sums[{k!r}]": v for k, v in statistics.sums.items()}}
    change, _ = _unwritten(rule, "delta", lambda: rule.delta(statistics, case.weight, state), inputs)
    for name, tensor in inputs.items():
        shared = change.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()
        _require(not shared, rule, f"`delta` returns a change that shares memory with {name}")


def _graphless(rule: LocalRule, case: Case) -> None:
    case = case.map(lambda tensor: tensor.clone().requires_grad_())
    with torch.enable_grad():
        result = _run(rule, case)
    for tensor in result.tensors:
        _require(not tensor.requires_grad, rule, f"builds an autograd graph (a result of shape {tuple(tensor.shape)})")
    for name, tensor in _inputs(case, None).items():
        _require(tensor.grad is None, rule, f"writes the gradient of {name}")


def _same_in_every_mode(rule: LocalRule, case: Case) -> None:
    case = case.map(torch.Tensor.float)  # autocast leaves float64 alone
    plain = _run(rule, case)
    device = case.weight.device.type
    autocast = torch.autocast(device, dtype=torch.bfloat16)
    for name, mode in (
        ("no_grad", torch.no_grad()),
        ("inference_mode", torch.inference_mode()),
        ("autocast", autocast),
    ):
        with mode:
            result = _run(rule, case)
        _equal(rule, result, plain, f"differs under {name}")


def _deterministic(rule: LocalRule, case: Case) -> None:
    before = torch.get_rng_state()
    first, second = _run(rule, case), _run(rule, case)
    _equal(rule, second, first, "differs from call to call")
    _require(torch.equal(before, torch.get_rng_state()), rule, "draws from the global generator")


def _dtypes(rule: LocalRule, case: Case) -> None:
    exact = _run(rule, case).change
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        cast = case.map(lambda tensor, dtype=dtype: tensor.to(dtype))
        change = _run(rule, cast).change
        shape, wanted = tuple(change.shape), tuple(cast.weight.shape)
        _require(shape == wanted, rule, f"changes a weight of shape {wanted} by one of shape {shape}")
        _require(change.dtype == dtype, rule, f"changes a weight of dtype {dtype} by one of dtype {change.dtype}")
        _require(bool(change.isfinite().all()), rule, f"is not finite in {dtype}")
        if dtype == torch.float32:
            _close(rule, change.double(), exact, "differs in float32 and float64: change", 1e-4)


def _chains(rule: LocalRule, case: Case) -> None:
    def shapes(state: Any) -> list[tuple[tuple[int, ...], torch.dtype]]:
        return [(tuple(leaf.shape), leaf.dtype) for leaf in _leaves(state)]

    state = rule.init_state(case.synapse, case.weight)
    shared = shapes(forget(state))
    wanted: list[tuple[tuple[int, ...], torch.dtype]] | None = None
    for _ in range(4):
        _, state = rule.delta(_statistics(rule, case, state), case.weight, state)
        wanted = shapes(state) if wanted is None else wanted  # the first batch begins the traces
        _require(shapes(state) == wanted, rule, f"has a state whose shapes move: from {wanted} to {shapes(state)}")
        _require(
            shapes(forget(state)) == shared,
            rule,
            f"has a state whose shapes move: from {shared} to {shapes(forget(state))}",
        )


def _steps(rule: LocalRule, case: Case) -> None:
    for state in (rule.init_state(case.synapse, case.weight), _warmed(rule, case)):
        state = rule.renewed(case.weight, state)  # as `step` does
        change, after = rule.delta(_statistics(rule, case, state), case.weight, state)
        found = _leaves(step(rule, case.synapse, case.weight, case.pre, case.post, state, case.signal))
        for one, other in zip(found, _leaves((change + case.weight, after)), strict=True):
            what = "looks again at a sum that was `taken`, or keeps its change in its state: `step` and `delta` differ"
            _close(rule, one, other, what, 1e-12)


def _still(rule: LocalRule, case: Case, quiet: bool) -> None:
    state = rule.init_state(case.synapse, case.weight)
    nothing = _run(rule, case.take(slice(0, 0)))
    _no_change(rule, nothing.change, "no samples")
    _require(_same(_leaves(nothing.state), _leaves(state)), rule, "moves its state on no samples")
    settings: Any = rule  # `_frozen` has seen that it is a dataclass
    if any(field.name == "rate" for field in dataclasses.fields(settings)):
        _no_change(rule, _run(dataclasses.replace(settings, rate=0.0), case).change, "a rate of zero")
    _require(bool(_run(rule, case).change.any()), rule, "does not change the weight of this case at all")
    if quiet:
        silent = case._replace(pre=torch.zeros_like(case.pre), post=torch.zeros_like(case.post))
        _no_change(rule, _run(rule, silent).change, "silence on both ends")


def _refuses(rule: LocalRule, case: Case) -> None:
    state = rule.init_state(case.synapse, case.weight)
    statistics = _statistics(rule, case, state)
    stray = torch.ones(len(case.pre)) if rule.signal is None else None
    bad = [
        ("signal", ValueError, case._replace(signal=stray)),
        ("samples", ValueError, case._replace(pre=case.pre[:-1])),
        ("shape", ValueError, case._replace(post=case.post[:, :-1])),
        ("pre", ValueError, case._replace(pre=_with_nan(case.pre))),
        ("post", ValueError, case._replace(post=_with_nan(case.post))),
        ("dtype", TypeError, case._replace(pre=case.pre.long())),
        ("dtype", TypeError, case._replace(post=case.post.float())),
        ("device", ValueError, case._replace(post=case.post.to("meta"))),
    ]
    for word, error, wrong in bad:
        _refused(rule, word, error, lambda wrong=wrong: _statistics(rule, wrong, state))
    if case.signal is not None and case.signal.ndim:
        bad_signal = case._replace(signal=torch.cat([case.signal, case.signal]))
        _refused(rule, "signal", ValueError, lambda: _statistics(rule, bad_signal, state))
    warmed = _warmed(rule, case)
    if traces_of(warmed):
        _refused(rule, "forget", ValueError, lambda: _statistics(rule, case.take(slice(0, 1)), warmed))
    taller = torch.cat([case.weight, case.weight[:1]])
    _refused(rule, "weight", ValueError, lambda: rule.delta(statistics, taller, state))
    if statistics.sums:  # a rule that looks at neither end has seen no dtype
        _refused(rule, "dtype", TypeError, lambda: rule.delta(statistics, case.weight.float(), state))


def _warmed(rule: LocalRule, case: Case) -> Any:
    """The state after two batches, so that running means and traces are no longer what they began as."""
    state = rule.init_state(case.synapse, case.weight)
    for _ in range(2):
        _, state = rule.delta(_statistics(rule, case, state), case.weight, state)
    return state


def _statistics(rule: LocalRule, case: Case, state: Any) -> Statistics:
    return rule.statistics(case.synapse, case.pre, case.post, state, case.signal)


def _run(rule: LocalRule, case: Case) -> _Result:
    """Two steps, and what the second returned: a rule that pairs spikes over time does nothing in its first."""
    state = rule.init_state(case.synapse, case.weight)
    _, state = rule.delta(_statistics(rule, case, state), case.weight, state)
    statistics = _statistics(rule, case, state)
    return _Result(statistics, *rule.delta(statistics, case.weight, state))


def _inputs(case: Case, state: Any) -> dict[str, Tensor]:
    named = {"weight": case.weight, "pre": case.pre, "post": case.post}
    signal = {} if case.signal is None else {"signal": case.signal}
    return {**named, **signal, **{f"state leaf {i}": leaf for i, leaf in enumerate(_leaves(state))}}


def _leaves(tree: Any) -> Iterator[Tensor]:
    if isinstance(tree, Tensor):
        yield tree
    elif isinstance(tree, dict):
        for value in tree.values():
            yield from _leaves(value)
    elif isinstance(tree, (tuple, list)):
        for value in tree:
            yield from _leaves(value)


def _with_nan(tensor: Tensor) -> Tensor:
    return torch.cat([tensor[:-1], torch.full_like(tensor[-1:], float("nan"))])


def _require(ok: bool, rule: LocalRule, message: str) -> None:
    if not ok:
        raise AssertionError(f"{rule} {message}.")


def _close(rule: LocalRule, found: Tensor, wanted: Tensor, what: str, tolerance: float) -> None:
    worst = float((found - wanted).abs().max()) if wanted.numel() else 0.0
    bound = tolerance * (1 + float(wanted.abs().max())) if wanted.numel() else 0.0
    _require(worst <= bound, rule, f"{what} is off by {worst:.3g} (allowed: {bound:.3g})")


def _same(found: Iterable[Tensor], wanted: Iterable[Tensor]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(torch.equal(one, other) and one.dtype == other.dtype for one, other in pairs)


def _equal(rule: LocalRule, found: _Result, wanted: _Result, what: str) -> None:
    _require(_same(found.tensors, wanted.tensors), rule, what)


def _no_change(rule: LocalRule, change: Tensor, cause: str) -> None:
    worst = float(change.abs().max())
    _require(worst == 0, rule, f"changes the weight by {worst:.3g} on {cause}")


def _unwritten(rule: LocalRule, door: str, call: Callable[[], Any], inputs: dict[str, Tensor]) -> Any:
    """Call, and require that no input was written: neither its bits nor, where it has one, its version counter."""
    before = {name: (tensor.clone(), tensor._version) for name, tensor in inputs.items()}
    result = call()
    for name, tensor in inputs.items():
        bits, version = before[name]
        _require(torch.equal(bits, tensor) and tensor._version == version, rule, f"`{door}` writes into {name}")
    return result


def _refused(rule: LocalRule, word: str, error: type[Exception], call: Callable[[], Any]) -> None:
    wanted = f"{error.__name__} that speaks of {word!r}"
    try:
        call()
    except error as caught:
        _require(word in str(caught), rule, f"refuses without naming what is wrong: {caught} A {wanted} is wanted")
    except Exception as caught:
        raise AssertionError(f"{rule} raises {type(caught).__name__}: {caught}. A {wanted} is wanted.") from caught
    else:
        raise AssertionError(f"{rule} accepts what does not fit. A {wanted} is wanted.")
