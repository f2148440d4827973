"""Stop rules made of others."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from ebm import rows
from ebm.engine.stop import Look, Stop

__all__ = ["AllOf", "AnyOf", "Patience"]


@dataclass(frozen=True)
class Patience(Stop):
    """Done when another rule has held at ``times`` checks in a row.

    Args:
        rule: the rule to wait for.
        times: >= 1.

    Raises:
        ValueError: ``times`` below one.
        TypeError: ``rule`` is no stop rule.

    Example:
        >>> import ebm
        >>> ebm.Patience(ebm.Confident(0.9), times=2)
        Patience(rule=Confident(threshold=0.9), times=2)

    Source: early stopping with patience, as in Prechelt (1998), for a sample instead of a training run.
    """

    rule: Stop
    times: int = 3

    def __post_init__(self) -> None:
        _all_rules("Patience", (self.rule,))
        if self.times < 1:
            raise ValueError(f"`Patience(times=...)` must be at least 1; got {self.times}. Try 3.")

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.rule.needs

    @property
    def reads(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.rule.reads

    @property
    def threshold_name(self) -> str | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.rule.threshold_name

    @property
    def larger_is_stricter(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.rule.larger_is_stricter

    @property
    def in_a_row(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.rule.in_a_row + self.times - 1

    def strictest(self, look: Look) -> Tensor:
        return self.rule.strictest(look)

    def followed(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        level, inner = self.rule.followed(look, memory["inner"])
        return level, {**memory, "inner": inner}

    def with_threshold(self, value: float) -> Stop:
        return replace(self, rule=self.rule.with_threshold(value))

    def init(self, look: Look) -> Any:
        batch = next(rows.leaves(look.point.z))
        return {
            "inner": self.rule.init(look),
            "held": torch.zeros(batch.shape[0], dtype=torch.int64, device=batch.device),
        }

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        done, inner = self.rule.check(look, memory["inner"])
        held = torch.where(done, memory["held"] + 1, 0)
        return held >= self.times, {"inner": inner, "held": held}


@dataclass(frozen=True, init=False)
class _Several(Stop):
    rules: tuple[Stop, ...]

    def __init__(self, *rules: Stop) -> None:
        _all_rules(type(self).__name__, rules)
        object.__setattr__(self, "rules", rules)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(map(repr, self.rules))})"

    @property
    def needs(self) -> frozenset[str]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return frozenset().union(*(rule.needs for rule in self.rules))

    @property
    def reads(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return any(rule.reads for rule in self.rules)

    def init(self, look: Look) -> Any:
        return tuple(rule.init(look) for rule in self.rules)

    def _checks(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        """The verdicts, (rules, B), and the next memories."""
        outcomes = [rule.check(look, part) for rule, part in zip(self.rules, memory, strict=True)]
        return torch.stack([done for done, _ in outcomes]), tuple(part for _, part in outcomes)


class AnyOf(_Several):
    """Done when any of several rules says so.

    Args:
        rules: one or more stop rules.

    Raises:
        ValueError: no rule at all.
        TypeError: something that is no stop rule.

    Example:
        >>> import ebm
        >>> ebm.AnyOf(ebm.AtRest(1e-5), ebm.Confident(0.99))
        AnyOf(AtRest(atol=1e-05, rtol=0.0), Confident(threshold=0.99))

    Source: logical or.
    """

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        verdicts, memory = self._checks(look, memory)
        return verdicts.any(0), memory


class AllOf(_Several):
    """Done when all of several rules say so at the same check.

    Args:
        rules: one or more stop rules.

    Raises:
        ValueError: no rule at all.
        TypeError: something that is no stop rule.

    Example:
        >>> import ebm
        >>> ebm.AllOf(ebm.AtRest(1e-3), ebm.Confident(0.9)).rules[0]
        AtRest(atol=0.001, rtol=0.0)

    Source: logical and.
    """

    def check(self, look: Look, memory: Any) -> tuple[Tensor, Any]:
        verdicts, memory = self._checks(look, memory)
        return verdicts.all(0), memory


def _all_rules(owner: str, rules: tuple[Any, ...]) -> None:
    if not rules:
        raise ValueError(f"`{owner}` needs at least one stop rule; got none. Pass {owner}(AtRest(1e-4), ...).")
    for rule in rules:
        if not isinstance(rule, Stop):
            raise TypeError(
                f"`{owner}` takes stop rules; got {type(rule).__name__}. Pass {owner}(AtRest(1e-4), ...), say."
            )
