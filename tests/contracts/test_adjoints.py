"""What every adjoint promises, for every solver: the answer, the count and the memory of a call do not depend on gradients."""

from __future__ import annotations

import pytest
import torch

import ebm
from ebm import rows
from tests.contracts.members import ADJOINTS, SOLVERS, X
from tests.contracts.test_promises import fits
from tests.energies import Quadratic

FITTING = [solver for solver in SOLVERS if fits(solver, "quadratic")]
LIMITS = {
    "steps": {"steps": 5},
    "a limit a sample": {"steps": torch.tensor([0, 1, 3, 5, 5])},
    "a stop rule": {"steps": 9, "stop": ebm.AtRest(0.4)},
    "flops": {"steps": 9, "flops": 3000},
}


PAIRS = [(a, s) for a in ADJOINTS for s in FITTING if ADJOINTS[a].needs <= SOLVERS[s].provides]


def test_no_adjoint_is_left_out():
    assert {adjoint for adjoint, _ in PAIRS} == set(ADJOINTS)


# a quarter of all, in which every pair stands once and every solver meets every limit; the others are slow
THINNED = [
    pytest.param(adjoint, solver, limit, marks=() if turn % len(LIMITS) == 0 else pytest.mark.slow)
    for adjoint, solver in PAIRS
    for turn, limit in enumerate(LIMITS, list(ADJOINTS).index(adjoint) + FITTING.index(solver))
]


@pytest.mark.parametrize(("adjoint", "solver", "limit"), THINNED)
def test_the_answer_does_not_depend_on_the_gradient(adjoint: str, solver: str, limit: str):
    model, options = Quadratic(), {**LIMITS[limit], "solver": SOLVERS[solver]}
    if "flops" in options and "newton" in solver:
        options["flops"] = 30000  # the most that one step may take is more than the limit of the others
    found = ebm.infer(model, X, adjoint=ADJOINTS[adjoint], keep="last", compact=True, **options)
    assert found.z.isfinite().all()
    if "flops" in options:
        assert found.flops <= options["flops"], "a differentiated tail is work, too"
        options = {"steps": found.steps, "solver": SOLVERS[solver]}
    plain = ebm.infer(model, X, keep="last", compact=True, **options)
    assert found.steps.tolist() == plain.steps.tolist()
    torch.testing.assert_close(found.z.detach(), plain.z, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(found.energy.detach(), plain.energy, rtol=1e-10, atol=1e-10)
    executed, own = found.flops - found.fixed_flops, int(found.flops_per_sample.sum())
    assert executed == own or (executed > own and "newton" in solver), "rows ride along in inner iterations alone"
    assert found.z.requires_grad == (adjoint != "detached" and int(found.steps.max()) > 0)
    assert all(not leaf.requires_grad for leaf in rows.leaves(plain.carry))
