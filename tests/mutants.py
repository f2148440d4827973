"""Deliberate faults in the engine and the solvers, each of which the tests must catch.

Run as ``python tests/mutants.py [--passed] [part of a name ...]``; ``--passed`` says that the tests have just passed without faults. Every fault is put into a copy of the tree, and a small part of the
suite is run over it, in a process that is forked with torch already imported, two faults at a time. The exit status is 1 if a fault survives or its place is not found.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["numpy", "pytest", "torch", "torch.func", "torchdiffeq"]
)  # and nothing that may hold a fault
LOOP = "ebm/engine/loop.py"
CALL = "ebm/engine/call.py"
CARRY = "ebm/engine/carry.py"
BUDGET = "ebm/engine/budget.py"
ADJOINT = "ebm/engine/adjoint.py"
T = "tests/engine/test_"
PROMISES = "tests/contracts/test_promises.py"


class Fault(NamedTuple):
    """A fault: in ``path`` the text ``old``, which must occur once, becomes ``new``; ``tests`` must fail."""

    name: str
    path: str
    old: str
    new: str
    tests: str


FAULTS = [
    Fault(
        "a gradient of sums over the lists as they were read",
        "ebm/models/neighbours.py",
        "return _SumOverLists.apply(grads[0], back, into), None, None",
        "return _SumOverLists.apply(grads[0], into, back), None, None",
        "tests/models/test_message_cell.py -k finite_differences",
    ),
    Fault(
        "a node that hears nobody hears minus infinity",
        "ebm/models/neighbours.py",
        'return found.masked_fill_(found == float("-inf"), 0.0)',
        "return found",
        "tests/models/test_message_cell.py -k largest",
    ),
    Fault(
        "a second largest that forgets whom the largest overtook",
        "ebm/models/neighbours.py",
        "second = torch.maximum(second, torch.minimum(value, largest))",
        "second = torch.maximum(second, value)",
        "tests/models/test_message_cell.py -k largest",
    ),
    Fault(
        "a gradient that goes to the largest where the second was heard",
        "ebm/models/neighbours.py",
        "return _Returned.apply(grads[0], _winners(flat.detach(), into)[ctx.rank], back)",
        "return _Returned.apply(grads[0], _winners(flat.detach(), into)[0], back)",
        "tests/models/test_message_cell.py -k finite_differences",
    ),
    Fault(
        "a largest member that hears itself",
        "ebm/models/members.py",
        "return torch.where(z == largest, second, largest)",
        "return largest.expand_as(z).clone()",
        "tests/models/test_message_cell.py -k houses",
    ),
    Fault(
        "walls that are heard",
        "ebm/models/grids.py",
        "number = torch.where(opened, number.view(height, width), -1)",
        "number = number.view(height, width).expand_as(opened)",
        "tests/models/test_message_cell.py -k 'walls or two_units'",
    ),
    Fault(
        "a candidate that hears itself in its houses",
        "ebm/models/members.py",
        "return z.sum(axis, keepdim=True) - z",
        "return z.sum(axis, keepdim=True).expand_as(z)",
        "tests/models/test_message_cell.py -k houses",
    ),
    Fault(
        "an energy twin without the other half of its force",
        "ebm/models/energy_twin.py",
        "gate, target = self.cell.gate_and_target(z, c)",
        "gate, target = (part.detach() for part in self.cell.gate_and_target(z, c))",
        "tests/models/test_energy_twin.py -k slope",
    ),
    Fault(
        "an answer in another scale",
        "ebm/models/matrix_cell.py",
        'return z[:, 0] * c["size"][:, 0] ** self.power',
        "return z[:, 0]",
        "tests/models/test_matrix_and_attention_cells.py",
    ),
    Fault(
        "a halting rule that asks the head before the first step",
        "ebm/engine/halting.py",
        "return torch.full_like(chance, -torch.inf) if look.previous is None else chance",
        "return chance",
        "tests/losses/test_halting_in_use.py -k 'no_step'",
    ),
    Fault(
        "chances of halting that forget the steps before",
        "ebm/engine/halting.py",
        "going = memory * (1 - _chance(self, look))",
        "going = 1 - _chance(self, look)",
        "tests/losses/test_halting_in_use.py -k 'would_have_halted'",
    ),
    Fault(
        "calibration that forgets what adds up over looks",
        "ebm/diagnostics/leaving.py",
        "return torch.zeros_like(level, dtype=torch.bool), (level, inner)",
        "return torch.zeros_like(level, dtype=torch.bool), (level, memory[1])",
        "tests/losses/test_halting_in_use.py -k 'would_have_halted'",
    ),
    Fault(
        "a halting head that keeps a stop rule for bare answers",
        "ebm/models/halting.py",
        "stop is None or stop.reads or not",
        "stop is None or not",
        "tests/losses/test_halting_in_use.py -k 'bare_answer'",
    ),
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
        "a certificate that forgets the leak of the winner",
        "hebbian/memory/certificate.py",
        "won = at.reach * (slack + (",
        "won = at.reach * (slack + 0 * (",
        "tests/hebbian/test_recall_softmax.py -k 'bound or winner'",
    ),
    Fault(
        "a certificate with the variance of the start",
        "hebbian/memory/certificate.py",
        "(beta * diameter * short).exp()",
        "(0 * diameter * short).exp()",
        "tests/hebbian/test_recall_softmax.py tests/hebbian/test_recall_at_scale.py -k bound",
    ),
    Fault(
        "a mixture that is not scaled down when the maximum grows",
        "hebbian/memory/chunked.py",
        "torch.addmm(mean * keep[:, None], weight, part)",
        "torch.addmm(mean, weight, part)",
        "tests/hebbian/test_recall_at_scale.py -k exact",
    ),
    Fault(
        "lazy steps that evaluate again what is known",
        "hebbian/memory/lazy.py",
        '{"known": torch.ones(len(leaf)',
        '{"known": torch.zeros(len(leaf)',
        "tests/hebbian/test_recall_softmax.py -k updates",
    ),
    Fault(
        "a sequence that recalls the pattern before",
        "hebbian/memory/sequence.py",
        "patterns.roll(-1, 0) if cycle",
        "patterns.roll(1, 0) if cycle",
        "tests/hebbian/test_recall_kinds.py -k order",
    ),
    Fault(
        "attention that reads the values before the queries have settled",
        "hebbian/memory/attention.py",
        "q = self._settled(q, k, barred, steps, seconds, budget)",
        "self._settled(q, k, barred, steps, seconds, budget)",
        "tests/hebbian/test_recall_attention.py -k more_updates",
    ),
    Fault(
        "an implicit gradient of the other sign",
        "ebm/engine/implicit.py",
        "return rows.flatten(list(rows.leaves(product(self._tree(v))))).neg()",
        "return rows.flatten(list(rows.leaves(product(self._tree(v)))))",
        "tests/engine/test_implicit.py -k closed_form",
    ),
    Fault(
        "samples that failed are differentiated",
        "ebm/engine/implicit.py",
        "samples = (carry.status != Status.NONFINITE).nonzero().flatten()",
        "samples = (carry.status >= 0).nonzero().flatten()",
        "tests/engine/test_implicit.py -k failed",
    ),
    Fault(
        "conjugate gradients go on at negative curvature",
        "ebm/engine/linear.py",
        "moves = active & (curvature > 0) & torch.isfinite(curvature)",
        "moves = active & torch.isfinite(curvature)",
        "tests/engine/test_implicit.py -k negative_curvature",
    ),
    Fault(
        "a Krylov space that is not orthogonal",
        "ebm/engine/linear.py",
        "for _ in range(2):  # once loses orthogonality",
        "for _ in range(0):",
        "tests/engine/test_implicit.py -k linear_solvers",
    ),
    Fault(
        "a sampler is differentiated at rest",
        "ebm/solvers/base.py",
        "return frozenset() if self.samples else _rest_of(self, Solver)",
        "return _rest_of(self, Solver)",
        "tests/engine/test_implicit.py -k refused",
    ),
    Fault(
        "a segment runs on from the wrong frame",
        "ebm/engine/tape.py",
        "if n % self._every == 0:",
        "if n % self._every == 1:",
        "tests/engine/test_reverse.py -k last_bit",
    ),
    Fault(
        "rows that left early are forgotten backwards",
        "ebm/engine/tape.py",
        "return rows.take(rows.cat([frame, gone]), order)",
        "return rows.take(rows.cat([rows.map_rows(torch.zeros_like, frame), gone]), order)",
        "tests/engine/test_reverse.py -k different_steps",
    ),
    Fault(
        "a step undone with the states in the other order",
        "ebm/solvers/reversible.py",
        "return before, self._unmixed(memory, before)",
        "return before, memory",
        "tests/engine/test_reverse.py -k step_and_back",
    ),
    Fault(
        "both phases nudged the same way",
        "ebm/losses/two_phase.py",
        "(self.beta, -self.beta) if self.centred",
        "(self.beta, self.beta / 2) if self.centred",
        "tests/losses/test_two_phase.py -k bias",
    ),
    Fault(
        "Sanger's units see those after them as well",
        "hebbian/rules/subspace.py",
        "among.tril() if ordered else among",
        "among",
        "tests/hebbian/test_component_rules.py -k anger",
    ),
    Fault(
        "all of SoftHebb's losers learn",
        "hebbian/rules/soft_hebb.py",
        "share.copysign_(behind)",
        "share.copysign_(share)",
        "tests/hebbian/test_competition.py -k oft_hebb",
    ),
    Fault(
        "only the last part of a batch counts",
        "hebbian/rules/parts.py",
        "total[name].add_(value) if name in total else value",
        "value",
        "tests/hebbian/test_competition.py -k in_parts",
    ),
    Fault(
        "a direction that is lent is written in",
        "hebbian/change.py",
        "out = None if found.lent else found.direction",
        "out = found.direction",
        "tests/hebbian/test_hebbian_change.py -k lent",
    ),
    Fault(
        "statistics that a user holds are written over",
        "hebbian/statistics.py",
        "out=outer if statistics.spare else None",
        "out=outer",
        "tests/hebbian/test_rule_contracts.py -k Oja",
    ),
    Fault(
        "hidden units that are not rectified",
        "ebm/models/message_cell.py",
        "heard = self.hear(heard).relu()",
        "heard = self.hear(heard)",
        "tests/models/test_message_cell.py -k hidden_units_hear",
    ),
    Fault(
        "winners of one unit are taken with the activity of others",
        "hebbian/synapse.py",
        "share.flatten()[order]",
        "share.flatten()",
        "tests/hebbian/test_competition.py -k few_units",
    ),
    Fault(
        "the lengths of rows that won are those before",
        "hebbian/rules/winner_take_all.py",
        "_half_square(before.add_(moved))",
        "_half_square(before)",
        "tests/hebbian/test_competition.py -k lengths_it",
    ),
    Fault(
        "Krotov and Hopfield's runner-up learns",
        "hebbian/rules/krotov_hopfield.py",
        "gate[:, 1:] = -self.anti",
        "gate[:, 1:] = self.anti",
        "tests/hebbian/test_competition.py -k rotov",
    ),
    Fault(
        "Storkey's fields hold what they should leave out",
        "hebbian/memory/stores/storkey.py",
        "change + 2 * weight",
        "change",
        "tests/hebbian/test_memory_stores.py -k storkey_is",
    ),
    Fault(
        "a projection without what its diagonal knows",
        "hebbian/memory/stores/pseudo_inverse.py",
        "1 - pattern * (projection @ pattern)",
        "0 * pattern",
        "tests/hebbian/test_memory_stores.py -k one_by_one",
    ),
    Fault(
        "a sweep in which a block does not feel itself",
        "ebm/models/hopfield.py",
        "field = torch.addr(field, units[j] - own, row)",
        "pass",
        "tests/models/test_sweeps.py",
    ),
    Fault(
        "a dense sweep that forgets half of a flip",
        "ebm/models/dense_memory.py",
        "torch.addr(overlap, units[k] - own, signs)",
        "torch.addr(overlap, 0.5 * (units[k] - own), signs)",
        "tests/models/test_sweeps.py",
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
        "size = 1 / (largest(",
        "size = 2.5 / (largest(",
        "tests/hebbian/test_plasticity.py -k 'lowers or more_inner'",
    ),
    Fault(
        "a gap that takes the residual for a dual point",
        "hebbian/sparse/gap.py",
        "polar(term, force).clamp_min(1.0)",
        "polar(term, force).clamp(1.0, 1.0)",
        "tests/hebbian/test_sparse_coding.py -k gap",
    ),
    Fault(
        "settled codes without a gradient",
        "hebbian/sparse/active_set.py",
        "way - way.detach()",
        "0.5 * (way - way.detach())",
        "tests/hebbian/test_sparse_coding.py -k gradient",
    ),
    Fault(
        "a guess that does not know its force",
        "hebbian/sparse/sketch.py",
        "field.bend(ahead - start)",
        "field.bend(ahead)",
        "tests/hebbian/test_sparse_coding.py -k 'anywhere or guessed'",
    ),
    Fault(
        "rows of a sparse product that are not weighed",
        "hebbian/sparse/faces.py",
        "per_sample_weights=flat[place]",
        "per_sample_weights=torch.ones_like(flat[place])",
        "tests/hebbian/test_sparse_coding.py -k sparse_product",
    ),
    Fault(
        "a crowd of atoms that nobody sees coming",
        "hebbian/sparse/search.py",
        "if turn == 1 else active",
        "if turn == 100 else active",
        "tests/hebbian/test_sparse_coding.py -k at_once",
    ),
    Fault(
        "a spike sees itself",
        "hebbian/rules/triplet_stdp.py",
        "grown = synapse.outer(post * (self.plus + self.plus_triplet * o2), r1)",
        "grown = synapse.outer(post * (self.plus + self.plus_triplet * (o2 + post)), r1)",
        "tests/hebbian/test_rules_in_time.py",
    ),
    Fault(
        "a slow trace fades too fast",
        "hebbian/rules/triplet_stdp.py",
        'arriving(state, "o2", self.tau_y, self.dt)',
        'arriving(state, "o2", self.tau_x, self.dt)',
        "tests/hebbian/test_rules_in_time.py",
    ),
    Fault(
        "a baseline moves before it is used",
        "hebbian/rules/reward_modulated.py",
        'reward - means["reward"].to(post.dtype)',
        "reward - reward.mean()",
        "tests/hebbian/test_rule_contracts.py tests/hebbian/test_rules_in_time.py",
    ),
    Fault(
        "closed samples move their traces",
        "hebbian/rules/gated.py",
        "old.index_copy(0, rows, new[name].to(old.dtype))",
        "new[name].to(old.dtype).mean(0) + 0 * old",
        "tests/hebbian/test_rule_contracts.py tests/hebbian/test_taught_and_bounded.py",
    ),
    Fault(
        "a chain of parallel rules",
        "hebbian/rules/chain.py",
        "found, own = rule.change(part, new, own)",
        "found, own = rule.change(part, weight, own)",
        "tests/hebbian/test_taught_and_bounded.py",
    ),
    Fault(
        "traces of two workers in the wrong order",
        "hebbian/traces.py",
        "torch.cat([value, second[name]])",
        "torch.cat([second[name], value])",
        "tests/hebbian/test_rule_contracts.py",
    ),
    Fault(
        "layers of a settled net without the power of their feedback",
        "hebbian/layered.py",
        "rate * self.gamma ** (k + 1 - len(layers))",
        "rate",
        "tests/hebbian/test_layered_net.py",
    ),
    Fault(
        "a length over all samples",
        "hebbian/rules/normalised_delta.py",
        "square = (synapse.seen_square(pre) + self.epsilon)",
        "square = (synapse.seen_square(pre).mean(0, keepdim=True) + self.epsilon)",
        "tests/hebbian/test_taught_and_bounded.py",
    ),
    Fault(
        "a graph whose weights are written",
        "hebbian/layers/base.py",
        "self.weight.clone() if self.learning and torch.is_grad_enabled() else self.weight",
        "self.weight",
        "tests/hebbian/test_layers.py",
    ),
    Fault(
        "a lateral layer that learns from its drive",
        "hebbian/layers/lateral.py",
        "return self.rule.statistics(self.synapse, answer, answer, self.state, signal)",
        "return self.rule.statistics(self.synapse, drive, answer, self.state, signal)",
        "tests/hebbian/test_layers.py",
    ),
    Fault(
        "a ridge without a centre",
        "hebbian/readouts.py",
        "    x = x - mean\n",
        "",
        "tests/hebbian/test_train.py",
    ),
    Fault(
        "a secant estimate without its denominator",
        "ebm/solvers/broyden.py",
        "/ torch.where(good, slope, torch.ones_like(slope))[:, None]",
        "",
        "tests/solvers/test_broyden.py",
    ),
    Fault(
        "a proposal of no numbers is taken",
        "ebm/solvers/broyden.py",
        "accepted = trial.finite & (plain | calm)",
        "accepted = plain | calm",
        "tests/solvers/test_broyden.py",
    ),
    Fault(
        "a resolvent of another size",
        "ebm/models/monotone_cell.py",
        '(z + size * c["input"])',
        '(z + c["input"])',
        "tests/models/test_monotone_cell.py",
    ),
    Fault(
        "a stride that went wrong is kept",
        LOOP,
        "        if stalled or not math.isfinite(probe):\n            return False\n",
        "",
        f"{T}strides.py",
    ),
    Fault(
        "a stride looks at its end alone",
        LOOP,
        "if taken + 1 == count or not solver.additive:",
        "if taken + 1 == count:",
        f"{T}strides.py",
    ),
    Fault(
        "a stride draws the noise of its first step",
        LOOP,
        "Draw(keys, steps + taken)",
        "Draw(keys, steps)",
        f"{T}strides.py",
    ),
    Fault(
        "a stride goes past a limit",
        BUDGET,
        "return self._horizon - settling.taken",
        "return 10",
        f"{T}strides.py",
    ),
    Fault(
        "a failed sample is not masked",
        LOOP,
        'moved = active & rows.finite(tuple(changes["point"]))',
        "moved = active",
        f"{T}loop.py",
    ),
    Fault(
        "an ended sample goes on moving",
        LOOP,
        'moved = active & rows.finite(tuple(changes["point"]))',
        'moved = rows.finite(tuple(changes["point"]))',
        f"{T}loop.py",
    ),
    Fault(
        "finite samples are not looked for",
        LOOP,
        "block.active is None and math.isfinite(probe) and",
        "block.active is None and",
        f"{T}loop.py",
    ),
    Fault(
        "converged is called stalled",
        LOOP,
        "_closed(block, moved & done, Status.CONVERGED)",
        "_closed(block, moved & done, Status.STALLED)",
        f"{T}loop.py",
    ),
    Fault(
        "stalled is forgotten",
        LOOP,
        "_closed(block, moved & stalled & _active(block), Status.STALLED)",
        "block",
        f"{T}loop.py",
    ),
    Fault(
        "the rejected side of best-so-far",
        LOOP,
        "better = None if rank is None else rank <= carry.rank",
        "better = None if rank is None else rank >= carry.rank",
        f"{T}loop.py",
    ),
    Fault(
        "best-so-far keeps a stale rank",
        LOOP,
        '"rank": torch.where(better, rank, old.rank)}',
        '"rank": old.rank}',
        f"{T}loop.py {PROMISES} -k best",
    ),
    Fault(
        "best-so-far ignores the first point",
        CARRY,
        "rank=self._problem.rank(carry.point, self._problem.c).detach())",
        "rank=torch.full_like(self._problem.rank(carry.point, self._problem.c), float('inf')))",
        f"{T}loop.py",
    ),
    Fault(
        "best-so-far is lost when going on",
        CARRY,
        "        if carry.best is not None:\n            return carry\n",
        "",
        f"{PROMISES} -k going_on",
    ),
    Fault(
        "padding is not counted",
        LOOP,
        "self.executed += whole",
        "self.executed += whole * block.running // max(block.size, 1)",
        f"{T}loop.py",
    ),
    Fault(
        "work is charged to the ended, too",
        LOOP,
        "work=carry.work + block.spent * runs,",
        "work=carry.work + block.spent,",
        f"{T}loop.py",
    ),
    Fault(
        "samples return in another order",
        LOOP,
        "rows.put(self._home, block.samples, block.carry)",
        "rows.put(self._home, block.samples.flip(0), block.carry)",
        f"{T}loop.py",
    ),
    Fault(
        "a packed block keeps its old condition",
        LOOP,
        "self.block = Block(samples, carry, rows.take(block.c, index), None, block.running)",
        "self.block = Block(samples, carry, rows.take(self.problem.c, torch.arange(len(index))), None, block.running)",
        f"{T}loop.py",
    ),
    Fault(
        "numbers within the block are taken for those in the batch",
        LOOP,
        "samples = index if block.samples is None else block.samples[index]",
        "samples = index",
        f"{T}loop.py",
    ),
    Fault(
        "the step of the noise does not advance",
        LOOP,
        "(carry.keys, carry.steps + block.taken)",
        "(carry.keys, carry.steps)",
        f"{T}resume.py {T}noise.py -k 'Langevin or langevin or ten_steps'",
    ),
    Fault(
        "steps taken are forgotten",
        LOOP,
        "steps=carry.steps + block.taken * runs,",
        "steps=carry.steps,",
        f"{T}loop.py",
    ),
    Fault(
        "a differentiated failure is kept in the graph",
        LOOP,
        "if self.graph and not math.isfinite(outcome.probe.item()):",
        "if False:",
        f"{T}adjoints.py -k failing",
    ),
    Fault(
        "one step too many",
        BUDGET,
        "settling.end(Status.OUT_OF_STEPS, left <= 0)",
        "settling.end(Status.OUT_OF_STEPS, left < 0)",
        f"{T}budget.py",
    ),
    Fault(
        "one step too few",
        BUDGET,
        "self._horizon = settling.taken + int(open_ones.min())",
        "self._horizon = settling.taken + int(open_ones.max())",
        f"{T}budget.py -k differ",
    ),
    Fault(
        "a limit a sample is read in the wrong order",
        BUDGET,
        "goal[block.samples]",
        "goal[: block.size]",
        f"{T}budget.py",
    ),
    Fault(
        "the last step instead of the longest",
        BUDGET,
        "self._longest = max(self._longest, now - self._begun)",
        "self._longest = now - self._begun",
        f"{T}budget.py -k 'slow_step or pause'",
    ),
    Fault(
        "a deadline without foresight",
        BUDGET,
        "return now - self.start + self._longest >= self.seconds",
        "return now - self.start >= self.seconds",
        f"{T}budget.py",
    ),
    Fault(
        "a pause is taken for a step",
        BUDGET,
        "self._begun = self._now()\n",
        "self._begun = self._begun or self._now()\n",
        f"{T}budget.py -k pause",
    ),
    Fault(
        "FLOPs may be exceeded by a step",
        BUDGET,
        "flops + max(settling.next_flops(), 1) > self.flops",
        "flops > self.flops",
        f"{T}budget.py",
    ),
    Fault(
        "out of FLOPs is called out of time",
        BUDGET,
        "settling.end(Status.OUT_OF_FLOPS)",
        "settling.end(Status.OUT_OF_TIME)",
        f"{T}budget.py",
    ),
    Fault(
        "a pot is never emptied",
        BUDGET,
        "self.steps = None if self.steps is None else self.steps - steps",
        "self.steps = self.steps",
        f"{T}budget.py",
    ),
    Fault(
        "a pot pays only if all goes well",
        CALL,
        "with contextlib.closing(self._stages()) as stages:",
        "with contextlib.nullcontext(self._stages()) as stages:",
        f"{T}budget.py -k pays",
    ),
    Fault(
        "an observer may write into the call",
        CALL,
        "rows.map_rows(torch.clone, getattr(solution, name))",
        "getattr(solution, name)",
        f"{T}watch.py -k writ",
    ),
    Fault(
        "a callback misses the start",
        CALL,
        "if callback and moment != seen and callback(item) is True:",
        "if callback and moment != seen and moment[1] and callback(item) is True:",
        f"{T}watch.py",
    ),
    Fault(
        "a stopped sample is called out of steps",
        CALL,
        "                    self.settlings[-1].end(Status.STOPPED)\n                    item",
        "                    self.settlings[-1].end(Status.OUT_OF_STEPS)\n                    item",
        f"{T}watch.py",
    ),
    Fault(
        "the energy of the running point",
        CALL,
        "energy=kept.energy,",
        "energy=carry.point.energy,",
        f"{T}loop.py {PROMISES} -k 'best or facts'",
    ),
    Fault(
        "the answer of the running point",
        CALL,
        "self.model.readout, kept.z, self._c)",
        "self.model.readout, carry.point.z, self._c)",
        f"{PROMISES} -k facts",
    ),
    Fault(
        "grad mode is left on",
        CALL,
        "stack.enter_context(torch.set_grad_enabled(self.graph))",
        "torch.set_grad_enabled(self.graph)",
        f"{T}modes.py {T}watch.py -k 'trace or modes'",
    ),
    Fault(
        "going on begins with an empty memory",
        CARRY,
        "        if self._graph:\n            carry = self.refresh(carry)\n        return self._checked(carry) if other_stop else carry",
        "        carry = carry._replace(memory=self._problem.solver.init(carry.point))\n        return self._checked(carry) if other_stop else carry",
        f"{T}resume.py -k ten_steps",
    ),
    Fault(
        "going on reopens those who had converged",
        CARRY,
        "if other_stop else list(_REOPENED)",
        "if not other_stop else list(_REOPENED)",
        f"{T}resume.py",
    ),
    Fault(
        "going on forgets who was computed together",
        LOOP,
        "together = running if self.graph else carry.packed | running",
        "together = torch.ones_like(running)",
        f"{T}resume.py {T}loop.py -k 'mixed or leave'",
    ),
    Fault(
        "keys are drawn from the global generator",
        "ebm/noise.py",
        "generator=generator, device=generator.device)",
        "device=generator.device)",
        f"{T}modes.py {T}noise.py -k 'trace or generator'",
    ),
    Fault(
        "one key for the batch",
        "ebm/noise.py",
        "return torch.arange(batch, dtype=torch.int64, device=device)",
        "return torch.zeros(batch, dtype=torch.int64, device=device)",
        f"{T}noise.py {T}modes.py -k 'keys or key'",
    ),
    Fault("two draws of a step are the same", "ebm/noise.py", "        self._site += 1\n", "", f"{T}noise.py"),
    Fault(
        "the upper half of a key is ignored",
        "ebm/noise.py",
        "_mix(self.keys * _GOLDEN +",
        "_mix((self.keys & _WORD) * _GOLDEN +",
        f"{T}noise.py",
    ),
    Fault(
        "a tail without the force's graph",
        "ebm/engine/runner.py",
        "if graph and carry is not call.first:",
        "if False:",
        f"{T}adjoints.py -k 'vanish or unrolled_tail'",
    ),
    Fault(
        "a tail of another length",
        ADJOINT,
        "maxlen=self.last + 1)\n        begin = final = carry\n        for stage",
        "maxlen=self.last + 2)\n        begin = final = carry\n        for stage",
        f"{T}adjoints.py -k truncated",
    ),
    Fault(
        "a tail's work is not counted",
        ADJOINT,
        "status=final.status, evals=evals, work=work)",
        "status=final.status)",
        f"{T}adjoints.py -k counted",
    ),
    Fault(
        "a condition's shape has no price",
        "ebm/engine/field.py",
        "self._books.setdefault((self._identity, _shapes(c)), {})",
        "self._books.setdefault((self._identity, ()), {})",
        f"{T}flops.py",
    ),
    Fault(
        "multiply-adds counted once",
        "ebm/engine/flops.py",
        "return 2 * a.shape[0] * a.shape[1] * b.shape[1]",
        "return a.shape[0] * a.shape[1] * b.shape[1]",
        f"{T}flops.py",
    ),
    Fault(
        "velocity is written in place",
        "ebm/solvers/descent.py",
        "velocity = rows.add(point.force, memory, self.momentum)",
        "velocity = rows.map_rows(lambda m, f: m.mul_(self.momentum).add_(f), memory, point.force)",
        f"{PROMISES} -k 'momentum and disturb or settings and momentum'",
    ),
    Fault(
        "Adam without its bias correction",
        "ebm/solvers/adam.py",
        "unbiased = rows.scale(mean, 1 / (1 - b1**steps))",
        "unbiased = mean",
        "tests/solvers tests/engine/test_adjoints.py -k adam",
    ),
    Fault(
        "any trial is accepted",
        "ebm/solvers/adaptive.py",
        "accepted = trial.finite & (energy_of(trial.point) <=",
        "accepted = trial.finite & (energy_of(point) <=",
        "tests/solvers -k adaptive",
    ),
    Fault(
        "an unsafe Anderson",
        "ebm/solvers/anderson.py",
        "accepted = trial.finite & (~mixed | self._no_worse(trial.point, point))",
        "accepted = trial.finite",
        "tests/solvers -k anderson",
    ),
    Fault(
        "products of forces carried to the wrong place",
        "ebm/solvers/anderson.py",
        "known = torch.cat([past[:, :old, :old], new[:, :, :old].mT], 2)",
        "known = torch.cat([past[:, -old:, -old:], new[:, :, :old].mT], 2)",
        "tests/solvers/test_anderson.py",
    ),
    Fault(
        "a sample that spares its mixing keeps a stale past",
        "ebm/solvers/anderson.py",
        '"filled": torch.where(quick, 0, memory["filled"]),',
        '"filled": memory["filled"],',
        "tests/solvers/test_anderson.py tests/contracts/test_promises.py -k 'anderson'",
    ),
    Fault(
        "noise of another size",
        "ebm/solvers/langevin.py",
        "(2 * self.step_size * self.temperature) ** 0.5",
        "(self.step_size * self.temperature) ** 0.5",
        f"{T}noise.py",
    ),
    Fault(
        "a projection for the move alone",
        "ebm/solvers/project.py",
        "return self.field(self._onto(z))",
        "return self.field(z)",
        "tests/solvers tests/engine/test_stop.py -k 'project or box'",
    ),
    Fault(
        "a sphere through the batch",
        "ebm/solvers/project.py",
        "leaf.abs() if leaf.ndim == 1 else ",
        "",
        "tests/solvers -k sphere",
    ),
    Fault(
        "a flow overshoots its horizon",
        "ebm/solvers/flow.py",
        "torch.where(over, self.horizon - begun, self.dt)",
        "self.dt",
        "tests/solvers/test_flow.py",
    ),
    Fault(
        "one step size for the batch of an adaptive flow",
        "ebm/solvers/adaptive_flow.py",
        'size = memory["size"]',
        'size = memory["size"].min().expand_as(t)',
        "tests/solvers/test_flow.py -k 'stiff or neighbour'",
    ),
    Fault(
        "an adaptive flow forgets that a try failed",
        "ebm/solvers/adaptive_flow.py",
        '"failed": ~accepted,',
        '"failed": accepted & ~accepted,',
        "tests/solvers/test_flow.py -k rejected",
    ),
    Fault(
        "a new rung is entered with the point of the old",
        "ebm/solvers/annealed.py",
        "z = self.start(OnRung(z, rung + 1))",
        "z = self.start(OnRung(z, rung))",
        "tests/solvers/test_annealed.py",
    ),
    Fault(
        "a new rung keeps the memory of the old",
        "ebm/solvers/annealed.py",
        "inner[slot] = rows.put(inner[slot], part if index is None else index[part], fresh)",
        "pass",
        "tests/solvers/test_annealed.py -k after_the_other",
    ),
    Fault(
        "samples of a ladder get each other's landscape",
        "ebm/models/ladder.py",
        "torch.cat(chosen).argsort()",
        "torch.cat(chosen)",
        "tests/models/test_ladder.py",
    ),
    Fault(
        "an early end is not differentiated",
        "ebm/engine/adjoint.py",
        "again = _stalled(final) & ~_stalled(carry)",
        "again = torch.zeros_like(carry.packed)",
        "tests/solvers/test_flow.py -k tail",
    ),
    Fault(
        "a replica's work is charged to another sample",
        "ebm/engine/field.py",
        "part._samples = samples if self._samples is None else self._samples[samples]",
        "part._samples = samples.flip(0) if self._samples is None else self._samples[samples]",
        "tests/solvers/test_restarts.py -k 'charged or counted'",
    ),
    Fault(
        "a race in which the worse stay",
        "ebm/solvers/choices.py",
        "return cost.masked_fill(~alive, worst).argsort(dim=1, stable=True)",
        "return (-cost).masked_fill(~alive, worst).argsort(dim=1, stable=True)",
        "tests/solvers/test_restarts.py -k 'race or would'",
    ),
    Fault(
        "replicas that are out of the race vote",
        "ebm/solvers/choices.py",
        "(distance * alive[:, None, :]).sum(2)",
        "distance.sum(2)",
        "tests/solvers/test_choices.py -k oracle",
    ),
    Fault(
        "a medoid that a few far astray can move",
        "ebm/solvers/choices.py",
        "torch.linalg.vector_norm(flat - flat[:, j : j + 1], dim=2) for j",
        "torch.linalg.vector_norm(flat - flat[:, j : j + 1], dim=2).square() for j",
        "tests/solvers/test_choices.py -k astray",
    ),
    Fault(
        "rounding chooses among replicas at one minimum",
        "ebm/solvers/choices.py",
        "unit = size * 2.0 ** -_digits(size.dtype)",
        "unit = size * 2.0**-60",
        "tests/solvers/test_choices.py -k rounding",
    ),
    Fault(
        "part of an answer is enough for a vote",
        "ebm/solvers/choices.py",
        "(own != own[:, j : j + 1]).any(2)",
        "(own != own[:, j : j + 1]).all(2)",
        "tests/solvers/test_choices.py -k oracle",
    ),
    Fault(
        "the most agreed upon is kept by its energy",
        "ebm/solvers/restarts.py",
        "return self.choose.keep or self.inner.keep",
        "return self.inner.keep",
        "tests/solvers/test_choices.py -k last",
    ),
    Fault(
        "replicas share the noise of their sample",
        "ebm/noise.py",
        "Draw(torch.where(replicas == 0, keys, own), self.step[samples])",
        "Draw(keys, self.step[samples])",
        "tests/solvers/test_restarts.py -k noise",
    ),
    Fault(
        "a failed replica stays in the race",
        "ebm/solvers/replicas.py",
        "went = who.only(good)",
        "went = who.only(torch.ones_like(good))",
        "tests/solvers/test_restarts.py -k 'fails or failed'",
    ),
    Fault(
        "a tail that remembers forces without a graph",
        "ebm/solvers/restarts.py",
        "if torch.is_grad_enabled() and has_graph(point) and not has_graph(memory.points):",
        "if False:",
        "tests/solvers/test_restarts.py -k tail",
    ),
    Fault(
        "a stop rule does not wait for the race",
        LOOP,
        "done = done & ~step.info.busy",
        "done = done",
        "tests/solvers/test_restarts.py -k waits",
    ),
    Fault(
        "samples share a curvature history",
        "ebm/solvers/lbfgs.py",
        "weight = pair.inverse * _dot(pair.move, force)",
        "weight = pair.inverse.mean() * _dot(pair.move, force)",
        "tests/solvers/test_second_order.py -k two_loops",
    ),
    Fault(
        "negative curvature is taken for a step",
        "ebm/solvers/conjugate.py",
        "flat = ~(curve > 0)",
        "flat = torch.zeros_like(active)",
        "tests/solvers/test_second_order.py -k negative_curvature",
    ),
    Fault(
        "a sample that needs no product pays for it",
        "ebm/engine/field.py",
        "1 if needed is None else needed.to(torch.int64)",
        "1",
        "tests/engine/test_field.py -k counted",
    ),
    Fault(
        "the damping is left out of the gain",
        "ebm/solvers/conjugate.py",
        "+ added * _dot(move, move)",
        "",
        "tests/solvers/test_second_order.py -k damped_step",
    ),
    Fault(
        "a line search that looks on the last energy alone",
        "ebm/solvers/barzilai_borwein.py",
        "sufficient(trial, point, drop, bend, energies.amax(1))",
        "sufficient(trial, point, drop, bend)",
        "tests/solvers/test_descent_family.py -k looks_back",
    ),
    Fault(
        "rounding decides near rest",
        "ebm/solvers/armijo.py",
        "trial.finite & torch.where(level, straight, lower)",
        "trial.finite & lower",
        "tests/solvers/test_descent_family.py tests/solvers/test_proximal.py -k single_precision",
    ),
    Fault(
        "a momentum that never restarts",
        "ebm/solvers/nesterov.py",
        "return torch.where(against, torch.ones_like(age), age)",
        "return age",
        "tests/solvers/test_descent_family.py -k look_aheads",
    ),
    Fault(
        "accepted samples are tried again",
        "ebm/solvers/backtracking.py",
        "left = (~search.accepted).nonzero().flatten()",
        "left = (~search.accepted | ~search.accepted.all()).nonzero().flatten()",
        "tests/solvers/test_descent_family.py -k pay_for",
    ),
    Fault(
        "Jacobi instead of Gauss-Seidel",
        "ebm/solvers/sweep.py",
        "step = self.inner.step(view, self._part(point, part), remembered, draw)\n            point = view.whole(step.point)",
        "step = self.inner.step(view, self._part(point, part), remembered, draw)\n            view.whole(step.point)",
        "tests/solvers/test_descent_family.py -k seidel",
    ),
    Fault(
        "a threshold of another size",
        "ebm/solvers/proximal.py",
        "trial = evaluate_trial(field, field.prox(rows.add(point.z, point.force, size), size), point)",
        "trial = evaluate_trial(field, field.prox(rows.add(point.z, point.force, size), 1.0), point)",
        "tests/solvers/test_proximal.py -k 'lasso or orthogonal'",
    ),
    Fault(
        "latents beyond a wall",
        "ebm/models/composite.py",
        "        z = self.term.inside(z)\n        point =",
        "        point =",
        "tests/solvers/test_proximal.py -k wall",
    ),
    Fault(
        "turning singular vectors cost nothing",
        "ebm/models/nuclear_norm.py",
        "half * rise + other * turn",
        "half * rise + other",
        "tests/solvers/test_proximal.py -k singular",
    ),
    Fault(
        "rows beyond the rank of a matrix have no slope",
        "ebm/models/nuclear_norm.py",
        "(left * share[..., None, :]) @ v + ",
        "",
        "tests/solvers/test_proximal.py -k singular",
    ),
    Fault(
        "the first momentum is left out of the test of acceptance",
        "ebm/solvers/hamiltonian.py",
        "0.5 * (rows.dot(spin, spin) - rows.dot(end, end))",
        "0.5 * (rows.dot(spin, spin) - rows.dot(spin, spin))",
        "tests/solvers/test_samplers.py -k 'ratio or correlated'",
    ),
    Fault(
        "a sampler at another temperature than its noise",
        "ebm/solvers/hamiltonian.py",
        "change = (energy - _energy(trial.point)) / self.temperature",
        "change = energy - _energy(trial.point)",
        "tests/solvers/test_samplers.py -k ratio",
    ),
    Fault(
        "swaps by the wrong sign",
        "ebm/solvers/tempering.py",
        "(energies[:, :-1] - energies[:, 1:])",
        "(energies[:, 1:] - energies[:, :-1])",
        "tests/solvers/test_samplers.py -k 'correlated or ladder'",
    ),
    Fault(
        "a Gibbs unit that prefers the worse state",
        "ebm/solvers/gibbs.py",
        "torch.sigmoid(-flip.rise",
        "torch.sigmoid(flip.rise",
        "tests/solvers/test_samplers.py -k gibbs",
    ),
    Fault(
        "chains ended by the model's stop rule",
        CALL,
        "None if options.stop is None and self.solver.samples else ",
        "",
        "tests/solvers/test_samplers.py -k stop_rule",
    ),
    Fault(
        "neighbouring positions share their noise",
        "ebm/noise.py",
        "torch.arange(1, size + 1, device=begin.device)",
        "torch.arange(1, size + 1, device=begin.device) // 2",
        f"{T}noise.py",
    ),
    Fault(
        "autocorrelations that may rise again",
        "ebm/diagnostics/chains.py",
        "pairs.cummin(0).values",
        "pairs",
        "tests/diagnostics/test_chains.py",
    ),
    Fault(
        "rounding counts in a rate",
        "ebm/diagnostics/measures.py",
        "end = torch.minimum(_first(sizes <= floor) - 1, last)",
        "end = last",
        "tests/diagnostics/test_diagnose.py -k rounding",
    ),
    Fault(
        "a latent that creeps is called at rest",
        "ebm/diagnostics/diagnosing.py",
        "((remaining <= NEAR) | (periods > 0))",
        "(remaining >= 0)",
        "tests/diagnostics/test_diagnose.py -k creeps",
    ),
    Fault(
        "the twin draws other noise",
        "ebm/diagnostics/watching.py",
        "same = copied(self._given)",
        "same = self._given",
        "tests/diagnostics/test_diagnose.py -k twin",
    ),
    Fault(
        "a calibration forgets patience",
        "ebm/diagnostics/leaving.py",
        "stop.in_a_row, -1.0",
        "1, -1.0",
        "tests/diagnostics/test_calibrate.py -k curve",
    ),
    Fault(
        "with confidence a threshold behind a failure is granted",
        "ebm/diagnostics/thresholds.py",
        "kept = kept.int().cumprod(0).bool()",
        "kept = kept.bool()",
        "tests/diagnostics/test_calibrate.py -k behind",
    ),
    Fault(
        "the allowed drop does not bind",
        "ebm/diagnostics/thresholds.py",
        "curve.bound <= max_drop + 1e-12",
        "curve.bound <= 2 * max_drop + 1e-12",
        "tests/diagnostics/test_calibrate.py -k binds",
    ),
    Fault(
        "a mean of the weights that never forgets the start",
        "ebm/training/recipe.py",
        "return min(self.average, update / (update + 10))",
        "return self.average",
        "tests/training/test_train.py -k by_hand",
    ),
    Fault(
        "the first of equal looks is chosen",
        "ebm/training/judge.py",
        "(new <= old if lower else new >= old)",
        "(new < old if lower else new > old)",
        "tests/training/test_train.py -k ties",
    ),
    Fault(
        "an interrupted draw of problems is not drawn again",
        "ebm/training/job.py",
        "            self.generator.set_state(generator)\n",
        "",
        "tests/training/test_train.py -k stopping",
    ),
    Fault(
        "a checkpoint of half an update",
        "ebm/training/trainer.py",
        "if checkpoint is not None and job.whole:",
        "if checkpoint is not None:",
        "tests/training/test_train.py -k anywhere",
    ),
    Fault(
        "a resumed training without the optimizer's moments",
        "ebm/training/job.py",
        'self.optimizer.load_state_dict(state["optimizer"])',
        "pass",
        "tests/training/test_train.py -k stopping",
    ),
    Fault(
        "a look at the end of the time is written down",
        "ebm/training/trainer.py",
        "            save()  # before a look that a training with more time would not take here\n            job.look()",
        "            job.look()\n            save()",
        "tests/training/test_train.py -k guard",
    ),
    Fault(
        "a gradient that is not finite is applied",
        "ebm/training/job.py",
        'self._check("gradient", float(nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)))',
        "nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)",
        "tests/training/test_train.py -k gradient",
    ),
    Fault(
        "dropout that draws from the global generator",
        "ebm/training/job.py",
        "torch.default_generator.manual_seed(seed)",
        "pass",
        "tests/training/test_train.py -k dropout",
    ),
    Fault(
        "validations see the problems of the training",
        "ebm/training/judge.py",
        "torch.Generator(device).manual_seed(1_000_003 * (place + 1) + seed)",
        "torch.Generator(device).manual_seed(seed)",
        "tests/training/test_train.py -k share_no",
    ),
]


def baseline(chosen: list[Fault]) -> bool:
    """Whether the tests of the faults pass without any of them: otherwise nothing would be shown by a failure."""
    files = sorted({name for fault in chosen for name in fault.tests.partition(" -k ")[0].split()})
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-x",
        "-q",
        "-p",
        "no:cacheprovider",
        "-n",
        "2",
        "--dist",
        "worksteal",
        *files,
    ]
    return subprocess.run(command, cwd=ROOT).returncode == 0


def run_tests(folder: str, files: list[str], chosen: str) -> None:
    """Run a part of the suite over the tree in a folder; the process ends with pytest's exit status."""
    import pytest

    os.chdir(folder)
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    os.environ["PYTHONPATH"] = folder
    with open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), 1)
        os.dup2(nowhere.fileno(), 2)
    os._exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", *files, *(["-k", chosen] if chosen else [])]))


def try_out(fault: Fault) -> tuple[str, float]:
    """Put the fault into a copy, run its tests, and say how it went, and how many seconds it took."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in ("ebm", "hebbian", "tests", "pyproject.toml"):  # what was compiled comes along
            source = ROOT / name
            shutil.copytree(source, copy / name) if source.is_dir() else shutil.copy2(source, copy / name)
        path = copy / fault.path
        text = path.read_text()
        if text.count(fault.old) != 1:
            return f"NOT FOUND ({text.count(fault.old)} times)", time.monotonic() - began
        path.write_text(text.replace(fault.old, fault.new))
        files, _, chosen = fault.tests.partition(" -k ")
        process = SERVER.Process(target=run_tests, args=(folder, files.split(), chosen.strip("'")))
        process.start()
        process.join(300)
        code = process.exitcode
        process.kill()
        process.join()
    outcome = {0: "SURVIVED", 1: "caught", None: "caught (it never ends)"}
    return outcome.get(code, f"NOT TRIED (pytest ended with {code})"), time.monotonic() - began


def main() -> int:
    """Try every fault whose name holds one of the parts; all without any."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="*", help="parts of names; all faults without any")
    parser.add_argument("--passed", action="store_true", help="the tests have just passed: do not run them first")
    given = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    chosen = [fault for fault in FAULTS if not given.parts or any(part in fault.name for part in given.parts)]
    if not chosen:
        print(f"No fault's name holds {' or '.join(map(repr, given.parts))}. Name a part of one in `FAULTS`.")
        return 1
    if not given.passed and not baseline(chosen):
        print("The tests fail without any fault: mend that first.")
        return 1
    missed = 0
    with ThreadPoolExecutor(2) as pool:
        for fault, (outcome, seconds) in zip(chosen, pool.map(try_out, chosen), strict=True):
            missed += not outcome.startswith("caught")
            print(f"{outcome:<12} {seconds:4.0f} s  {fault.name}", flush=True)
    print(f"{len(chosen) - missed} of {len(chosen)} faults caught")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
