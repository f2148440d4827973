"""The promises of the anytime call, one check each: `PROMISES` names them all, `check_anytime` runs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ebm.engine.stop import Stop
from ebm.objective import Objective
from ebm.solvers.base import Solver
from ebm.testing.budgets import (
    always_an_answer,
    flops_are_a_limit,
    more_budget_is_never_worse,
    seconds_are_soft,
    steps_are_exact,
    the_pot_is_shared,
    work_is_what_was_executed,
)
from ebm.testing.case import Case
from ebm.testing.company import (
    a_failing_neighbour_changes_nothing,
    a_sample_does_not_know_its_batch,
    compaction_changes_no_answer,
    frozen_means_frozen,
)
from ebm.testing.running import (
    a_callback_stops_like_a_limit,
    best_so_far_never_rises,
    facts_are_of_the_point_returned,
    going_on_is_never_stopping,
    history_changes_nothing,
    inference_leaves_no_trace,
    looking_does_not_disturb,
    same_noise_same_bits,
)

__all__ = ["PROMISES", "check_anytime"]

PROMISES: dict[str, Callable[[Case], None]] = {
    promise.__name__: promise
    for promise in (
        always_an_answer,
        steps_are_exact,
        seconds_are_soft,
        flops_are_a_limit,
        best_so_far_never_rises,
        facts_are_of_the_point_returned,
        looking_does_not_disturb,
        going_on_is_never_stopping,
        a_callback_stops_like_a_limit,
        frozen_means_frozen,
        a_sample_does_not_know_its_batch,
        a_failing_neighbour_changes_nothing,
        compaction_changes_no_answer,
        work_is_what_was_executed,
        same_noise_same_bits,
        inference_leaves_no_trace,
        history_changes_nothing,
        more_budget_is_never_worse,
        the_pot_is_shared,
    )
}


def check_anytime(
    model: Objective,
    x: Any,
    *,
    solver: Solver | None = None,
    stop: Stop | None = None,
    start: Any = None,
    steps: int = 6,
) -> None:
    """Check every promise of the anytime call for one model, solver and stop rule.

    Args:
        model: the objective, in eval mode.
        x: an observation of at least three samples, a row tree.
        solver: None asks the model.
        stop: None asks the model.
        start: latents to begin at; None asks the model.
        steps: how many steps each check may take, at least 2.

    Raises:
        AssertionError: a promise is broken; the words begin with its name. Single promises are in `PROMISES`.

    Example:
        >>> import torch, ebm
        >>> from ebm.testing import check_anytime
        >>> check_anytime(ebm.ModernHopfield(torch.eye(4)), torch.eye(4)[:3] + 0.3)

    Source: the anytime contract of Zilberstein (1996), sharpened to what can be tested sample by sample.
    """
    case = Case(model, x, solver, stop, start, steps)
    for name, promise in PROMISES.items():
        try:
            promise(case)
        except AssertionError as error:
            raise AssertionError(f"{name.replace('_', ' ')}: {error}") from error
