"""Deliberate faults in what users meet first: warnings, and what they may pass."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
    Fault(
        "a model in training mode is settled without a word",
        "ebm/engine/driver.py",
        "    if adjoint is None and torch.is_grad_enabled() and _trains(model):\n",
        "    if False:\n",
        "tests/test_warned.py -k training_loop",
    ),
    Fault(
        "a warning names a line of PyTorch's, which stood between",
        "ebm/warned.py",
        ", os.path.dirname(torch.__file__))",
        ")",
        "tests/test_warned.py -k compiler",
    ),
    Fault(
        "a start from noise without a generator is not told of",
        "ebm/engine/carry.py",
        "if draw.used and self._generator is None:",
        "if False:",
        "tests/test_warned.py -k start",
    ),
    Fault(
        "phases that are compared draw noise of their own",
        "ebm/losses/two_phase.py",
        "[None if generator is None else generator.clone_state() for _ in pulls]",
        "[generator for _ in pulls]",
        "tests/test_warned.py -k phases",
    ),
    Fault(
        "a list of numbers is read in single precision",
        "ebm/engine/given.py",
        'torch.from_numpy(np.array(tree, order="C"))',
        'torch.from_numpy(np.array(tree, order="C")).float()',
        "tests/engine/test_door.py -k arrays",
    ),
    Fault(
        "a start that broadcasts",
        "ebm/engine/given.py",
        "    if _shape(start) not in shapes:\n",
        "    if False:\n",
        "tests/engine/test_door.py -k another_shape",
    ),
]
