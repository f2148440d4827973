"""Deliberate faults in tasks and training."""

from __future__ import annotations

from tests.faults.fault import Fault

FAULTS = [
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
        "ebm/training/batches.py",
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
    Fault(
        "a training on a loader goes on at the beginning of the epoch",
        "ebm/training/batches.py",
        "            for place in range(self._place):\n                self._taken(place)\n",
        "",
        "tests/training/test_batches_and_cost.py -k goes_on",
    ),
    Fault(
        "a loader that draws from the global generators",
        "ebm/training/batches.py",
        "        with self._noise(place + 1):\n            return next(self._items, None)",
        "        return next(self._items, None)",
        "tests/training/test_batches_and_cost.py -k goes_on",
    ),
    Fault(
        "an update's FLOPs that do not grow with its steps",
        "ebm/training/cost.py",
        "_reckoned(points, own.graph)",
        "next(iter(points.values()))",
        "tests/training/test_batches_and_cost.py -k every_update_counted",
    ),
    Fault(
        "settling without a graph that an update does not pay for",
        "ebm/training/cost.py",
        "self.flops += own.plain +",
        "self.flops += ",
        "tests/training/test_batches_and_cost.py -k every_update_counted",
    ),
]
