"""Deliberate faults in plasticity."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
    Fault(
        "decays as quotients of their products",
        "hebbian/plasticity/chunked.py",
        "since = torch.where(later, decay[:, :, None], 1.0).cumprod(1).tril()",
        "since = (decay.cumprod(1)[:, :, None] / decay.cumprod(1)[:, None]).tril()",
        "tests/hebbian/test_plasticity.py -k anew",
    ),
    Fault(
        "each unit of the ABCD rule is bounded by itself",
        "hebbian/plasticity/abcd.py",
        "weight.abs().amax((1, 2), keepdim=True)",
        "weight.abs().amax(2, keepdim=True)",
        "tests/hebbian/test_plasticity.py -k abcd",
    ),
    Fault(
        "squares of squares of large keys",
        "hebbian/plasticity/inner_loop.py",
        "longest = torch.where(longest > 0, longest, 1.0)",
        "longest = torch.ones_like(longest)",
        "tests/hebbian/test_plasticity.py -k any_scale",
    ),
    Fault(
        "a token of a chunk erases itself",
        "hebbian/plasticity/chunked.py",
        "keys @ state.mT)\n        among = strength[:, :, None] * since",
        "keys @ state.mT)\n        among = since",
        "tests/hebbian/test_plasticity.py -k chunks",
    ),
    Fault(
        "a step that is too long for its keys",
        "hebbian/plasticity/inner_loop.py",
        "bound = largest(gram.detach())",
        "bound = 0.4 * largest(gram.detach())",
        "tests/hebbian/test_plasticity.py -k 'lowers or more_inner'",
    ),
]
