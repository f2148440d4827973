"""Deliberate faults in memories."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
    Fault(
        "a projection that is taken off once",
        "hebbian/memory/stores/pseudo_inverse.py",
        "left = left - left @ projection",
        "left = left - 0 * left @ projection",
        "tests/hebbian/test_memory_stores.py -k as_exact_as",
    ),
    Fault(
        "old weights fade once a batch",
        "hebbian/memory/stores/palimpsest.py",
        "kept = (1 - self.decay) ** len(patterns) * weight",
        "kept = (1 - self.decay) * weight",
        "tests/hebbian/test_memory_stores.py -k fading",
    ),
    Fault(
        "units that feel nothing but rounding obey it",
        "hebbian/memory/hopfield.py",
        'c["slack"].value.clamp_min(self.written_by.rounding(self.weight))',
        'c["slack"].value',
        "tests/hebbian/test_memory_stores.py -k one_unit_apart",
    ),
    Fault(
        "what forgetting leaves of a zero stays",
        "hebbian/memory/stores/hebb.py",
        "left.abs() < 0.25 / size",
        "left.abs() < 0",
        "tests/hebbian/test_memory_stores.py -k forgotten_all",
    ),
    Fault(
        "distances about zero",
        "hebbian/memory/similarity.py",
        "state, patterns = state - mean, patterns - mean",
        "state, patterns = state - 0 * mean, patterns - 0 * mean",
        "tests/hebbian/test_recall_kinds.py -k in_common",
    ),
    Fault(
        "a certificate that forgets the rounding of its weights",
        "hebbian/memory/certificate.py",
        "rounding * largest + wobble)",
        "rounding * largest)",
        "tests/hebbian/test_recall_softmax.py -k in_common",
    ),
    Fault(
        "a temperature that lets all rivals weigh as much as the pattern",
        "ebm/models/temperature.py",
        "_ROOM = 8.0",
        "_ROOM = 0.5",
        "tests/models/test_modern_hopfield.py -k default_temperature",
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
]
