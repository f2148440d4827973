"""Deliberate faults in losses."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
    Fault(
        "a remainder with the chance of the last step in it",
        "ebm/losses/halting.py",
        "[:, None] < last",
        "[:, None] <= last",
        "tests/losses/test_halting.py -k act_against",
    ),
    Fault(
        "a last step that does not take what is left",
        "ebm/losses/halting.py",
        "functional.logsigmoid(logits[:-1]), torch.zeros_like(logits[:1])",
        "functional.logsigmoid(logits)",
        "tests/losses/test_halting.py -k 'ponder or sum_to_one'",
    ),
    Fault(
        "a price of steps counted from zero",
        "ebm/losses/halting.py",
        "(time[:, None] + 1)",
        "time[:, None]",
        "tests/losses/test_penalties_in_use.py -k price",
    ),
    Fault(
        "the Jacobian of the move, not of the map",
        "ebm/losses/regularise.py",
        "rows.add(model.point(z, model.condition(x)).force, z)",
        "model.point(z, model.condition(x)).force",
        "tests/losses/test_regularise.py -k mean_square",
    ),
    Fault(
        "path independence from one and the same start",
        "ebm/losses/regularise.py",
        "for start in (None, self.begin(model, x, generator)):",
        "for start in (None, None):",
        "tests/losses/test_penalties_in_use.py -k distance",
    ),
    Fault(
        "both phases nudged the same way",
        "ebm/losses/two_phase.py",
        "(self.beta, -self.beta) if self.centred",
        "(self.beta, self.beta / 2) if self.centred",
        "tests/losses/test_two_phase.py -k bias",
    ),
]
