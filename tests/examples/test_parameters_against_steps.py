"""Parameters against steps: what is read off, and the law that is fitted."""

from __future__ import annotations

from typing import Any

import pytest
import torch


def test_the_fewest_steps_with_enough_right_are_read_off() -> None:
    from parameters_against_steps import needed

    from support.reasoning import Outcome

    scores: dict[str, dict[str, float]] = {"soon": {"2": 0.5, "4": 0.96, "6": 0.9, "8": 1.0}, "never": {"2": 0.94}}
    outcome = Outcome("cell", 0, 10, 1.0, 5, 1.0, scores, {}, {}, {}, {})
    assert (needed(outcome, "soon"), needed(outcome, "never")) == (4, None)


def test_a_power_law_is_found_again() -> None:
    from parameters_against_steps import exchange

    slope, offset = exchange([(n, round(3e6 * n**-0.5)) for n in (100, 400, 900, 2500)])
    assert slope == pytest.approx(-0.5, abs=1e-3) and offset == pytest.approx(float(torch.tensor(3e6).log()), abs=1e-2)


def test_every_kernel_has_more_parameters_than_the_one_before() -> None:
    from parameters_against_steps import EXPERIMENT

    models: list[Any] = [contender.build() for contender in EXPERIMENT.contenders]
    sizes = [sum(parameter.numel() for parameter in model.parameters()) for model in models]
    assert sizes == sorted(set(sizes))
