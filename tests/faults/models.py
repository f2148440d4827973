"""Deliberate faults in models."""

from __future__ import annotations

from tests.faults.fault import Fault

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
        "a halting head that keeps a stop rule for bare answers",
        "ebm/models/halting.py",
        "stop is None or stop.reads or not",
        "stop is None or not",
        "tests/losses/test_halting_in_use.py -k 'bare_answer'",
    ),
    Fault(
        "hidden units that are not rectified",
        "ebm/models/message_cell.py",
        "heard = self.hear(heard).relu()",
        "heard = self.hear(heard)",
        "tests/models/test_message_cell.py -k hidden_units_hear",
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
        "a resolvent of another size",
        "ebm/models/monotone_cell.py",
        '(z + size * c["input"])',
        '(z + c["input"])',
        "tests/models/test_monotone_cell.py",
    ),
    Fault(
        "samples of a ladder get each other's landscape",
        "ebm/models/ladder.py",
        "torch.cat(chosen).argsort()",
        "torch.cat(chosen)",
        "tests/models/test_ladder.py",
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
]
