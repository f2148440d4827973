"""Deliberate faults in what a model says and in how it is asked."""

from __future__ import annotations

from tests.faults.fault import Fault

OBJECTIVE = "ebm/objective.py"
FIELD = "ebm/engine/field.py"
MODULES = "ebm/engine/modules.py"
CHECK = "ebm/testing/objective.py"

FAULTS = [
    Fault(
        "a force that follows what its latent was computed from",
        OBJECTIVE,
        "return alias(leaf) if keep_graph and leaf.requires_grad else leaf.detach().requires_grad_()",
        "return leaf if keep_graph and leaf.requires_grad else leaf.detach().requires_grad_()",
        "tests/engine/test_partial.py -k asked_for_directly",
    ),
    Fault(
        "a model that differentiates by itself is handed the latent's own graph",
        "ebm/engine/guard.py",
        "found = leaf.view_as(leaf)",
        "found = leaf",
        "tests/engine/test_partial.py -k 'every_kind'",
    ),
    Fault(
        "a force whose parts stay in the order of the model",
        "ebm/rows.py",
        'return tree if _alike(tree, like) else _arranged(tree, like, f"`{type(owner).__name__}.{what}`", ())',
        "return tree",
        "tests/engine/test_latents.py -k 'any_order or are_named'",
    ),
    Fault(
        "a method that writes in place is handed the latent itself",
        OBJECTIVE,
        "latent = z if safe else rows.map_rows(torch.clone, z)",
        "latent = z",
        "tests/engine/test_latents.py -k 'works_in_place'",
    ),
    Fault(
        "a call that hands the model the caller's own observation",
        "ebm/engine/call.py",
        "self.x = self._own(x, copy=True)",
        "self.x = self._own(x)",
        "tests/engine/test_latents.py -k 'works_in_place or leaves_the_observation'",
    ),
    Fault(
        "a call that begins at the caller's own tensor",
        "ebm/engine/carry.py",
        "z = rows.map_rows(torch.clone, z)",
        "z = rows.map_rows(lambda leaf: leaf, z)",
        "tests/engine/test_latents.py -k 'shares_no_memory'",
    ),
    Fault(
        "modules that draw in a step of training",
        "ebm/engine/call.py",
        "starter.guard = partial(watched, model, self._unsteady)",
        "pass",
        "tests/engine/test_modules.py -k 'is_named'",
    ),
    Fault(
        "spectral normalisation by a hook is not looked at",
        MODULES,
        "if module._forward_pre_hooks and module.training and fault is None:",
        "if False:",
        "tests/engine/test_modules.py -k 'is_named'",
    ),
    Fault(
        "a check of objectives that ties no latent to another",
        CHECK,
        "ahead = ahead + (own if own.ndim == 1 else own.flatten(1).sum(1)).to(ahead.dtype)",
        "pass",
        "tests/contracts/test_testing.py -k 'found_out and Whole'",
    ),
    Fault(
        "a network without a hidden layer that has no rows",
        "ebm/models/predictive_coding.py",
        "        if not free:\n            return self._none(c)\n",
        "",
        "tests/models/test_predictive_coding.py -k 'no_hidden_layer'",
    ),
]
