"""Sparse codes against closed forms, enumeration, scikit-learn and one another."""

from __future__ import annotations

from itertools import combinations, product

import pytest
import torch
from torch import Tensor

import ebm
from hebbian import Dense, step
from hebbian.sparse import (
    L0,
    LCA,
    LISTA,
    ActiveSet,
    CoordinateDescent,
    DualityGap,
    ResidualHebb,
    SparseCoding,
    duality_gap,
    silent,
    synthesise,
)
from hebbian.sparse.faces import mostly_zero, sizes, sparse_times
from hebbian.sparse.sketch import sketched
from tests.energies import numbers

TIGHT = DualityGap(1e-13)
NEVER = ebm.Patience(TIGHT, 10_000)


def atoms(*shape: int, seed: int = 1) -> Tensor:
    raw = numbers(*shape, seed=seed)
    return raw / raw.flatten(1).norm(dim=1).view(-1, *[1] * (raw.ndim - 1))


def settled(model: SparseCoding, x: Tensor, solver: ebm.Solver | None = None, steps: int = 3000) -> ebm.Solution:
    solution = ebm.infer(model, x, steps=steps, solver=solver, stop=TIGHT)
    assert solution.converged.all(), solution
    return solution


SOLVERS = {
    "active set": ActiveSet(),
    "round by round": ActiveSet(rounds=1),
    "one at a time": ActiveSet(1.0),
    "all at once": ActiveSet(1e-6),
    "coordinate descent": CoordinateDescent(),
    "plain sweeps": CoordinateDescent(1, active=False, screen=False),
    "fista": ebm.FISTA(),
}
X = 2 * numbers(12, 20, seed=2)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("share", [pytest.param(0.12, marks=pytest.mark.slow), 0.3, 0.9])
def test_a_settled_code_meets_the_conditions_of_optimality(solver: str, share: float):
    dictionary = atoms(50, 20)
    weight = share * float((X @ dictionary.T).abs().amax(1).median())
    z = settled(SparseCoding(dictionary, ebm.L1(weight)), X, SOLVERS[solver]).z
    force = (X - z @ dictionary) @ dictionary.T
    assert (force.abs() <= weight * (1 + 1e-5)).all()
    assert torch.allclose(force[z != 0], weight * z[z != 0].sign(), atol=1e-5 * weight)


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_non_negative_code_meets_them_too(solver: str):
    dictionary, weight = atoms(50, 20), 0.4
    z = settled(SparseCoding(dictionary, ebm.NonNegative(weight)), X, SOLVERS[solver]).z
    force = (X - z @ dictionary) @ dictionary.T
    assert (z >= 0).all() and (z > 0).any(1).all()
    assert (force <= weight * (1 + 1e-5)).all()
    assert torch.allclose(force[z > 0], torch.full_like(force[z > 0], weight), atol=1e-5 * weight)


@pytest.mark.parametrize("positive", [False, True])
def test_codes_are_those_of_scikit_learn(positive: bool):
    linear_model = pytest.importorskip("sklearn.linear_model")
    dictionary, weight = atoms(50, 20), 0.5
    term = ebm.NonNegative(weight) if positive else ebm.L1(weight)
    z = settled(SparseCoding(dictionary, term), X).z
    peer = linear_model.Lasso(alpha=weight / 20, fit_intercept=False, tol=1e-14, max_iter=100_000, positive=positive)
    for code, x in zip(z, X, strict=True):
        peer.fit(dictionary.T.numpy(), x.numpy())
        assert torch.allclose(code, torch.from_numpy(peer.coef_), atol=1e-6)


@pytest.mark.parametrize(
    ("term", "closed"),
    [
        (ebm.L1(0.7), lambda b: b.sign() * (b.abs() - 0.7).clamp_min(0)),
        (ebm.NonNegative(0.7), lambda b: (b - 0.7).clamp_min(0)),
        (L0(0.7), lambda b: torch.where(b.square() > 1.4, b, 0.0)),
    ],
)
def test_an_orthogonal_dictionary_has_a_closed_form(term: ebm.Term, closed):
    turned = torch.linalg.qr(numbers(20, 20, seed=4))[0]
    found = ebm.infer(SparseCoding(turned, term), X, steps=200, stop=ebm.AtRest(1e-12)).z
    assert torch.allclose(found, closed(X @ turned.T), atol=1e-9)


def test_groups_on_an_orthogonal_dictionary_shrink_as_one():
    turned = torch.linalg.qr(numbers(20, 20, seed=4))[0]
    model = SparseCoding(turned, ebm.GroupL1(1.5), group=4)
    b = (X @ turned.T).view(12, 5, 4)
    length = b.norm(dim=-1, keepdim=True)
    assert torch.allclose(settled(model, X).z, b * (1 - 1.5 / length).clamp_min(0), atol=1e-9)


def test_no_choice_of_signs_and_atoms_is_better():
    """Enumeration: on every support and every pattern of signs the best code is known in closed form."""
    dictionary, weight, x = atoms(5, 3, seed=7), 0.3, 1.5 * numbers(1, 3, seed=8)
    best = float(0.5 * x.square().sum())
    for count in (1, 2, 3):
        for chosen in combinations(range(5), count):
            part = dictionary[list(chosen)]
            for signs in product((-1.0, 1.0), repeat=count):
                sign = torch.tensor(signs, dtype=torch.float64)
                code = torch.linalg.solve(part @ part.T, part @ x[0] - weight * sign)
                if (code * sign > 0).all():
                    best = min(best, float(0.5 * (x[0] - code @ part).square().sum() + weight * code.abs().sum()))
    for solver in SOLVERS.values():
        found = settled(SparseCoding(dictionary, ebm.L1(weight)), x, solver)
        assert float(found.energy[0]) == pytest.approx(best, rel=1e-10)  # type: ignore[index]


def test_a_hard_threshold_never_rises_and_ends_where_no_atom_alone_would_be_better():
    model = SparseCoding(atoms(30, 20), L0(0.5))
    solution = ebm.infer(model, X, steps=500, record=["energy"])
    energies = solution.trace["energy"]
    assert (energies[1:] <= energies[:-1] + 1e-9).all()
    z, x = solution.z, X
    force = (x - z @ model.dictionary.detach()) @ model.dictionary.detach().T
    assert (force[z != 0].abs() < 1e-4).all()  # the chosen atoms are solved for
    assert ((z == 0).sum() > 0) and ((z != 0).sum() > 0)


def test_weights_may_differ_between_atoms():
    weight = torch.linspace(0.1, 2.0, 50, dtype=torch.float64)
    dictionary = atoms(50, 20)
    z = settled(SparseCoding(dictionary, ebm.L1(weight)), X).z
    force = (X - z @ dictionary) @ dictionary.T
    assert (force.abs() <= weight * (1 + 1e-6)).all()
    assert (z[:, 25:] != 0).sum() < (z[:, :25] != 0).sum()


@pytest.mark.parametrize("penalty", ["signed", "non-negative", "groups", "convolved"])
def test_the_gap_bounds_what_can_still_be_lost_and_closes(penalty: str):
    model, x = {
        "signed": (SparseCoding(atoms(50, 20), ebm.L1(0.5)), X),
        "non-negative": (SparseCoding(atoms(50, 20), ebm.NonNegative(0.5)), X),
        "groups": (SparseCoding(atoms(50, 20), ebm.GroupL1(0.8), group=5), X),
        "convolved": (SparseCoding(atoms(4, 2, 5), ebm.L1(0.4), padding=2), numbers(3, 2, 14, seed=3)),
    }[penalty]
    least = ebm.infer(model, x, steps=20_000, solver=ebm.FISTA(), stop=DualityGap(1e-14)).energy
    c, seen = model.condition(x), []
    for item in ebm.stream(model, x, steps=60, solver=ebm.FISTA(), stop=DualityGap(0.0), keep="last"):
        with torch.no_grad():
            gap = model.gap(item.carry.point, c)
        assert torch.allclose(gap.energy, item.carry.point.energy)
        assert (gap.width >= gap.energy - least - 1e-11 * least).all()
        seen.append(gap.width / gap.energy)
    assert (seen[-1] < 1e-2 * seen[0]).all()


def test_the_gap_is_that_of_the_two_energies():
    """Second road: the energy of the dual point, written out."""
    dictionary, weight = atoms(50, 20), 0.5
    z = 0.2 * numbers(12, 50, seed=5)
    r = X - z @ dictionary
    force = r @ dictionary.T
    scale = (weight / force.abs().amax(1)).clamp_max(1.0)[:, None]
    primal = 0.5 * r.square().sum(1) + weight * z.abs().sum(1)
    dual = 0.5 * X.square().sum(1) - 0.5 * (X - scale * r).square().sum(1)
    assert torch.allclose(duality_gap(ebm.L1(weight), z, primal, force).width, primal - dual, rtol=1e-10)


def test_a_silent_signal_is_done_at_once():
    model = SparseCoding(atoms(8, 20), ebm.L1(0.5))
    found = ebm.infer(model, torch.zeros(2, 20, dtype=torch.float64), steps=5)
    assert found.converged.all() and (found.steps == 0).all() and not found.z.any()


def test_the_gap_is_exact_in_float64_and_as_good_as_rounding_in_float32():
    for dtype, worst in ((torch.float64, 1e-12), (torch.float32, 1e-4)):
        found = ebm.infer(
            SparseCoding(atoms(50, 20).to(dtype), ebm.L1(0.5)), X.to(dtype), steps=60, stop=DualityGap(worst)
        )
        assert found.converged.all()


@pytest.mark.parametrize("penalty", [ebm.L1(0.6), ebm.NonNegative(0.6)], ids=["signed", "non-negative"])
def test_screening_never_drops_an_active_atom(penalty: ebm.Term):
    model = SparseCoding(atoms(50, 20), penalty)
    active = settled(model, X).z != 0
    lasso, ruled_out = model.lasso(model.condition(X)), []
    for item in ebm.stream(model, X, steps=400, solver=ebm.FISTA(), stop=DualityGap(0.0), keep="last"):
        with torch.no_grad():
            out = silent(lasso, item.carry.point)
        assert not (out & active).any()
        ruled_out.append(int(out.sum()))
    assert ruled_out[0] < ruled_out[-1] and ruled_out[-1] > 0.9 * int((~active).sum())


def test_screening_drops_atoms_from_the_sweeps_for_good():
    model = SparseCoding(atoms(50, 20), ebm.L1(0.6))
    whole = ebm.infer(model, X, steps=3000, solver=CoordinateDescent(1, active=False), stop=TIGHT)
    alive = whole.carry.memory
    assert whole.converged.all() and (alive.sum(1) < 30).all()
    assert not (whole.z != 0)[~alive].any()


def test_the_circuit_rests_where_the_energy_does():
    for penalty in (ebm.L1(0.5), ebm.NonNegative(0.5)):
        model = SparseCoding(atoms(30, 20), penalty)
        found = ebm.infer(LCA(model, 0.2), X, steps=5000, stop=DualityGap(1e-12))
        assert found.converged.all()
        by_ista = ebm.infer(model, X, steps=20_000, solver=ebm.Proximal(), stop=DualityGap(1e-13)).z
        assert torch.allclose(found.answer, by_ista, atol=1e-5)


def test_the_circuit_is_the_differential_equation_of_its_source():
    dictionary, u = atoms(30, 20), numbers(12, 30, seed=3)
    a = u.sign() * (u.abs() - 0.5).clamp_min(0)
    drift = X @ dictionary.T - u - a @ (dictionary @ dictionary.T - torch.eye(30, dtype=torch.float64))
    circuit = LCA(SparseCoding(dictionary, ebm.L1(0.5)))
    assert torch.allclose(circuit.point(u, circuit.condition(X)).force, drift)


def test_a_hard_circuit_keeps_what_it_does_not_silence():
    model = SparseCoding(atoms(30, 20), L0(0.5))
    found = ebm.infer(LCA(model, 0.1), X, steps=5000, stop=ebm.AtRest(1e-10))
    force = (X - found.answer @ model.dictionary.detach()) @ model.dictionary.detach().T
    assert found.converged.all() and (force[found.answer != 0].abs() < 1e-8).all()


@pytest.mark.parametrize(("stride", "padding", "size"), [(1, 0, 11), (1, 3, 11), (2, 1, 11), (3, 2, 12)])
def test_a_convolved_dictionary_is_the_dense_one_of_its_matrix(stride: int, padding: int, size: int):
    small, x = atoms(3, 2, 4), numbers(4, 2, size, seed=3)
    model = SparseCoding(small, ebm.L1(0.3), stride=stride, padding=padding)
    code = ebm.infer(model, x, steps=0).z
    units = torch.eye(code[0].numel(), dtype=torch.float64).view(-1, *code.shape[1:])
    laid = synthesise(model.synapse, small, units, x[:1].expand(len(units), -1, -1)).flatten(1)
    dense = SparseCoding(laid, ebm.L1(0.3))
    z = 0.3 * numbers(*code.shape, seed=4)
    here, there = model.point(z, model.condition(x)), dense.point(z.flatten(1), dense.condition(x.flatten(1)))
    assert torch.allclose(here.energy, there.energy) and torch.allclose(here.force.flatten(1), there.force)
    found = ebm.infer(model, x, steps=5000, stop=TIGHT)
    assert found.converged.all()
    assert torch.allclose(found.energy, settled(dense, x.flatten(1)).energy, rtol=1e-10)


def test_pictures_are_convolved_too():
    model = SparseCoding(atoms(3, 1, 4, 4), ebm.L1(0.3), padding=3)
    x = numbers(2, 1, 8, 7, seed=3)
    found = ebm.infer(model, x, steps=3000, stop=DualityGap(1e-8))
    assert found.converged.all() and found.z.shape == (2, 3, 11, 10)


@pytest.mark.parametrize(
    "solver",
    [ebm.FISTA(), ActiveSet(rounds=1), pytest.param(CoordinateDescent(), marks=pytest.mark.slow)],
    ids=repr,
)
def test_a_warm_start_needs_fewer_steps(solver: ebm.Solver):
    model = SparseCoding(atoms(50, 20), ebm.L1(0.3))
    cold = settled(model, X, solver)
    warm = ebm.infer(model, X + 1e-3 * numbers(12, 20, seed=9), steps=3000, solver=solver, stop=TIGHT, start=cold.z)
    assert warm.converged.all() and int(warm.steps.sum()) < 0.8 * int(cold.steps.sum())


@pytest.mark.slow
def test_a_start_anywhere_ends_in_the_same_place():
    model = SparseCoding(atoms(50, 20), ebm.L1(0.3))
    wanted = settled(model, X).energy
    for solver in (ActiveSet(), ActiveSet(rounds=1), CoordinateDescent()):
        found = ebm.infer(model, X, steps=3000, solver=solver, stop=TIGHT, start=2 * numbers(12, 50, seed=4))
        assert found.converged.all() and torch.allclose(found.energy, wanted, rtol=1e-11)


@pytest.mark.parametrize("solver", [ActiveSet(), ActiveSet(rounds=1), ActiveSet(0.05), CoordinateDescent()], ids=repr)
def test_the_energy_never_rises(solver: ebm.Solver):
    model = SparseCoding(atoms(50, 20), ebm.L1(0.05))
    found = ebm.infer(model, X, steps=40, solver=solver, start=numbers(12, 50, seed=4), stop=NEVER, record=["energy"])
    energies = found.trace["energy"]
    assert (energies[1:] <= energies[:-1] * (1 + 1e-12)).all()


def test_atoms_that_are_alike_or_too_many_are_no_trouble():
    dictionary = atoms(60, 5)
    dictionary[30:] = dictionary[:30]
    model = SparseCoding(dictionary, ebm.L1(0.01))
    x = numbers(20, 5, seed=6)
    exact = ebm.infer(model, x, steps=200, solver=ActiveSet(0.01), stop=DualityGap(1e-10))
    assert exact.converged.all()
    assert torch.allclose(
        exact.energy, ebm.infer(model, x, steps=20_000, solver=ebm.FISTA(), stop=DualityGap(1e-11)).energy
    )


def test_many_active_atoms_are_cut_in_groups_of_their_size():
    dictionary = atoms(200, 150, seed=3)
    x = numbers(6, 150, seed=4)
    x[:3] *= 0.02
    found = ebm.infer(SparseCoding(dictionary, ebm.L1(0.05)), x, steps=200, stop=TIGHT)
    assert found.converged.all()
    assert (found.z != 0).sum(1)[3:].min() > 64 and (found.z != 0).sum(1)[:3].max() < 16


def test_samples_with_many_atoms_are_guessed_first_and_solved_in_fewer_rounds():
    dictionary, x = atoms(300, 200, seed=3), numbers(6, 200, seed=4)
    model = SparseCoding(dictionary, ebm.L1(0.05))
    plain, guessed = (
        ebm.infer(model, x, steps=400, solver=ActiveSet(rounds=1, sketch=sketch), stop=DualityGap(1e-12))
        for sketch in (0, 80)
    )
    assert plain.converged.all() and guessed.converged.all()
    assert torch.allclose(plain.energy, guessed.energy, rtol=1e-11)
    assert guessed.steps.sum() < plain.steps.sum() and ((guessed.z != 0).sum(1) > 64).any()


@pytest.mark.parametrize("batch", [0, 1, 9])
def test_a_sparse_product_is_the_product(batch: int):
    code = numbers(batch, 30, seed=1) * (numbers(batch, 30, seed=2) > 1)
    code[::3] = 0.0
    matrix = numbers(30, 7, seed=3)
    torch.testing.assert_close(sparse_times(code, matrix), code @ matrix, rtol=1e-14, atol=1e-14)


def test_a_code_of_few_numbers_is_evaluated_as_any_other_is():
    model, x = SparseCoding(atoms(60, 20), ebm.L1(0.3)), X
    c, z = model.condition(x), numbers(12, 60, seed=5) * (numbers(12, 60, seed=6) > 2)
    with torch.enable_grad():
        whole = model.point(z, c)
    with torch.no_grad():
        few = model.point(z, c)
        each = torch.func.vmap(lambda latent, signal: model(latent[None], model.condition(signal[None]))[0])(z, x)
    assert mostly_zero(z) and not mostly_zero(numbers(12, 60, seed=5))
    torch.testing.assert_close(few.force, whole.force, rtol=0, atol=1e-13)
    torch.testing.assert_close(few.energy, whole.energy, rtol=1e-14, atol=0)
    torch.testing.assert_close(each, whole.energy, rtol=1e-14, atol=0)


@pytest.mark.parametrize("together", [None, 2**17])
def test_groups_hold_every_sample_once_and_no_more_numbers_than_they_may(together: int | None):
    chosen = numbers(400, 90, seed=1) > torch.linspace(-2, 3, 400, dtype=torch.float64)[:, None]
    groups = [rows for rows in sizes(chosen, together) if rows is not None]
    assert sorted(torch.cat(groups).tolist()) == list(range(400))
    most = [int(chosen[rows].sum(1).max()) for rows in groups]
    if together is None:
        assert sorted(-(-width // 32) for width in most) == [1, 2, 3]
    else:
        assert all(len(rows) * width**2 <= together for rows, width in zip(groups, most, strict=True))


def test_a_sample_that_is_bound_to_have_many_atoms_is_guessed_once_and_at_once(monkeypatch: pytest.MonkeyPatch):
    asked: list[int] = []

    def counted(*given):
        asked.append(len(given[1]))
        return sketched(*given)

    monkeypatch.setattr("hebbian.sparse.search.sketched", counted)
    x = numbers(6, 200, seed=4)
    x[:2] *= 0.01
    model = SparseCoding(atoms(300, 200, seed=3), ebm.L1(0.05))
    solved = ebm.infer(model, x, steps=1, solver=ActiveSet(rounds=1), stop=NEVER)
    assert not asked and (solved.z != 0).sum(1).max() <= 64, "its first round does not tell that it has many"
    ebm.infer(model, x, steps=1, solver=ActiveSet(rounds=2), stop=NEVER)
    assert asked == [4]


def test_a_step_of_the_exact_solver_is_charged_what_it_asks():
    model = SparseCoding(atoms(50, 20), ebm.L1(0.3))
    start, found = (ebm.infer(model, X, steps=k, solver=ActiveSet(), stop=NEVER) for k in (0, 1))
    evaluation, rounds = 2 * 2 * 50 * 20, 2 * 50 * 50
    spent = found.flops_per_sample - start.flops_per_sample - evaluation
    assert (spent % rounds == 0).all() and (spent > 0).all() and (spent <= 7 * rounds).all()


def test_the_gradient_of_a_settled_code_is_exact_through_one_step():
    dictionary, x = atoms(15, 8, seed=3), 2 * numbers(4, 8, seed=4)
    penalty = ebm.L1(torch.nn.Parameter(torch.tensor(0.3, dtype=torch.float64)))
    target = numbers(4, 15, seed=5)

    def answer(atoms_: Tensor) -> Tensor:
        return ebm.infer(SparseCoding(atoms_, ebm.L1(0.3)), x, steps=30, stop=NEVER).z  # exact, not just near enough

    model = SparseCoding(dictionary, penalty)
    code = settled(model, x).z
    last = ebm.infer(model, x, steps=1, solver=ActiveSet(), start=code, stop=NEVER, adjoint=ebm.Truncated(1))
    (last.z * target).sum().backward()
    slope = model.dictionary.grad
    assert slope is not None
    direction, h = numbers(15, 8, seed=6), 1e-5
    rise = ((answer(dictionary + h * direction) - answer(dictionary - h * direction)) * target).sum() / (2 * h)
    assert float((slope * direction).sum()) == pytest.approx(float(rise), rel=1e-5)


def test_an_array_is_a_dictionary_too():
    made = atoms(6, 4).numpy()
    made.flags.writeable = False
    model = SparseCoding(made, ebm.L1(0.3))
    assert model.dictionary.dtype == torch.float64 and torch.equal(model.dictionary.detach(), atoms(6, 4))
    with pytest.raises(TypeError, match=r"got torch\.int64\. Convert it"):
        SparseCoding(made.astype("int64"), ebm.L1(0.3))
    with pytest.raises(TypeError, match=r"got list\. Convert it"):
        SparseCoding([[1.0]], ebm.L1(0.3))


def test_an_atom_that_a_step_would_take_to_zero_stays():
    made, missed = torch.eye(2, dtype=torch.float64), torch.tensor([[-2.0, 0.0]], dtype=torch.float64)
    code = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    for rate, wanted in ((0.5, 1.0), (0.75, -1.0)):
        new, _ = step(ResidualHebb(rate), Dense(2, 2), made, missed, code, None)
        assert torch.equal(new, torch.diag(torch.tensor([wanted, 1.0], dtype=torch.float64)))


def test_an_untrained_lista_is_ista_and_a_trained_one_a_better_start():
    generator = torch.Generator().manual_seed(0)
    dictionary, penalty = atoms(30, 20), ebm.L1(0.2)
    planted = torch.randn(400, 30, generator=generator, dtype=torch.float64)
    planted = planted * (torch.rand(400, 30, generator=generator) < 0.1)
    signals = planted @ dictionary
    train, held_out = signals[:300], signals[300:]
    network = LISTA(dictionary, penalty, layers=4)
    steep = torch.linalg.matrix_norm(dictionary, 2).square()
    by_hand = torch.zeros(100, 30, dtype=torch.float64)
    for _ in range(4):
        by_hand = penalty.prox(by_hand + (held_out - by_hand @ dictionary) @ dictionary.T / steep, 1 / float(steep))
    assert torch.allclose(network(held_out), by_hand)

    plain, guessed = SparseCoding(dictionary, penalty), SparseCoding(dictionary, penalty, start=ebm.Amortised(network))
    goal = settled(plain, train).z
    optimiser = torch.optim.Adam(network.parameters(), 3e-3)
    for _ in range(150):
        optimiser.zero_grad()
        (network(train) - goal).square().sum(1).mean().backward()
        optimiser.step()
    with torch.no_grad():
        before, after = (
            ebm.infer(m, held_out, steps=500, solver=ebm.FISTA(), stop=DualityGap(1e-3)) for m in (plain, guessed)
        )
    assert before.converged.all() and after.converged.all()
    assert float(after.steps.double().mean()) < 0.75 * float(before.steps.double().mean())
